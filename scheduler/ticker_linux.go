package scheduler

import (
	"context"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// timerfdAlarm sleeps on a timerfd (timerfd_create(2)) on CLOCK_REALTIME, armed
// with an absolute time, so that neither the length of a sleep nor a clock
// slewed by NTP adds up to drift. The descriptor is non-blocking and read
// through the runtime's poller: no thread waits.
type timerfdAlarm struct {
	file *os.File
	conn interface {
		Control(func(fd uintptr)) error
	}
}

func newAlarm() (alarm, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_REALTIME, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("timerfd_create", err)
	}
	file := os.NewFile(uintptr(fd), "timerfd")
	conn, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, err
	}
	return &timerfdAlarm{file: file, conn: conn}, nil
}

func (a *timerfdAlarm) sleep(ctx context.Context, t time.Time) (stepped bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(t.UnixNano())}
	var setErr error
	if err := a.conn.Control(func(fd uintptr) {
		setErr = unix.TimerfdSettime(int(fd), unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET, &spec, nil)
	}); err != nil {
		return false, err
	}
	// A settime after an unread step answers ECANCELED and arms the timer all the
	// same; it is the same news that a read would bring.
	if errors.Is(setErr, unix.ECANCELED) {
		return true, nil
	}
	if setErr != nil {
		return false, os.NewSyscallError("timerfd_settime", setErr)
	}

	if err := a.file.SetReadDeadline(time.Time{}); err != nil {
		return false, err
	}
	stop := context.AfterFunc(ctx, func() { a.file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var expirations [8]byte
	_, err = a.file.Read(expirations[:])
	switch {
	case err == nil:
		return false, nil // how many seconds were slept through is no matter: a claim takes all that is due
	case errors.Is(err, unix.ECANCELED):
		return true, nil
	case ctx.Err() != nil:
		return false, ctx.Err()
	default:
		return false, err
	}
}

func (a *timerfdAlarm) close() error { return a.file.Close() }
