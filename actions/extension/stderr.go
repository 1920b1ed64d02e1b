package extension

import (
	"bufio"
	"strings"
	"time"

	"github.com/snower/forsun/scheduler"
)

const (
	// logLine is how much of a line on standard error is kept, in bytes.
	logLine = 1 << 10
	// logRate is how many lines a second are.
	logRate = 50
)

// logErrors logs what the process writes to its standard error. It reads all of it,
// since a process that cannot write stands still.
func (p *process) logErrors() {
	r := bufio.NewReaderSize(p.stderr, 4<<10)
	var second time.Time
	lines, dropped := 0, 0
	for {
		line, cut, err := head(r)
		if now := time.Now().Truncate(time.Second); now != second {
			if dropped > 0 {
				p.opts.Log.Warn().Str("extension", p.opts.Name).Int("lines", dropped).Msg("more on its standard error than is logged")
			}
			second, lines, dropped = now, 0, 0
		}
		switch {
		case line == "":
		case lines >= logRate:
			dropped++
		default:
			lines++
			mask := scheduler.MaskText
			if cut {
				mask = scheduler.MaskHead
			}
			line = strings.ToValidUTF8(mask(line, p.secrets()...), "\uFFFD")
			entry := p.opts.Log.Info().Str("extension", p.opts.Name)
			if cut {
				entry = entry.Bool("cut", true)
			}
			entry.Msg(strings.Map(printable, line))
		}
		if err != nil {
			return
		}
	}
}

// head returns the beginning of the next line, and whether that is not all of it.
func head(r *bufio.Reader) (line string, cut bool, err error) {
	var kept []byte
	for {
		part, err := r.ReadSlice('\n')
		room := logLine - len(kept)
		kept = append(kept, part[:min(room, len(part))]...)
		cut = cut || len(part) > room+1
		if err != bufio.ErrBufferFull {
			return strings.TrimRight(string(kept), "\r\n"), cut, err
		}
	}
}

// printable is a character that does nothing to a terminal.
func printable(r rune) rune {
	if r < ' ' && r != '\t' || r >= 0x7f && r < 0xa0 {
		return ' '
	}
	return r
}
