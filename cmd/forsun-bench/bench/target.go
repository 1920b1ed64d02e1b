package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/snower/forsun/rpc/client"
	"github.com/snower/forsun/scheduler"
)

// Actions of plans on a running forsund.
const (
	actionNoop = "noop" // does nothing; what fired is read in the history
	actionHTTP = "http" // calls this process
)

// historyHolds is how many attempts a forsund keeps at least, if they are small.
const historyHolds = 100_000

// cleanTimeout bounds the removal of what a benchmark has left on a running forsund.
const cleanTimeout = 5 * time.Minute

func (o *options) client(address string) *client.Client {
	co := client.DefaultOptions(address)
	co.Token = o.token
	return client.New(co)
}

// rig is what o's flags say is to be measured.
func (o *options) rig(ctx context.Context, n int) (*rig, error) {
	if o.target != "" {
		return o.connect(ctx, n)
	}
	return o.start(ctx, n)
}

// connect makes a rig of the forsund at o.target. Its stop removes what is left there.
func (o *options) connect(ctx context.Context, n int) (r *rig, err error) {
	r = &rig{probe: newProbe(o.prefix, n)}
	c := o.client(o.target)
	stops := []func(){func() { c.Close() }}
	stop := sync.OnceFunc(func() {
		for i := range stops {
			stops[len(stops)-1-i]()
		}
	})
	r.stop = stop
	defer func() {
		if err != nil {
			stop()
		}
	}()
	info, err := c.Info(ctx)
	if err != nil {
		return nil, err
	}
	if !strings.Contains(";"+info["actions"]+";", ";"+o.action+";") {
		return nil, fmt.Errorf("the forsund at %s has no action %s, but %s: start it with --actions and %s among them, or use --action", o.target, o.action, info["actions"], o.action)
	}
	r.use = func(ctx context.Context) (use, error) { return usage(ctx, c) }
	free := make(chan *client.Client, fillers)
	for range fillers {
		c := o.client(o.target)
		stops = append(stops, func() { c.Close() })
		free <- c
	}
	r.put = func(ctx context.Context, plans []*scheduler.Plan) error {
		c := <-free
		defer func() { free <- c }()
		return restore(ctx, c, plans)
	}
	// What is left when all have run is where plans were created, or it was interrupted.
	stops = append(stops, func() {
		if err := o.clean(context.WithoutCancel(ctx)); err != nil {
			fmt.Fprintf(o.stderr, "plans whose keys begin with %s are left there: %v\n", o.prefix, err)
		}
	})
	switch o.action {
	case actionNoop:
		if n > historyHolds {
			return nil, fmt.Errorf("plans: %d is not allowed; allowed: up to %d, which is what the history holds, or --action %s", n, historyHolds, actionHTTP)
		}
		r.await = func(ctx context.Context) error { return r.probe.readHistory(ctx, c) }
	case actionHTTP:
		stop, err := o.listen(r.probe)
		if err != nil {
			return nil, err
		}
		stops = append(stops, stop)
	}
	return r, nil
}

// usage reads what a forsund has used.
func usage(ctx context.Context, c *client.Client) (u use, err error) {
	info, err := c.Info(ctx)
	if err != nil {
		return u, err
	}
	var seconds float64
	for _, name := range []string{"cpu_user", "cpu_system"} {
		s, err := strconv.ParseFloat(info[name], 64)
		if err != nil {
			return u, fmt.Errorf("info %s: %w", name, err)
		}
		seconds += s
	}
	u.cpu = time.Duration(seconds * float64(time.Second))
	u.rss, err = strconv.ParseInt(info["mem_rss"], 10, 64)
	return u, err
}

// restore stores plans with their due seconds, as an import does.
func restore(ctx context.Context, c *client.Client, plans []*scheduler.Plan) error {
	results, err := c.Restore(ctx, plans, scheduler.RestoreOptions{Replace: true})
	for _, r := range results {
		err = errors.Join(err, r.Err)
	}
	return err
}

// clean removes the plans of this benchmark.
func (o *options) clean(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, cleanTimeout)
	defer cancel()
	c := o.client(o.target)
	defer c.Close()
	var keys []string
	for p, err := range c.Plans(ctx, o.prefix) {
		if err != nil {
			return err
		}
		keys = append(keys, p.Key)
	}
	bar := o.bar(len(keys), "removing")
	defer bar.Exit()
	const clients = 32
	connect := func(context.Context) (closer, error) { return closer{o.client(o.target)}, nil }
	return each(ctx, clients, len(keys), 1, connect, func(ctx context.Context, c closer, i, _ int) error {
		defer bar.Add(1)
		if _, err := c.Remove(ctx, keys[i]); err != nil && !client.IsNotFound(err) {
			return err
		}
		return nil
	})
}

// closer is a client that each can close.
type closer struct{ *client.Client }

func (c closer) close() error { return c.Close() }

// historyEvery is how often it is looked whether all has run.
const historyEvery = 500 * time.Millisecond

// readHistory notes what the history says has run, once all has. It does not look at the
// history before: that costs the forsund time, which is measured.
func (p *probe) readHistory(ctx context.Context, c *client.Client) error {
	begun := time.Now()
	tick := time.NewTicker(historyEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if busy, err := p.underWay(ctx, c); err != nil {
			return err
		} else if busy {
			continue
		}
		var found []scheduler.Attempt
		for a, err := range c.Attempts(ctx, "") {
			if err != nil {
				return err
			}
			if strings.HasPrefix(a.Key, p.prefix) {
				found = append(found, a)
			} else if a.Started.Before(begun.Add(-time.Hour)) {
				break // newest first
			}
		}
		if len(found) < len(p.seen) {
			continue
		}
		for _, a := range found {
			if a.Outcome != scheduler.Succeeded {
				return fmt.Errorf("%s %s: %s", a.Key, a.Outcome, a.Error)
			}
			if err := p.note(a.Key, a.Due, time.Unix(a.Due, 0).Add(a.Late)); err != nil {
				return err
			}
		}
		return nil
	}
}

// underWay reports whether plans are left, or firings not finished.
func (p *probe) underWay(ctx context.Context, c *client.Client) (bool, error) {
	left, err := c.List(ctx, p.prefix+"0", "", 1)
	if err != nil || len(left.Items) > 0 {
		return true, err
	}
	shards, err := c.Shards(ctx)
	for _, s := range shards {
		if s.Queued[actionNoop]+s.Running[actionNoop] > 0 {
			return true, err
		}
	}
	return false, err
}

// listen has firings that call this process be noted, and sets o.url to what they call.
func (o *options) listen(p *probe) (stop func(), err error) {
	ln, err := net.Listen("tcp", o.sink)
	if err != nil {
		return nil, fmt.Errorf("sink: %w", err)
	}
	o.url = "http://" + ln.Addr().String() + "/"
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		now := time.Now()
		due, err := strconv.ParseInt(req.Header.Get("X-Forsun-Timestamp"), 10, 64)
		if err == nil {
			err = p.note(req.Header.Get("X-Forsun-Key"), due, now)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	})}
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(ln) })
	return func() { server.Close(); serving.Wait() }, nil
}
