package ledger

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/rueidis"
)

// Stock is what a Redis holds of shards, at one moment for each, counted without the
// scheduler: by the names and types of its keys.
type Stock struct {
	Plans, Indexed, Quarantined map[string]bool
	Leaving                     map[string]bool // the index, as soon as its leader comes to it
	Scheduled                   map[string]int  // in how many schedules a plan stands
	// Underway is what is there of firings that are not finished, and its size. What
	// goes by itself is none of it: it was stored for a claim that was not made.
	Underway []string
}

func newStock() *Stock {
	return &Stock{Plans: make(map[string]bool), Indexed: make(map[string]bool), Quarantined: make(map[string]bool), Leaving: make(map[string]bool), Scheduled: make(map[string]int)}
}

// stockScript returns a list for each key of a shard that does not go by itself: its
// name after the shard's, its size, and the members of index and packed, unpack, schedules and quarantine.
const stockScript = `local all = {}
for _, key in ipairs(redis.call('KEYS', KEYS[1] .. '*')) do
  local name, kind, size, members = string.sub(key, #KEYS[1] + 1), redis.call('TYPE', key).ok, 0, {}
  if kind == 'string' then size = redis.call('STRLEN', key)
  elseif kind == 'list' then size = redis.call('LLEN', key)
  elseif kind == 'hash' then size = redis.call('HLEN', key)
  elseif kind == 'set' then size = redis.call('SCARD', key)
  elseif kind == 'zset' then size = redis.call('ZCARD', key) end
  if name == 'index' or name == 'packed' or string.find(name, '^schedule:') then members = redis.call('ZRANGE', key, 0, -1)
  elseif name == 'unpack' then members = redis.call('LRANGE', key, 0, -1)
  elseif name == 'quarantine' then members = redis.call('HKEYS', key) end
  if redis.call('PTTL', key) < 0 then all[#all + 1] = {name, tostring(size), members} end
end
return all`

// TakeStock counts the shards, which are called by the beginning of their keys:
// "forsun:{0}:".
func TakeStock(ctx context.Context, addr string, shards ...string) (*Stock, error) {
	client, err := newRedis(addr)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	s := newStock()
	for _, shard := range shards {
		keys, err := client.Do(ctx, client.B().Eval().Script(stockScript).Numkeys(1).Key(shard).Build()).ToArray()
		if err != nil {
			return nil, fmt.Errorf("take stock of %s: %w", shard, err)
		}
		for _, key := range keys {
			if err := s.add(shard, key); err != nil {
				return nil, fmt.Errorf("take stock of %s: %w", shard, err)
			}
		}
	}
	return s, nil
}

// add counts one key.
func (s *Stock) add(shard string, key rueidis.RedisMessage) error {
	parts, err := key.ToArray()
	if err != nil || len(parts) != 3 {
		return fmt.Errorf("%d parts: %w", len(parts), err)
	}
	name, err := parts[0].ToString()
	if err != nil {
		return err
	}
	size, err := parts[1].ToString()
	if err != nil {
		return err
	}
	members, err := parts[2].AsStrSlice()
	if err != nil {
		return err
	}
	s.count(shard, name, size, members)
	return nil
}

// underway begin the names of what is kept of firings until they are finished.
var underway = []string{"firing:", "firings:", "held:", "bundle:", "bundles:", "retries", "retry:", "deferred"}

// count counts one key.
func (s *Stock) count(shard, name, size string, members []string) {
	plan, isPlan := strings.CutPrefix(name, "plan:")
	switch {
	case isPlan:
		s.Plans[plan] = true
	case name == "index":
		for _, m := range members {
			s.Indexed[m] = true
		}
	case name == "packed":
		for _, run := range members {
			for _, key := range strings.Split(run, "\n") {
				s.Indexed[key] = true
			}
		}
	case name == "unpack":
		for _, m := range members {
			s.Leaving[m] = true
		}
	case name == "quarantine":
		for _, m := range members {
			s.Quarantined[m] = true
		}
	case strings.HasPrefix(name, "schedule:"):
		for _, m := range members {
			s.Scheduled[m]++
		}
	case slices.ContainsFunc(underway, func(begin string) bool { return strings.HasPrefix(name, begin) }):
		s.Underway = append(s.Underway, shard+name+" ("+size+")")
	}
}

// Account is where all keys went that plans were created under.
type Account struct {
	Created, Live, Finished, Removed, Quarantined int

	Problems []string // the evidence: a line each
}

func (a *Account) String() string {
	return fmt.Sprintf("created %d = live %d + finished %d + removed %d + quarantined %d", a.Created, a.Live, a.Finished, a.Removed, a.Quarantined)
}

// Account holds what is stored against what was asked for (I9), when everything due up
// to a second has fired, and the stock was taken by another, now.
func (j *Journal) Account(s *Stock, until, now int64) *Account {
	j.mu.Lock()
	defer j.mu.Unlock()
	a := &Account{}
	problem := func(format string, args ...any) { a.Problems = append(a.Problems, fmt.Sprintf(format, args...)) }
	for _, key := range j.order {
		must, may, removed := fate(j.byKey[key], until, now)
		stored, quarantined := s.Plans[key], s.Quarantined[key]
		switch {
		case stored && quarantined:
			problem("%s: stored, and in quarantine", key)
		case must && !stored && !quarantined:
			problem("%s: absent, and it should be live", key)
		case stored && !must && !may:
			problem("%s: stored, and it should be %s", key, map[bool]string{true: "removed", false: "finished"}[removed])
		}
		created := slices.ContainsFunc(j.byKey[key], func(e *Event) bool { return e.Spec != nil && e.Result == Done })
		if !created && !stored && !quarantined {
			continue // perhaps, and in vain
		}
		a.Created++
		switch {
		case stored:
			a.Live++
		case quarantined:
			a.Quarantined++
		case removed:
			a.Removed++
		default:
			a.Finished++
		}
	}
	for key := range s.Plans {
		if j.byKey[key] == nil {
			problem("%s: stored, and was never asked for", key)
		}
		if n := s.Scheduled[key]; n != 1 {
			problem("%s: stored, and in %d schedules", key, n)
		}
		if !s.Indexed[key] {
			problem("%s: stored, and not in the index", key)
		}
	}
	for key := range s.Scheduled {
		if !s.Plans[key] {
			problem("%s: in a schedule, and not stored", key)
		}
	}
	for key := range s.Indexed {
		if !s.Plans[key] && !s.Leaving[key] {
			problem("%s: in the index, and not stored", key)
		}
	}
	if n := a.Live + a.Finished + a.Removed + a.Quarantined; n != a.Created || a.Live != len(s.Plans) || a.Quarantined != len(s.Quarantined) {
		problem("%s, which is %s; stored are %d plans, and %d in quarantine", a, strconv.Itoa(n), len(s.Plans), len(s.Quarantined))
	}
	slices.Sort(a.Problems)
	return a
}

// Ended says whether a plan that is not found when it is removed may have fired for the
// last time by now.
func (j *Journal) Ended(key string, now int64) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	events := j.byKey[key]
	for len(events) > 0 && events[len(events)-1].Spec == nil {
		events = events[:len(events)-1]
	}
	must, _, _ := fate(events, now, now)
	return !must
}

// fate says whether a plan has to be there, or may be, after what was asked of its key;
// if not, whether it was removed.
func fate(events []*Event, until, now int64) (must, may, removed bool) {
	for _, e := range slices.Backward(events) {
		switch {
		case e.Result == Refused:
			continue
		case e.Result == Unknown:
			return false, true, e.Spec == nil
		case e.Spec == nil:
			return false, false, true
		}
		switch last, ends := e.Spec.last(e.Due); {
		case !ends || last > now:
			return true, false, false
		case last > until:
			return false, true, false
		}
		return false, false, false
	}
	return false, false, false
}
