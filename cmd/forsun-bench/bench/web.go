package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// web is a connection to an HTTP server. It has the processors in common with what is
// measured, so it costs as little as a client can: a request is what all plans have in
// common between the keys, and of an answer it counts what tells whether they are stored.
type web struct {
	client    *http.Client
	url       string
	key, rest []byte // of a plan, before and after the number in its key
	answered  []byte // what a plan begins with in an answer, before that number
	body      []byte
	answer    bytes.Buffer
}

func (o *options) dialWeb(address string, params map[string]string) (*web, error) {
	key, err := json.Marshal(o.prefix)
	if err != nil {
		return nil, err
	}
	rest, err := json.Marshal(map[string]any{"action": o.action, "second": 30_000, "count": 1, "params": params})
	if err != nil {
		return nil, err
	}
	name := append([]byte(`{"key":`), key[:len(key)-1]...)
	return &web{
		client: &http.Client{Transport: &http.Transport{WriteBufferSize: 64 << 10, ReadBufferSize: 64 << 10}, Timeout: 30 * time.Second},
		url:    "http://" + address + "/v1/plan",
		key:    name, answered: name, rest: append([]byte(`",`), rest[1:]...),
	}, nil
}

func (w *web) make(ctx context.Context, from, n int) error {
	w.body = append(w.body[:0], '[')
	for i := from; i < from+n; i++ {
		w.body = append(w.body, w.key...)
		w.body = append(w.body, "0000000000"...)
		for at, rest := len(w.body)-1, i; rest > 0; at, rest = at-1, rest/10 {
			w.body[at] += byte(rest % 10)
		}
		w.body = append(append(w.body, w.rest...), ',')
	}
	w.body[len(w.body)-1] = ']'
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(w.body))
	if err != nil {
		return err
	}
	resp, err := w.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	w.answer.Reset()
	if _, err := w.answer.ReadFrom(resp.Body); err != nil {
		return err
	}
	return w.check(resp.StatusCode, n)
}

// check says whether an answer tells that n plans are stored: its code does, it shows as
// many plans of ours, and none of them has a code of its own.
func (w *web) check(status, n int) error {
	b := w.answer.Bytes()
	ok := status == http.StatusOK && bytes.HasPrefix(b, []byte(`{"errcode":0,`)) && bytes.Count(b, []byte(`"errcode":`)) == 1
	if got := bytes.Count(b, w.answered); !ok || got != n {
		return fmt.Errorf("%d plans were to be stored; the answer has status %d and shows %d: %q", n, status, got, b[:min(len(b), 300)])
	}
	return nil
}

func (w *web) close() error {
	w.client.CloseIdleConnections()
	return nil
}
