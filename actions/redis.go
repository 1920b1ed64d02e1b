package actions

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/snower/forsun/scheduler"
	"github.com/snower/forsun/scheduler/line"
)

// redisParams are the parameters of a redis plan.
//
//	host             default 127.0.0.1
//	port             1 to 65535, default 6379
//	selected_db      0 and up, default 0
//	user             ACL user, default none (the server's default user)
//	password         default none
//	tls              true or false, default false
//	max_connections  1 to 1024; the value of the first plan to use a target counts
//	command          required: commands separated by ";", words by blanks; if the
//	                 first is AUTH it does the work of user and password
type redisParams struct {
	target         redisTarget
	maxConnections int
	commands       [][]string
}

// redisTarget is what a connection can be used for again.
type redisTarget struct {
	addr           string
	db             int
	user, password string
	tls            bool
}

// RedisOptions configure the redis action.
type RedisOptions struct {
	ServerOptions
	TLS *tls.Config // for plans with tls=true: trusted roots, client certificate; nil: the system's roots
}

// DefaultRedisOptions returns the options of a deployment that sets none.
func DefaultRedisOptions() RedisOptions {
	return RedisOptions{ServerOptions: defaultServerOptions(16)}
}

// Validate says which options are out of range, all of them joined.
func (o RedisOptions) Validate() error { return o.ServerOptions.validate("redis") }

// Redis is the action that sends commands to a Redis server.
//
// The commands of a firing go out together, in order, on one connection that no
// other firing uses meanwhile, so MULTI … EXEC work as in redis-cli. They are
// not a transaction by themselves: when one fails the later ones have been sent
// too. The attempt fails with the first error any of them was answered with.
//
// At least once: if the connection breaks, or a retryable error comes from one
// of several commands, all of them are sent again, under the same firing id.
// Commands that must not take effect twice can make use of it:
//
//	SET done:${firing.id} 1 NX EX 86400
//	XADD s * firing ${firing.id}
//
// Redis Cluster is not followed: a MOVED answer is an error that names the node.
type Redis struct {
	opts RedisOptions
	pool *pool[redisTarget, *redisConn]
}

var _ scheduler.Action = (*Redis)(nil)

// NewRedis returns the redis action. opts must be valid. Close it.
func NewRedis(opts RedisOptions) *Redis {
	a := &Redis{opts: opts}
	a.pool = newPool(poolOptions[redisTarget, *redisConn]{Open: a.dial, Idle: opts.IdleTime, MaxIdle: opts.MaxIdle})
	return a
}

func (a *Redis) parse(params map[string]string) (redisParams, error) {
	r := read(params)
	p := redisParams{
		target: redisTarget{
			addr:     r.address(6379),
			db:       r.integer("selected_db", 0, 0, 1<<31-1),
			user:     r.text("user", ""),
			password: r.text("password", ""),
			tls:      r.choice("tls", "false", "true", "false") == "true",
		},
		maxConnections: r.maxConnections(a.opts.MaxConnections),
		commands:       line.Words(r.need("command")),
	}
	a.opts.Egress.refuse(r, "host", p.target.addr)
	if err := r.err(); err != nil {
		return p, err
	}
	if len(p.commands) == 0 {
		return p, commandError("", "one or more Redis commands, e.g. SET key value")
	}
	if first := p.commands[0]; strings.EqualFold(first[0], "AUTH") && p.target.password == "" {
		// How plans log in that are older than the parameter password. It has to
		// happen before the connection is used, to choose the database for one.
		switch len(first) {
		case 2:
			p.target.password = first[1]
		case 3:
			p.target.user, p.target.password = first[1], first[2]
		}
	}
	for _, words := range p.commands {
		name := commandName(words)
		if name == "" {
			return p, commandError("", "commands that begin with their name, e.g. SET key value")
		}
		if why := neverAnswered(name, words); why != "" {
			return p, commandError(name, "commands that end with an answer; "+why)
		}
	}
	return p, nil
}

// commandError refuses the parameter command; of its value it shows the name of
// the command only.
func commandError(name, allowed string) error {
	return &scheduler.FieldError{Kind: scheduler.ErrParams, Field: "params.command", Value: name, Allowed: allowed}
}

// Check implements scheduler.Action.
func (a *Redis) Check(params map[string]string) error {
	_, err := a.parse(params)
	return err
}

// Target implements scheduler.Action.
func (a *Redis) Target(params map[string]string) string { return read(params).address(6379) }

// Timeout implements scheduler.Action.
func (a *Redis) Timeout(map[string]string) time.Duration { return a.opts.Timeout }

// Close closes the connections; those in use, when their firings end.
func (a *Redis) Close() error { return a.pool.Close() }

// Execute implements scheduler.Action. The output has a line per command: of
// strings and lists only how long they are, since they may hold anything.
func (a *Redis) Execute(ctx context.Context, f *scheduler.Firing) (scheduler.Output, error) {
	p, err := a.parse(f.Plan.Params)
	if err != nil {
		return nil, err
	}
	fail := func(err error, retryable bool) error {
		return attemptError(ctx, "redis", p.target.addr, f.Plan.Params, err, retryable)
	}
	expand, replace := expandSecrets(ctx), tokens(f)
	p.target.user, p.target.password = expand(p.target.user), expand(p.target.password) // of AUTH
	l, err := lend(ctx, a.pool, p.target, p.maxConnections)
	if err != nil {
		return nil, fail(err, redisRetryable(err))
	}
	release := l.Conn.conn.bind(ctx)
	results := l.Conn.client.DoMulti(ctx, l.Conn.build(p.commands, func(word string) string { return expand(replace(word)) })...)
	reusable := release() && !changesConnection(p.commands)

	var out scheduler.Output
	for i, result := range results {
		if broken := result.NonRedisError(); broken != nil {
			reusable = false
			broken = cause(ctx, broken)
			// Which commands were answered before is not known, so neither is
			// an earlier one's error.
			err = fail(fmt.Errorf("no answer to %s: %w", describeCommand(p.commands, i), broken), redisRetryable(broken))
			break
		}
		message, _ := result.ToMessage() // its error is in message too
		if failed := answerError(p.commands, i, message); failed != nil && err == nil {
			err = fail(fmt.Errorf("%s: %w", describeCommand(p.commands, i), failed), redisRetryable(failed))
		}
		out = appendAnswer(out, message)
	}
	if reusable {
		l.Release()
	} else {
		l.Discard()
	}
	return out, err
}

// redisConn is a rueidis client that has one connection: rueidis does login,
// protocol and replies, the pool decides who uses it.
type redisConn struct {
	client rueidis.Client
	conn   *firingConn // set by the client's first and only dial
}

// errReconnect: a client of ours has one connection in its life.
var errReconnect = errors.New("connection is gone")

func (a *Redis) dial(ctx context.Context, target redisTarget) (*redisConn, error) {
	ctx, cancel := context.WithTimeout(ctx, a.opts.ConnectTimeout)
	defer cancel()
	c := &redisConn{}
	release := func() bool { return true }
	var dialed atomic.Bool
	client, err := rueidis.NewClient(rueidis.ClientOption{
		InitAddress: []string{target.addr},
		Username:    target.user,
		Password:    target.password,
		SelectDB:    target.db,
		DialCtxFn: func(context.Context, string, *net.Dialer, *tls.Config) (net.Conn, error) {
			if dialed.Swap(true) {
				return nil, errReconnect
			}
			conn, err := dialFiring(ctx, a.opts.Egress, target.addr)
			if err != nil {
				return nil, err
			}
			c.conn, release = conn, conn.bind(ctx)
			if !target.tls {
				return conn, nil
			}
			t := tls.Client(conn, a.tlsConfig(target))
			return t, t.HandshakeContext(ctx)
		},
		Dialer:            net.Dialer{Timeout: a.opts.ConnectTimeout}, // rueidis' own bound of the login
		ForceSingleClient: true,
		AlwaysRESP2:       true, // answers as redis-cli shows them
		DisableRetry:      true, // the firing's retries are the engine's
		DisableCache:      true,
		ClientSetInfo:     rueidis.DisableClientSetInfo, // unknown before Redis 7.2
		PipelineMultiplex: -1,                           // one connection,
		BlockingPipeline:  -1,                           // for long pipelines too
		// No timer of rueidis' own: the firing's context bounds every command,
		// and a blocking one may wait that long.
		ConnWriteTimeout: -1,
		// 64 slots and 16 KiB buffers: about 58 KiB a connection.
		RingScaleEachConn:   6,
		ReadBufferEachConn:  16 << 10,
		WriteBufferEachConn: 16 << 10,
	})
	c.client = client
	if open := release(); err == nil && open {
		return c, nil
	}
	c.Close()
	return nil, fmt.Errorf("connect and log in: %w", cause(ctx, err))
}

func (a *Redis) tlsConfig(target redisTarget) *tls.Config {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if a.opts.TLS != nil {
		cfg = a.opts.TLS.Clone()
	}
	if cfg.ServerName == "" {
		cfg.ServerName, _, _ = net.SplitHostPort(target.addr)
	}
	return cfg
}

// usable implements serverConn.
func (c *redisConn) usable(ctx context.Context) bool {
	if c.conn.fresh() {
		return true
	}
	release := c.conn.bind(ctx)
	err := c.client.Do(ctx, c.client.B().Ping().Build()).NonRedisError()
	return release() && err == nil // an error that the server answers with is a sign of life
}

// Close ends the connection without waiting for the peer.
func (c *redisConn) Close() error {
	if c.conn != nil {
		c.conn.Close() // first: rueidis would wait up to 1 s for a peer that hangs
	}
	if c.client != nil {
		c.client.Close()
	}
	return nil
}

// build makes commands of words, with expand applied to every argument.
func (c *redisConn) build(commands [][]string, expand func(string) string) []rueidis.Completed {
	built := make([]rueidis.Completed, len(commands))
	for i, words := range commands {
		args := make([]string, len(words)-1)
		for j, w := range words[1:] {
			args[j] = expand(w)
		}
		built[i] = c.client.B().Arbitrary(words[0]).Args(args...).Build()
	}
	return built
}

// commandName returns the name of a command in upper case, "" if it has none.
func commandName(words []string) string {
	if words[0] == "" {
		return ""
	}
	return scheduler.Shorten(strings.ToUpper(words[0]), 32)
}

// describeCommand names the command at i without its arguments.
func describeCommand(commands [][]string, i int) string {
	if len(commands) == 1 {
		return commandName(commands[i])
	}
	return fmt.Sprintf("%s (command %d of %d)", commandName(commands[i]), i+1, len(commands))
}

// neverAnswered says why a command cannot be a firing's, "" if it can: it would
// wait for an answer that never comes.
func neverAnswered(name string, words []string) string {
	switch name {
	case "MONITOR", "SYNC", "PSYNC", "REPLCONF":
		return "this one turns the connection into a stream without end"
	case "SHUTDOWN":
		return "this one is not answered, and would be repeated"
	case "CLIENT":
		if len(words) > 1 && strings.EqualFold(words[1], "REPLY") {
			return "CLIENT REPLY turns answers off"
		}
	}
	if strings.HasSuffix(strings.ToUpper(words[0]), "SUBSCRIBE") { // P…, S…, UN…
		return "this one turns the connection into a stream without end"
	}
	return ""
}

// changesConnection says whether one of the commands leaves the connection in
// another state than it was in: then no other firing may get it.
func changesConnection(commands [][]string) bool {
	for _, words := range commands {
		switch strings.ToUpper(words[0]) {
		case "SELECT", "AUTH", "HELLO", "RESET", "QUIT", "CLIENT", "MULTI", "WATCH", "SCRIPT", "READONLY", "READWRITE", "ASKING":
			return true
		}
	}
	return false
}

// answerError returns the error in the answer to a command, if it is one: an
// error, an error among the answers of EXEC, or the nil with which EXEC says
// that it did nothing.
func answerError(commands [][]string, i int, m rueidis.RedisMessage) error {
	exec := strings.EqualFold(commands[i][0], "EXEC")
	if m.IsNil() {
		if exec {
			return errNotExecuted
		}
		return nil
	}
	quoted := commands[i : i+1] // whose arguments the error may quote
	if exec {
		quoted = commands[:i]
	}
	if err := m.Error(); err != nil {
		return withoutArguments(quoted, err)
	}
	if m.IsArray() {
		answers, _ := m.ToArray()
		for _, answer := range answers {
			if err := answer.Error(); err != nil && !answer.IsNil() {
				return withoutArguments(quoted, err)
			}
		}
	}
	return nil
}

// errNotExecuted: a key under WATCH was changed before EXEC.
var errNotExecuted = errors.New("transaction not executed: a watched key was changed")

// redisError is what a server answered, without what it repeated of the command.
type redisError struct{ text string }

func (e *redisError) Error() string { return e.text }

// withoutArguments takes from a server's error what it quotes of the arguments
// of commands: they are data, and of some commands secrets.
func withoutArguments(commands [][]string, err error) error {
	e := &redisError{text: err.Error()}
	code, _, _ := strings.Cut(e.text, " ")
	// "ERR unknown command 'x', with args beginning with: 'a' 'b'"
	e.text, _, _ = strings.Cut(e.text, ", with args beginning with:")
	for _, words := range commands {
		switch strings.ToUpper(words[0]) {
		case "AUTH", "HELLO", "ACL", "CONFIG", "MIGRATE":
			e.text = code + " (the rest of the message may repeat a secret and is left out)"
		}
	}
	return e
}

// redisRetryable is the table of what is worth another attempt: whatever may be
// over by then. Everything else a server answers with (syntax, WRONGTYPE,
// NOAUTH, WRONGPASS, NOPERM, MOVED, a script's error) would be answered again.
func redisRetryable(err error) bool {
	text := ""
	if answered := (*redisError)(nil); errors.As(err, &answered) {
		text = answered.text
	} else if atLogin := (*rueidis.RedisError)(nil); errors.As(err, &atLogin) {
		text = atLogin.Error()
	} else {
		return errors.Is(err, errNotExecuted) || errors.Is(err, errReconnect) || errors.Is(err, rueidis.ErrClosing) || transportError(err)
	}
	code, _, _ := strings.Cut(text, " ")
	switch code {
	case "LOADING", // starting
		"BUSY",        // a script runs
		"READONLY",    // a replica that may be promoted, or a demoted master
		"MASTERDOWN",  // a replica that lost its master
		"OOM",         // no memory left
		"TRYAGAIN",    // a slot is being moved
		"CLUSTERDOWN", // slots without a node
		"NOREPLICAS",  // too few replicas for a write
		"MISCONF",     // it cannot save to its disk
		"UNBLOCKED":   // a failover while blocked
		return true
	}
	return strings.HasPrefix(text, "max number of clients reached")
}

// appendAnswer adds a line that shows an answer: numbers and the usual states as
// they are, of anything else its kind and length.
func appendAnswer(out scheduler.Output, m rueidis.RedisMessage) scheduler.Output {
	if len(out) > scheduler.MaxOutput {
		return out
	}
	if len(out) > 0 {
		out = append(out, '\n')
	}
	switch {
	case m.IsNil():
		return append(out, "(nil)"...)
	case m.Error() != nil:
		return append(out, "(error)"...)
	case m.IsInt64():
		n, _ := m.AsInt64()
		return fmt.Appendf(out, "(integer) %d", n)
	case m.IsArray():
		answers, _ := m.ToArray()
		return fmt.Appendf(out, "(%d elements)", len(answers))
	default:
		s, _ := m.ToString()
		switch s {
		case "OK", "QUEUED", "PONG":
			return append(out, s...)
		}
		return fmt.Appendf(out, "(%d bytes)", len(s))
	}
}
