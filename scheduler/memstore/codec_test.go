package memstore

import (
	"bytes"
	"maps"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/snower/forsun/scheduler"
)

func TestPlanRoundTrip(t *testing.T) {
	t.Parallel()
	rows := map[string]*scheduler.Plan{
		"usual": plan("k", 1_800_000_000),
		"zero":  {Key: "k", Action: "a", Revision: 1},
		"calendar": {
			Key: "k", Action: "shell", Revision: math.MaxUint64, Due: -1, Fired: math.MaxInt32, LastDue: math.MinInt64,
			Status: scheduler.StatusFailed, Created: time.Unix(-1, 999_999_999).UTC(),
			Schedule: scheduler.Schedule{Kind: scheduler.Calendar, Second: -1, Minute: 59, Hour: 23, Day: 31, Month: 12, Week: 7},
			Params:   map[string]string{"": "", "a": strings.Repeat("x", 1000), "b": "\x00\xff"},
		},
		"far": {Key: "k", Action: "a", Revision: 1, Due: math.MaxInt64, LastDue: math.MaxInt64, Created: time.Unix(1<<40, 0).UTC()},
	}
	for name, p := range rows {
		got, err := decodePlan([]byte(p.Key), p.Action, p.Due, appendBody(nil, p))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if d := cmp.Diff(p, got); d != "" {
			t.Errorf("%s: another plan (-want +got):\n%s", name, d)
		}
		body := appendBody(nil, p)
		for n := range body {
			if _, err := decodePlan(nil, "a", 0, body[:n]); err == nil {
				t.Errorf("%s: decoded from its first %d of %d bytes", name, n, len(body))
			}
		}
	}
}

// A plan with 100 bytes of parameters takes no more than 170 bytes, its key and
// both its places included.
func TestPlanSize(t *testing.T) {
	t.Parallel()
	p := plan("order-0000012345", 1_800_000_000)
	p.Created = time.Unix(1_799_999_000, 123_456_789)
	p.Params = map[string]string{"url": strings.Repeat("u", 97)}
	key, value := appendScheduleKey(nil, p.Action, p.Due, p.Key), appendBody(nil, p)
	if n := len(key) + len(value); n > 170 {
		t.Errorf("a plan takes %d bytes, want at most 170", n)
	}
	if n := len(appendPlanKey(nil, p.Key)) + len(appendLocator(nil, p.Action, p.Due)); n > 32 {
		t.Errorf("its locator takes %d bytes more, want at most 32", n)
	}
}

func TestScheduleKeysSort(t *testing.T) {
	t.Parallel()
	var last []byte
	for _, k := range [][]byte{
		appendAction(nil, "http"),
		appendScheduleKey(nil, "http", math.MinInt64, "z"),
		appendScheduleKey(nil, "http", -1, "z"),
		appendDueBound(nil, "http", 0),
		appendScheduleKey(nil, "http", 0, "a"),
		appendScheduleKey(nil, "http", 0, "b"),
		appendAfterDue(nil, "http", 0),
		appendScheduleKey(nil, "http", 1<<40, "\x01"),
		appendScheduleKey(nil, "http", math.MaxInt64, "\xff\xff"),
		appendAfterDue(nil, "http", math.MaxInt64),
		appendScheduleKey(nil, "http2", math.MinInt64, "a"),
	} {
		if bytes.Compare(last, k) >= 0 {
			t.Errorf("%x does not sort after %x", k, last)
		}
		last = k
	}
}

// FuzzPlanCodec: whatever is stored, decoding does not panic, takes no more
// memory than the value explains, and what decodes encodes to the same plan.
func FuzzPlanCodec(f *testing.F) {
	f.Add(appendBody(nil, plan("k", 1_800_000_000)))
	f.Add(appendBody(nil, &scheduler.Plan{Revision: 1}))
	f.Add([]byte{planVersion, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x07})
	f.Fuzz(func(t *testing.T, v []byte) {
		p, err := decodePlan([]byte("k"), "http", 7, v)
		if err != nil {
			return
		}
		size := 0
		for name, value := range p.Params {
			size += len(name) + len(value)
		}
		if size > len(v) || len(p.Params) > len(v)/2 {
			t.Errorf("%d bytes decoded to parameters of %d bytes in %d entries", len(v), size, len(p.Params))
		}
		again, err := decodePlan([]byte("k"), "http", 7, appendBody(nil, p))
		if err != nil {
			t.Fatalf("decoded, but not again: %v", err)
		}
		if !again.Created.Equal(p.Created) || !maps.Equal(again.Params, p.Params) || again.Schedule != p.Schedule ||
			again.Revision != p.Revision || again.Fired != p.Fired || again.LastDue != p.LastDue || again.Status != p.Status {
			t.Errorf("decoded %+v, again %+v", p, again)
		}
	})
}

// FuzzRecords does the same for the other values: no panic, no more memory than
// is explained.
func FuzzRecords(f *testing.F) {
	p := plan("k", 1_800_000_000)
	fr := &firing{due: 5, attempt: 2, delivery: 3, missed: 4, cancelled: true, core: append(appendCore(nil, 9, "http", "k"), appendBody(nil, p)...)}
	record := append(appendFiringHead(nil, fr), fr.core...)
	f.Add(record, 1)
	f.Add(appendDead(nil, time.Unix(1, 2), "why", fr), 1)
	var h historyEntry
	h.add(&scheduler.Attempt{Firing: scheduler.NewFiringID("k", 1, 2), Key: "k", Outcome: scheduler.Failed, Error: "e"}, "")
	h.add(&scheduler.Attempt{Firing: "short", Key: "k", Outcome: "other", Output: "o"}, "")
	f.Add(h.value, 2)
	f.Add(appendWaiting(nil, waiting{ms: 1, size: 2, action: "http", deferred: true}), 1)
	f.Add(appendLocator(nil, "http", 77), 1)
	f.Add(counters{sequence: 1, plans: 2}.encode(nil), 1)
	f.Fuzz(func(t *testing.T, v []byte, n int) {
		if fr, err := decodeFiring(bytes.Clone(v)); err == nil {
			again, err := decodeFiring(append(appendFiringHead(nil, fr), fr.core...))
			if err != nil || again.due != fr.due || again.key != fr.key || again.cancelled != fr.cancelled {
				t.Errorf("firing decoded %+v, again %+v, %v", fr, again, err)
			}
			_, _ = fr.plan()
		}
		if _, _, fr, err := decodeDead(bytes.Clone(v)); err == nil {
			_, _ = fr.plan()
		}
		_ = decodeAttempts(v, n, func(int, *scheduler.Attempt) {})
		_, _ = decodeWaiting(v)
		_, _, _ = decodeLocator(v)
		_, _ = decodeCounters(v)
	})
}

func TestAttemptRoundTrip(t *testing.T) {
	t.Parallel()
	want := []scheduler.Attempt{
		{
			Firing: scheduler.NewFiringID("k", 1, 2), Key: "k", Action: "http", Due: 2, Missed: 3, Attempt: 4,
			Started: time.Unix(5, 6).UTC(), Late: 7, Took: 8, Outcome: scheduler.Failed, Error: "e", Output: "o",
			Replica: "r", RetryAt: time.Unix(9, 0).UTC(),
		},
		{Firing: "NOT HEX AND NOT THIRTY-TWO LONG!", Outcome: "unheard of"},
		{Firing: "AABBCCDDEEFF00112233445566778899", Outcome: scheduler.Cancelled, Late: -time.Second},
	}
	var h historyEntry
	for i := range want {
		h.add(&want[i], "")
	}
	var got []scheduler.Attempt
	err := decodeAttempts(h.value, h.n, func(_ int, a *scheduler.Attempt) { got = append(got, *a) })
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("other attempts (-want +got):\n%s", d)
	}
}
