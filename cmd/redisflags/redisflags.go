// Package redisflags is the part of a command line that says where a store on
// Redis is: for every program that opens one.
package redisflags

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/snower/forsun/redisstore"
	"github.com/snower/forsun/scheduler"
)

// Redis is what the flags said.
type Redis struct {
	host     string
	port     string
	db       int
	user     string
	password secret
	prefix   string
	shards   []int

	tls           bool
	tlsCA         string
	tlsCert       string
	tlsKey        string
	tlsServerName string

	sentinel         []string
	sentinelMaster   string
	sentinelUser     string
	sentinelPassword secret

	cluster []string
	durable bool
}

// secret is a password, or the file that holds it.
type secret struct{ text, file string }

func (s secret) read(flag string) (string, error) {
	if s.file == "" {
		return s.text, nil
	}
	if s.text != "" {
		return "", &Error{flag + "-file", "not together with --" + flag}
	}
	b, err := os.ReadFile(s.file)
	if err != nil {
		return "", &Error{flag + "-file", err.Error()}
	}
	return strings.TrimRight(string(b), "\r\n"), nil
}

// Error says which flag is wrong, and why.
type Error struct {
	Flag   string // without the dashes
	Reason string
}

func (e *Error) Error() string { return "--" + e.Flag + ": " + e.Reason }

// Flag is one flag.
type Flag struct {
	Name     string
	Value    string // what the help calls its value; "" for one that is on or off
	Fallback string // the value without the flag
	Usage    string // for the help, without the default
	Showing  string // the default as the help shows it, where it is not Fallback
	Set      func(r *Redis, value string) error
}

// Flags are all flags. Each is to be set, with its Fallback if it was not given and
// that is not empty.
func Flags() []Flag {
	def := redisstore.DefaultOptions()
	host, port, _ := net.SplitHostPort(def.Addresses[0])
	const none = "none"
	return []Flag{
		{"driver-redis-host", "DRIVER_REDIS_HOST", host, "store redis driver host", "", setHost},
		{"driver-redis-port", "DRIVER_REDIS_PORT", port, "store redis driver port", "", setPort},
		{"driver-redis-db", "DRIVER_REDIS_DB", strconv.Itoa(def.DB), "store redis driver db", "", setDB},
		{"driver-redis-user", "DRIVER_REDIS_USER", "", "store redis driver user", none, text(func(r *Redis) *string { return &r.user }, "")},
		{"driver-redis-password", "DRIVER_REDIS_PASSWORD", "", "store redis driver password; better given in the environment, or in a file", none, text(func(r *Redis) *string { return &r.password.text }, "")},
		{"driver-redis-password-file", "FILE", "", "file that holds the password", none, path(func(r *Redis) *string { return &r.password.file })},
		{"driver-redis-prefix", "DRIVER_REDIS_PREFIX", def.Prefix, "store redis driver key prefix: one for each scheduler", "", text(func(r *Redis) *string { return &r.prefix }, "a prefix")},
		{"driver-redis-server-id", "DRIVER_REDIS_SERVER_ID", "0", "shards of the scheduler, the same on all replicas: an id, a list or a range, such as 0-15", "", setShards},
		{"driver-redis-tls", "", "", "speak TLS to Redis, and to its sentinels", "", setTLS},
		{"driver-redis-tls-ca", "FILE", "", "certificates of the authorities to trust, PEM", "those of the system", path(func(r *Redis) *string { return &r.tlsCA })},
		{"driver-redis-tls-cert", "FILE", "", "certificate to show, PEM", none, path(func(r *Redis) *string { return &r.tlsCert })},
		{"driver-redis-tls-key", "FILE", "", "its key, PEM", none, path(func(r *Redis) *string { return &r.tlsKey })},
		{"driver-redis-tls-server-name", "NAME", "", "name that Redis' certificate is for", "the host connected to", text(func(r *Redis) *string { return &r.tlsServerName }, "")},
		{"driver-redis-sentinel-addrs", "ADDRESSES", "", "sentinels that know the master, HOST:PORT, commas between; instead of host and port", none, addresses(func(r *Redis) *[]string { return &r.sentinel })},
		{"driver-redis-sentinel-master", "NAME", "", "what the sentinels call the master", none, text(func(r *Redis) *string { return &r.sentinelMaster }, "")},
		{"driver-redis-sentinel-user", "USER", "", "user of the sentinels themselves", none, text(func(r *Redis) *string { return &r.sentinelUser }, "")},
		{"driver-redis-sentinel-password", "PASSWORD", "", "password of the sentinels themselves", none, text(func(r *Redis) *string { return &r.sentinelPassword.text }, "")},
		{"driver-redis-sentinel-password-file", "FILE", "", "file that holds it", none, path(func(r *Redis) *string { return &r.sentinelPassword.file })},
		{"driver-redis-cluster", "ADDRESSES", "", "some nodes of a Redis Cluster, HOST:PORT, commas between; instead of host and port", none, addresses(func(r *Redis) *[]string { return &r.cluster })},
		{"durability", "DURABILITY", local, "when a create or remove in Redis is answered: local (its node has it), replica (a replica of that has it, too)", "", setDurability},
	}
}

// Values of --durability.
const (
	local   = "local"
	replica = "replica"
)

// SetPrefix sets the prefix, for a program that has no flag for it.
func (r *Redis) SetPrefix(prefix string) error {
	r.prefix = prefix
	return r.checkPrefix()
}

// NeedsRedis says whether a flag was given that has no meaning without Redis.
func (r *Redis) NeedsRedis() error {
	if r.durable {
		return &Error{"durability", `"replica" needs --driver=redis`}
	}
	return nil
}

// Check finds what is wrong with the flags together, before any file is read.
func (r *Redis) Check() error {
	switch {
	case r.sentinel != nil && r.cluster != nil:
		return &Error{"driver-redis-cluster", "not together with --driver-redis-sentinel-addrs"}
	case r.cluster != nil && r.db != 0:
		return &Error{"driver-redis-db", "a Redis Cluster has 0 only"}
	case r.sentinel != nil && r.sentinelMaster == "":
		return &Error{"driver-redis-sentinel-addrs", "needs --driver-redis-sentinel-master"}
	case r.sentinel == nil && r.sentinelMaster != "":
		return &Error{"driver-redis-sentinel-master", "needs --driver-redis-sentinel-addrs"}
	case r.sentinel == nil && (r.sentinelUser != "" || r.sentinelPassword != secret{}):
		return &Error{"driver-redis-sentinel-password", "needs --driver-redis-sentinel-addrs"}
	case !r.tls && (r.tlsCA != "" || r.tlsCert != "" || r.tlsKey != "" || r.tlsServerName != ""):
		return &Error{"driver-redis-tls", "needed with the other --driver-redis-tls-*"}
	case (r.tlsCert == "") != (r.tlsKey == ""):
		return &Error{"driver-redis-tls-cert", "needs --driver-redis-tls-key, and the other way round"}
	}
	return r.checkPrefix()
}

func (r *Redis) checkPrefix() error {
	o := redisstore.DefaultOptions()
	o.Prefix = r.prefix
	var field *scheduler.FieldError
	if errors.As(o.Validate(), &field) {
		return &Error{"driver-redis-prefix", notAllowed(r.prefix, field.Allowed)}
	}
	return nil
}

// Options returns the options of the store: what the flags say, the rest as by
// default. It reads the files that were named.
func (r *Redis) Options() (redisstore.Options, error) {
	o := redisstore.DefaultOptions()
	if err := r.Check(); err != nil {
		return o, err
	}
	o.DB, o.Username, o.Prefix, o.Shards, o.ReplicaDurability = r.db, r.user, r.prefix, r.shards, r.durable
	var err error
	if o.Password, err = r.password.read("driver-redis-password"); err != nil {
		return o, err
	}
	if o.TLS, err = r.tlsConfig(); err != nil {
		return o, err
	}
	switch {
	case r.cluster != nil:
		o.Cluster, o.Addresses = true, r.cluster
	case r.sentinel != nil:
		o.Addresses = r.sentinel
		o.Sentinel = redisstore.SentinelOptions{Master: r.sentinelMaster, Username: r.sentinelUser, TLS: o.TLS}
		if o.Sentinel.Password, err = r.sentinelPassword.read("driver-redis-sentinel-password"); err != nil {
			return o, err
		}
	default:
		o.Addresses = []string{net.JoinHostPort(r.host, r.port)}
	}
	return o, nil
}

func (r *Redis) tlsConfig() (*tls.Config, error) {
	if !r.tls {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: r.tlsServerName}
	if r.tlsCA != "" {
		pem, err := os.ReadFile(r.tlsCA)
		if err != nil {
			return nil, &Error{"driver-redis-tls-ca", err.Error()}
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, &Error{"driver-redis-tls-ca", r.tlsCA + " holds no certificate in PEM form"}
		}
	}
	if r.tlsCert != "" {
		cert, err := tls.LoadX509KeyPair(r.tlsCert, r.tlsKey)
		if err != nil {
			return nil, &Error{"driver-redis-tls-cert", err.Error()}
		}
		c.Certificates = []tls.Certificate{cert}
	}
	return c, nil
}

// String says where the store is, for the log; no password.
func (r *Redis) String() string {
	where := net.JoinHostPort(r.host, r.port) + "/" + strconv.Itoa(r.db)
	switch {
	case r.cluster != nil:
		where = "cluster " + strings.Join(r.cluster, ",")
	case r.sentinel != nil:
		where = r.sentinelMaster + " of sentinels " + strings.Join(r.sentinel, ",") + "/" + strconv.Itoa(r.db)
	}
	return where + " " + r.prefix
}

// notAllowed says what would have been right.
func notAllowed(value, allowed string) string {
	return fmt.Sprintf("%q is not allowed; allowed: %s", value, allowed)
}

// text sets a text as it is; needed says what it must be if it must not be empty.
func text(place func(*Redis) *string, needed string) func(*Redis, string) error {
	return func(r *Redis, value string) error {
		if needed != "" && (value == "" || strings.ContainsAny(value, " \t")) {
			return errors.New(notAllowed(value, needed))
		}
		*place(r) = value
		return nil
	}
}

// path makes a path absolute, because a daemon leaves the directory it was started
// in.
func path(place func(*Redis) *string) func(*Redis, string) error {
	return func(r *Redis, value string) (err error) {
		if value != "" {
			value, err = filepath.Abs(value)
		}
		*place(r) = value
		return err
	}
}

func addresses(place func(*Redis) *[]string) func(*Redis, string) error {
	return func(r *Redis, value string) error {
		var all []string
		for item := range strings.SplitSeq(value, ",") {
			if item = strings.TrimSpace(item); item == "" {
				continue
			}
			host, port, err := net.SplitHostPort(item)
			if err != nil || host == "" || !isPort(port) {
				return errors.New(notAllowed(item, "HOST:PORT, with commas between"))
			}
			all = append(all, item)
		}
		*place(r) = all
		return nil
	}
}

func setHost(r *Redis, value string) error {
	if value == "" || strings.ContainsAny(value, " /,") {
		return errors.New(notAllowed(value, "a host name or an IP address"))
	}
	r.host = strings.Trim(value, "[]")
	return nil
}

func isPort(s string) bool {
	n, err := strconv.Atoi(s)
	return err == nil && n >= 1 && n <= 65535
}

func setPort(r *Redis, value string) error {
	if !isPort(value) {
		return errors.New(notAllowed(value, "a number from 1 to 65535"))
	}
	r.port = value
	return nil
}

func setDB(r *Redis, value string) error {
	n, err := strconv.Atoi(value)
	if err != nil || n < 0 || n > 65535 {
		return errors.New(notAllowed(value, "a number from 0 to 65535"))
	}
	r.db = n
	return nil
}

func setTLS(r *Redis, value string) error {
	on, err := strconv.ParseBool(value)
	if err != nil {
		return errors.New(notAllowed(value, "true or false"))
	}
	r.tls = on
	return nil
}

func setDurability(r *Redis, value string) error {
	switch strings.ToLower(value) {
	case local, replica:
		r.durable = strings.EqualFold(value, replica)
		return nil
	}
	return errors.New(notAllowed(value, local+", "+replica))
}

// maxShard is the highest id, and about the number of ids, that a store takes.
const (
	maxShard  = 65535
	maxShards = 1024
)

// setShards reads "0", "0-15" or "0,3,7".
func setShards(r *Redis, value string) error {
	bad := func(item string) error {
		return errors.New(notAllowed(item, fmt.Sprintf("ids from 0 to %d, each once, as an id, a list or a range: 0 or 0,3,7 or 0-15", maxShard)))
	}
	var ids []int
	for item := range strings.SplitSeq(value, ",") {
		from, to, isRange := strings.Cut(strings.TrimSpace(item), "-")
		if !isRange {
			to = from
		}
		first, err1 := strconv.Atoi(from)
		last, err2 := strconv.Atoi(to)
		if err1 != nil || err2 != nil || first < 0 || last > maxShard || first > last || len(ids)+last-first >= maxShards {
			return bad(item)
		}
		for id := first; id <= last; id++ {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	if len(slices.Compact(slices.Clone(ids))) != len(ids) {
		return bad(value)
	}
	r.shards = ids
	return nil
}
