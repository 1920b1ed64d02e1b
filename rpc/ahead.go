package rpc

import (
	"encoding/binary"

	"github.com/apache/thrift/lib/go/thrift"
)

// A client may send calls before it has the answers to others: one in Node.js always does,
// one in Python that calls send_create several times before recv_create. A connection
// can tell whether the next call has come whole, so that calls are answered together
// that can be (see dispatcher.next): until a message comes without a frame that has over
// 16 KiB, comes in many pieces or cannot be read; then it no longer looks.

// maxAhead bounds what is kept of a connection's unread messages.
const maxAhead = largeMessage

// maxReads is how many reads of a message are tried before its end is no longer
// looked for: each looks from the beginning.
const maxReads = 8

// form is how a message is written.
type form byte

const (
	formUnknown form = iota // the library will know, or refuse it
	formUnframed
	formFramed // one binary message, in a frame
	formOther  // something else in a frame
)

// messageEnd is where the message ends that b begins with: 0 if b does not tell yet; beyond
// b only if it is a frame of over maxAhead.
func messageEnd(b []byte) (end int, f form) {
	if len(b) < 4 {
		return 0, formOther // or unknown, it will turn out
	}
	if b[0] == 0x80 && b[1] == 1 {
		w := walk{b: b}
		switch w.message(); {
		case w.strange:
			return 0, formUnknown
		case w.short:
			return 0, formUnframed
		}
		return w.at, formUnframed
	}
	size := binary.BigEndian.Uint32(b)
	end = 4 + int(size)
	switch {
	case size < 4 || size > 1<<30:
		return 0, formUnknown
	case end > maxAhead:
		return end, formOther
	case end > len(b):
		return 0, formOther
	case b[4] == 0x80 && b[5] == 1:
		// One that holds more than a message leaves the library in its midst.
		w := walk{b: b[4:end]}
		if w.message(); !w.done() && w.at == len(w.b) {
			return end, formFramed
		}
	}
	return end, formOther
}

// walk goes through a message of the strict binary protocol (Thrift, "Thrift Binary protocol
// encoding") to where it ends.
type walk struct {
	b       []byte
	at      int
	short   bool // it goes on behind b
	strange bool // the library is to judge it
}

// maxDepth is how deep structs and lists are followed; those of the interface have four.
const maxDepth = 8

func (w *walk) message() {
	if kind := thrift.TMessageType(w.b[3]); kind != thrift.CALL && kind != thrift.ONEWAY {
		w.strange = true // it is refused for that
	}
	w.skip(4)
	w.text()
	w.skip(4)
	w.fields(0)
}

func (w *walk) done() bool { return w.short || w.strange }

func (w *walk) skip(n int) {
	if n < 0 || n > maxAhead {
		w.strange = true
	} else if w.at += n; w.at > len(w.b) {
		w.short = true
	}
}

// kind and number are 0 where there is none.
func (w *walk) kind() thrift.TType {
	if w.skip(1); w.done() {
		return 0
	}
	return thrift.TType(w.b[w.at-1])
}

func (w *walk) number() int {
	if w.skip(4); w.done() {
		return 0
	}
	return int(int32(binary.BigEndian.Uint32(w.b[w.at-4:])))
}

func (w *walk) text() { w.skip(w.number()) }

func (w *walk) fields(depth int) {
	for !w.done() {
		kind := w.kind()
		if kind == thrift.STOP {
			return
		}
		w.skip(2)
		w.value(kind, depth+1)
	}
}

func (w *walk) value(kind thrift.TType, depth int) {
	if depth > maxDepth {
		w.strange = true
	}
	if w.done() {
		return
	}
	switch kind {
	case thrift.BOOL, thrift.BYTE:
		w.skip(1)
	case thrift.I16:
		w.skip(2)
	case thrift.I32:
		w.skip(4)
	case thrift.I64, thrift.DOUBLE:
		w.skip(8)
	case thrift.STRING:
		w.text()
	case thrift.STRUCT:
		w.fields(depth)
	case thrift.MAP:
		key, value := w.kind(), w.kind()
		w.values(depth, key, value)
	case thrift.SET, thrift.LIST:
		w.values(depth, w.kind())
	default:
		w.strange = true
	}
}

// values goes through the entries of a container.
func (w *walk) values(depth int, kinds ...thrift.TType) {
	n := w.number()
	if n < 0 || n > maxContainer {
		w.strange = true
	}
	for range n {
		for _, kind := range kinds {
			if w.value(kind, depth+1); w.done() {
				return
			}
		}
	}
}
