package redisstore

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"
	"github.com/rs/zerolog"

	"github.com/snower/forsun/scheduler"
)

// serverEvery is how often Redis is asked whether it is still the same process.
const serverEvery = 5 * time.Second

// serverSeen is which process Redis was when it was asked last, by node.
type serverSeen struct {
	mu   sync.Mutex
	runs map[string]string
	at   time.Time
}

// Report says what Redis, as it is configured, cannot promise. What it does not
// tell (CONFIG and INFO may be forbidden or renamed) is a finding, too.
func (s *Store) Report(ctx context.Context) []scheduler.Finding {
	leave, err := s.enter()
	if err != nil {
		return nil
	}
	defer leave()
	return s.report(ctx)
}

func (s *Store) report(ctx context.Context) (all []scheduler.Finding) {
	if s.opts.Sentinel.Master != "" {
		all = s.opts.sentinelsTell(ctx)
	}
	for name, n := range s.masters() {
		r := inspection{subject: "redis " + name, replica: s.opts.ReplicaDurability}
		r.persistence(settings(ctx, n, "appendonly", "appendfsync", "save"))
		r.memory(settings(ctx, n, "maxmemory", "maxmemory-policy"))
		r.state(infoFields(ctx, n, "persistence"), infoFields(ctx, n, "replication"))
		all = append(all, r.found...)
	}
	return all
}

// masters are clients of the nodes that hold plans, by address.
func (s *Store) masters() map[string]rueidis.Client {
	nodes := s.client.Nodes()
	if !s.opts.Cluster {
		return nodes
	}
	used := make(map[string]rueidis.Client)
	for _, addr := range s.topology.Load().masters() {
		if n, ok := nodes[addr]; ok {
			used[addr] = n
		}
	}
	return used
}

// told is what a node says of itself; err why it does not.
type told struct {
	fields map[string]string
	err    error
}

func settings(ctx context.Context, n rueidis.Client, names ...string) told {
	fields, err := n.Do(ctx, n.B().ConfigGet().Parameter(names...).Build()).AsStrMap()
	return told{fields, err}
}

func infoFields(ctx context.Context, n rueidis.Client, section string) told {
	text, err := n.Do(ctx, n.B().Info().Section(section).Build()).ToString()
	fields := make(map[string]string)
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			fields[name] = value
		}
	}
	return told{fields, err}
}

// inspection collects findings about one node.
type inspection struct {
	subject string
	replica bool // writes wait for a replica
	found   []scheduler.Finding
}

func (r *inspection) add(severity scheduler.Severity, subject, problem, advice string) {
	r.found = append(r.found, scheduler.Finding{
		Shard: scheduler.WholeDeployment, Severity: severity, Subject: r.subject + ": " + subject, Problem: problem, Advice: advice,
	})
}

func (r *inspection) untold(subject string, err error) {
	r.add(scheduler.SeverityInfo, subject, fmt.Sprintf("cannot be read (%v), so that it is not known what it promises", err),
		"allow this user CONFIG GET and INFO, or look yourself")
}

// persistence: what a crash of Redis loses.
func (r *inspection) persistence(t told) {
	switch {
	case t.err != nil:
		r.untold("appendonly", t.err)
	case t.fields["appendonly"] != "yes" && t.fields["save"] == "":
		r.add(scheduler.SeverityWarning, "appendonly", "appendonly is no and save is empty: a crash or restart of Redis loses every plan", "CONFIG SET appendonly yes, and in redis.conf, too")
	case t.fields["appendonly"] != "yes":
		r.add(scheduler.SeverityWarning, "appendonly", fmt.Sprintf("appendonly is no: a crash of Redis loses every plan stored since the last snapshot (save %s)", t.fields["save"]), "CONFIG SET appendonly yes, and in redis.conf, too")
	case t.fields["appendfsync"] == "no":
		r.add(scheduler.SeverityWarning, "appendfsync", "appendfsync is no: a crash of its machine loses what its system had not written yet, often half a minute", "CONFIG SET appendfsync everysec")
	case t.fields["appendfsync"] == "everysec":
		r.add(scheduler.SeverityInfo, "appendfsync", "appendfsync is everysec: a crash of its machine, not of Redis alone, loses up to the last second or two", "")
	}
}

// memory: what is thrown away when there is too little.
func (r *inspection) memory(t told) {
	policy := t.fields["maxmemory-policy"]
	switch {
	case t.err != nil:
		r.untold("maxmemory-policy", t.err)
	case strings.HasPrefix(policy, "allkeys-"):
		r.add(scheduler.SeverityWarning, "maxmemory-policy", fmt.Sprintf("maxmemory-policy is %s: when memory is full (maxmemory %s) Redis throws plans away", policy, t.fields["maxmemory"]), "CONFIG SET maxmemory-policy noeviction, and in redis.conf, too")
	case policy != "noeviction":
		// Plans carry no TTL, leases do.
		r.add(scheduler.SeverityWarning, "maxmemory-policy", fmt.Sprintf("maxmemory-policy is %s: when memory is full Redis throws leases away, and leaders change all the time", policy), "CONFIG SET maxmemory-policy noeviction, and in redis.conf, too")
	}
}

// state: whether what is configured works.
func (r *inspection) state(persistence, replication told) {
	switch {
	case persistence.err != nil:
		r.untold("persistence", persistence.err)
	case persistence.fields["aof_enabled"] == "1" && persistence.fields["aof_last_write_status"] == "err":
		r.add(scheduler.SeverityError, "aof_last_write_status", "Redis cannot write its append-only file", "look into its log: is its disk full?")
	case persistence.fields["aof_last_bgrewrite_status"] == "err":
		r.add(scheduler.SeverityWarning, "aof_last_bgrewrite_status", "the last rewrite of the append-only file failed: it grows without bound", "look into the log of Redis")
	case persistence.fields["rdb_last_bgsave_status"] == "err":
		r.add(scheduler.SeverityWarning, "rdb_last_bgsave_status", "the last snapshot failed; with stop-writes-on-bgsave-error Redis then refuses plans", "look into the log of Redis")
	}
	replicas := replication.fields["connected_slaves"]
	switch {
	case replication.err != nil:
		r.untold("replication", replication.err)
	case replication.fields["role"] == "slave":
		r.add(scheduler.SeverityError, "role", "it is a replica: it takes no writes", "connect to its master, or through Sentinel")
	case r.replica && replicas == "0":
		r.add(scheduler.SeverityError, "connected_slaves", "writes wait for a replica (--durability=replica), and there is none: every create is answered \"durability unknown\"", "add a replica, or use --durability=local")
	}
}

// warn logs what an operator should know from the start.
func (s *Store) warn(ctx context.Context) {
	bounded, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	for _, f := range s.report(bounded) {
		level := zerolog.WarnLevel
		switch f.Severity {
		case scheduler.SeverityInfo:
			level = zerolog.InfoLevel
		case scheduler.SeverityError:
			level = zerolog.ErrorLevel
		}
		line := s.log.WithLevel(level).Str("about", f.Subject)
		if f.Advice != "" {
			line = line.Str("advice", f.Advice)
		}
		line.Msg(f.Problem)
	}
}

// lookAtServers notices, now and then, that Redis was restarted or failed over.
// Who may not use INFO does not notice: what was lost shows in the heartbeats.
func (s *Store) lookAtServers(ctx context.Context) {
	seen := &s.server
	seen.mu.Lock()
	defer seen.mu.Unlock()
	if time.Since(seen.at) < serverEvery {
		return
	}
	seen.at = time.Now()
	for name, n := range s.masters() {
		info := infoFields(ctx, n, "server")
		run := info.fields["run_id"]
		if info.err != nil || run == "" {
			continue
		}
		key := name
		if !s.opts.Cluster {
			key = "" // behind Sentinel another address is another process, too
		}
		before, known := seen.runs[key]
		if seen.runs == nil {
			seen.runs = make(map[string]string)
		}
		seen.runs[key] = run
		if known && before != run {
			s.log.Warn().Str("redis", name).Str("was", before).Str("is", run).Str("up_s", info.fields["uptime_in_seconds"]).
				Msg("Redis is another process than before: it was restarted, or failed over")
		}
	}
}
