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
		s: s, name: name, bar: progressBar(s.err, -1, "import", true, false),
		target: migrate.NewTarget(s.client, scheduler.RestoreOptions{Replace: values["--replace"] != ""}),
	}
	im.next = im.gather()
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

// importer stores the plans of a file. While the server stores some, the next are read: of
// a file of plain lines that is a good part of the work.
type importer struct {
	s      *session
	name   string // of the file, for messages
	bar    *progressbar.ProgressBar
	target *migrate.Target

	next *shipment // being gathered
	sent *shipment // on its way; nil: none

	begun int // line of the header of the export --ndjson that is read; 0: none
	count int // records since

	stored, there, fired, failed, reported int
}

// shipment is some lines of a file, stored together.
type shipment struct {
	s      *session
	target *migrate.Target

	batch   []numbered
	records []numberedPlan // lines of export --ndjson
	lines   []report

	stored, there, fired, failed int

	done chan struct{} // closed once err and all else is final
	err  error         // what ends the import
}

// numberedPlan is the record of a line.
type numberedPlan struct {
	line int
	plan *scheduler.Plan
}

// numbered is the plan of a line.
type numbered struct {
	line    int
	request scheduler.Request
}

// report says why a line is not stored, or not surely.
type report struct {
	line    int
	code    wire.Code
	message string
}

// read stores the plans of all lines. What is wrong with a line is reported; an
// error is what ended the import.
func (im *importer) read(ctx context.Context, r *bufio.Reader) error {
	for n := 1; ; n++ {
		text, err := readLine(r)
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
			im.next.lines = append(im.next.lines, report{n, wire.TooLarge, "the line is " + err.Error()})
		case err != nil:
			im.next.refuse(n, err, "; the import stops here")
			return im.finish(ctx)
		default:
			if kind := recordKind([]byte(text)); kind != "" {
				err = im.record(ctx, n, kind, []byte(strings.TrimSpace(text)))
			} else {
				var request scheduler.Request
				var ok bool
				if request, ok, err = parseImportLine(text); err == nil && ok {
					im.next.batch = append(im.next.batch, numbered{n, request})
				}
			}
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

// gather begins a shipment.
func (im *importer) gather() *shipment { return &shipment{s: im.s, target: im.target} }

// finish sends what is gathered and waits for all.
func (im *importer) finish(ctx context.Context) error {
	if err := im.send(ctx); err != nil {
		return err
	}
	return im.wait()
}

// send begins to store what is gathered, once what was sent before is stored: of two plans
// with one key the later one stays.
func (im *importer) send(ctx context.Context) error {
	if err := im.wait(); err != nil {
		return err
	}
	im.sent, im.next = im.next, im.gather()
	im.sent.done = make(chan struct{})
	go im.sent.run(ctx)
	return nil
}

// wait waits for what was sent and prints what is to be told about it, in the order of the
// lines.
func (im *importer) wait() error {
	sh := im.sent
	if sh == nil {
		return nil
	}
	<-sh.done
	im.sent = nil
	im.stored, im.there, im.fired, im.failed = im.stored+sh.stored, im.there+sh.there, im.fired+sh.fired, im.failed+sh.failed
	slices.SortStableFunc(sh.lines, func(a, b report) int { return a.line - b.line })
	if len(sh.lines) > 0 {
		im.bar.Clear()
	}
	for _, r := range sh.lines {
		if im.s.opts.Output == outputJSON {
			writeJSON(im.s.err, jsonError{Code: r.code, Message: r.message, Line: r.line})
		} else {
			fmt.Fprintf(im.s.err, "%s:%d: %s\n", im.name, r.line, withCode(r.code, r.message))
		}
	}
	im.reported += len(sh.lines)
	return sh.err
}

// record reads a line of export --ndjson.
func (im *importer) record(ctx context.Context, n int, kind string, text []byte) error {
	switch kind {
	case recordPlan:
		p, err := parsePlanRecord(text)
		im.count++
		if err == nil {
			im.next.records = append(im.next.records, numberedPlan{n, p})
		}
		return err
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
	r := scheduler.Request{Key: j.Key, Action: j.Action, Params: j.Params, Schedule: scheduler.Schedule{
		Kind: scheduler.Calendar, Second: j.Second, Minute: j.Minute, Hour: j.Hour, Day: j.Day, Month: j.Month, Week: j.Week,
	}}
	if j.IsTimeOut {
		r.Schedule.Kind, r.Schedule.Count = scheduler.Timeout, j.Count
	}
	return r, nil
}

// run stores all of it. Only meanwhile an interrupt is waited for: while nothing is sent it
// ends the process.
func (sh *shipment) run(ctx context.Context) {
	defer close(sh.done)
	ctx, stop := sh.s.process.Interrupt(ctx)
	defer stop()
	if sh.err = sh.store(ctx, sh.batch); sh.err == nil {
		sh.err = sh.restore(ctx)
	}
}

// store stores plans. The server refuses a request for one bad plan in it: then
// the halves are tried, down to the bad ones, so that all others are stored.
func (sh *shipment) store(ctx context.Context, batch []numbered) error {
	if len(batch) == 0 {
		return nil
	}
	requests := make([]scheduler.Request, len(batch))
	for i, b := range batch {
		requests[i] = b.request
	}
	results, err := sh.s.client.CreateMany(ctx, requests)
	for i, r := range results {
		if storedOf(r) {
			sh.stored++
		} else {
			sh.failed++
		}
		if r.Err != nil {
			sh.refuse(batch[i].line, r.Err, "")
		}
	}
	rest := batch[len(results):]
	switch {
	case err == nil:
		return nil
	case !planError(err):
		sh.refuse(rest[0].line, err, "; the import stops here")
		return err
	case len(rest) == 1:
		sh.failed++
		sh.refuse(rest[0].line, err, "")
		return nil
	}
	half := len(rest) / 2
	if err := sh.store(ctx, rest[:half]); err != nil {
		return err
	}
	return sh.store(ctx, rest[half:])
}

// restore stores records.
func (sh *shipment) restore(ctx context.Context) error {
	plans := make([]*scheduler.Plan, len(sh.records))
	for i, r := range sh.records {
		plans[i] = r.plan
	}
	answers, err := sh.target.Store(ctx, plans)
	var stop error
	for i, a := range answers {
		n := sh.records[i].line
		switch a.State {
		case migrate.Stored:
			sh.stored++
		case migrate.Exists:
			sh.there++
		case migrate.Fired:
			sh.fired++
		case migrate.Refused:
			sh.failed++
			if !planError(a.Err) {
				stop = a.Err
			}
		default: // no answer
			sh.refuse(n, err, "; the import stops here: it may be run again")
			return err
		}
		if a.Err != nil {
			sh.refuse(n, a.Err, "")
		}
	}
	if err == nil {
		err = stop // the store's: it would say the same to all that follow
	}
	return err
}

// refuse notes why a line is not stored, or not surely.
func (sh *shipment) refuse(n int, err error, more string) {
	code, message := sh.s.describe(err)
	sh.lines = append(sh.lines, report{n, code, message + more})
}
