package scheduler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxWireDue is the last due second the wire can carry: next_time is a signed
// 32-bit number, up to 2038-01-19 03:14:07 UTC.
const maxWireDue = 1<<31 - 1

// checksTimeout bounds what the actions may take together to check the plans of one
// request: one that asks somebody else may be slow.
const checksTimeout = 10 * time.Second

// Actions is the set of actions plans may use.
type Actions interface {
	Get(name string) (Action, bool)
	Names() []string
}

// ServiceOptions configure a Service.
type ServiceOptions struct {
	Zone      *time.Location // zone of calendar plans without their own; required
	ShellFrom ShellFrom      // who may create shell plans
	Forbidden []string       // actions that are known and not allowed: see EngineOptions.Forbidden
	Timeout   time.Duration  // bound on one call to the store

	// CheckTimeout bounds the store's part of Check, which reads all that is stored.
	CheckTimeout time.Duration

	// Canary says that each shard is to have one: then Shards does not count it.
	Canary bool

	// Refuse returns why nothing may be created here now, or nil: see
	// Engine.ClockWrong. nil: there never is a reason.
	Refuse func() error
}

// DefaultServiceOptions returns UTC, shell from loopback, 5 s, and a minute for a
// check.
func DefaultServiceOptions() ServiceOptions {
	return ServiceOptions{Zone: time.UTC, ShellFrom: ShellFromLoopback, Timeout: 5 * time.Second, CheckTimeout: time.Minute}
}

// Service is what clients can ask of forsun, the same behind every interface.
// It checks everything before it stores anything.
type Service struct {
	store    Store
	actions  Actions
	clock    Clock
	counters *Counters
	opts     ServiceOptions
	checks   checks
	canaries map[int]string // their keys by shard; nil: there are none
}

// NewService returns a Service on store.
func NewService(store Store, actions Actions, clock Clock, counters *Counters, opts ServiceOptions) *Service {
	s := &Service{
		store: store, actions: actions, clock: clock, counters: counters, opts: opts,
		checks: checks{turn: make(chan struct{}, 1)},
	}
	if opts.Canary {
		s.canaries = make(map[int]string)
		for _, shard := range store.ShardIDs() {
			s.canaries[shard] = CanaryKey(store, shard)
		}
	}
	return s
}

// Now is the time as the service sees it.
func (s *Service) Now() time.Time { return s.clock.Now() }

// Zone is the zone of calendar plans without their own.
func (s *Service) Zone() *time.Location { return s.opts.Zone }

// Actions returns the names of the actions plans may use.
func (s *Service) Actions() []string {
	return slices.DeleteFunc(slices.Clone(s.actions.Names()), func(name string) bool { return slices.Contains(s.opts.Forbidden, name) })
}

// Counters returns the counters of this process.
func (s *Service) Counters() *Counters { return s.counters }

// Request asks for a plan.
type Request struct {
	Key      string
	Schedule Schedule
	Action   string
	Params   map[string]string
}

// RequestError says which request of several was wrong.
type RequestError struct {
	Index int // from 0
	Key   string
	Err   error
}

func (e *RequestError) Error() string {
	return fmt.Sprintf("plan %d (key %s): %s", e.Index+1, Shorten(e.Key, 64), e.Err)
}
func (e *RequestError) Unwrap() error { return e.Err }

// Create stores one plan, replacing the one with the same key, and returns it.
// Errors: a *FieldError, or ErrTime, ErrFull, ErrStore, ErrUnsure, or what
// ServiceOptions.Refuse says.
func (s *Service) Create(ctx context.Context, r Request) (*Plan, error) {
	plans, errs := s.CreateEach(ctx, []Request{r})
	return plans[0], errs[0]
}

// CreateMany stores plans. All requests are checked before any is stored: the
// first bad one is reported as a *RequestError and nothing is stored. If the
// store refuses some, errs has one entry per request, nil where it is stored.
func (s *Service) CreateMany(ctx context.Context, rs []Request) (plans []*Plan, errs []error, err error) {
	if err := s.refuse(); err != nil {
		return nil, nil, err
	}
	now, began := s.clock.Now(), time.Now()
	plans = make([]*Plan, len(rs))
	var drawn draw
	for i, r := range rs {
		if time.Since(began) > checksTimeout {
			return nil, nil, &RequestError{Index: i, Key: r.Key, Err: fieldError(ErrTooLarge, "plans", fmt.Sprintf("%d plans", len(rs)),
				fmt.Sprintf("as many as their actions can check in %s: about %d", checksTimeout, i))}
		}
		if plans[i], err = s.plan(ctx, r, now, drawn.revision(len(rs)-i)); err != nil {
			return nil, nil, &RequestError{Index: i, Key: r.Key, Err: err}
		}
	}
	if len(rs) == 0 {
		return plans, nil, nil
	}
	return plans, s.put(ctx, plans), nil
}

// CreateEach is Create for requests of different keys at once: each is checked, stored
// or refused for itself. A plan is nil where its error is not.
func (s *Service) CreateEach(ctx context.Context, rs []Request) (plans []*Plan, errs []error) {
	plans, errs = make([]*Plan, len(rs)), make([]error, len(rs))
	err := s.refuse()
	now := s.clock.Now()
	good, index := make([]*Plan, 0, len(rs)), make([]int, 0, len(rs))
	var drawn draw
	for i, r := range rs {
		if errs[i] = err; err != nil {
			continue
		}
		plan, err := s.plan(ctx, r, now, drawn.revision(len(rs)-i))
		if errs[i] = err; err == nil {
			good, index = append(good, plan), append(index, i)
		}
	}
	if len(good) == 0 {
		return plans, errs
	}
	for n, err := range s.put(ctx, good) {
		i := index[n]
		if errs[i] = err; err == nil {
			plans[i] = good[n]
		}
	}
	return plans, errs
}

func (s *Service) refuse() error {
	if s.opts.Refuse == nil {
		return nil
	}
	return s.opts.Refuse()
}

// plan checks r and turns it into a plan with its first due second.
func (s *Service) plan(ctx context.Context, r Request, now time.Time, rev Revision) (*Plan, error) {
	zone, err := s.accept(ctx, r)
	if err != nil {
		return nil, err
	}
	due, err := firstDue(r.Schedule, now, zone)
	if err != nil {
		return nil, err
	}
	return &Plan{
		Key: r.Key, Schedule: r.Schedule, Action: r.Action, Params: r.Params,
		Created: now, Revision: rev, Due: due,
	}, nil
}

// accept says whether r can be stored, and returns its zone.
func (s *Service) accept(ctx context.Context, r Request) (*time.Location, error) {
	if err := checkedKey(ctx, r.Key); err != nil {
		return nil, err
	}
	if IsCanary(r.Key) {
		return nil, fieldError(ErrNotAllowed, "key", r.Key, "keys that do not begin with "+CanaryPrefix+", which are forsun's own")
	}
	if err := r.Schedule.Validate(); err != nil {
		return nil, err
	}
	if err := ValidateParams(r.Params); err != nil {
		return nil, err
	}
	opts, err := ParseOptions(r.Params)
	if err != nil {
		return nil, err
	}
	if slices.Contains(s.opts.Forbidden, r.Action) {
		return nil, fieldError(ErrNotAllowed, "action", r.Action, strings.Join(s.Actions(), ", ")+" (the server's --actions)")
	}
	action, ok := s.actions.Get(r.Action)
	if !ok {
		return nil, fieldError(ErrAction, "action", r.Action, strings.Join(s.Actions(), ", "))
	}
	if err := s.checkAction(ctx, r.Action); err != nil {
		return nil, err
	}
	if err := action.Check(r.Params); err != nil {
		return nil, err
	}
	if opts.Zone != nil {
		return opts.Zone, nil
	}
	return s.opts.Zone, nil
}

// firstDue is the first due second of a schedule that is stored now.
func firstDue(schedule Schedule, now time.Time, zone *time.Location) (int64, error) {
	due, ok := schedule.First(now.Unix(), zone)
	if !ok {
		return 0, fieldError(ErrTime, "time", "", "a time still to come")
	}
	if due > maxWireDue {
		return 0, fieldError(ErrTime, "next_time", strconv.FormatInt(due, 10), "up to 2038-01-19 03:14:07 UTC")
	}
	return due, nil
}

// put stores plans and counts them.
func (s *Service) put(ctx context.Context, plans []*Plan) []error {
	ctx, cancel := context.WithTimeout(ctx, s.opts.Timeout)
	defer cancel()
	errs := s.store.Put(ctx, plans)
	for i, err := range errs {
		s.countPut(plans[i], err)
	}
	return errs
}

// countPut counts what became of a plan.
func (s *Service) countPut(p *Plan, err error) {
	switch {
	case errors.Is(err, ErrExists):
	case err != nil:
		s.counters.StoreErrors.Add(1)
	default:
		s.counters.Created.Add(1)
		if p.Schedule.Kind == Timeout {
			s.counters.TimeoutsCreated.Add(1)
		}
	}
}

// Get returns the plan of key, or ErrNotFound.
func (s *Service) Get(ctx context.Context, key string) (*Plan, error) {
	if err := checkedKey(ctx, key); err != nil {
		return nil, err
	}
	if IsCanary(key) {
		return nil, ErrNotFound
	}
	ctx, cancel := context.WithTimeout(ctx, s.opts.Timeout)
	defer cancel()
	return s.store.Get(ctx, key)
}

// Remove deletes the plan of key, cancels its retries, and returns it, or
// ErrNotFound.
func (s *Service) Remove(ctx context.Context, key string) (*Plan, error) {
	if err := checkedKey(ctx, key); err != nil {
		return nil, err
	}
	if IsCanary(key) {
		return nil, ErrNotFound
	}
	ctx, cancel := context.WithTimeout(ctx, s.opts.Timeout)
	defer cancel()
	plan, err := s.store.Remove(ctx, key)
	if err == nil {
		s.counters.Removed.Add(1)
	} else if !errors.Is(err, ErrNotFound) {
		s.counters.StoreErrors.Add(1)
	}
	return plan, err
}

// List returns a page of plans by key: see PlanStore.List.
func (s *Service) List(ctx context.Context, q ListQuery) ([]*Plan, string, error) {
	if err := checkLimit(q.Limit); err != nil {
		return nil, "", err
	}
	if limits := prefixes(ctx); len(limits) > 0 {
		return s.listWithin(ctx, limits, q)
	}
	return s.list(ctx, q)
}

func (s *Service) list(ctx context.Context, q ListQuery) ([]*Plan, string, error) {
	ctx, cancel := context.WithTimeout(ctx, s.opts.Timeout)
	defer cancel()
	return withoutCanaries(s.store.List(ctx, q))
}

// DueAt returns a page of the plans whose next due second is q.Second.
func (s *Service) DueAt(ctx context.Context, q DueAtQuery) ([]*Plan, string, error) {
	if err := checkLimit(q.Limit); err != nil {
		return nil, "", err
	}
	ctx, cancel := context.WithTimeout(ctx, s.opts.Timeout)
	defer cancel()
	plans, next, err := withoutCanaries(s.store.DueAt(ctx, q))
	return keep(ctx, plans, func(p *Plan) string { return p.Key }), next, err
}

// History returns a page of finished attempts, newest first.
func (s *Service) History(ctx context.Context, q JournalQuery) ([]Attempt, string, error) {
	if err := checkLimit(q.Limit); err != nil {
		return nil, "", err
	}
	if err := checkJournal(ctx, q.Key); err != nil {
		return nil, "", err
	}
	ctx, cancel := context.WithTimeout(ctx, s.opts.Timeout)
	defer cancel()
	attempts, next, err := s.store.History(ctx, q)
	return keep(ctx, attempts, func(a Attempt) string { return a.Key }), next, err
}

// DeadLetters returns a page of dead letters, newest first.
func (s *Service) DeadLetters(ctx context.Context, q JournalQuery) ([]DeadLetter, string, error) {
	if err := checkLimit(q.Limit); err != nil {
		return nil, "", err
	}
	if err := checkJournal(ctx, q.Key); err != nil {
		return nil, "", err
	}
	ctx, cancel := context.WithTimeout(ctx, s.opts.Timeout)
	defer cancel()
	dead, next, err := s.store.DeadLetters(ctx, q)
	return keep(ctx, dead, func(d DeadLetter) string { return d.Firing.Plan.Key }), next, err
}

// DeadSelection names dead letters: by IDs, or all of Key, or All of them.
type DeadSelection struct {
	IDs []string
	Key string
	All bool
}

// Redrive queues dead letters again from attempt 1 and returns how many, also
// beside an error.
func (s *Service) Redrive(ctx context.Context, sel DeadSelection) (int, error) {
	return s.eachDead(ctx, sel, s.store.Redrive)
}

// Purge forgets dead letters and returns how many, also beside an error.
func (s *Service) Purge(ctx context.Context, sel DeadSelection) (int, error) {
	return s.eachDead(ctx, sel, s.store.Purge)
}

// deadBatch bounds how many dead letters one call to the store moves.
const deadBatch = 500

// eachDead applies do to the selected dead letters, page by page. Those that
// die while it is under way are not waited for.
func (s *Service) eachDead(ctx context.Context, sel DeadSelection, do func(context.Context, []string) (int, error)) (total int, err error) {
	if err := sel.validate(); err != nil {
		return 0, err
	}
	if err := sel.permitted(ctx); err != nil {
		return 0, err
	}
	ids := sel.IDs
	if len(ids) == 0 {
		if ids, err = s.deadIDs(ctx, sel.Key); err != nil {
			return 0, err
		}
	}
	for batch := range slices.Chunk(ids, deadBatch) {
		bounded, cancel := context.WithTimeout(ctx, s.opts.Timeout)
		n, err := do(bounded, batch)
		cancel()
		total += n
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// deadIDs lists the dead letters of key, or all.
func (s *Service) deadIDs(ctx context.Context, key string) (ids []string, err error) {
	for cursor := ""; ; {
		bounded, cancel := context.WithTimeout(ctx, s.opts.Timeout)
		dead, next, err := s.store.DeadLetters(bounded, JournalQuery{Key: key, Cursor: cursor, Limit: deadBatch})
		cancel()
		if err != nil {
			return nil, err
		}
		for _, d := range dead {
			ids = append(ids, d.ID)
		}
		if cursor = next; next == "" {
			return ids, nil
		}
	}
}

// validate refuses a selection that names nothing or names it twice.
func (d DeadSelection) validate() error {
	named := 0
	for _, given := range []bool{len(d.IDs) > 0, d.Key != "", d.All} {
		if given {
			named++
		}
	}
	if named != 1 {
		return &FieldError{Kind: ErrMissing, Field: "selection", Allowed: "exactly one of: ids, a key, or all"}
	}
	return nil
}

// MaxPage bounds the limit of a page.
const MaxPage = 10_000

// Preview returns the next n due seconds of a stored plan (1 ≤ n ≤ 1000; fewer
// if it ends before).
func (s *Service) Preview(ctx context.Context, key string, n int) ([]int64, error) {
	if n < 1 || n > 1000 {
		return nil, fieldError(ErrField, "n", strconv.Itoa(n), "1 to 1000")
	}
	plan, err := s.Get(ctx, key)
	if err != nil {
		return nil, err
	}
	zone := plan.Zone(s.opts.Zone)
	dues := []int64{plan.Due}
	last := plan.Schedule.Kind == Timeout && plan.Schedule.Count > 0
	for due, fired := plan.Due, plan.Fired+1; len(dues) < n; fired++ {
		if last && fired >= plan.Schedule.Count {
			break
		}
		next, ok := plan.Schedule.Next(due, zone)
		if !ok {
			break
		}
		dues, due = append(dues, next), next
	}
	return dues, nil
}

// withoutCanaries drops forsun's own plans from a page.
func withoutCanaries(plans []*Plan, next string, err error) ([]*Plan, string, error) {
	return slices.DeleteFunc(plans, func(p *Plan) bool { return IsCanary(p.Key) }), next, err
}

// Shards returns the state of every shard, without the canaries but in what is
// overdue.
func (s *Service) Shards(ctx context.Context) ([]ShardState, error) {
	ctx, cancel := context.WithTimeout(ctx, s.opts.Timeout)
	defer cancel()
	states, err := s.allShards(ctx)
	for i := range states {
		if err := s.leaveOutCanary(ctx, &states[i]); err != nil {
			return nil, err
		}
	}
	return states, err
}

func (s *Service) leaveOutCanary(ctx context.Context, state *ShardState) error {
	delete(state.Queued, CanaryAction)
	delete(state.Running, CanaryAction)
	key := s.canaries[state.Shard]
	if key == "" || state.Plans == 0 {
		return nil
	}
	switch _, err := s.store.Get(ctx, key); {
	case err == nil:
		state.Plans--
	case !errors.Is(err, ErrNotFound):
		return err
	}
	return nil
}

// allShards returns the state of every shard as it is.
func (s *Service) allShards(ctx context.Context) ([]ShardState, error) {
	ctx, cancel := context.WithTimeout(ctx, s.opts.Timeout)
	defer cancel()
	states, err := s.store.Shards(ctx, s.clock.Now())
	slices.SortFunc(states, func(a, b ShardState) int { return a.Shard - b.Shard })
	return states, err
}

func checkLimit(n int) error {
	if n < 1 || n > MaxPage {
		return fieldError(ErrField, "limit", strconv.Itoa(n), "1 to "+strconv.Itoa(MaxPage))
	}
	return nil
}
