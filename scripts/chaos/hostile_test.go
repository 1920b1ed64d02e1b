package chaos

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/snower/forsun/scripts/chaos/ledger"
)

// thriftCall is a call in the strict binary protocol.
func thriftCall(method string, args ...byte) []byte {
	b := []byte{0x80, 1, 0, 1}
	b = binary.BigEndian.AppendUint32(b, uint32(len(method)))
	b = append(append(b, method...), 0, 0, 0, 1)
	return append(append(b, args...), 0)
}

// thriftString is a field that is a string.
func thriftString(id byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{11, 0, id}, uint32(len(s))), s...)
}

func thriftFrame(b []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)
}

// bombs are Thrift messages that say they are, or are, more than anybody should send.
func bombs() [][]byte {
	const twelveMillion = "\x00\xb7\x1b\x00"
	return [][]byte{
		thriftCall("create", []byte("\x0d\x00\x09\x0b\x0b"+twelveMillion)...),
		thriftFrame(thriftCall("create", []byte("\x0d\x00\x09\x0b\x0b"+twelveMillion)...)),
		thriftCall("createMany", []byte("\x0f\x00\x01\x0c"+twelveMillion)...),
		thriftCall("nosuch", []byte("\x0f\x00\x01\x0c"+twelveMillion)...),
		thriftCall("get", 11, 0, 1, 0x7f, 0xff, 0xff, 0xff),
		thriftCall("get", 11, 0, 1, 0xff, 0xff, 0xff, 0xff),
		thriftCall("get", thriftString(1, strings.Repeat("k", 2<<20))...),
		thriftCall("createMany", append([]byte{15, 0, 7, 11, 0, 0, 0, 200}, bytes.Repeat(append([]byte{0, 0, 40, 0}, make([]byte, 10240)...), 200)...)...),
		thriftCall("ping", bytes.Repeat([]byte{12, 0, 1}, 100_000)...), // structs in structs
		{0x3f, 0xff, 0xff, 0xff, 0x80, 1, 0, 1},                        // a frame of 1 GiB
		append([]byte{0x80, 1, 0, 1, 0x7f, 0xff, 0xff, 0xff}, bytes.Repeat([]byte("x"), 1<<20)...),
		{0, 0, 0, 4, 'p', 'i', 'n', 'g', 1, 0, 0, 0, 0, 0},
		[]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
	}
}

// badKeys are keys that no plan may have.
func badKeys() []string {
	return []string{strings.Repeat("k", 1_000_000), "a\nb", "a\x00b", "\x1b[2J", "\x7f", "\xff\xfe", strings.Repeat("é", 300), ""}
}

// TestC16Hostile: for some time a replica is sent Thrift bombs and random bytes, 1 MB keys and
// keys with control characters, over both interfaces, and has 2,000 connections on which
// a message comes byte by byte. Others are served meanwhile, what is due fires, and it takes
// no more memory than it may.
func TestC16Hostile(t *testing.T) {
	t.Parallel()
	const slow = 2_000
	s := scenario(t, "C16")
	f := newFleet(s, "--action-idle=1s")
	a := f.start("a")
	f.spread(1)
	before := f.usage(a)
	span := 25 * time.Second
	l := newLoad(f, 3_000, span)
	ctx, stop := context.WithDeadline(t.Context(), l.end)
	defer stop()
	var hostile sync.WaitGroup
	defer hostile.Wait()
	h := &attack{t: t, replica: a}
	again := func(do func(rng *rand.Rand)) {
		rng := rand.New(rand.NewPCG(s.rand.Uint64(), 0))
		hostile.Go(func() {
			for ctx.Err() == nil {
				do(rng)
			}
		})
	}
	all := bombs()
	for range 4 {
		again(func(rng *rand.Rand) { h.send(ctx, a.thrift, all[rng.IntN(len(all))]) })
	}
	again(func(rng *rand.Rand) { // a message of which some bytes are others
		b := slices.Clone(thriftCall("create", append(thriftString(1, "random"), 8, 0, 2, 0, 0, 0, 5)...))
		for range 1 + rng.IntN(8) {
			b[rng.IntN(len(b))] = byte(rng.Uint32())
		}
		h.send(ctx, a.thrift, b)
	})
	keys := badKeys()
	again(func(rng *rand.Rand) { h.badKey(ctx, keys[rng.IntN(len(keys))]) })
	var open atomic.Int64
	for i := range slow {
		hostile.Go(func() { h.drip(ctx, i, &open) })
	}
	eventually(t, "2,000 slow connections", 20*time.Second, func() bool { return h.opened.Load() >= slow })
	f.event("%d slow connections were opened, %d are open", h.opened.Load(), open.Load())

	var took []time.Duration
	most := int64(0)
	for ctx.Err() == nil {
		at := time.Now()
		h.serves(ctx)
		if ctx.Err() == nil {
			took = append(took, time.Since(at))
		}
		most = max(most, f.usage(a).memory)
		time.Sleep(20 * time.Millisecond)
	}
	hostile.Wait()
	slices.Sort(took)
	f.event("%d bombs, %d bad keys, %d slow connections; at most %d MiB resident, %d before", h.bombs.Load(), h.keys.Load(), h.opened.Load(), most>>20, before.memory>>20)
	if most > mostMemory {
		t.Errorf("%d MiB resident, want at most %d", most>>20, mostMemory>>20)
	}
	if h.bombs.Load() < 100 || h.keys.Load() < 20 || len(took) < 20 {
		t.Errorf("%d bombs, %d bad keys, %d times served: this has shown nothing", h.bombs.Load(), h.keys.Load(), len(took))
	}
	v := f.judge(ledger.Rules{Until: l.wait(), MaxLate: anyLate}, 30*time.Second)
	t.Logf("others were served %d times, p99 %s; %s", len(took), p99(took), v)
	f.returned(a, before)
	if log, err := os.ReadFile(a.log); err != nil || bytes.Contains(log, []byte("panic")) {
		t.Errorf("its log tells of a panic: %v\n%s", err, f.warnings(a, 3))
	}
	f.doctor()
}

// attack is who means no good to a replica.
type attack struct {
	t       *testing.T
	replica *replica
	bombs   atomic.Int64
	keys    atomic.Int64
	opened  atomic.Int64
}

// dial connects; nil: the replica would not have it.
func (h *attack) dial(ctx context.Context, addr string) net.Conn {
	c, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil
	}
	return c
}

// send sends bytes and waits for what comes.
func (h *attack) send(ctx context.Context, addr string, b []byte) {
	c := h.dial(ctx, addr)
	if c == nil {
		return
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(2 * time.Second))
	c.Write(b) // the server may stop reading
	io.CopyN(io.Discard, c, 1<<20)
	h.bombs.Add(1)
}

// drip sends a message one byte at a time, on one connection after the other.
func (h *attack) drip(ctx context.Context, i int, open *atomic.Int64) {
	addr, message := h.replica.thrift, thriftCall("get", thriftString(1, strings.Repeat("k", 500))...)
	if i%2 == 1 {
		addr, message = h.replica.http, []byte("PUT /v1/plan HTTP/1.1\r\nHost: x\r\nX-Slow: "+strings.Repeat("x", 1000))
	}
	for ctx.Err() == nil {
		c := h.dial(ctx, addr)
		if c == nil {
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
			continue
		}
		h.opened.Add(1)
		open.Add(1)
		for k := 0; k < len(message) && ctx.Err() == nil; k++ {
			if _, err := c.Write(message[k : k+1]); err != nil {
				break
			}
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		}
		c.Close()
		open.Add(-1)
	}
}

// badKey asks for a plan of a key that may not be, and wants a code, not a plan.
func (h *attack) badKey(ctx context.Context, key string) {
	text, err := json.Marshal(map[string]any{"method": "createTimeout", "key": key, "seconds": 1, "count": 1, "action": "http", "params": map[string]string{"url": "http://127.0.0.1:1/"}})
	if err != nil {
		h.t.Error(err)
		return
	}
	if strings.Contains(key, "\xff") { // as it is, not as JSON writes it
		text = bytes.Replace(text, []byte(`\ufffd\ufffd`), []byte(key), 1)
	}
	h.want(ctx, http.MethodPut, "/v1/plan", string(text), func(code int) bool { return code != 0 })
	if len(key) < 10_000 {
		h.want(ctx, http.MethodGet, "/v1/plan?key="+url.QueryEscape(key), "", func(code int) bool { return code != 0 })
	}
	// With so many connections that end, a kernel may take a new one for the rest of an old one
	// of the same ports, and not answer: that shows nothing of forsun.
	c := h.dial(ctx, h.replica.thrift)
	if c == nil {
		return
	}
	if err := refusedKey(c, key); err != nil && ctx.Err() == nil {
		h.t.Error(err)
	}
	h.keys.Add(1)
}

// refusedKey asks for a plan over Thrift, and wants the answer that there is none.
func refusedKey(c net.Conn, key string) error {
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	go c.Write(thriftCall("get", thriftString(1, key)...)) // ends with the connection
	b := make([]byte, 4096)
	n, err := c.Read(b)
	// A reply, and in it field 1, the exception that is declared.
	if want := thriftCall("get")[:4+4+3+4]; err != nil || n < len(want)+3 || b[3] != 2 || !bytes.Equal(b[4:len(want)], want[4:]) || b[len(want)] != 12 || b[len(want)+2] != 1 {
		return fmt.Errorf("get of a bad key of %d bytes: %q, %v", len(key), b[:min(n, 100)], err)
	}
	return nil
}

// want asks over HTTP and checks the code of the answer.
func (h *attack) want(ctx context.Context, method, path, body string, fits func(code int) bool) {
	ask, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ask, method, "http://"+h.replica.http+path, strings.NewReader(body))
	if err != nil {
		h.t.Error(err)
		return
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		if ctx.Err() == nil {
			h.t.Errorf("%s %.100s: %v", method, path, err)
		}
		return
	}
	defer response.Body.Close()
	answer := struct {
		Code int `json:"errcode"`
	}{Code: -1}
	b, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode == http.StatusOK {
		err = json.Unmarshal(b, &answer)
	}
	if ctx.Err() == nil && (err != nil || !fits(answer.Code) || len(b) > 4096) {
		h.t.Errorf("%s %.100s: %s, code %d, %v, %d bytes: %.200q", method, path, response.Status, answer.Code, err, len(b), b)
	}
}

// serves checks that a client that means well is served: a plan is stored, read and removed, and
// a ping answered on a new connection.
func (h *attack) serves(ctx context.Context) {
	done := func(code int) bool { return code == 0 }
	h.want(ctx, http.MethodPut, "/v1/plan", `{"method":"createTimeout","key":"well-meant","seconds":3600,"count":1,"action":"http","params":{"url":"http://127.0.0.1:1/"}}`, done)
	h.want(ctx, http.MethodGet, "/v1/plan?key=well-meant", "", done)
	h.want(ctx, http.MethodDelete, "/v1/plan?key=well-meant", "", done)
	_, port, _ := net.SplitHostPort(h.replica.thrift)
	var n int
	fmt.Sscan(port, &n)
	if err := pings(n); err != nil && ctx.Err() == nil {
		h.t.Errorf("ping: %v", err)
	}
}
