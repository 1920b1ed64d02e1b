// Package admin is how a running forsund is watched: /metrics, /livez, /readyz and
// pprof, on a port of their own (--admin), and the two healths on the HTTP port,
// too. It only looks: nothing here can change what fires.
//
// /livez says that the process answers. /readyz is red only for what is this
// replica's own, and what another replica would do better: see
// scheduler.Health.Problems. What is wrong with the deployment stands in its body as
// notes, and turns no replica red: else one fault would take the whole fleet out of
// its load balancer.
package admin
