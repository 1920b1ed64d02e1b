package redisstore

import (
	"context"
	"crypto/sha1"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/redis/rueidis"
)

//go:embed lua/*.lua
var luaFiles embed.FS

// script is a Lua file of lua/: its header says what it does, takes and returns.
type script struct {
	name string
	text string
	sha  string
}

// loadScript reads an embedded script; a missing one is a mistake of this package.
func loadScript(name string) *script {
	text, err := luaFiles.ReadFile("lua/" + name + ".lua")
	if err != nil {
		panic(err)
	}
	s := seeded(name, string(text))
	sum := sha1.Sum([]byte(s))
	return &script{name: name, text: s, sha: hex.EncodeToString(sum[:])}
}

// invocation is one run of a script. All keys share a shard's tag.
type invocation struct {
	script *script
	keys   []string
	args   []string
	before *staged // nil: nothing
}

// staged is a string that is stored before a script runs, which takes it over: what is
// long never comes through Lua, which would copy, hash and collect it. If the script does
// not run, or does not want it, it is gone after stagedFor.
type staged struct{ key, value string }

const stagedFor = time.Minute

func (b *staged) command(c rueidis.Client) rueidis.Completed {
	return c.B().Set().Key(b.key).Value(b.value).Ex(stagedFor).Build()
}

func (i invocation) evalsha(c rueidis.Client) rueidis.Completed {
	return c.B().Evalsha().Sha1(i.script.sha).Numkeys(int64(len(i.keys))).Key(i.keys...).Arg(i.args...).Build()
}

func (i invocation) eval(c rueidis.Client) rueidis.Completed {
	return c.B().Eval().Script(i.script.text).Numkeys(int64(len(i.keys))).Key(i.keys...).Arg(i.args...).Build()
}

// reply is what a script returned: an array whose first element is a status, 0 if
// all went well, and what follows it.
type reply struct {
	status int64
	values []rueidis.RedisMessage
}

// run runs one script. An error means that it may or may not have run.
func (s *Store) run(ctx context.Context, i invocation) (reply, error) {
	var result rueidis.RedisResult
	if i.before != nil {
		result = s.client.DoMulti(ctx, i.before.command(s.client), i.evalsha(s.client))[1]
	} else {
		result = s.client.Do(ctx, i.evalsha(s.client))
	}
	if isNoScript(result.Error()) {
		result = s.client.Do(ctx, i.eval(s.client))
	}
	return parseReply(i, result)
}

// runMany runs scripts in one pipeline per node; the ones a node does not know
// are sent to it again in full. Those on one node run in their order, unless one
// of them was unknown.
func (s *Store) runMany(ctx context.Context, is []invocation) ([]reply, []error) {
	if len(is) == 1 {
		r, err := s.run(ctx, is[0])
		return []reply{r}, []error{err}
	}
	commands := make([]rueidis.Completed, 0, 2*len(is))
	runs := make([]int, len(is)) // where in commands
	for n, i := range is {
		if i.before != nil {
			commands = append(commands, i.before.command(s.client))
		}
		runs[n] = len(commands)
		commands = append(commands, i.evalsha(s.client))
	}
	results := s.client.DoMulti(ctx, commands...)
	replies, errs := make([]reply, len(is)), make([]error, len(is))
	var again []rueidis.Completed
	var where []int
	for n, at := range runs {
		result := results[at]
		if isNoScript(result.Error()) {
			again, where = append(again, is[n].eval(s.client)), append(where, n)
			continue
		}
		replies[n], errs[n] = parseReply(is[n], result)
	}
	if len(again) > 0 {
		for n, result := range s.client.DoMulti(ctx, again...) {
			replies[where[n]], errs[where[n]] = parseReply(is[where[n]], result)
		}
	}
	return replies, errs
}

func isNoScript(err error) bool {
	e, ok := rueidis.IsRedisErr(err)
	return ok && e.IsNoScript()
}

var errReply = errors.New("unexpected answer of a script")

func parseReply(i invocation, result rueidis.RedisResult) (reply, error) {
	values, err := result.ToArray()
	if err != nil {
		return reply{}, fmt.Errorf("script %s: %w", i.script.name, err)
	}
	if len(values) == 0 {
		return reply{}, fmt.Errorf("script %s: %w", i.script.name, errReply)
	}
	status, err := values[0].AsInt64()
	if err != nil {
		return reply{}, fmt.Errorf("script %s: %w: %w", i.script.name, errReply, err)
	}
	return reply{status: status, values: values[1:]}, nil
}
