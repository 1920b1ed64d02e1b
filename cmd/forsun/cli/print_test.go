package cli

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"
)

func TestPrintable(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ in, want string }{
		{"", ""},
		{"plain 键 é", "plain 键 é"},
		{"a\nb\t\x1b[0m", `a\nb\t\x1b[0m`},
		{"\xff\u0085\x7f", `\xff\u0085\x7f`},
		{"\ufffd", "\ufffd"},
	} {
		if got := printable(row.in); got != row.want {
			t.Errorf("printable(%q) = %s, want %s", row.in, got, row.want)
		}
	}
}

func TestShort(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		in   time.Duration
		want string
	}{
		{0, "0ms"},
		{999 * time.Millisecond, "999ms"},
		{1500 * time.Millisecond, "1.5s"},
		{61 * time.Second, "1m01s"},
		{25*time.Hour + 3*time.Minute, "25h03m"},
	} {
		if got := short(row.in); got != row.want {
			t.Errorf("short(%s) = %s, want %s", row.in, got, row.want)
		}
	}
}

// TestSheetPages prints more rows than a page holds: under one header, with the
// columns where they were.
func TestSheetPages(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	s := &sheet{w: &b, columns: []column{{title: "key", max: 10}, {title: "n", right: true}, {title: "end"}}, widths: make([]int, 3)}
	const rows = 2*pageRows + 1
	for i := range rows {
		key := "键"
		if i == 7 {
			key = "a key that is too long"
		}
		if err := s.add(key, fmt.Sprint(10_000+i), "x"); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.flush(); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	if len(lines) != rows+1 || !strings.HasPrefix(lines[0], "KEY") {
		t.Fatalf("%d lines, the first %q; want %d and a header", len(lines), lines[0], rows+1)
	}
	end := text.StringWidth(lines[0][:strings.Index(lines[0], "END")])
	for i, line := range lines[1:] {
		if at := text.StringWidth(strings.TrimSuffix(line, "x")); at != end || strings.Contains(line, "KEY") {
			t.Fatalf("row %d ends at %d, the header says %d: %q", i, at, end, line)
		}
	}
	if !strings.HasPrefix(lines[8], "a key tha…") {
		t.Errorf("a long cell: %q", lines[8])
	}
}

func TestSheetColors(t *testing.T) {
	t.Parallel()
	for _, color := range []bool{false, true} {
		var b strings.Builder
		s := &sheet{w: &b, columns: []column{{title: "outcome", paint: outcomeColor}, {title: "n"}}, widths: make([]int, 2), color: color}
		s.add("dead", "1")
		s.add("cancelled", "2")
		s.flush()
		want := "OUTCOME    N\ndead       1\ncancelled  2\n"
		if color {
			want = "OUTCOME    N\n\x1b[31mdead\x1b[0m       1\ncancelled  2\n"
		}
		if b.String() != want {
			t.Errorf("colour %t: %q, want %q", color, b.String(), want)
		}
	}
}
