package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/snower/forsun/cmd/forsun/migrate"
	"github.com/snower/forsun/rpc/client"
	"github.com/snower/forsun/rpc/wire"
	"github.com/snower/forsun/scheduler"
	"github.com/snower/forsun/scheduler/line"
)

// importBatch is how many plans one request stores.
const importBatch = 1000

// errReported is a failure of which all is told already.
var errReported = errors.New("some lines were not stored")

func runImport(ctx context.Context, s *session, args []string) error {
	values, words, err := options("import", args, "--replace")
	if err != nil {
		return err
	}
	name, err := only(words, "import", "FILE")
	if err != nil {
		return err
	}
	im := &importer{
		s: s, name: name, bar: progressBar(s.err, -1, "import", true, false), next: new(shipment),
		target: migrate.NewTarget(s.client, scheduler.RestoreOptions{Replace: values["--replace"] != ""}),
	}
	r := s.in
	if name == "-" {
		if s.onTerminal && len(s.opts.Words) == 0 {
			return wrongArgs("import", "- is standard input, from which the prompt reads; allowed here: a file")
		}
		im.name = "<stdin>"
	} else {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		r = bufio.NewReaderSize(f, 64<<10)
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() && isTerminal(s.err) {
			im.bar = progressBar(s.err, info.Size(), "import", true, true)
		}
	}
	err = im.read(ctx, r)
	im.close()
	im.bar.Clear()
	if s.opts.Output == outputJSON {
		writeJSON(s.out, importReport{Failed: im.failed, Stored: im.stored, There: im.there, Fired: im.fired})
	} else {
		text := fmt.Sprintf("%d stored", im.stored)
		if im.there > 0 {
			text += fmt.Sprintf(", %d already there", im.there)
		}
		if im.fired > 0 {
			text += fmt.Sprintf(", %d fired there already", im.fired)
		}
		fmt.Fprintf(s.out, "%s, %d failed\n", text, im.failed)
	}
	if im.reported > 0 {
		err = errors.Join(errReported, err)
	}
	return err
}

// importReport is what became of the plans of a file, with -o json.
type importReport struct {
	Failed int `json:"failed"`
	Stored int `json:"stored"`
	There  int `json:"already_there,omitempty"` // records whose key has a plan
	Fired  int `json:"already_fired,omitempty"` // records whose time has passed, and was fired there
}

// progressBar shows how much of something is done, in bytes of a file or in plans, if
// it is visible: on a terminal. Of size -1 it is not known how much there is.
func progressBar(w io.Writer, size int64, what string, inBytes, visible bool) *progressbar.ProgressBar {
	return progressbar.NewOptions64(size,
		progressbar.OptionSetVisibility(visible),
		progressbar.OptionSetWriter(w),
		progressbar.OptionSetDescription(what),
		progressbar.OptionShowBytes(inBytes),
		progressbar.OptionShowCount(),
		progressbar.OptionSetWidth(30),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionSetSpinnerChangeInterval(0), // which would take a goroutine
		progressbar.OptionClearOnFinish())
}

// importer stores the plans of a file. While the server stores some, the next are read.
type importer struct {
	s      *session
	name   string // of the file, for messages
	bar    *progressbar.ProgressBar
	target *migrate.Target

	next     *shipment   // being gathered
	underWay []*shipment // on their way, in the order of their lines
	lanes    []*lane     // those that no shipment has

	begun int // line of the header of the export --ndjson that is read; 0: none
	count int // records since

	stored, there, fired, failed, reported int
}

// read stores the plans of all lines. What is wrong with a line is reported; an
// error is what ended the import.
func (im *importer) read(ctx context.Context, r *bufio.Reader) error {
	for n := 1; ; n++ {
		text, err := readBytes(r)
		if errors.Is(err, io.EOF) {
			if im.begun > 0 {
				im.next.refuse(n, badRecord("end of the file", fmt.Sprintf("here, after %d plans", im.count),
					"after the end of the export: this file is not all of it"), "")
			}
			return im.finish(ctx)
		}
		im.bar.Add(len(text) + 1)
		switch {
		case errors.Is(err, errLineTooLong):
			im.next.failed++
			im.next.refuse(n, &client.Error{Code: wire.TooLarge, Message: "the line is " + err.Error()}, "")
		case err != nil:
			im.next.refuse(n, err, "; the import stops here")
			return im.finish(ctx)
		default:
			err = im.line(ctx, n, text)
			if err != nil {
				im.next.failed++
				im.next.refuse(n, err, "")
			}
		}
		if len(im.next.batch)+len(im.next.records)+len(im.next.lines) >= importBatch {
			if err := im.send(ctx); err != nil {
				return err
			}
		}
	}
}

// line reads a line.
func (im *importer) line(ctx context.Context, n int, text []byte) error {
	if r, ok := readPlain(text); ok && r.Forsun == recordPlan {
		p, err := r.plan()
		return im.plan(n, p, err)
	} else if ok {
		j := r.request()
		im.next.batch = append(im.next.batch, numbered{n, j.request()})
		return nil
	}
	if kind := recordKind(text); kind != "" {
		return im.record(ctx, n, kind, bytes.TrimSpace(text))
	}
	request, ok, err := parseImportLine(string(text))
	if err == nil && ok {
		im.next.batch = append(im.next.batch, numbered{n, request})
	}
	return err
}

// plan takes the plan of a record, or what is wrong with it.
func (im *importer) plan(n int, p *scheduler.Plan, err error) error {
	im.count++
	if err == nil {
		im.next.records = append(im.next.records, numberedPlan{n, p})
	}
	return err
}

// finish sends what is gathered and waits for all.
func (im *importer) finish(ctx context.Context) error {
	if err := im.send(ctx); err != nil {
		return err
	}
	return im.wait(len(im.underWay))
}

// maxUnderWay is how many shipments are stored at a time: the server reads one while it writes
// others, and one is there whenever one is done. With 4 it is some 5 % slower on Redis.
const maxUnderWay = 6

// send begins to store what is gathered, beside what is under way. Of two plans with one key
// the later one stays, or the earlier one if nothing is replaced: a shipment that has a key
// of another waits for it.
func (im *importer) send(ctx context.Context) error {
	for len(im.underWay) > 0 && im.underWay[0].isDone() {
		if err := im.wait(1); err != nil {
			return err
		}
	}
	sh := im.next
	im.next = new(shipment)
	sh.noteKeys()
	ahead := max(len(im.underWay)-maxUnderWay+1, 0) // are to be done before it
	for i, other := range im.underWay {
		if i >= ahead && other.shares(sh) {
			ahead = i + 1
		}
	}
	if err := im.wait(ahead); err != nil {
		return err
	}
	sh.lane = im.lane()
	sh.done = make(chan struct{})
	ctx, sh.stop = context.WithCancel(ctx)
	im.underWay = append(im.underWay, sh)
	go sh.run(ctx, im.s.process.Interrupt)
	return nil
}

// lane returns a connection that is free, which may be a new one.
func (im *importer) lane() *lane {
	if n := len(im.lanes); n > 0 {
		l := im.lanes[n-1]
		im.lanes = im.lanes[:n-1]
		return l
	}
	if len(im.underWay) == 0 {
		return &lane{im.s.client, im.target}
	}
	c := client.New(im.s.dialing)
	return &lane{c, im.target.Over(c)}
}

// wait waits for the first n of the shipments under way and prints what is to be told about
// them, in the order of the lines. After an error nothing is known of those that follow.
func (im *importer) wait(n int) error {
	for range n {
		sh := im.underWay[0]
		<-sh.done
		im.underWay = im.underWay[1:]
		sh.stop()
		im.lanes = append(im.lanes, sh.lane)
		im.tell(sh)
		if sh.err != nil {
			return sh.err
		}
	}
	return nil
}

// tell counts what became of a shipment and prints what is to be told about it.
func (im *importer) tell(sh *shipment) {
	im.stored, im.there, im.fired, im.failed = im.stored+sh.stored, im.there+sh.there, im.fired+sh.fired, im.failed+sh.failed
	slices.SortStableFunc(sh.lines, func(a, b report) int { return a.line - b.line })
	if len(sh.lines) > 0 {
		im.bar.Clear()
	}
	for _, r := range sh.lines {
		code, message := im.s.describe(r.err)
		message += r.more
		if im.s.opts.Output == outputJSON {
			writeJSON(im.s.err, jsonError{Code: code, Message: message, Line: r.line})
		} else {
			fmt.Fprintf(im.s.err, "%s:%d: %s\n", im.name, r.line, withCode(code, message))
		}
	}
	im.reported += len(sh.lines)
}

// close cuts off what is still under way, of which nothing is told, and closes the connections.
func (im *importer) close() {
	for _, sh := range im.underWay {
		sh.stop()
	}
	for _, sh := range im.underWay {
		<-sh.done
		im.lanes = append(im.lanes, sh.lane)
	}
	for _, l := range im.lanes {
		if l.client != im.s.client {
			l.client.Close()
		}
	}
}

// record reads a line of export --ndjson.
func (im *importer) record(ctx context.Context, n int, kind string, text []byte) error {
	switch kind {
	case recordPlan:
		p, err := parsePlanRecord(text)
		return im.plan(n, p, err)
	case recordHeader:
		var h headerRecord
		if err := parseRecord(text, &h); err != nil {
			return err
		}
		if h.Version != recordVersion {
			return badRecord("version", fmt.Sprint(h.Version), fmt.Sprintf("%d: this program knows no other", recordVersion))
		}
		im.begun, im.count = n, 0
		im.compareZone(ctx, h.Zone)
		return nil
	case recordEnd:
		var e endRecord
		if err := parseRecord(text, &e); err != nil {
			return err
		}
		begun := im.begun
		im.begun = 0
		if begun > 0 && e.Plans != im.count {
			return badRecord("plans", fmt.Sprintf("%d at the end of the export, %d in the file", e.Plans, im.count), "as many: lines are missing, or too many")
		}
		return nil
	}
	return badRecord("forsun", scheduler.Shorten(kind, 64), "export, plan, end")
}

// compareZone warns if calendars mean something else here.
func (im *importer) compareZone(ctx context.Context, zone string) {
	server, err := im.s.client.Time(ctx)
	if err == nil && server.Location().String() != zone {
		im.bar.Clear()
		fmt.Fprintf(im.s.err, "warning: these plans are from a forsund in the zone %s, this one is in %s: after their next time calendars without forsun.timezone come in %[2]s\n",
			printable(scheduler.Shorten(zone, 64)), server.Location())
	}
}

// parseImportLine reads the plan of a line. ok is false for one without.
func parseImportLine(text string) (r scheduler.Request, ok bool, err error) {
	trimmed := strings.TrimSpace(text)
	switch {
	case trimmed == "" || trimmed[0] == '#':
		return r, false, nil
	case trimmed[0] == '{':
		r, err = parseJSONRequest([]byte(trimmed))
		return r, true, err
	}
	commands := line.Words(text)
	switch len(commands) {
	case 0:
		return r, false, nil
	case 1:
	default:
		return r, false, &scheduler.FieldError{
			Kind: scheduler.ErrParams, Field: "line", Value: "a ; outside of quotes",
			Allowed: "one plan, its params in quotes: 'host=127.0.0.1;command=PING'",
		}
	}
	p, err := line.ParsePlan(commands[0])
	return request(p), true, err
}

// jsonRequest is a plan as import takes it and export writes it where a line of
// words cannot hold it: the names of the HTTP interface.
type jsonRequest struct {
	Key       string            `json:"key"`
	IsTimeOut bool              `json:"is_time_out"`
	Second    int               `json:"second"`
	Minute    int               `json:"minute"`
	Hour      int               `json:"hour"`
	Day       int               `json:"day"`
	Month     int               `json:"month"`
	Week      int               `json:"week"`
	Count     int               `json:"count"`
	Action    string            `json:"action"`
	Params    map[string]string `json:"params"`
}

// parseJSONRequest reads a plan; names it does not know, such as those of a plan
// that ls shows, mean nothing.
func parseJSONRequest(text []byte) (scheduler.Request, error) {
	j := jsonRequest{
		Second: scheduler.Any, Minute: scheduler.Any, Hour: scheduler.Any,
		Day: scheduler.Any, Month: scheduler.Any, Week: scheduler.Any, Count: 1,
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	err := dec.Decode(&j)
	if err == nil && dec.More() {
		err = errors.New("text after the object")
	}
	if err != nil {
		return scheduler.Request{}, &scheduler.FieldError{
			Kind: scheduler.ErrField, Field: "line", Value: err.Error(), Allowed: "a JSON object as export -o json writes it, or a line as set takes it",
		}
	}
	return j.request(), nil
}

// request returns the request that j is.
func (j *jsonRequest) request() scheduler.Request {
	r := scheduler.Request{Key: j.Key, Action: j.Action, Params: j.Params, Schedule: scheduler.Schedule{
		Kind: scheduler.Calendar, Second: j.Second, Minute: j.Minute, Hour: j.Hour, Day: j.Day, Month: j.Month, Week: j.Week,
	}}
	if j.IsTimeOut {
		r.Schedule.Kind, r.Schedule.Count = scheduler.Timeout, j.Count
	}
	return r
}
