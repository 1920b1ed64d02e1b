package redisstore

import (
	"hash/fnv"

	"github.com/redis/rueidis"
	"github.com/rs/zerolog"
)

// Store is scheduler.Store on Redis.
type Store struct {
	opts   Options
	log    zerolog.Logger
	client rueidis.Client // commands and scripts
	keys   keyspace
	ids    []int              // shard ids, in order
	shards map[int]*shardKeys // by id

	link // the connection to Redis: see open.go
}

// prepare sets what follows from opts.
func (s *Store) prepare() {
	s.keys = keyspace{s.opts.Prefix}
	s.ids = s.opts.Shards
	s.shards = make(map[int]*shardKeys, len(s.ids))
	for _, id := range s.ids {
		s.shards[id] = s.keys.shard(id)
	}
}

// shardOf returns the keys of the shard that key belongs to: a fixed hash (FNV-1a,
// 64 bits) over the deployment's shard ids in ascending order. It can never be
// changed: plans would be looked for elsewhere.
func (s *Store) shardOf(key string) *shardKeys {
	if len(s.ids) == 1 {
		return s.shards[s.ids[0]]
	}
	h := fnv.New64a()
	h.Write([]byte(key))
	return s.shards[s.ids[h.Sum64()%uint64(len(s.ids))]]
}
