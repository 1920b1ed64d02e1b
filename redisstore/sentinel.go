package redisstore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/snower/forsun/scheduler"
)

// sentinelTimeout bounds how long the sentinels are asked which master is the newest.
const sentinelTimeout = 500 * time.Millisecond

// view is what a sentinel takes for the master. Each failover has an epoch, greater than
// those before: of two views that of the greater epoch counts.
type view struct {
	sentinel, master string // HOST:PORT
	epoch            int64
	others           []string // sentinels that it knows
}

// followSentinels lets c connect to no master that a sentinel knows to be replaced. The
// library believes the first sentinel that it asks, and the server there. But a sentinel
// may have missed a failover, or say of the old master that it was restarted, and that one
// takes itself for a master until it is told otherwise: what is written there is lost.
func (o *Options) followSentinels(c *rueidis.ClientOption) {
	// The library dials sentinels and servers by one function; it gives it a copy of the
	// dialer of either. This is how they are told apart, and else means nothing.
	sentinels := &net.Resolver{}
	c.Sentinel.Dialer.Resolver = sentinels
	c.DialCtxFn = func(ctx context.Context, addr string, d *net.Dialer, t *tls.Config) (net.Conn, error) {
		conn, err := dial(ctx, addr, d, t)
		if err != nil || d.Resolver == sentinels {
			return conn, err
		}
		views, _ := o.askSentinels(ctx)
		if err := outdated(addr, views); err != nil {
			_ = conn.Close()
			o.Log.Debug().Err(err).Msg("not connected to a master that was replaced")
			return nil, err
		}
		return conn, nil
	}
}

func dial(ctx context.Context, addr string, d *net.Dialer, t *tls.Config) (net.Conn, error) {
	if t == nil {
		return d.DialContext(ctx, "tcp", addr)
	}
	return (&tls.Dialer{NetDialer: d, Config: t}).DialContext(ctx, "tcp", addr)
}

// outdated returns an error if a view has a greater epoch than those whose master addr is.
// Without views there is none: then the library's own checks have to do.
func outdated(addr string, views []view) error {
	own, newest := view{epoch: -1}, view{epoch: -1}
	for _, v := range views {
		if v.epoch > newest.epoch {
			newest = v
		}
		if v.master == addr && v.epoch > own.epoch {
			own = v
		}
	}
	switch {
	case newest.epoch <= own.epoch:
		return nil
	case own.epoch < 0:
		return fmt.Errorf("%s is the master of no sentinel: it is %s, of epoch %d, says sentinel %s", addr, newest.master, newest.epoch, newest.sentinel)
	}
	return fmt.Errorf("%s is the master of epoch %d, says sentinel %s, but %s is that of epoch %d, says sentinel %s",
		addr, own.epoch, own.sentinel, newest.master, newest.epoch, newest.sentinel)
}

// askSentinels asks the sentinels that are configured, and those that they know, all at
// the same time. It returns what they answer within sentinelTimeout, and by address why
// the others do not.
func (o *Options) askSentinels(ctx context.Context) (views []view, silent map[string]error) {
	ctx, cancel := context.WithTimeout(ctx, sentinelTimeout)
	defer cancel()
	type answer struct {
		view
		err error
	}
	answers := make(chan answer)
	asked := make(map[string]bool)
	pending := 0
	ask := func(addrs []string) {
		for _, addr := range addrs {
			if !asked[addr] {
				asked[addr] = true
				pending++
				go func() {
					v, err := o.askSentinel(ctx, addr)
					answers <- answer{v, err}
				}()
			}
		}
	}
	silent = make(map[string]error)
	for ask(o.Addresses); pending > 0; pending-- {
		a := <-answers
		if a.err != nil {
			silent[a.sentinel] = a.err
			continue
		}
		views = append(views, a.view)
		ask(a.others)
	}
	return views, silent
}

// askSentinel returns an error if the sentinel does not answer until ctx ends, or not what
// was asked.
func (o *Options) askSentinel(ctx context.Context, addr string) (view, error) {
	v := view{sentinel: addr}
	c, err := connect(o.sentinelOption(ctx, addr))
	if err != nil {
		return v, err
	}
	defer c.Close()
	name := o.Sentinel.Master
	// The epoch first: while a failover is under way the master's own entry is that of the
	// old one still, the address and the epoch are the new ones'. Were they to change
	// between two commands, the older epoch would be taken for the newer address.
	results := c.DoMulti(ctx,
		c.B().Arbitrary("SENTINEL", "MASTER").Args(name).Build(),
		c.B().SentinelGetMasterAddrByName().Master(name).Build(),
		c.B().SentinelSentinels().Master(name).Build())
	master, err := results[0].AsStrMap()
	if err != nil {
		return v, fmt.Errorf("SENTINEL MASTER %s: %w", name, err)
	}
	if _, err := fmt.Sscan(master["config-epoch"], &v.epoch); err != nil {
		return v, fmt.Errorf("SENTINEL MASTER %s: config-epoch: %w", name, err)
	}
	at, err := results[1].AsStrSlice()
	if err != nil || len(at) != 2 {
		return v, errors.Join(fmt.Errorf("SENTINEL GET-MASTER-ADDR-BY-NAME %s: %d values", name, len(at)), err)
	}
	v.master = net.JoinHostPort(at[0], at[1])
	others, _ := results[2].ToArray()
	for _, other := range others {
		if m, err := other.AsStrMap(); err == nil {
			v.others = append(v.others, net.JoinHostPort(m["ip"], m["port"]))
		}
	}
	return v, nil
}

// sentinelsTell finds sentinels that do not say what failovers there were: if none did, an
// old master that comes back could be taken for the master. Of those that are not
// configured but learned of, only who refuses is told of: others name a sentinel by an
// address that is another here, and never forget one.
func (o *Options) sentinelsTell(ctx context.Context) (all []scheduler.Finding) {
	_, silent := o.askSentinels(ctx)
	if ctx.Err() != nil {
		return nil
	}
	for _, addr := range slices.Sorted(maps.Keys(silent)) {
		why := scheduler.MaskText(silent[addr].Error(), o.Sentinel.Password)
		refuses := strings.Contains(why, "NOPERM") // the library wraps some as text
		if !refuses && !slices.Contains(o.Addresses, addr) {
			continue
		}
		f := scheduler.Finding{
			Shard: scheduler.WholeDeployment, Severity: scheduler.SeverityWarning, Subject: "sentinel " + addr,
			Problem: fmt.Sprintf("does not say which failovers there were (%s); were no other to say it, an old master that comes back could be taken for the master", why),
			Advice:  "see whether it runs, can be reached from here, lets this user in, and watches this master",
		}
		if refuses {
			f.Advice = "give its user the rights that the README names"
		}
		all = append(all, f)
	}
	return all
}

// sentinelOption is how to connect to a sentinel for one question: ctx ends the
// connection, whatever the library waits for just then.
func (o *Options) sentinelOption(ctx context.Context, addr string) rueidis.ClientOption {
	return rueidis.ClientOption{
		InitAddress:         []string{addr},
		TLSConfig:           o.Sentinel.TLS,
		Username:            o.Sentinel.Username,
		Password:            o.Sentinel.Password,
		ClientName:          "forsund:" + o.Replica + ":epochs",
		ClientSetInfo:       rueidis.DisableClientSetInfo,
		ForceSingleClient:   true,
		DisableRetry:        true,
		DisableCache:        true,
		AlwaysRESP2:         o.resp2,
		PipelineMultiplex:   -1,
		RingScaleEachConn:   4,
		ReadBufferEachConn:  4 << 10,
		WriteBufferEachConn: 1 << 10,
		DialCtxFn: func(_ context.Context, addr string, d *net.Dialer, t *tls.Config) (net.Conn, error) {
			conn, err := dial(ctx, addr, d, t)
			if err == nil {
				context.AfterFunc(ctx, func() { _ = conn.Close() })
			}
			return conn, err
		},
	}
}
