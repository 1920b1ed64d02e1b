package chaos

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/snower/forsun/redisstore/redistest"
	"github.com/snower/forsun/redisstore/redistest/proc"
	"github.com/snower/forsun/scripts/chaos/ledger"
)

// Schemas of what is stored, as programs of these tests can be made to know them: the
// oldest and the newest they work with, and the seconds of each step of a raise. See
// redisstore/layout.go.
const (
	schemasOld     = "0000000002-0000000002-0000000001"
	schemasNew     = "0000000002-0000000003-0000000001" // the next version
	schemasNewOnly = "0000000003-0000000003-0000000001" // a later one, which has forgotten the old
)

// TestC17Upgraded: a fleet behind haproxy is upgraded one by one to a version with a newer
// schema, and raises it, under load. Everything runs once, and no shard is without a leader
// for more than 300 ms. A version that cannot work with the schema refuses to start, and
// says why.
func TestC17Upgraded(t *testing.T) {
	t.Parallel()
	f := newFleet(scenario(t, "C17"))
	names := []string{"a", "b", "c"}
	newer := map[string]string{"a": "x", "b": "y", "c": "z"} // what they call themselves then
	places := make(map[string][]string)                      // the flags that say where they listen
	var servers []string
	for _, name := range names {
		port := proc.FreePort(t)
		places[name] = []string{fmt.Sprintf("--http=127.0.0.1:%d", port)}
		servers = append(servers, fmt.Sprintf("127.0.0.1:%d", port))
		f.start(name, places[name]...)
	}
	f.spread(len(names))
	base := f.balanceHTTP(servers...)
	f.client.Bases = func() []string { return []string{base} }
	f.refused(schemasNewOnly, "what is stored is of schema 2", "this forsun works with schemas 3 to 3", "upgrade every replica to a version in between first")

	// Of a plan come 1.24 firings.
	span := pick3(11*time.Second, 20*time.Second, time.Minute)
	l := newLoad(f, pick3(250, 800, 1_750)*int(span/time.Second), span)
	var stops []time.Time
	for _, name := range names {
		time.Sleep(time.Until(time.Now().Add(pick3(2*time.Second, 4*time.Second, 12*time.Second)).Truncate(time.Second).Add(10 * time.Millisecond)))
		if got := f.schema(); got != "2 2" {
			t.Errorf("with an older replica there the schema is %s, want 2 2", got)
		}
		stops = append(stops, time.Now())
		if err := f.stop(name); err != nil {
			t.Fatal(err)
		}
		if _, err := f.launch(name, built.variant(t, newer[name], schemasNew), places[name]...); err != nil {
			t.Fatal(err)
		}
	}
	f.rate(stops[0], time.Now(), pick3(0, 800, 2_000))
	eventually(t, "the schema to be raised", 30*time.Second, func() bool { return f.schema() == "3 3" })
	if left := time.Until(l.end); left < 0 {
		t.Logf("the schema was raised %s after the load had ended", -left)
	}
	v := f.judge(ledger.Rules{Until: l.wait(), MaxLate: anyLate}, time.Minute)
	t.Logf("upgraded: %s", v)
	// The short form runs beside other tests.
	f.handOvers(stops, handOver+pick(500*time.Millisecond, 0), pick(1, len(names)))
	// How late firings are is told, too: a machine that runs three replicas, their Redis, the
	// load and its targets is as late in seconds in which nothing happens.
	f.late(v, stops, anyLate)
	// A replica that has just come leads after some seconds: in the short form the load
	// may have ended by then, but for the first.
	for _, name := range names[:pick(1, len(names))] {
		if !f.sink.Called(agent(newer[name]), f.began) {
			t.Errorf("replica %s ran nothing", newer[name])
		}
	}
	f.refused(schemasOld, "what is stored is of schema 3, which versions from schema 3 on can use", "this forsun works with schemas 2 to 2", "use a newer forsun")
	if r, err := f.launch("n", built.variant(t, "n", schemasNewOnly)); err != nil {
		t.Errorf("a version that has forgotten the old schema: %v", err)
	} else if err := f.stop(r.name); err != nil {
		t.Error(err)
	}
}

// rate fails the test if fewer calls than so many a second came in a time.
func (f *fleet) rate(from, to time.Time, least int) {
	f.t.Helper()
	n := 0
	for _, r := range f.receipts() {
		if r.At.After(from) && r.At.Before(to) {
			n++
		}
	}
	rate := int(float64(n) / to.Sub(from).Seconds())
	f.t.Logf("%d calls a second", rate)
	if rate < least {
		f.t.Errorf("%d calls a second, want %d: this has shown less than it should", rate, least)
	}
}

// schema is what the layout says: the schema in effect, and the oldest that its readers
// must know.
func (f *fleet) schema() string {
	f.t.Helper()
	values, ok := redistest.Do(f.t, f.redis.Addr, "HMGET", "forsun:layout", "schema", "oldest_reader").([]any)
	if !ok || len(values) != 2 {
		f.t.Fatalf("the layout is %v", values)
	}
	return fmt.Sprint(values[0], " ", values[1])
}

// refused starts a program that knows other schemas, and checks that it ends with 1 and
// one line that says why.
func (f *fleet) refused(schemas string, says ...string) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), 30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, built.variant(f.t, "r", schemas), "--port=0", "--admin=127.0.0.1:0", "--driver=redis",
		fmt.Sprintf("--driver-redis-server-id=0-%d", f.shards-1), fmt.Sprint(redisPort, f.redis.Port)).CombinedOutput()
	exit, ok := err.(*exec.ExitError)
	if !ok || exit.ExitCode() != 1 || strings.Count(string(out), "\n") != 1 {
		f.t.Errorf("schemas %s: %v, want status 1 and one line\n%s", schemas, err, out)
	}
	for _, s := range says {
		if !strings.Contains(string(out), s) {
			f.t.Errorf("schemas %s: it does not say %q\n%s", schemas, s, out)
		}
	}
}

// balanceHTTP starts a haproxy that hands HTTP requests to the replicas in turn, those
// that are up, and returns its base URL.
func (f *fleet) balanceHTTP(servers ...string) string {
	lines := []string{
		"  mode http", "  option redispatch", "  retries 3", "  retry-on conn-failure",
		"  option httpchk GET /v1/ping", "  default-server check inter 200 fall 1 rise 1", "  balance roundrobin",
	}
	for i, s := range servers {
		lines = append(lines, fmt.Sprintf("  server s%d %s", i, s))
	}
	port := f.haproxy(lines, func(port int) error {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			c.Close()
		}
		return err
	})
	return fmt.Sprintf("http://127.0.0.1:%d", port)
}
