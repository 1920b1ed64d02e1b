package chaos

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/snower/forsun/scripts/chaos/ledger"
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
	now, err := ledger.ReadProcess(r.proc.PID())
	if err != nil {
		f.t.Fatal(err)
	}
	return usage{memory: now.Resident, files: now.Descriptors}
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

// doctor checks, at rest, that the store fits together (I9): forsun's own doctor, which goes
// through every plan, schedule, index and queue, finds no error but about subjects that are
// expected. A replica that has just lost its lease, or its Redis, is one for a moment.
func (f *fleet) doctor(expected ...string) {
	f.t.Helper()
	var found []string
	defer func() {
		for _, finding := range found {
			f.event("doctor: %s", finding)
			f.t.Logf("doctor: %s", finding)
		}
	}()
	client := &http.Client{Timeout: 3 * time.Minute}
	defer client.CloseIdleConnections()
	eventually(f.t, "a doctor that finds no error", time.Minute, func() bool {
		response, err := client.Get(f.bases()[0] + "/v1/doctor")
		if err != nil {
			f.t.Fatal(err)
		}
		defer response.Body.Close()
		var answer struct {
			Code    int    `json:"errcode"`
			Message string `json:"errmsg"`
			Data    []struct{ Severity, Subject, Problem string }
		}
		if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
			f.t.Fatal(err)
		}
		found = nil
		if answer.Code != 0 {
			found = append(found, fmt.Sprint(answer.Code, " ", answer.Message))
		}
		for _, finding := range answer.Data {
			if finding.Severity == "error" && !slices.Contains(expected, finding.Subject) {
				found = append(found, finding.Subject+": "+finding.Problem)
			}
		}
		return len(found) == 0
	})
}
