package scheduler

import "time"

// maxMissed bounds the number a collapsed firing reports: beyond it, "10,000 or
// more" says as much.
const maxMissed = 10_000

// NextClaim returns the claim for the plan's next firing, for a leader in the
// second now, and says what becomes of missed due seconds (misfires).
//
// A due second up to grace seconds ago is claimed as it is. Older ones collapse
// into one firing: it carries the newest of them and Missed, how many it stands
// for (itself included, counted up to 10,000), and the plan goes on with the
// first due second within the grace. A collapsed firing is one of a timeout's
// Count, so that the plan still fires Count times in all; it never stands for
// more due seconds than the plan had left.
//
// Claim.Next is 0 after the last firing. zone is the deployment's; a calendar
// with an option "forsun.timezone" uses that one.
func (p *Plan) NextClaim(now, grace int64, zone *time.Location) Claim {
	s := p.Schedule
	if s.Kind == Calendar {
		zone = p.Zone(zone)
	}
	c := Claim{Key: p.Key, Revision: p.Revision, Due: p.Due, FireDue: p.Due}
	newest := p.Due // the last due second that is settled by this claim
	if cut := now - grace; p.Due < cut {
		newest = s.Newest(cut, p.Due, zone)
		c.FireDue = newest
		c.Missed = s.CountDue(p.Due, cut, zone, maxMissed)
		if left := max(s.Count-p.Fired, 1); s.Kind == Timeout && s.Count > 0 && s.CountDue(p.Due, cut, zone, left) == left {
			c.FireDue = p.Due + int64(left-1)*s.Interval()
			c.Missed = min(c.Missed, left)
		}
	}
	if Bug("next-from-now") {
		newest = max(newest, now)
	}
	if s.Kind == Timeout && s.Count > 0 && p.Fired+1 >= s.Count {
		return c
	}
	if next, ok := s.Next(newest, zone); ok {
		c.Next = next
	}
	return c
}
