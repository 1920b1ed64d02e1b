package ledger

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Claims watches what a Redis is told (MONITOR) for claims that it accepts, and holds
// their terms against each other (I7): in a shard a term is never followed by a lesser
// one, and belongs to one lease. What it knows of the store are names of keys.
type Claims struct {
	mu       sync.Mutex
	pending  *claim // of the script that runs
	last     map[string]claim
	times    map[string][]time.Time // when claims were accepted, by shard
	accepted int
	problems []string
}

// claim is one that a leader sent.
type claim struct {
	shard string // what its keys begin with
	lease string // <term>:<replica>:<random>
	term  uint64
	at    string // as MONITOR has the time
}

// scripted is where MONITOR says that a command comes from, if from a script.
const scripted = " lua] "

// See takes a line of MONITOR. What a script does comes after it and before any other
// command of a client's.
func (c *Claims) See(line string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, command, ok := strings.Cut(line, "] ")
	if !ok {
		return
	}
	at, _, _ = strings.Cut(at, " ")
	if !strings.Contains(line[:min(len(line), 60)], scripted) {
		c.pending = nil
		if strings.HasPrefix(command, `"EVALSHA" `) || strings.HasPrefix(command, `"EVAL" `) {
			c.pending = readClaim(at, command)
		}
		return
	}
	// Accepted is a claim that counts firings.
	if c.pending == nil || !strings.HasPrefix(command, `"HINCRBY" "`+c.pending.shard+`backlog" ":total" `) {
		return
	}
	now := *c.pending
	if c.last == nil {
		c.last = make(map[string]claim)
	}
	if c.times == nil {
		c.times = make(map[string][]time.Time)
	}
	c.times[now.shard] = append(c.times[now.shard], now.time())
	c.accepted++
	if before, ok := c.last[now.shard]; ok && (now.term < before.term || now.term == before.term && now.lease != before.lease) {
		c.problems = append(c.problems, fmt.Sprintf("%sclaimed under %s at %s after a claim under %s at %s", now.shard, now.lease, now.at, before.lease, before.at))
	}
	c.last[now.shard] = now
}

// time is when it came, by the clock of Redis.
func (c *claim) time() time.Time {
	seconds, micros, _ := strings.Cut(c.at, ".")
	s, _ := strconv.ParseInt(seconds, 10, 64)
	us, _ := strconv.ParseInt(micros, 10, 64)
	return time.Unix(s, us*1000)
}

// readClaim is the claim that a call of a script is, or nil: no other script has these
// keys in these places; of the two that claim, one has edits as its tenth, the other as its
// sixth.
func readClaim(at, command string) *claim {
	args := words(command, 3)
	if len(args) < 3 {
		return nil
	}
	keys, err := strconv.Atoi(args[2])
	if err != nil || keys < 10 || keys > 1000 {
		return nil
	}
	args = words(command, 3+keys+1)
	if len(args) < 3+keys+1 {
		return nil
	}
	shard, ok := strings.CutSuffix(args[3], "leader")
	if !ok || args[3+2] != shard+"index" || args[3+9] != shard+"edits" && (args[3+5] != shard+"edits" || args[3+3] != shard+"backlog") {
		return nil
	}
	c := &claim{shard: shard, lease: args[3+keys], at: at}
	term, _, _ := strings.Cut(c.lease, ":")
	c.term, err = strconv.ParseUint(term, 10, 64)
	if err != nil {
		return nil
	}
	return c
}

// words are the first n words of a command as MONITOR has it, each in quotes.
func words(command string, n int) (all []string) {
	for len(all) < n {
		quoted, err := strconv.QuotedPrefix(command)
		if err != nil {
			return all
		}
		word, err := strconv.Unquote(quoted)
		if err != nil {
			return all
		}
		all = append(all, word)
		command = strings.TrimPrefix(command[len(quoted):], " ")
	}
	return all
}

// Forget allows terms to go back once: the store lost what it was told last.
func (c *Claims) Forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = nil
}

// Next is how long after at the last of the shards had a claim accepted again; of those
// that had none any more, to the end, it knows nothing. shards says how many had.
func (c *Claims) Next(at time.Time) (longest time.Duration, shards int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, times := range c.times {
		if i := slices.IndexFunc(times, at.Before); i >= 0 {
			longest = max(longest, times[i].Sub(at))
			shards++
		}
	}
	return longest, shards
}

// Found returns how many accepted claims were seen, and the evidence against them.
func (c *Claims) Found() (accepted int, problems []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.accepted, slices.Clone(c.problems)
}
