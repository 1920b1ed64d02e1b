package redisstore

import (
	"encoding/base64"
	"encoding/json"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/snower/forsun/scheduler"
)

// An attempt is a line of an entry of the history: JSON, which for a firing that is
// to be retried begins with what finish.lua decides, its outcome:
//
//	{"outcome":"succeeded","firing":"0af3…","key":"k","action":"http","due":1764192000,"missed":0,"attempt":1,
//	 "started":1764192000003,"late_us":3120,"took_us":1840,"replica":"a-1","error":"…","output":"…"}
type storedAttempt struct {
	Outcome      scheduler.Outcome  `json:"outcome"`
	RetryAt      int64              `json:"retry_at"` // ms
	Firing       scheduler.FiringID `json:"firing"`
	Key          string             `json:"key"`
	Action       string             `json:"action"`
	Due          int64              `json:"due"`
	Missed       int                `json:"missed"`
	Attempt      int                `json:"attempt"`
	Started      int64              `json:"started"` // ms
	LateUS       int64              `json:"late_us"`
	TookUS       int64              `json:"took_us"`
	Replica      string             `json:"replica"`
	Error        string             `json:"error"`
	Output       string             `json:"output"`
	OutputBase64 []byte             `json:"output_base64"`
}

// encodeAttempt returns the line of a, without its beginning if it is to be retried.
func encodeAttempt(a *scheduler.Attempt, retry bool) string {
	return string(appendAttempt(make([]byte, 0, attemptRoom(a)), a, retry))
}

// attemptRoom is about how long a line is.
func attemptRoom(a *scheduler.Attempt) int {
	return 256 + len(a.Key) + len(a.Action) + len(a.Output) + len(a.Error)
}

func appendAttempt(b []byte, a *scheduler.Attempt, retry bool) []byte {
	if !retry {
		b = append(b, `{"outcome":`...)
		b = appendString(b, string(a.Outcome))
		b = append(b, ',')
	}
	b = append(b, `"firing":`...)
	b = appendString(b, string(a.Firing))
	b = append(b, `,"key":`...)
	b = appendString(b, a.Key)
	b = append(b, `,"action":`...)
	b = appendString(b, a.Action)
	for _, f := range [...]struct {
		name  string
		value int64
	}{
		{`,"due":`, a.Due},
		{`,"missed":`, int64(a.Missed)},
		{`,"attempt":`, int64(a.Attempt)},
		{`,"started":`, a.Started.UnixMilli()},
		{`,"late_us":`, a.Late.Microseconds()},
		{`,"took_us":`, a.Took.Microseconds()},
	} {
		b = append(b, f.name...)
		b = strconv.AppendInt(b, f.value, 10)
	}
	b = append(b, `,"replica":`...)
	b = appendString(b, a.Replica)
	if a.Error != "" {
		b = append(b, `,"error":`...)
		b = appendText(b, a.Error)
	}
	if utf8.ValidString(a.Output) && a.Output != "" {
		b = append(b, `,"output":`...)
		b = appendString(b, a.Output)
	} else if a.Output != "" {
		b = append(b, `,"output_base64":"`...)
		b = base64.StdEncoding.AppendEncode(b, []byte(a.Output))
		b = append(b, '"')
	}
	return append(b, '}')
}

// appendText writes a string of whatever bytes; those that are not UTF-8 become
// U+FFFD.
func appendText(b []byte, s string) []byte {
	if utf8.ValidString(s) {
		return appendString(b, s)
	}
	return appendString(b, string([]rune(s)))
}

// decodeAttempt reads a line of the history.
func decodeAttempt(line string) (a scheduler.Attempt, err error) {
	var s storedAttempt
	if err := json.Unmarshal([]byte(line), &s); err != nil {
		return a, err
	}
	a = scheduler.Attempt{
		Firing: s.Firing, Key: s.Key, Action: s.Action, Due: s.Due, Missed: s.Missed, Attempt: s.Attempt,
		Started: time.UnixMilli(s.Started), Late: time.Duration(s.LateUS) * time.Microsecond, Took: time.Duration(s.TookUS) * time.Microsecond,
		Outcome: s.Outcome, Error: s.Error, Output: s.Output, Replica: s.Replica,
	}
	if len(s.OutputBase64) > 0 {
		a.Output = string(s.OutputBase64)
	}
	if s.RetryAt != 0 {
		a.RetryAt = time.UnixMilli(s.RetryAt)
	}
	return a, nil
}
