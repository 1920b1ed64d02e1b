package redisstore

import (
	"crypto/rand"
	"fmt"
	"hash/fnv"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
	"github.com/rs/zerolog"

	"github.com/snower/forsun/scheduler"
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

	channel  string        // of events
	instance string        // of this process: sorts by its start, random beyond that
	opened   time.Time     //
	takes    atomic.Uint64 // takes of this process so far
	scripts  scripts
	gatherer gatherer // of creates
	known    knownActions
	largest  atomic.Int64 // plan read lately, bytes
}

// scripts are the Lua files of the plans and their firings.
type scripts struct {
	new, put, remove, due, mend, claim, handout, unbundle, spread, promote, settle *script
	take, done, finish, quarantine, beat, rescue, forget, redrive                  *script
	look, pack, audit, collect, recount                                            *script
}

func loadScripts() scripts {
	return scripts{
		new: loadScript("new"), put: loadScript("put"), remove: loadScript("remove"), due: loadScript("due"),
		mend: loadScript("mend"), claim: loadScript("claim"), handout: loadScript("handout"), unbundle: loadScript("unbundle"),
		spread: loadScript("spread"), promote: loadScript("promote"), settle: loadScript("settle"),
		take: loadScript("take"), done: loadScript("done"), finish: loadScript("finish"), quarantine: loadScript("quarantine"), beat: loadScript("beat"),
		rescue: loadScript("rescue"), forget: loadScript("forget"), redrive: loadScript("redrive"), look: loadScript("look"), pack: loadScript("pack"), audit: loadScript("audit"), collect: loadScript("collect"), recount: loadScript("recount"),
	}
}

// prepare sets what follows from opts.
func (s *Store) prepare() {
	s.keys = keyspace{s.opts.Prefix}
	s.gatherer = gatherer{patience: gatherMost, by: make(map[gathered]*gathering)}
	s.able = programSchemas()
	if s.opts.schemas != nil {
		s.able = *s.opts.schemas
	}
	s.ids = s.opts.Shards
	s.shards = make(map[int]*shardKeys, len(s.ids))
	for _, id := range s.ids {
		s.shards[id] = s.keys.shard(id)
	}
	s.channel = s.keys.events(s.opts.DB)
	s.opened = time.Now()
	var random [4]byte
	rand.Read(random[:]) // never fails: see crypto/rand
	s.instance = fmt.Sprintf("%011x%08x", s.opened.UnixMilli(), random)
	s.scripts = loadScripts()
	for _, action := range s.opts.Actions {
		s.learn(action)
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

// ShardOf returns the shard of a key: see scheduler.PlanStore.
func (s *Store) ShardOf(key string) int { return s.shardOf(key).id }

var _ scheduler.Store = (*Store)(nil)
