package ledger

import (
	"os"
	"strings"
	"testing"
)

// TestFootprint: each way to grow is found, and this process's is read.
func TestFootprint(t *testing.T) {
	t.Parallel()
	was, slack := Footprint{10, 20, 30, 40}, Footprint{1, 2, 3, 4}
	for _, row := range []struct {
		why  string
		now  Footprint
		want string
	}{
		{"as it was", was, ""},
		{"less", Footprint{1, 1, 1, 1}, ""},
		{"within the slack", Footprint{11, 22, 33, 44}, ""},
		{"threads", Footprint{12, 20, 30, 40}, "12 threads, and before 10; allowed are 1 more"},
		{"descriptors", Footprint{10, 23, 30, 40}, "23 descriptors, and before 20; allowed are 2 more"},
		{"memory and goroutines", Footprint{10, 20, 34, 45}, "34 bytes resident, and before 30; allowed are 3 more\n45 goroutines, and before 40; allowed are 4 more"},
	} {
		if got := strings.Join(row.now.Grown(was, slack), "\n"); got != row.want {
			t.Errorf("%s: got %q, want %q", row.why, got, row.want)
		}
	}
	before, err := ReadProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if before.Threads < 2 || before.Descriptors < 3 || before.Resident < 1<<20 {
		t.Errorf("this process holds %+v", before)
	}
	if _, err := ReadProcess(0); err == nil {
		t.Error("a process that is none is read")
	}
	var f Footprint
	profile := "goroutine profile: total 9\n4 @ 0x1 0x2\n#\t0x1\ta.(*b).wait+0x1\tx.go:1\n#\t0x2\ta.run+0x1\tx.go:2\n\n" +
		"5 @ 0x1\n#\t0x1\ta.run+0x1\tx.go:1\n#\t0x2\ta.(*b).wait+0x1\tx.go:1\n"
	if err := f.ReadGoroutines(strings.NewReader(profile), "(*b).wait"); err != nil || f.Goroutines != 5 {
		t.Errorf("%d goroutines, %v; want the 5 that do not wait", f.Goroutines, err)
	}
	if err := f.ReadGoroutines(strings.NewReader("other 1\n"), "wait"); err == nil {
		t.Error("what is no profile is read")
	}
}
