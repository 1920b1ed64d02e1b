package scheduler

import (
	"context"
	"slices"
	"strconv"
	"strings"
)

// Scope is the plans that a peer may see and change.
type Scope struct {
	Prefixes []string // its keys begin with one of these; none: any key
	Actions  []string // plans it creates use one of these; none: any action
}

// prefixes returns the key prefixes the peer in ctx is limited to; none: it is
// not.
func prefixes(ctx context.Context) []string {
	if p, ok := PeerFrom(ctx); ok && p.Scope != nil {
		return p.Scope.Prefixes
	}
	return nil
}

// covers says whether key begins with one of the prefixes, or there are none.
func covers(prefixes []string, key string) bool {
	return len(prefixes) == 0 || slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(key, p) })
}

// checkKey refuses a key that the peer in ctx has no business with, whether there
// is such a plan or not.
func checkKey(ctx context.Context, key string) error {
	if limits := prefixes(ctx); !covers(limits, key) {
		return fieldError(ErrNotAllowed, "key", key, "keys that begin with "+strings.Join(limits, ", ")+", for this token")
	}
	return nil
}

// checkAll refuses what is about every plan to a peer that may not see every plan.
func checkAll(ctx context.Context, field, value string) error {
	if limits := prefixes(ctx); len(limits) > 0 {
		return fieldError(ErrNotAllowed, field, value, "a token without a limit on keys; this one has "+strings.Join(limits, ", "))
	}
	return nil
}

// checkAction refuses an action that the peer in ctx may not create plans of.
func (s *Service) checkAction(ctx context.Context, action string) error {
	peer, ok := PeerFrom(ctx)
	if !ok {
		return nil
	}
	if peer.Scope != nil && len(peer.Scope.Actions) > 0 && !slices.Contains(peer.Scope.Actions, action) {
		return fieldError(ErrNotAllowed, "action", action, strings.Join(peer.Scope.Actions, ", ")+", for this token")
	}
	if action == "shell" && !s.opts.ShellFrom.allows(peer) {
		return fieldError(ErrNotAllowed, "action", action, s.opts.ShellFrom.who(peer))
	}
	return nil
}

// checkedKey refuses a key that cannot be one, or is not the peer's.
func checkedKey(ctx context.Context, key string) error {
	if err := ValidateKey(key); err != nil {
		return err
	}
	return checkKey(ctx, key)
}

// checkJournal refuses the journal of a key that is not the peer's; that of all
// plans is filtered.
func checkJournal(ctx context.Context, key string) error {
	if key == "" {
		return nil
	}
	return checkKey(ctx, key)
}

// permitted refuses dead letters that may be of other plans than the peer's: ids
// do not say whose they are.
func (d DeadSelection) permitted(ctx context.Context) error {
	switch {
	case d.Key != "":
		return checkKey(ctx, d.Key)
	case d.All:
		return checkAll(ctx, "all", "true")
	default:
		return checkAll(ctx, "ids", strconv.Itoa(len(d.IDs))+" of them")
	}
}

// keep drops what is of other plans than the peer's. A page may be short.
func keep[T any](ctx context.Context, entries []T, key func(T) string) []T {
	limits := prefixes(ctx)
	if len(limits) == 0 {
		return entries
	}
	return slices.DeleteFunc(entries, func(e T) bool { return !covers(limits, key(e)) })
}

// listWithin lists the plans of a peer that is limited to prefixes, one prefix
// after the other, so that it costs nothing how many plans others have. A cursor
// is the number of the prefix, a colon, and the store's cursor there.
func (s *Service) listWithin(ctx context.Context, limits []string, q ListQuery) (plans []*Plan, next string, err error) {
	parts := overlap(limits, q.Prefix)
	at := 0
	if q.Cursor != "" {
		number, cursor, _ := strings.Cut(q.Cursor, ":")
		if at, err = strconv.Atoi(number); err != nil || at < 0 || at >= len(parts) {
			return nil, "", fieldError(ErrField, "cursor", q.Cursor, "what the last page returned, with the same token")
		}
		q.Cursor = cursor
	}
	if len(parts) == 0 {
		return nil, "", nil
	}
	q.Prefix = parts[at]
	plans, next, err = s.list(ctx, q)
	switch {
	case err != nil:
		return nil, "", err
	case next != "":
		return plans, strconv.Itoa(at) + ":" + next, nil
	case at+1 < len(parts):
		return plans, strconv.Itoa(at+1) + ":", nil
	}
	return plans, "", nil
}

// overlap returns the prefixes of the keys that begin with one of limits and with
// prefix, in byte order, none of them beginning with another.
func overlap(limits []string, prefix string) (parts []string) {
	for _, l := range limits {
		switch {
		case strings.HasPrefix(prefix, l):
			return []string{prefix}
		case strings.HasPrefix(l, prefix):
			parts = append(parts, l)
		}
	}
	slices.Sort(parts)
	n := 0
	for _, p := range parts {
		// What begins with another stands behind it, with nothing else between.
		if n == 0 || !strings.HasPrefix(p, parts[n-1]) {
			parts[n] = p
			n++
		}
	}
	return parts[:n]
}
