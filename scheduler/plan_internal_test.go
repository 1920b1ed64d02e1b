package scheduler

import "testing"

// TestDraw: revisions that are drawn together are as different as any.
func TestDraw(t *testing.T) {
	t.Parallel()
	seen := map[Revision]bool{}
	for _, n := range []int{1, 2, 64, 65, 1000} {
		var d draw
		for i := range n {
			r := d.revision(n - i)
			if r == 0 || seen[r] {
				t.Fatalf("%d of %d: got %s, which is 0 or was drawn before", i, n, r)
			}
			seen[r] = true
		}
		if d.left != 0 {
			t.Errorf("%d: %d bytes were drawn for nothing", n, d.left)
		}
	}
}
