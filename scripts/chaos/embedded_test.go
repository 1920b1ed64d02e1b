package chaos

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/snower/forsun/scripts/chaos/ledger"
)

// startsWithin is how long after a kill what ran runs again: once it is started, which
// takes the longer the busier the machine is.
const startsWithin = 8 * time.Second

// TestC15Killed: a forsund with the embedded store is killed at random, under load, again and
// again, and started on what is left: as it is, as a power cut leaves it, or with a bit of it
// changed, which is refused, and changed back. Nothing that was answered is lost; what
// ran when it was killed may run again, nothing else does.
func TestC15Killed(t *testing.T) {
	t.Parallel()
	s := scenario(t, "C15")
	store := filepath.Join(s.dir, "store")
	f := newFleetOn(s, nil, "--driver=mem", "--driver-mem-store-file="+store)
	f.start("a")
	l := newLoad(f, pick(1_200, 2_500), 8*time.Second)
	eventually(t, "firings", 10*time.Second, func() bool { return f.sink.Count() > 0 })
	// What is done while it is down: each at least once, in any order.
	downs := []func(){func() {}, func() { powerCut(f, store) }, func() { flipped(f, store) }, func() { powerCut(f, store) }}
	s.rand.Shuffle(len(downs), func(i, j int) { downs[i], downs[j] = downs[j], downs[i] })
	for i, down := range downs {
		time.Sleep(time.Duration(s.rand.IntN(800)) * time.Millisecond)
		if i%2 == 0 { // when there is most to do
			next := time.Now().Truncate(time.Second).Add(time.Second)
			time.Sleep(time.Until(next.Add(time.Duration(s.rand.IntN(150)) * time.Millisecond)))
		}
		f.kill("a", true)
		down()
		f.start("a")
	}
	v := f.judge(ledger.Rules{Until: l.wait(), MaxLate: anyLate, Rerun: startsWithin, Finish: finishWithin, Unnoted: finishWithin}, 30*time.Second)
	t.Logf("%d killed: %s", len(downs), v)
	f.doctor()
}

// newest is the newest file of a store's database that begins or ends so.
func newest(f *fleet, store, prefix, suffix string) string {
	f.t.Helper()
	files, err := os.ReadDir(filepath.Join(store, "db"))
	if err != nil {
		f.t.Fatal(err)
	}
	var names []string
	for _, file := range files {
		if strings.HasPrefix(file.Name(), prefix) && strings.HasSuffix(file.Name(), suffix) {
			names = append(names, file.Name())
		}
	}
	if len(names) == 0 {
		f.t.Fatalf("no %s…%s in %s", prefix, suffix, store)
	}
	return filepath.Join(store, "db", slices.Max(names))
}

// syncedUntil is up to where forsund has noted that a log or a manifest was fsynced: slots of 64
// bytes, in each a checksum (4), a version (4), the file's number (8) and that (8). The
// first is the manifest's.
func syncedUntil(f *fleet, store, name string) int64 {
	f.t.Helper()
	notes, err := os.ReadFile(filepath.Join(store, "db", "synced"))
	if err != nil {
		f.t.Fatal(err)
	}
	digits, manifest := strings.CutPrefix(filepath.Base(name), "MANIFEST-")
	number, err := strconv.ParseUint(strings.TrimSuffix(digits, ".log"), 10, 64)
	if err != nil {
		f.t.Fatal(err)
	}
	const slot = 64
	for at := 0; at+slot <= len(notes); at += slot {
		b := notes[at : at+slot]
		c := crc32.Checksum(b[4:], crc32.MakeTable(crc32.Castagnoli))
		if manifest == (at == 0) && binary.LittleEndian.Uint32(b) == (c>>15|c<<17)+0xa282ead8 && binary.LittleEndian.Uint64(b[8:]) == number {
			return int64(binary.LittleEndian.Uint64(b[16:]))
		}
	}
	return 0
}

// powerCut makes of what a killed process left what a power cut could have left: of the newest
// log what was fsynced, and behind it nothing, a part, zeros, or something else.
func powerCut(f *fleet, store string) {
	f.t.Helper()
	log := newest(f, store, "", ".log")
	data, err := os.ReadFile(log)
	if err != nil {
		f.t.Fatal(err)
	}
	synced := min(syncedUntil(f, store, log), int64(len(data)))
	kept, tail := data[:synced], data[synced:]
	switch f.rand.IntN(4) {
	case 0:
		tail = nil
	case 1:
		tail = tail[:f.rand.IntN(len(tail)+1)]
	case 2:
		tail = make([]byte, 1+f.rand.IntN(100_000))
	case 3:
		tail = make([]byte, 1+f.rand.IntN(1_000))
		for i := range tail {
			tail[i] = byte(f.rand.Uint32())
		}
	}
	if err := os.WriteFile(log, append(slices.Clone(kept), tail...), 0o600); err != nil {
		f.t.Fatal(err)
	}
	f.event("the power is cut: of %s are left the %d bytes that were fsynced, of %d, and %d more", filepath.Base(log), synced, len(data), len(tail))
}

// flipped changes a bit of what was fsynced. forsund must refuse that, and say where; it is
// changed back then.
func flipped(f *fleet, store string) {
	f.t.Helper()
	name := newest(f, store, "", ".log")
	end := syncedUntil(f, store, name)
	if f.rand.IntN(3) == 0 || end == 0 {
		name = newest(f, store, "MANIFEST-", "")
		end = syncedUntil(f, store, name)
	}
	if end == 0 {
		f.t.Fatalf("it is not noted how far %s was fsynced", name)
	}
	data, err := os.ReadFile(name)
	if err != nil {
		f.t.Fatal(err)
	}
	at, bit := f.rand.Int64N(end), f.rand.IntN(8)
	data[at] ^= 1 << bit
	if err := os.WriteFile(name, data, 0o600); err != nil {
		f.t.Fatal(err)
	}
	f.event("bit %d of byte %d of %s is changed", bit, at, filepath.Base(name))
	ctx, cancel := context.WithTimeout(f.t.Context(), 30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, built.of(f.t, "a"), slices.Concat([]string{"--port=0", "--admin=127.0.0.1:0"}, f.args)...).CombinedOutput()
	exit := (*exec.ExitError)(nil)
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(string(out), "damaged") || !strings.Contains(string(out), filepath.Base(name)) {
		f.t.Errorf("on a store with a bit changed at %d of %s: %v, want status 1 and what is damaged\n%s", at, name, err, out)
	}
	f.event("it is refused: %.160s", out)
	data[at] ^= 1 << bit
	if err := os.WriteFile(name, data, 0o600); err != nil {
		f.t.Fatal(err)
	}
}
