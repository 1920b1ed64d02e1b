package rpc

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestGeneratedCode compares rpc/gen with what forsun.thrift gives now.
func TestGeneratedCode(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("thrift"); err != nil {
		t.Fatal("the Thrift compiler 0.17 is missing; install Debian's thrift-compiler (make servers)")
	}
	fresh := t.TempDir()
	if out, err := exec.Command("../scripts/gen.sh", fresh).CombinedOutput(); err != nil {
		t.Fatalf("scripts/gen.sh: %v\n%s", err, out)
	}
	wanted, err := filepath.Glob(filepath.Join(fresh, "forsun", "*.go"))
	if err != nil || len(wanted) == 0 {
		t.Fatalf("nothing was generated (%v)", err)
	}
	committed, _ := filepath.Glob("gen/forsun/*.go")
	if len(committed) != len(wanted) {
		t.Errorf("rpc/gen/forsun has %d files, generated are %d", len(committed), len(wanted))
	}
	for _, path := range wanted {
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join("gen/forsun", filepath.Base(path)))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("rpc/gen/forsun/%s is not what forsun.thrift generates: run scripts/gen.sh and commit", filepath.Base(path))
		}
	}
}
