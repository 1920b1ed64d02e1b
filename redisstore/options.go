package redisstore

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/rs/zerolog"

	"github.com/snower/forsun/scheduler"
)

// Options configure a Store. Start from DefaultOptions.
type Options struct {
	// Addresses are host:port of the server; of some of the sentinels, if
	// Sentinel.Master is set; of some of the Cluster's nodes, if Cluster is.
	Addresses []string
	Cluster   bool
	Sentinel  SentinelOptions

	DB       int         // of a standalone server or Sentinel; a Cluster has 0 only
	Username string      // "" is Redis' user default
	Password string      // "" is none
	TLS      *tls.Config // nil: no TLS

	Prefix string // begins every key; no braces, blanks, control characters, not empty
	Shards []int  // ids of the deployment's shards, 0 or more, ascending, each once

	// Timezone and Actions are what all replicas must agree on beside Shards: see
	// layout.go. Actions are what plans may use, nil: all that the program has.
	Timezone string
	Actions  []string

	// DialTimeout bounds one attempt to connect, with TLS and login. A call that
	// finds no connection waits that long at most, with Sentinel half a second more.
	DialTimeout time.Duration

	// ReplicaDurability makes Put and Remove wait until a replica of Redis has the
	// write, for DurabilityTimeout at most: what it has not confirmed by then is
	// answered scheduler.ErrUnsure.
	ReplicaDurability bool
	DurabilityTimeout time.Duration

	// LeaseTTL is how long a lease lasts that is not renewed. Its holder trusts it
	// for nine tenths of that.
	LeaseTTL time.Duration

	HistoryCount int           // finished attempts kept per shard; 0: none
	HistoryBytes int64         // and their size
	HistoryAge   time.Duration // and their age; 0: no bound by age
	DeadCount    int           // dead letters kept per shard, at least 1

	// Replica and Version name this process in Redis' list of clients, and in what
	// it logs.
	Replica string
	Version string

	// Log gets what an operator should know.
	Log zerolog.Logger

	resp2   bool         // speak the protocol of old servers and of some proxies, for tests
	schemas *schemaRange // another than the program's, for tests
	pack    *packOptions // others than packDefaults, for tests
}

// SentinelOptions say how a master is found by Sentinel.
type SentinelOptions struct {
	Master   string      // name of the master; "": no Sentinel
	Username string      // of the sentinels, which have users of their own
	Password string      //
	TLS      *tls.Config // nil: no TLS to the sentinels
}

// DefaultOptions returns options for a server on this machine.
func DefaultOptions() Options {
	return Options{
		Addresses:         []string{"127.0.0.1:6379"},
		Prefix:            "forsun",
		Shards:            []int{0},
		Timezone:          "UTC",
		DialTimeout:       2 * time.Second,
		DurabilityTimeout: time.Second,
		LeaseTTL:          2500 * time.Millisecond,
		HistoryCount:      100_000,
		HistoryBytes:      64 << 20,
		HistoryAge:        7 * 24 * time.Hour,
		DeadCount:         10_000,
		Replica:           "forsund",
		Version:           "devel",
		Log:               zerolog.Nop(),
	}
}

// Limits of the options.
const (
	maxPrefix = 64
	maxShards = 1024
	maxShard  = 65535
)

// Validate checks every field and what they mean together. The error joins a
// *scheduler.FieldError for each that is wrong; it never shows a password.
func (o Options) Validate() error {
	var errs []error
	bad := func(field string, value any, allowed string) {
		errs = append(errs, &scheduler.FieldError{
			Kind: scheduler.ErrField, Field: field, Value: scheduler.Shorten(fmt.Sprint(value), 64), Allowed: allowed,
		})
	}
	between := func(field string, d, lo, hi time.Duration) {
		if d < lo || d > hi {
			bad(field, d, fmt.Sprintf("%v to %v", lo, hi))
		}
	}
	o.validateAddresses(bad)
	if o.DB < 0 {
		bad("DB", o.DB, "0 or more")
	}
	if strings.IndexFunc(o.Prefix, forbiddenInPrefix) >= 0 || o.Prefix == "" || len(o.Prefix) > maxPrefix {
		bad("Prefix", fmt.Sprintf("%q", o.Prefix), fmt.Sprintf("1 to %d bytes without braces, blanks and control characters", maxPrefix))
	}
	o.validateShards(bad)
	if o.Timezone == "" {
		bad("Timezone", `""`, "the IANA name of a zone")
	}
	for _, name := range o.Actions {
		if name == "" || strings.ContainsAny(name, ", ") {
			bad("Actions", fmt.Sprintf("%q", name), "names without commas and blanks")
		}
	}
	between("DialTimeout", o.DialTimeout, 10*time.Millisecond, time.Minute)
	between("DurabilityTimeout", o.DurabilityTimeout, time.Millisecond, time.Minute)
	between("LeaseTTL", o.LeaseTTL, time.Second, time.Minute)
	if o.HistoryCount < 0 {
		bad("HistoryCount", o.HistoryCount, "0 or more")
	}
	if o.HistoryBytes < 1<<10 {
		bad("HistoryBytes", o.HistoryBytes, "1 KiB or more")
	}
	if o.HistoryAge < 0 {
		bad("HistoryAge", o.HistoryAge, "0 (no bound) or more")
	}
	if o.DeadCount < 1 {
		bad("DeadCount", o.DeadCount, "1 or more")
	}
	// It becomes a client's name in Redis, which takes printable ASCII only.
	if o.Replica == "" || strings.IndexFunc(o.Replica, func(r rune) bool { return r <= ' ' || r > '~' || r == ':' }) >= 0 {
		bad("Replica", fmt.Sprintf("%q", o.Replica), "printable ASCII without blanks and colons, not empty")
	}
	return errors.Join(errs...)
}

func (o Options) validateAddresses(bad func(field string, value any, allowed string)) {
	if len(o.Addresses) == 0 {
		bad("Addresses", "none", "at least one HOST:PORT")
	}
	for _, a := range o.Addresses {
		host, port, err := net.SplitHostPort(a)
		if n, e := strconv.Atoi(port); err != nil || host == "" || e != nil || n < 1 || n > 65535 {
			bad("Addresses", a, "HOST:PORT")
		}
	}
	switch {
	case o.Cluster && o.Sentinel.Master != "":
		bad("Sentinel.Master", o.Sentinel.Master, "nothing with Cluster, which needs no sentinels")
	case o.Cluster && o.DB != 0:
		bad("DB", o.DB, "0 with Cluster, which has no other")
	case !o.Cluster && o.Sentinel.Master == "" && len(o.Addresses) > 1:
		bad("Addresses", strings.Join(o.Addresses, ","), "one, or several of a Cluster, or of sentinels")
	}
	if o.Sentinel.Master == "" && (o.Sentinel.Username != "" || o.Sentinel.Password != "" || o.Sentinel.TLS != nil) {
		bad("Sentinel.Master", `""`, "the master's name, since the sentinels' login is given")
	}
}

func (o Options) validateShards(bad func(field string, value any, allowed string)) {
	if len(o.Shards) == 0 || len(o.Shards) > maxShards {
		bad("Shards", fmt.Sprintf("%d ids", len(o.Shards)), fmt.Sprintf("1 to %d ids", maxShards))
	}
	for i, id := range o.Shards {
		if id < 0 || id > maxShard {
			bad("Shards", id, fmt.Sprintf("0 to %d", maxShard))
		}
		if i > 0 && id <= o.Shards[i-1] {
			bad("Shards", fmt.Sprintf("%d after %d", id, o.Shards[i-1]), "ascending ids, each once")
		}
	}
}

func forbiddenInPrefix(r rune) bool {
	return r == '{' || r == '}' || unicode.IsSpace(r) || unicode.IsControl(r) || r == unicode.ReplacementChar
}
