package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/snower/forsun/redisstore/redistest"
	"github.com/snower/forsun/redisstore/redistest/proc"
	"github.com/snower/forsun/scripts/chaos/ledger"
)

// sink is a process of the ledger's that firings call, and its book.
type sink struct {
	f *fleet
	ledger.Addresses
	*ledger.Book
}

// newSink starts a sink.
func (f *fleet) newSink() *sink {
	t := f.t
	t.Helper()
	path := f.path("receipts")
	s := &sink{f: f}
	p, err := proc.Start(built.ledger, []string{"sink", path}, func(printed string) error {
		return json.Unmarshal([]byte(printed), &s.Addresses)
	})
	if err != nil {
		t.Fatal(err)
	}
	if s.Book, err = ledger.Follow(path); err != nil {
		p.Kill()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(p.Stop(), s.Close()); err != nil {
			t.Errorf("sink: %v\n%s", err, p.Output())
		}
	})
	f.sinks = append(f.sinks, s)
	return s
}

// Release answers the calls that are held, and those to come.
func (s *sink) Release() {
	s.f.t.Helper()
	response, err := http.Post(s.URL+ledger.ReleasePath, "", nil)
	if err != nil {
		s.f.t.Fatal(err)
	}
	response.Body.Close()
}

// mix has a part of the load's plans call over Thrift, and another add themselves to a
// list of a Redis that is not the fleet's.
func (f *fleet) mix() {
	t := f.t
	t.Helper()
	var err error
	if f.list, err = ledger.NewList(redistest.Start(t, "appendonly yes").Addr); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.list.Save(f.path("receipts")); err != nil {
			t.Error(err)
		}
		f.list.Close()
	})
}

// plan is a plan that calls the sink; of some of each ten kinds, with mix, one that does
// so over Thrift or adds itself to the list.
func (f *fleet) plan(kind int, key string, spec ledger.Spec, path string) ledger.Plan {
	switch {
	case f.list != nil && kind%10 < 2:
		return ledger.ThriftPlan(key, spec, f.sink.Thrift)
	case f.list != nil && kind%10 < 4:
		return ledger.RedisPlan(key, spec, f.list.Addr)
	}
	return ledger.HTTPPlan(key, spec, f.sink.URL+path)
}

// receipts are the calls to all sinks, in the order they came.
func (f *fleet) receipts() (all []ledger.Receipt) {
	f.t.Helper()
	for _, s := range f.sinks {
		all = append(all, s.Receipts()...)
		if err := s.Err(); err != nil {
			f.t.Fatal(err)
		}
	}
	if f.list != nil {
		ctx, cancel := context.WithTimeout(f.t.Context(), 30*time.Second)
		defer cancel()
		calls, err := f.list.Receipts(ctx)
		if err != nil {
			f.t.Fatal(err)
		}
		all = append(all, calls...)
	}
	slices.SortStableFunc(all, func(a, b ledger.Receipt) int { return a.At.Compare(b.At) })
	return all
}

// keepRules keeps what "ledger judge" needs beside journal and receipts.
func (f *fleet) keepRules(rules ledger.Rules) {
	f.t.Helper()
	text, err := json.Marshal(rules)
	if err == nil {
		err = os.WriteFile(filepath.Join(f.dir, "rules"), text, 0o600)
	}
	if err != nil {
		f.t.Error(err)
	}
}
