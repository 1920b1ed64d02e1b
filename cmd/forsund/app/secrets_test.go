package app

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestReadSecrets(t *testing.T) {
	dir := t.TempDir()
	written := 0
	write := func(text string, mode os.FileMode) string {
		written++
		path := filepath.Join(dir, fmt.Sprint(written))
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	got, err := readSecrets(write("# of production\n\n db-password = p=ss word# \r\nTOKEN=0123\n", 0o640))
	if want := map[string]string{"db-password": "p=ss word#", "TOKEN": "0123"}; err != nil || !maps.Equal(got, want) {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	link := filepath.Join(dir, "link") // as Kubernetes mounts secrets
	if err := os.Symlink(write("TOKEN=0123\n", 0o400), link); err != nil {
		t.Fatal(err)
	}
	if got, err := readSecrets(link); err != nil || got["TOKEN"] != "0123" {
		t.Errorf("through a link: got %q, %v", got, err)
	}
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct{ path, want string }{
		{write("A=s3cret\n", 0o644), "mode 0644 is not allowed; allowed: 0600, 0640 or less"},
		{write("A=s3cret\n", 0o660), "mode 0660 is not allowed"},
		{write("A=s3cret\n", 0o602), "mode 0602 is not allowed"},
		{write("A=s3cret\ns3cret\n", 0o600), "line 2: this line is not allowed; allowed: NAME=value"},
		{write("A=s3cret\ns3cret.x=y\n", 0o600), "line 2: this line is not allowed"},
		{write("=s3cret\n", 0o600), "line 1: this line is not allowed"},
		{write("A=s3cret\nB=\n", 0o600), "line 2: a secret of 0 bytes is not allowed; allowed: 4 to 65536"},
		{write("A=s3c\n", 0o600), "a secret of 3 bytes"},
		{write("A=s3cret\x01\n", 0o600), "control characters"},
		{write("A=s3cret${secret:B}\n", 0o600), "with ${ in it"},
		{write("A=s3cret\xff\n", 0o600), "not UTF-8"},
		{write("A=s3cret\nA=s3cret2\n", 0o600), "line 2: this name is not allowed; allowed: each name once"},
		{write("A=s3cret\n"+strings.Repeat("#", 1<<20), 0o600), "more than 1 MiB"},
		{dir, "is not a file"},
		{pipe, "is not a file"},
		{"/nonexistent/s", "no such file"},
	} {
		_, err := readSecrets(row.path)
		if err == nil || !strings.Contains(err.Error(), row.want) || strings.Contains(strings.ReplaceAll(err.Error(), row.path, ""), "s3c") {
			t.Errorf("got %v, want %s", err, row.want)
		}
	}
}

// TestSecretSources: the file outweighs the environment, and is read again; what is
// wrong with it then leaves what there was.
func TestSecretSources(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secrets")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("a=of-the-file\n")
	s := &secrets{path: path, env: environment(map[string]string{"FORSUN_SECRET_A": "of-the-environment", "FORSUN_SECRET_B_C": "also-of-it", "FORSUN_SECRET_D": ""})}
	if err := s.load(); err != nil {
		t.Fatal(err)
	}
	want := func(name, want string) {
		t.Helper()
		if got, ok := s.get(name); got != want || ok != (want != "") {
			t.Errorf("%s: got %q, %v, want %q", name, got, ok, want)
		}
	}
	want("a", "of-the-file")
	want("A", "of-the-environment")
	want("b-c", "also-of-it")
	want("d", "")
	want("e", "")
	write("a=of-the-file\nnonsense\n")
	if err := s.load(); err == nil {
		t.Error("a broken file is accepted")
	}
	want("a", "of-the-file")
	write("e=new-one\n")
	if err := s.load(); err != nil {
		t.Fatal(err)
	}
	want("a", "of-the-environment")
	want("e", "new-one")
	none := &secrets{env: environment(nil)}
	if err := none.load(); err != nil {
		t.Error(err)
	}
	if _, ok := none.get("a"); ok {
		t.Error("a secret out of nothing")
	}
}
