package redisstore

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/snower/forsun/scheduler"
)

// erasePage is how many keys one step of Erase looks at and removes.
const erasePage = 1000

// Erase removes everything under the prefix from Redis, plans and all: for
// benchmarks and tests, on a prefix of their own. It looks at every key of the
// database.
func (s *Store) Erase(ctx context.Context) error {
	leave, err := s.enter()
	if err != nil {
		return err
	}
	defer leave()
	// A prefix may hold what a pattern of Redis takes for a wildcard.
	pattern := strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(s.keys.prefix) + ":*"
	for _, n := range s.masters() {
		for cursor := uint64(0); ; {
			page, err := n.Do(ctx, n.B().Scan().Cursor(cursor).Match(pattern).Count(erasePage).Build()).AsScanEntry()
			if err != nil {
				return storeError("erase", err)
			}
			if err := s.unlink(ctx, page.Elements); err != nil {
				return storeError("erase", err)
			}
			if cursor = page.Cursor; cursor == 0 {
				break
			}
		}
	}
	return nil
}

// unlink removes keys, each with a command of its own: in a Cluster they have
// different slots.
func (s *Store) unlink(ctx context.Context, keys []string) error {
	commands := make([]rueidis.Completed, len(keys))
	for i, key := range keys {
		commands[i] = s.client.B().Unlink().Key(key).Build()
	}
	for _, result := range s.client.DoMulti(ctx, commands...) {
		if err := result.Error(); err != nil {
			return err
		}
	}
	return nil
}

// Memory is how many bytes Redis uses, all masters and everything in them together.
func (s *Store) Memory(ctx context.Context) (bytes int64, err error) {
	sum, err := s.sum(ctx, "memory", "used_memory")
	return int64(sum), err
}

// CPU is the processor time that Redis has used since it started: all masters, with all
// their threads, whoever they did it for.
func (s *Store) CPU(ctx context.Context) (time.Duration, error) {
	sum, err := s.sum(ctx, "cpu", "used_cpu_sys", "used_cpu_user")
	return time.Duration(sum * float64(time.Second)), err
}

// sum adds up fields of a section of INFO, of all masters.
func (s *Store) sum(ctx context.Context, section string, fields ...string) (sum float64, err error) {
	leave, err := s.enter()
	if err != nil {
		return 0, err
	}
	defer leave()
	for name, n := range s.masters() {
		info := infoFields(ctx, n, section)
		if info.err != nil {
			return 0, storeError(section+" of redis", info.err)
		}
		for _, field := range fields {
			value, err := strconv.ParseFloat(info.fields[field], 64)
			if err != nil {
				return 0, fmt.Errorf("%w: %s of redis %s: %q", scheduler.ErrStore, field, name, info.fields[field])
			}
			sum += value
		}
	}
	return sum, nil
}
