package redisstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/rueidis"

	"github.com/snower/forsun/scheduler"
)

// schemaVersion is the version of what is stored in Redis. oldestReader is the oldest
// one whose programs can work with it: a version that only adds what older ones
// may ignore raises the first and leaves the second.
const (
	schemaVersion = 1
	oldestReader  = 1
)

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

var scriptLayout = loadScript("layout")

// layout is what this replica wants the deployment to be: field, value, …
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
		layoutSchema, strconv.Itoa(schemaVersion), layoutReader, strconv.Itoa(oldestReader),
		layoutShards, strings.Join(shards, ","), layoutTimezone, o.Timezone, layoutActions, actions,
	}
}

// checkLayout sets the layout if there is none, and fails with scheduler.ErrLayout
// if there is another. set says that there was none.
func (s *Store) checkLayout(ctx context.Context) (set bool, err error) {
	key := s.keys.layout()
	r, err := s.run(ctx, invocation{script: scriptLayout, keys: []string{key}, args: s.opts.layout()})
	if err != nil {
		var e *rueidis.RedisError
		if errors.As(err, &e) && strings.HasPrefix(e.Error(), "WRONGTYPE") {
			err = fmt.Errorf("%w: key %s is something else in this Redis: choose another prefix", scheduler.ErrLayout, key)
		}
		return false, err
	}
	if r.status == 1 {
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
	if n, err := strconv.Atoi(theirs[layoutReader]); err != nil || n > schemaVersion {
		return refuse("what is stored is of schema %s, which versions from schema %s on can use; this is schema %d: use a newer forsun",
			theirs[layoutSchema], theirs[layoutReader], schemaVersion)
	}
	ours := s.opts.layout()
	var errs []error
	for i := 0; i+1 < len(ours); i += 2 {
		field, own := ours[i], ours[i+1]
		their, ok := theirs[field]
		if field == layoutSchema || field == layoutReader || !ok || their == own {
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
	return errors.Join(errs...)
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
