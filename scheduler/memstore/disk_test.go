package memstore

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/snower/forsun/scheduler"
)

// eventually polls until ok, at most 20 s.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

func usage(free uint64) vfs.DiskUsage {
	return vfs.DiskUsage{AvailBytes: free, TotalBytes: 1 << 40, UsedBytes: 1<<40 - free}
}

// runOne claims, takes and finishes the plan of key, due at sec.
func runOne(t *testing.T, s *Store, l scheduler.Lease, key string, sec int64) {
	t.Helper()
	p, err := s.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.Claim(t.Context(), scheduler.ClaimBatch{Lease: l, Action: p.Action, Cutoff: sec, Claims: []scheduler.Claim{
		{Key: key, Revision: p.Revision, Due: sec, FireDue: sec},
	}})
	if err != nil || r.Answers[0].Result != scheduler.ClaimedOK {
		t.Fatalf("claim %s: %v, %v", key, r, err)
	}
	fs, _, err := s.Take(t.Context(), scheduler.TakeRequest{Worker: "w", Slots: map[string]int{p.Action: 1}})
	if err != nil || len(fs) != 1 {
		t.Fatalf("take %s: %v, %v", key, fs, err)
	}
	if done, err := s.Finish(t.Context(), shardID, "w", []scheduler.Finish{{Firing: fs[0], Verdict: scheduler.Done}}); err != nil || done[0] != scheduler.FinishedOK {
		t.Fatalf("finish %s: %v, %v", key, done, err)
	}
}

// Below the reserve plans are refused; what is stored goes on firing. With
// room again plans are accepted again.
func TestReserve(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	fs.TestingSetDiskUsage(usage(1 << 30))
	o := testOptions(t)
	o.Dir, o.FS, o.Reserve, o.Ballast = "/store", fs, 256<<20, 1<<20
	s := open(t, o)
	sec := time.Now().Unix() - 10
	put := func(key string) error { return s.Put(t.Context(), []*scheduler.Plan{plan(key, sec)})[0] }
	if err := put("a"); err != nil {
		t.Fatal(err)
	}
	l, err := s.Campaign(t.Context(), shardID, "r")
	if err != nil {
		t.Fatal(err)
	}
	fs.TestingSetDiskUsage(usage(255 << 20))
	eventually(t, "plans are refused", func() bool { return errors.Is(put("b"), scheduler.ErrFull) })
	if err := put("c"); !strings.Contains(err.Error(), "268435456") {
		t.Errorf("the refusal does not name the reserve: %v", err)
	}
	runOne(t, s, l, "a", sec)
	fs.TestingSetDiskUsage(usage(1 << 30))
	eventually(t, "plans are accepted again", func() bool { return put("d") == nil })

	// It is known from the beginning.
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	fs.TestingSetDiskUsage(usage(255 << 20))
	s = open(t, o)
	if err := put("e"); !errors.Is(err, scheduler.ErrFull) {
		t.Errorf("first Put on a disk that is nearly full: %v, want ErrFull", err)
	}
}

// tight is a disk that is full as long as the ballast is there.
type tight struct {
	fs     vfs.FS
	on     atomic.Bool
	missed atomic.Int64 // writes that failed
}

func (d *tight) String() string { return "tight" }

func (d *tight) MaybeError(op errorfs.Op) error {
	if !d.on.Load() || op.Kind != errorfs.OpFileWrite && op.Kind != errorfs.OpCreate {
		return nil
	}
	if _, err := d.fs.Stat("/store/" + ballastName); err != nil {
		return nil
	}
	d.missed.Add(1)
	return fmt.Errorf("write: %w", syscall.ENOSPC)
}

// A full disk costs the ballast, and nothing else: claims and finishes go on.
func TestBallast(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	fs.TestingSetDiskUsage(usage(1 << 30))
	d := &tight{fs: fs}
	o := testOptions(t)
	o.Dir, o.FS, o.Reserve, o.Ballast = "/store", errorfs.Wrap(fs, d), 256<<20, 1<<20
	s := open(t, o)
	ballast := func() bool {
		info, err := fs.Stat("/store/" + ballastName)
		return err == nil && info.Size() == o.Ballast
	}
	eventually(t, "the ballast is laid", ballast)
	sec := time.Now().Unix() - 10
	if err := s.Put(t.Context(), []*scheduler.Plan{plan("a", sec)})[0]; err != nil {
		t.Fatal(err)
	}
	l, err := s.Campaign(t.Context(), shardID, "r")
	if err != nil {
		t.Fatal(err)
	}
	fs.TestingSetDiskUsage(usage(0))
	d.on.Store(true)
	runOne(t, s, l, "a", sec)
	settle(t, s)
	if d.missed.Load() == 0 || ballast() {
		t.Errorf("%d writes failed and the ballast is there: %v; want some, and no", d.missed.Load(), ballast())
	}
	if err := s.Put(t.Context(), []*scheduler.Plan{plan("b", sec)})[0]; !errors.Is(err, scheduler.ErrFull) {
		t.Errorf("Put on a full disk: %v, want ErrFull", err)
	}
	if err := s.failure(); err != nil {
		t.Errorf("the store failed: %v", err)
	}
	d.on.Store(false)
	fs.TestingSetDiskUsage(usage(1 << 30))
	eventually(t, "the ballast is laid again", ballast)
}
