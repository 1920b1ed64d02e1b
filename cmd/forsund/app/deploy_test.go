package app

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/snower/forsun/redisstore/redistest/proc"
	"github.com/snower/forsun/scheduler"
)

// tool runs a program that the tests need, and returns what it prints.
func tool(t *testing.T, name string, args ...string) (output string, err error) {
	t.Helper()
	path := name
	if !filepath.IsAbs(name) {
		// Debian keeps servers in sbin, which is not on everybody's PATH.
		for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/local/sbin", "/usr/sbin", "/sbin") {
			if exists(filepath.Join(dir, name)) {
				path = filepath.Join(dir, name)
				break
			}
		}
	}
	out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput()
	if err != nil && !strings.Contains(err.Error(), "exit status") {
		t.Fatalf("%s: %v", name, err)
	}
	return string(out), err
}

// TestDeployFiles: the Dockerfile, the compose file and the manifests are what
// their tools take, start a forsund, and agree with each other; and what would
// not, is found.
func TestDeployFiles(t *testing.T) {
	t.Parallel()
	lint := filepath.Join(t.TempDir(), "deploylint")
	if out, err := tool(t, "go", "-C", filepath.Join(root, "scripts/deploylint"), "build", "-o", lint, "."); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	if out, err := tool(t, lint, "-forsund", program, filepath.Join(root, "deploy")); err != nil {
		t.Errorf("deploylint: %v\n%s", err, out)
	}

	// Each row: a file, what is changed in it, and what is said of that.
	type change struct{ file, old, new, want string }
	rows := [][]change{{
		{"Dockerfile", "EXPOSE 6458 9002", "EXPOSE 6458", "EXPOSE [6458], want 6458 9002"},
		{"Dockerfile", "golang:1.26-", "golang:1.19-", "but go.mod asks for go"},
		{"Dockerfile", "FORSUN_LOG=/var/log/forsun/forsund.log", "FORSUN_LOG=/srv/forsund.log", "--log is /srv/forsund.log, which is in none of the volumes"},
		{"Dockerfile", "COPY --chmod=0755 deploy/docker-entrypoint.sh", "COPY --chmod=0755 deploy/entrypoint.sh", "COPY deploy/entrypoint.sh: stat"},
		{"Dockerfile", "/readyz", "/ready", `the health check asks "http://127.0.0.1:6459/ready"`},
		{"compose.yaml", "--admin=0.0.0.0:6459", "--admin=none", "--admin is none, want 0.0.0.0:6459"},
		{"kubernetes/networkpolicy.yaml", "        - port: http\n", "        - port: http\n        - port: admin\n    - ports:\n        - port: admin\n", "the network policy opens the ports"},
		{"compose.yaml", "replicas: 3", "replicas: 2", "want three replicas"},
		{"compose.yaml", "stop_grace_period: 60s", "stop_grace_period: 40s", fmt.Sprintf("a stop may take 45s (0s before it, the drain of 30s, %v after it), and is cut off after 40s", stopMargin)},
		{"compose.yaml", "--driver-redis-host=redis", "--driver-redis-host=valkey", "--driver is redis on valkey, which is no service"},
		{"compose.yaml", `"--appendonly", "yes"`, `"--appendonly", "no"`, "want AOF and noeviction"},
		{"compose.yaml", "./haproxy.cfg:", "./nginx.conf:", "balancer: volume: stat"},
		{"kubernetes/deployment.yaml", "path: /readyz", "path: /livez", "readinessProbe asks for /livez on port 6459, want /readyz on 6459"},
		{"kubernetes/deployment.yaml", "--bind=0.0.0.0", "--bind=127.0.0.1", "--bind is 127.0.0.1, want 0.0.0.0"},
		{"kubernetes/deployment.yaml", `["sleep", "5"]`, `["sleep", "20"]`, "a stop may take 1m5s (20s before it, the drain of 30s, 15s after it), and is cut off after 1m0s"},
		{"kubernetes/deployment.yaml", "runAsUser: 65532", "runAsUser: 1000", "want to run as 65532"},
		{"kubernetes/service.yaml", "targetPort: http", "targetPort: web", "the service's port http, 9002, leads to web (port 0)"},
		{"kubernetes/poddisruptionbudget.yaml", "      app.kubernetes.io/name: forsun\n", "      app.kubernetes.io/name: other\n", "the disruption budget does not select the pods"},
	}, {
		{"Dockerfile", "STOPSIGNAL SIGTERM", "STOPSINGAL SIGTERM", "unknown instruction: STOPSINGAL"},
		{"compose.yaml", "restart: unless-stopped", "restrat: unless-stopped", "restrat"},
		{"kubernetes/deployment.yaml", "replicas: 3", "replica: 3", `unknown field "replica"`},
	}, {
		{"compose.yaml", "--drain-timeout=30s", "--drain-timout=30s", "forsund does not start like this: forsund: --drain-timout: no such option, did you mean --drain-timeout?"},
	}}
	for _, changes := range rows {
		top := t.TempDir()
		if err := os.CopyFS(filepath.Join(top, "deploy"), os.DirFS(filepath.Join(root, "deploy"))); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"go.mod", "go.sum"} {
			if err := os.WriteFile(filepath.Join(top, name), []byte(readPage(t, name)), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for _, c := range changes {
			path := filepath.Join(top, "deploy", c.file)
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			changed := bytes.ReplaceAll(text, []byte(c.old), []byte(c.new))
			if bytes.Equal(changed, text) {
				t.Fatalf("%s has no %q", c.file, c.old)
			}
			if err := os.WriteFile(path, changed, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		out, err := tool(t, lint, "-forsund", program, filepath.Join(top, "deploy"))
		if err == nil {
			t.Errorf("deploylint finds nothing wrong with %q", changes)
		}
		for _, c := range changes {
			if !strings.Contains(out, c.want) {
				t.Errorf("%s with %q: deploylint does not say %q:\n%s", c.file, c.new, c.want, out)
			}
		}
	}
}

// TestDeployBalancer: haproxy takes its configuration, which asks the replicas what
// they answer, on the ports that they have.
func TestDeployBalancer(t *testing.T) {
	t.Parallel()
	path := filepath.Join(root, "deploy", "haproxy.cfg")
	if out, err := tool(t, "haproxy", "-c", "-f", path); err != nil || strings.Contains(out, "WARNING") {
		t.Errorf("haproxy: %v\n%s", err, out)
	}
	text := readPage(t, "deploy/haproxy.cfg")
	for _, want := range []string{"bind :6458", "bind :9002", "forsund:6458", "forsund:9002", "rise 1 port 6459"} {
		if !strings.Contains(text, want) {
			t.Errorf("haproxy.cfg has no %q", want)
		}
	}
	if n := strings.Count(text, "uri /readyz"); n != strings.Count(text, "\nbackend ") {
		t.Errorf("%d of the backends ask for /readyz", n)
	}
}

// TestDeployUnit: systemd takes the unit, calls it hardened, and would start a
// forsund with it and wait for its drain.
func TestDeployUnit(t *testing.T) {
	t.Parallel()
	text := readPage(t, "deploy/forsun.service")
	unit := filepath.Join(t.TempDir(), "forsun.service")
	const installed = "/usr/local/bin/forsund"
	if !strings.Contains(text, "ExecStart="+installed+" ") {
		t.Fatalf("the unit does not start %s", installed)
	}
	if err := os.WriteFile(unit, []byte(strings.ReplaceAll(text, installed, program)), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := tool(t, "systemd-analyze", "verify", "--man=no", unit); err != nil || strings.Contains(out, "forsun.service:") {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	if out, err := tool(t, "systemd-analyze", "security", "--offline=true", "--threshold=20", unit); err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}

	field := func(name string) string {
		m := regexp.MustCompile(`(?m)^` + name + `=(.*)$`).FindStringSubmatch(text)
		if m == nil {
			t.Fatalf("the unit has no %s", name)
		}
		return m[1]
	}
	args := strings.Fields(field("ExecStart"))[1:]
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], "/etc/forsun/forsun.conf", filepath.Join(root, "deploy", "forsun.conf.example"))
	}
	cmd := command(append([]string{"config"}, args...)...)
	cmd.Env = append(cmd.Env, field("Environment"))
	status, stdout, stderr := result(t, cmd)
	if status != 0 || !strings.Contains(stdout, field("StateDirectory")) || !regexp.MustCompile(`(?m)^driver-mem-store-file +/var/lib/forsun `).MatchString(stdout) {
		t.Errorf("forsund config %q: %d, %s%s", args, status, stdout, stderr)
	}
	patience, err := time.ParseDuration(field("TimeoutStopSec"))
	if need := scheduler.DefaultEngineOptions().DrainTimeout + stopMargin; err != nil || patience < need {
		t.Errorf("TimeoutStopSec=%s (%v), a stop may take %s", patience, err, need)
	}
	if field("Type") != "notify" || field("RestartPreventExitStatus") != "2" || field("KillMode") != "mixed" {
		t.Error("Type, RestartPreventExitStatus or KillMode is not what forsund is made for")
	}
}

// TestDeployMake: make image builds the image from the top, with its version.
func TestDeployMake(t *testing.T) {
	t.Parallel()
	out, err := tool(t, "make", "-n", "-C", root, "image", "VERSION=v9", "IMAGE=forsun:v9")
	if err != nil || !strings.Contains(out, "docker build -f deploy/Dockerfile --build-arg VERSION=v9 -t forsun:v9 .") {
		t.Errorf("make -n image: %v\n%s", err, out)
	}
	dockerfile := readPage(t, "deploy/Dockerfile")
	if !strings.Contains(dockerfile, "ARG VERSION") || !strings.Contains(dockerfile, "main.version=${VERSION}") {
		t.Error("the Dockerfile does not stamp VERSION in")
	}
}

// TestDeployContext: what the image is built from has all that the programs need.
func TestDeployContext(t *testing.T) {
	t.Parallel()
	sent := strings.Fields(readPage(t, "deploy/Dockerfile.dockerignore"))
	out, err := tool(t, "go", "-C", root, "list", "-deps", "-f", "{{with .Module}}{{if .Main}}{{$.ImportPath}}{{end}}{{end}}", "./cmd/forsund", "./cmd/forsun")
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, out)
	}
	packages := 0
	for path := range strings.FieldsSeq(out) {
		packages++
		top, _, _ := strings.Cut(strings.TrimPrefix(path, "github.com/snower/forsun/"), "/")
		if !slices.Contains(sent, "!"+top) {
			t.Errorf("%s is needed and left out", path)
		}
	}
	if packages < 10 {
		t.Errorf("go list found %d packages: %s", packages, out)
	}
}

// TestDeployEntrypoint runs the image's entrypoint, on directories of its own in
// place of the mounted ones: they belong to root, forsund does not run as root,
// and it works.
func TestDeployEntrypoint(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		// Then the script changes nothing: see its last line.
		t.Log("not root: only that it goes on as who it was started")
	}
	dir := t.TempDir()
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, sub := range []string{"bin", "lib", "log"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(program, filepath.Join(dir, "bin", "forsund")); err != nil {
		t.Fatal(err)
	}
	text := readPage(t, "deploy/docker-entrypoint.sh")
	text = strings.NewReplacer("/var/lib/forsun", dir+"/lib", "/var/log/forsun", dir+"/log").Replace(text)
	script := filepath.Join(dir, "docker-entrypoint")
	if err := proc.WriteProgram(script, []byte(text)); err != nil {
		t.Fatal(err)
	}
	entrypoint := func(args ...string) *exec.Cmd {
		cmd := exec.Command(script, args...)
		cmd.Env = []string{"PATH=" + dir + "/bin:" + os.Getenv("PATH"), "HOME=/nonexistent"}
		return cmd
	}
	uid := 65532
	if os.Geteuid() != 0 {
		uid = os.Geteuid()
	}
	if status, out, stderr := result(t, entrypoint("id", "-u")); status != 0 || out != fmt.Sprintln(uid) {
		t.Errorf("as whom it goes on: %d, %q %s", status, out, stderr)
	}
	for _, args := range [][]string{{"--version"}, {"forsund", "--version"}} {
		if status, out, stderr := result(t, entrypoint(args...)); status != 0 || !strings.HasPrefix(out, "forsund ") {
			t.Errorf("docker-entrypoint %q: %d, %q %s", args, status, out, stderr)
		}
	}

	p := &forsund{t: t, log: filepath.Join(dir, "log", "forsund.log"), exited: make(chan struct{})}
	p.cmd = entrypoint("--port=0", "--admin=none", "--driver-mem-store-file="+dir+"/lib", "--log="+p.log)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.cmd.Wait(); close(p.exited) }()
	t.Cleanup(p.kill)
	p.address, _ = p.waitLog("forsund is ready")["thrift"].(string)
	p.create(once("touch", "id -u > "+dir+"/lib/uid"))
	poll(t, "the shell plan", func() bool {
		b, _ := os.ReadFile(filepath.Join(dir, "lib", "uid"))
		return string(b) == fmt.Sprintln(uid)
	})
	for _, path := range slices.Concat([]string{p.log}, globAll(t, dir+"/lib/*")) {
		info, err := os.Stat(path)
		if err != nil {
			continue // a file of the store that it removes
		}
		if owner := int(info.Sys().(*syscall.Stat_t).Uid); owner != uid {
			t.Errorf("%s belongs to %d, want %d", path, owner, uid)
		}
	}
	if status := p.stop(syscall.SIGTERM); status != 0 {
		t.Errorf("exit status %d, want 0", status)
	}
}

func globAll(t *testing.T, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) == 0 {
		t.Fatalf("%s: %v, %v", pattern, paths, err)
	}
	return paths
}
