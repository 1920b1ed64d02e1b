// Package actions holds what a firing can do: run a shell command, call a URL,
// send Redis commands, call a Thrift service, put a beanstalk job, execute SQL.
//
// Each action is one file of one shape: its parameters, parsed and checked when
// a plan is created; a constructor with an options struct; Execute; and a
// function that says which failures are worth another attempt. Parameters an
// action does not know are accepted and ignored, because clients send them; a
// parameter that is empty counts as not given, unless its comment says
// otherwise; numbers arrive as decimal text.
//
// Guarantees: Execute returns soon after its context is done, whatever the peer
// does. No error and no output holds a secret of the parameters (see
// scheduler.Secrets). Nothing is connected to that Egress refuses. Connections are kept per target and closed when idle.
//
// Not guaranteed: that a failed attempt had no effect. A peer that broke the
// connection after the request was sent may have acted on it; the retry comes
// under the same firing id.
package actions
