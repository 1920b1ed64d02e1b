package admin

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

// TestMetrics: what is exposed passes the linter of Prometheus, and counts what
// happened.
func TestMetrics(t *testing.T) {
	t.Parallel()
	hung := &deaf{time.Hour, make(chan struct{}), make(chan struct{}, 1)}
	r := newRig(t, actionSet{"hung": hung}, nil)
	r.create("a", "hung", nil)
	<-hung.began
	waitCanary(r)
	text := r.scrape()
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	if problems, err := testutil.GatherAndLint(r.registry); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
	r.waitMetrics(
		`forsun_ready 1`,
		`forsun_plans_created_total{kind="timeout"} 1`,
		`forsun_claims_total{answer="claimed"} 1`, // the canaries are not counted
		`forsun_shard_leading{shard="0"} 1`,
		`forsun_shard_has_leader{shard="0"} 1`,
		`forsun_shard_running_firings{action="hung",shard="0"} 1`,
		`forsun_slots{action="hung"} 512`,
		`forsun_slots_used{action="hung"} 1`,
		`forsun_attempts_running 1`,
		`forsun_attempts_total{action="hung",outcome="succeeded"} 0`,
		`forsun_lateness_seconds_count{shard="0"} 0`,
		`forsun_store_operation_duration_seconds_count{operation="put"} 2`, // a canary, too
		`forsun_connections_open{interface="thrift"} 0`,
		`forsun_build_info{goversion="`+runtime.Version()+`",version="v0"} 1`,
		`forsun_store_read 1`,
	)
	close(hung.letGo)
	r.waitMetrics(
		`forsun_attempts_total{action="hung",outcome="succeeded"} 1`,
		`forsun_lateness_seconds_count{shard="0"} 1`,
		`forsun_attempt_duration_seconds_count{action="hung"} 1`,
		`forsun_slots_used{action="hung"} 0`,
	)
}

// waitMetrics waits until a scrape has all of the lines: what it shows may be seconds
// old.
func (r *rig) waitMetrics(lines ...string) {
	r.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		text := r.scrape()
		missing := slices.DeleteFunc(slices.Clone(lines), func(line string) bool { return strings.Contains(text, "\n"+line+"\n") })
		if len(missing) == 0 {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("there is no %s", strings.Join(missing, ", nor "))
		}
	}
}

func (r *rig) scrape() string {
	r.t.Helper()
	status, text := r.get("/metrics")
	if status != http.StatusOK {
		r.t.Fatalf("/metrics: %d: %s", status, text)
	}
	return text
}

// exposed returns the names of all series that a scrape has.
func (r *rig) exposed() map[string]bool {
	names := make(map[string]bool)
	for line := range strings.Lines(r.scrape()) {
		if !strings.HasPrefix(line, "#") {
			names[strings.FieldsFunc(line, func(c rune) bool { return c == '{' || c == ' ' })[0]] = true
		}
	}
	return names
}

// TestDocumented: the board, the alert rules and the README speak of metrics that
// there are, and the README of all of forsun's.
func TestDocumented(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, nil)
	var exposed map[string]bool
	for deadline := time.Now().Add(patience); !exposed["forsun_canary_duration_seconds"]; time.Sleep(100 * time.Millisecond) {
		if exposed = r.exposed(); time.Now().After(deadline) {
			t.Fatal("no canary came all the way")
		}
	}
	series := regexp.MustCompile(`\b(?:forsun|go|process)_[a-z0-9_]+\b`)
	root := filepath.Join("..", "..", "..")
	for _, file := range []string{"deploy/grafana/forsun.json", "deploy/prometheus/forsun.rules.yml"} {
		text, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		found := series.FindAllString(string(text), -1)
		if len(found) == 0 {
			t.Errorf("%s speaks of no metric", file)
		}
		for _, name := range slices.Compact(slices.Sorted(slices.Values(found))) {
			if !exposed[name] {
				t.Errorf("%s: there is no series %s", file, name)
			}
		}
	}
	families, err := r.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range []string{"README.md", "README.zh-CN.md"} {
		text, err := os.ReadFile(filepath.Join(root, page))
		if err != nil {
			t.Fatal(err)
		}
		told := series.FindAllString(string(text), -1)
		for _, f := range families {
			if name := f.GetName(); strings.HasPrefix(name, "forsun_") && !slices.Contains(told, name) {
				t.Errorf("%s does not speak of %s", page, name)
			}
		}
		for _, name := range told {
			if strings.HasPrefix(name, "forsun_") && name != "forsun_call" && !exposed[name] && !exposed[name+"_count"] {
				t.Errorf("%s: there is no metric %s", page, name)
			}
		}
	}
}

// TestStoreAway: a scrape is answered while the store is not, without what must be
// read from it.
func TestStoreAway(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, nil)
	r.store.noShards.Store(true)
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		text := r.scrape()
		if strings.Contains(text, "forsun_store_read 0\n") {
			if strings.Contains(text, "forsun_shard_plans") || !strings.Contains(text, `forsun_shard_leading{shard="0"} 1`) {
				t.Errorf("got %s", text)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("forsun_store_read stays 1")
		}
	}
	if _, answer := r.ready(); !answer.Ready {
		t.Errorf("red: %q", answer.Problems)
	}
}
