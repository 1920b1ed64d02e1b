package rpc

import (
	"context"
	"fmt"

	"github.com/snower/forsun/scheduler"
)

const (
	// pageBytes is about where a page ends, however many entries were asked for.
	pageBytes = 4 << 20
	// maxListBytes bounds an answer that is not paged.
	maxListBytes = 64 << 20
	// largeList is how many entries an answer may have before it takes a slot.
	largeList = 1000
	// firstChunk is how many entries are read before their size is known: of the
	// largest plans that is 32 MiB.
	firstChunk = 128
)

// pager reads a page of at most limit entries, as the scheduler's lists do.
type pager[T any] func(ctx context.Context, cursor string, limit int) (entries []T, next string, err error)

// page reads up to limit entries, fewer when they are large. size tells the
// bytes of an entry on the wire, about.
func page[T any](ctx context.Context, read pager[T], cursor string, limit int, size func(T) int) (entries []T, next string, err error) {
	if limit < 1 || limit > scheduler.MaxPage {
		return read(ctx, cursor, limit) // refused
	}
	bytes := 0
	for chunk := min(limit, firstChunk); ; {
		if len(entries)+chunk > largeList {
			if err := takeLarge(ctx); err != nil {
				return nil, "", err
			}
		}
		got, next, err := read(ctx, cursor, chunk)
		if err != nil {
			return nil, "", err
		}
		for _, e := range got {
			bytes += size(e)
		}
		entries, cursor = append(entries, got...), next
		left := limit - len(entries)
		if next == "" || left == 0 || bytes > pageBytes || len(got) < chunk {
			return entries, next, nil
		}
		average := bytes/len(entries) + 1
		chunk = min(left, max(1, (pageBytes-bytes)/average+1))
	}
}

// tooLongError is the refusal of a list that has to be read in pages.
type tooLongError struct {
	what, paged string
}

func (e *tooLongError) Error() string {
	return fmt.Sprintf("%s: more than the server puts into one answer; read it in pages with %s", e.what, e.paged)
}

// each calls fn with all entries, up to max of them and maxListBytes, where fn
// tells how many bytes it keeps of one. Beyond, it fails with tooLong.
func each[T any](ctx context.Context, read pager[T], size func(T) int, max int, tooLong error, fn func(T) int) error {
	count, bytes := 0, 0
	for cursor := ""; ; {
		entries, next, err := page(ctx, read, cursor, scheduler.MaxPage, size)
		if err != nil {
			return err
		}
		if count += len(entries); count > max {
			return tooLong
		}
		for _, e := range entries {
			if bytes += fn(e); bytes > maxListBytes {
				return tooLong
			}
		}
		if cursor = next; cursor == "" {
			return nil
		}
	}
}

// planSize is about what a plan takes on the wire.
func planSize(p *scheduler.Plan) int {
	size := 160 + len(p.Key) + len(p.Action)
	for name, value := range p.Params {
		size += 8 + len(name) + len(value)
	}
	return size
}

// attemptSize is about what a line of history takes on the wire.
func attemptSize(a scheduler.Attempt) int {
	return 160 + len(a.Key) + len(a.Action) + len(a.Error) + len(a.Output) + len(a.Replica)
}

// deadSize is about what a dead letter takes on the wire.
func deadSize(d scheduler.DeadLetter) int {
	return 160 + len(d.ID) + len(d.Error) + planSize(d.Firing.Plan)
}
