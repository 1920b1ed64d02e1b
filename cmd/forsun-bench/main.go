// Command forsun-bench measures a forsun scheduler: how fast plans are created,
// how many fire in a second, how late they are, and what pending ones cost.
// "forsun-bench -h" lists its benchmarks.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/snower/forsun/cmd/forsun-bench/bench"
	"github.com/snower/forsun/cmd/heap"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	heap.Tune() // as forsund does
	err := bench.Run(ctx, os.Args, os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "forsun-bench:", err)
		os.Exit(1)
	}
}
