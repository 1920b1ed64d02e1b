package rpc

import (
	"context"
	"net"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/snower/forsun/scheduler"
)

// About is what a server says of itself that only its program knows.
type About struct {
	Version    string
	Store      string   // the driver in use
	Stores     []string // the drivers there are
	Extensions []string
}

// Info composes the answer of info. One serves both interfaces of a process.
type Info struct {
	svc     *scheduler.Service
	about   About
	started time.Time

	thrift, http stats
	port         atomic.Int64
	httpPort     atomic.Int64
}

// NewInfo returns the Info of a process that starts now.
func NewInfo(svc *scheduler.Service, about About) *Info {
	return &Info{svc: svc, about: about, started: svc.Now()}
}

// thriftAddr and httpAddr note where the servers listen.
func (i *Info) thriftAddr(a net.Addr) { i.port.Store(portOf(a)) }
func (i *Info) httpAddr(a net.Addr)   { i.httpPort.Store(portOf(a)) }

func portOf(a net.Addr) int64 {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return int64(tcp.Port)
	}
	return 0
}

// Traffic is what came in over one interface.
type Traffic struct {
	Open      int64 // connections now
	Accepted  int64 // connections so far
	Answering int64 // requests now
	Answered  int64 // requests so far
	Failed    int64 // of these, with an unexpected error
}

// Traffic returns what came in, by interface: thrift and http.
func (i *Info) Traffic() map[string]Traffic {
	of := func(s *stats) Traffic {
		return Traffic{
			Open: s.connecting.Load(), Accepted: s.connected.Load(),
			Answering: s.requesting.Load(), Answered: s.requested.Load(), Failed: s.failed.Load(),
		}
	}
	return map[string]Traffic{"thrift": of(&i.thrift), "http": of(&i.http)}
}

// Map returns the 36 names clients know, all of them always, and their values
// as strings: counts and bytes in decimal, CPU times in seconds, start_time as
// a date, current_time as Unix seconds. plan_count is empty while the store
// cannot be asked.
func (i *Info) Map(ctx context.Context) map[string]string {
	n := func(v int64) string { return strconv.FormatInt(v, 10) }
	f := func(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', 2, 64) }
	c := i.svc.Counters()
	use := usage()
	plans := ""
	if states, err := i.svc.Shards(ctx); err == nil {
		var sum int64
		for _, s := range states {
			sum += s.Plans
		}
		plans = n(sum)
	}
	return map[string]string{
		"python_version": runtime.Version(), // of what runs it; the name is old
		"forsun_version": i.about.Version,
		"start_time":     i.started.UTC().Format("2006-01-02 15:04:05.000000-07:00"),
		"cpu_user":       f(use.user),
		"cpu_system":     f(use.system),
		"mem_rss":        n(use.resident),
		"mem_vms":        n(use.virtual),
		"current_time":   n(i.svc.Now().Unix()),

		"stores":         strings.Join(i.about.Stores, ";"),
		"current_store":  i.about.Store,
		"actions":        strings.Join(i.svc.Actions(), ";"),
		"bind_port":      n(i.port.Load()),
		"http_bind_port": n(i.httpPort.Load()),
		"extensions":     strings.Join(i.about.Extensions, ";"),

		"connecting_count":      n(i.thrift.connecting.Load()),
		"connected_count":       n(i.thrift.connected.Load()),
		"requesting_count":      n(i.thrift.requesting.Load()),
		"requested_count":       n(i.thrift.requested.Load()),
		"requested_error_count": n(i.thrift.failed.Load()),

		"http_connecting_count":      n(i.http.connecting.Load()),
		"http_connected_count":       n(i.http.connected.Load()),
		"http_requesting_count":      n(i.http.requesting.Load()),
		"http_requested_count":       n(i.http.requested.Load()),
		"http_requested_error_count": n(i.http.failed.Load()),

		"created_count":          n(c.Created.Load()),
		"create_timeouted_count": n(c.TimeoutsCreated.Load()),
		"removed_count":          n(c.Removed.Load()),
		"plan_count":             plans,
		"timeout_handling_count": "0", // a claim is one step: there is no state in between
		"timeout_handled_count":  n(c.Claimed.Load()),

		"action_executing_count":      n(c.Executing.Load()),
		"action_executed_count":       n(c.Executed.Load()),
		"action_executed_error_count": n(c.Failed.Load()),
		"action_retried_count":        n(c.Retried.Load()),

		"timer_loop_count":             n(c.Ticks.Load()),
		"timer_loop_ready_error_count": n(c.TickErrors.Load()),
	}
}

// resources is what the process has used of the machine; 0 where the system
// does not tell.
type resources struct {
	user, system      time.Duration
	resident, virtual int64 // bytes
}
