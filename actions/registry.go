package actions

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/snower/forsun/scheduler"
)

// Options configure the actions of a registry.
type Options struct {
	// Names are the actions to have, of those Names lists; empty: all of them.
	Names []string
	// None leaves out all of them, for what is registered beside them. Names is empty then.
	None bool
	// Noop adds the action "noop", which does nothing, for measurements.
	Noop bool

	// Secrets are what parameters may refer to as ${secret:NAME}; nil: none.
	Secrets Secrets
	// Egress is what the actions that connect to something may connect to; it stands
	// for the Egress of each.
	Egress Egress

	Shell     ShellOptions
	HTTP      HTTPOptions
	Redis     RedisOptions
	Thrift    ThriftOptions
	Beanstalk BeanstalkOptions
	MySQL     MySQLOptions
}

// DefaultOptions returns the options of a deployment that sets none: all actions.
// version is forsun's own, for the http action's User-Agent.
func DefaultOptions(version string) Options {
	o := Options{
		Shell:     DefaultShellOptions(),
		HTTP:      DefaultHTTPOptions(),
		Redis:     DefaultRedisOptions(),
		Thrift:    DefaultThriftOptions(),
		Beanstalk: DefaultBeanstalkOptions(),
		MySQL:     DefaultMySQLOptions(),
	}
	if version != "" {
		o.HTTP.UserAgent = "forsun/" + version
	}
	return o
}

// Names returns the names of the actions forsun comes with, in order.
func Names() []string {
	return []string{"beanstalk", "http", "mysql", "redis", "shell", "thrift"}
}

// Validate says which options are not allowed, all of them joined.
func (o Options) Validate() error {
	var errs []error
	for _, name := range o.Names {
		if !slices.Contains(Names(), name) {
			errs = append(errs, fmt.Errorf("actions: %s is not allowed; allowed: %s",
				scheduler.Shorten(name, 64), strings.Join(Names(), ", ")))
		}
	}
	return errors.Join(append(errs,
		o.Shell.Validate(), o.HTTP.Validate(), o.Redis.Validate(),
		o.Thrift.Validate(), o.Beanstalk.Validate(), o.MySQL.Validate())...)
}

// Registry is the set of actions of a process. It is filled before it is used:
// Get and Names are safe for concurrent use, Register is not.
type Registry struct {
	actions map[string]scheduler.Action
	secrets Secrets
}

var _ scheduler.Actions = (*Registry)(nil)

// New returns a registry of the actions that opts names, or what Validate says of
// opts. Close it.
func New(opts Options) (*Registry, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	for _, egress := range []*Egress{&opts.HTTP.Egress, &opts.Redis.Egress, &opts.Thrift.Egress, &opts.Beanstalk.Egress, &opts.MySQL.Egress} {
		*egress = opts.Egress
	}
	r := &Registry{actions: make(map[string]scheduler.Action), secrets: opts.Secrets}
	wanted := func(name string) bool {
		return !opts.None && (len(opts.Names) == 0 || slices.Contains(opts.Names, name))
	}
	if wanted("beanstalk") {
		r.actions["beanstalk"] = NewBeanstalk(opts.Beanstalk)
	}
	if wanted("http") {
		r.actions["http"] = NewHTTP(opts.HTTP)
	}
	if wanted("mysql") {
		r.actions["mysql"] = NewMySQL(opts.MySQL)
	}
	if wanted("redis") {
		r.actions["redis"] = NewRedis(opts.Redis)
	}
	if wanted("shell") {
		r.actions["shell"] = NewShell(opts.Shell)
	}
	if wanted("thrift") {
		r.actions["thrift"] = NewThrift(opts.Thrift)
	}
	if opts.Noop {
		r.actions["noop"] = Noop{}
	}
	return r, nil
}

// Register adds an action: an extension, or one of a main of its own. If it is an
// io.Closer, Close closes it. A name is 1 to 64 letters, digits, "_" and "-", and
// not taken.
func (r *Registry) Register(name string, action scheduler.Action) error {
	if !IsName(name) {
		return fmt.Errorf("action name %s is not allowed; allowed: 1 to 64 letters, digits, _ and -", scheduler.Shorten(name, 64))
	}
	if _, taken := r.actions[name]; taken {
		return fmt.Errorf("action name %s is not allowed; allowed: names that are not taken (%s are)", name, strings.Join(r.Names(), ", "))
	}
	r.actions[name] = action
	return nil
}

// IsName says whether s can name an action: it becomes part of store keys and of
// metric labels.
func IsName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !('0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_' || c == '-') {
			return false
		}
	}
	return len(s) >= 1 && len(s) <= 64
}

// Get implements scheduler.Actions: an action that was registered, its parameters'
// references to secrets resolved.
func (r *Registry) Get(name string) (scheduler.Action, bool) {
	action, ok := r.actions[name]
	if !ok {
		return nil, false
	}
	a := &revealing{name: name, action: action, secrets: r.secrets}
	if limited, ok := action.(scheduler.Limited); ok {
		return &limitedRevealing{a, limited}, true
	}
	return a, true
}

// Names implements scheduler.Actions: what is registered, in order.
func (r *Registry) Names() []string { return slices.Sorted(maps.Keys(r.actions)) }

// Close closes the actions' connections, side by side. Call it when no firing runs any
// more.
func (r *Registry) Close() error {
	names := r.Names()
	errs := make([]error, len(names))
	var closing sync.WaitGroup
	for i, name := range names {
		if closer, ok := r.actions[name].(io.Closer); ok {
			closing.Go(func() {
				if err := closer.Close(); err != nil {
					errs[i] = fmt.Errorf("close action %s: %w", name, err)
				}
			})
		}
	}
	closing.Wait()
	return errors.Join(errs...)
}
