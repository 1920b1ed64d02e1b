package main

import (
	"bufio"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// nodeFiles are the versions of the queues of Node, and what runs them.
//
//go:embed node
var nodeFiles embed.FS

// installTimeout bounds what npm does.
const installTimeout = 3 * time.Minute

// install puts nodeFiles and what they depend on into dir, where npm has not done so
// before.
func install(dir string) error {
	for _, program := range []string{"node", "npm", "redis-server"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("%s is not here", program)
		}
	}
	same := true
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, name := range []string{"package.json", "package-lock.json", "peer.mjs"} {
		want, err := nodeFiles.ReadFile("node/" + name)
		if err != nil {
			return err
		}
		path := filepath.Join(dir, name)
		if have, err := os.ReadFile(path); err == nil && string(have) == string(want) {
			continue
		}
		same = same && name == "peer.mjs"
		if err := os.WriteFile(path, want, 0o644); err != nil {
			return err
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "node_modules", ".package-lock.json")); err == nil && same {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), installTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("npm ci: %w: %s", err, lastLine(string(out)))
	}
	return nil
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

// newNode is a queue of Node's: library is what peer.mjs calls it.
func newNode(name, library, dir string, works ...string) *contestant {
	return &contestant{
		name: name, note: "one process of Node, 100 jobs at a time", works: works,
		ready: sync.OnceValue(func() error { return install(dir) }),
		once: func(ctx context.Context, t task) (f figures, err error) {
			server, err := startRedis(ctx)
			if err != nil {
				return f, err
			}
			defer server.stop()
			if t.work == create {
				n := &nodeRun{ctx: ctx, dir: dir}
				defer n.stop()
				far := time.Now().Add(8 * time.Hour).Unix()
				if err := n.start(library, create, server.port, far, t, createClients); err != nil {
					return f, err
				}
				said, err := n.read()
				return figures{Seconds: said.Seconds, PerSecond: float64(t.jobs) / said.Seconds}, err
			}
			n := &nodeRun{ctx: ctx, dir: dir}
			defer n.stop()
			return server.drained(ctx, t, nodeSpeed, func(first int64) error {
				if err := n.start(library, "drain", server.port, first, t, 0); err != nil {
					return err
				}
				_, err := n.read()
				return err
			}, func(first int64) (figures, error) { return n.drain(t, first) })
		},
	}
}

// nodeRun is a process of peer.mjs.
type nodeRun struct {
	ctx  context.Context
	dir  string
	cmd  *exec.Cmd // nil before start
	in   io.WriteCloser
	out  *bufio.Reader
	errs strings.Builder
}

// said is a line of peer.mjs.
type said struct {
	Filled  float64   `json:"filled"`
	Seconds float64   `json:"seconds"`
	Began   []float64 `json:"began"`
}

func (n *nodeRun) start(library, work string, port int, first int64, t task, clients int) error {
	cmd := exec.CommandContext(n.ctx, "node", "peer.mjs", library, work, strconv.Itoa(port), strconv.FormatInt(first, 10),
		strconv.Itoa(t.rate), strconv.Itoa(t.jobs), strconv.Itoa(clients))
	cmd.Dir, cmd.Stderr = n.dir, &n.errs
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var err error
	if n.in, err = cmd.StdinPipe(); err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	n.out = bufio.NewReaderSize(out, 1<<20)
	if err := cmd.Start(); err != nil {
		return err
	}
	n.cmd = cmd
	return nil
}

func (n *nodeRun) stop() {
	if n.cmd != nil {
		n.cmd.Process.Kill()
		n.cmd.Wait()
	}
}

func (n *nodeRun) read() (s said, err error) {
	line, err := n.out.ReadBytes('\n')
	if err != nil {
		n.stop() // so that what it wrote is there
		return s, fmt.Errorf("node: %w: %s", err, lastLine(n.errs.String()))
	}
	return s, json.Unmarshal(line, &s)
}

func (n *nodeRun) drain(t task, first int64) (figures, error) {
	if _, err := io.WriteString(n.in, "go\n"); err != nil {
		return figures{}, err
	}
	s, err := n.read()
	if err == nil && len(s.Began) != t.jobs {
		err = errors.New("node: not every job began")
	}
	if err != nil {
		return figures{}, err
	}
	r := newRuns(t, first)
	for i, ms := range s.Began {
		r.began[i] = r.onTheSecond(i).Add(time.Duration(ms * float64(time.Millisecond)))
	}
	return r.figures(r.onTheSecond), nil
}
