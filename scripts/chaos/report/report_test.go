package report

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestPageIsReadBack: what is written sums up what was appended, and holds all of it.
func TestPageIsReadBack(t *testing.T) {
	t.Parallel()
	began := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	all := []Outcome{
		{Scenario: "C12", Test: "TestC12", Form: "full", Seed: 9, Began: began, Seconds: 7, Firings: 5, Lost: 1, LatestMS: 12, Commit: "abc"},
		{Scenario: "C3", Test: "TestC03", Form: "full", Seed: 4, Began: began.Add(time.Hour), Seconds: 17, Firings: 100, LatestMS: 2500, Passed: true, Commit: "abc"},
		{Scenario: "C3", Test: "TestC03", Form: "full", Seed: 3, Began: began, Seconds: 19, Firings: 100, Rescued: 2, LatestMS: 7, Passed: true, Commit: "abc"},
		{Scenario: "C3", Test: "TestC03", Form: "full", Seed: 7, Began: began, Seconds: 18, Firings: 100, Duplicates: 1, Early: 1, Commit: "def"},
	}
	lines := filepath.Join(t.TempDir(), "lines")
	for _, o := range all {
		if err := Append(lines, o); err != nil {
			t.Fatal(err)
		}
	}
	read, err := Read(lines)
	if diff := cmp.Diff(all, read); err != nil || diff != "" {
		t.Fatalf("appended and read: %v %s", err, diff)
	}
	var page bytes.Buffer
	if err := Write(&page, read, "2 processors"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"Commit abc, def; 2 processors; from 2026-11-26 12:00 to 2026-11-26 13:00 UTC.",
		"| C3 | TestC03 | full | 3 | 2 | 300 | 1 | 1 | 0 | 2 | 2.500 s | 19 s | 3–4, 7 |\n| C12 | TestC12 | full | 1 | 0 | 5 | 0 | 0 | 1 | 0 | 0.012 s | 7 s | 9 |\n",
		"| all |  |  | 4 | 2 | 305 | 1 | 1 | 1 | 2 | 2.500 s | 19 s |  |\n",
	} {
		if !strings.Contains(page.String(), want) {
			t.Errorf("the page lacks %q:\n%s", want, &page)
		}
	}
	kept := filepath.Join(t.TempDir(), "page")
	if err := os.WriteFile(kept, page.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	read, err = Read(kept)
	if diff := cmp.Diff(all, read); err != nil || diff != "" {
		t.Errorf("the page's runs: %v %s", err, diff)
	}
}
