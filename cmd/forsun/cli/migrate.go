package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/snower/forsun/cmd/forsun/migrate"
	"github.com/snower/forsun/cmd/redisflags"
	"github.com/snower/forsun/scheduler"
	"github.com/snower/forsun/scheduler/line"
)

// migrateOptions are the options of migrate, as options takes them.
func migrateOptions() []string {
	names := []string{
		"--apply", "--replace", "--accept-damage", "--while-running",
		"--host-timezone=", "--samples=", "--past-due=", "--redis-prefix=", "--redis-server-id=",
	}
	for _, f := range redisFlags() {
		name := "--" + strings.TrimPrefix(f.Name, "driver-")
		if f.Value != "" {
			name += "="
		}
		names = append(names, name)
	}
	return names
}

// redisFlags are the flags that say where a Redis is.
func redisFlags() (some []redisflags.Flag) {
	for _, f := range redisflags.Flags() {
		name := strings.TrimPrefix(f.Name, "driver-")
		if slices.Contains([]string{"redis-host", "redis-port", "redis-db", "redis-user", "redis-password", "redis-password-file"}, name) || strings.HasPrefix(name, "redis-tls") {
			some = append(some, f)
		}
	}
	return some
}

func runMigrate(ctx context.Context, s *session, args []string) error {
	values, words, err := options("migrate", args, migrateOptions()...)
	if err != nil {
		return err
	}
	m := &migration{s: s, apply: values["--apply"] != "", replace: values["--replace"] != ""}
	if err := m.set(values); err != nil {
		return err
	}
	if m.o.Now, err = s.client.Time(ctx); err != nil {
		return err
	}
	if m.src, err = m.open(ctx, values, words); err != nil {
		return err
	}
	defer m.src.Close()
	return m.run(ctx, values)
}

// migration is one run of migrate.
type migration struct {
	s              *session
	src            migrate.Source
	o              migrate.Options
	apply, replace bool
}

func (m *migration) set(values map[string]string) (err error) {
	m.o = migrate.Options{Host: time.UTC, Samples: 5}
	if name, ok := values["--host-timezone"]; ok {
		if m.o.Host, err = scheduler.LoadZone("--host-timezone", name); err != nil {
			return err
		}
	}
	if text, ok := values["--samples"]; ok {
		if m.o.Samples, err = strconv.Atoi(text); err != nil || m.o.Samples < 0 || m.o.Samples > 100 {
			return wrongArgs("migrate", "--samples: %q is not allowed; allowed: 0 to 100", text)
		}
	}
	switch values["--past-due"] {
	case "", "fire":
	case "skip":
		m.o.SkipDue = true
	default:
		return wrongArgs("migrate", "--past-due: %q is not allowed; allowed: fire, skip", values["--past-due"])
	}
	return nil
}

// open opens what is to be read: the dump file that is named, or Redis.
func (m *migration) open(ctx context.Context, values map[string]string, words []string) (migrate.Source, error) {
	redis := false
	for name := range values {
		redis = redis || strings.HasPrefix(name, "--redis-")
	}
	switch {
	case len(words) > 1:
		return nil, wrongArgs("migrate", "%d words, one is allowed: the dump file", len(words))
	case len(words) == 1 && redis:
		return nil, wrongArgs("migrate", "a dump file and Redis: give one of the two")
	case len(words) == 1:
		dump, err := migrate.OpenDump(ctx, words[0])
		if err != nil {
			return nil, err // not in an interface that is not nil
		}
		return dump, nil
	case !redis:
		return nil, wrongArgs("migrate", "what is to be read is missing: a dump file, or --redis-host and the like")
	}
	var r redisflags.Redis
	for _, f := range redisFlags() {
		name := "--" + strings.TrimPrefix(f.Name, "driver-")
		value, given := values[name]
		if !given && f.Fallback == "" {
			continue
		}
		if !given {
			value = f.Fallback
		}
		if err := f.Set(&r, value); err != nil {
			return nil, wrongArgs("migrate", "%s: %v", name, err)
		}
	}
	o := migrate.RedisOptions{Prefix: "forsun", ServerID: "0", Timeout: m.s.opts.Timeout}
	for name, place := range map[string]*string{"--redis-prefix": &o.Prefix, "--redis-server-id": &o.ServerID} {
		if value, ok := values[name]; ok {
			if *place = value; value == "" {
				return nil, wrongArgs("migrate", "%s is empty", name)
			}
		}
	}
	if err := r.SetPrefix("migrate"); err != nil { // of no meaning here, but checked
		return nil, err
	}
	ro, err := r.Options()
	if bad := (*redisflags.Error)(nil); errors.As(err, &bad) {
		return nil, wrongArgs("migrate", "--%s: %s", strings.TrimPrefix(bad.Flag, "driver-"), strings.ReplaceAll(bad.Reason, "--driver-redis-", "--redis-"))
	} else if err != nil {
		return nil, err
	}
	o.Address, o.DB, o.Username, o.Password, o.TLS = ro.Addresses[0], ro.DB, ro.Username, ro.Password, ro.TLS
	return migrate.OpenRedis(ctx, o)
}

// run looks first, and then, if that is wished, stores.
func (m *migration) run(ctx context.Context, values map[string]string) error {
	s := m.s
	if offset, differs := migrate.HostHint(m.src, m.o.Host); differs {
		m.warn(fmt.Sprintf("the Python forsun's host seems to have been at UTC%s: if so, all times are wrong by the difference; see --host-timezone",
			time.Unix(0, 0).In(time.FixedZone("", int(offset))).Format("-07:00")))
	}
	running := migrate.Running(m.src, m.o.Host, m.o.Now.Unix())
	if running {
		m.warn("the Python forsun still runs: plans that are migrated fire there, too; stop it first")
	}
	if err := m.src.Damage(); err != nil {
		m.warn(err.Error())
	}
	refused := func() error {
		switch {
		case running && values["--while-running"] == "":
			return errors.New("nothing was stored: the Python forsun still runs; stop it first, or give --while-running")
		case m.src.Damage() != nil && values["--accept-damage"] == "":
			return errors.New("nothing was stored: the file is damaged; --accept-damage stores what can be read of it")
		}
		return nil
	}
	if !m.apply {
		report, err := m.pass(ctx, true, "look")
		if err != nil {
			return err
		}
		asked := s.onTerminal && len(s.opts.Words) > 0 && s.opts.Output != outputJSON && report.Migrated > 0 && refused() == nil
		if !asked {
			if s.opts.Output != outputJSON {
				fmt.Fprintln(s.out, "nothing was stored: this was a dry run; --apply stores the plans")
			}
			return m.end()
		}
		fmt.Fprintf(s.out, "store these %d plans at %s? yes or no: ", report.Migrated, s.client.Address())
		s.out.Flush()
		answer, err := readLine(s.in)
		if err != nil || strings.TrimSpace(answer) != "yes" {
			fmt.Fprintln(s.out, "nothing was stored")
			return m.end()
		}
		m.o.Samples = 0
	}
	if err := refused(); err != nil {
		return err
	}
	if _, err := m.pass(ctx, false, "migrate"); err != nil {
		return err
	}
	return m.end()
}

func (m *migration) end() error {
	if m.src.Damage() != nil {
		return errReported
	}
	return nil
}

func (m *migration) warn(text string) {
	fmt.Fprintln(m.s.err, "warning:", printable(text))
}

// pass reads all plans, and stores them, or only looks.
func (m *migration) pass(ctx context.Context, dry bool, what string) (*migrate.Report, error) {
	s := m.s
	bar := progressBar(s.err, m.src.Size(), what, m.src.Size() >= 0, isTerminal(s.err))
	target := migrate.NewTarget(s.client, scheduler.RestoreOptions{Replace: m.replace, CheckOnly: dry})
	var printing error
	report, err := migrate.Run(ctx, m.src, target, m.o, func(item migrate.Item) {
		bar.Clear()
		if perr := m.show(item); printing == nil {
			printing = perr
		}
	}, func(at int64) { bar.Set64(at) })
	bar.Clear()
	if err = errors.Join(err, printing); report == nil {
		return nil, err
	}
	return report, errors.Join(err, m.print(report, dry))
}

// show prints a plan that there is something to say about.
func (m *migration) show(item migrate.Item) error {
	s := m.s
	name := item.Key
	if name == "" {
		name = item.Name
	}
	name = printable(scheduler.Shorten(name, 200))
	if s.opts.Output == outputJSON {
		j := struct {
			migrate.Item
			NextTime int64 `json:"next_time,omitempty"`
		}{Item: item}
		if item.State == migrate.Stored {
			j.NextTime = item.After.Due
		}
		return writeJSON(s.out, j)
	}
	var err error
	switch item.State {
	case migrate.Exists:
		_, err = fmt.Fprintf(s.out, "there    %s: there is a plan of this key; it is left (--replace would replace it)\n", name)
	case migrate.Fired:
		_, err = fmt.Fprintf(s.out, "fired    %s: %s\n", name, item.Reason)
	case migrate.Refused:
		_, err = fmt.Fprintf(s.out, "left out %s: %s\n", name, printable(item.Reason))
	case migrate.Stored:
		for _, note := range item.Notes {
			fmt.Fprintf(s.out, "odd      %s: %s\n", name, printable(note))
		}
		if item.Sample {
			err = m.sample(item)
		}
	}
	return err
}

// sample shows a plan before and after.
func (m *migration) sample(item migrate.Item) error {
	b, p := item.Before, item.After
	fmt.Fprintf(m.s.out, "sample   before: next_time=%v count=%v current_count=%v last_timeout=%v is_time_out=%v second..week=%v %v %v %v %v %v\n",
		b["next_time"], b["count"], b["current_count"], b["last_timeout"], b["is_time_out"], b["second"], b["minute"], b["hour"], b["day"], b["month"], b["week"])
	zone := p.Zone(m.o.Now.Location())
	var then []string
	left := p.Schedule.Count - p.Fired
	for due, n := p.Due, 1; n < 3 && (p.Schedule.Kind == scheduler.Calendar || p.Schedule.Count == 0 || n < left); n++ {
		next, ok := p.Schedule.Next(due, zone)
		if !ok {
			break
		}
		then, due = append(then, m.s.clock(next)), next
	}
	after := ""
	if len(then) > 0 {
		after = ", then " + strings.Join(then, ", ")
	}
	units := line.FormatUnits(p.Schedule)
	_, err := fmt.Fprintf(m.s.out, "         after:  %s %s %s; fired %d; next %s%s\n", printable(line.Quote(p.Key)),
		strings.Join(units[:], " "), printable(line.Quote(p.Action)), p.Fired, m.s.clock(p.Due), printable(after))
	return err
}

// print prints a report.
func (m *migration) print(r *migrate.Report, dry bool) error {
	s := m.s
	if s.opts.Output == outputJSON {
		return writeJSON(s.out, struct {
			Dry bool `json:"dry_run"`
			*migrate.Report
		}{dry, r})
	}
	would := "migrated"
	if dry {
		would = "would be migrated"
	}
	fmt.Fprintf(s.out, "%d read: %d %s (%d of them odd), %d already there, %d fired there already, %d left out\n", r.Read, r.Migrated, would, r.Odd, r.There, r.Fired, r.Left)
	if _, redis := m.src.(*migrate.Redis); redis && r.Read == 0 {
		fmt.Fprintln(s.out, "  there is nothing of a Python forsun: are --redis-db, --redis-prefix and --redis-server-id right?")
	}
	for _, name := range slices.Sorted(maps.Keys(r.Actions)) {
		fmt.Fprintf(s.out, "  %s %s: %d\n", would, printable(scheduler.Shorten(name, 64)), r.Actions[name])
	}
	for _, name := range slices.Sorted(maps.Keys(r.Reasons)) {
		fmt.Fprintf(s.out, "  left out, %s: %d\n", printable(name), r.Reasons[name])
	}
	if r.Earliest != 0 {
		fmt.Fprintf(s.out, "  first due: %s\n", s.clock(r.Earliest))
	}
	return nil
}
