package redisstore

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/snower/forsun/scheduler"
	"github.com/snower/forsun/scheduler/storetest"
)

// The scripts cut at fixed places: see the comment above headLong.
func TestPlanHeadStandsWhereTheScriptsLook(t *testing.T) {
	p := storetest.NewPlan("k", storetest.Every(60, 0), storetest.WithRevision(0xabc), storetest.WithDue(1764192000))
	p.Fired, p.LastDue, p.Status = 12, 1764191940, scheduler.StatusFailed
	got, err := encodePlan(p)
	if err != nil {
		t.Fatal(err)
	}
	lua := func(from, to int) string { return got[from-1 : to] }
	for _, tt := range []struct {
		from, to int
		want     string
	}{
		{1, 13, `{"revision":"`},
		{14, 29, "0000000000000abc"},
		{30, 43, `","next_time":`},
		{44, 54, "1764192000 "},
		{55, 55, ","},
		{56, 71, `"current_count":`},
		{72, 81, "12        "},
		{83, 97, `"last_timeout":`},
		{98, 108, "1764191940 "},
		{110, 118, `"status":`},
		{119, 120, "-1"},
		{headLongLen + 1, headLongLen + 10, `"action":"`},
	} {
		if s := lua(tt.from, tt.to); s != tt.want {
			t.Errorf("characters %d to %d are %q, want %q", tt.from, tt.to, s, tt.want)
		}
	}
	once, err := encodePlan(storetest.NewPlan("k"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(once[headShortLen:], `"action":"`) {
		t.Errorf("behind the short head stands %q", once[headShortLen:])
	}
}

func TestPlanCodecRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		kind := scheduler.Kind(rapid.IntRange(0, 1).Draw(t, "kind"))
		n := func(name string) int {
			return rapid.OneOf(rapid.SampledFrom([]int{-1, 0}), rapid.IntRange(-1, 40000)).Draw(t, name)
		}
		p := &scheduler.Plan{
			Key: rapid.StringN(1, 20, 512).Draw(t, "key"),
			Schedule: scheduler.Schedule{
				Kind: kind, Second: n("second"), Minute: n("minute"), Hour: n("hour"), Day: n("day"),
				Month: n("month"), Week: n("week"), Count: n("count"),
			},
			Action:   rapid.StringN(1, 10, 40).Draw(t, "action"),
			Created:  time.UnixMilli(rapid.Int64Range(0, 4e12).Draw(t, "created")),
			Revision: scheduler.Revision(rapid.Uint64Min(1).Draw(t, "revision")),
			Due:      rapid.Int64Range(minDue, maxDue).Draw(t, "due"),
			Fired:    rapid.IntRange(0, maxFired).Draw(t, "fired"),
			LastDue:  rapid.Int64Range(minDue, maxDue).Draw(t, "last"),
			Status:   scheduler.Status(rapid.IntRange(-1, 1).Draw(t, "status")),
			Params: rapid.MapOf(rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }),
				rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }))).Draw(t, "params"),
		}
		stored, err := encodePlan(p)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decodePlan(p.Key, stored)
		if err != nil {
			t.Fatalf("%s: %v", stored, err)
		}
		if d := cmp.Diff(p, got, cmpopts.EquateEmpty()); d != "" {
			t.Fatalf("%s (-want +got):\n%s", stored, d)
		}
	})
}

// What a person or another version wrote is read like what we write.
func TestScanPlanAgreesWithJSON(t *testing.T) {
	p := storetest.NewPlan("k", storetest.Every(60, 0), storetest.WithParams(map[string]string{"a": "b\n\"ü", "": ""}))
	p.Fired, p.Status = 3, scheduler.StatusFailed
	stored, err := encodePlan(p)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := scanPlan("k", stored); !ok {
		t.Errorf("scanPlan leaves what encodePlan wrote to encoding/json: %s", stored)
	}
	for i := range stored { // every plan that has lost a byte, and everything cut short
		for _, s := range []string{stored[:i] + stored[i+1:], stored[:i], stored + stored[i:]} {
			compareDecoders(t, s)
		}
	}
	for _, digits := range []string{"0", "00", "07", "-0", "-07", "+7", "7.", "7.25", ".5", "7e3", "", "9007199254740993", "9223372036854775807"} {
		for _, field := range []string{`,"next_time":`, `,"count":`, `,"created_time":`} {
			before, after, ok := strings.Cut(stored, field)
			if !ok {
				t.Fatalf("%s has no %s", stored, field)
			}
			compareDecoders(t, before+field+digits+after[strings.IndexAny(after, ",}"):])
		}
	}
}

// compareDecoders says that encoding/json takes what scanPlan takes, and likewise.
func compareDecoders(t *testing.T, stored string) {
	t.Helper()
	got, ok := scanPlan("k", stored)
	if !ok {
		_, _ = decodePlan("k", stored)
		return
	}
	want, err := decodePlan("k", strings.Replace(stored, "{", "{ ", 1)) // the blank sends it to encoding/json
	if err != nil {
		t.Fatalf("scanPlan takes %q, encoding/json says %v", stored, err)
	}
	if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
		t.Fatalf("%q (-encoding/json +scanPlan):\n%s", stored, d)
	}
}

func FuzzDecodePlan(f *testing.F) {
	for _, opts := range [][]storetest.PlanOption{nil, {storetest.Every(60, 0)}, {storetest.Daily(16, 32, 0)}} {
		stored, err := encodePlan(storetest.NewPlan("k", opts...))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(stored)
	}
	f.Fuzz(compareDecoders)
}

func FuzzParseEntry(f *testing.F) {
	f.Add("0123456789abcdef0123456789abcdef 241 1764192000 0 1 1 7 1764192060 3 1 some key")
	f.Fuzz(func(t *testing.T, stored string) { _, _ = parseEntry(stored) })
}
