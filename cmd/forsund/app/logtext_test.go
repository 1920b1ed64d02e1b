package app

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"
)

const auditLine = `{"level":"info","method":"restorePlans","peer":"127.0.0.1:41022","key":"order-1","action":"http","next_time":1795797120,` +
	`"time":"2026-11-24T00:25:50.123Z","message":"audit: plan created"}` + "\n"

func consoleOf(out io.Writer) zerolog.ConsoleWriter {
	return zerolog.ConsoleWriter{Out: out, NoColor: true, TimeFormat: "2006-01-02 15:04:05.000"}
}

// FuzzPlainText: a line is to the byte as the ConsoleWriter writes it.
func FuzzPlainText(f *testing.F) {
	const rest = `"time":"2026-11-24T00:25:50.123+08:00","message":"m"}` + "\n"
	for _, seed := range []string{
		auditLine, `{"level":"warn","a":"with \\ \" and blanks","z":-1.5e3,"error":"e","b":"","k\u0065y":"ü",` + rest,
		`{"level":"error","a":"1","a":2,` + rest, `{"level":"debug","params":{"a":1},"list":[1],"yes":true,"no":null,` + rest,
		`{"level":"x",` + rest, `{"level":"fatal","errors":"\u2028","error":1,"err":"\u007f",` + rest, `{` + rest, `{"level":"info","caller":"a.go:1",` + rest,
		`{"level":"info","message":"","time":"yesterday","Level":"a","":"b"}`, `{"time":1,"level":"info","time":"2026-11-24T00:25:50Z","message":"m\n"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		var want bytes.Buffer
		console := consoleOf(&want)
		got, ok := appendPlainText(nil, line, console.TimeFormat)
		if !ok {
			return
		}
		if _, err := console.Write(line); err != nil {
			t.Fatalf("%q is written, but: %v", line, err)
		}
		if !bytes.Equal(got, want.Bytes()) {
			t.Errorf("%q:\ngot  %q\nwant %q", line, got, want.Bytes())
		}
	})
}

// TestPlainText: lines of plans are written the short way, and what is not the other one.
func TestPlainText(t *testing.T) {
	t.Parallel()
	if _, ok := appendPlainText(nil, []byte(auditLine), "15:04"); !ok {
		t.Error("the line of a plan is left to the ConsoleWriter")
	}
	const other = `{"level":"debug","params":{"b":"2","a":"1"},"message":"m"}` + "\n"
	const twice = `{"level":"info","a":"1","a":2,"time":"2026-11-24T00:25:50.123Z","message":"m"}` + "\n"
	for _, lines := range []string{auditLine, other, twice, auditLine + other + auditLine + twice + auditLine} {
		var got, want bytes.Buffer
		n, err := plainText{consoleOf(&got)}.Write([]byte(lines))
		for line := range strings.Lines(lines) {
			if _, err := consoleOf(&want).Write([]byte(line)); err != nil {
				t.Fatal(err)
			}
		}
		if n != len(lines) || err != nil || got.String() != want.String() {
			t.Errorf("%s: %d, %v, %q; want %q", lines, n, err, got.String(), want.String())
		}
	}
}

// TestPlainTextKeepsOthers: a line that cannot be written for people costs no other line.
func TestPlainTextKeepsOthers(t *testing.T) {
	const good = `{"level":"info","time":"2026-11-24T00:25:50.123Z","message":"m"}` + "\n"
	const bad = `{"level":"info",` + "\n"
	var got bytes.Buffer
	plainText{consoleOf(&got)}.Write([]byte(good + bad + good + good))
	if n := strings.Count(got.String(), "\n"); n < 3 {
		t.Errorf("%d lines, want at least 3:\n%s", n, got.String())
	}
}

func BenchmarkPlainText(b *testing.B) {
	for _, row := range []struct {
		name string
		w    io.Writer
	}{{"ours", plainText{consoleOf(io.Discard)}}, {"ConsoleWriter", consoleOf(io.Discard)}} {
		b.Run(row.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				row.w.Write([]byte(auditLine))
			}
		})
	}
}

// TestLinesAtOnce: what the log writes to takes several lines as the log itself writes them.
func TestLinesAtOnce(t *testing.T) {
	t.Parallel()
	env := func(string) (string, bool) { return "", false }
	for _, format := range []logFormat{logText, logJSON, logAuto} {
		o := &Options{LogFormat: format, LogFile: filepath.Join(t.TempDir(), "log")}
		log, lines, file, err := openLog(o, os.Stderr, env)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { file.file.Close() })
		log.Info().Str("key", "one").Msg("m")
		var two bytes.Buffer
		both := log.Output(&two)
		both.Info().Str("key", "two").Msg("m")
		both.Info().Str("key", "three").Msg("m")
		if _, err := lines.Write(two.Bytes()); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(file.path)
		if err != nil {
			t.Fatal(err)
		}
		all := strings.Split(strings.TrimSpace(string(got)), "\n")
		if len(all) != 3 {
			t.Fatalf("%s: %q", format, got)
		}
		for i, key := range []string{"one", "two", "three"} {
			if strings.HasPrefix(all[i], "{") != (format != logText) || !strings.Contains(all[i], key) {
				t.Errorf("%s: line %d is %q", format, i, all[i])
			}
		}
	}
}
