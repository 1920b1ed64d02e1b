package memstore

import (
	"strings"
	"testing"

	"github.com/snower/forsun/scheduler"
)

// TestCheckPromises: what a store's options do not promise is said.
func TestCheckPromises(t *testing.T) {
	t.Parallel()
	rows := []struct {
		why  string
		set  func(*Options)
		want string // in the problem; "": nothing is said
	}{
		{"synced before each answer", func(o *Options) { o.Dir = t.TempDir() }, ""},
		{"synced later", func(o *Options) { o.Dir, o.Sync = t.TempDir(), SyncSecond }, "syncs once a second"},
		{"not synced", func(o *Options) { o.Dir, o.Sync = t.TempDir(), SyncNever }, "never syncs"},
		{"in memory", func(o *Options) { o.Dir = Memory }, "in memory"},
		{"a full disk", func(o *Options) { o.Dir, o.Reserve = t.TempDir(), 1<<60 }, "no plan is accepted"},
	}
	for _, row := range rows {
		o := testOptions(t)
		o.Ballast = 0
		row.set(&o)
		var got []string
		if err := open(t, o).Check(t.Context(), func(f scheduler.Finding) {
			if f.Shard != scheduler.WholeDeployment || f.Severity == scheduler.SeverityInfo || f.Advice == "" {
				t.Errorf("%s: %+v, want a finding on the whole deployment, a severity, and advice", row.why, f)
			}
			got = append(got, f.Problem)
		}); err != nil {
			t.Errorf("%s: %v", row.why, err)
		}
		if row.want == "" && len(got) > 0 || row.want != "" && (len(got) != 1 || !strings.Contains(got[0], row.want)) {
			t.Errorf("%s: Check said %q, want %q", row.why, got, row.want)
		}
	}
}
