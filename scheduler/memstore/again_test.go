package memstore

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/snower/forsun/scheduler"
)

// The power is cut while many clients are answered, and again and again while what is left is
// opened, or the process is killed there: wherever a lengthened log ends, nothing that was
// answered is lost, and nothing is refused.
func TestPowerCutAgainWhileItOpens(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	tries := 12
	if wide {
		tries = 400
	}
	for try := range tries {
		left := func(mem *vfs.MemFS) *vfs.MemFS {
			return mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: []int{0, 20, 50, 80, 100}[rng.IntN(5)], RNG: rng})
		}
		mem := vfs.NewCrashableMem()
		o := faultOptions(t, mem, &nth{at: 1 << 62})
		o.logAhead = []int64{0, 1, 3000, 40 << 10, 256 << 10}[rng.IntN(5)]
		s, err := Open(o)
		if err != nil {
			t.Fatal(err)
		}
		var clients sync.WaitGroup
		var mu sync.Mutex
		var keys []string
		end := time.Now().Add(time.Duration(rng.IntN(20)) * time.Millisecond)
		for c := range 8 {
			clients.Go(func() {
				for i := 0; time.Now().Before(end); i++ {
					key := fmt.Sprintf("k%d-%d", c, i)
					if err := s.Put(t.Context(), []*scheduler.Plan{plan(key, 2_000_000_000)})[0]; err != nil {
						return
					}
					mu.Lock()
					keys = append(keys, key)
					mu.Unlock()
				}
			})
		}
		time.Sleep(time.Duration(rng.IntN(15)) * time.Millisecond) // the moment is the test's input
		mu.Lock()
		answered := keys[:len(keys):len(keys)]
		fs := left(mem)
		mu.Unlock()
		clients.Wait()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		for again := range 3 {
			what := fmt.Sprintf("try %d, ahead %d, after %d answers, cut again %d times", try, o.logAhead, len(answered), again)
			d := &nth{at: 1 + rng.Int64N(60)}
			now, next := fs, fs
			d.cut = func() { next = left(now) }
			cut := faultOptions(t, now, d)
			cut.logAhead = o.logAhead
			s, err := Open(cut)
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			for _, key := range answered {
				if _, err := s.Get(t.Context(), key); err != nil {
					t.Fatalf("%s: %q was answered: %v", what, key, err)
				}
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			fs = next
		}
	}
}
