package memstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/batchrepr"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Pebble takes the first thing in its newest log that is no chunk for the end of
// the log, unless a chunk in a later block says that the place was synced. What
// those say is far too little (v2.1.7 does not count full blocks as synced), the rest of the
// same block is not looked at, and a chunk with the next log's number ends any log
// without its checksum being looked at. The manifest simply ends at the first damage. So
// both are read here first, and what is whole is compared with what is known to have been
// synced: see syncNotes.
//
// The format is that of pebble/record: blocks of 32 KiB, in them chunks, a record being
// one or more. A chunk: checksum (4), length (2), kind (1), in logs the log's number (4), in
// newer ones an offset (8) that is not used here; then the payload.
const (
	blockBytes = 32 << 10

	legacyHeader     = 7
	recyclableHeader = legacyHeader + 4
	syncHeader       = recyclableHeader + 8

	kindLegacyFirst, kindLegacyLast         = 1, 4
	kindRecyclableFirst, kindRecyclableLast = 5, 8
	kindSyncFirst, kindSyncLast             = 9, 12

	// A record in one chunk is the first kind of each format.
	kindRecyclableFull, kindSyncFull = kindRecyclableFirst, kindSyncFirst
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum is Pebble's, a rotated and shifted CRC-32C.
func checksum(b []byte) uint32 {
	c := crc32.Checksum(b, castagnoli)
	return (c>>15 | c<<17) + 0xa282ead8
}

// chunked is a log or a manifest that is read.
type chunked struct {
	manifest bool
	number   uint64 // of a log

	size   int64 // of the file
	whole  int64 // up to here there are only whole chunks
	closed bool  // they end with the trailer of a log that was closed
	proven int64 // a note behind the first damage says: synced up to here
}

// chunkAt returns the payload of the chunk that block begins with, and its size with header;
// 0 if there is no whole one.
func (c *chunked) chunkAt(block []byte) (payload []byte, kind byte, size int) {
	if len(block) < legacyHeader {
		return nil, 0, 0
	}
	header := legacyHeader
	switch kind = block[6]; {
	case c.manifest && kind >= kindLegacyFirst && kind <= kindLegacyLast:
	case !c.manifest && kind >= kindRecyclableFirst && kind <= kindRecyclableLast:
		header = recyclableHeader
	case !c.manifest && kind >= kindSyncFirst && kind <= kindSyncLast:
		header = syncHeader
	default:
		return nil, 0, 0
	}
	size = header + int(binary.LittleEndian.Uint16(block[4:]))
	if size > len(block) ||
		!c.manifest && binary.LittleEndian.Uint32(block[7:]) != uint32(c.number) ||
		binary.LittleEndian.Uint32(block) != checksum(block[6:size]) {
		return nil, 0, 0
	}
	return block[header:size], kind, size
}

// trailer tells whether block begins with what Pebble writes when it closes a log.
func (c *chunked) trailer(block []byte) bool {
	return !c.manifest && len(block) >= recyclableHeader &&
		binary.LittleEndian.Uint32(block) == 0 && binary.LittleEndian.Uint16(block[4:]) == 0 &&
		block[6] == kindRecyclableFull && binary.LittleEndian.Uint32(block[7:]) == uint32(c.number)+1
}

// padding tells whether there is nothing left in a block but the zeros of a place too
// small for another chunk.
func (c *chunked) padding(rest []byte) bool {
	room := syncHeader
	if c.manifest {
		room = legacyHeader
	}
	if len(rest) >= room {
		return false
	}
	for _, b := range rest {
		if b != 0 {
			return false
		}
	}
	return true
}

// candidate is the next place in block, from i on, where this log's number stands as it does in a
// chunk: behind a log there may be megabytes of something else.
func (c *chunked) candidate(block []byte, i int) int {
	if i+legacyHeader < len(block) {
		number := binary.LittleEndian.AppendUint32(nil, uint32(c.number))
		if at := bytes.Index(block[i+legacyHeader:], number); at >= 0 {
			return i + at
		}
	}
	return len(block)
}

// read reads f to the end of the whole chunks and, in a log, what is behind it for notes. Sessions
// are those whose notes are believed, beside those in the whole part: a client can have
// anything stored, also what looks like a chunk with a note in it.
func (c *chunked) read(f io.Reader, sessions ...uint64) error {
	block := make([]byte, blockBytes)
	intact := true
	own := uint64(0) // session, from the whole part
	for at := int64(0); ; at += blockBytes {
		n, err := io.ReadFull(f, block)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return err
		}
		c.size += int64(n)
		for i := 0; i < n; {
			payload, kind, size := c.chunkAt(block[i:n])
			var note *syncNote
			if kind == kindRecyclableFull || kind == kindSyncFull {
				note = decodeNote(payload)
			}
			switch {
			case size > 0 && intact:
				c.whole = at + int64(i+size)
				if note != nil {
					own = note.session
				}
				i += size
			case size > 0:
				if note != nil && note.number == c.number && note.synced <= at+int64(i) &&
					note.session != 0 && (note.session == own || slices.Contains(sessions, note.session)) {
					c.proven = max(c.proven, note.synced)
				}
				i += size
			case intact && c.trailer(block[i:n]):
				c.whole, c.closed = at+int64(i+recyclableHeader), true
				return nil // behind it is what the file held when it was another log
			case intact && n == blockBytes && c.padding(block[i:]):
				c.whole = at + blockBytes
				i = n
			case c.manifest:
				return nil
			default:
				intact = false
				i = c.candidate(block[:n], i+1)
			}
		}
		if n < blockBytes {
			return nil
		}
	}
}

// syncNote says that a log is synced up to an offset. It stands in the log itself, as Pebble's
// LogData: with each fsync that the store asks for, what was synced before it is noted.
type syncNote struct {
	session uint64 // of the process that wrote it
	number  uint64
	synced  int64
}

const (
	noteMagic = "forsunS1"
	noteBytes = len(noteMagic) + 3*8
)

func (n syncNote) encode() []byte {
	b := make([]byte, 0, noteBytes)
	b = append(b, noteMagic...)
	b = binary.LittleEndian.AppendUint64(b, n.session)
	b = binary.LittleEndian.AppendUint64(b, n.number)
	return binary.LittleEndian.AppendUint64(b, uint64(n.synced))
}

// decodeNote returns the note in a record of a log; nil if it is another record.
func decodeNote(record []byte) *syncNote {
	if len(record) > 64 { // a batch that holds only a note is smaller
		return nil
	}
	h, ok := batchrepr.ReadHeader(record)
	if !ok || h.Count != 0 {
		return nil
	}
	r := batchrepr.Read(record)
	kind, b, _, ok, err := r.Next()
	if err != nil || !ok || kind != pebble.InternalKeyKindLogData || len(b) != noteBytes || string(b[:len(noteMagic)]) != noteMagic {
		return nil
	}
	b = b[len(noteMagic):]
	return &syncNote{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:]), int64(binary.LittleEndian.Uint64(b[16:]))}
}

// damagedFile is a log or a manifest that lacks something that was synced.
type damagedFile struct {
	name   string
	whole  int64 // up to here it can be read
	synced int64 // up to here it was synced; 0: it should have been closed, and was not
	newest bool  // it is the newest log
}

func (d *damagedFile) Error() string {
	if d.synced == 0 {
		return fmt.Sprintf("file %s can be read up to byte %d only and does not end there: a newer log follows it", d.name, d.whole)
	}
	return fmt.Sprintf("file %s can be read up to byte %d only, and was synced up to byte %d", d.name, d.whole, d.synced)
}

// lostFile is the name of a file that is gone.
type lostFile string

func (f lostFile) Error() string { return fmt.Sprintf("file %s is not there any more", string(f)) }

// verify reads a log or a manifest that Pebble is about to read, and returns a
// damagedFile if Pebble would lose something that was synced.
func (n *syncNotes) verify(fs vfs.FS, name string, id fileID) error {
	f, err := fs.Open(name, vfs.SequentialReadsOption)
	if err != nil {
		return err
	}
	c := chunked{manifest: id.manifest, number: id.number}
	err = c.read(f, n.sessions...)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	newest := !id.manifest && id.number == n.newest
	d := &damagedFile{name: name, whole: c.whole, synced: max(n.known[id], c.proven), newest: newest}
	switch {
	case c.whole < d.synced:
		return d
	case id.manifest || newest || c.closed || c.size == 0:
		// Empty: a process that ended before it wrote anything.
		return nil
	default:
		d.synced = 0
		return d
	}
}
