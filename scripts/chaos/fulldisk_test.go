package chaos

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/snower/forsun/scripts/chaos/ledger"
)

// TestC15FullDisk: the disk of an embedded store fills up, on a file system of its own. Below the
// reserve plans are refused, and what is stored fires; when nothing is left the ballast is
// given up, and what is stored fires; when that is used up, too, forsund ends and says why. With
// room again it starts, and nothing that was answered is lost. It needs root, to mount.
func TestC15FullDisk(t *testing.T) {
	s := scenario(t, "C15")
	const (
		size    = 420 << 20
		reserve = 256 << 20 // as forsund has it
	)
	store := filepath.Join(s.dir, "store")
	if err := os.Mkdir(store, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", fmt.Sprint("size=", size), "none", store).CombinedOutput(); err != nil {
		t.Fatalf("mount: %v\n%s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", store).CombinedOutput(); err != nil {
			t.Errorf("umount: %v\n%s", err, out)
		}
	})
	f := newFleetOn(s, nil, "--driver=mem", "--driver-mem-store-file="+filepath.Join(store, "forsun"))
	a := f.start("a")
	eventually(t, "the ballast", 20*time.Second, func() bool { return free(t, store) < size-60<<20 })
	steady := make([]ledger.Plan, 50)
	for i := range steady {
		steady[i] = ledger.HTTPPlan(fmt.Sprintf("steady-%d", i), ledger.Spec{Calendar: ledger.EachSecond()}, f.sink.URL)
	}
	if err := f.client.Create(t.Context(), steady...); err != nil {
		t.Fatal(err)
	}
	filler := filepath.Join(store, "filler")
	// fill leaves so much of the disk.
	fill := func(left int64) {
		t.Helper()
		grow(t, filler, free(t, store)-left)
		f.event("%d KiB are free", free(t, store)>>10)
	}
	fires := func(what string) {
		t.Helper()
		n, until := f.sink.Count(), time.Now().Add(3*time.Second)
		time.Sleep(time.Until(until))
		if got := f.sink.Count() - n; got < len(steady) {
			t.Errorf("%s: %d firings in 3 s, want some %d", what, got, 3*len(steady))
		}
	}
	// refused stores a plan unknown to the ledger, which is not due before all is over: what is
	// free is looked at now and then, and until then it is stored.
	refused := func() bool {
		code, message := f.put(`{"method":"createTimeout","key":"refused","seconds":86400,"count":1,"action":"http","params":{"url":"` + f.sink.URL + `"}}`)
		if code != 0 && code != 1010 {
			t.Errorf("a plan on a full disk: %d %s", code, message)
		}
		return code == 1010
	}
	fill(reserve - 8<<20)
	eventually(t, "plans to be refused", 10*time.Second, refused)
	fires("below the reserve")
	fill(8 << 10)
	eventually(t, "the ballast to be given up", time.Minute, func() bool { return free(t, store) > 32<<20 })
	f.event("the ballast is given up: %d MiB are free", free(t, store)>>20)
	fires("on the ballast")
	if !refused() {
		t.Error("on the ballast a plan is stored")
	}
	// Now there is nothing left but what firing itself needs.
	ended := a.proc.Ended()
	deadline := time.After(time.Minute)
	for full := false; !full; {
		grow(t, filler, free(t, store))
		select {
		case <-ended:
			full = true
		case <-deadline:
			t.Fatal("with nothing left forsund goes on")
		case <-time.After(20 * time.Millisecond):
		}
	}
	f.kill("a", true) // it has ended: its death is noted
	log, err := os.ReadFile(a.log)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(log), "no space left on device") {
		t.Errorf("it does not say why it ended:\n%s", f.warnings(a, 5))
	}
	f.event("forsund has ended and says why")
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	f.start("a")
	f.event("with room again it is up")
	fires("with room again")
	for _, p := range steady {
		if err := f.client.Remove(t.Context(), p.Key); err != nil {
			t.Fatal(err)
		}
	}
	v := f.judge(ledger.Rules{Until: time.Now().Unix() - 1, MaxLate: anyLate, Rerun: startsWithin, Finish: finishWithin, Unnoted: finishWithin}, 30*time.Second)
	t.Log(v)
	f.doctor()
}

// put asks a replica to store a plan and returns what it answers.
func (f *fleet) put(body string) (code int, message string) {
	f.t.Helper()
	request, err := http.NewRequestWithContext(f.t.Context(), http.MethodPut, f.bases()[0]+"/v1/plan", strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	response, err := (&http.Client{Timeout: 10 * time.Second}).Do(request)
	if err != nil {
		f.t.Fatal(err)
	}
	defer response.Body.Close()
	var answer struct {
		Code    int    `json:"errcode"`
		Message string `json:"errmsg"`
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		f.t.Fatal(err)
	}
	return answer.Code, answer.Message
}

// free is how many bytes of a file system are.
func free(t *testing.T, dir string) int64 {
	t.Helper()
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		t.Fatal(err)
	}
	return int64(s.Bavail) * int64(s.Bsize)
}

// grow makes a file larger, or as large as there is room.
func grow(t *testing.T, name string, by int64) {
	t.Helper()
	file, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	chunk := make([]byte, 1<<20)
	for ; by > 0 && err == nil; by -= int64(len(chunk)) {
		_, err = file.Write(chunk[:min(by, int64(len(chunk)))])
	}
	if err := errors.Join(err, file.Close()); err != nil && !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
}
