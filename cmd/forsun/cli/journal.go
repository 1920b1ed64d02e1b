package cli

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/snower/forsun/rpc/wire"
	"github.com/snower/forsun/scheduler"
)

// journalLimit is how many entries history and dead print unless told otherwise.
const journalLimit = 100

// journalArgs reads the words of history and dead: [KEY] [-n N]. limit 0 is none.
func journalArgs(name string, args []string) (key string, limit int, err error) {
	values, words, err := options(name, args, "-n=")
	if err != nil {
		return "", 0, err
	}
	if len(words) > 1 {
		return "", 0, wrongArgs(name, "%d words, at most one is allowed", len(words))
	}
	if len(words) == 1 {
		key = words[0]
	}
	limit = journalLimit
	if n, ok := values["-n"]; ok && n == "all" {
		limit = 0
	} else if ok {
		if limit, err = strconv.Atoi(n); err != nil || limit < 1 {
			return "", 0, wrongArgs(name, "-n %s is not allowed; allowed: 1 or more, or all", scheduler.Shorten(n, 64))
		}
	}
	return key, limit, nil
}

// more says on standard error that a list goes on.
func (s *session) more(name string, limit int) {
	s.out.Flush()
	fmt.Fprintf(s.err, "(the newest %d; %s -n all prints every one)\n", limit, name)
}

func runHistory(ctx context.Context, s *session, args []string) error {
	key, limit, err := journalArgs("history", args)
	if err != nil {
		return err
	}
	sheet := s.sheet(
		column{title: "due"}, column{title: "key", max: 40}, column{title: "action"},
		column{title: "attempt", right: true}, column{title: "outcome", paint: outcomeColor},
		column{title: "late", right: true}, column{title: "took", right: true}, column{title: "replica", max: 24},
		column{title: "error or output", max: 60},
	)
	n := 0
	for a, err := range s.client.Attempts(ctx, key) {
		if err != nil {
			return err
		}
		if n++; limit > 0 && n > limit {
			if err := sheet.flush(); err != nil {
				return err
			}
			s.more("history", limit)
			return nil
		}
		if s.opts.Output == outputJSON {
			err = writeJSON(s.out, newJSONAttempt(a))
		} else {
			err = sheet.add(s.clock(a.Due), a.Key, a.Action, strconv.Itoa(a.Attempt), string(a.Outcome),
				short(a.Late), short(a.Took), a.Replica, strings.TrimRight(cmp.Or(a.Error, a.Output), "\r\n"))
		}
		if err != nil {
			return err
		}
	}
	return sheet.flush()
}

// outcomeColor is green for what succeeded, yellow for what will be tried again,
// red for what is dead.
func outcomeColor(outcome string) text.Colors {
	switch scheduler.Outcome(outcome) {
	case scheduler.Succeeded:
		return text.Colors{text.FgGreen}
	case scheduler.Failed:
		return text.Colors{text.FgYellow}
	case scheduler.Dead:
		return text.Colors{text.FgRed}
	}
	return nil
}

// short writes a duration in at most seven characters.
func short(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	default:
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
	}
}

// jsonAttempt is a line of the history with -o json. Times are Unix seconds.
type jsonAttempt struct {
	Key     string            `json:"key"`
	Firing  string            `json:"firing"`
	Due     int64             `json:"due"`
	Attempt int               `json:"attempt"`
	Missed  int               `json:"missed"`
	Action  string            `json:"action"`
	Started float             `json:"started"`
	Late    float             `json:"late"`
	Took    float             `json:"took"`
	Outcome scheduler.Outcome `json:"outcome"`
	Error   string            `json:"error"`
	Output  string            `json:"output"`
	Replica string            `json:"replica"`
	RetryAt float             `json:"retry_at"` // 0: not to be retried
}

func newJSONAttempt(a scheduler.Attempt) jsonAttempt {
	return jsonAttempt{
		Key: a.Key, Firing: string(a.Firing), Due: a.Due, Attempt: a.Attempt, Missed: a.Missed, Action: a.Action,
		Started: float(wire.Seconds(a.Started)), Late: float(a.Late.Seconds()), Took: float(a.Took.Seconds()),
		Outcome: a.Outcome, Error: a.Error, Output: a.Output, Replica: a.Replica,
		RetryAt: float(wire.Seconds(a.RetryAt)),
	}
}

func runDead(ctx context.Context, s *session, args []string) error {
	key, limit, err := journalArgs("dead", args)
	if err != nil {
		return err
	}
	sheet := s.sheet(
		column{title: "id"}, column{title: "due"}, column{title: "key", max: 40}, column{title: "action"},
		column{title: "attempt", right: true}, column{title: "died"}, column{title: "error", max: 60},
	)
	n := 0
	for d, err := range s.client.Dead(ctx, key) {
		if err != nil {
			return err
		}
		if n++; limit > 0 && n > limit {
			if err := sheet.flush(); err != nil {
				return err
			}
			s.more("dead", limit)
			return nil
		}
		if s.opts.Output == outputJSON {
			err = writeJSON(s.out, newJSONDead(d))
		} else {
			err = sheet.add(d.ID, s.clock(d.Due), d.Plan.Key, d.Plan.Action, strconv.Itoa(d.Attempt),
				d.Died.In(s.process.Zone).Format(timeLayout), d.Error)
		}
		if err != nil {
			return err
		}
	}
	return sheet.flush()
}

// jsonDead is a dead letter with -o json. The server masks the secrets of its
// plan.
type jsonDead struct {
	ID      string   `json:"id"`
	Firing  string   `json:"firing"`
	Due     int64    `json:"due"`
	Attempt int      `json:"attempt"`
	Missed  int      `json:"missed"`
	Died    float    `json:"died"`
	Error   string   `json:"error"`
	Plan    jsonPlan `json:"plan"`
}

func newJSONDead(d wire.Dead) jsonDead {
	return jsonDead{
		ID: d.ID, Firing: string(d.Firing), Due: d.Due, Attempt: d.Attempt, Missed: d.Missed,
		Died: float(wire.Seconds(d.Died)), Error: d.Error, Plan: newJSONPlan(d.Plan),
	}
}

func runRedrive(ctx context.Context, s *session, args []string) error {
	return s.changeDead(ctx, "redrive", "redriven", args, s.client.Redrive)
}

func runPurge(ctx context.Context, s *session, args []string) error {
	return s.changeDead(ctx, "purge", "purged", args, s.client.Purge)
}

// changeDead applies do to the dead letters that the words select, and says how
// many there were.
func (s *session) changeDead(ctx context.Context, name, done string, args []string, do func(context.Context, scheduler.DeadSelection) (int, error)) error {
	values, ids, err := options(name, args, "--key=", "--all")
	if err != nil {
		return err
	}
	sel := scheduler.DeadSelection{IDs: ids, Key: values["--key"], All: values["--all"] != ""}
	named := 0
	for _, is := range []bool{len(ids) > 0, sel.Key != "", sel.All} {
		if is {
			named++
		}
	}
	if named != 1 {
		return wrongArgs(name, "%d of ids, --key and --all, exactly one is allowed; %q lists the ids", named, "dead")
	}
	n, err := do(ctx, sel)
	if err != nil {
		return err
	}
	if s.opts.Output == outputJSON {
		err = writeJSON(s.out, map[string]int{done: n})
	} else {
		_, err = fmt.Fprintf(s.out, "%d %s\n", n, done)
	}
	if err == nil && n < len(ids) {
		err = fmt.Errorf("%s: of %d ids %d name no dead letter (any more); %q lists them", name, len(ids), len(ids)-n, "dead")
	}
	return err
}
