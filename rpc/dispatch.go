package rpc

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/apache/thrift/lib/go/thrift"

	"github.com/snower/forsun/rpc/access"
	"github.com/snower/forsun/rpc/gen/forsun"
	"github.com/snower/forsun/rpc/wire"
)

// maxContainer bounds the elements of a list or map in a message: 1000 plans in
// createMany, 1000 ids in redrive; more than the 256 parameters of a plan.
const maxContainer = 1000

// maxReply bounds a framed answer. What is in one is bounded elsewhere
// (maxListBytes); the library needs a number.
const maxReply = 512 << 20

// method is a method of the interface.
type method struct {
	read   func(ctx context.Context, in thrift.TProtocol) (asked, error) // reads the arguments of a call
	throws bool                                                          // a ForsunPlanError; else failures are exceptions of the protocol
	need   access.Right
}

// asked is what a call asks for: what answers it, or a plan to be created.
type asked struct {
	answer func() (thrift.TStruct, error)
	create *creation
}

// bind makes a method of args, which returns arguments with the interface's
// defaults, and answer, which returns the result.
func bind[A thrift.TStruct](args func() A, answer func(context.Context, A) (thrift.TStruct, error)) method {
	read := func(ctx context.Context, in thrift.TProtocol) (asked, error) {
		a := args()
		if err := a.Read(ctx, in); err != nil {
			return asked{}, err
		}
		return asked{answer: func() (thrift.TStruct, error) { return answer(ctx, a) }}, nil
	}
	return method{read: read, throws: true}
}

// bindPlain is bind for a method that throws nothing.
func bindPlain[A thrift.TStruct](args func() A, answer func(context.Context, A) (thrift.TStruct, error)) method {
	m := bind(args, answer)
	m.throws = false
	return m
}

// bindCreate is bind for a method that creates one plan.
func bindCreate[A thrift.TStruct](args func() A, create func(A) *creation) method {
	read := func(ctx context.Context, in thrift.TProtocol) (asked, error) {
		a := args()
		if err := a.Read(ctx, in); err != nil {
			return asked{}, err
		}
		return asked{create: create(a)}, nil
	}
	return method{read: read, throws: true}
}

// dispatcher answers the messages of one connection, in order.
type dispatcher struct {
	methods map[string]method
	stats   *stats
	proto   *thrift.THeaderProtocol
	trans   *thrift.THeaderTransport
	in      *thrift.TConfiguration // bounds on what is read
	out     *thrift.TConfiguration // bounds on what is written

	creates  func(context.Context, []*creation) []thrift.TStruct                                     // results of creations of different keys
	pipe     pipeline                                                                                // the transport, if it is one; else nil
	enter    func(method string, need access.Right) (ctx context.Context, final bool, refused error) // who calls: see session.enter
	begun    func() error                                                                            // a message is complete and about to be answered
	panicked func(method string, v any, stack []byte)                                                // a method panicked
}

// pipeline is a transport on which calls may come before others are answered.
type pipeline interface {
	follows() bool  // another message has come whole, and is read next
	hold()          // keeps answers together
	release() error // writes them
}

// newDispatcher returns a dispatcher on a transport, whose caller may do
// everything.
func newDispatcher(ctx context.Context, trans thrift.TTransport, maxMessage int, h *handler, methods map[string]method, st *stats) *dispatcher {
	pipe, _ := trans.(pipeline)
	d := &dispatcher{
		methods: methods,
		creates: h.createAll,
		pipe:    pipe,
		stats:   st,
		in: &thrift.TConfiguration{
			MaxMessageSize: int32(maxMessage), MaxFrameSize: int32(maxMessage), MaxContainerSize: maxContainer,
			TBinaryStrictRead: thrift.BoolPtr(true), TBinaryStrictWrite: thrift.BoolPtr(true),
		},
		out: &thrift.TConfiguration{
			MaxMessageSize: maxReply, MaxFrameSize: maxReply,
			TBinaryStrictRead: thrift.BoolPtr(true), TBinaryStrictWrite: thrift.BoolPtr(true),
		},
		enter:    func(string, access.Right) (context.Context, bool, error) { return ctx, false, nil },
		begun:    func() error { return nil },
		panicked: func(string, any, []byte) {},
	}
	d.trans = thrift.NewTHeaderTransportConf(trans, d.in)
	d.proto = thrift.NewTHeaderProtocolConf(d.trans, d.in)
	return d
}

// errBadMessage marks a message that cannot be read, and errRefused one of a
// caller from whom nothing is read; the client has been told.
var (
	errBadMessage = errors.New("bad message")
	errRefused    = errors.New("refused")
)

// incoming is a message that was read.
type incoming struct {
	name    string
	seq     int32
	method  method
	ctx     context.Context
	asked   asked
	refused error // the caller may not do that
	final   bool  // ... nor anything else: its arguments were not read
	bad     error // it is no call, or cannot be read
}

// next reads one message and answers it; and, if it creates a plan, others that create
// plans of other keys and have come already, in the order they came in. After an error
// the connection is of no more use; errBadMessage and errRefused say that an answer was
// written even so.
func (d *dispatcher) next(ctx context.Context) error {
	first, err := d.read(ctx)
	if err != nil {
		return err
	}
	if !first.joins() || d.pipe == nil || !d.pipe.follows() {
		return d.answer(ctx, first)
	}
	// One that stores a plan waits for the disk or for Redis: a client that does not wait
	// would do so after each.
	together := []*incoming{first}
	keys := map[string]bool{first.key(): true}
	var other *incoming
	for other == nil && err == nil && len(together) < maxTogether && d.pipe.follows() {
		var in *incoming
		switch in, err = d.read(ctx); {
		case err != nil:
		case !in.joins() || in.ctx != first.ctx || keys[in.key()]:
			other = in
		default:
			keys[in.key()] = true
			together = append(together, in)
		}
	}
	d.pipe.hold()
	failed := d.createTogether(ctx, together)
	if released := d.pipe.release(); failed == nil {
		failed = released
	}
	switch {
	case failed != nil:
		return failed
	case other != nil:
		return d.answer(ctx, other)
	}
	return err
}

// maxTogether bounds the plans that are created together.
const maxTogether = 100

// joins says whether a message may be answered together with others.
func (in *incoming) joins() bool { return in.asked.create != nil && in.refused == nil && in.bad == nil }

// key is of the plan that is to be created.
func (in *incoming) key() string { return in.asked.create.request.Key }

// read reads one message.
func (d *dispatcher) read(ctx context.Context) (*incoming, error) {
	d.trans.SetTConfiguration(d.in)
	name, kind, seq, err := d.proto.ReadMessageBegin(ctx)
	if err != nil {
		return nil, err
	}
	in := &incoming{name: name, seq: seq}
	if kind != thrift.CALL && kind != thrift.ONEWAY {
		in.bad = fmt.Errorf("message type %d is not a call", kind)
		return in, nil
	}
	m, known := d.methods[name]
	if !known {
		m = unknown(name)
	}
	in.method = m
	if in.ctx, in.final, in.refused = d.enter(name, m.need); in.final {
		return in, nil
	}
	if in.asked, in.bad = m.read(in.ctx, d.proto); in.bad == nil {
		in.bad = d.proto.ReadMessageEnd(ctx)
	}
	return in, nil
}

// answer answers a message that was read.
func (d *dispatcher) answer(ctx context.Context, in *incoming) error {
	if in.final {
		d.stats.failed.Add(1)
		kind, body := in.method.refusal(in.name, in.refused)
		if err := d.reply(ctx, in.name, kind, in.seq, body); err != nil {
			return err
		}
		return fmt.Errorf("%w: %w", errRefused, in.refused)
	}
	if in.bad != nil {
		return d.refuse(ctx, in.name, in.seq, in.bad)
	}
	if in.asked.create != nil && in.refused == nil {
		return d.createTogether(ctx, []*incoming{in})
	}
	if err := d.begun(); err != nil {
		return err
	}
	if in.refused != nil {
		d.stats.requested.Add(1)
		d.stats.failed.Add(1)
		kind, body := in.method.refusal(in.name, in.refused)
		return d.reply(ctx, in.name, kind, in.seq, body)
	}
	d.stats.requesting.Add(1)
	result, err := safely(d, in.name, in.asked.answer)
	d.stats.requesting.Add(-1)
	d.stats.requested.Add(1)
	if err != nil {
		return d.fail(ctx, in, err)
	}
	return d.reply(ctx, in.name, thrift.REPLY, in.seq, result)
}

// createTogether answers messages that create plans of different keys.
func (d *dispatcher) createTogether(ctx context.Context, ins []*incoming) error {
	if err := d.begun(); err != nil {
		return err
	}
	all := make([]*creation, len(ins))
	for i, in := range ins {
		all[i] = in.asked.create
	}
	n := int64(len(ins))
	d.stats.requesting.Add(n)
	results, err := safely(d, ins[0].name, func() ([]thrift.TStruct, error) { return d.creates(ins[0].ctx, all), nil })
	d.stats.requesting.Add(-n)
	if err != nil && n > 1 { // a panic for one of them
		for _, in := range ins {
			if err := d.createTogether(ctx, []*incoming{in}); err != nil {
				return err
			}
		}
		return nil
	}
	d.stats.requested.Add(n)
	if err != nil {
		return d.fail(ctx, ins[0], err)
	}
	for i, in := range ins {
		if err := d.reply(ctx, in.name, thrift.REPLY, in.seq, results[i]); err != nil {
			return err
		}
	}
	return nil
}

// fail answers a call with an exception.
func (d *dispatcher) fail(ctx context.Context, in *incoming, err error) error {
	d.stats.failed.Add(1)
	var app thrift.TApplicationException
	if !errors.As(err, &app) {
		app = thrift.NewTApplicationException(thrift.INTERNAL_ERROR, "Internal error processing "+in.name+": "+err.Error())
	}
	return d.reply(ctx, in.name, thrift.EXCEPTION, in.seq, app)
}

// unknown is the method behind a name the interface does not have: it skips the
// arguments.
func unknown(name string) method {
	read := func(ctx context.Context, in thrift.TProtocol) (asked, error) {
		if err := in.Skip(ctx, thrift.STRUCT); err != nil {
			return asked{}, err
		}
		return asked{answer: func() (thrift.TStruct, error) {
			return nil, thrift.NewTApplicationException(thrift.UNKNOWN_METHOD, "Unknown function "+name)
		}}, nil
	}
	return method{read: read, need: access.Open}
}

// refusal is the answer that says why a call is refused.
func (m method) refusal(name string, why error) (thrift.TMessageType, writer) {
	code, message, _ := wire.FromError(wire.Read, why)
	if m.throws {
		return thrift.REPLY, thrown{&forsun.ForsunPlanError{Code: int16(code), Message: message}}
	}
	return thrift.EXCEPTION, thrift.NewTApplicationException(thrift.INTERNAL_ERROR,
		fmt.Sprintf("Internal error processing %s: %d: %s", name, code, message))
}

// writer is the body of an answer.
type writer interface {
	Write(context.Context, thrift.TProtocol) error
}

// thrown is the result of any method that throws: in each it is the field err, 1.
type thrown struct{ err *forsun.ForsunPlanError }

func (t thrown) Write(ctx context.Context, out thrift.TProtocol) error {
	return errors.Join(
		out.WriteStructBegin(ctx, "result"),
		out.WriteFieldBegin(ctx, "err", thrift.STRUCT, 1),
		t.err.Write(ctx, out),
		out.WriteFieldEnd(ctx),
		out.WriteFieldStop(ctx),
		out.WriteStructEnd(ctx),
	)
}

// safely runs answer and turns a panic into an error.
func safely[R any](d *dispatcher, name string, answer func() (R, error)) (result R, err error) {
	defer func() {
		if v := recover(); v != nil {
			d.panicked(name, v, debug.Stack())
			err = errors.New("a defect in the server; its log has the cause")
		}
	}()
	return answer()
}

// refuse answers a message that cannot be read. Where the next one would begin
// is not known any more. A message that was cut off gets no answer.
func (d *dispatcher) refuse(ctx context.Context, name string, seq int32, err error) error {
	var broken thrift.TTransportException
	var timeout interface{ Timeout() bool }
	if !errors.Is(err, errMessageTooLarge) && (errors.As(err, &broken) || errors.As(err, &timeout) && timeout.Timeout()) {
		return err
	}
	d.stats.failed.Add(1)
	app := thrift.NewTApplicationException(thrift.PROTOCOL_ERROR, err.Error())
	if werr := d.reply(ctx, name, thrift.EXCEPTION, seq, app); werr != nil {
		return err
	}
	return fmt.Errorf("%w: %w", errBadMessage, err)
}

// reply writes an answer in the form the message came in.
func (d *dispatcher) reply(ctx context.Context, name string, kind thrift.TMessageType, seq int32, body writer) error {
	if err := d.proto.WriteMessageBegin(ctx, name, kind, seq); err != nil {
		return err
	}
	d.trans.SetTConfiguration(d.out) // only now: WriteMessageBegin sets the protocol's own
	if err := body.Write(ctx, d.proto); err != nil {
		return err
	}
	return d.proto.WriteMessageEnd(ctx) // flushes
}
