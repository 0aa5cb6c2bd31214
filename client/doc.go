// Package client moves arrays between this program and an ndferry server.
//
//	c, err := client.Dial(ctx, "unix:///run/ndferry.sock", client.Config{})
//	receipt, err := c.Put(ctx, "lab/run7", client.Array{DType: dtype, Shape: array.Shape{1000, 1000}, Data: data}, client.PutOptions{})
//	a, err := c.Get(ctx, "lab/run7", client.GetOptions{})
//
// A [Client] is one connection. Its methods block, may be called from any goroutine, and run one after another. Payload goes straight
// between the connection and the array's memory, or a [Source] or [Sink] of the caller's, and is checked on the way: a Put that returns
// a receipt is stored as spec/STORE.md promises, a Get that returns without an error has what was stored, bit for bit.
//
// A method that fails returns an [*Error]. Its Closed says whether the connection is closed, so that every further call fails, or stands
// between two operations, as after an error that the server sent of one of them: then the next call works.
package client
