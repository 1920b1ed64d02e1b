// Command forsund is the forsun server: it keeps plans and fires each at its
// second. "forsund -h" lists its options; what a process does is in package daemon, the
// wiring in package app.
package main

import (
	"os"

	"github.com/snower/forsun/cmd/forsund/daemon"
)

var version string // set by the linker: see the Makefile

func main() { os.Exit(daemon.Main(os.Args, version, nil)) }
