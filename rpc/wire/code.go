package wire

import (
	"errors"
	"strings"

	"github.com/snower/forsun/scheduler"
)

// Code is an error code of the Thrift and HTTP interfaces. 1001 to 1007 are as
// old as the interface, with fixed messages; the messages of the others say
// which field, which value, and what is allowed.
type Code int16

const (
	OK                Code = 0
	Unknown           Code = 1001 // unexpected; the cause is in the server's log
	BadTime           Code = 1002 // a time that never comes
	NotFound          Code = 1003 // no such plan
	SaveFailed        Code = 1004 // the store refused a create
	RemoveFailed      Code = 1005 // the store refused a remove
	UnknownAction     Code = 1006
	Missing           Code = 1007 // a required argument is missing
	BadField          Code = 1008
	BadParams         Code = 1009
	StoreFull         Code = 1010
	DurabilityUnknown Code = 1011 // stored, but the wished copies did not confirm; or not known whether
	NotAllowed        Code = 1012
	TooLarge          Code = 1013
)

// Op is what a request was about to do; it decides the code of a store's failure.
type Op uint8

const (
	Read Op = iota
	Create
	Remove
)

// FromError returns the code and the message a client gets for err, and whether
// err is unexpected: then the client learns nothing of the cause, and the
// caller logs it.
func FromError(op Op, err error) (code Code, message string, unexpected bool) {
	code = codeOf(op, err)
	switch code {
	case OK:
		return OK, "", false
	case Missing:
		var f *scheduler.FieldError
		name := ""
		if errors.As(err, &f) {
			name = strings.TrimPrefix(f.Field, "params.")
		}
		return code, name + "参数是必须的", false
	case Unknown, SaveFailed, RemoveFailed:
		return code, fixedMessage(code), true
	case DurabilityUnknown: // for a cause only if the store's answer was lost
		message = scheduler.ErrUnsure.Error()
		return code, message, err.Error() != message
	case BadTime, NotFound, UnknownAction:
		return code, fixedMessage(code), false
	default:
		return code, err.Error(), false
	}
}

// codeOf maps the kinds of failure of the scheduler to codes.
func codeOf(op Op, err error) Code {
	switch {
	case err == nil:
		return OK
	case errors.Is(err, scheduler.ErrNotFound):
		return NotFound
	case errors.Is(err, scheduler.ErrTime):
		return BadTime
	case errors.Is(err, scheduler.ErrAction):
		return UnknownAction
	case errors.Is(err, scheduler.ErrMissing):
		return Missing
	case errors.Is(err, scheduler.ErrField):
		return BadField
	case errors.Is(err, scheduler.ErrParams):
		return BadParams
	case errors.Is(err, scheduler.ErrFull):
		return StoreFull
	case errors.Is(err, scheduler.ErrUnsure):
		return DurabilityUnknown
	case errors.Is(err, scheduler.ErrNotAllowed):
		return NotAllowed
	case errors.Is(err, scheduler.ErrTooLarge):
		return TooLarge
	case storeRefused(err) && op == Create:
		return SaveFailed
	case storeRefused(err) && op == Remove:
		return RemoveFailed
	default:
		return Unknown
	}
}

// storeRefused says whether err is the store's, rather than a defect.
func storeRefused(err error) bool {
	return errors.Is(err, scheduler.ErrStore) || errors.Is(err, scheduler.ErrClosed) || errors.Is(err, scheduler.ErrShuttingDown)
}

// fixedMessage returns the message of a code that has always the same.
func fixedMessage(c Code) string {
	switch c {
	case BadTime:
		return "定时时间错误"
	case NotFound:
		return "计划未找到"
	case SaveFailed:
		return "保存计划错误"
	case RemoveFailed:
		return "移除计划错误"
	case UnknownAction:
		return "未知处理动作类型"
	default:
		return "未知错误"
	}
}

// Meaning says in English what a code stands for, for people.
func (c Code) Meaning() string {
	switch c {
	case OK:
		return "success"
	case Unknown:
		return "unexpected error; the server's log has the cause"
	case BadTime:
		return "this time never comes"
	case NotFound:
		return "no such plan"
	case SaveFailed:
		return "the store refused to save the plan"
	case RemoveFailed:
		return "the store refused to remove the plan"
	case UnknownAction:
		return "unknown action"
	case Missing:
		return "a required argument is missing"
	case BadField:
		return "field value not allowed"
	case BadParams:
		return "action parameters not allowed"
	case StoreFull:
		return "the store is full"
	case DurabilityUnknown:
		return "stored, but its copies are not confirmed"
	case NotAllowed:
		return "not allowed"
	case TooLarge:
		return "too large"
	default:
		return "error"
	}
}
