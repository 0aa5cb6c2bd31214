// Package master accepts connections and passes them to worker processes, which it starts, watches and starts again. It reads and
// writes no byte of a client: it imports nothing that could.
//
// What it says to a worker is package handover, who owns a connection is the word of handover.Words. The master keeps its copy of a
// descriptor until the worker has answered (offer.go); what a worker does not take, or leaves when it dies, goes to another one.
package master
