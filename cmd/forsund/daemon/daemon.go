// Package daemon is the program forsund, for its own main and for others that add
// actions of their own to it:
//
//	func main() {
//		os.Exit(daemon.Main(os.Args, "1.0", daemon.Actions{"udp": udp{}}))
//	}
//
// deploy/extensions/go is one, complete.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	_ "time/tzdata" // zones work on machines without a zone database

	"github.com/snower/forsun/cmd/forsund/app"
	"github.com/snower/forsun/cmd/heap"
	"github.com/snower/forsun/scheduler"
)

// Actions are actions of a main of its own, by name: 1 to 64 letters, digits, "_" and
// "-", and none of forsund's own. One that is an io.Closer is closed at the end, one that
// is a scheduler.Limited is given no more firings than it says.
type Actions = map[string]scheduler.Action

// Main is forsund: it reads the command line (args, the program's name first) and the
// environment, handles signals, and runs until it is stopped. version is what it says of
// itself, "" for what the Go tool recorded. own are actions beside those that forsund has
// and its extensions; plans may use them, and --actions, --work and --slots may name
// them. It returns the exit status: 0 after an orderly stop, 1 if it could not start or go
// on, 2 if it was not called right. It is to be called once.
func Main(args []string, version string, own Actions) (status int) {
	if len(args) > 1 && args[1] == "backup" {
		return backup(args[2:], version)
	}
	if len(args) > 1 && args[1] == "restore" {
		return restore(args[2:])
	}
	options, err := app.Parse(args[1:], os.LookupEnv, slices.Sorted(maps.Keys(own))...)
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
	if options.Reloads() || app.Supervised(os.LookupEnv) {
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
	heap.Tune()
	process := app.Process{Name: args[0], Version: app.Version(version), Stderr: os.Stderr, Env: os.LookupEnv, Reload: reload, Report: report, Actions: own}
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
