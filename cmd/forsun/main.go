// Command forsun sets, lists and removes the plans of a forsun server: one
// command, several, or a prompt. "forsun -h" lists its options and commands; the
// work is in package cli.
//
// Its exit status is 0 if everything succeeded, 1 if a command failed, 2 if it
// was not called right, 130 if it was interrupted.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // TZ works on machines without a zone database

	"github.com/snower/forsun/cmd/forsun/cli"
)

var version string // set by the linker: see the Makefile

func main() {
	os.Exit(cli.Run(context.Background(), os.Args[1:], cli.Process{
		Stdin:     os.Stdin,
		Stdout:    os.Stdout,
		Stderr:    os.Stderr,
		Env:       os.LookupEnv,
		Version:   version,
		Interrupt: interruptible,
	}))
}

// interruptible returns a context that the first interrupt ends; the second ends
// the process as it stands.
func interruptible(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}
