package migrate

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/vmihailenco/msgpack/v5"
	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

const (
	// maxRecord is how many bytes of a plan are read: twice what a plan may hold here.
	maxRecord = 512 << 10
	// maxDepth is how deep values may be within each other.
	maxDepth = 16
)

var errDepth = fmt.Errorf("values more than %d deep within each other", maxDepth)

// decodeMap reads a packed map whose keys are text. Values are nil, bool, int64, uint64 (over an
// int64), float64, string, []any and map[string]any.
func decodeMap(b []byte) (map[string]any, error) {
	r := bytes.NewReader(b)
	d := &decoder{dec: msgpack.NewDecoder(r), left: r.Len}
	v, err := d.value(0)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("it ends too early")
	}
	if err != nil {
		return nil, err
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("a %T, not a map", v)
	}
	if n := r.Len(); n > 0 {
		return nil, fmt.Errorf("%d bytes after its end", n)
	}
	return m, nil
}

type decoder struct {
	dec  *msgpack.Decoder
	left func() int // bytes; no length can be true that is more
}

func (d *decoder) value(depth int) (any, error) {
	if depth > maxDepth {
		return nil, errDepth
	}
	c, err := d.dec.PeekCode()
	if err != nil {
		return nil, err
	}
	switch {
	case isText(c):
		b, err := d.text()
		return string(b), err
	case isArray(c):
		n, err := d.dec.DecodeArrayLen()
		if err != nil || n > d.left() {
			return nil, errors.Join(err, io.ErrUnexpectedEOF)
		}
		list := []any{}
		for range n {
			v, err := d.value(depth + 1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	case isMap(c):
		n, err := d.dec.DecodeMapLen()
		if err != nil || n > d.left() {
			return nil, errors.Join(err, io.ErrUnexpectedEOF)
		}
		m := make(map[string]any)
		for range n {
			name, err := d.text()
			if err != nil {
				return nil, err
			}
			if m[string(name)], err = d.value(depth + 1); err != nil {
				return nil, err
			}
		}
		return m, nil
	case c == msgpcode.Uint64:
		n, err := d.dec.DecodeUint64()
		if n > math.MaxInt64 {
			return n, err
		}
		return int64(n), err
	case c == msgpcode.Nil:
		return nil, d.dec.DecodeNil()
	case c == msgpcode.False, c == msgpcode.True:
		return d.dec.DecodeBool()
	case c == msgpcode.Float, c == msgpcode.Double:
		return d.dec.DecodeFloat64()
	case msgpcode.IsExt(c):
		return nil, errors.New("a msgpack extension, which the Python forsun never wrote")
	default:
		return d.dec.DecodeInt64()
	}
}

// text reads raw, str or bin.
func (d *decoder) text() ([]byte, error) {
	n, err := d.dec.DecodeBytesLen()
	if err != nil {
		return nil, err
	}
	if n > d.left() {
		return nil, io.ErrUnexpectedEOF
	}
	b := make([]byte, max(n, 0))
	return b, d.dec.ReadFull(b)
}

func isText(c byte) bool { return msgpcode.IsString(c) || msgpcode.IsBin(c) }
func isArray(c byte) bool {
	return msgpcode.IsFixedArray(c) || c == msgpcode.Array16 || c == msgpcode.Array32
}

func isMap(c byte) bool {
	return msgpcode.IsFixedMap(c) || c == msgpcode.Map16 || c == msgpcode.Map32
}
