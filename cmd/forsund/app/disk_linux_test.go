package app

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/snower/forsun/scheduler"
)

// TestDiskFails: when the store can no longer write, forsund says so on one line
// and ends with status 1, instead of going on without memory.
func TestDiskFails(t *testing.T) {
	t.Parallel()
	p := start(t, filepath.Join(t.TempDir(), "store"))
	// No file may grow beyond this from here on, as on a disk that is full.
	limit := &unix.Rlimit{Cur: 256 << 10, Max: 256 << 10}
	if err := unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_FSIZE, limit, nil); err != nil {
		t.Fatal(err)
	}
	c := p.client()
	var err error
	for i := 0; err == nil && i < 10_000; i++ {
		_, err = c.Create(t.Context(), scheduler.Request{
			Key: fmt.Sprint("filler", i), Schedule: scheduler.Schedule{Kind: scheduler.Timeout, Second: 3600, Count: 1},
			Action: "shell", Params: map[string]string{"cmd": "true", "filler": strings.Repeat("x", 1000)},
		})
	}
	if err == nil {
		t.Fatal("the store grew beyond the limit")
	}
	status := p.wait()
	if errs := p.stderr.String(); status != 1 || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, "store") {
		t.Errorf("got status %d, stderr %q, want 1 and a line about the store", status, errs)
	}
}
