package rpc

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/thrift/lib/go/thrift"

	"github.com/snower/forsun/actions"
	"github.com/snower/forsun/scheduler"
)

// creating is a call that creates a plan.
func creating(seq uint32, key, action, body string) []byte {
	params := bytes.Join([][]byte{{13, 0, 10, 11, 11, 0, 0, 0, 1}, str(0, "body")[3:], str(0, body)[3:]}, nil)
	return call("createTimeout", seq, str(1, key), i16(2, 30), str(9, action), params)
}

// someCalls are calls of a client that does not wait, most of which create plans, some of
// keys that others are about.
func someCalls(r *rand.Rand, n int) (calls [][]byte) {
	for seq := range uint32(n) {
		key := fmt.Sprintf("key %d", r.IntN(n/3+1))
		body := strings.Repeat("x", r.IntN(200))
		switch r.IntN(12) {
		case 0:
			calls = append(calls, call("get", seq, str(1, key)))
		case 1:
			calls = append(calls, call("remove", seq, str(1, key)))
		case 2:
			calls = append(calls, call("ping", seq))
		case 3:
			calls = append(calls, call("create", seq, str(1, key), i16(2, int16(r.IntN(80))))) // 60 and more are refused
		case 4:
			calls = append(calls, creating(seq, key, "nosuch", body))
		case 5:
			calls = append(calls, call("nosuch", seq, str(1, key)))
		case 6:
			calls = append(calls, creating(seq, key, "noop", strings.Repeat("y", r.IntN(3*maxAhead))))
		case 7:
			calls = append(calls, creating(seq, "", "noop", body))
		default:
			calls = append(calls, creating(seq, key, "noop", body))
		}
	}
	return calls
}

// TestPipelined: calls that come before others are answered get the answers, in the order,
// that they get one by one, however the network cuts them.
func TestPipelined(t *testing.T) {
	t.Parallel()
	for _, form := range []struct {
		name string
		wrap func([]byte) []byte
	}{{"unframed", bytes.Clone}, {"framed", framed}} {
		for round := range uint64(6) {
			t.Run(fmt.Sprint(form.name, round), func(t *testing.T) {
				t.Parallel()
				r := rand.New(rand.NewPCG(round, 1))
				calls := someCalls(r, 120)
				if round%2 == 0 { // then their ends are known all the way
					for i := range calls {
						if len(calls[i]) > maxAhead {
							calls[i] = call("ping", uint32(i))
						}
					}
				}
				var all, want []byte
				_, addr := startThrift(t, nil)
				one := dial(t, addr)
				for i, c := range calls {
					all = append(all, form.wrap(c)...)
					want = append(want, oneAnswer(t, one, form.wrap(c), form.name == "framed", uint32(i))...)
				}
				_, addr = startThrift(t, nil)
				many := dial(t, addr)
				go func() {
					for most := 1 + r.IntN(40_000); len(all) > 0; {
						n, err := many.Write(all[:min(len(all), 1+r.IntN(most))])
						if err != nil {
							return // the test tells
						}
						if all = all[n:]; r.IntN(8) == 0 {
							time.Sleep(time.Millisecond)
						}
					}
				}()
				got := make([]byte, len(want))
				if n, err := io.ReadFull(many, got); err != nil {
					t.Fatalf("after %d of %d bytes: %v", n, len(got), err)
				}
				if !bytes.Equal(got, want) {
					i := 0
					for got[i] == want[i] {
						i++
					}
					t.Errorf("from byte %d on\n got %s\nwant %s", i, hex.EncodeToString(got[i:min(len(got), i+200)]), hex.EncodeToString(want[i:min(len(want), i+200)]))
				}
			})
		}
	}
}

// oneAnswer calls and reads the answer, whose sequence number must be as given.
func oneAnswer(t *testing.T, c net.Conn, request []byte, inFrame bool, seq uint32) []byte {
	t.Helper()
	if _, err := c.Write(request); err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	tee := thrift.NewStreamTransportR(io.TeeReader(c, &got))
	var in thrift.TProtocol = thrift.NewTBinaryProtocolConf(tee, nil)
	if inFrame {
		in = thrift.NewTBinaryProtocolConf(thrift.NewTFramedTransportConf(tee, nil), nil)
	}
	_, _, id, err := in.ReadMessageBegin(t.Context())
	if err == nil {
		err = in.Skip(t.Context(), thrift.STRUCT)
	}
	if err != nil || uint32(id) != seq {
		t.Fatalf("answer to call %d: number %d, %v", seq, id, err)
	}
	return got.Bytes()
}

// counting counts how often plans are stored.
type counting struct {
	scheduler.Store
	puts atomic.Int64
}

func (s *counting) Put(ctx context.Context, plans []*scheduler.Plan) []error {
	s.puts.Add(1)
	return s.Store.Put(ctx, plans)
}

// TestCreatedTogether: plans that a client creates without waiting are stored together, and
// those of one key one after the other.
func TestCreatedTogether(t *testing.T) {
	t.Parallel()
	store := &counting{Store: newStore(t)}
	c := dial(t, serve(t, NewServer(newService(t, store), DefaultOptions())))
	const n = 200
	for _, key := range []string{"key %d", "the same key"} {
		store.puts.Store(0)
		var calls []byte
		for seq := range uint32(n) {
			name := key
			if strings.Contains(key, "%d") {
				name = fmt.Sprintf(key, seq)
			}
			calls = append(calls, creating(seq, name, "noop", "body")...)
		}
		go c.Write(calls)
		in := thrift.NewTBinaryProtocolConf(thrift.NewTBufferedTransport(thrift.NewTSocketFromConnConf(c, nil), 4096), nil)
		for seq := range int32(n) {
			if kind := answeredNext(t, in, seq); kind != thrift.REPLY {
				t.Fatalf("answer %d: type %d", seq, kind)
			}
		}
		// How they come is for the network to say: mostly as soon as there is room.
		if puts := store.puts.Load(); key == "key %d" && puts > n/4 || key != "key %d" && puts != n {
			t.Errorf("%d plans with keys %q were stored in %d times", n, key, puts)
		}
	}
}

// TestHalfAfterWhole: a message that has begun when the one before is answered must
// arrive in time, too.
func TestHalfAfterWhole(t *testing.T) {
	t.Parallel()
	_, addr := startThrift(t, func(o *Options) { o.MessageTimeout = 150 * time.Millisecond })
	c := dial(t, addr)
	ping, want := unhex(t, goldenPing), unhex(t, goldenPong)
	if got := ask(t, c, append(bytes.Clone(ping), ping[:6]...), len(want)); !bytes.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
	start := time.Now()
	closed(t, c)
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("half a message was waited for for %s", took)
	}
}

// panicky is an action that cannot check some plans.
type panicky struct{ actions.Noop }

func (panicky) Check(params map[string]string) error {
	if params["body"] == "boom" {
		panic("a defect")
	}
	return nil
}

// TestPanicAmongCreates: a call that ends in a panic takes no other with it.
func TestPanicAmongCreates(t *testing.T) {
	t.Parallel()
	svc := scheduler.NewService(newStore(t), actionSet{"noop": panicky{}}, fixedClock(goldenNow), new(scheduler.Counters), scheduler.DefaultServiceOptions())
	c := dial(t, serve(t, NewServer(svc, DefaultOptions())))
	var calls []byte
	for seq, body := range []string{"a", "b", "boom", "c", "d"} {
		calls = append(calls, creating(uint32(seq), fmt.Sprint("key", seq), "noop", body)...)
	}
	if _, err := c.Write(calls); err != nil {
		t.Fatal(err)
	}
	in := thrift.NewTBinaryProtocolConf(thrift.NewTBufferedTransport(thrift.NewTSocketFromConnConf(c, nil), 4096), nil)
	for seq := range int32(5) {
		if kind := answeredNext(t, in, seq); (kind == thrift.REPLY) == (seq == 2) {
			t.Errorf("answer %d: type %d", seq, kind)
		}
	}
	plans, _, err := svc.List(t.Context(), scheduler.ListQuery{Limit: 10})
	if err != nil || len(plans) != 4 {
		t.Errorf("%d plans are stored, %v; want 4", len(plans), err)
	}
}

// TestSmallBound: a message of more than the bound is told so, when the bound is less than what is
// looked ahead, too, and what came before it is answered.
func TestSmallBound(t *testing.T) {
	t.Parallel()
	for _, most := range []int{1 << 10, 4 << 10, 12 << 10} {
		_, addr := startThrift(t, func(o *Options) { o.MaxMessage = most })
		c := dial(t, addr)
		go c.Write(append(creating(1, "k", "noop", "b"), creating(2, "large", "noop", strings.Repeat("x", most+500))...))
		got, err := io.ReadAll(c)
		if err != nil || !strings.Contains(string(got), "size exceeded") || bytes.Count(got, []byte("createTimeout")) < 2 {
			t.Errorf("MaxMessage %d: got %q, %v", most, got, err)
		}
	}
}

// TestFullFrames: two messages in one frame are answered like two, and who says that more
// is to come has what came before it answered at once.
func TestFullFrames(t *testing.T) {
	t.Parallel()
	_, addr := startThrift(t, nil)
	c := dial(t, addr)
	two := framed(append(creating(1, "a", "noop", "b"), creating(2, "b", "noop", "b")...))
	if _, err := c.Write(append(two, framed(creating(3, "c", "noop", "b"))...)); err != nil {
		t.Fatal(err)
	}
	in := thrift.NewTBinaryProtocolConf(thrift.NewTFramedTransportConf(thrift.NewTSocketFromConnConf(c, nil), nil), nil)
	for seq := range int32(3) {
		answeredNext(t, in, seq+1)
	}
	head := creating(5, strings.Repeat("k", 1000), "noop", "b")[:40]
	begun := time.Now()
	if _, err := c.Write(append(framed(append(creating(4, "d", "noop", "b"), head...)), framed(creating(6, "e", "noop", "b"))...)); err != nil {
		t.Fatal(err)
	}
	answeredNext(t, in, 4)
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("an answer came after %s", took)
	}
}

// answeredNext reads an answer, whose number must be as given, and returns its type.
func answeredNext(t *testing.T, in thrift.TProtocol, seq int32) thrift.TMessageType {
	t.Helper()
	_, kind, got, err := in.ReadMessageBegin(t.Context())
	if err == nil {
		err = in.Skip(t.Context(), thrift.STRUCT)
	}
	if err != nil || got != seq {
		t.Fatalf("answer %d: number %d, type %d, %v", seq, got, kind, err)
	}
	return kind
}

// FuzzMessageEnd compares where messages end with where the library finds them to end.
func FuzzMessageEnd(f *testing.F) {
	for _, seed := range [][]byte{unhex(f, goldenPing), unhex(f, goldenCreate), creating(1, "k", "noop", "b")} {
		f.Add(seed)
		f.Add(append(bytes.Clone(seed), seed...))
		f.Add(framed(seed))
		f.Add(seed[:len(seed)-1])
	}
	f.Add(call("createMany", 1, []byte{15, 0, 1, 12, 0, 0, 0, 2, 0, 8, 0, 1, 0, 0, 0, 9, 0}))
	f.Fuzz(func(t *testing.T, b []byte) {
		end, form := messageEnd(b)
		if form == formFramed || form == formOther && end > 0 {
			if want := 4 + int(uint32(b[0])<<24|uint32(b[1])<<16|uint32(b[2])<<8|uint32(b[3])); end != want {
				t.Fatalf("the frame ends at %d, not %d", want, end)
			}
			return
		}
		if form != formUnframed {
			return
		}
		conf := &thrift.TConfiguration{MaxMessageSize: 1 << 20, MaxContainerSize: maxContainer, TBinaryStrictRead: thrift.BoolPtr(true)}
		rest := &memory{Reader: bytes.NewReader(b)}
		in := thrift.NewTBinaryProtocolConf(rest, conf)
		_, _, _, err := in.ReadMessageBegin(t.Context())
		if err == nil {
			err = in.Skip(t.Context(), thrift.STRUCT)
		}
		switch used := len(b) - rest.Reader.(*bytes.Reader).Len(); {
		case end > len(b) || end < 0:
			t.Fatalf("it ends at %d of %d", end, len(b))
		case end > 0 && err == nil && used != end:
			t.Fatalf("the library reads %d bytes, not %d", used, end)
		case end == 0 && err == nil:
			t.Fatalf("the library reads %d bytes, and here it goes on", used)
		}
	})
}

// stream is a connection of a client that has sent all it will.
type stream struct {
	net.Conn
	*memory
}

func (s stream) Read(p []byte) (int, error)     { return s.memory.Read(p) }
func (s stream) Write(p []byte) (int, error)    { return s.memory.Write(p) }
func (stream) Close() error                     { return nil }
func (stream) SetReadDeadline(time.Time) error  { return nil }
func (stream) SetWriteDeadline(time.Time) error { return nil }

// FuzzPipelined gives what a client might send to a dispatcher that looks ahead and to one
// that does not. Both must answer alike.
func FuzzPipelined(f *testing.F) {
	for round := range uint64(8) {
		var all []byte
		for _, c := range someCalls(rand.New(rand.NewPCG(round, 2)), 12) {
			if round%2 == 1 {
				c = framed(c)
			}
			all = append(all, c...)
		}
		f.Add(all)
	}
	opts := DefaultOptions()
	opts.MaxMessage = 64 << 10
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, tells := range []string{"info", "shards", "replicas", "serverTime", "auth"} { // of time, or of a session
			if bytes.Contains(b, []byte(tells)) {
				return
			}
		}
		var answers [2]string
		for i := range answers {
			svc := newService(t, newStore(t))
			opts.Info = NewInfo(svc, About{})
			h := newHandler(svc, opts)
			m := &memory{Reader: bytes.NewReader(b)}
			d := newDispatcher(t.Context(), m, opts.MaxMessage, h, h.methods(), &stats{})
			if i == 1 {
				c := &conn{Conn: stream{memory: m}, ctx: t.Context(), opts: &opts, large: holder{slots: make(slots, 1)}, clock: func() int64 { return 0 }}
				d = newDispatcher(t.Context(), c, opts.MaxMessage, h, h.methods(), &stats{})
				for d.next(t.Context()) == nil && c.messageDone() == nil {
				}
			} else {
				for d.next(t.Context()) == nil {
				}
			}
			answers[i] = m.String()
		}
		var same [2][]byte // but for the order of parameters
		for i, answer := range answers {
			same[i] = []byte(answer)
			slices.Sort(same[i])
		}
		if !bytes.Equal(same[0], same[1]) {
			t.Errorf("got %q ahead, %q one by one", answers[1], answers[0])
		}
	})
}
