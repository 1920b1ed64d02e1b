package ledger

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

// List is a list of a Redis that firings add themselves to: see RedisPlan. That Redis
// keeps a call before it answers, with the time.
type List struct {
	Addr string // "127.0.0.1:port"

	client rueidis.Client
	mu     sync.Mutex
	book   Book
}

const (
	listKey = "receipts"
	// listCommand adds the time in microseconds and what else there is, in one step.
	listCommand = `EVAL "local t = redis.call('TIME') ` +
		`return redis.call('RPUSH', KEYS[1], t[1] .. string.format('%06d', t[2]) .. ' ' .. table.concat(ARGV, ' '))" ` +
		`1 ` + listKey + ` ${firing.id} ${firing.due} ${firing.attempt} `
	// listPage is how many receipts are read at a time.
	listPage = 10_000
)

// NewList is the list of a Redis. Close it.
func NewList(addr string) (*List, error) {
	client, err := newRedis(addr)
	if err != nil {
		return nil, err
	}
	return &List{Addr: addr, client: client}, nil
}

// newRedis connects to a Redis, frugally.
func newRedis(addr string) (rueidis.Client, error) {
	return rueidis.NewClient(rueidis.ClientOption{
		InitAddress: []string{addr}, ForceSingleClient: true, DisableCache: true, DisableRetry: true, AlwaysRESP2: true,
		ReadBufferEachConn: 64 << 10, WriteBufferEachConn: 16 << 10, RingScaleEachConn: 6, PipelineMultiplex: -1,
	})
}

// Receipts returns the calls in the order they came.
func (l *List) Receipts(ctx context.Context) ([]Receipt, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		n := len(l.book.receipts)
		lines, err := l.client.Do(ctx, l.client.B().Lrange().Key(listKey).Start(int64(n)).Stop(int64(n+listPage-1)).Build()).AsStrSlice()
		if err != nil {
			return nil, fmt.Errorf("read the receipts of %s: %w", l.Addr, err)
		}
		for _, line := range lines {
			r, err := listReceipt(line)
			if err != nil {
				return nil, err
			}
			l.book.add(r)
		}
		if len(lines) < listPage {
			return l.book.Receipts(), nil
		}
	}
}

// listReceipt reads one line of the list.
func listReceipt(line string) (*Receipt, error) {
	fields := strings.SplitN(line, " ", 5)
	if len(fields) != 5 {
		return nil, fmt.Errorf("receipt %q has %d fields, want 5", line, len(fields))
	}
	var numbers [3]int64
	for i, field := range []string{fields[0], fields[2], fields[3]} {
		var err error
		if numbers[i], err = strconv.ParseInt(field, 10, 64); err != nil {
			return nil, fmt.Errorf("receipt %q: %w", line, err)
		}
	}
	at := time.UnixMicro(numbers[0])
	return &Receipt{Firing: fields[1], Key: fields[4], Due: numbers[1], Attempt: int(numbers[2]), At: at, Done: at}, nil
}

// Save writes what was read to a file, as a sink does.
func (l *List) Save(path string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b strings.Builder
	for i, r := range l.book.receipts {
		b.WriteString(callLine(r) + doneLine(i, r.Done))
	}
	return os.WriteFile(path, []byte(b.String()), 0o600)
}

// Close ends the connection.
func (l *List) Close() { l.client.Close() }
