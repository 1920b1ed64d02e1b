package ledger

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/apache/thrift/lib/go/thrift"
)

// acceptThrift serves
//
//	void forsun_call(1:string key, 2:i32 ts, 3:map<string, string> params)
//
// unframed and in the strict binary protocol. It is spoken by hand, so that nothing is
// shared with who is watched.
func (s *Sink) acceptThrift() {
	for {
		conn, err := s.thrift.Accept()
		if err != nil {
			return // closed
		}
		s.mu.Lock()
		open := s.conns != nil
		if open {
			s.conns[conn] = struct{}{}
		}
		s.mu.Unlock()
		if !open {
			conn.Close()
			return
		}
		s.running.Go(func() {
			s.serveThrift(conn)
			conn.Close()
			s.mu.Lock()
			delete(s.conns, conn)
			s.mu.Unlock()
		})
	}
}

// serveThrift answers calls until the connection ends.
func (s *Sink) serveThrift(conn net.Conn) {
	ctx, config := context.Background(), &thrift.TConfiguration{MaxMessageSize: 1 << 20}
	p := thrift.NewTBinaryProtocolConf(thrift.NewTBufferedTransport(thrift.NewTSocketFromConnConf(conn, config), 4096), config)
	for {
		name, _, seq, err := p.ReadMessageBegin(ctx)
		if err != nil {
			return
		}
		r, err := readCall(ctx, p)
		if err != nil || p.ReadMessageEnd(ctx) != nil {
			return
		}
		var failed thrift.TApplicationException
		at := 0
		if name != "forsun_call" {
			failed = thrift.NewTApplicationException(thrift.UNKNOWN_METHOD, fmt.Sprintf("no function %s", name))
		} else if at, err = s.record(r); err != nil {
			failed = thrift.NewTApplicationException(thrift.INTERNAL_ERROR, err.Error())
		} else {
			s.done(at)
		}
		if answer(ctx, p, name, seq, failed) != nil {
			return
		}
	}
}

// readCall reads the arguments of forsun_call.
func readCall(ctx context.Context, p thrift.TProtocol) (*Receipt, error) {
	r := &Receipt{At: time.Now()}
	if _, err := p.ReadStructBegin(ctx); err != nil {
		return nil, err
	}
	for {
		_, kind, id, err := p.ReadFieldBegin(ctx)
		if err != nil || kind == thrift.STOP {
			return r, err
		}
		switch {
		case id == 1 && kind == thrift.STRING:
			r.Key, err = p.ReadString(ctx)
		case id == 2 && kind == thrift.I32:
			var ts int32
			ts, err = p.ReadI32(ctx)
			r.Due = int64(ts)
		default:
			err = p.Skip(ctx, kind)
		}
		if err != nil {
			return nil, err
		}
	}
}

// answer sends the empty result of a call, or why it failed.
func answer(ctx context.Context, p thrift.TProtocol, name string, seq int32, failed thrift.TApplicationException) error {
	kind := thrift.REPLY
	if failed != nil {
		kind = thrift.EXCEPTION
	}
	if err := p.WriteMessageBegin(ctx, name, kind, seq); err != nil {
		return err
	}
	if failed != nil {
		if err := failed.Write(ctx, p); err != nil {
			return err
		}
	} else if err := p.WriteFieldStop(ctx); err != nil {
		return err
	}
	if err := p.WriteMessageEnd(ctx); err != nil {
		return err
	}
	return p.Flush(ctx)
}
