package app

import "github.com/rs/zerolog"

// reloads is what SIGHUP has read again: the log file, and whatever else is kept
// in a file that may be changed under a running forsund.
type reloads struct {
	log  zerolog.Logger
	list []reload
}

type reload struct {
	what string
	do   func() error
}

// add notes something to read again. do goes on with what it had when it fails,
// and is called by one goroutine.
func (r *reloads) add(what string, do func() error) {
	r.list = append(r.list, reload{what, do})
}

// run reads everything again, in the order it was added. What fails does not keep
// the rest from it.
func (r *reloads) run() {
	for _, one := range r.list {
		if err := one.do(); err != nil {
			r.log.Error().Err(err).Str("what", one.what).Msg("cannot reload, going on with what was there")
			continue
		}
		r.log.Info().Str("what", one.what).Msg("reloaded")
	}
}
