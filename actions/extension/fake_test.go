package extension

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/snower/forsun/redisstore/redistest/proc"
)

// TestMain is also the extensions of these tests: this program, called with the name
// of what is wrong with it.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "extension" {
		fake(os.Args[2])
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// install makes an extension that does what fake says, in a directory of its own, and
// returns its options.
func install(t *testing.T, fault string) Options {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	script := fmt.Sprintf("#!/bin/sh\nexec '%s' extension %s\n", self, fault)
	if err := proc.WriteProgram(filepath.Join(dir, "fake"), []byte(script)); err != nil {
		t.Fatal(err)
	}
	return DefaultOptions(dir, "fake")
}

// fake is an extension with a fault. What it executes is told by the parameter "do".
func fake(fault string) {
	in := bufio.NewReader(os.Stdin)
	line, _ := in.ReadString('\n')
	var hello struct{ Name string }
	if err := json.Unmarshal([]byte(line), &hello); err != nil {
		os.Exit(9)
	}
	say := func(format string, args ...any) { fmt.Printf(format+"\n", args...) }
	greet := func(fields string) {
		say(`{"type":"hello","protocol":1,"name":%q,"version":"1.0"%s}`, hello.Name, fields)
	}
	once := func() bool { // the first process of this extension only
		f, err := os.OpenFile("was-here", os.O_CREATE|os.O_EXCL, 0o600)
		f.Close()
		return err == nil
	}
	switch fault {
	case "version":
		say(`{"type":"hello","protocol":2,"name":%q}`, hello.Name)
	case "name":
		say(`{"type":"hello","protocol":1,"name":"other"}`)
	case "concurrency":
		greet(`,"concurrency":5000`)
	case "nonsense":
		say("hello, forsund")
	case "silent":
	case "status":
		fmt.Fprintln(os.Stderr, "cannot find my files")
		os.Exit(3)
	case "slow":
		if once() {
			time.Sleep(time.Hour)
		}
		greet("")
	case "deaf":
		greet(`,"concurrency":200,"timeout":60`)
		time.Sleep(time.Hour)
	case "stubborn":
		signal.Ignore(syscall.SIGTERM)
		child := exec.Command("/bin/sleep", "3600") // in its group, and holds its pipes
		child.Stdout, child.Stderr = os.Stdout, os.Stderr
		child.Start()
		os.WriteFile("pids", fmt.Append(nil, os.Getpid(), " ", child.Process.Pid), 0o600)
		greet("")
		for {
			time.Sleep(time.Hour)
		}
	default:
		greet(`,"concurrency":4,"timeout":7.5,"params_bytes":1000,"check":true,"parameters":[{"name":"do","required":true},{"name":"color","values":["red","blue"]}]`)
	}
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			if fault == "polite" {
				os.WriteFile("bye", nil, 0o600)
			}
			return
		}
		var m struct {
			Type   string
			ID     uint64
			Params map[string]string
		}
		if json.Unmarshal([]byte(line), &m) != nil {
			os.Exit(9)
		}
		result := func(fields string) { say(`{"type":"result","id":%d%s}`, m.ID, fields) }
		do, arg, _ := strings.Cut(m.Params["do"], " ")
		switch {
		case m.Type == "check" && do == "refused":
			say(`{"type":"checked","id":%d,"parameter":"do","error":"%s is refused\u001b[1m"}`, m.ID, arg)
		case m.Type == "check" && do == "unchecked":
		case m.Type == "check":
			say(`{"type":"checked","id":%d}`, m.ID)
		case m.Type == "cancel" && fault == "obedient":
			result(`,"error":"cancelled"`)
		case m.Type == "cancel":
		case do == "echo":
			b, _ := json.Marshal(line)
			result(`,"output":` + string(b) + `,"new":[1]`)
		case do == "answer":
			result(arg)
		case do == "garbage":
			say("%s", arg)
		case do == "long":
			say("%s", strings.Repeat("x", MaxLine+1))
		case do == "large":
			result(`,"output":"` + strings.Repeat("x", MaxLine-100) + `"`)
		case do == "twice":
			result("")
			result("")
		case do == "die":
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
		case do == "close":
			os.Stdout.Close()
		case do == "noise":
			for range 200 {
				fmt.Fprintln(os.Stderr, arg, strings.Repeat("y", 5000))
			}
			result("")
		case do == "environment":
			b, _ := json.Marshal(strings.Join(os.Environ(), " "))
			result(`,"output":` + string(b))
		case do == "hang":
		}
	}
}
