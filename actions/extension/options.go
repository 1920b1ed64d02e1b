package extension

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/rs/zerolog"
)

// Options configure an Extension. Start from DefaultOptions.
type Options struct {
	Name    string // of the action, and what the extension must call itself
	Path    string // the executable, absolute
	Version string // of forsun, for the extension to know

	StartTimeout time.Duration // from the start to the end of the handshake; above 0
	CheckTimeout time.Duration // for the answer to a check; above 0
	Grace        time.Duration // after a cancel, the end of input and SIGTERM; above 0, at most 3 s: a drain waits for it

	Log zerolog.Logger
}

// DefaultOptions returns options for the executable of that name in dir.
func DefaultOptions(dir, name string) Options {
	return Options{
		Name:         name,
		Path:         filepath.Join(dir, name),
		StartTimeout: 10 * time.Second,
		CheckTimeout: 2 * time.Second,
		Grace:        2 * time.Second,
		Log:          zerolog.Nop(),
	}
}

// Validate says which options are out of range, all of them joined, and whether the
// executable can be started at all.
func (o Options) Validate() error {
	var errs []error
	bad := func(wrong bool, field string, value any, allowed string) {
		if wrong {
			errs = append(errs, fmt.Errorf("extension %s: %s: %v is not allowed; allowed: %s", o.Name, field, value, allowed))
		}
	}
	bad(o.Name == "", "Name", `""`, "a name, not empty")
	bad(!filepath.IsAbs(o.Path), "Path", o.Path, "an absolute path")
	bad(o.StartTimeout <= 0, "StartTimeout", o.StartTimeout, "above 0")
	bad(o.CheckTimeout <= 0, "CheckTimeout", o.CheckTimeout, "above 0")
	bad(o.Grace <= 0 || o.Grace > 3*time.Second, "Grace", o.Grace, "above 0, at most 3s")
	if len(errs) == 0 {
		errs = append(errs, o.executable())
	}
	return errors.Join(errs...)
}

// executable says why the file cannot be started, or should not be.
func (o Options) executable() error {
	info, err := os.Stat(o.Path)
	switch {
	case err != nil:
		return fmt.Errorf("extension %s: %w", o.Name, err)
	case !info.Mode().IsRegular():
		return fmt.Errorf("extension %s: %s is not a file", o.Name, o.Path)
	case info.Mode()&0o111 == 0:
		return fmt.Errorf("extension %s: %s is not executable: chmod +x it", o.Name, o.Path)
	case info.Mode()&0o002 != 0:
		return fmt.Errorf("extension %s: anyone on this machine may change %s: chmod o-w it", o.Name, o.Path)
	}
	dir, err := os.Stat(filepath.Dir(o.Path))
	if err == nil && dir.Mode()&0o002 != 0 && dir.Mode()&os.ModeSticky == 0 {
		err = fmt.Errorf("anyone on this machine may change what is in %s: chmod o-w it", filepath.Dir(o.Path))
	}
	if err != nil {
		return fmt.Errorf("extension %s: %w", o.Name, err)
	}
	return nil
}
