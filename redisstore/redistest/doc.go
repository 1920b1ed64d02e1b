// Package redistest starts throwaway Redis for tests: real servers, on free
// ports of 127.0.0.1, with directories of their own, gone with the test even if
// it is killed. A server that is not installed fails the test.
//
//   - Start: a standalone server. Stop, Kill, Restart, Pause and Resume do to it
//     what happens to servers.
//   - StartCluster: a Redis Cluster, whose slots can be moved and whose masters
//     can be failed over.
//   - StartReplica: a replica of a server; CutReplication parts them.
//   - StartSentinel: a master, replicas, and the sentinels that replace it.
//   - StartTLS: a server with TLS, and certificates for both sides.
//   - StartWithClock: a server whose wall clock is stepped.
//   - NewProxy: a network in front of a server that cuts, swallows, holds, delays
//     and slices, and loses the reply to a chosen request.
//   - Do, Try, Conn and CLI speak to them without a client library.
//
// It is no part of the product: only tests import it. Methods that fail a test
// are for the test's goroutine, and one Server or Cluster is for one goroutine at
// a time; a Proxy, Try, Conn and the address of a server are for all.
package redistest
