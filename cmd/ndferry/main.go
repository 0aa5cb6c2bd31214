// Ndferry moves large numeric arrays between processes and machines.
package main

import (
	"os"

	"ndferry/internal/cli"
)

func main() {
	os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.LookupEnv))
}
