package app

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestBackupAndRestore: the running forsund writes a backup when it is asked to, and a
// forsund on the store that is made of it has its plans.
func TestBackupAndRestore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	backup, restored := filepath.Join(dir, "backup"), filepath.Join(dir, "restored")
	p := start(t, filepath.Join(dir, "store"))
	later := once("kept", "true")
	later.Schedule.Second = 3600
	p.create(later)

	host, port, _ := strings.Cut(p.address, ":")
	cmd := command("backup", backup)
	cmd.Env = append(cmd.Env, "FORSUN_HOST="+host, "FORSUN_PORT="+port)
	if status, stdout, stderr := result(t, cmd); status != 0 || !strings.Contains(stdout, backup) {
		t.Fatalf("backup: status %d, %s%s", status, stdout, stderr)
	}
	if status := p.stop(syscall.SIGTERM); status != 0 {
		t.Fatalf("status %d", status)
	}

	if status, stdout, stderr := result(t, command("restore", backup, "--driver-mem-store-file="+restored)); status != 0 || !strings.Contains(stdout, restored) {
		t.Fatalf("restore: status %d, %s%s", status, stdout, stderr)
	}
	if status, stdout, stderr := result(t, command("restore", "--help")); status != 0 || !strings.HasPrefix(stdout, "usage: forsund restore DIR") {
		t.Errorf("restore --help: status %d, %s%s", status, stdout, stderr)
	}
	p = start(t, restored)
	plan, err := p.client().Get(t.Context(), "kept")
	if err != nil || plan.Key != "kept" {
		t.Errorf("after the restore: %v, %v", plan, err)
	}
}
