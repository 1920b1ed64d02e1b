package migrate

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/vmihailenco/msgpack/v5"
	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// Raw is a plan as it was stored.
type Raw struct {
	Name string // where: its key in Redis, or its number in the dump
	Key  string // by its key in Redis; "" in a dump
	Data []byte // msgpack
	Err  error  // why it cannot be read
}

// Source is where the Python forsun has stored its plans.
type Source interface {
	// Plans calls fn with each plan, and how far it has come, of Size; a plan may come
	// twice. It stops at the first error of fn.
	Plans(ctx context.Context, fn func(r Raw, at int64) error) error

	// Size is that of a file in bytes, -1 where it is not known.
	Size() int64

	// Handled is the second that was handled last, as it is stored, and by the clock
	// of today when that was; 0: not known.
	Handled() (stored, clock int64)

	// Damage is what keeps some of it from being read, nil if all of it can be.
	Damage() error
	Close() error
}

// Dump is a dump file. It is read twice: current_time is at its end.
type Dump struct {
	file    *os.File
	size    int64
	current int64
	written time.Time
	damage  error
}

// OpenDump opens a dump file and looks through it once.
func OpenDump(ctx context.Context, name string) (*Dump, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no file", name)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	d := &Dump{file: f, size: info.Size(), written: info.ModTime()}
	err = d.walk(ctx, nil)
	if bad := (*dumpError)(nil); errors.As(err, &bad) {
		if bad.at == 0 {
			return nil, errors.Join(fmt.Errorf("%s is no dump of the Python forsun: %w", name, bad.err), f.Close())
		}
		d.damage, err = fmt.Errorf("%s is damaged at byte %d of %d: %w; what follows is lost", name, bad.at, d.size, bad.err), nil
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return d, nil
}

func (d *Dump) Size() int64   { return d.size }
func (d *Dump) Damage() error { return d.damage }
func (d *Dump) Close() error  { return d.file.Close() }

// Handled returns the last second there is; the Python forsun writes the dump in the next one, when it stops.
func (d *Dump) Handled() (stored, clock int64) { return d.current, d.written.Unix() }

// Plans reads them.
func (d *Dump) Plans(ctx context.Context, fn func(Raw, int64) error) error {
	err := d.walk(ctx, fn)
	if bad := (*dumpError)(nil); errors.As(err, &bad) && d.damage != nil {
		return nil // it is known
	}
	return err
}

// dumpError is what cannot be read, at a place.
type dumpError struct {
	at  int64
	err error
}

func (e *dumpError) Error() string { return fmt.Sprintf("byte %d: %v", e.at, e.err) }

// counted reads and knows where. The decoder needs no buffer of its own in front of it.
type counted struct {
	r *bufio.Reader
	n int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

func (c *counted) ReadByte() (byte, error) {
	b, err := c.r.ReadByte()
	if err == nil {
		c.n++
	}
	return b, err
}

func (c *counted) UnreadByte() error {
	err := c.r.UnreadByte()
	if err == nil {
		c.n--
	}
	return err
}

// walk reads the file from its beginning. Without fn it looks for current_time.
func (d *Dump) walk(ctx context.Context, fn func(Raw, int64) error) error {
	if _, err := d.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	in := &counted{r: bufio.NewReaderSize(d.file, 64<<10)}
	w := &walker{ctx: ctx, in: in, dec: msgpack.NewDecoder(in), fn: fn}
	err := w.dump()
	if err == nil {
		d.current = w.current
		return nil
	}
	if w.outer != nil {
		return w.outer
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("it ends there")
	}
	return &dumpError{in.n, err}
}

// walker walks through a dump file with no more in memory than a plan, whatever
// lengths it claims.
type walker struct {
	ctx     context.Context
	in      *counted
	dec     *msgpack.Decoder
	fn      func(Raw, int64) error
	current int64
	outer   error // of fn or ctx: nothing to do with the file
}

func (w *walker) dump() error {
	c, err := w.dec.PeekCode()
	if err != nil {
		return err
	}
	if !isMap(c) {
		return fmt.Errorf("it begins with %#02x, no map", c)
	}
	n, err := w.dec.DecodeMapLen()
	if err != nil {
		return err
	}
	known := false
	for range n {
		name, err := w.name()
		if err != nil {
			return err
		}
		switch name {
		case "plans":
			err, known = w.plans(), true
		case "current_time":
			c, perr := w.dec.PeekCode()
			if err = perr; err == nil && (msgpcode.IsFixedNum(c) || c >= msgpcode.Uint8 && c <= msgpcode.Int64) {
				w.current, err = w.dec.DecodeInt64()
			} else if err == nil {
				err = w.skip(0)
			}
		default:
			err = w.skip(0)
		}
		if err != nil {
			return err
		}
	}
	if !known {
		w.in.n = 0
		return errors.New("it has no plans")
	}
	if _, err := w.in.ReadByte(); !errors.Is(err, io.EOF) {
		return errors.New("there is more after its end")
	}
	return nil
}

// name reads the name of a part.
func (w *walker) name() (string, error) {
	n, err := w.dec.DecodeBytesLen()
	if err != nil {
		return "", err
	}
	if n < 0 || n > 64 {
		return "", fmt.Errorf("a name of %d bytes", n)
	}
	b := make([]byte, n)
	err = w.dec.ReadFull(b)
	return string(b), err
}

func (w *walker) plans() error {
	c, err := w.dec.PeekCode()
	if err != nil || c == msgpcode.Nil {
		return errors.Join(err, w.skip(0))
	}
	n, err := w.dec.DecodeArrayLen()
	if err != nil {
		return err
	}
	for i := range n {
		if w.outer = w.ctx.Err(); w.outer != nil {
			return w.outer
		}
		raw := Raw{Name: fmt.Sprintf("plan %d of the dump", i+1)}
		c, err := w.dec.PeekCode()
		switch {
		case err != nil:
			return err
		case !isText(c):
			raw.Err = errors.New("not packed as a plan is")
			err = w.skip(0)
		default:
			var size int
			if size, err = w.dec.DecodeBytesLen(); err == nil && (size > maxRecord || w.fn == nil) {
				raw.Err = fmt.Errorf("%d bytes, more than a plan may have", size)
				err = w.discard(size)
			} else if err == nil {
				raw.Data = make([]byte, size)
				err = w.dec.ReadFull(raw.Data)
			}
		}
		if err != nil {
			return err
		}
		if w.fn != nil {
			if w.outer = w.fn(raw, w.in.n); w.outer != nil {
				return w.outer
			}
		}
	}
	return nil
}

func (w *walker) discard(n int) error {
	_, err := io.CopyN(io.Discard, w.in, int64(max(n, 0)))
	return err
}

// skip passes over a value.
func (w *walker) skip(depth int) error {
	if depth > maxDepth {
		return errDepth
	}
	c, err := w.dec.PeekCode()
	if err != nil {
		return err
	}
	n := 0
	switch {
	case isText(c):
		if n, err = w.dec.DecodeBytesLen(); err == nil {
			err = w.discard(n)
		}
		return err
	case isArray(c):
		n, err = w.dec.DecodeArrayLen()
	case isMap(c):
		n, err = w.dec.DecodeMapLen()
		n *= 2
	case msgpcode.IsExt(c):
		if _, n, err = w.dec.DecodeExtHeader(); err == nil {
			err = w.discard(n)
		}
		return err
	default:
		return w.dec.Skip() // a number, or the like
	}
	for i := 0; i < n && err == nil; i++ {
		if i%1024 == 0 {
			if w.outer = w.ctx.Err(); w.outer != nil {
				return w.outer
			}
		}
		err = w.skip(depth + 1)
	}
	return err
}
