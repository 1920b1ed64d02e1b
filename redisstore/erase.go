package redisstore

import (
	"context"
	"fmt"
	"strings"

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

// Memory is how many bytes Redis uses, all nodes and everything in them together.
func (s *Store) Memory(ctx context.Context) (bytes int64, err error) {
	leave, err := s.enter()
	if err != nil {
		return 0, err
	}
	defer leave()
	for name, n := range s.masters() {
		info := infoFields(ctx, n, "memory")
		if info.err != nil {
			return 0, storeError("memory of redis", info.err)
		}
		var used int64
		if _, err := fmt.Sscan(info.fields["used_memory"], &used); err != nil {
			return 0, fmt.Errorf("%w: memory of redis %s: %q", scheduler.ErrStore, name, info.fields["used_memory"])
		}
		bytes += used
	}
	return bytes, nil
}
