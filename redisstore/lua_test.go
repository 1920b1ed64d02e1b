package redisstore

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/snower/forsun/redisstore/redistest"
	"github.com/snower/forsun/scheduler"
	"github.com/snower/forsun/scheduler/storetest"
)

// luaHeader is what a script says of itself: what it is for, what it is given, what it
// returns, what it costs.
type luaHeader struct {
	purpose, keys, args, returns string
	body                         string
}

var (
	luaFlags = regexp.MustCompile(`^#!lua( flags=(allow-oom|no-writes))?$`)
	luaPart  = regexp.MustCompile(`^(KEYS|ARGV|Returns) +`)
	// luaCall is a call of Redis with what it names as its key, which every command that
	// the scripts use has first.
	luaCall = regexp.MustCompile(`(?:redis\.p?call|\bcall)\('([A-Z]+)'(?:, ([^,)]+(?:\([^)]*\))?))?`)
)

func readLuaHeader(text string) (h luaHeader, err error) {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if len(lines) > 100 {
		return h, fmt.Errorf("%d lines, at most 100", len(lines))
	}
	if !luaFlags.MatchString(lines[0]) {
		return h, fmt.Errorf("its first line is %q, not its flags", lines[0])
	}
	to := &h.purpose
	i := 1
	for ; i < len(lines) && strings.HasPrefix(lines[i], "-- "); i++ {
		line := strings.TrimSpace(lines[i][3:])
		if part := luaPart.FindString(line); part != "" {
			to = map[string]*string{"KEYS": &h.keys, "ARGV": &h.args, "Returns": &h.returns}[strings.TrimSpace(part)]
			line = line[len(part):]
		}
		*to += line + " "
	}
	h.body = strings.Join(lines[i:], "\n")
	return h, nil
}

// TestScriptsAreShort, and touch nothing that they were not given. (What a header says:
// TestScriptHeaders.)
func TestScriptsAreShort(t *testing.T) {
	t.Parallel()
	files, err := fs.Glob(luaFiles, "lua/*.lua")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d scripts, %v", len(files), err)
	}
	for _, file := range files {
		text, err := luaFiles.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		h, err := readLuaHeader(string(text))
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		for _, call := range luaCall.FindAllStringSubmatch(h.body, -1) {
			if command, key := call[1], call[2]; command != "TIME" && command != "PUBLISH" && (strings.ContainsAny(key, `'"`) || strings.Contains(key, "..") || strings.Contains(key, "ARGV")) {
				t.Errorf("%s: %s of %s, which is no declared key", file, command, key)
			}
		}
	}
}

// places are the keys that a header names by number, in the order of their numbers: "1
// leader  2 schedule:<action>". What comes after "then" or "…" has none.
func (h luaHeader) places() []*regexp.Regexp {
	said, _, _ := strings.Cut(h.keys, "then")
	said, _, _ = strings.Cut(said, "…")
	var all []*regexp.Regexp
	for _, found := range regexp.MustCompile(`(\d+) ([a-z:<>]+)(?: or ([a-z:<>]+))?`).FindAllStringSubmatch(said, -1) {
		if found[1] != strconv.Itoa(len(all)+1) {
			break
		}
		name := func(said string) string { return regexp.MustCompile(`<[a-z]+>`).ReplaceAllString(said, ".+") }
		pattern := "(^|:)" + name(found[2]) + "$"
		if found[3] != "" {
			pattern += "|(^|:)" + name(found[3]) + "$"
		}
		all = append(all, regexp.MustCompile(pattern))
	}
	return all
}

// TestScriptsGetTheKeysTheyDeclare watches the server while everything is done: each
// run has at every place the key that the script's header says. Every script runs.
func TestScriptsGetTheKeysTheyDeclare(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	b := newBench(t, server.Addr)
	conn, err := redistest.Dial(server.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Do("MONITOR"); err != nil {
		t.Fatal(err)
	}
	b.everything()

	scripts := make(map[string]luaHeader) // by hash
	names := make(map[string]string)
	files, _ := fs.Glob(luaFiles, "lua/*.lua")
	for _, file := range files {
		s := loadScript(strings.TrimSuffix(strings.TrimPrefix(file, "lua/"), ".lua"))
		h, err := readLuaHeader(s.text)
		if err != nil {
			t.Fatal(err)
		}
		scripts[s.sha], names[s.sha] = h, s.name
	}
	b.redis("ECHO", "the end")
	seen := make(map[string]bool)
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		words := monitored(lines.Text())
		if len(words) == 2 && words[1] == "the end" {
			break
		}
		if len(words) < 3 || !strings.EqualFold(words[0], "EVALSHA") {
			continue
		}
		h, ok := scripts[words[1]]
		if !ok {
			continue // redsync's
		}
		n, err := strconv.Atoi(words[2])
		if err != nil || len(words) < 3+n {
			t.Fatalf("monitored: %q", words)
		}
		keys := words[3 : 3+n]
		seen[names[words[1]]] = true
		for i, want := range h.places() {
			if i >= len(keys) || !want.MatchString(keys[i]) {
				t.Errorf("%s: key %d of %q is not %v", names[words[1]], i+1, keys, want)
			}
		}
	}
	for _, name := range names {
		if !seen[name] {
			t.Errorf("%s did not run", name)
		}
	}
}

// monitored reads the words of a line of MONITOR: +1764192000.1 [0 1.2.3.4:5] "get" "k"
func monitored(line string) (words []string) {
	_, rest, _ := strings.Cut(line, "] ")
	for rest != "" {
		quoted, err := strconv.QuotedPrefix(rest)
		if err != nil {
			return words
		}
		word, err := strconv.Unquote(quoted)
		if err != nil {
			return words
		}
		words = append(words, word)
		rest = strings.TrimPrefix(rest[len(quoted):], " ")
	}
	return words
}

// everything runs every script once at least.
func (b *bench) everything() {
	b.Helper()
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	peer := openStore(b.T, b.s.opts) // sets the layout, departs later
	other, err := peer.Announce(b.ctx, scheduler.Replica{ID: "other", Started: time.Now()})
	must(err)
	if len(other) != 1 {
		b.Errorf("replicas: %v", other)
	}
	must(peer.Close())
	adding := b.s.opts // to what is stored only what others may ignore
	adding.schemas = &schemaRange{oldest: 2, newest: 3, reader: 2}
	peer = openStore(b.T, adding)
	for range 2 {
		_, err = peer.Announce(b.ctx, scheduler.Replica{ID: "other", Started: time.Now()}) // raise
		must(err)
	}
	if s := peer.effect(); s != (inEffect{2, 2}) {
		b.Errorf("before it is read again the schema is %v", s)
	}
	_, err = peer.Announce(b.ctx, scheduler.Replica{ID: "other", Started: time.Now()})
	must(err)
	if s := peer.effect(); s != (inEffect{3, 2}) {
		b.Errorf("raised, the schema is %v", s)
	}
	must(peer.Close())
	_, err = b.s.Replicas(b.ctx)
	must(err)
	_, err = b.s.Now(b.ctx)
	must(err)
	must(b.s.Beat(b.ctx, "w"))

	due := time.Now().Unix() - 5
	b.put(storetest.NewPlan("page1", storetest.WithDue(due)), storetest.NewPlan("page2", storetest.WithDue(due)))
	_, err = b.s.Due(b.ctx, scheduler.DueQuery{Action: action, To: due, Limit: 1})
	must(err)
	_, err = b.s.dueKeysBehind(b.ctx, b.k, action, due, place{"page1", due}, 1) // due
	must(err)
	b.redis("DEL", b.k.plan("page1"))
	b.due(action) // mend
	b.checked()   // audit
	b.redis("ZADD", b.k.schedule(action), "1", "nobody")
	must(b.s.Check(b.ctx, func(scheduler.Finding) {})) // look
	b.due(action)

	p := b.packer()
	p.opts.after = -time.Hour
	b.put(storetest.NewPlan("packed"))
	b.redis("RPUSH", b.k.unpack, "packed")
	must(errors.Join(p.pack(b.ctx), p.unpack(b.ctx)))

	again := overdue(2)
	b.put(again...)
	handed := b.handed("w2", again...) // new, put, handout
	must(errors.Join(b.s.Put(b.ctx, again)...))
	_, err = b.finish("w2", ends(handed[0], scheduler.Retry, time.Now()), ends(handed[1], scheduler.Done, time.Now())) // unbundle
	must(err)

	waiting := overdue(10)
	b.put(waiting...)
	b.due(action)
	_, err = b.s.Claim(b.ctx, scheduler.ClaimBatch{Lease: b.lease, Action: action, Cutoff: time.Now().Unix(), Claims: claimsOf(waiting)})
	must(err)
	alone, err := b.take("w3", 1) // spread
	must(err)
	_, err = b.finish("w3", done(alone)...)
	must(err)
	rest, err := b.take("w3", 100)
	must(err)
	_, err = b.finish("w3", done(rest)...)
	must(err)

	fs := b.running("w", "done", "retry", "removed", "buried", "rescued", "bad")
	at := time.Now().Add(-time.Second)
	_, err = b.finish("w", ends(fs[0], scheduler.Done, at))
	must(err)
	_, err = b.finish("w", ends(fs[1], scheduler.Retry, at), ends(fs[2], scheduler.Retry, at.Add(time.Hour)), ends(fs[3], scheduler.Bury, at))
	must(err)
	_, err = b.s.Remove(b.ctx, "removed") // collect
	must(err)
	dead, _, err := b.s.DeadLetters(b.ctx, scheduler.JournalQuery{Limit: 10})
	must(err)
	_, err = b.s.Redrive(b.ctx, []string{dead[0].ID})
	must(err)
	b.settle() // promote, settle, recount
	b.redis("DEL", b.k.firing(string(fs[5].ID())))
	_, err = b.finish("w", scheduler.Finish{Firing: fs[5], Verdict: scheduler.Return})
	must(err)
	_, err = b.take("v", 10) // quarantine
	must(err)
	for _, w := range []string{"v", "w"} {
		beats := uint64(0)
		if w == "w" {
			beats = 1
		}
		for range 2 { // the second time it is forgotten
			_, err = b.s.Rescue(b.ctx, b.lease, scheduler.Holder{Worker: w, Beats: beats}, 5, 100)
			must(err)
		}
	}
	left, err := b.s.Holders(b.ctx, 0)
	must(err)
	for _, h := range left {
		if held, err := b.s.Held(b.ctx, 0, h.Worker, 100); err != nil || len(held) > 0 {
			b.Errorf("%s holds %v, %v after its rescue, want nothing", h.Worker, held, err)
		}
	}
	must(b.s.Resign(b.ctx, b.lease))
	b.lease, err = b.s.Campaign(b.ctx, 0, "leader")
	must(err)
	// Only a clock that is set back makes a lease stuck: see TestAStuckLeaseIsTakenAway.
	_, err = b.s.run(b.ctx, invocation{script: scriptUnseat, keys: []string{b.k.leader}, args: []string{"nobody's", "0"}})
	must(err)
}
