// This forsund has an action more: udp sends a datagram, for StatsD, syslog and the
// like. It is an example of a forsund with actions in Go, complete; everything else
// is as in forsund itself.
//
//	go build -o forsund-udp . && ./forsund-udp
//	forsun "set tick */5/0 * * * * * udp 'address=127.0.0.1:8125;data=tick:1|c'"
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/snower/forsun/cmd/forsund/daemon"
	"github.com/snower/forsun/scheduler"
)

func main() { os.Exit(daemon.Main(os.Args, "", daemon.Actions{"udp": udp{}})) }

// udp sends the parameter data to the parameter address, host:port.
type udp struct{}

var _ scheduler.Action = udp{}

// Check implements scheduler.Action.
func (udp) Check(params map[string]string) error {
	if _, _, err := net.SplitHostPort(params["address"]); err != nil {
		return &scheduler.FieldError{
			Kind: scheduler.ErrParams, Field: "params.address", Value: scheduler.Shorten(params["address"], 64), Allowed: "host:port",
		}
	}
	return nil
}

// Target implements scheduler.Action.
func (udp) Target(params map[string]string) string { return params["address"] }

// Timeout implements scheduler.Action.
func (udp) Timeout(map[string]string) time.Duration { return 5 * time.Second }

// Execute implements scheduler.Action. Nobody answers a datagram: it is a success once
// it is sent.
func (udp) Execute(ctx context.Context, f *scheduler.Firing) (scheduler.Output, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "udp", f.Plan.Params["address"])
	if err != nil {
		return nil, scheduler.Retryable(fmt.Errorf("udp: %w", err)) // a name that cannot be resolved now
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(f.Plan.Params["data"])); err != nil {
		return nil, scheduler.Retryable(fmt.Errorf("udp: %w", err)) // it was refused the last time
	}
	return nil, nil
}
