package chaos

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/snower/forsun/redisstore/redistest"
	"github.com/snower/forsun/redisstore/redistest/proc"
	"github.com/snower/forsun/scripts/chaos/ledger"
)

// programs makes forsund under several versions, so that each call of a firing
// tells, by its User-Agent, which replica made it, and with several schemas, so that
// fleets can be upgraded.
type programs struct {
	dir    string
	ledger string // the witness
	mu     sync.Mutex
	made   map[string]string
}

const (
	versionPrefix = "v0.0.0-replica-"
	nobody        = "0" // the replica that the built version names
)

var built programs

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "forsun-chaos-")
	if err != nil {
		panic(err)
	}
	built = programs{dir: dir, made: make(map[string]string)}
	// CHAOS_BIN names a directory where what is built is kept from one call of the
	// tests to the next.
	bin := cmp.Or(os.Getenv("CHAOS_BIN"), dir)
	built.made[nobody], built.ledger = filepath.Join(bin, "forsund"), filepath.Join(bin, "ledger")
	if err := errors.Join(buildForsund(built.made[nobody]), build(built.ledger, "./ledger/cmd/ledger")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	status := m.Run()
	os.RemoveAll(dir)
	os.Exit(status)
}

// packs has leaders pack the index however few keys there are, of plans that are due in over
// two seconds, each second: see redisstore/pack.go.
const packs = "0-2-1"

// buildForsund builds forsund as the first replica. CHAOS_TAGS are build tags, and
// CHAOS_BUG a defect that is seeded, which a scenario must find: see BUGS.md.
func buildForsund(path string) error {
	stamps := "-X main.version=" + versionPrefix + nobody + " -X github.com/snower/forsun/redisstore.schemas=" + schemasOld + " -X github.com/snower/forsun/redisstore.packs=" + packs
	if bug := os.Getenv("CHAOS_BUG"); bug != "" {
		stamps += " -X github.com/snower/forsun/scheduler.bug=" + bug
	}
	return build(path, "-tags", os.Getenv("CHAOS_TAGS"), "-ldflags", stamps, "../../cmd/forsund")
}

// build builds a program, if it is not there, and never with the race detector, as
// these tests may be: what is late is judged here.
func build(path string, args ...string) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	args = append([]string{"build", "-o", path}, args...)
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// of returns the program for a replica, whose name is one byte: the built one with
// another version in it.
func (p *programs) of(t *testing.T, name string) string {
	t.Helper()
	return p.variant(t, name, schemasOld)
}

// variant is of with other schemas that the program knows.
func (p *programs) variant(t *testing.T, name, schemas string) string {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	id := name
	if schemas != schemasOld {
		id += "-" + schemas
	}
	if path, ok := p.made[id]; ok {
		return path
	}
	program, err := os.ReadFile(p.made[nobody])
	if err != nil {
		t.Fatal(err)
	}
	for was, is := range map[string]string{versionPrefix + nobody: versionPrefix + name, schemasOld: schemas} {
		if len(was) != len(is) || !bytes.Contains(program, []byte(was)) {
			t.Fatalf("cannot put %s into forsund", is)
		}
		program = bytes.ReplaceAll(program, []byte(was), []byte(is))
	}
	path := filepath.Join(p.dir, "forsund-"+id)
	if err := proc.WriteProgram(path, program); err != nil {
		t.Fatal(err)
	}
	p.made[id] = path
	return path
}

// agent is the User-Agent of a replica's calls.
func agent(name string) string { return "forsun/" + versionPrefix + name }

// fleet is replicas of forsund on one Redis, the sink that their firings call, and
// the ledger's client.
type fleet struct {
	*trial
	redis   *redistest.Server // nil: args say where the store is
	shards  int
	args    []string     // of every replica
	sink    *sink        // the one most plans call
	sinks   []*sink      // it and others: each is a target of its own
	list    *ledger.List // nil: no plan adds itself to one
	journal *ledger.Journal
	client  *ledger.Client

	quarantined int64 // plans that must be in quarantine at the end
	deadLetters int64 // and firings that must be dead letters

	env []string // of replicas that are started, beside what all have

	mu       sync.Mutex
	replicas map[string]*replica
	deaths   []ledger.Death
}

// replica is one forsund process, and after a restart another.
type replica struct {
	f    *fleet
	name string
	args []string
	log  string
	proc *proc.Process // nil while it is down
	hung bool          // it is paused

	id, thrift, http, admin string // as it says when it is ready
}

// shards is how many shards the fleets of these tests have.
const shards = 4

// newFleet starts a Redis with AOF and a sink.
func newFleet(s *trial, args ...string) *fleet {
	s.t.Helper()
	return newFleetOn(s, redistest.Start(s.t, "appendonly yes"), args...)
}

// newFleetOn is newFleet on a Redis that is there. Without one, args are all that
// says which store the replicas use, and it has one shard until f.shards says more.
func newFleetOn(s *trial, redis *redistest.Server, args ...string) *fleet {
	t := s.t
	t.Helper()
	f := &fleet{trial: s, redis: redis, shards: 1, args: args, replicas: make(map[string]*replica)}
	if redis != nil {
		f.shards = shards
	}
	f.sink = f.newSink()
	var err error
	if f.journal, err = ledger.NewJournal(s.path("journal")); err != nil {
		t.Fatal(err)
	}
	f.client = &ledger.Client{Journal: f.journal, Bases: f.bases}
	t.Cleanup(func() {
		f.client.Close()
		if err := f.journal.Close(); err != nil {
			t.Errorf("journal: %v", err)
		}
		f.end()
	})
	return f
}

// end kills what runs, and tells what it logged.
func (f *fleet) end() {
	for _, r := range f.replicas {
		if r.proc != nil {
			r.proc.Kill()
		}
	}
	for _, r := range f.replicas {
		f.t.Logf("replica %s logged:\n%s", r.name, f.warnings(r, 20))
	}
}

// warnings are the lines of a replica's log that are not routine, at most n with the
// same message.
func (f *fleet) warnings(r *replica, n int) string {
	data, _ := os.ReadFile(r.log)
	var b strings.Builder
	seen := make(map[string]int)
	for line := range strings.Lines(string(data)) {
		_, message, _ := strings.Cut(line, `"message":`)
		if seen[message]++; seen[message] <= n && (!strings.Contains(line, `"level":"info"`) || strings.Contains(line, `"shard"`)) {
			b.WriteString(line)
		}
	}
	return b.String()
}

// start starts a replica, or starts it again, and waits until it serves.
func (f *fleet) start(name string, args ...string) *replica {
	f.t.Helper()
	r, err := f.launch(name, built.of(f.t, name), args...)
	if err != nil {
		f.t.Fatal(err)
	}
	return r
}

// redisPort begins the flag that says where Redis is.
const redisPort = "--driver-redis-port="

// launch is start for any goroutine.
func (f *fleet) launch(name, program string, args ...string) (*replica, error) {
	r := &replica{f: f, name: name, args: args, log: f.path("log-" + name)}
	own := []string{"--port=0", "--http=127.0.0.1:0", "--admin=127.0.0.1:0", "--log=" + r.log}
	if f.redis != nil {
		own = append(own, "--driver=redis", fmt.Sprintf("--driver-redis-server-id=0-%d", f.shards-1))
	}
	if f.redis != nil && !slices.ContainsFunc(args, func(arg string) bool { return strings.HasPrefix(arg, redisPort) }) {
		own = append(own, fmt.Sprint(redisPort, f.redis.Port))
	}
	cmd := exec.Command(program, slices.Concat(own, f.args, args)...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent"}, f.env...)
	p, err := proc.StartCommand(cmd, func(string) error { return r.ready() })
	if err != nil {
		return nil, fmt.Errorf("replica %s: %w", name, err)
	}
	r.proc = p
	f.mu.Lock()
	f.replicas[name] = r
	f.mu.Unlock()
	f.event("%s is up: %s", name, r.id)
	return r, nil
}

// ready reads what the replica says when it serves.
func (r *replica) ready() error {
	line, err := r.logged("forsund is ready")
	if err != nil {
		return err
	}
	if line == nil {
		return errors.New("it does not say that it is ready")
	}
	r.id, _ = line["replica"].(string)
	r.thrift, _ = line["thrift"].(string)
	r.http, _ = line["http"].(string)
	r.admin, _ = line["admin"].(string)
	return nil
}

// logged returns the first line of the replica's log with that message, or nil.
func (r *replica) logged(message string) (map[string]any, error) {
	data, err := os.ReadFile(r.log)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	for line := range bytes.Lines(data) {
		var fields map[string]any
		if !bytes.HasSuffix(line, []byte("\n")) {
			break // being written
		}
		if err := json.Unmarshal(line, &fields); err != nil {
			return nil, fmt.Errorf("log line %q: %w", line, err)
		}
		if fields["message"] == message {
			return fields, nil
		}
	}
	return nil, nil
}

// bases are the HTTP addresses of the replicas that are up.
func (f *fleet) bases() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []string
	for _, r := range f.replicas {
		if r.proc != nil && !r.hung {
			all = append(all, "http://"+r.http)
		}
	}
	slices.Sort(all)
	return all
}

// take takes a replica off the list of those that are up.
func (f *fleet) take(name string) *proc.Process {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.replicas[name]
	p := r.proc
	r.proc = nil
	return p
}

// kill ends a replica as a crash does, and notes its death if it ran firings.
func (f *fleet) kill(name string, worked bool) {
	p := f.take(name)
	f.event("%s is killed", name)
	p.Kill()
	if worked {
		f.mu.Lock()
		f.deaths = append(f.deaths, ledger.Death{Agent: agent(name), At: time.Now()})
		f.mu.Unlock()
	}
}

// stop ends a replica as an operator does.
func (f *fleet) stop(name string) error {
	p := f.take(name)
	f.event("%s is stopped", name)
	err := p.Stop()
	f.event("%s has ended", name)
	return err
}

// pause stops a replica where it stands until resume. Nobody asks it meanwhile.
func (f *fleet) pause(r *replica) {
	f.t.Helper()
	f.mu.Lock()
	r.hung = true
	f.mu.Unlock()
	if err := r.proc.Pause(); err != nil {
		f.t.Fatal(err)
	}
	f.event("%s is paused", r.name)
}

func (f *fleet) resume(r *replica) {
	f.t.Helper()
	f.event("%s goes on", r.name)
	if err := r.proc.Resume(); err != nil {
		f.t.Fatal(err)
	}
	f.mu.Lock()
	r.hung = false
	f.mu.Unlock()
}

// notLogged fails the test if a replica that runs logged a message.
func (f *fleet) notLogged(message string) {
	f.t.Helper()
	for _, r := range f.replicas {
		line, err := r.logged(message)
		if err != nil {
			f.t.Error(err)
		}
		if line != nil {
			f.t.Errorf("replica %s logged %v", r.name, line)
		}
	}
}

// rescued is what is logged when a worker was declared dead.
const rescued = "rescued firings of a dead worker"

// tag begins the keys of a shard.
func (f *fleet) tag(shard int) string { return fmt.Sprintf("forsun:{%d}:", shard) }

// leader returns the replica that holds a shard's lease, and its value; nil if
// none does.
func (f *fleet) leader(shard int) (r *replica, lease string) {
	f.t.Helper()
	reply, err := redistest.Try(f.redis.Addr, "GET", f.tag(shard)+"leader")
	if err != nil {
		f.t.Fatal(err)
	}
	lease, _ = reply.(string)
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.replicas {
		if strings.Contains(lease, ":"+r.id+":") {
			return r, lease
		}
	}
	return nil, lease
}

// aLeader is the replica that leads a shard; it waits while one is handed over.
func (f *fleet) aLeader(shard int) (r *replica) {
	f.t.Helper()
	eventually(f.t, "a leader", 20*time.Second, func() bool { r, _ = f.leader(shard); return r != nil })
	return r
}

// spread waits until every shard has a leader, and each of n replicas leads one.
func (f *fleet) spread(n int) {
	f.t.Helper()
	eventually(f.t, "every shard led", 20*time.Second, func() bool {
		leaders := make(map[string]bool)
		for shard := range f.shards {
			if r, _ := f.leader(shard); r != nil {
				leaders[r.name] = true
			} else {
				return false
			}
		}
		return len(leaders) >= n
	})
}

// judge waits until everything that has to fire by until has, though no longer
// than bound, and then for what may come too much: until the last death's firings
// would have been rescued, and a second. The verdict is tallied.
func (f *fleet) judge(rules ledger.Rules, bound time.Duration) *ledger.Verdict {
	f.t.Helper()
	f.mu.Lock()
	rules.Deaths = slices.Clone(f.deaths)
	f.mu.Unlock()
	settled := time.Now().Add(time.Second)
	for _, d := range rules.Deaths {
		if at := d.At.Add(rules.Rerun); at.After(settled) {
			settled = at
		}
	}
	deadline := time.Now().Add(bound)
	for began := time.Now(); began.Before(deadline); began = time.Now() {
		if began.After(settled) && ledger.Missing(f.journal, f.receipts(), rules) == 0 {
			break
		}
		time.Sleep(250*time.Millisecond + 2*time.Since(began)) // it takes long where there are many
	}
	v := ledger.Judge(f.journal, f.receipts(), rules)
	if problems := v.Problems(10); problems != "" {
		f.t.Errorf("%s\n%s", v, problems)
	}
	f.tally(v)
	f.keepRules(rules)
	f.rest()
	return v
}

// rest waits until nothing is queued, runs, or waits to be retried, and checks that
// nothing is a dead letter, or in quarantine, that need not be.
func (f *fleet) rest() {
	f.t.Helper()
	var sum shardSums
	defer func() {
		if f.t.Failed() {
			f.t.Logf("%+v, want %d dead letters and %d in quarantine", sum, f.deadLetters, f.quarantined)
			if f.redis != nil {
				for shard := range f.shards {
					f.t.Logf("shard %d: quarantine %q, backlog %q", shard, redistest.Do(f.t, f.redis.Addr, "HKEYS", f.tag(shard)+"quarantine"),
						redistest.Do(f.t, f.redis.Addr, "HGETALL", f.tag(shard)+"backlog"))
				}
				s := f.stock()
				f.t.Logf("left: scheduled %v, under way %q", s.Scheduled, s.Underway)
			}
		}
	}()
	eventually(f.t, "nothing to be under way", 30*time.Second, func() bool {
		now, ok := f.sums()
		if !ok {
			return false
		}
		sum = now
		if sum.Dead > f.deadLetters || sum.Quarantined > f.quarantined {
			f.t.Fatalf("%d dead letters, %d plans in quarantine, want %d and %d", sum.Dead, sum.Quarantined, f.deadLetters, f.quarantined)
		}
		return sum.Backlog == 0 && sum.Dead == f.deadLetters && sum.Quarantined == f.quarantined
	})
}

// shardSums is what /v1/shards says, of all shards together.
type shardSums struct{ Backlog, Dead, Quarantined int64 }

// sums asks for it; not ok: Redis is waited for.
func (f *fleet) sums() (sum shardSums, ok bool) {
	f.t.Helper()
	response, err := http.Get(f.bases()[0] + "/v1/shards")
	if err != nil {
		f.t.Fatal(err)
	}
	defer response.Body.Close()
	var answer struct{ Data []shardSums }
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		f.t.Fatal(err)
	}
	for _, s := range answer.Data {
		sum.Backlog, sum.Dead, sum.Quarantined = sum.Backlog+s.Backlog, sum.Dead+s.Dead, sum.Quarantined+s.Quarantined
	}
	return sum, len(answer.Data) == f.shards
}

// eventually polls until done.
func eventually(t *testing.T, what string, bound time.Duration, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(bound); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s for: %s", bound, what)
		}
	}
}

// exchange sends bytes to a server and returns what comes back at once.
func exchange(addr string, request []byte) (string, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Write(request); err != nil {
		return "", err
	}
	b := make([]byte, 4096)
	n, err := c.Read(b)
	if err == nil && string(b[:n]) == "+OK\r\n" { // of the first of two commands
		var more int
		more, err = c.Read(b[n:])
		n += more
	}
	return string(b[:n]), err
}
