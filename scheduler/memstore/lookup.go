package memstore

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/snower/forsun/scheduler"
)

// manyLookups is from how many plans on one iterator costs less than a Get for each. A
// Get opens anew every table that may hold its key, though its filter then says no for nearly
// every new plan: that was nearly half of what a bulk of new plans cost. An iterator
// opens them once, and walks from one key to the next.
const manyLookups = 4

// lookupAll is lookup for all plans that have no error yet. What could not be read
// has one afterwards.
func (s *Store) lookupAll(plans []*scheduler.Plan, errs []error) []stored {
	found := make([]stored, len(plans))
	fail := func(i int, err error) { errs[i] = fmt.Errorf("%w: %w", scheduler.ErrStore, err) }
	if len(plans) < manyLookups {
		for i, p := range plans {
			if errs[i] != nil {
				continue
			}
			var err error
			if found[i], err = s.lookup(p.Key); err != nil {
				fail(i, err)
			}
		}
		return found
	}
	var all []byte // the keys, one behind the other
	keys := make([][]byte, len(plans))
	cut := func(i, from int) { keys[i] = all[from:len(all):len(all)] } // stays what it is when all grows elsewhere
	for i, p := range plans {
		if errs[i] == nil {
			from := len(all)
			all = appendPlanKey(all, p.Key)
			cut(i, from)
		}
	}
	// Locators and bodies are of one moment, that of the iterator.
	it, err := s.db.NewIter(&pebble.IterOptions{UseL6Filters: true}) // most keys are not in the lowest level either
	if err != nil {
		err = s.readError(err)
		for i := range plans {
			if errs[i] == nil {
				fail(i, err)
			}
		}
		return found
	}
	defer func() { _ = it.Close() }() // its error is Error's
	s.getAll(it, keys, func(i int, v []byte, err error) {
		keys[i] = nil
		switch {
		case err != nil:
			fail(i, err)
		case v != nil:
			found[i].exists = true
			if action, due, err := decodeLocator(v); err == nil {
				found[i].action, found[i].due = action, due
				from := len(all)
				all = appendScheduleKey(all, action, due, plans[i].Key)
				cut(i, from)
			}
		}
	})
	s.getAll(it, keys, func(i int, v []byte, err error) {
		if err != nil {
			fail(i, err)
		}
		found[i].body = bytes.Clone(v)
	})
	return found
}

// getAll is get for many keys, in their order, and may be called with an iterator again; a
// key that is nil is left out. v is valid during the call, nil if there is no value.
func (s *Store) getAll(it *pebble.Iterator, keys [][]byte, fn func(i int, v []byte, err error)) {
	order := make([]int, 0, len(keys))
	for i, k := range keys {
		if k != nil {
			order = append(order, i)
		}
	}
	if len(order) == 0 {
		return
	}
	slices.SortFunc(order, func(a, b int) int { return bytes.Compare(keys[a], keys[b]) })
	first, last := keys[order[0]], keys[order[len(order)-1]]
	it.SetBounds(first, append(bytes.Clone(last), 0))
	for _, i := range order {
		// A key is its own prefix: this finds it, or nothing, and asks the filters first. After
		// an error it begins anew.
		if !it.SeekPrefixGE(keys[i]) {
			fn(i, nil, s.iterError(it))
			continue
		}
		v, err := it.ValueAndErr()
		if err != nil {
			fn(i, nil, s.readError(err))
			continue
		}
		if v == nil {
			v = []byte{}
		}
		fn(i, v, nil)
	}
}
