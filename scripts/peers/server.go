package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

// startTimeout bounds the start of a server.
const startTimeout = 10 * time.Second

// server is a process that listens on a free port of loopback, with a directory
// of its own.
type server struct {
	port int
	addr string
	stop func()
}

// start runs a program whose arguments depend on its port and directory.
func start(ctx context.Context, program string, args func(port int, dir string) []string) (*server, error) {
	dir, err := os.MkdirTemp("", "peers-")
	if err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	port := ln.Addr().(*net.TCPAddr).Port
	ln.Close()
	var output strings.Builder
	cmd := exec.Command(program, args(port, dir)...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &output, &output
	// It ends with this process, whatever that ends by.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	s := &server{port: port, addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port))}
	s.stop = func() {
		cmd.Process.Kill() // what it has stored is thrown away
		cmd.Wait()
		os.RemoveAll(dir)
	}
	for begun := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		conn, err := net.DialTimeout("tcp", s.addr, time.Second)
		if err == nil {
			conn.Close()
			return s, nil
		}
		if ctx.Err() != nil || time.Since(begun) > startTimeout {
			s.stop()
			return nil, fmt.Errorf("%s does not start: %w\n%s", program, err, output.String())
		}
	}
}

// redisServer is a server and a connection to watch it by.
type redisServer struct {
	*server
	watch *redis.Client
}

// startRedis starts a redis-server whose log is synced every second.
func startRedis(ctx context.Context) (*redisServer, error) {
	s, err := start(ctx, "redis-server", func(port int, dir string) []string {
		return []string{"--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--dir", dir, "--save", "", "--appendonly", "yes", "--appendfsync", "everysec"}
	})
	if err != nil {
		return nil, err
	}
	r := &redisServer{s, redis.NewClient(&redis.Options{Addr: s.addr, PoolSize: 1, DisableIdentity: true})}
	stop := s.stop
	s.stop = func() { r.watch.Close(); stop() }
	return r, nil
}

// field reads fields of INFO and adds them up.
func (r *redisServer) fields(ctx context.Context, section string, names ...string) (sum float64, err error) {
	text, err := r.watch.Info(ctx, section).Result()
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		for _, n := range names {
			if n != name {
				continue
			}
			v, err := strconv.ParseFloat(value, 64)
			if err != nil {
				return 0, err
			}
			sum += v
		}
	}
	return sum, nil
}

// memory is what the server uses, in bytes.
func (r *redisServer) memory(ctx context.Context) (float64, error) {
	return r.fields(ctx, "memory", "used_memory")
}

// cpu is the processor time of the server so far, of all its threads, in seconds.
func (r *redisServer) cpu(ctx context.Context) (float64, error) {
	return r.fields(ctx, "cpu", "used_cpu_sys", "used_cpu_user")
}

// drained measures what is between fill, which stores a task's jobs for the second
// first and later, at least speed of them a second, and the end of drain.
func (r *redisServer) drained(ctx context.Context, t task, speed int, fill func(first int64) error, drain func(first int64) (figures, error)) (f figures, err error) {
	empty, err := r.memory(ctx)
	if err != nil {
		return f, err
	}
	first, err := filled(t, speed, fill)
	if err != nil {
		return f, err
	}
	full, err := r.memory(ctx)
	if err != nil {
		return f, err
	}
	before, err := r.cpu(ctx)
	if err != nil {
		return f, err
	}
	if f, err = drain(first); err != nil {
		return f, err
	}
	after, err := r.cpu(ctx)
	f.Bytes = (full - empty) / float64(t.jobs)
	f.RedisCPU = (after - before) * 1e6 / float64(t.jobs)
	return f, err
}

// A speed at which all of them store jobs if the machine does nothing else, and one for
// those of Node.
const (
	usualSpeed = 15_000
	nodeSpeed  = 5_000
)

// errLate says that jobs were stored more slowly than was reckoned with.
var errLate = errors.New("their second has passed")

// filled stores the jobs of a task by fill, for a second by which they are surely stored
// at that speed.
func filled(t task, speed int, fill func(first int64) error) (first int64, err error) {
	first = time.Now().Unix() + 3 + int64(t.slowness*t.jobs/speed)
	if err := fill(first); err != nil {
		return 0, err
	}
	if time.Now().Unix() >= first-1 {
		return 0, fmt.Errorf("storing %d jobs took too long: %w", t.jobs, errLate)
	}
	return first, nil
}
