package redisstore

import "time"

// Options configure a Store.
type Options struct {
	Prefix string // begins every key; no braces, not empty
	Shards []int  // ids of the deployment's shards, 0 or more, ascending, each once

	HistoryCount int           // finished attempts kept per shard
	HistoryBytes int64         // and their size
	HistoryAge   time.Duration // and their age
	DeadCount    int           // dead letters kept per shard

	DB int // of a standalone server or Sentinel; a Cluster has 0 only
}
