package bench

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"
)

// runRecover has a scheduler killed that has o.plans pending plans and is running
// o.running firings, and opens its store again: how long it is until something fires,
// and until those firings run again.
func runRecover(ctx context.Context, o *options) (*Result, error) {
	if o.dir == ":memory:" {
		return nil, fmt.Errorf("driver-mem-store-file: %s is not allowed; allowed: a directory that does not exist", o.dir)
	}
	o.opened = o.driver == driverRedis // by the victim: to be erased
	bar := o.bar(1, "storing, then killing")
	v, err := o.spawn(ctx, victim, "--driver-mem-store-file", o.dir)
	bar.Exit()
	if err != nil {
		return nil, err
	}
	v.stop() // kill -9
	debug.FreeOSMemory()

	begun := time.Now()
	r, err := o.start(ctx, o.running+1)
	if err != nil {
		return nil, err
	}
	defer r.stop()
	// One more plan that is due at once: the first firing is it, or one of those.
	now := time.Now().Unix()
	if err := o.fill(ctx, r.put, 1, func(int) string { return r.probe.key(o.running) }, func(int) int64 { return now }); err != nil {
		return nil, err
	}
	if err := r.wait(ctx, o); err != nil {
		return nil, err
	}
	res := r.probe.result("recover", begun)
	res.Plans = int64(o.plans)
	restart := time.Unix(0, r.probe.first.Load()).Sub(begun).Seconds()
	res.Restart = &restart
	res.RSS = rss()
	return res, nil
}

// beVictim stores plans, runs firings that do not end, and waits to be killed.
func (o *options) beVictim(ctx context.Context) error {
	r, err := o.start(ctx, o.running)
	if err != nil {
		return err
	}
	defer r.stop()
	defer close(r.probe.hang)
	if err := o.fillPending(ctx, r.put, o.plans); err != nil {
		return err
	}
	now := time.Now().Unix()
	if err := o.fill(ctx, r.put, o.running, r.probe.key, func(int) int64 { return now }); err != nil {
		return err
	}
	if o.running > 0 {
		if err := r.wait(ctx, o); err != nil {
			return err
		}
	}
	fmt.Fprintln(o.stdout, "ready")
	_, err = o.stdin.Read(make([]byte, 1)) // which ends with who is to kill it
	return err
}
