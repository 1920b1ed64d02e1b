package chaos

import (
	"bytes"
	"os"
	"testing"
)

// TestNothingIsSeeded: no failpoint and no seeded bug is in forsund as it is built for use.
func TestNothingIsSeeded(t *testing.T) {
	t.Parallel()
	if tags := os.Getenv("CHAOS_TAGS"); tags != "" {
		t.Skip("built with tags: ", tags)
	}
	program, err := os.ReadFile(built.of(t, nobody))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"after-trust-check", "before-sync", "CHAOS_FAILPOINT", "acknowledge-first", "no-fence", "no-sync"} {
		if bytes.Contains(program, []byte(name)) {
			t.Errorf("%s is in it", name)
		}
	}
}
