package rpc

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/apache/thrift/lib/go/thrift"

	"github.com/snower/forsun/rpc/gen/forsun"
	"github.com/snower/forsun/scheduler"
)

// TestForms speaks every form of Thrift the port takes, with answers larger
// than the bound on requests.
func TestForms(t *testing.T) {
	t.Parallel()
	_, addr := startThrift(t, func(o *Options) { o.MaxMessage = 64 << 10 })
	cfg := &thrift.TConfiguration{}
	zlib := &thrift.TConfiguration{THeaderTransforms: []thrift.THeaderTransformID{thrift.TransformZlib}}
	compact := &thrift.TConfiguration{THeaderProtocolID: thrift.THeaderProtocolIDPtrMust(thrift.THeaderProtocolCompact)}
	for _, form := range []struct {
		name string
		wrap func(thrift.TTransport) thrift.TProtocol
	}{
		{"unframed binary", func(t thrift.TTransport) thrift.TProtocol {
			return thrift.NewTBinaryProtocolConf(thrift.NewTBufferedTransport(t, 4096), cfg)
		}},
		{"framed binary", func(t thrift.TTransport) thrift.TProtocol {
			return thrift.NewTBinaryProtocolConf(thrift.NewTFramedTransportConf(t, cfg), cfg)
		}},
		{"unframed compact", func(t thrift.TTransport) thrift.TProtocol {
			return thrift.NewTCompactProtocolConf(thrift.NewTBufferedTransport(t, 4096), cfg)
		}},
		{"framed compact", func(t thrift.TTransport) thrift.TProtocol {
			return thrift.NewTCompactProtocolConf(thrift.NewTFramedTransportConf(t, cfg), cfg)
		}},
		{"theader binary", func(t thrift.TTransport) thrift.TProtocol { return thrift.NewTHeaderProtocolConf(t, cfg) }},
		{"theader compact", func(t thrift.TTransport) thrift.TProtocol { return thrift.NewTHeaderProtocolConf(t, compact) }},
		{"theader zlib", func(t thrift.TTransport) thrift.TProtocol { return thrift.NewTHeaderProtocolConf(t, zlib) }},
	} {
		t.Run(form.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			socket := thrift.NewTSocketFromConnConf(dial(t, addr), cfg)
			proto := form.wrap(socket)
			client := forsun.NewForsunClient(thrift.NewTStandardClient(proto, proto))
			prefix := form.name + "/"
			for i := range 5 {
				key := fmt.Sprint(prefix, i)
				p, err := client.CreateTimeout(ctx, key, 60, 1, -1, -1, -1, -1, 3, "noop", map[string]string{"body": strings.Repeat("x", 30<<10)})
				if err != nil {
					t.Fatal(err)
				}
				if got, want := p.NextTime, int32(goldenNow+120); got != want {
					t.Errorf("next_time: got %d, want %d", got, want)
				}
			}
			keys, err := client.GetKeys(ctx, prefix+"* ")
			if err != nil || len(keys) != 5 {
				t.Fatalf("getKeys: got %q, %v; want 5 keys", keys, err)
			}
			page, err := client.ListPlans(ctx, prefix, "", 1000)
			if err != nil || len(page.Plans) != 5 || page.Cursor != "" {
				t.Fatalf("listPlans: got %v, %v; want 5 plans and no cursor", page, err)
			}
			for _, key := range keys {
				if _, err := client.Remove(ctx, key); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := client.Get(ctx, keys[0]); err == nil || !strings.Contains(err.Error(), "计划未找到") {
				t.Errorf("get of what was removed: got %v, want 1003", err)
			}
			if err := client.ForsunCall(ctx, "k", 1, nil); err == nil {
				t.Error("forsun_call succeeded, want exception 6")
			}
			if n, err := client.Ping(ctx); n != 0 || err != nil {
				t.Errorf("ping after an exception: got %d, %v", n, err)
			}
		})
	}
}

// pythonClient drives the server with python3-thrift and code generated from
// forsun.thrift.
const pythonClient = `
import sys
sys.path.insert(0, sys.argv[1])
from thrift.transport import TSocket, TTransport
from thrift.protocol import TBinaryProtocol, TCompactProtocol
from forsun import Forsun
from forsun.ttypes import ForsunPlanError, ForsunPlanRequest
for name, wrap, proto in [
    ("unframed binary", TTransport.TBufferedTransport, TBinaryProtocol.TBinaryProtocol),
    ("unframed binary, accelerated", TTransport.TBufferedTransport, TBinaryProtocol.TBinaryProtocolAccelerated),
    ("framed binary", TTransport.TFramedTransport, TBinaryProtocol.TBinaryProtocol),
    ("framed compact", TTransport.TFramedTransport, TCompactProtocol.TCompactProtocol),
]:
    t = wrap(TSocket.TSocket("127.0.0.1", int(sys.argv[2])))
    t.open()
    c = Forsun.Client(proto(t))
    assert c.ping() == 0
    p = c.createTimeout(name, 3600, 0, 0, 0, 0, -1, 1, "noop", {"k": "\u952e"})
    assert p.next_time == int(sys.argv[3]) + 3600 and p.is_time_out and p.params == {"k": "\u952e"}, p
    p = c.create(name + " daily", 0, 30, 16, -1, -1, -1, "noop", {})
    assert p.next_time % 86400 == 16 * 3600 + 1800 and not p.is_time_out, p
    assert c.get(name).second == 3600
    assert sorted(c.getKeys(name + "*")) == [name, name + " daily"]
    assert [p.key for p in c.getTime(int(sys.argv[3]) + 3600)] == [name]
    assert c.getCurrent() == []
    r = c.createMany([ForsunPlanRequest(key=name + " wide", is_time_out=True, second=100000, count=70000, action="noop")])
    for i in range(50):
        c.send_createTimeout(name + " ahead %d" % (i % 40), 60, 0, 0, 0, 0, -1, 1, "noop", {})
    ahead = [c.recv_createTimeout().key for i in range(50)]
    assert ahead == [name + " ahead %d" % (i % 40) for i in range(50)], ahead
    assert len(c.getKeys(name + " ahead")) == 40
    assert r[0].code == 0 and r[0].plan.second == 100000, r
    p = c.get(name + " wide")
    assert (p.second, p.minute, p.hour, p.day, p.count) == (40, 46, 3, 1, 32767), p
    assert len(c.info()) >= 36
    assert c.remove(name).key == name
    try:
        c.remove(name)
        raise SystemExit("second remove succeeded")
    except ForsunPlanError as e:
        assert e.code == 1003 and e.message == "\u8ba1\u5212\u672a\u627e\u5230", e
    for key in c.getKeys(name):
        c.remove(key)
    t.close()
`

func TestPythonClient(t *testing.T) {
	t.Parallel()
	const python = "/usr/bin/python3"
	if out, err := exec.Command(python, "-c", "import thrift").CombinedOutput(); err != nil {
		t.Fatalf("python3-thrift is missing (make servers): %v\n%s", err, out)
	}
	gen := t.TempDir()
	if out, err := exec.Command("thrift", "--gen", "py", "-out", gen, "forsun.thrift").CombinedOutput(); err != nil {
		t.Fatalf("thrift --gen py (Debian: thrift-compiler): %v\n%s", err, out)
	}
	script := filepath.Join(t.TempDir(), "client.py")
	if err := os.WriteFile(script, []byte(pythonClient), 0o600); err != nil {
		t.Fatal(err)
	}
	_, addr := startThrift(t, nil)
	port := addr[strings.LastIndexByte(addr, ':')+1:]
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if out, err := exec.CommandContext(ctx, python, script, gen, port, fmt.Sprint(goldenNow)).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestListBound checks that lists in one answer end at the bound with an
// exception that names the paged method.
func TestListBound(t *testing.T) {
	t.Parallel()
	opts := DefaultOptions()
	opts.MaxList = 10
	svc := newService(t, newStore(t))
	addr := serve(t, NewServer(svc, opts))
	var requests []scheduler.Request
	for i := range 11 {
		requests = append(requests, scheduler.Request{
			Key: fmt.Sprintf("k%02d", i), Action: "noop",
			Schedule: scheduler.Schedule{Kind: scheduler.Timeout, Second: 60, Count: 1},
		})
	}
	if _, _, err := svc.CreateMany(t.Context(), requests); err != nil {
		t.Fatal(err)
	}
	proto := thrift.NewTBinaryProtocolConf(thrift.NewTBufferedTransport(thrift.NewTSocketFromConnConf(dial(t, addr), nil), 4096), nil)
	client := forsun.NewForsunClient(thrift.NewTStandardClient(proto, proto))

	_, err := client.GetKeys(t.Context(), "")
	if err == nil || !strings.Contains(err.Error(), "listPlans") {
		t.Errorf("getKeys of 11 keys: got %v, want an exception that names listPlans", err)
	}
	_, err = client.GetTime(t.Context(), goldenNow+60)
	if err == nil || !strings.Contains(err.Error(), "listTime") {
		t.Errorf("getTime of 11 plans: got %v, want an exception that names listTime", err)
	}
	if keys, err := client.GetKeys(t.Context(), "k0"); err != nil || len(keys) != 10 {
		t.Errorf("getKeys of 10 keys: got %d, %v", len(keys), err)
	}
	var seen []string
	for cursor := ""; ; {
		page, err := client.ListPlans(t.Context(), "k", cursor, 4)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range page.Plans {
			seen = append(seen, p.Key)
		}
		if cursor = page.Cursor; cursor == "" {
			break
		}
	}
	if got, want := strings.Join(seen, " "), "k00 k01 k02 k03 k04 k05 k06 k07 k08 k09 k10"; got != want {
		t.Errorf("pages: got %q, want %q", got, want)
	}
	if _, err := client.ListPlans(t.Context(), "", "", 10_001); err == nil || !strings.Contains(err.Error(), "1 to 10000") {
		t.Errorf("listPlans with limit 10001: got %v, want 1008", err)
	}
}
