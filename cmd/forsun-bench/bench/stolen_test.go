package bench

import "testing"

// TestStolen: what other guests of the host had, of what was wanted.
func TestStolen(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		before, after string
		want          float64
	}{
		{"cpu  100 10 40 900 5 0 5 45 0 0", "cpu  160 20 60 1900 50 5 10 145 0 0", 50},
		{"cpu  100 10 40 900 5 0 5 45 0 0", "cpu  160 20 60 1900 50 5 10 45 0 0", 0},
		{"cpu  100 10 40 900", "cpu  160 20 60 1900", 0}, // an old kernel
		{"", "", 0},
	} {
		if got := readTicks(row.after).stolen(readTicks(row.before)); got != row.want {
			t.Errorf("%q, %q: got %g, want %g", row.before, row.after, got, row.want)
		}
	}
}
