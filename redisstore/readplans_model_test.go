package redisstore

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/snower/forsun/scheduler"
)

// modelStep is one thing that happens at once, and what follows of it, if anything.
type modelStep func() modelStep

// readModel is Redis as far as readPlans is concerned, and who reads and claims there.
type readModel struct {
	r       readPlans
	edits   string
	n       int
	plans   map[string]int // version of each; none: it is not there
	trace   []string
	bad     string
	exact   int // bundles that were claimed
	refused int
}

func (m *readModel) say(format string, args ...any) {
	m.trace = append(m.trace, fmt.Sprintf(format, args...))
}

func (m *readModel) next(kind string) string { m.n++; return fmt.Sprintf("%s%d", kind, m.n) }

var modelKeys = []string{"a", "b", "c", "d", "e", "f"}

func (m *readModel) some(rnd *rand.Rand) []string {
	keys := slices.Clone(modelKeys)
	rnd.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	return keys[:1+rnd.IntN(2)]
}

func claimsOfKeys(keys []string) (claims []scheduler.Claim) {
	for _, k := range keys {
		claims = append(claims, scheduler.Claim{Key: k})
	}
	return claims
}

// read is Due: edits, then the plans, then they are remembered.
func (m *readModel) read() modelStep {
	edits, began := m.edits, m.r.mark()
	id := m.next("read")
	m.say("%s: edits %s", id, edits)
	return func() modelStep {
		got := make(map[string]int)
		for k, v := range m.plans {
			got[k] = v
		}
		m.say("%s: plans %v", id, got)
		return func() modelStep {
			for _, k := range modelKeys {
				if v := got[k]; v > 0 {
					m.r.add(&scheduler.Plan{Key: k, Fired: v}, "x", edits, began)
				}
			}
			m.say("%s: remembered", id)
			return nil
		}
	}
}

// bundle is claimBundle, and claimSome if that is refused. The claims are those of what is remembered.
func (m *readModel) bundle(rnd *rand.Rand) modelStep {
	claims := claimsOfKeys(m.some(rnd))
	plans := m.r.take(claims)
	return func() modelStep {
		to := m.next("B")
		from, ok := m.r.assume(to, claims, plans)
		if !ok {
			return m.slow(claims, rnd)
		}
		m.say("%s: assumes %s of %s", to, from, fmt.Sprint(claims[0].Key, len(claims)))
		return func() modelStep { // it runs
			done := m.edits == from
			for i := range claims {
				done = done && m.plans[claims[i].Key] > 0 // EXISTS
				if p := plans[i].plan; m.edits == from && p != nil && m.plans[p.Key] > 0 && m.plans[p.Key] != p.Fired {
					m.bad = fmt.Sprintf("%s claims %s of version %d from content of version %d", to, p.Key, m.plans[p.Key], p.Fired)
				}
			}
			m.say("%s: done %v (edits %s)", to, done, m.edits)
			if done {
				m.exact++
				m.edits = to
				for _, c := range claims {
					delete(m.plans, c.Key)
				}
			} else {
				m.refused++
			}
			if rnd.IntN(10) == 0 {
				m.say("%s: answer lost", to)
				return nil
			}
			return func() modelStep {
				if done {
					return nil
				}
				m.r.refused(to)
				m.say("%s: refused", to)
				return m.slow(claims, rnd)
			}
		}
	}
}

// slow is claimSome.
func (m *readModel) slow(claims []scheduler.Claim, rnd *rand.Rand) modelStep {
	return func() modelStep {
		was, take := m.edits, m.next("S")
		m.edits = take
		keys := []string{}
		for _, c := range claims {
			delete(m.plans, c.Key)
			keys = append(keys, c.Key)
		}
		m.say("%s: was %s, claims %v", take, was, keys)
		if rnd.IntN(10) == 0 {
			m.say("%s: answer lost", take)
			return nil
		}
		return func() modelStep {
			m.r.claimed(was, take, claims)
			m.say("%s: noted", take)
			return nil
		}
	}
}

func (m *readModel) client(rnd *rand.Rand) {
	k := modelKeys[rnd.IntN(len(modelKeys))]
	if m.plans[k] == 0 {
		m.n++
		m.plans[k] = m.n // new.lua: edits stays
		m.say("new %s of version %d", k, m.n)
	} else if rnd.IntN(12) == 0 {
		m.n++
		m.plans[k] = m.n
		m.edits = m.next("P")
		m.say("overwritten %s of version %d: %s", k, m.plans[k], m.edits)
	}
}

// TestReadPlansModel: however reads, claims of this process, those of clients and lost answers
// interleave, no bundle is claimed from content that is not what stands in Redis. At most
// claims bundles and reads reads are under way.
func TestReadPlansModel(t *testing.T) {
	for _, row := range []struct{ claims, reads int }{{1, 1}, {2, 1}, {2, 2}, {3, 2}} {
		t.Run(fmt.Sprint(row), func(t *testing.T) {
			exact, refused, found := 0, 0, 0
			for seed := range uint64(5000) {
				rnd := rand.New(rand.NewPCG(seed, uint64(row.claims)))
				m := &readModel{edits: "E", plans: make(map[string]int)}
				var claims, reads []modelStep
				run := func(all *[]modelStep) {
					i := rnd.IntN(len(*all))
					if (*all)[i] = (*all)[i](); (*all)[i] == nil {
						*all = slices.Delete(*all, i, i+1)
					}
				}
				for range 120 {
					switch rnd.IntN(8) {
					case 0, 1:
						m.client(rnd)
					case 2, 3, 4:
						if len(reads) < row.reads {
							reads = append(reads, m.read())
						} else {
							run(&reads)
						}
					default:
						if len(claims) < row.claims {
							claims = append(claims, m.bundle(rnd))
						} else {
							run(&claims)
						}
					}
					if m.bad != "" {
						break
					}
				}
				exact, refused = exact+m.exact, refused+m.refused
				if m.bad != "" {
					if found++; found == 1 {
						t.Errorf("seed %d: %s\n%s", seed, m.bad, strings.Join(m.trace, "\n"))
					}
				}
			}
			t.Logf("%d bundles claimed, %d refused; %d runs in which one was from stale content", exact, refused, found)
		})
	}
}
