package redisstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/snower/forsun/scheduler"
)

// What is stored in Redis has a schema, a number. A program works with the schemas from
// oldestSchema to schemaVersion, reads and writes what the one in effect (the layout's)
// says, and so joins a fleet of an older one. oldestReader is the least schemaVersion of the programs
// that can work with schemaVersion: a schema that only adds what older programs may
// ignore leaves it as it is.
//
// A fleet is upgraded replica by replica; the schema stays. Once every replica that was
// seen for raiseAfter has a schemaVersion that is enough, one of them raises the layout's
// oldest_reader: programs that are older cannot join any more, and one that slipped in
// stops at its next announcement. When that, too, was so for raiseAfter, the schema itself is
// raised, and only then anything is written that older programs could not read. Until the first step
// the fleet can go back to the older program, after it no more.
const (
	schemaVersion = packSince // 1: no runs of keys, see pack.go
	oldestSchema  = 1
	oldestReader  = 2

	raiseAfter = 30 * time.Second
)

// schemas stands for these numbers in programs that tests build with another layout: the
// linker sets it to "oldestSchema-schemaVersion-seconds of raiseAfter", where oldestReader
// is schemaVersion. See scripts/chaos/upgrade_test.go.
var schemas string

// schemaRange is what a program can work with.
type schemaRange struct {
	oldest, newest, reader int
	raiseAfter             time.Duration
}

// programSchemas returns what this program can work with.
func programSchemas() schemaRange {
	r := schemaRange{oldestSchema, schemaVersion, oldestReader, raiseAfter}
	if schemas == "" {
		return r
	}
	var seconds int
	if n, err := fmt.Sscanf(schemas, "%d-%d-%d", &r.oldest, &r.newest, &seconds); n != 3 {
		panic(fmt.Sprintf("redisstore.schemas is %q: %v", schemas, err)) // a build that makes no sense
	}
	r.reader, r.raiseAfter = r.newest, time.Duration(seconds)*time.Second
	return r
}

// inEffect is the schema of the layout.
type inEffect struct {
	schema, reader int // 0: it has not been read
}

// raising is how far a raise has come.
type raising struct {
	from  inEffect  // what is in effect
	since time.Time // when every replica could do more, and could from then on
}

// Fields of the layout.
const (
	layoutSchema   = "schema"
	layoutReader   = "oldest_reader"
	layoutShards   = "shards"
	layoutTimezone = "timezone"
	layoutActions  = "actions"
)

// allActions stands for every action that a program has: it means the same to
// versions with more of them.
const allActions = "all"

var (
	scriptLayout = loadScript("layout")
	scriptRaise  = loadScript("raise")
)

// layout is what this replica wants the deployment to be, beside the schema: field,
// value, …
func (o *Options) layout() []string {
	shards := make([]string, len(o.Shards))
	for i, id := range o.Shards {
		shards[i] = strconv.Itoa(id)
	}
	actions := allActions
	if o.Actions != nil {
		names := slices.Clone(o.Actions)
		slices.Sort(names)
		actions = strings.Join(slices.Compact(names), ",")
	}
	return []string{
		layoutShards, strings.Join(shards, ","), layoutTimezone, o.Timezone, layoutActions, actions,
	}
}

// checkLayout sets the layout if there is none, and fails with scheduler.ErrLayout
// if there is another. set says that there was none.
func (s *Store) checkLayout(ctx context.Context) (set bool, err error) {
	key := s.keys.layout()
	// One that was there and is gone is set again as it was: who has seen it may be older.
	wants := s.effect()
	if wants.schema == 0 {
		wants = inEffect{s.able.newest, s.able.reader}
	}
	args := append([]string{layoutSchema, strconv.Itoa(wants.schema), layoutReader, strconv.Itoa(wants.reader)}, s.opts.layout()...)
	r, err := s.run(ctx, invocation{script: scriptLayout, keys: []string{key}, args: args})
	if err != nil {
		var e *rueidis.RedisError
		if errors.As(err, &e) && strings.HasPrefix(e.Error(), "WRONGTYPE") {
			err = fmt.Errorf("%w: key %s is something else in this Redis: choose another prefix", scheduler.ErrLayout, key)
		}
		return false, err
	}
	if r.status == 1 {
		s.effective.Store(&wants)
		return true, nil
	}
	theirs := make(map[string]string)
	for i := 0; i+1 < len(r.values); i += 2 {
		field, _ := r.values[i].ToString()
		theirs[field], _ = r.values[i+1].ToString()
	}
	return false, s.compareLayout(theirs)
}

// compareLayout says in what theirs is not this replica's.
func (s *Store) compareLayout(theirs map[string]string) error {
	key := s.keys.layout()
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s (key %s)", scheduler.ErrLayout, fmt.Sprintf(format, args...), key)
	}
	schema, err := strconv.Atoi(theirs[layoutSchema])
	reader, readerErr := strconv.Atoi(theirs[layoutReader])
	switch {
	case err != nil || readerErr != nil || schema < 1 || reader > s.able.newest:
		return refuse("what is stored is of schema %s, which versions from schema %s on can use; this forsun works with schemas %d to %d: use a newer forsun",
			theirs[layoutSchema], theirs[layoutReader], s.able.oldest, s.able.newest)
	case schema < s.able.oldest:
		return refuse("what is stored is of schema %d, this forsun works with schemas %d to %d: upgrade every replica to a version in between first, which raises it",
			schema, s.able.oldest, s.able.newest)
	}
	ours := s.opts.layout()
	var errs []error
	for i := 0; i+1 < len(ours); i += 2 {
		field, own := ours[i], ours[i+1]
		their, ok := theirs[field]
		if !ok || their == own {
			continue
		}
		switch field {
		case layoutShards:
			errs = append(errs, refuse("its server ids are %s, these are %s: start with --driver-redis-server-id=%s to be part of it, or with another --driver-redis-prefix for a scheduler of its own",
				their, own, their))
		case layoutTimezone:
			errs = append(errs, refuse("its time zone is %s, this is %s: start with --timezone=%s; or, to change it for all, stop every replica and HSET %s %s %s",
				their, own, their, key, field, own))
		case layoutActions:
			errs = append(errs, refuse("its actions are %s, these are %s: start with the same --actions; or, to change them for all, stop every replica and HSET %s %s %s",
				their, own, key, field, own))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if before := s.effective.Swap(&inEffect{schema, reader}); before != nil && before.schema != schema {
		s.log.Info().Int("schema", schema).Int("before", before.schema).Msg("the schema of what is stored was raised")
	}
	return nil
}

// effect is the schema in effect as it was last seen.
func (s *Store) effect() inEffect {
	if e := s.effective.Load(); e != nil {
		return *e
	}
	return inEffect{}
}

// raise raises the schema, in steps, once all replicas can work with the one after it; least
// is what the least able of those seen lately can.
func (s *Store) raise(ctx context.Context, least int) error {
	from := s.effect()
	if from.schema == 0 || from.schema >= s.able.newest {
		return nil
	}
	s.raisingMu.Lock()
	defer s.raisingMu.Unlock()
	now := time.Now()
	switch {
	case least < s.able.reader:
		s.raising = raising{}
		return nil
	case s.raising.from != from || s.raising.since.IsZero():
		s.raising = raising{from, now}
		return nil
	case now.Sub(s.raising.since) < s.able.raiseAfter:
		return nil
	}
	to := inEffect{from.schema, s.able.reader}
	if from.reader >= s.able.reader {
		to = inEffect{s.able.newest, from.reader}
	}
	r, err := s.run(ctx, invocation{script: scriptRaise, keys: []string{s.keys.layout()}, args: []string{
		strconv.Itoa(from.schema), strconv.Itoa(from.reader), strconv.Itoa(to.schema), strconv.Itoa(to.reader),
	}})
	if err != nil {
		return fmt.Errorf("raise the schema: %w", err)
	}
	if r.status == 1 && to.schema == from.schema {
		s.log.Info().Int("schema", s.able.newest).Int("oldest_reader", to.reader).
			Msg("every replica can work with a newer schema: it will be raised, and older versions cannot join any more")
	}
	return nil
}

// watchLayout looks at the layout again, and lets calls in or not by what it sees.
func (s *Store) watchLayout(ctx context.Context) error {
	set, err := s.checkLayout(ctx)
	switch {
	case set:
		s.log.Warn().Str("key", s.keys.layout()).
			Msg("the layout was gone from Redis, and is set again: was the database emptied, or its newest writes lost?")
	case errors.Is(err, scheduler.ErrLayout):
		if s.misfit.Swap(&err) == nil {
			s.log.Error().Err(err).Msg("the layout in Redis was changed: every call fails until it is this replica's again")
		}
		return err
	case err != nil:
		return err
	}
	if s.misfit.Swap(nil) != nil {
		s.log.Warn().Msg("the layout in Redis is this replica's again; going on")
	}
	return nil
}
