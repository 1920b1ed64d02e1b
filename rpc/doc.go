// Package rpc is how clients reach forsun: a Thrift server, an HTTP server, and
// what both say about this process. All requests end in one
// scheduler.Service, which checks them before anything is stored.
//
// # Thrift
//
// One port takes unframed and framed binary, unframed and framed compact, and
// THeader; a connection keeps the form of its first message. The messages of
// the interface's first years are answered byte for byte as ever (forsun.thrift
// says which they are); newer methods are appended.
//
// The server does its own accepting and dispatching, because the library's
// takes no defaults for absent arguments, has no bound on connections or
// unframed messages, and ends with the process when a handler panics. What a
// client can cost is bounded:
//
//   - a message: Options.MaxMessage bytes, as sent and as unpacked, and 1000
//     elements in any list or map, checked before anything is allocated;
//   - messages over 16 KiB, and answers of over 1000 plans: a fixed number at a
//     time, the others wait;
//   - time: a message that has begun must arrive within Options.MessageTimeout,
//     and a client must take some of its answer every Options.WriteTimeout.
//     Between messages a connection may stay idle for as long as it likes;
//   - connections: at Options.MaxConns the one that has been idle longest is
//     closed for a new one; failing that, the one that has been sending its
//     message longest; failing that, the new one.
//
// Calls may come before others are answered. Answers keep the order of the calls, and calls
// are made one after the other; but creates of different keys that have come whole are
// stored together, since each would else wait for the disk, or for Redis, by itself.
//
// # HTTP
//
// The paths under /v1 answer with status 200 and an envelope of errcode, errmsg
// and data; other statuses are about HTTP itself. See NewHTTPServer.
//
// # Who may come in, and do what
//
// A gate stands before either server. It reads the PROXY protocol, from
// Options.TrustedProxies only; does the TLS handshake, if there is TLS; and closes
// connections of peers that have no way to be let in. What it has to wait for is
// bounded in time and number, and so are peers that have yet to show a token: none
// of them displaces one that is let in.
//
// Let in as they are: peers on loopback always; peers on private networks unless
// Options.AllowCIDR says which others instead; and who shows a certificate that
// Options.TLS takes. Others show one of Options.Tokens: with each request over
// HTTP, by the method auth over Thrift. A token decides what its peer may do,
// wherever that comes from; a trusted proxy that does not say whom it speaks for
// may do next to nothing without one. What each method and endpoint takes is one
// table, permissions. Tokens and certificates are looked at with every request, so
// that one that was withdrawn ends on connections that are open.
//
// Who a peer is travels in the request's context (scheduler.WithPeer): the Service
// sees to the limits of tokens on keys and actions, and to who may create shell
// plans. Every change is told to Options.Audit.
package rpc
