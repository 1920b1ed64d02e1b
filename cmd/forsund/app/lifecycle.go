package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rs/zerolog"
)

// steps is what has been started, in that order, and how each is stopped.
type steps struct {
	log  zerolog.Logger
	list []step
}

type step struct {
	name string
	stop func(context.Context) error
}

// push notes that something was started. stop should return soon after its
// context is done.
func (s *steps) push(name string, stop func(context.Context) error) {
	s.list = append(s.list, step{name, stop})
}

// unwind stops everything, last started first, all within one bound. An error
// does not keep the earlier steps from being stopped; a step that outlasts the
// bound does, since what comes before it may still be in use.
func (s *steps) unwind(bound time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), bound)
	defer cancel()
	var errs []error
	for _, step := range slices.Backward(s.list) {
		began := time.Now()
		stopped := make(chan error, 1)
		go func() { stopped <- step.stop(ctx) }()
		var err error
		select {
		case err = <-stopped:
		case <-ctx.Done():
			// A step that heeds the bound gets a moment to say so.
			select {
			case err = <-stopped:
			case <-time.After(time.Second):
				return errors.Join(append(errs, fmt.Errorf("stopping %s takes longer than %s in all: leaving it", step.name, bound))...)
			}
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", step.name, err))
		}
		s.log.Debug().Str("step", step.name).Dur("took", time.Since(began)).Err(err).Msg("stopped")
	}
	s.list = nil
	return errors.Join(errs...)
}
