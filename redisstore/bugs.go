//go:build bugs

package redisstore

import (
	"context"
	"strings"

	"github.com/snower/forsun/scheduler"
)

// edit puts a defect into a script.
type edit struct{ bug, script, was, is string }

// edits are the defects that are in scripts: see scripts/chaos/BUGS.md.
func edits() []edit {
	const (
		rounded = "math.floor(now / 1000 + 0.5)"
		exact   = "math.floor(now / 1000)"
	)
	return []edit{
		// Whoever claims is not asked for its lease.
		{"no-fence", "claim", "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return {1} end", ""},
		{"no-fence", "handout", "if call('GET', KEYS[1]) ~= ARGV[1] then return {1} end", ""},
		// The claim takes plans out of the schedule; what is queued is put aside, and
		// secondStep puts it into the queue. (Claim hands nothing out then.)
		{"two-steps", "claim", "math.min(tonumber(ARGV[13]), #queue)", "0"},
		{"two-steps", "claim", "call('RPUSH', KEYS[4],", "call('RPUSH', KEYS[4] .. ':' .. ARGV[12],"},
		// A second begins half a second early: see Engine.now, too.
		{"early", "claim", exact, rounded},
		{"early", "handout", exact, rounded},
		// The queue keeps the newest firings only, as a stream with MAXLEN does.
		{"trimmed", "claim", "call('PUBLISH', ARGV[9], ARGV[10])", "call('LTRIM', KEYS[4], -100, -1) call('PUBLISH', ARGV[9], ARGV[10])"},
		{"trimmed", "handout", "call('PUBLISH', ARGV[12], ARGV[13])", "call('LTRIM', KEYS[8], -1, -1) call('PUBLISH', ARGV[12], ARGV[13])"},
		// A worker that is new sees only what is queued after it came, as a consumer
		// group does that is created from $.
		{"from-now", "beat", "return {0,", `
			if (redis.call('HGET', KEYS[1], ARGV[1]) or '0') == '0' then
				local shard = string.match(KEYS[1], '^(.*):workers$')
				for _, action in ipairs(redis.call('SMEMBERS', shard .. ':actions')) do redis.call('DEL', shard .. ':firings:' .. action, shard .. ':bundles:' .. action) end
			end
			return {0,`},
		// What a dead worker held of a bundle is dropped with it.
		{"lost-bundle", "unbundle", "if #held > 0 then", "if false then"},
	}
}

// seeded returns a script with the defect that is seeded.
func seeded(name, text string) string {
	for _, e := range edits() {
		if e.script != name || !scheduler.Bug(e.bug) {
			continue
		}
		if strings.Count(text, e.was) != 1 {
			panic("the bug " + e.bug + " does not fit into " + name + ".lua any more")
		}
		text = strings.Replace(text, e.was, e.is, 1)
	}
	return text
}

const enqueueLater = `
for _ = 1, redis.call('LLEN', KEYS[1]) do redis.call('LMOVE', KEYS[1], KEYS[2], 'LEFT', 'RIGHT') end
return redis.call('PUBLISH', ARGV[1], ARGV[2])`

// secondStep queues what a claim put aside.
func (s *Store) secondStep(ctx context.Context, c *claiming, take string) error {
	if !scheduler.Bug("two-steps") {
		return nil
	}
	c.handOut = 0
	queue := c.k.firings(c.batch.Action)
	return s.client.Do(ctx, s.client.B().Eval().Script(enqueueLater).Numkeys(2).Key(queue+":"+take, queue).Arg(s.channel, c.k.work(c.batch.Action)).Build()).Error()
}
