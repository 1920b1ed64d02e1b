package app

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/rs/zerolog"
)

// openLog returns the logger that the options ask for: JSON lines to a file, or
// readable ones to stderr, in colour on a terminal. file is nil without a file.
func openLog(o *Options, stderr *os.File, env func(string) (string, bool)) (zerolog.Logger, *logFile, error) {
	if o.LogFile != "" {
		file := &logFile{path: o.LogFile}
		if err := file.Reopen(); err != nil {
			return zerolog.Nop(), nil, fmt.Errorf("log file: %w", err)
		}
		return newLogger(file, o.LogLevel), file, nil
	}
	noColor, _ := env("NO_COLOR")
	console := zerolog.ConsoleWriter{
		Out:        stderr,
		NoColor:    noColor != "" || !isTerminal(stderr),
		TimeFormat: "2006-01-02 15:04:05.000",
	}
	return newLogger(console, o.LogLevel), nil, nil
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

// logFile is a file that can be opened again under its name, after someone has
// moved it away.
type logFile struct {
	path string

	mu   sync.Mutex
	file *os.File
}

// Write appends a line.
func (l *logFile) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file.Write(line)
}

// Reopen opens the file by its name, making it if it is not there, and has a
// crash of this process written to it, too. If it cannot be opened, lines go on to
// where they went before.
func (l *logFile) Reopen() error {
	file, err := os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil {
		l.file.Close()
	}
	l.file = file
	// A daemon has no standard error to crash on.
	return debug.SetCrashOutput(file, debug.CrashOptions{})
}
