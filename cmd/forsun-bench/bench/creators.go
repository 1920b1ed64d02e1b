package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/apache/thrift/lib/go/thrift"

	"github.com/snower/forsun/rpc/client"
	"github.com/snower/forsun/rpc/gen/forsun"
	"github.com/snower/forsun/scheduler"
)

// creator makes plans; one is used by one goroutine.
type creator interface {
	create(ctx context.Context, requests []scheduler.Request) error
	close() error
}

// maker makes n plans, from the one of the number from on; one is used by one goroutine.
type maker interface {
	make(ctx context.Context, from, n int) error
	close() error
}

// asker makes a request of each plan for a creator.
type asker struct {
	creator
	requests func(from, n int) []scheduler.Request
}

func (a asker) make(ctx context.Context, from, n int) error {
	return a.create(ctx, a.requests(from, n))
}

// direct calls the service in this process.
type direct struct{ service *scheduler.Service }

func (d direct) create(ctx context.Context, requests []scheduler.Request) error {
	_, errs, err := d.service.CreateMany(ctx, requests)
	return errors.Join(append(errs, err)...)
}
func (d direct) close() error { return nil }

// remote is a connection to a Thrift server.
type remote struct{ c *client.Client }

func (r remote) create(ctx context.Context, requests []scheduler.Request) error {
	results, err := r.c.CreateMany(ctx, requests)
	for _, res := range results {
		err = errors.Join(err, res.Err)
	}
	return err
}
func (r remote) close() error { return r.c.Close() }

// legacy is a connection as the clients that exist make it: unframed, strict binary,
// one createTimeout a plan.
type legacy struct {
	transport thrift.TTransport
	client    *forsun.ForsunClient
}

func dialLegacy(ctx context.Context, address, token string, buffer int) (*legacy, error) {
	conf := &thrift.TConfiguration{ConnectTimeout: 5 * time.Second, SocketTimeout: 30 * time.Second}
	transport := thrift.NewTBufferedTransport(thrift.NewTSocketConf(address, conf), buffer)
	if err := transport.Open(); err != nil {
		return nil, err
	}
	l := &legacy{transport, forsun.NewForsunClientFactory(transport, thrift.NewTBinaryProtocolFactoryConf(conf))}
	if token != "" {
		if _, err := l.client.Auth(ctx, token); err != nil {
			return nil, errors.Join(err, l.close())
		}
	}
	return l, nil
}

func (l *legacy) create(ctx context.Context, requests []scheduler.Request) error {
	for _, r := range requests {
		const open = scheduler.Any
		if _, err := l.client.CreateTimeout(ctx, r.Key, int16(r.Schedule.Second), open, open, open, open, open, 1, r.Action, r.Params); err != nil {
			return err
		}
	}
	return nil
}

func (l *legacy) close() error { return l.transport.Close() }

// pipelined is a connection as a client has it that does not wait for the answer to a
// call before the next: the same calls, written together.
type pipelined struct {
	*legacy
	proto thrift.TProtocol
	seq   int32
}

func dialPipelined(ctx context.Context, address, token string) (*pipelined, error) {
	l, err := dialLegacy(ctx, address, token, 64<<10)
	if err != nil {
		return nil, err
	}
	return &pipelined{legacy: l, proto: thrift.NewTBinaryProtocolConf(l.transport, nil)}, nil
}

const createTimeout = "createTimeout"

func (p *pipelined) create(ctx context.Context, requests []scheduler.Request) error {
	args := forsun.NewForsunCreateTimeoutArgs()
	for i, r := range requests {
		args.Key, args.Second, args.Action, args.Params = r.Key, int16(r.Schedule.Second), r.Action, r.Params
		if err := errors.Join(
			p.proto.WriteMessageBegin(ctx, createTimeout, thrift.CALL, p.seq+int32(i)),
			args.Write(ctx, p.proto),
			p.proto.WriteMessageEnd(ctx),
		); err != nil {
			return err
		}
	}
	if err := p.proto.Flush(ctx); err != nil {
		return err
	}
	for range requests {
		if err := p.answer(ctx); err != nil {
			return err
		}
		p.seq++
	}
	return nil
}

// answer reads the next answer: that a plan was stored, which plan it does not look at.
func (p *pipelined) answer(ctx context.Context) error {
	name, kind, seq, err := p.proto.ReadMessageBegin(ctx)
	switch {
	case err != nil:
		return err
	case name != createTimeout || kind != thrift.REPLY || seq != p.seq:
		return fmt.Errorf("answer %d to %s, type %d: want %d to %s", seq, name, kind, p.seq, createTimeout)
	}
	_, _, field, err := p.proto.ReadFieldBegin(ctx)
	switch {
	case err != nil:
		return err
	case field != 0:
		why := forsun.NewForsunPlanError()
		return errors.Join(why, why.Read(ctx, p.proto))
	}
	return errors.Join(p.proto.Skip(ctx, thrift.STRUCT), p.proto.Skip(ctx, thrift.STRUCT), p.proto.ReadMessageEnd(ctx))
}
