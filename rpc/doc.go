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
// # HTTP
//
// The paths under /v1 answer with status 200 and an envelope of errcode, errmsg
// and data; other statuses are about HTTP itself. See NewHTTPServer.
//
// # Who may come in
//
// Peers on loopback always; peers on private networks unless
// Options.AllowCIDR says which others instead. Who a peer is travels in the
// request's context (scheduler.WithPeer), and the Service decides what it may
// do.
package rpc
