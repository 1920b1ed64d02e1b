package memstore

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	// diskEvery is how often the free space is looked at.
	diskEvery = 500 * time.Millisecond
	// diskSlow is how long an operation takes that is reported as slow.
	diskSlow = 5 * time.Second
)

// diskState is what is known of the disk.
type diskState struct {
	low   atomic.Bool // less than the reserve is free: no Put
	fs    vfs.FS      // below the handling of a full disk; nil if there is nothing to watch
	dir   string
	mu    sync.Mutex
	laden bool // the ballast is there

	health io.Closer // ends the watching for slow operations; nil if there is none
}

// openDisk has o's file system tell when it is slow, full, or broken.
func (s *Store) openDisk(o *pebble.Options) {
	if s.opts.Dir != Memory || s.opts.FS != nil {
		s.disk.dir, s.disk.fs = s.opts.Dir, o.FS
		// Not by Pebble's own default, which leaves a goroutine behind if it cannot open.
		health, closer := vfs.WithDiskHealthChecks(o.FS, diskSlow, nil, o.EventListener.DiskSlow)
		s.disk.health = closer
		o.FS = vfs.OnDiskFull(health, func() { s.dropBallast("the disk is full") })
	}
	s.guard = &guard{FS: o.FS, s: s, held: s.held}
	o.FS = s.guard
}

// close ends what openDisk began.
func (d *diskState) close() error {
	if d.health == nil {
		return nil
	}
	return d.health.Close()
}

// diskLoop watches the free space.
func (s *Store) diskLoop(ctx context.Context) {
	if s.disk.fs == nil {
		return
	}
	tick := time.NewTicker(diskEvery)
	defer tick.Stop()
	for {
		// Twice what it takes, so that laying it does not bring the disk below the reserve.
		if free, ok := s.lookAtDisk(); ok && free > s.opts.Reserve+2*s.opts.Ballast {
			s.layBallast()
		}
		select {
		case <-ctx.Done():
			return
		case <-s.failed:
			return
		case <-tick.C:
		}
	}
}

// lookAtDisk compares the free space with the reserve. ok is false where it
// cannot be measured; a full disk shows by itself then.
func (s *Store) lookAtDisk() (free int64, ok bool) {
	d := &s.disk
	if d.fs == nil {
		return 0, false
	}
	u, err := d.fs.GetDiskUsage(d.dir)
	if err != nil {
		return 0, false
	}
	free = int64(u.AvailBytes)
	if low := free < s.opts.Reserve; low != d.low.Swap(low) {
		if low {
			s.log.Error().Int64("free", free).Int64("reserve", s.opts.Reserve).Str("dir", d.dir).
				Msg("the disk is nearly full: no plan is accepted until there is room; what is stored goes on firing")
		} else {
			s.log.Info().Int64("free", free).Str("dir", d.dir).Msg("there is room on the disk again: plans are accepted")
		}
	}
	return free, true
}

// layBallast makes the file that is given up when the disk is full.
func (s *Store) layBallast() {
	d := &s.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.laden || s.opts.Ballast == 0 {
		return
	}
	if err := writeBallast(d.fs, d.fs.PathJoin(d.dir, ballastName), s.opts.Ballast); err != nil {
		s.log.Warn().Err(err).Msg("the ballast file could not be made; a full disk will stop the store sooner")
		_ = d.fs.Remove(d.fs.PathJoin(d.dir, ballastName))
		return
	}
	d.laden = true
}

// writeBallast takes size bytes on the disk. Zeros are written, since not every file
// system reserves otherwise.
func writeBallast(fs vfs.FS, name string, size int64) error {
	if info, err := fs.Stat(name); err == nil && info.Size() == size {
		return nil
	}
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	chunk := make([]byte, 1<<20)
	for left := size; left > 0 && err == nil; left -= int64(len(chunk)) {
		_, err = f.Write(chunk[:min(left, int64(len(chunk)))])
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// dropBallast gives the ballast up. It is called by the file system, while writes wait.
func (s *Store) dropBallast(why string) {
	d := &s.disk
	d.low.Store(true)
	d.mu.Lock()
	defer d.mu.Unlock()
	name := d.fs.PathJoin(d.dir, ballastName)
	if err := d.fs.Remove(name); err != nil {
		s.log.Error().Err(err).Str("dir", d.dir).Msg(why + " and there is no ballast left")
		return
	}
	d.laden = false
	s.log.Error().Str("dir", d.dir).Int64("bytes", s.opts.Ballast).Msg(why + ": the ballast is given up so that claims and finishes go on")
}
