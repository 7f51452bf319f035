// Command musen distributes AI radio audio over IPFS without trusting the
// machines that carry it.
package main

import (
	"os"

	"github.com/musenai/musen/cmd"
)

func main() {
	os.Exit(cmd.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
