// Command forsund is the forsun server: it keeps plans and fires each at its
// second. "forsund -h" lists its options; the wiring is in package app.
//
// Its exit status is 0 after an orderly stop, 1 if it could not start or go on,
// 2 if it was not called right.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	_ "time/tzdata" // zones work on machines without a zone database

	"github.com/snower/forsun/cmd/forsund/app"
)

var version string // set by the linker: see the Makefile

func main() { os.Exit(run(os.Args)) }

func run(args []string) int {
	options, err := app.Parse(args[1:], os.LookupEnv)
	report := app.Demonized()
	if err == nil && !options.Help && !options.Version {
		err = app.CheckEnvironment(os.Environ())
	}
	switch {
	case err != nil:
		return complain(err)
	case options.Help:
		fmt.Print(app.HelpText())
		return 0
	case options.Version:
		fmt.Println("forsund", app.Version(version))
		return 0
	case options.Config:
		fmt.Print(options.ConfigText())
		return 0
	}

	// The first signal stops, the second ends the process as it stands.
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	reload := make(chan os.Signal, 1)
	if options.Reloads() {
		signal.Notify(reload, syscall.SIGHUP)
	} else if !signal.Ignored(syscall.SIGHUP) { // nohup ignores it
		signal.Notify(signals, syscall.SIGHUP)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	go func() {
		cancel(fmt.Errorf("signal: %s", <-signals))
		slog.Error("second signal, ending at once", "signal", (<-signals).String())
		os.Exit(1)
	}()

	if options.Demon && report == nil {
		pid, err := app.Detach(ctx, args[1:])
		if err != nil {
			return complain(err)
		}
		fmt.Println(pid)
		return 0
	}
	process := app.Process{Name: args[0], Version: app.Version(version), Stderr: os.Stderr, Env: os.LookupEnv, Reload: reload, Report: report}
	if err := app.Run(ctx, options, process); err != nil {
		return complain(err)
	}
	return 0
}

// complain prints an error on one line and returns the exit status for it.
func complain(err error) int {
	fmt.Fprintln(os.Stderr, "forsund:", strings.ReplaceAll(err.Error(), "\n", "; "))
	if usage := new(app.UsageError); errors.As(err, &usage) {
		return 2
	}
	return 1
}
