package daemon

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/snower/forsun/cmd/forsun/cli"
	"github.com/snower/forsun/cmd/forsund/app"
	"github.com/snower/forsun/scheduler/memstore"
)

// interruptible returns a context that the first signal ends, the second the process.
func interruptible(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// backup asks the forsund that runs, whose store is locked, as "forsun backup" does, with
// its options.
func backup(args []string, version string) int {
	return cli.Run(context.Background(), append([]string{"backup"}, args...), cli.Process{
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Env: os.LookupEnv, Version: version, Interrupt: interruptible,
	})
}

// restore makes the store that forsund's options name of a backup.
func restore(args []string) int {
	const usage = "usage: forsund restore DIR [--driver-mem-store-file=STORE]"
	if len(args) == 1 && (args[0] == "-h" || args[0] == "--help") {
		fmt.Println(usage + "\nSTORE, by default where forsund has its store, must be empty, or not there yet.\nEvery file of the backup DIR is compared with its checksum.")
		return 0
	}
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		return complain(fmt.Errorf("restore: the directory of the backup is missing; %s", usage))
	}
	options, err := app.Parse(args[1:], os.LookupEnv)
	if err != nil {
		return complain(err)
	}
	if options.Help || options.Version || options.Driver != "mem" || options.StoreDir == memstore.Memory {
		return complain(fmt.Errorf("restore: it makes an embedded store in a directory; %s", usage))
	}
	ctx, stop := interruptible(context.Background())
	defer stop()
	b, err := memstore.RestoreBackup(ctx, args[0], options.StoreDir)
	if err != nil {
		return complain(fmt.Errorf("restore: %w", err))
	}
	fmt.Printf("%s: %d plans, %d files, %d bytes, in %s\n", b.Dir, b.Plans, b.Files, b.Bytes, b.Took.Round(time.Millisecond))
	return 0
}
