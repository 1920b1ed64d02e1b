package ledger

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sync/atomic"
	"time"
)

// Client asks a fleet of replicas for plans, and keeps the journal of it. What one
// replica does not answer is asked of the next.
type Client struct {
	Journal *Journal
	// Bases returns the addresses of the replicas that are up, "http://host:port".
	Bases func() []string

	turn atomic.Int64
	http http.Client
}

// BulkSize is how many plans one request carries at most.
const BulkSize = 500

const (
	// requestTimeout bounds one request: what comes later is as good as lost.
	requestTimeout = 10 * time.Second
	// retryPause is kept between tries.
	retryPause = 50 * time.Millisecond
)

// reply is the envelope of every answer.
type reply struct {
	Code    int             `json:"errcode"`
	Message string          `json:"errmsg"`
	Data    json.RawMessage `json:"data"`
}

// stored is a plan in an answer, or why it was not stored.
type stored struct {
	Key     string `json:"key"`
	NextDue int64  `json:"next_time"`
	Code    int    `json:"errcode"`
	Message string `json:"errmsg"`
}

// codeUnsure is the code of a write that may have had its effect.
const (
	codeUnsure   = 1011
	codeNotFound = 1003
)

// codesForGood say what is wrong with a plan itself: its time has passed, or its form.
var codesForGood = []int{1002, 1006, 1007, 1008, 1009}

// Create stores plans, at most BulkSize in a request. What is refused for now, or not
// answered, is sent again until ctx ends.
func (c *Client) Create(ctx context.Context, plans ...Plan) error {
	for len(plans) > 0 {
		n := min(len(plans), BulkSize)
		if err := c.createBatch(ctx, plans[:n]); err != nil {
			return err
		}
		plans = plans[n:]
	}
	return nil
}

func (c *Client) createBatch(ctx context.Context, plans []Plan) error {
	for {
		events := make([]*Event, len(plans))
		bodies := make([]map[string]any, len(plans))
		for i := range plans {
			events[i] = &Event{Key: plans[i].Key, Spec: &plans[i].Spec}
			bodies[i] = plans[i].body()
		}
		body, err := json.Marshal(bodies)
		if err != nil {
			return err
		}
		c.Journal.Sending(events...)
		answers, err := c.create(ctx, body, len(plans))
		var again []Plan
		var forGood error
		last, results := err, make([]Answer, len(plans))
		for i, e := range events {
			results[i].Event = e
			switch {
			case err != nil, answers[i].Code == codeUnsure:
				again = append(again, plans[i]) // stays Unknown
			case answers[i].Code != 0:
				last = fmt.Errorf("%s: %d %s", answers[i].Key, answers[i].Code, answers[i].Message)
				if slices.Contains(codesForGood, answers[i].Code) {
					forGood = last
				}
				results[i].Result, results[i].Code = Refused, answers[i].Code
				again = append(again, plans[i])
			default:
				results[i].Result, results[i].Due = Done, answers[i].NextDue
			}
		}
		c.Journal.Answered(results...)
		if len(again) == 0 || forGood != nil {
			return forGood
		}
		plans = again
		select {
		case <-ctx.Done():
			return fmt.Errorf("create of %d plans: %w; the last answer: %w", len(plans), ctx.Err(), last)
		case <-time.After(retryPause):
		}
	}
}

// create sends plans and returns an answer for each. An error: it is not known
// what became of any.
func (c *Client) create(ctx context.Context, body []byte, n int) ([]stored, error) {
	answer, err := c.do(ctx, http.MethodPut, "/v1/plan", body)
	if err != nil {
		return nil, err
	}
	all := make([]stored, n)
	if n == 1 {
		err = json.Unmarshal(answer.Data, &all[0])
		if answer.Code != 0 {
			all[0].Code, all[0].Message = answer.Code, answer.Message
		}
		return all, err
	}
	var list []stored
	if err := json.Unmarshal(answer.Data, &list); err != nil || len(list) != n {
		if answer.Code == 0 || answer.Code == codeUnsure {
			return nil, fmt.Errorf("answer to %d plans: %d %s, %d in the list: %w", n, answer.Code, answer.Message, len(list), err)
		}
		for i := range all { // refused as a whole
			all[i].Code, all[i].Message = answer.Code, answer.Message
		}
		return all, nil
	}
	return list, nil
}

// ErrNotFound is the answer to a remove of a plan that is not there.
var ErrNotFound = errors.New("no such plan")

// Remove removes a plan. It is asked again until it is answered, or ctx ends:
// after an answer that was lost "not found" counts as done.
func (c *Client) Remove(ctx context.Context, key string) error {
	for asked := false; ; asked = true {
		e := &Event{Key: key}
		c.Journal.Sending(e)
		answer, err := c.do(ctx, http.MethodDelete, "/v1/plan?key="+url.QueryEscape(key), nil)
		switch {
		case err != nil:
		case answer.Code == 0, answer.Code == codeNotFound && asked:
			c.Journal.Answered(Answer{Event: e, Result: Done})
			return nil
		case answer.Code == codeNotFound:
			c.Journal.Answered(Answer{Event: e, Result: Done})
			return ErrNotFound
		case answer.Code != codeUnsure:
			c.Journal.Answered(Answer{Event: e, Result: Refused, Code: answer.Code})
			err = fmt.Errorf("%d %s", answer.Code, answer.Message)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("remove of %s: %w; the last answer: %w", key, ctx.Err(), err)
		case <-time.After(retryPause):
		}
	}
}

// do sends a request to the replica whose turn it is.
func (c *Client) do(ctx context.Context, method, path string, body []byte) (answer reply, err error) {
	bases := c.Bases()
	if len(bases) == 0 {
		return answer, errors.New("no replica is up")
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	base := bases[int(c.turn.Add(1))%len(bases)]
	r, err := http.NewRequestWithContext(ctx, method, base+path, bytes.NewReader(body))
	if err != nil {
		return answer, err
	}
	r.GetBody = nil // or the library sends it again by itself, unseen by the journal
	response, err := c.http.Do(r)
	if err != nil {
		return answer, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return answer, err
	}
	if response.StatusCode != http.StatusOK {
		return answer, fmt.Errorf("status %s: %.200s", response.Status, text)
	}
	return answer, json.Unmarshal(text, &answer)
}

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }
