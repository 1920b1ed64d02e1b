package chaos

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"time"
)

// mostMemory is what a replica may take, whatever is done to it.
const mostMemory = 256 << 20

// usage is what a process takes of the machine.
type usage struct {
	memory int64 // resident bytes
	files  int   // open descriptors
}

// usage reads it of a replica that is up, from /proc.
func (f *fleet) usage(r *replica) (u usage) {
	f.t.Helper()
	proc := fmt.Sprintf("/proc/%d/", r.proc.PID())
	status, err := os.ReadFile(proc + "status")
	if err != nil {
		f.t.Fatal(err)
	}
	for line := range bytes.Lines(status) {
		if text, ok := bytes.CutPrefix(line, []byte("VmRSS:")); ok {
			kib, _ := strconv.ParseInt(string(bytes.Fields(text)[0]), 10, 64)
			u.memory = kib << 10
		}
	}
	files, err := os.ReadDir(proc + "fd")
	if err != nil {
		f.t.Fatal(err)
	}
	u.files = len(files)
	return u
}

// returned waits until a replica has no more files open than before, but for a few, and
// checks that it has taken no more memory than it may.
func (f *fleet) returned(r *replica, before usage) {
	f.t.Helper()
	const few = 32 // connections that a pool keeps
	now := f.usage(r)
	for deadline := time.Now().Add(time.Minute); now.files > before.files+few; now = f.usage(r) {
		if time.Now().After(deadline) {
			f.t.Errorf("%s: %d files open, were %d", r.name, now.files, before.files)
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	f.event("%s: %d files open, were %d; %d MiB resident, were %d", r.name, now.files, before.files, now.memory>>20, before.memory>>20)
	if now.memory > mostMemory {
		f.t.Errorf("%s: %d MiB resident, want at most %d", r.name, now.memory>>20, mostMemory>>20)
	}
}

// doctor checks that the store fits together: nothing in one place that should be in another.
// Findings about a subject that is expected do not count.
func (f *fleet) doctor(expected ...string) {
	f.t.Helper()
	response, err := (&http.Client{Timeout: 3 * time.Minute}).Get(f.bases()[0] + "/v1/doctor")
	if err != nil {
		f.t.Fatal(err)
	}
	defer response.Body.Close()
	var answer struct {
		Code int `json:"errcode"`
		Data []struct{ Severity, Subject, Problem string }
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || answer.Code != 0 {
		f.t.Fatalf("doctor: %d, %v", answer.Code, err)
	}
findings:
	for _, finding := range answer.Data {
		f.event("doctor: %s: %s: %s", finding.Severity, finding.Subject, finding.Problem)
		for _, subject := range expected {
			if subject == finding.Subject {
				continue findings
			}
		}
		if finding.Severity == "error" {
			f.t.Errorf("doctor: %s: %s", finding.Subject, finding.Problem)
		}
	}
}
