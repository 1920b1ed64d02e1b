package redisstore

import (
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// keyspace builds every key that forsun has in Redis. Keys of a shard begin with
// its hash tag, so that a Cluster keeps them on one node, and so that braces in a
// user's key are harmless: the first tag counts (Redis Cluster specification,
// "Hash tags").
type keyspace struct{ prefix string }

// shardKeys are the keys of one shard, made once.
//
//	plan:<key>               string  a plan: see codec.go
//	schedule:<action>        zset    key → next due second
//	index                    zset    keys, all with score 0, for listing by prefix
//	packed                   zset    runs of such keys, which are not in index: see pack.go
//	unpack                   list    keys that are to be taken out of runs, if they are in one
//	actions                  set     actions that plans of the shard have had
//	leader                   string  the lease: <term>:<replica>:<random>
//	term                     string  counter: the last term given
//	firing:<id>              string  the plan of an unfinished firing: see firing.go
//	firings:<action>         list    entries of claimed firings, oldest first
//	held:<action>:<worker>   hash    receipt → entry that the worker has taken
//	bundle:<take>            string  firings that were claimed together: see bundle.go
//	bundles:<action>         list    <take> <changes> <due second> of those that wait for a worker, oldest first
//	bundles:<action>:<worker> hash   the takes of those that the worker has not finished
//	workers                  hash    worker → heartbeat counter
//	retries                  zset    firings that wait for a time (member: see waiting) → that time, ms
//	retry:<key>              hash    the firings of a plan that wait to be retried: member → entry
//	deferred                 hash    the ones deferred before their first attempt: member → entry
//	garbage                  list    what is to be deleted: <id> of firing:<id>, of cancelled retries, or attempts:<id>
//	backlog                  hash    <action> → unfinished firings, <action>:bytes → their size, :total
//	changes                  string  counter of the changes that follow
//	edits                    string  another after each change of a plan but storing one that is new everywhere
//	changed, changed:old     hash    key → number of its last change while firings were unfinished
//	dead                     stream  dead letters
//	history                  stream  finished attempts, one entry a batch: the lines, or in: the <id> of attempts:<id>
//	attempts:<id>            string  the lines of such an entry
//	history:sizes            list    attempts:bytes:ms, and :<id> if it has one, of each of those entries
//	quarantine               hash    key → why, and the raw value, of what could not be decoded
type shardKeys struct {
	id  int
	tag string // "forsun:{0}:"

	index, packed, unpack                                      string
	actions, leader, term, workers, retries, deferred, backlog string
	changes, changed, changedOld, dead, history, historySizes  string
	quarantine, garbage, edits                                 string

	read    readPlans    // to be claimed
	full    sync.Map     // action → when its backlog was last found full, of the actions of claims
	settled atomic.Int64 // when its changes were last settled, since the store was opened
	packing packing
	beats   beats // this process' own

	refreshing chan struct{} // holds one: who learns the shard's actions
	refreshed  atomic.Int64  // when that was last done, since the store was opened; 0: never
}

// work is the event that firings of an action are waiting; "" for any action.
func (s *shardKeys) work(action string) string {
	return "w " + strconv.Itoa(s.id) + " " + nameOf(action)
}

func (k keyspace) shard(id int) *shardKeys {
	tag := k.prefix + ":{" + strconv.Itoa(id) + "}:"
	return &shardKeys{
		id: id, tag: tag,
		index: tag + "index", packed: tag + "packed", unpack: tag + "unpack", actions: tag + "actions", leader: tag + "leader", term: tag + "term",
		workers: tag + "workers", retries: tag + "retries", deferred: tag + "deferred", backlog: tag + "backlog",
		changes: tag + "changes", changed: tag + "changed", changedOld: tag + "changed:old",
		dead: tag + "dead", history: tag + "history", historySizes: tag + "history:sizes",
		quarantine: tag + "quarantine", garbage: tag + "garbage", edits: tag + "edits",
		refreshing: make(chan struct{}, 1),
	}
}

func (s *shardKeys) plan(key string) string           { return s.tag + "plan:" + key }
func (s *shardKeys) firing(id string) string          { return s.tag + "firing:" + id }
func (s *shardKeys) attempts(id string) string        { return s.tag + "attempts:" + id }
func (s *shardKeys) retry(key string) string          { return s.tag + "retry:" + key }
func (s *shardKeys) schedule(action string) string    { return s.scheduleNamed(nameOf(action)) }
func (s *shardKeys) firings(action string) string     { return s.tag + "firings:" + nameOf(action) }
func (s *shardKeys) scheduleNamed(name string) string { return s.tag + "schedule:" + name }
func (s *shardKeys) held(action, worker string) string {
	return s.tag + "held:" + nameOf(action) + ":" + worker
}

func (s *shardKeys) bundle(take string) string        { return s.tag + "bundle:" + take }
func (s *shardKeys) bundleQueue(action string) string { return s.tag + "bundles:" + nameOf(action) }
func (s *shardKeys) bundles(action, worker string) string {
	return s.tag + "bundles:" + nameOf(action) + ":" + worker
}

// nameOf is how an action is called in Redis, wherever it stands: as it is, if it
// consists of letters, digits, '_', '-' and '.', else percent-encoded (RFC 3986),
// so that it ends at the next colon or quote.
func nameOf(action string) string {
	for i := range len(action) {
		if !plain(action[i]) {
			return encodeName(action)
		}
	}
	return action
}

func plain(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '.'
}

func encodeName(action string) string {
	const hex = "0123456789ABCDEF"
	b := make([]byte, 0, len(action)+16)
	for i := range len(action) {
		if c := action[i]; plain(c) {
			b = append(b, c)
		} else {
			b = append(b, '%', hex[c>>4], hex[c&15])
		}
	}
	return string(b)
}

// actionNamed is the action that Redis calls so.
func actionNamed(name string) string {
	if !strings.Contains(name, "%") {
		return name
	}
	if action, err := url.PathUnescape(name); err == nil {
		return action
	}
	return name
}

// layout is a hash: what the whole deployment must agree on.
func (k keyspace) layout() string { return k.prefix + ":layout" }

// replicas is a hash: replica → what it announced last, JSON.
func (k keyspace) replicas() string { return k.prefix + ":replicas" }

// events is the channel on which replicas wake each other. Channels know no
// database number, so that it stands in the name.
func (k keyspace) events(db int) string { return k.prefix + ":events:" + strconv.Itoa(db) }

// waiting names a firing that waits for a time, in retries and beside it: 'r' (in
// retry:<key>) or 'd' (in deferred), the firing's id, its action, its key.
type waiting struct {
	deferred    bool
	id          string
	action, key string
}

func parseWaiting(member string) (w waiting, ok bool) {
	if len(member) < 1 || member[0] != 'r' && member[0] != 'd' {
		return w, false
	}
	id, rest, ok := strings.Cut(member[1:], ":")
	if !ok {
		return w, false
	}
	action, key, ok := strings.Cut(rest, ":")
	return waiting{deferred: member[0] == 'd', id: id, action: actionNamed(action), key: key}, ok
}
