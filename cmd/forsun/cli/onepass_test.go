package cli

import (
	"bytes"
	"reflect"
	"testing"
)

const plainRecord = `{"forsun":"plan","key":"k","second":0,"minute":-1,"hour":0,"day":1,"month":-1,"week":-1,"status":0,"count":1,"is_time_out":true,` +
	`"next_time":1795912618,"current_count":0,"last_timeout":0,"created_time":1795826218.13,"action":"http","params":{"url":"http://h/?a=1"}}`

// FuzzReadPlain: what is read in one pass is read so by encoding/json, too.
func FuzzReadPlain(f *testing.F) {
	for _, seed := range []string{
		plainRecord, `{"forsun":"export","version":1,"zone":"UTC","time":"2026-11-28T00:36:58Z"}`, `{"forsun":"end","plans":1}`,
		`{"key":"k","is_time_out":true,"second":5,"action":"shell","params":{"cmd":"echo \"a\u00e9\" \\ud800"}}`,
		`{"forsun":"","key":"k","count":7,"next_time":3,"current_count":1,"last_timeout":2,"created_time":1e3,"status":-1}`,
		`{"forsun":"plan","key":"a","key":"b","params":{"a":"1","a":"2"},"params_base64":{"b":"//4="}}`,
		`{"params":{"a":"1"},"params":{"b":"2"}}`, `{"key":null,"second":1.0,"params":null}`, `{"Key":"a","key":"b","\u0066orsun":"plan"}`,
		` {"forsun":"plan","key":"a"} `, "\u00a0{\"forsun\":\"plan\"}", `{"forsun":"plan"} {}`, `{"key":"a"}]`, `{"other":[{"forsun":"plan"}]}`, "{}", "{\"key\":\"\xff\"}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		got, ok := readPlain(text)
		if !ok {
			return
		}
		kind := recordKind(text)
		if kind != got.Forsun {
			t.Fatalf("%q: a %q, want a %q", text, got.Forsun, kind)
		}
		if kind == recordPlan {
			want := planRecord{jsonPlan: openPlan()}
			if err := parseRecord(bytes.TrimSpace(text), &want); err != nil {
				t.Fatalf("%q is taken, but: %v", text, err)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%q: %+v, want %+v", text, got, want)
			}
			return
		}
		want, ok, err := parseImportLine(string(text))
		if err != nil || !ok {
			t.Fatalf("%q is taken, but: %t, %v", text, ok, err)
		}
		j := got.request()
		if !reflect.DeepEqual(j.request(), want) {
			t.Errorf("%q: %+v, want %+v", text, j.request(), want)
		}
	})
}

// TestReadPlain: what export writes is read in one pass.
func TestReadPlain(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		why, line string
		want      bool
	}{
		{"a record", plainRecord, true},
		{"a plan", `{"key":"k","is_time_out":false,"second":0,"minute":-1,"hour":0,"day":1,"month":-1,"week":-1,"count":0,"action":"shell","params":{"cmd":"a\nb"}}`, true},
		{"bytes", `{"forsun":"plan","key":"k","params_base64":{"cmd":"//4="}}`, true},
		{"an end", `{"forsun":"end","plans":1}`, false},
		{"a name that is not known", `{"key":"k","name":"x"}`, false},
		{"a number in a string", `{"key":"k","second":"1"}`, false},
		{"a line of words", `k 0 0 0 * * * shell ls`, false},
		{"cut off", plainRecord[:100], false},
	} {
		if _, got := readPlain([]byte(row.line)); got != row.want {
			t.Errorf("%s: %t, want %t", row.why, got, row.want)
		}
	}
}

func BenchmarkReadPlain(b *testing.B) {
	b.ReportAllocs()
	b.SetBytes(int64(len(plainRecord)))
	for b.Loop() {
		if _, ok := readPlain([]byte(plainRecord)); !ok {
			b.Fatal("not read")
		}
	}
}
