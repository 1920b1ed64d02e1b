package scheduler

import (
	"context"
	"slices"
)

// Glances looks at a deployment now and again and says what is not as it should be:
// what Service.Check does, without going through what is stored. One goroutine at a
// time may use it.
type Glances struct {
	s    *Service
	last *looked
}

// Glances returns a Glances that has not looked yet.
func (s *Service) Glances() *Glances { return &Glances{s: s} }

// Glance is what one look found.
type Glance struct {
	Shards   []ShardState // all of them, canaries included
	Findings []Finding    // the worst first; what may pass only if the last look saw it, too
}

// Next looks once more. Looks should be two seconds apart at least: a shard that had
// no leader at two of them is spoken of, for one.
func (g *Glances) Next(ctx context.Context) (Glance, error) {
	now, err := g.s.look(ctx)
	if err != nil {
		return Glance{}, err
	}
	found := judgeReplicas(now)
	if g.last != nil {
		found = append(found, judgeShards(*g.last, now)...)
	}
	g.last = &now
	slices.SortStableFunc(found, func(a, b Finding) int { return int(b.Severity) - int(a.Severity) })
	return Glance{Shards: now.shards, Findings: found[:min(len(found), maxFindings)]}, nil
}
