package actions

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/snower/forsun/actions/actionstest"
	"github.com/snower/forsun/redisstore/redistest"
	"github.com/snower/forsun/scheduler"
)

func newRedis(t *testing.T) *Redis {
	t.Helper()
	a := NewRedis(DefaultRedisOptions())
	t.Cleanup(func() { a.Close() })
	return a
}

// redisParamsOf are the parameters that lead to addr.
func redisParamsOf(addr string) map[string]string {
	host, port, _ := net.SplitHostPort(addr)
	return map[string]string{"host": host, "port": port}
}

// redisClient is the test's own way to a server.
func redisClient(t *testing.T, addr string) func(words ...string) rueidis.RedisResult {
	t.Helper()
	c, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{addr}, DisableCache: true, ForceSingleClient: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return func(words ...string) rueidis.RedisResult {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		return c.Do(ctx, c.B().Arbitrary(words...).Build())
	}
}

func TestRedisCheck(t *testing.T) {
	a := newRedis(t)
	for _, row := range []struct {
		why    string
		params map[string]string
		kind   error
		field  string
	}{
		{"defaults", map[string]string{"command": "SET a 1"}, nil, ""},
		{"everything", map[string]string{"host": "redis.example", "port": "6380", "selected_db": "3", "max_connections": "5", "user": "u", "password": "p", "tls": "true", "command": "SET a 1; INCR b"}, nil, ""},
		{"unknown names are ignored", map[string]string{"command": "PING", "colour": "red", "forsun.retries": "1"}, nil, ""},
		{"empty is not given", map[string]string{"command": "PING", "host": "", "port": "", "selected_db": "", "tls": ""}, nil, ""},
		{"an open quote, as in the README", map[string]string{"command": "'SET b 1 EX 300"}, nil, ""},
		{"blocking commands end", map[string]string{"command": "BLPOP q 5"}, nil, ""},
		{"no command", map[string]string{}, scheduler.ErrMissing, "params.command"},
		{"nothing in command", map[string]string{"command": " ; ;"}, scheduler.ErrParams, "params.command"},
		{"a command without name", map[string]string{"command": "SET a 1; '' x"}, scheduler.ErrParams, "params.command"},
		{"subscribe", map[string]string{"command": "subscribe news"}, scheduler.ErrParams, "params.command"},
		{"psubscribe", map[string]string{"command": "PSUBSCRIBE n*"}, scheduler.ErrParams, "params.command"},
		{"ssubscribe", map[string]string{"command": "SSUBSCRIBE n"}, scheduler.ErrParams, "params.command"},
		{"unsubscribe", map[string]string{"command": "UNSUBSCRIBE"}, scheduler.ErrParams, "params.command"},
		{"what the library takes for a subscription", map[string]string{"command": "my.very.long.module.name.with.many.parts.subscribe x"}, scheduler.ErrParams, "params.command"},
		{"monitor, as the second", map[string]string{"command": "PING; monitor"}, scheduler.ErrParams, "params.command"},
		{"replication", map[string]string{"command": "PSYNC ? -1"}, scheduler.ErrParams, "params.command"},
		{"no answer", map[string]string{"command": "CLIENT reply off"}, scheduler.ErrParams, "params.command"},
		{"no answer, and again", map[string]string{"command": "SHUTDOWN NOSAVE"}, scheduler.ErrParams, "params.command"},
		{"port", map[string]string{"command": "PING", "port": "65536"}, scheduler.ErrParams, "params.port"},
		{"port 0", map[string]string{"command": "PING", "port": "0"}, scheduler.ErrParams, "params.port"},
		{"db", map[string]string{"command": "PING", "selected_db": "-1"}, scheduler.ErrParams, "params.selected_db"},
		{"connections", map[string]string{"command": "PING", "max_connections": "0"}, scheduler.ErrParams, "params.max_connections"},
		{"tls", map[string]string{"command": "PING", "tls": "maybe"}, scheduler.ErrParams, "params.tls"},
		{"host", map[string]string{"command": "PING", "host": "redis://h"}, scheduler.ErrParams, "params.host"},
	} {
		wantField(t, row.why, a.Check(row.params), row.kind, row.field)
	}
	for _, row := range []struct{ host, port, want string }{
		{"", "", "127.0.0.1:6379"},
		{"h", "1", "h:1"},
		{"::1", "", "[::1]:6379"},
	} {
		if got := a.Target(map[string]string{"host": row.host, "port": row.port}); got != row.want {
			t.Errorf("Target(%q, %q): got %q, want %q", row.host, row.port, got, row.want)
		}
	}
	if got, want := a.Timeout(nil), 30*time.Second; got != want {
		t.Errorf("Timeout: got %s, want %s", got, want)
	}
}

func TestRedisCommands(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	do := redisClient(t, s.Addr)
	a := newRedis(t)
	p := redisParamsOf(s.Addr)
	id := string(firingOf(p).ID())

	for _, row := range []struct {
		why, command, db string
		out              string
		ask, want        string // in database 0
	}{
		{"one", "SET one 1", "", "OK", "GET one", "1"},
		{"in order, each answered", "SET two 1; INCR two;APPEND two x ; STRLEN two", "", "OK\n(integer) 2\n(integer) 2\n(integer) 2", "GET two", "2x"},
		{"strings", `SET three "a;b 'c' \" d"`, "", "OK", "GET three", `a;b 'c' " d`},
		{"an empty word, an open string", "SET four ''; SET five 'open ; x", "", "OK\nOK", "GET five", "open ; x"},
		{"tokens in arguments", "HSET six ${firing.id} '${firing.due} ${firing.attempt}'", "", "(integer) 1", "HGET six " + id, "1795345900 1"},
		{"a repeat by its id", "SET seven-${firing.id} 1 NX;SET seven-${firing.id} 2 NX", "", "OK\n(nil)", "GET seven-" + id, "1"},
		{"what was read stays out of the output", "SET eight s3cret; GET eight; KEYS eight", "", "OK\n(6 bytes)\n(1 elements)", "GET eight", "s3cret"},
		{"a database", "SET nine 1; RPUSH ninelist a b", "3", "OK\n(integer) 2", "EXISTS nine", "0"},
		{"a transaction", "MULTI; SET ten 1; INCR ten; EXEC", "", "OK\nQUEUED\nQUEUED\n(2 elements)", "GET ten", "2"},
		{"a script", `EVAL "return redis.call('set', KEYS[1], ARGV[1])" 1 eleven v`, "", "OK", "GET eleven", "v"},
	} {
		if got := must(t, a, firingOf(p, "command", row.command, "selected_db", row.db)); got != row.out {
			t.Errorf("%s: output: got %q, want %q", row.why, got, row.out)
		}
		message, err := do(strings.Fields(row.ask)...).ToMessage()
		if err != nil {
			t.Errorf("%s: %s: %v", row.why, row.ask, err)
			continue
		}
		got, err := message.ToString()
		if err != nil {
			n, _ := message.ToInt64()
			got = strconv.FormatInt(n, 10)
		}
		if got != row.want {
			t.Errorf("%s: %s: got %q, want %q", row.why, row.ask, got, row.want)
		}
	}
}

// TestRedisLaravelQueue: a Laravel worker must find its job byte for byte.
func TestRedisLaravelQueue(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	do := redisClient(t, s.Addr)
	a := newRedis(t)
	for i, payload := range laravelPayloads(t) {
		if got, want := must(t, a, firingOf(redisParamsOf(s.Addr), "command", payload.Command)), "(integer) 1"; got != want {
			t.Errorf("payload %d: output: got %q, want %q", i, got, want)
		}
		got, err := do("LPOP", "queues:default").ToString()
		if err != nil || got != payload.Expect {
			t.Errorf("payload %d:\ngot  %s, %v\nwant %s", i, got, err, payload.Expect)
		}
	}
}

// TestRedisConnectionState: what one firing does to its connection must not
// reach another's.
func TestRedisConnectionState(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	do := redisClient(t, s.Addr)
	a := newRedis(t)
	p := redisParamsOf(s.Addr)
	for i, before := range []string{"SELECT 5", "MULTI", "MULTI; SET x 1; INCR nosuch; NOSUCHCOMMAND", "WATCH a", "CLIENT SETNAME me", "RESET", "QUIT"} {
		attempt(t, a, firingOf(p, "command", before)) // whether it fails is not the question here
		key := "after" + strconv.Itoa(i)
		if got, want := must(t, a, firingOf(p, "command", "SET "+key+" 1")), "OK"; got != want {
			t.Errorf("after %s: got %q, want %q", before, got, want)
		}
		if got, err := do("GET", key).ToString(); got != "1" {
			t.Errorf("after %s: GET %s in database 0: got %q, %v, want 1", before, key, got, err)
		}
	}
}

// TestRedisServerErrors: each error comes from a real server in that state.
func TestRedisServerErrors(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, "busy-reply-threshold 100")
	do := redisClient(t, s.Addr)
	a := newRedis(t)
	p := redisParamsOf(s.Addr)
	must(t, a, firingOf(p, "command", "SET text x; RPUSH list a"))

	var scripts sync.WaitGroup
	for _, row := range []struct {
		why           string
		before, after []string // commands of an operator
		command       string
		retryable     bool
		texts         []string
	}{
		{"wrong type", nil, nil, "INCR list", false, []string{"redis " + s.Addr + ": INCR: WRONGTYPE"}},
		{"not a number", nil, nil, "INCR text", false, []string{"not an integer"}},
		{"syntax", nil, nil, "SET a b c d", false, []string{"SET: syntax error"}},
		{"unknown command", nil, nil, "NOSUCH a b", false, []string{"unknown command"}},
		{"the first of two errors, the rest was sent", nil, nil, "SET first 1; INCR list; LPUSH text y; SET last 1", false, []string{"INCR (command 2 of 4): WRONGTYPE"}},
		{"inside a transaction", nil, nil, "MULTI; INCR list; EXEC", false, []string{"EXEC (command 3 of 3): WRONGTYPE"}},
		{"a transaction that is not accepted", nil, nil, "MULTI; NOSUCH; EXEC", false, []string{"unknown command"}},
		{"a script's own error", nil, nil, `EVAL "return redis.error_reply('MY own')" 0`, false, []string{"MY own"}},
		{"no such database", nil, nil, "", false, []string{"out of range"}},
		{"out of memory", []string{"CONFIG SET maxmemory 1"}, []string{"CONFIG SET maxmemory 0"}, "SET a 1", true, []string{"OOM"}},
		{"too few replicas", []string{"CONFIG SET min-replicas-to-write 1"}, []string{"CONFIG SET min-replicas-to-write 0"}, "SET a 1", true, []string{"NOREPLICAS"}},
		{"a replica", []string{"REPLICAOF 127.0.0.1 1"}, []string{"REPLICAOF NO ONE"}, "SET a 1", true, []string{"READONLY"}},
		{"a replica without its master", []string{"REPLICAOF 127.0.0.1 1", "CONFIG SET replica-serve-stale-data no"}, []string{"REPLICAOF NO ONE"}, "GET text", true, []string{"MASTERDOWN"}},
		{"too many clients", []string{"CONFIG SET maxclients 1"}, []string{"CONFIG SET maxclients 1000"}, "GET text", true, []string{"max number of clients"}},
	} {
		for _, command := range row.before {
			if err := do(strings.Fields(command)...).Error(); err != nil {
				t.Fatalf("%s: %s: %v", row.why, command, err)
			}
		}
		f := firingOf(p, "command", row.command)
		if row.command == "" {
			f = firingOf(p, "command", "PING", "selected_db", "77")
		}
		fresh := a
		if row.why == "too many clients" {
			fresh = newRedis(t) // a has a connection already
		}
		_, err := attempt(t, fresh, f)
		wantFailure(t, row.why, err, row.retryable, row.texts...)
		for _, command := range row.after {
			if err := do(strings.Fields(command)...).Error(); err != nil {
				t.Fatalf("%s: %s: %v", row.why, command, err)
			}
		}
	}
	if got, err := do("GET", "last").ToString(); got != "1" {
		t.Errorf("the command behind a failed one: GET last: got %q, %v, want 1", got, err)
	}

	// A script that runs on.
	scripts.Go(func() { do("EVAL", "while true do end", "0") })
	waitFor(t, "the script to make the server busy", func() bool {
		_, err := attempt(t, a, firingOf(p, "command", "GET text"))
		if err != nil {
			wantFailure(t, "a script runs", err, true, "BUSY")
		}
		return err != nil
	})
	if _, err := attempt(t, a, firingOf(p, "command", "SCRIPT KILL")); err != nil {
		t.Errorf("SCRIPT KILL: %v", err)
	}
	scripts.Wait()

	cluster := redistest.Start(t, "cluster-enabled yes")
	_, err := attempt(t, a, firingOf(redisParamsOf(cluster.Addr), "command", "SET a 1"))
	wantFailure(t, "a cluster without slots", err, true, "CLUSTERDOWN")
}

// TestRedisRetryable has the rows that no server says on demand.
func TestRedisRetryable(t *testing.T) {
	for _, row := range []struct {
		text string
		want bool
	}{
		{"LOADING Redis is loading the dataset in memory", true},
		{"TRYAGAIN Multiple keys request during rehashing of slot", true},
		{"MISCONF Redis is configured to save RDB snapshots", true},
		{"UNBLOCKED force unblock from blocking operation", true},
		{"MOVED 866 10.0.0.1:6379", false},
		{"NOPERM this user has no permissions", false},
		{"NOAUTH Authentication required.", false},
		{"BUSYGROUP Consumer Group name already exists", false},
		{"LOADINGS of something else", false},
	} {
		if got := redisRetryable(fmt.Errorf("SET: %w", &redisError{row.text})); got != row.want {
			t.Errorf("%s: got retryable %t, want %t", row.text, got, row.want)
		}
	}
}

func TestRedisLogin(t *testing.T) {
	t.Parallel()
	const secret = "pass-w0rd-s3cret"
	s := redistest.StartTLS(t, "requirepass "+secret, "user alice on >alice-"+secret+" ~alice:* +set +select +ping")
	plain := redisParamsOf(s.Addr)
	encrypted := map[string]string{"host": "127.0.0.1", "port": strconv.Itoa(s.TLSPort), "tls": "true"}

	options := DefaultRedisOptions()
	options.TLS = s.ClientTLS(t)
	trusting := NewRedis(options)
	defer trusting.Close()
	strict := newRedis(t)

	for _, row := range []struct {
		why    string
		action *Redis
		f      *scheduler.Firing
		err    string // "" if it must succeed
		retry  bool
	}{
		{"password", strict, firingOf(plain, "password", secret, "command", "SET a 1"), "", false},
		{"password and database", strict, firingOf(plain, "password", secret, "selected_db", "2", "command", "SET a 1"), "", false},
		{"user", strict, firingOf(plain, "user", "alice", "password", "alice-"+secret, "command", "SET alice:a 1"), "", false},
		{"user and database", strict, firingOf(plain, "user", "alice", "password", "alice-"+secret, "selected_db", "2", "command", "SET alice:a 1"), "", false},
		{"tls", trusting, firingOf(encrypted, "password", secret, "command", "SET a 1"), "", false},
		{"no password", strict, firingOf(plain, "command", "SET a 1"), "NOAUTH", false},
		{"wrong password", strict, firingOf(plain, "password", secret+"-wrong", "command", "SET a 1"), "WRONGPASS", false},
		{"unknown user", strict, firingOf(plain, "user", "bob", "password", secret, "command", "SET a 1"), "WRONGPASS", false},
		{"what a user may not", strict, firingOf(plain, "user", "alice", "password", "alice-"+secret, "command", "SET b 1"), "NOPERM", false},
		{"tls with a certificate nobody trusts", strict, firingOf(encrypted, "password", secret, "command", "SET a 1"), "certificate", false},
		{"login by command, as before there was a parameter", strict, firingOf(plain, "selected_db", "2", "command", "AUTH "+secret+"; SET a 1"), "", false},
		{"user by command", strict, firingOf(plain, "command", "auth alice alice-"+secret+"; SET alice:a 1"), "", false},
		{"a password in AUTH", strict, firingOf(plain, "command", "AUTH "+secret+"-wrong"), "WRONGPASS", false},
		{"a password in an ACL rule", strict, firingOf(plain, "password", secret, "command", "ACL SETUSER carol on !"+secret), "ACL", false},
		{"a password in a command that does not exist", strict, firingOf(plain, "password", secret, "command", "NOSUCH "+secret), "unknown command", false},
		{"a password as a command", strict, firingOf(plain, "password", secret, "command", secret), "unknown command", false},
		{"a password that is read", strict, firingOf(plain, "password", secret, "command", "CONFIG GET requirepass; SET p "+secret+"; GET p"), "", false},
	} {
		out, err := attempt(t, row.action, row.f)
		wantNoSecret(t, row.why, secret, out, err)
		if row.err == "" {
			if err != nil {
				t.Errorf("%s: %v", row.why, err)
			}
			continue
		}
		wantFailure(t, row.why, err, row.retry, row.err)
	}
	for _, command := range []string{"SUBSCRIBE " + secret, "SHUTDOWN " + secret} {
		wantNoSecret(t, command, secret, "", strict.Check(map[string]string{"command": command}))
	}
}

func TestRedisEndsAtItsDeadline(t *testing.T) {
	t.Parallel()
	t.Run("a peer that never says a word", func(t *testing.T) {
		t.Parallel()
		wantEndAtDeadline(t, newRedis(t), firingOf(redisParamsOf(actionstest.StartSilent(t).Addr), "command", "PING"))
	})
	t.Run("the same, with TLS", func(t *testing.T) {
		t.Parallel()
		wantEndAtDeadline(t, newRedis(t), firingOf(redisParamsOf(actionstest.StartSilent(t).Addr), "tls", "true", "command", "PING"))
	})
	t.Run("a command that blocks", func(t *testing.T) {
		t.Parallel()
		s := redistest.Start(t)
		wantEndAtDeadline(t, newRedis(t), firingOf(redisParamsOf(s.Addr), "command", "BLPOP q 0"))
	})
	t.Run("no connection free", func(t *testing.T) {
		t.Parallel()
		s := redistest.Start(t)
		a := newRedis(t)
		p := redisParamsOf(s.Addr)
		p["max_connections"] = "1"
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { a.Execute(ctx, firingOf(p, "command", "BLPOP q 0")) })
		do := redisClient(t, s.Addr)
		waitFor(t, "BLPOP to block", func() bool {
			info, _ := do("INFO", "clients").ToString()
			return strings.Contains(info, "blocked_clients:1")
		})
		wantEndAtDeadline(t, a, firingOf(p, "command", "PING"))
		cancel()
		wg.Wait()
	})
}

// TestRedisBrokenConnections: what breaks during a command is retryable; what
// broke while it was idle is not noticed.
func TestRedisBrokenConnections(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	a := newRedis(t)
	p := redisParamsOf(s.Addr)
	age := func() {
		l, err := a.pool.Get(t.Context(), redisTarget{addr: s.Addr}, 1)
		if err != nil {
			t.Fatal(err)
		}
		if !l.Reused {
			t.Fatal("no idle connection to let grow old")
		}
		l.Conn.conn.used = time.Now().Add(-time.Minute)
		l.Release()
	}

	must(t, a, firingOf(p, "command", "SET a 1"))
	age()
	if got, want := must(t, a, firingOf(p, "command", "SET a 1")), "OK"; got != want {
		t.Errorf("an old connection that works: got %q, want %q", got, want)
	}
	age()
	s.Restart()
	if got, want := must(t, a, firingOf(p, "command", "SET a 1")), "OK"; got != want {
		t.Errorf("after a restart: got %q, want %q", got, want)
	}

	// Killed while it is waited for.
	result := make(chan error, 1)
	go func() {
		_, err := attempt(t, a, firingOf(p, "command", "SET b 1; BLPOP q 0"))
		result <- err
	}()
	do := redisClient(t, s.Addr)
	waitFor(t, "the firing to reach the server", func() bool { return do("GET", "b").Error() == nil })
	s.Kill()
	wantFailure(t, "killed", <-result, true, "no answer to SET (command 1 of 2)")
	_, err := attempt(t, a, firingOf(p, "command", "SET a 1"))
	wantFailure(t, "nobody listens", err, true, "refused")
	_, err = attempt(t, a, firingOf(map[string]string{"host": "no-such-host.invalid", "command": "PING"}))
	wantFailure(t, "no such host", err, true, "no-such-host.invalid")
}

// TestRedisMaxConnections: the first plan's max_connections bounds what a burst
// opens, and connections are used again.
func TestRedisMaxConnections(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	do := redisClient(t, s.Addr)
	received := func() int {
		info, err := do("INFO", "stats").ToString()
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(info, "total_connections_received:")
		n, err := strconv.Atoi(strings.TrimSpace(rest[:strings.IndexByte(rest, '\n')]))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	a := newRedis(t)
	p := redisParamsOf(s.Addr)
	p["max_connections"] = "2"
	before := received()
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() { must(t, a, firingOf(p, "command", "INCR n")) })
	}
	wg.Wait()
	if got, want := received()-before, 2; got > want {
		t.Errorf("connections for 50 firings at once: got %d, want at most %d", got, want)
	}
	if got, err := do("GET", "n").ToString(); got != "50" {
		t.Errorf("GET n: got %q, %v, want 50", got, err)
	}
}

func TestRedisAnswerTooLong(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	_, err := attempt(t, newRedis(t), firingOf(redisParamsOf(s.Addr), "command", "SETRANGE big 20000000 x; GET big"))
	wantFailure(t, "20 MB", err, false, "answer longer than 16 MiB")
}
