package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"time"

	"golang.org/x/term"
)

// The works.
const (
	create     = "create"
	ahead      = "create ahead"
	bulk       = "bulk"
	burst      = "burst"
	million    = "million"
	steady200  = "steady 200"
	steady2000 = "steady 2000"
)

// createClients is how many clients create at a time, each waiting for its answer, or for
// createAhead of them.
const (
	createClients = 16
	createAhead   = 16
)

// runTimeout bounds one run of one contestant, with all its tries.
const runTimeout = 5 * time.Minute

// work is a task, and how it is named and read.
type work struct {
	task
	title  string
	rounds int  // 0: as many as were asked for
	late   bool // it is lateness that counts, not the rate
}

type options struct {
	bench   string
	modules string
	quick   bool
	rounds  int
	only    []string
}

// works are all of them, smaller where only a glance was asked for. With three rounds
// they take about 16 minutes.
func (o *options) works() []work {
	k, seconds := 1, 15
	if o.quick {
		k, seconds = 10, 3
		o.rounds = 1
	}
	steady := func(name string, rate int) work {
		return work{task{work: name, jobs: rate * seconds, rate: rate, seconds: seconds}, fmt.Sprintf("%d jobs due in each of %d seconds", rate, seconds), 1, true}
	}
	all := []work{
		{task{work: burst, jobs: 100_000 / k}, fmt.Sprintf("%d jobs due in one second", 100_000/k), 0, false},
		{task{work: million, jobs: 1_000_000}, "1000000 plans due in one second", 1, false},
		{task{work: create, jobs: 60_000 / k}, fmt.Sprintf("%d jobs created one by one by %d clients", 60_000/k, createClients), 0, false},
		{task{work: ahead, jobs: 200_000 / k}, fmt.Sprintf("%d plans created by %d clients, %d calls under way from each", 200_000/k, createClients, createAhead), 0, false},
		{task{work: bulk, jobs: 400_000 / k}, fmt.Sprintf("%d plans created 1000 an HTTP request by 4 clients", 400_000/k), 0, false},
		steady(steady200, 200), steady(steady2000, 2000),
	}
	if o.quick {
		all = slices.DeleteFunc(all, func(w work) bool { return w.work == million })
	}
	return all
}

func (o *options) contestants() []*contestant {
	return []*contestant{
		newForsun(onRedis, o.bench), newForsun(onShards, o.bench), newAsynq(),
		newForsun(embedded, o.bench), newBeanstalk(true), newBeanstalk(false),
		newNode("BullMQ", "bullmq", o.modules, create, burst, steady200, steady2000),
		newNode("Bee-Queue", "beequeue", o.modules, create, burst, steady200),
		newCeiling("stream"), newCeiling("lease"),
	}
}

// wanted says whether -only names c's task.
func (o *options) wanted(c *contestant, w work) bool {
	if !c.can(w.work) {
		return false
	}
	works, names := o.named()
	return (len(works) == 0 || slices.Contains(works, w.work)) && (len(names) == 0 || slices.Contains(names, c.name))
}

// named splits -only in works and contestants.
func (o *options) named() (works, names []string) {
	all := []string{create, ahead, bulk, burst, million, steady200, steady2000}
	for _, name := range o.only {
		if slices.Contains(all, name) {
			works = append(works, name)
		} else {
			names = append(names, name)
		}
	}
	return works, names
}

// measure runs every work with every contestant that can, in rounds, so that whatever
// the machine does meanwhile strikes all of them alike.
func (o *options) measure(ctx context.Context) (*report, error) {
	r := newReport(o)
	contestants := o.contestants()
	for _, c := range contestants {
		if err := c.ready(); err != nil {
			r.Left = append(r.Left, fmt.Sprintf("%s: %v", c.name, err))
			fmt.Fprintf(os.Stderr, "left out: %s: %v\n", c.name, err)
			c.works = nil
		}
	}
	type run struct {
		c *contestant
		w work
	}
	var runs []run
	for _, w := range o.works() {
		for round := 0; round < o.rounds && (w.rounds == 0 || round < w.rounds); round++ {
			for _, c := range contestants {
				if o.wanted(c, w) {
					runs = append(runs, run{c, w})
				}
			}
		}
	}
	if len(runs) == 0 {
		return nil, fmt.Errorf("nothing to run; there are %q and %q", []string{create, bulk, burst, million, steady200, steady2000}, names(contestants))
	}
	begun := time.Now()
	for i, x := range runs {
		progress(i, len(runs), begun, x.c.name+": "+x.w.title)
		debug.FreeOSMemory() // each begins with the heap of none
		bounded, cancel := context.WithTimeout(ctx, runTimeout)
		f, err := x.c.run(bounded, x.w.task)
		cancel()
		if err != nil {
			// What else is measured is not thrown away.
			err = fmt.Errorf("%s, %s: %w", x.c.name, x.w.title, err)
			r.failed = errors.Join(r.failed, err)
			r.Left = append(r.Left, err.Error())
			if ctx.Err() != nil {
				break
			}
			continue
		}
		r.add(x.w, x.c, f)
	}
	progress(len(runs), len(runs), begun, "")
	r.Seconds = time.Since(begun).Seconds()
	return r, nil
}

func names(contestants []*contestant) (all []string) {
	for _, c := range contestants {
		all = append(all, c.name)
	}
	return all
}

// progress says what runs now: on a terminal in one line, elsewhere in one for each.
func progress(done, of int, begun time.Time, what string) {
	took := time.Since(begun).Round(time.Second)
	tty := term.IsTerminal(int(os.Stderr.Fd()))
	switch {
	case tty && done == of:
		fmt.Fprintf(os.Stderr, "\r\x1b[K")
	case tty:
		const width = 20
		full := done * width / of
		fmt.Fprintf(os.Stderr, "\r\x1b[K[%-*s] %d/%d %s  %s", width, bar[:full], done+1, of, took, what)
	case done < of:
		fmt.Fprintf(os.Stderr, "%6s  %d/%d  %s\n", took, done+1, of, what)
	}
}

const bar = "===================="
