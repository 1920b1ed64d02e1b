package memstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/snower/forsun/scheduler"
)

// The first byte of every value. A value of another version is not decodable.
const (
	planVersion       = 1
	locatorVersion    = 1
	firingVersion     = 1
	attemptVersion    = 1
	deadVersion       = 1
	quarantineVersion = 1
)

var (
	errTruncated = errors.New("value ends too early")
	errTrailing  = errors.New("value has bytes after its end")
	errVersion   = errors.New("value of an unknown version")
	errRange     = errors.New("number out of range")
)

// reader takes fields off the front of a value. The first thing that does not
// fit sets err; what is read after that is zero. It allocates nothing that the
// value's own length does not bound.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.b = nil
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.fail(errTruncated)
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *reader) version(want byte) {
	if v := r.byte(); r.err == nil && v != want {
		r.fail(fmt.Errorf("%w: %d, this program knows %d", errVersion, v, want))
	}
}

func (r *reader) fixed64() uint64 {
	if len(r.b) < 8 {
		r.fail(errTruncated)
		return 0
	}
	n := binary.BigEndian.Uint64(r.b)
	r.b = r.b[8:]
	return n
}

func (r *reader) uvarint() uint64 {
	n, size := binary.Uvarint(r.b)
	if size <= 0 {
		r.fail(errTruncated)
		return 0
	}
	r.b = r.b[size:]
	return n
}

func (r *reader) varint() int64 {
	n, size := binary.Varint(r.b)
	if size <= 0 {
		r.fail(errTruncated)
		return 0
	}
	r.b = r.b[size:]
	return n
}

// count reads a number that is not negative and fits an int32.
func (r *reader) count() int {
	n := r.uvarint()
	if n > math.MaxInt32 {
		r.fail(errRange)
		return 0
	}
	return int(n)
}

func (r *reader) bytes() []byte {
	n := r.uvarint()
	if n > uint64(len(r.b)) {
		r.fail(errTruncated)
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) string() string { return string(r.bytes()) }

func (r *reader) time() time.Time {
	sec, nsec := r.varint(), r.uvarint()
	if nsec >= 1e9 {
		r.fail(errRange)
	}
	if r.err != nil || sec == zeroSecond && nsec == 0 {
		return time.Time{}
	}
	return time.Unix(sec, int64(nsec)).UTC()
}

// end returns what went wrong, which includes bytes that are left.
func (r *reader) end() error {
	if r.err == nil && len(r.b) > 0 {
		r.err = errTrailing
	}
	return r.err
}

// zeroSecond stands for the zero time.
const zeroSecond = math.MinInt64

func appendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return append(binary.AppendVarint(b, zeroSecond), 0)
	}
	b = binary.AppendVarint(b, t.Unix())
	return binary.AppendUvarint(b, uint64(t.Nanosecond()))
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// A body is a plan without what its schedule key says: key, action, due. What
// claims and finishes change comes first, so that they need not decode the rest:
//
//	version, revision:8, fired, last due, status | created, kind, 7 schedule numbers, n, n × (name, value)
func appendBody(b []byte, p *scheduler.Plan) []byte {
	b = appendHead(b, head{p.Revision, p.Fired, p.LastDue, p.Status})
	b = appendTime(b, p.Created)
	s := p.Schedule
	b = append(b, byte(s.Kind))
	for _, n := range [...]int{s.Second, s.Minute, s.Hour, s.Day, s.Month, s.Week, s.Count} {
		b = binary.AppendVarint(b, int64(n))
	}
	b = binary.AppendUvarint(b, uint64(len(p.Params)))
	switch len(p.Params) {
	case 0:
	case 1:
		for name, value := range p.Params {
			b = appendString(appendString(b, name), value)
		}
	default:
		for _, name := range slices.Sorted(maps.Keys(p.Params)) {
			b = appendString(appendString(b, name), p.Params[name])
		}
	}
	return b
}

// head is the part of a body that changes.
type head struct {
	revision scheduler.Revision
	fired    int
	lastDue  int64
	status   scheduler.Status
}

func appendHead(b []byte, h head) []byte {
	b = append(b, planVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(h.revision))
	b = binary.AppendUvarint(b, uint64(h.fired))
	b = binary.AppendVarint(b, h.lastDue)
	return append(b, byte(h.status))
}

// decodeHead reads the head of a body and returns the rest.
func decodeHead(body []byte) (h head, rest []byte, err error) {
	r := reader{b: body}
	r.version(planVersion)
	h.revision = scheduler.Revision(r.fixed64())
	h.fired = r.count()
	h.lastDue = r.varint()
	h.status = scheduler.Status(r.byte())
	if h.status < scheduler.StatusFailed || h.status > scheduler.StatusSucceeded {
		r.fail(errRange)
	}
	return h, r.b, r.err
}

// decodeBody reads a body into p, whose Key, Action and Due are the caller's. The plan
// shares no memory with body.
func decodeBody(body []byte, p *scheduler.Plan) error {
	h, rest, err := decodeHead(body)
	if err != nil {
		return err
	}
	p.Revision, p.Fired, p.LastDue, p.Status = h.revision, h.fired, h.lastDue, h.status
	r := reader{b: rest}
	p.Created = r.time()
	kind := r.byte()
	if kind > byte(scheduler.Timeout) {
		r.fail(errRange)
	}
	s := scheduler.Schedule{Kind: scheduler.Kind(kind)}
	for _, n := range [...]*int{&s.Second, &s.Minute, &s.Hour, &s.Day, &s.Month, &s.Week, &s.Count} {
		v := r.varint()
		if v < math.MinInt32 || v > math.MaxInt32 {
			r.fail(errRange)
		}
		*n = int(v)
	}
	p.Schedule = s
	n := r.count()
	if n > len(r.b)/2 { // a parameter takes two bytes at least
		r.fail(errTruncated)
	}
	p.Params = nil
	if r.err == nil && n > 0 {
		p.Params = make(map[string]string, n)
		for range n {
			name := r.string()
			p.Params[name] = r.string()
		}
	}
	return r.end()
}

// decodePlan makes a plan of what is stored under a schedule key.
func decodePlan(key []byte, action string, due int64, body []byte) (*scheduler.Plan, error) {
	p := &scheduler.Plan{Key: string(key), Action: action, Due: due}
	if err := decodeBody(body, p); err != nil {
		return nil, err
	}
	return p, nil
}

// A locator says where in which schedule a plan is: version, due, action.
func appendLocator(b []byte, action string, due int64) []byte {
	b = append(b, locatorVersion)
	b = binary.AppendVarint(b, due)
	return append(b, action...)
}

func decodeLocator(v []byte) (action string, due int64, err error) {
	r := reader{b: v}
	r.version(locatorVersion)
	due = r.varint()
	return string(r.b), due, r.err
}

// A firing's record is what changes from delivery to delivery, then what never does, its core:
//
//	version, flags, due, missed, attempt, delivery | next due, action, key, body
//
// Next due, action, key and body are the plan as it was claimed.
func appendFiringHead(b []byte, f *firing) []byte {
	flags := byte(0)
	if f.cancelled {
		flags |= flagCancelled
	}
	if f.redriven {
		flags |= flagRedriven
	}
	b = append(b, firingVersion, flags)
	b = binary.AppendVarint(b, f.due)
	b = binary.AppendUvarint(b, uint64(f.missed))
	b = binary.AppendUvarint(b, uint64(f.attempt))
	return binary.AppendUvarint(b, uint64(f.delivery))
}

const (
	flagCancelled = 1 << iota // not to be retried
	flagRedriven              // belongs to no plan any more
)

func appendCore(b []byte, next int64, action, key string) []byte {
	b = binary.AppendVarint(b, next)
	b = appendString(b, action)
	return appendString(b, key) // the body follows
}

// decodeFiring reads a record. The firing keeps v as its core, and has no
// sequence number and no queue yet.
func decodeFiring(v []byte) (*firing, error) {
	f := &firing{}
	r := reader{b: v}
	r.version(firingVersion)
	flags := r.byte()
	if flags&^(flagCancelled|flagRedriven) != 0 {
		r.fail(errRange)
	}
	f.cancelled, f.redriven = flags&flagCancelled != 0, flags&flagRedriven != 0
	f.due = r.varint()
	f.missed = r.count()
	f.attempt = r.count()
	f.delivery = r.count()
	if r.err != nil {
		return nil, r.err
	}
	f.core = r.b
	action, key, body, _, err := splitCore(f.core)
	if err != nil {
		return nil, err
	}
	f.key, f.action = string(key), string(action)
	h, _, err := decodeHead(body)
	f.revision = h.revision
	return f, err
}

func splitCore(core []byte) (action, key, body []byte, next int64, err error) {
	r := reader{b: core}
	next = r.varint()
	action = r.bytes()
	key = r.bytes()
	return action, key, r.b, next, r.err
}

// plan decodes the plan as it was claimed.
func (f *firing) plan() (*scheduler.Plan, error) {
	_, _, body, next, err := splitCore(f.core)
	if err != nil {
		return nil, err
	}
	p := &scheduler.Plan{Key: f.key, Action: f.action, Due: next}
	if err := decodeBody(body, p); err != nil {
		return nil, err
	}
	return p, nil
}
