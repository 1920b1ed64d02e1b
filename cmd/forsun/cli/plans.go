package cli

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/snower/forsun/rpc/client"
	"github.com/snower/forsun/rpc/wire"
	"github.com/snower/forsun/scheduler"
	"github.com/snower/forsun/scheduler/line"
)

// printPlans prints plans as they come.
func (s *session) printPlans(plans iter.Seq2[*scheduler.Plan, error]) error {
	for p, err := range plans {
		if err != nil {
			return err
		}
		if err := s.printPlan(p); err != nil {
			return err
		}
	}
	return nil
}

// prefixOf reads the words of a command that takes one prefix.
func prefixOf(name string, args []string) (string, error) {
	_, words, err := options(name, args)
	switch {
	case err != nil:
		return "", err
	case len(words) == 0:
		return "", nil
	case len(words) > 1:
		return "", wrongArgs(name, "%d words, at most one is allowed", len(words))
	}
	// The old interface took a pattern, and clients wrote a * at its end.
	return strings.TrimRight(words[0], "*"), nil
}

func runLs(ctx context.Context, s *session, args []string) error {
	prefix, err := prefixOf("ls", args)
	if err != nil {
		return err
	}
	return s.printPlans(s.client.Plans(ctx, prefix))
}

func runCurrent(ctx context.Context, s *session, args []string) error {
	if err := none(args, "current"); err != nil {
		return err
	}
	now, err := s.client.Time(ctx)
	if err != nil {
		return err
	}
	return s.printPlans(s.client.PlansDueAt(ctx, now.Unix()))
}

func runTime(ctx context.Context, s *session, args []string) error {
	text := strings.Join(args, " ") // date and time may be two words
	if text == "" {
		return runCurrent(ctx, s, nil)
	}
	second, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		at, err := time.ParseInLocation(time.DateTime, text, time.UTC)
		if err != nil {
			return wrongArgs("time", "%s is not allowed; allowed: a Unix time or 'YYYY-MM-DD HH:MM:SS' UTC", scheduler.Shorten(text, 64))
		}
		second = at.Unix()
	}
	return s.printPlans(s.client.PlansDueAt(ctx, second))
}

func runGet(ctx context.Context, s *session, args []string) error {
	key, err := only(args, "get", "KEY")
	if err != nil {
		return err
	}
	p, err := s.client.Get(ctx, key)
	if err != nil {
		return err
	}
	return s.printPlan(p)
}

func runSet(ctx context.Context, s *session, args []string) error {
	p, err := line.ParsePlan(args)
	if err != nil {
		if len(s.opts.Words) > 1 && len(args) > 9 {
			err = fmt.Errorf("%w; a shell turns * into file names: put the whole command in quotes", err)
		}
		return err
	}
	stored, err := s.client.Create(ctx, request(p))
	if stored != nil { // also beside the news that its copies are not confirmed
		if err := s.printPlan(stored); err != nil {
			return err
		}
	}
	return err
}

// request asks for the plan of a line.
func request(p line.Plan) scheduler.Request {
	return scheduler.Request{Key: p.Key, Schedule: p.Schedule, Action: p.Action, Params: p.Params}
}

func runRm(ctx context.Context, s *session, args []string) error {
	key, err := only(args, "rm", "KEY")
	if err != nil {
		return err
	}
	if _, err := s.client.Remove(ctx, key); err != nil {
		return err
	}
	if s.opts.Output == outputJSON {
		return writeJSON(s.out, map[string]string{"key": key, "result": "success"})
	}
	_, err = fmt.Fprintln(s.out, "success")
	return err
}

func runNext(ctx context.Context, s *session, args []string) error {
	if len(args) == 0 || len(args) > 2 {
		return wrongArgs("next", "%d words after it", len(args))
	}
	n := 10
	if len(args) == 2 {
		var err error
		if n, err = strconv.Atoi(args[1]); err != nil || n < 1 || n > 1000 {
			return wrongArgs("next", "N: %s is not allowed; allowed: 1 to 1000", scheduler.Shorten(args[1], 64))
		}
	}
	dues, err := s.client.Preview(ctx, args[0], n)
	if err != nil {
		return err
	}
	if s.opts.Output == outputJSON {
		return writeJSON(s.out, struct {
			Key string  `json:"key"`
			Due []int64 `json:"due"`
		}{args[0], dues})
	}
	for _, due := range dues {
		fmt.Fprintln(s.out, s.clock(due))
	}
	return nil
}

// actionNames returns the actions the server has, or nil if it cannot be asked
// quickly: they only help.
func (s *session) actionNames(ctx context.Context) []string {
	if s.actions != nil {
		return s.actions
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	info, err := s.client.Info(ctx)
	if err != nil || info["actions"] == "" {
		return nil
	}
	s.actions = strings.Split(info["actions"], ";")
	return s.actions
}

// storedOf splits the answers to createMany into what was stored and what was
// not. A plan whose copies are not confirmed is stored.
func storedOf(r client.Result) bool {
	var refused *client.Error
	return r.Err == nil || errors.As(r.Err, &refused) && refused.Code == wire.DurabilityUnknown
}
