package redistest_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/snower/forsun/redisstore/redistest"
)

func TestDoParsesEveryKindOfReply(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	const script = `return {1, 'two', {redis.status_reply('THREE'), false, {}}, redis.error_reply('ERR five')}`
	for _, row := range []struct {
		command string
		want    any
	}{
		{"PING", "PONG"},
		{"ECHO ", ""},
		{"SET a 1\r\n2", "OK"},
		{"GET a", "1\r\n2"},
		{"GET nothing", nil},
		{"INCRBY n -7", int64(-7)},
		{"LRANGE nothing 0 -1", []any{}},
		{"BLPOP nothing 0.01", nil},
		{"EVAL|" + script + "|0", []any{int64(1), "two", []any{"THREE", nil, []any{}}, redistest.ReplyError("ERR five")}},
	} {
		args := strings.Split(row.command, " ")
		if strings.Contains(row.command, "|") {
			args = strings.Split(row.command, "|")
		}
		if got := redistest.Do(t, s.Addr, args...); !reflect.DeepEqual(got, row.want) {
			t.Errorf("%q: got %#v, want %#v", row.command, got, row.want)
		}
	}
	_, err := redistest.Try(s.Addr, "INCR", "a")
	if want := redistest.ReplyError("ERR value is not an integer or out of range"); err != want {
		t.Errorf("INCR of a text: got %#v, want %#v", err, want)
	}
}

func TestConnKeepsItsState(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	c, err := redistest.Dial(s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, row := range []struct {
		command string
		want    any
	}{
		{"MULTI", "OK"},
		{"SET a 1", "QUEUED"},
		{"INCR a", "QUEUED"},
		{"EXEC", []any{"OK", int64(2)}},
	} {
		if got, err := c.Do(strings.Fields(row.command)...); !reflect.DeepEqual(got, row.want) || err != nil {
			t.Errorf("%s: got %v, %v; want %v", row.command, got, err, row.want)
		}
	}
}

func TestCLIPrintsWhatPeopleSee(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	for _, row := range []struct {
		command, want string
	}{
		{"SET a 1", "OK"},
		{"GET a", "1"},
		{"--no-raw GET a", `"1"`},
		{"--no-raw INCR a", "(integer) 2"},
		{"--no-raw NOSUCH", "(error) ERR unknown command 'NOSUCH', with args beginning with: "},
	} {
		if got := strings.TrimRight(redistest.CLI(t, s.Addr, strings.Fields(row.command)...), "\n"); got != row.want {
			t.Errorf("%s: got %q, want %q", row.command, got, row.want)
		}
	}
}
