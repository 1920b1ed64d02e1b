package rpc

import "context"

// largeMessage is how many bytes a message may have before it takes a slot.
// Nearly all have less; 4096 connections half way there hold 32 MiB.
const largeMessage = 16 << 10

// slots bounds how many large messages and answers are in memory at a time.
type slots chan struct{}

// holder holds a slot for one request, from when it turns out to be large until
// its answer is written. It is used by one goroutine.
type holder struct {
	slots slots
	held  bool
}

// take waits for a slot until ctx is done, unless one is held already.
func (h *holder) take(ctx context.Context) error {
	if h.held {
		return nil
	}
	select {
	case h.slots <- struct{}{}:
		h.held = true
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// release gives the slot back, if one is held.
func (h *holder) release() {
	if h.held {
		<-h.slots
		h.held = false
	}
}

type holderKey struct{}

// withHolder returns a context in which takeLarge uses h.
func withHolder(ctx context.Context, h *holder) context.Context {
	return context.WithValue(ctx, holderKey{}, h)
}

// takeLarge waits for a slot for an answer that turns out to be large.
func takeLarge(ctx context.Context) error {
	if h, ok := ctx.Value(holderKey{}).(*holder); ok {
		return h.take(ctx)
	}
	return nil
}
