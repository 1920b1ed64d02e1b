package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/snower/forsun/scripts/chaos/ledger"
)

// TestSinkAndJudge: what a sink kept, and a journal beside it, is judged from the files.
func TestSinkAndJudge(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	journal, err := ledger.NewJournal(filepath.Join(dir, "journal"))
	if err != nil {
		t.Fatal(err)
	}
	e := &ledger.Event{Key: "k", Spec: &ledger.Spec{Every: 1, Count: 1}}
	journal.Sending(e)
	due := e.Sent.Unix() + 1
	journal.Answered(ledger.Answer{Event: e, Result: ledger.Done, Due: due})
	if err := journal.Close(); err != nil {
		t.Fatal(err)
	}
	rules, err := json.Marshal(ledger.Rules{Until: due, MaxLate: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "rules"), rules, 0o600); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := run(t.Context(), []string{"judge", dir}, &out); err == nil || !strings.Contains(out.String(), "lost: 1\n  k due ") {
		t.Errorf("without a call: %v, %s", err, &out)
	}

	ctx, stop := context.WithCancel(t.Context())
	read, write := io.Pipe()
	ended := make(chan error)
	go func() { ended <- run(ctx, []string{"sink", filepath.Join(dir, "receipts-1")}, write) }()
	var addresses ledger.Addresses
	if err := json.NewDecoder(read).Decode(&addresses); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Until(time.Unix(due, 0)))
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, addresses.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"X-FORSUN-TIMESTAMP": strconv.FormatInt(due, 10), "X-FORSUN-ATTEMPT": "1", "X-FORSUN-FIRING-ID": "id", "X-FORSUN-KEY": "k",
	} {
		request.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	out.Reset()
	if err := run(t.Context(), []string{"judge", dir}, &out); err != nil || !strings.Contains(out.String(), "due 1, fired 1, calls 1, lost 0") {
		t.Errorf("with the call: %v, %s", err, &out)
	}
	if err := run(t.Context(), []string{"judge"}, &out); err == nil {
		t.Error("no directory is taken for one")
	}
}
