package actions

import (
	"errors"
	"strings"

	"github.com/snower/forsun/scheduler"
)

// head keeps the first scheduler.MaxOutput bytes, and some more for the masking of a
// secret that lies across the end, of what is written to it. It never fails, so
// that whoever writes goes on to its end. The zero value is ready; it is for one
// goroutine at a time.
type head struct {
	kept []byte
	cut  bool // more was written than was kept
}

// headRoom is what is kept beyond MaxOutput: masking shortens, and what follows
// then moves up.
const headRoom = 1 << 10

func (h *head) Write(p []byte) (int, error) {
	room := scheduler.MaxOutput + headRoom - len(h.kept)
	if len(p) > room {
		h.kept = append(h.kept, p[:room]...)
		h.cut = true
		return len(p), nil
	}
	h.kept = append(h.kept, p...)
	return len(p), nil
}

// output returns what was kept as an action's output: secrets masked, valid
// UTF-8, at most MaxOutput bytes. The half of a secret at a cut end is dropped.
func (h *head) output(secrets []string) scheduler.Output {
	mask := scheduler.MaskText
	if h.cut {
		mask = scheduler.MaskHead
	}
	// Before it is made UTF-8: a secret need not be.
	text := strings.ToValidUTF8(mask(string(h.kept), secrets...), "\uFFFD")
	if len(text) > scheduler.MaxOutput {
		text = strings.ToValidUTF8(text[:scheduler.MaxOutput], "")
	}
	if text == "" {
		return nil
	}
	return scheduler.Output(text)
}

// maskCut masks what is left of secrets that a server cut short where it quoted
// them: four bytes or more of their beginning, right before a quote or dots. MySQL
// quotes up to 80 bytes, Redis up to 128.
func maskCut(text string, secrets []string) string {
	const least, most = 4, 256
	for at := len(text) - 1; at >= least; at-- {
		if !strings.ContainsRune("'\"`", rune(text[at])) && !strings.HasPrefix(text[at:], "...") && !strings.HasPrefix(text[at:], "…") {
			continue
		}
		for _, secret := range secrets {
			for n := min(len(secret)-1, at, most); n >= least; n-- {
				if strings.HasSuffix(text[:at], secret[:n]) {
					text = text[:at-n] + scheduler.Masked + text[at:]
					at -= n
					break
				}
			}
		}
	}
	return text
}

// hide returns err without the secrets: its text is masked, errors.Is still
// finds what is inside it, errors.As does not. A *scheduler.RetryableError stays
// one. nil stays nil.
func hide(err error, secrets []string) error {
	if err == nil {
		return nil
	}
	if retry, ok := errors.AsType[*scheduler.RetryableError](err); ok {
		return &scheduler.RetryableError{Err: hide(retry.Err, secrets), After: retry.After}
	}
	return &hiddenError{text: scheduler.MaskText(err.Error(), secrets...), inner: err}
}

// hiddenError is an error whose text is fit to be shown.
type hiddenError struct {
	text  string
	inner error
}

func (e *hiddenError) Error() string        { return e.text }
func (e *hiddenError) Is(target error) bool { return errors.Is(e.inner, target) }
