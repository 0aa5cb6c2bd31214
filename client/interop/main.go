// Interop is the Go side of the matrix of python/tests/test_exact.py: it gets arrays and puts what it got under another name. Each line
// of standard input is FROM and TO; the answer is "ok" or the error.
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"

	"ndferry/client"
)

func main() {
	ctx := context.Background()
	c, err := client.Dial(ctx, os.Args[1], client.Config{})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	defer c.Close()
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		from, to, _ := strings.Cut(lines.Text(), " ")
		if err := again(ctx, c, from, to); err != nil {
			fmt.Println(err)
		} else {
			fmt.Println("ok")
		}
	}
}

// again puts what it got of an array, in the same grid, and compares what both receipts say.
func again(ctx context.Context, c *client.Client, from, to string) error {
	a, err := c.Get(ctx, from, client.GetOptions{})
	if err != nil {
		return err
	}
	old, err := c.Stat(ctx, from)
	if err != nil {
		return err
	}
	if !a.DType.Equal(old.DType) || !a.Shape.Equal(old.Shape) {
		return fmt.Errorf("got %v of %v, stat says %v of %v", a.Shape, a.DType, old.Shape, old.DType)
	}
	r, err := c.Put(ctx, to, *a, client.PutOptions{Cell: old.Chunks, Digest: old.Digest, Attributes: old.Attributes})
	if err != nil {
		return err
	}
	if r.Root != old.Root || r.Bytes != old.Bytes || r.Cells != old.Cells {
		return fmt.Errorf("put as %+v what was %+v", r, old)
	}
	return nil
}
