package app

import (
	"cmp"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/rs/zerolog"
)

// logFormat is the form of the log's lines.
type logFormat string

const (
	logAuto logFormat = "auto" // by where they go
	logJSON logFormat = "json"
	logText logFormat = "text"
)

// parseLogFormat reads one. A format of Python's logging cannot be followed: the
// fields of a line depend on what it says.
func parseLogFormat(s string) (logFormat, error) {
	if strings.Contains(s, "%(") {
		return "", fmt.Errorf("%q is a format of Python's logging, which forsund does not have; allowed: auto, json, text", s)
	}
	return oneOf(logAuto, logJSON, logText)(s)
}

// parseLogFile reads where the log goes.
func parseLogFile(s string) (string, error) {
	if s == "-" {
		return "", nil
	}
	return parsePath(s)
}

// openLog returns the logger that the options ask for. Text is in colour on a
// terminal. file is nil without a file; lines is what it writes to, nil if that does not
// take several lines at once.
func openLog(o *Options, stderr *os.File, env func(string) (string, bool)) (log zerolog.Logger, lines io.Writer, file *logFile, err error) {
	var out io.Writer = stderr
	format := cmp.Or(o.LogFormat, logAuto)
	if o.LogFile != "" {
		file = &logFile{path: o.LogFile, crashes: true, rotate: o.LogRotate, keep: o.LogBackups, now: time.Now}
		if err := file.Reopen(); err != nil {
			return zerolog.Nop(), nil, nil, fmt.Errorf("--log: %w", err)
		}
		out = file
	}
	if format == logJSON || format == logAuto && file != nil {
		return newLogger(out, o.LogLevel), out, file, nil
	}
	noColor, _ := env("NO_COLOR")
	console := zerolog.ConsoleWriter{
		Out:        out,
		NoColor:    noColor != "" || file != nil || !isTerminal(stderr),
		TimeFormat: "2006-01-02 15:04:05.000",
	}
	if console.NoColor {
		lines = plainText{console}
		return newLogger(lines, o.LogLevel), lines, file, nil
	}
	return newLogger(console, o.LogLevel), nil, file, nil
}

func newLogger(w io.Writer, level zerolog.Level) zerolog.Logger {
	return zerolog.New(w).Level(level).Hook(timestamp{})
}

// timestamp gives each line its time, with milliseconds: in a service that fires
// at the second, a log in whole seconds tells too little.
type timestamp struct{}

func (timestamp) Run(e *zerolog.Event, _ zerolog.Level, _ string) {
	e.Str(zerolog.TimestampFieldName, time.Now().Format("2006-01-02T15:04:05.000Z07:00"))
}

// routeSlog sends what libraries log through log/slog and package log to log.
func routeSlog(log zerolog.Logger) {
	slog.SetDefault(slog.New(zerolog.NewSlogHandler(log)))
}

func isTerminal(f *os.File) bool { return isatty.IsTerminal(f.Fd()) }
