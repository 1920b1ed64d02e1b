package app

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// rotation says when a log file begins anew; the zero value: never.
type rotation struct {
	daily bool  // at midnight, in the machine's zone
	bytes int64 // when a line would make it longer; 0: whatever its length
}

// parseRotation reads DAY, or a size with a unit, as the Python forsun does.
func parseRotation(s string) (rotation, error) {
	if s == "" {
		return rotation{}, nil
	}
	if strings.EqualFold(s, "DAY") {
		return rotation{daily: true}, nil
	}
	units := map[byte]float64{'B': 1, 'K': 1 << 10, 'M': 1 << 20, 'G': 1 << 30}
	upper := strings.ToUpper(s)
	unit := units[upper[len(upper)-1]]
	n, err := strconv.ParseFloat(upper[:len(upper)-1], 64)
	if unit == 0 || err != nil || !(n*unit >= 1 && n*unit <= 1<<50) {
		return rotation{}, notAllowed(s, "DAY, or a size from 1B on, with its unit B, K, M or G: 100M")
	}
	return rotation{bytes: int64(n * unit)}, nil
}

// logFile is a file that begins anew when it is told to, and that can be opened
// again under its name after someone else has moved it away.
//
// By size, a full "log" becomes "log.1", that "log.2", and so on; by day, it
// becomes "log.2006-01-02" of the day it is of. Of either keep stay.
type logFile struct {
	path    string
	rotate  rotation
	keep    int // at least 1
	now     func() time.Time
	crashes bool // a crash of this process is written to it, too

	mu    sync.Mutex
	file  *os.File
	size  int64
	day   string // that the file is of
	again int64  // a rotation failed: not before this size, or at the end of the day
}

// dayForm is how a day is written in the name of a file.
const dayForm = "2006-01-02"

// retryRotation is how much more is logged before a rotation that failed is tried
// again, in bytes.
const retryRotation = 1 << 20

// Write appends a line.
func (l *logFile) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.due(int64(len(line))) {
		if err := l.turn(); err != nil {
			// Whoever logs cannot do anything about it; whoever reads the log can.
			l.again, l.day = l.size+retryRotation, l.today()
			n, _ := fmt.Fprintf(l.file, "{\"level\":\"error\",\"time\":%q,\"error\":%q,\"message\":\"cannot rotate the log file, going on with it\"}\n",
				l.now().Format(time.RFC3339), err.Error())
			l.size += int64(n)
		}
	}
	n, err := l.file.Write(line)
	l.size += int64(n)
	return n, err
}

func (l *logFile) today() string { return l.now().Format(dayForm) }

// due says whether the file is to begin anew before more bytes are written.
func (l *logFile) due(more int64) bool {
	if l.size == 0 {
		l.day = l.today()
		return false
	}
	if l.rotate.daily {
		return l.today() > l.day // not when the clock is set back
	}
	return l.rotate.bytes > 0 && l.size+more > l.rotate.bytes && l.size >= l.again
}

// turn moves the file away and begins a new one.
func (l *logFile) turn() error {
	if _, err := os.Stat(l.path); os.IsNotExist(err) {
		return l.open() // someone else has moved it away
	}
	if l.rotate.daily {
		to := l.path + "." + l.day
		if _, err := os.Lstat(to); err == nil {
			return fmt.Errorf("%s is there already", to)
		}
		if err := os.Rename(l.path, to); err != nil {
			return err
		}
	} else {
		for i := l.keep - 1; i >= 1; i-- {
			if err := os.Rename(l.numbered(i), l.numbered(i+1)); err != nil && !os.IsNotExist(err) {
				return err
			}
		}
		if err := os.Rename(l.path, l.numbered(1)); err != nil {
			return err
		}
	}
	if err := l.open(); err != nil {
		return err
	}
	return l.prune()
}

func (l *logFile) numbered(i int) string { return l.path + "." + strconv.Itoa(i) }

// prune removes the oldest of the files that turn made. It knows them by their
// names, and touches no others.
func (l *logFile) prune() error {
	entries, err := os.ReadDir(filepath.Dir(l.path))
	if err != nil {
		return err
	}
	var days []string
	for _, e := range entries {
		suffix, ok := strings.CutPrefix(e.Name(), filepath.Base(l.path)+".")
		if !ok {
			continue
		}
		if n, err := strconv.Atoi(suffix); err == nil && strconv.Itoa(n) == suffix && n > l.keep && !l.rotate.daily {
			err = os.Remove(l.numbered(n))
			if err != nil {
				return err
			}
		}
		if _, err := time.Parse(dayForm, suffix); err == nil && l.rotate.daily {
			days = append(days, suffix)
		}
	}
	slices.Sort(days)
	for len(days) > l.keep {
		if err := os.Remove(l.path + "." + days[0]); err != nil {
			return err
		}
		days = days[1:]
	}
	return nil
}

// Reopen opens the file by its name, making it if it is not there. If it cannot be
// opened, lines go on to where they went before.
func (l *logFile) Reopen() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open()
}

// open is Reopen. Call with mu held.
func (l *logFile) open() error {
	file, err := os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	if l.file != nil {
		l.file.Close()
	}
	l.file, l.size, l.again, l.day = file, 0, 0, l.today()
	if info, err := file.Stat(); err == nil && info.Mode().IsRegular() {
		l.size = info.Size()
		if l.size > 0 { // left by an earlier run, perhaps on an earlier day
			l.day = info.ModTime().In(l.now().Location()).Format(dayForm)
		}
	}
	if !l.crashes {
		return nil
	}
	// A daemon has no standard error to crash on.
	return debug.SetCrashOutput(file, debug.CrashOptions{})
}
