package redisstore

import (
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/snower/forsun/redisstore/redistest"
	"github.com/snower/forsun/scheduler"
)

// found are the findings as "severity: about".
func found(all []scheduler.Finding) string {
	var b strings.Builder
	for _, f := range all {
		if f.Shard != scheduler.WholeDeployment || f.Problem == "" || !strings.HasPrefix(f.Subject, "redis ") {
			b.WriteString("malformed ")
		}
		b.WriteString(f.Severity.String() + ":" + f.Subject[strings.LastIndex(f.Subject, ":")+1:] + "; ")
	}
	return b.String()
}

func TestWhatRedisCannotPromise(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name   string
		conf   []string
		change func(*Options)
		want   string
	}{
		{name: "all is well", conf: []string{"appendonly yes", "appendfsync always"}},
		{name: "a second may be lost", conf: []string{"appendonly yes"}, want: "info: appendfsync; "},
		{name: "nothing is kept", want: "warning: appendonly; "},
		{name: "snapshots", conf: []string{"save 60 1"}, want: "warning: appendonly; "},
		{name: "no fsync", conf: []string{"appendonly yes", "appendfsync no"}, want: "warning: appendfsync; "},
		{name: "plans are evicted", conf: []string{"appendonly yes", "appendfsync always", "maxmemory-policy allkeys-lru"}, want: "warning: maxmemory-policy; "},
		{name: "leases are evicted", conf: []string{"appendonly yes", "appendfsync always", "maxmemory-policy volatile-lru"}, want: "warning: maxmemory-policy; "},
		{
			name: "no replica to wait for", conf: []string{"appendonly yes", "appendfsync always"},
			change: func(o *Options) { o.ReplicaDurability = true }, want: "error: connected_slaves; ",
		},
		{
			name: "forbidden", conf: []string{"user forsun on >secret ~* &* +@all -config -info"},
			change: func(o *Options) { o.Username, o.Password = "forsun", "secret" },
			want:   "info: appendonly; info: maxmemory-policy; info: persistence; info: replication; ",
		},
		{
			name: "renamed", conf: []string{`rename-command CONFIG ""`, "appendonly yes"},
			want: "info: appendonly; info: maxmemory-policy; ",
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			var log logged
			o := optionsFor(t, redistest.Start(t, row.conf...).Addr)
			o.Log = zerolog.New(&log)
			if row.change != nil {
				row.change(&o)
			}
			s := openStore(t, o)
			if got := found(s.Report(testContext(t))); got != row.want {
				t.Errorf("found %q, want %q", got, row.want)
			}
			if got, want := log.count("\n"), strings.Count(row.want, ";"); got != want {
				t.Errorf("%d lines were logged at the start, want %d", got, want)
			}
			if _, err := s.Announce(testContext(t), scheduler.Replica{ID: "r", Started: time.Now()}); err != nil {
				t.Errorf("Announce: %v", err)
			}
		})
	}
}

func TestARestartOfRedisIsNoticed(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "appendonly yes", "appendfsync always")
	var log logged
	o := optionsFor(t, server.Addr)
	o.Log = zerolog.New(&log)
	s := openStore(t, o)
	r := scheduler.Replica{ID: "r", Started: time.Now()}
	if _, err := s.Announce(testContext(t), r); err != nil {
		t.Fatal(err)
	}
	server.Restart()
	eventually(t, 15*time.Second, "it is said that Redis is another process", func() bool {
		_, _ = s.Announce(testContext(t), r) // fails until there is a connection
		time.Sleep(100 * time.Millisecond)
		return log.count("another process") == 1
	})
	if n := log.count("Redis lost"); n != 0 {
		t.Errorf("a loss was logged, and there was none")
	}
}
