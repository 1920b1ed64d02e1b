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
	// read reads the arguments of a call and returns what answers it.
	read   func(ctx context.Context, in thrift.TProtocol) (answer func() (thrift.TStruct, error), err error)
	throws bool // a ForsunPlanError; else failures are exceptions of the protocol
	need   access.Right
}

// bind makes a method of args, which returns arguments with the interface's
// defaults, and answer, which returns the result.
func bind[A thrift.TStruct](args func() A, answer func(context.Context, A) (thrift.TStruct, error)) method {
	read := func(ctx context.Context, in thrift.TProtocol) (func() (thrift.TStruct, error), error) {
		a := args()
		if err := a.Read(ctx, in); err != nil {
			return nil, err
		}
		return func() (thrift.TStruct, error) { return answer(ctx, a) }, nil
	}
	return method{read: read, throws: true}
}

// bindPlain is bind for a method that throws nothing.
func bindPlain[A thrift.TStruct](args func() A, answer func(context.Context, A) (thrift.TStruct, error)) method {
	m := bind(args, answer)
	m.throws = false
	return m
}

// dispatcher answers the messages of one connection, in order.
type dispatcher struct {
	methods map[string]method
	stats   *stats
	proto   *thrift.THeaderProtocol
	trans   *thrift.THeaderTransport
	in      *thrift.TConfiguration // bounds on what is read
	out     *thrift.TConfiguration // bounds on what is written

	enter    func(method string, need access.Right) (ctx context.Context, final bool, refused error) // who calls: see session.enter
	begun    func() error                                                                            // a message is complete and about to be answered
	panicked func(method string, v any, stack []byte)                                                // a method panicked
}

// newDispatcher returns a dispatcher on a transport, whose caller may do
// everything.
func newDispatcher(ctx context.Context, trans thrift.TTransport, maxMessage int, methods map[string]method, st *stats) *dispatcher {
	d := &dispatcher{
		methods: methods,
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

// next reads one message and answers it. After an error the connection is of no
// more use; errBadMessage and errRefused say that an answer was written even so.
func (d *dispatcher) next(ctx context.Context) error {
	d.trans.SetTConfiguration(d.in)
	name, kind, seq, err := d.proto.ReadMessageBegin(ctx)
	if err != nil {
		return err
	}
	if kind != thrift.CALL && kind != thrift.ONEWAY {
		return d.refuse(ctx, name, seq, fmt.Errorf("message type %d is not a call", kind))
	}
	m, known := d.methods[name]
	if !known {
		m = unknown(name)
	}
	ctx, final, refused := d.enter(name, m.need)
	if final {
		// Its arguments are not worth reading.
		d.stats.failed.Add(1)
		kind, body := m.refusal(name, refused)
		if err := d.reply(ctx, name, kind, seq, body); err != nil {
			return err
		}
		return fmt.Errorf("%w: %w", errRefused, refused)
	}
	answer, err := m.read(ctx, d.proto)
	if err == nil {
		err = d.proto.ReadMessageEnd(ctx)
	}
	if err != nil {
		return d.refuse(ctx, name, seq, err)
	}
	if err := d.begun(); err != nil {
		return err
	}
	if refused != nil {
		d.stats.requested.Add(1)
		d.stats.failed.Add(1)
		kind, body := m.refusal(name, refused)
		return d.reply(ctx, name, kind, seq, body)
	}

	d.stats.requesting.Add(1)
	result, err := d.safely(name, answer)
	d.stats.requesting.Add(-1)
	d.stats.requested.Add(1)
	if err != nil {
		d.stats.failed.Add(1)
		var app thrift.TApplicationException
		if !errors.As(err, &app) {
			app = thrift.NewTApplicationException(thrift.INTERNAL_ERROR, "Internal error processing "+name+": "+err.Error())
		}
		return d.reply(ctx, name, thrift.EXCEPTION, seq, app)
	}
	return d.reply(ctx, name, thrift.REPLY, seq, result)
}

// unknown is the method behind a name the interface does not have: it skips the
// arguments.
func unknown(name string) method {
	read := func(ctx context.Context, in thrift.TProtocol) (func() (thrift.TStruct, error), error) {
		if err := in.Skip(ctx, thrift.STRUCT); err != nil {
			return nil, err
		}
		return func() (thrift.TStruct, error) {
			return nil, thrift.NewTApplicationException(thrift.UNKNOWN_METHOD, "Unknown function "+name)
		}, nil
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
func (d *dispatcher) safely(name string, answer func() (thrift.TStruct, error)) (result thrift.TStruct, err error) {
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
