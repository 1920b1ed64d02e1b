package actions

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/snower/forsun/scheduler"
)

func TestRegistry(t *testing.T) {
	tests := []struct {
		why    string
		change func(*Options)
		want   []string
		err    string
	}{
		{"all of them", func(*Options) {}, []string{"beanstalk", "http", "mysql", "redis", "shell", "thrift"}, ""},
		{"some", func(o *Options) { o.Names = []string{"shell", "http"} }, []string{"http", "shell"}, ""},
		{"one twice", func(o *Options) { o.Names = []string{"http", "http"} }, []string{"http"}, ""},
		{"for measurements", func(o *Options) { o.Names, o.Noop = []string{"http"}, true }, []string{"http", "noop"}, ""},
		{
			"an unknown one", func(o *Options) { o.Names = []string{"htpp"} }, nil,
			"actions: htpp is not allowed; allowed: beanstalk, http, mysql, redis, shell, thrift",
		},
		{
			"noop by name", func(o *Options) { o.Names = []string{"noop"} }, nil,
			"actions: noop is not allowed; allowed: beanstalk, http, mysql, redis, shell, thrift",
		},
		{
			"options of several actions", func(o *Options) { o.Shell.Timeout, o.HTTP.MaxIdle, o.Redis.Timeout = 0, 0, 0 }, nil,
			"shell action: Timeout: 0s is not allowed; allowed: above 0\n" +
				"http action: MaxIdle: 0 is not allowed; allowed: at least 1\n" +
				"redis action: Timeout: 0s is not allowed; allowed: above 0",
		},
	}
	for _, tt := range tests {
		opts := DefaultOptions("1.2.3")
		tt.change(&opts)
		r, err := New(opts)
		if tt.err != "" {
			if err == nil || err.Error() != tt.err {
				t.Errorf("%s: New: got error %v, want %s", tt.why, err, tt.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: New: %v", tt.why, err)
			continue
		}
		if got := r.Names(); !slices.Equal(got, tt.want) {
			t.Errorf("%s: Names: got %q, want %q", tt.why, got, tt.want)
		}
		for _, name := range tt.want {
			if a, ok := r.Get(name); !ok || a == nil {
				t.Errorf("%s: Get(%s): nothing", tt.why, name)
			}
		}
		if err := r.Close(); err != nil {
			t.Errorf("%s: Close: %v", tt.why, err)
		}
	}
}

func TestRegistryNames(t *testing.T) {
	r, err := New(DefaultOptions(""))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got := r.Names(); !slices.Equal(got, Names()) {
		t.Errorf("a registry of all actions has %q, Names says %q", got, Names())
	}
}

// closing is an action of a main of its own.
type closing struct {
	Noop
	err    error
	closed int
}

func (c *closing) Close() error { c.closed++; return c.err }

func TestRegistryRegister(t *testing.T) {
	r, err := New(DefaultOptions(""))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "a b", "a:b", "ü", strings.Repeat("x", 65), "http"} {
		if err := r.Register(name, Noop{}); err == nil || !strings.Contains(err.Error(), "allowed: ") {
			t.Errorf("Register(%q): got %v, want a refusal that says what is allowed", name, err)
		}
	}
	own := &closing{err: errors.New("cannot")}
	if err := r.Register("my_own-1", own); err != nil {
		t.Fatalf("Register: %v", err)
	}
	if got, ok := r.Get("my_own-1"); !ok || got.(*revealing).action != scheduler.Action(own) {
		t.Errorf("Get: got %v, want what was registered", got)
	}
	if _, ok := r.Get("unknown"); ok {
		t.Error("Get(unknown): got an action")
	}
	if err := r.Close(); err == nil || err.Error() != "close action my_own-1: cannot" || own.closed != 1 {
		t.Errorf("Close: got %v, closed %d times; want the action's error, once", err, own.closed)
	}
}

func TestNoop(t *testing.T) {
	if err := (Noop{}).Check(map[string]string{"any": "thing"}); err != nil {
		t.Errorf("Check: %v", err)
	}
	must(t, Noop{}, testFiring(nil))
}

func TestDefaultOptionsVersion(t *testing.T) {
	for version, want := range map[string]string{"1.2.3": "forsun/1.2.3", "": "forsun"} {
		if got := DefaultOptions(version).HTTP.UserAgent; got != want {
			t.Errorf("DefaultOptions(%q): User-Agent %q, want %q", version, got, want)
		}
	}
}

// limited is an action that says how much of it can run.
type limited struct{ Noop }

func (limited) Slots() int { return 7 }

// TestRegistryKeepsLimits: what a registry puts around an action does not hide its limit,
// nor give one to an action that has none.
func TestRegistryKeepsLimits(t *testing.T) {
	t.Parallel()
	opts := DefaultOptions("")
	opts.Noop = true
	r, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.Register("limited", limited{}); err != nil {
		t.Fatal(err)
	}
	action, _ := r.Get("limited")
	if l, ok := action.(scheduler.Limited); !ok || l.Slots() != 7 {
		t.Errorf("the limit is gone: %T", action)
	}
	action, _ = r.Get("noop")
	if _, ok := action.(scheduler.Limited); ok {
		t.Error("noop has a limit")
	}
}
