package redisflags

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/snower/forsun/redisstore/redistest"
)

// parse sets flags as a program does: given ones, else what they fall back to.
func parse(given map[string]string) (*Redis, error) {
	r := new(Redis)
	for _, f := range Flags() {
		value, ok := given[f.Name]
		delete(given, f.Name)
		if !ok {
			value = f.Fallback
		}
		if !ok && value == "" {
			continue
		}
		if err := f.Set(r, value); err != nil {
			return r, &Error{f.Name, err.Error()}
		}
	}
	return r, nil
}

func TestShards(t *testing.T) {
	t.Parallel()
	for value, want := range map[string][]int{
		"0": {0}, "5": {5}, "0-3": {0, 1, 2, 3}, "0,3,7": {0, 3, 7}, "7, 3,0": {0, 3, 7}, "4-5,0-1": {0, 1, 4, 5}, "65535": {65535},
		"": nil, "x": nil, "-1": nil, "3-1": nil, "0,0": nil, "0-2,2": nil, "65536": nil, "0-2000": nil, "1-": nil, "1,,2": nil, "0-1-2": nil,
	} {
		r, err := parse(map[string]string{"driver-redis-server-id": value})
		if want == nil && err == nil || want != nil && (err != nil || !slices.Equal(r.shards, want)) {
			t.Errorf("%q: %v, %v, want %v", value, r.shards, err, want)
		}
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	certs := redistest.NewCertificates(t)
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := parse(map[string]string{
		"driver-redis-host": "redis.example", "driver-redis-port": "6380", "driver-redis-db": "3", "driver-redis-user": "u", "driver-redis-password-file": file,
		"driver-redis-prefix": "p", "driver-redis-server-id": "0-1", "driver-redis-tls": "true", "driver-redis-tls-ca": certs.CAFile,
		"driver-redis-tls-cert": certs.ClientCertFile, "driver-redis-tls-key": certs.ClientKeyFile, "driver-redis-tls-server-name": "n", "durability": "Replica",
	})
	if err != nil {
		t.Fatal(err)
	}
	o, err := r.Options()
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Validate(); err != nil {
		t.Error(err)
	}
	if !slices.Equal(o.Addresses, []string{"redis.example:6380"}) || o.DB != 3 || o.Username != "u" || o.Password != "s3cret" || o.Prefix != "p" ||
		!slices.Equal(o.Shards, []int{0, 1}) || !o.ReplicaDurability || o.TLS == nil || o.TLS.ServerName != "n" || len(o.TLS.Certificates) != 1 || o.TLS.RootCAs == nil {
		t.Errorf("options %+v", o)
	}
	r, err = parse(map[string]string{
		"driver-redis-sentinel-addrs": "a:1, b:2", "driver-redis-sentinel-master": "m", "driver-redis-sentinel-user": "u", "driver-redis-sentinel-password": "p",
	})
	if err != nil {
		t.Fatal(err)
	}
	if o, err = r.Options(); err != nil || o.Validate() != nil || !slices.Equal(o.Addresses, []string{"a:1", "b:2"}) ||
		o.Sentinel.Master != "m" || o.Sentinel.Username != "u" || o.Sentinel.Password != "p" || o.TLS != nil {
		t.Errorf("options %+v, %v", o, err)
	}
	if r, err = parse(map[string]string{"driver-redis-cluster": "a:1,b:2"}); err != nil {
		t.Fatal(err)
	}
	if o, err = r.Options(); err != nil || o.Validate() != nil || !o.Cluster || !slices.Equal(o.Addresses, []string{"a:1", "b:2"}) {
		t.Errorf("options %+v, %v", o, err)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		given map[string]string
		want  string // flag that is named
	}{
		{map[string]string{"driver-redis-host": ""}, "driver-redis-host"},
		{map[string]string{"driver-redis-port": "0"}, "driver-redis-port"},
		{map[string]string{"driver-redis-db": "-1"}, "driver-redis-db"},
		{map[string]string{"driver-redis-prefix": "a{b}"}, "driver-redis-prefix"},
		{map[string]string{"driver-redis-prefix": ""}, "driver-redis-prefix"},
		{map[string]string{"driver-redis-cluster": "a"}, "driver-redis-cluster"},
		{map[string]string{"driver-redis-cluster": "a:1", "driver-redis-db": "1"}, "driver-redis-db"},
		{map[string]string{"driver-redis-cluster": "a:1", "driver-redis-sentinel-addrs": "a:1", "driver-redis-sentinel-master": "m"}, "driver-redis-cluster"},
		{map[string]string{"driver-redis-sentinel-addrs": "a:1"}, "driver-redis-sentinel-addrs"},
		{map[string]string{"driver-redis-sentinel-master": "m"}, "driver-redis-sentinel-master"},
		{map[string]string{"driver-redis-sentinel-password": "x"}, "driver-redis-sentinel-password"},
		{map[string]string{"driver-redis-tls-ca": "x"}, "driver-redis-tls"},
		{map[string]string{"driver-redis-tls": "true", "driver-redis-tls-cert": "x"}, "driver-redis-tls-cert"},
		{map[string]string{"driver-redis-tls": "true", "driver-redis-tls-ca": "/nonexistent"}, "driver-redis-tls-ca"},
		{map[string]string{"driver-redis-password": "x", "driver-redis-password-file": "/nonexistent"}, "driver-redis-password-file"},
		{map[string]string{"driver-redis-password-file": "/nonexistent"}, "driver-redis-password-file"},
		{map[string]string{"durability": "much"}, "durability"},
	} {
		r, err := parse(row.given)
		if err == nil {
			_, err = r.Options()
		}
		if err == nil || !strings.HasPrefix(err.Error(), "--"+row.want+": ") {
			t.Errorf("%v: %v, want it to be about --%s", row.given, err, row.want)
		}
	}
}
