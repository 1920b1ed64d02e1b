package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/snower/forsun/scheduler"
)

func runInfo(ctx context.Context, s *session, args []string) error {
	if err := none(args, "info"); err != nil {
		return err
	}
	info, err := s.client.Info(ctx)
	if err != nil {
		return err
	}
	if s.opts.Output == outputJSON {
		return writeJSON(s.out, info)
	}
	sheet := s.sheet(column{title: "name"}, column{title: "value"})
	for _, name := range slices.Sorted(maps.Keys(info)) {
		if err := sheet.add(name, info[name]); err != nil {
			return err
		}
	}
	return sheet.flush()
}

func runShards(ctx context.Context, s *session, args []string) error {
	if err := none(args, "shards"); err != nil {
		return err
	}
	states, err := s.client.Shards(ctx)
	if err != nil {
		return err
	}
	sheet := s.sheet(
		column{title: "shard", right: true}, column{title: "leader", paint: vacantColor}, column{title: "term", right: true},
		column{title: "plans", right: true}, column{title: "queued"}, column{title: "running"},
		column{title: "retries", right: true}, column{title: "dead", right: true}, column{title: "quarantined", right: true},
		column{title: "overdue", right: true, paint: debtColor}, column{title: "oldest due"},
	)
	for _, state := range states {
		if s.opts.Output == outputJSON {
			if err := writeJSON(s.out, newJSONShard(state)); err != nil {
				return err
			}
			continue
		}
		oldest := "-"
		if state.OldestDue != 0 {
			oldest = s.clock(state.OldestDue)
		}
		leader := state.Leader
		if leader == "" {
			leader = vacant
		}
		n := func(v int64) string { return strconv.FormatInt(v, 10) }
		err := sheet.add(strconv.Itoa(state.Shard), leader, strconv.FormatUint(state.Term, 10), n(state.Plans),
			counts(state.Queued), counts(state.Running), n(state.Retries), n(state.Dead), n(state.Quarantined), n(state.Overdue), oldest)
		if err != nil {
			return err
		}
	}
	return sheet.flush()
}

// vacant stands for the leader of a shard that has none.
const vacant = "(none)"

func vacantColor(leader string) text.Colors {
	if leader == vacant {
		return text.Colors{text.FgRed}
	}
	return nil
}

func debtColor(n string) text.Colors {
	if n != "0" {
		return text.Colors{text.FgRed}
	}
	return nil
}

// counts writes the sum of counts by action, and of which actions it is.
func counts(by map[string]int64) string {
	var sum int64
	var parts []string
	for _, action := range slices.Sorted(maps.Keys(by)) {
		if n := by[action]; n != 0 {
			sum += n
			parts = append(parts, fmt.Sprintf("%s %d", action, n))
		}
	}
	if sum == 0 {
		return "0"
	}
	return fmt.Sprintf("%d (%s)", sum, strings.Join(parts, ", "))
}

// jsonShard is the state of a shard with -o json.
type jsonShard struct {
	Shard       int              `json:"shard"`
	Leader      string           `json:"leader"`
	Term        uint64           `json:"term"`
	Plans       int64            `json:"plans"`
	Overdue     int64            `json:"overdue"`
	OldestDue   int64            `json:"oldest_due"` // 0: none
	Queued      map[string]int64 `json:"queued"`     // by action: claimed, not taken
	Running     map[string]int64 `json:"running"`    // by action: taken, not finished
	Retries     int64            `json:"retries"`
	Dead        int64            `json:"dead"`
	Quarantined int64            `json:"quarantined"`
}

func newJSONShard(s scheduler.ShardState) jsonShard {
	j := jsonShard(s)
	if j.Queued == nil {
		j.Queued = map[string]int64{}
	}
	if j.Running == nil {
		j.Running = map[string]int64{}
	}
	return j
}

// runVersion prints both versions. That there is no server is no failure: the
// question about this program is answered.
func runVersion(ctx context.Context, s *session, args []string) error {
	if err := none(args, "version"); err != nil {
		return err
	}
	mine, server := version(s.process.Version), ""
	info, err := s.client.Info(ctx)
	if err == nil {
		server = info["forsun_version"]
	}
	if s.opts.Output == outputJSON {
		return writeJSON(s.out, map[string]string{"forsun": mine, "forsund": server})
	}
	fmt.Fprintln(s.out, "forsun", mine)
	if err != nil {
		_, why := s.describe(err)
		_, err = fmt.Fprintln(s.out, "forsund unknown:", why)
		return err
	}
	_, err = fmt.Fprintf(s.out, "forsund %s at %s\n", printable(server), s.client.Address())
	return err
}
