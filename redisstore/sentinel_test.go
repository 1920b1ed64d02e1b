package redisstore

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/snower/forsun/redisstore/redistest"
	"github.com/snower/forsun/scheduler"
)

func TestTheGreatestEpochCounts(t *testing.T) {
	t.Parallel()
	says := func(master string, epoch int64) view {
		return view{sentinel: fmt.Sprintf("s%d:1", epoch), master: master, epoch: epoch}
	}
	for _, test := range []struct {
		name  string
		views []view
		want  string // parts of the error; "": none
	}{
		{"no sentinel answers", nil, ""},
		{"all name it", []view{says("a:1", 0), says("a:1", 0)}, ""},
		{"an older one names another", []view{says("b:1", 4), says("a:1", 5)}, ""},
		{"one of the same epoch names another", []view{says("b:1", 5), says("a:1", 5)}, ""},
		{"a newer one names another", []view{says("a:1", 4), says("b:1", 5), says("c:1", 3)}, "a:1 epoch 4 s4:1 b:1 epoch 5 s5:1"},
		{"one that named it has learned more", []view{says("a:1", 4), says("a:1", 6), says("b:1", 5)}, ""},
		{"nobody names it", []view{says("c:1", 0), says("b:1", 5)}, "a:1 no sentinel b:1 epoch 5 s5:1"},
		{"nobody names it before any failover", []view{says("b:1", 0)}, "a:1 b:1 epoch 0 s0:1"},
	} {
		for range 2 {
			err := outdated("a:1", test.views)
			if (err == nil) != (test.want == "") {
				t.Errorf("%s: %v, want %q", test.name, err, test.want)
			}
			for part := range strings.FieldsSeq(test.want) {
				if err != nil && !strings.Contains(err.Error(), part) {
					t.Errorf("%s: %v, want %q in it", test.name, err, part)
				}
			}
			slices.Reverse(test.views)
		}
	}
}

// Sentinels that missed a failover send nobody to the master of before, which takes itself
// for one, as long as one sentinel knows better. Two deployments that do not hear of each
// other stand for that: so the stale ones stay stale.
func TestStaleSentinels(t *testing.T) {
	t.Parallel()
	stale := redistest.StartSentinel(t, 0)
	current := redistest.StartSentinel(t, 0, "sentinel config-epoch mymaster 7")
	old, master := stale.Servers[0], current.Servers[0]
	o := optionsFor(t, "")
	o.Sentinel.Master = current.MasterName
	o.Addresses = append(stale.SentinelAddrs(), current.SentinelAddrs()[:2]...)

	s := openStore(t, o)
	leads(t, s)
	watching(t, testContext(t), s)
	untouched := func() {
		t.Helper()
		if got := redistest.CLI(t, old.Addr, "DBSIZE"); got != "0" {
			t.Fatalf("the replaced master has %s keys:\n%s", got, redistest.CLI(t, old.Addr, "KEYS", "*"))
		}
	}
	untouched()

	// A sentinel that knows better dies, and the connections to the master are lost.
	current.Sentinels[0].Kill()
	redistest.Do(t, master.Addr, "CLIENT", "KILL", "TYPE", "normal")
	eventually(t, 15*time.Second, "the master is found again", func() bool {
		_, err := s.Campaign(testContext(t), 0, "b")
		return err == nil
	})
	untouched()

	// Only the stale ones are left: no answer is better than theirs.
	for _, w := range current.Sentinels {
		w.Kill()
	}
	views, _ := s.opts.askSentinels(testContext(t))
	if err := outdated(old.Addr, views); err != nil {
		t.Errorf("nobody knows better, and yet: %v", err)
	}
}

// All sentinels are asked, those that another names, too, and one that hangs is not waited
// for.
func TestSentinelsAreAsked(t *testing.T) {
	t.Parallel()
	sentinel := redistest.StartSentinel(t, 1)
	o := optionsFor(t, "")
	o.Addresses, o.Sentinel.Master = sentinel.SentinelAddrs()[:1], sentinel.MasterName
	old := sentinel.Servers[0]
	hung := sentinel.Sentinels[2]
	hung.Pause()
	start := time.Now()
	if views, _ := o.askSentinels(testContext(t)); len(views) != 2 || views[0].master != old.Addr || time.Since(start) > 5*time.Second {
		t.Fatalf("%+v after %v, want %s of two", views, time.Since(start), old.Addr)
	}
	hung.Resume()
	next := sentinel.Failover()
	eventually(t, 15*time.Second, "all three have the epoch of the failover", func() bool {
		views, _ := o.askSentinels(testContext(t))
		return len(views) == 3 && !slices.ContainsFunc(views, func(v view) bool { return v.master != next.Addr || v.epoch < 1 })
	})
	views, _ := o.askSentinels(testContext(t))
	if outdated(next.Addr, views) != nil || outdated(old.Addr, views) == nil {
		t.Errorf("%+v", views)
	}

	// What the README says a user of the sentinels needs is enough.
	for _, w := range sentinel.Sentinels {
		redistest.Do(t, w.Addr, append([]string{"ACL", "SETUSER", "forsun", "on", ">secret"}, strings.Fields("&* -@all +auth +hello +ping +role "+
			"+client|setname +subscribe +unsubscribe +sentinel|master +sentinel|get-master-addr-by-name +sentinel|sentinels")...)...)
	}
	o.Sentinel.Username, o.Sentinel.Password = "forsun", "wrong"
	if views, _ := o.askSentinels(testContext(t)); len(views) != 0 {
		t.Errorf("with a wrong password: %+v", views)
	}
	o.Sentinel.Password = "secret"
	if views, _ := o.askSentinels(testContext(t)); len(views) != 3 {
		t.Errorf("with a user: %+v, want 3", views)
	}
	s := openStore(t, o)
	leads(t, s)

	// Who may not ask that is told so, and who hangs.
	eventually(t, 15*time.Second, "nothing is found", func() bool { return len(o.sentinelsTell(testContext(t))) == 0 })
	redistest.Do(t, sentinel.Sentinels[1].Addr, "ACL", "SETUSER", "forsun", "-sentinel|master")
	hung.Pause()
	if got := o.sentinelsTell(testContext(t)); slices.ContainsFunc(got, func(f scheduler.Finding) bool { return f.Subject == "sentinel "+hung.Addr }) {
		t.Errorf("of one that is not configured, and hangs: %+v", got)
	}
	s.opts.Addresses = append(s.opts.Addresses, hung.Addr)
	told := make(map[string]scheduler.Finding)
	eventually(t, 15*time.Second, "two are found", func() bool {
		clear(told)
		for _, f := range s.Report(testContext(t)) {
			if strings.HasPrefix(f.Subject, "sentinel ") {
				told[f.Subject] = f
			}
		}
		return len(told) == 2
	})
	hung.Resume()
	for w, want := range map[string]string{sentinel.Sentinels[1].Addr: "NOPERM rights README", hung.Addr: "does not say see whether it runs"} {
		f, ok := told["sentinel "+w]
		for part := range strings.FieldsSeq(want) {
			if !ok || f.Severity != scheduler.SeverityWarning || !strings.Contains(f.Problem+" "+f.Advice, part) {
				t.Errorf("sentinel %s: %+v, want %q in it", w, f, part)
			}
		}
	}

	// Over TLS, which one sentinel has here: the others are asked, and do not answer.
	certificates := redistest.NewCertificates(t)
	o.Addresses, o.Sentinel.TLS = []string{overTLS(t, certificates, sentinel.Sentinels[0].Addr)}, certificates.ClientTLS(t)
	if views, _ := o.askSentinels(testContext(t)); len(views) != 1 || views[0].master != next.Addr || len(views[0].others) != 2 {
		t.Errorf("over TLS: %+v, want %s of one", views, next.Addr)
	}
}

// overTLS returns an address whose connections are, over TLS, connections to addr.
func overTLS(t *testing.T, c *redistest.Certificates, addr string) string {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(c.ServerCertFile, c.ServerKeyFile)
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}})
	if err != nil {
		t.Fatal(err)
	}
	var tasks sync.WaitGroup
	t.Cleanup(func() {
		_ = l.Close()
		tasks.Wait()
	})
	forward := func(from net.Conn) {
		defer from.Close()
		to, err := net.Dial("tcp", addr)
		if err != nil {
			t.Errorf("sentinel: %v", err)
			return
		}
		tasks.Go(func() {
			_, _ = io.Copy(from, to)
		})
		_, _ = io.Copy(to, from)
		_ = to.Close()
	}
	tasks.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			tasks.Go(func() { forward(conn) })
		}
	})
	return l.Addr().String()
}
