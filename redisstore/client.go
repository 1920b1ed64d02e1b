package redisstore

import (
	"context"
	"errors"
	"time"

	"github.com/redis/rueidis"

	"github.com/snower/forsun/scheduler"
)

const (
	// answerTimeout is how long a connection may be silent before it is given up: after
	// keepAlive without an answer the client library asks PING and waits so long.
	answerTimeout = 3 * time.Second
	keepAlive     = time.Second
	// topologyEvery is how often the nodes of a deployment are asked for, beside
	// when an answer shows that they changed.
	topologyEvery = 5 * time.Second
	topologyPause = 100 * time.Millisecond
	// maxRedirections bounds the MOVED and ASK that one command follows: nodes that
	// disagree about a slot would send it round until its context ends.
	maxRedirections = 16
	// tryAgainEvery is how soon a script is sent again that met a slot on its way to
	// another node.
	tryAgainEvery = 20 * time.Millisecond
	// durableConns bounds the connections that wait for a replica at a time.
	durableConns = 32
)

// client is the connection to Redis that everything goes through but the channel.
// It repairs two things about the library: a call that was waiting while another
// dialled would be told of that one's context, and TRYAGAIN (nothing was run, the
// slot is moving) would be an error.
type client struct {
	rueidis.Client
	cluster bool
}

func (c *client) Do(ctx context.Context, cmd rueidis.Completed) rueidis.RedisResult {
	if !c.cluster {
		if scheduler.Bug("resend") {
			cmd = cmd.Pin()
			if r := c.Client.Do(ctx, cmd); r.NonRedisError() == nil {
				return r
			}
		}
		return ownContext(ctx, c.Client.Do(ctx, cmd))
	}
	cmd = cmd.Pin() // to be sent again
	for {
		result := ownContext(ctx, c.Client.Do(ctx, cmd))
		if !isTryAgain(result.Error()) || sleep(ctx, tryAgainEvery) != nil {
			return result
		}
	}
}

func (c *client) DoMulti(ctx context.Context, cmds ...rueidis.Completed) []rueidis.RedisResult {
	if c.cluster {
		for i := range cmds {
			cmds[i] = cmds[i].Pin()
		}
	}
	results := c.Client.DoMulti(ctx, cmds...)
	for i := range results {
		results[i] = ownContext(ctx, results[i])
		if c.cluster && isTryAgain(results[i].Error()) {
			results[i] = c.Do(ctx, cmds[i])
		}
	}
	return results
}

// errDial stands for the end of another call's context.
var errDial = errors.New("no connection yet")

// ownContext tells the end of ctx from that of another call's, which dialed for both. The
// client reads the deadline itself, and may be a moment before ctx knows: a command that was
// sent is not to be taken for one that was not.
func ownContext(ctx context.Context, r rueidis.RedisResult) rueidis.RedisResult {
	deadline, ok := ctx.Deadline()
	ended := ctx.Err() != nil || ok && !time.Now().Before(deadline)
	if err := r.NonRedisError(); err != nil && isContext(err) && !ended {
		return rueidis.NewErrorResult(errDial)
	}
	return r
}

func isContext(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

func isTryAgain(err error) bool {
	e, ok := rueidis.IsRedisErr(err)
	return ok && e.IsTryAgain()
}

// clientOption is how to connect for commands.
func (o *Options) clientOption() rueidis.ClientOption {
	c := rueidis.ClientOption{
		InitAddress: append([]string(nil), o.Addresses...),
		TLSConfig:   o.TLS,
		Username:    o.Username,
		Password:    o.Password,
		SelectDB:    o.DB,
		ClientName:  "forsund:" + o.Replica,

		// A command is sent once: what is to be sent again only the caller knows.
		DisableRetry: true,
		DisableCache: true,
		// Without it the first command of a connection would hold its caller past the
		// end of its context.
		AlwaysPipelining: true,
		AlwaysRESP2:      o.resp2,

		RingScaleEachConn:   10,
		ReadBufferEachConn:  64 << 10,
		WriteBufferEachConn: 64 << 10,
		PipelineMultiplex:   -1, // one connection a node: two claims under way are to arrive as they were sent
		BlockingPoolSize:    durableConns,
		BlockingPoolCleanup: time.Minute,
		ConnWriteTimeout:    answerTimeout,

		ForceSingleClient: !o.Cluster && o.Sentinel.Master == "",
		ClusterOption:     rueidis.ClusterOption{ShardsRefreshInterval: topologyEvery, MaxMovedRedirections: maxRedirections},
	}
	c.Dialer.Timeout = o.DialTimeout
	c.Dialer.KeepAlive = keepAlive
	if o.Sentinel.Master != "" {
		c.Sentinel = rueidis.SentinelOption{
			Dialer:                  c.Dialer,
			TLSConfig:               o.Sentinel.TLS,
			MasterSet:               o.Sentinel.Master,
			Username:                o.Sentinel.Username,
			Password:                o.Sentinel.Password,
			ClientName:              c.ClientName,
			TopologyRefreshInterval: topologyEvery,
		}
		o.followSentinels(&c)
	}
	return c
}

// eventsOption is how to connect for the channel: one connection, which carries
// little.
func (o *Options) eventsOption() rueidis.ClientOption {
	c := o.clientOption()
	c.ClientName += ":events"
	c.RingScaleEachConn = 8
	c.ReadBufferEachConn, c.WriteBufferEachConn = 16<<10, 4<<10
	c.BlockingPoolSize = 1
	return c
}

// connect makes a client, or fails. The library returns some of its clients beside
// the error.
func connect(o rueidis.ClientOption) (rueidis.Client, error) {
	c, err := rueidis.NewClient(o)
	if err != nil {
		if c != nil {
			c.Close()
		}
		return nil, err
	}
	return c, nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
