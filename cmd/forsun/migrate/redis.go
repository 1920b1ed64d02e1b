package migrate

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"
)

// RedisOptions say where a Python forsun has its plans in Redis.
type RedisOptions struct {
	Address            string
	DB                 int
	Username, Password string
	TLS                *tls.Config // nil: none
	Prefix, ServerID   string
	Timeout            time.Duration // of one request
}

// Redis is a Python forsun's Redis.
type Redis struct {
	client  rueidis.Client
	o       RedisOptions
	plans   string // what the keys of plans begin with
	current int64
	clock   int64
}

// currentExpiry is how long current:time lives after it was set: so its
// time to live says when it was set last.
const currentExpiry = 30 * 24 * time.Hour

// OpenRedis connects.
func OpenRedis(ctx context.Context, o RedisOptions) (*Redis, error) {
	client, err := rueidis.NewClient(rueidis.ClientOption{
		InitAddress: []string{o.Address}, SelectDB: o.DB, Username: o.Username, Password: o.Password, TLSConfig: o.TLS,
		ClientName: "forsun-migrate", DisableCache: true, DisableRetry: true, ForceSingleClient: true,
		RingScaleEachConn: 8, ReadBufferEachConn: 256 << 10, WriteBufferEachConn: 64 << 10, ConnWriteTimeout: o.Timeout,
	})
	if err != nil {
		if client != nil {
			client.Close()
		}
		return nil, fmt.Errorf("redis %s: %w", o.Address, err)
	}
	base := o.Prefix + ":" + o.ServerID
	r := &Redis{client: client, o: o, plans: base + ":plan:"}
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	text, err := client.Do(ctx, client.B().Get().Key(base+":current:time").Build()).ToString()
	if err == nil {
		var left int64
		left, err = client.Do(ctx, client.B().Pttl().Key(base+":current:time").Build()).AsInt64()
		if n, perr := strconv.ParseInt(text, 10, 64); perr == nil && n > 0 {
			r.current = n
			if left > 0 {
				r.clock = time.Now().Add(time.Duration(left)*time.Millisecond - currentExpiry).Unix()
			}
		}
	}
	if err != nil && !rueidis.IsRedisNil(err) {
		client.Close()
		return nil, fmt.Errorf("redis %s: %w", o.Address, err)
	}
	return r, nil
}

func (r *Redis) Size() int64             { return -1 }
func (r *Redis) Damage() error           { return nil }
func (r *Redis) Handled() (int64, int64) { return r.current, r.clock }
func (r *Redis) Close() error            { r.client.Close(); return nil }

const (
	scanCount = 1000
	getBatch  = 100 // so that they hold 50 MB at most
)

// Plans reads them, SCAN by SCAN, and the values of each in pipelines.
func (r *Redis) Plans(ctx context.Context, fn func(Raw, int64) error) error {
	var n int64
	for cursor := uint64(0); ; {
		var entry rueidis.ScanEntry
		err := r.bounded(ctx, func(ctx context.Context) (err error) {
			entry, err = r.client.Do(ctx, r.client.B().Scan().Cursor(cursor).Match(escapeGlob(r.plans)+"*").Count(scanCount).Build()).AsScanEntry()
			return err
		})
		if err != nil {
			return err
		}
		for keys := entry.Elements; len(keys) > 0; {
			some := keys[:min(len(keys), getBatch)]
			keys = keys[len(some):]
			commands := make([]rueidis.Completed, len(some))
			for i, key := range some {
				commands[i] = r.client.B().Getrange().Key(key).Start(0).End(maxRecord).Build()
			}
			var results []rueidis.RedisResult
			err := r.bounded(ctx, func(ctx context.Context) error {
				results = r.client.DoMulti(ctx, commands...)
				return errors.Join(ctx.Err())
			})
			if err != nil {
				return err
			}
			for i, result := range results {
				raw := Raw{Name: some[i], Key: strings.TrimPrefix(some[i], r.plans)}
				text, err := result.ToString()
				_, refused := rueidis.IsRedisErr(err)
				switch {
				case refused:
					raw.Err = err // it is no string
				case err != nil:
					return fmt.Errorf("redis %s: %w", r.o.Address, err)
				case len(text) == 0:
					raw.Err = errors.New("gone, or empty")
				case len(text) > maxRecord:
					raw.Err = fmt.Errorf("over %d bytes, more than a plan may have", maxRecord)
				default:
					raw.Data = []byte(text)
				}
				n++
				if err := fn(raw, n); err != nil {
					return err
				}
			}
		}
		if cursor = entry.Cursor; cursor == 0 {
			return nil
		}
	}
}

func (r *Redis) bounded(ctx context.Context, call func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, r.o.Timeout)
	defer cancel()
	if err := call(ctx); err != nil {
		return fmt.Errorf("redis %s: %w", r.o.Address, err)
	}
	return nil
}

// escapeGlob has SCAN take a text for what it is.
func escapeGlob(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`).Replace(s)
}
