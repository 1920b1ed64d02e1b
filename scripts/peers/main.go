// Command peers measures forsun and what else people use for delayed jobs side by
// side, in one run on one machine, and prints the ratios. Each contestant does the
// same work: jobs of 100 bytes that are all due in one second, or in each of many
// seconds, are stored and then drained by workers that do nothing. What needs Redis
// gets a fresh redis-server of its own for each run, with its log synced every second.
// "make bench" runs it.
//
// The rules are to the peers' advantage where they cannot be the same: the rate of a
// peer counts from its first job, not from the second that was asked for; it keeps no
// history; and beanstalkd's workers begin when its last job is due.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	o := options{}
	var only, json string
	flag.StringVar(&o.bench, "forsun-bench", "bin/forsun-bench", "the program forsun-bench")
	flag.StringVar(&o.modules, "modules", "bin/peers-node", "directory for what npm installs")
	flag.BoolVar(&o.quick, "quick", false, "a tenth of the work, one round: shows that all of it runs, and roughly how fast")
	flag.IntVar(&o.rounds, "rounds", 3, "rounds, whose medians are compared")
	flag.StringVar(&only, "only", "", "contestants and works to run, commas between; all without")
	flag.StringVar(&json, "json", "", "file for all figures, JSON")
	flag.Parse()
	if flag.NArg() > 0 || o.rounds < 1 {
		return errors.New("there are options only, and at least one round; see -h")
	}
	if only != "" {
		o.only = strings.Split(only, ",")
	}
	report, err := o.measure(ctx)
	if err != nil {
		return err
	}
	if json != "" {
		if err := report.save(json); err != nil {
			return err
		}
	}
	return errors.Join(report.print(os.Stdout), report.failed)
}
