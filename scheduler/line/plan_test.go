package line

import (
	"errors"
	"maps"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/snower/forsun/scheduler"
)

const anyUnit = scheduler.Any

func timeout(second, minute, hour, day, month, week, count int) scheduler.Schedule {
	return scheduler.Schedule{
		Kind: scheduler.Timeout, Second: second, Minute: minute, Hour: hour, Day: day, Month: month, Week: week, Count: count,
	}
}

func calendar(second, minute, hour, day, month, week int) scheduler.Schedule {
	return scheduler.Schedule{Second: second, Minute: minute, Hour: hour, Day: day, Month: month, Week: week}
}

func TestParseUnits(t *testing.T) {
	rows := []struct {
		why, six string
		want     scheduler.Schedule
		back     string
	}{
		{"daily", "0 32 16 * * *", calendar(0, 32, 16, anyUnit, anyUnit, anyUnit), "0 32 16 * * *"},
		{"every second", "* * * * * *", calendar(anyUnit, anyUnit, anyUnit, anyUnit, anyUnit, anyUnit), "* * * * * *"},
		{"all given", "1 2 3 4 5 6", calendar(1, 2, 3, 4, 5, 6), "1 2 3 4 5 6"},
		{"without a count it is 1", "*/5 * * * * *", timeout(5, anyUnit, anyUnit, anyUnit, anyUnit, anyUnit, 1), "*/5/1 * * * * *"},
		{"count", "*/5000/3 * * * * *", timeout(5000, anyUnit, anyUnit, anyUnit, anyUnit, anyUnit, 3), "*/5000/3 * * * * *"},
		{"for ever", "* */5/0 * * * *", timeout(anyUnit, 5, anyUnit, anyUnit, anyUnit, anyUnit, 0), "* */5/0 * * * *"},
		{"the last count given holds", "*/5/2 */1/7 */2 * * *", timeout(5, 1, 2, anyUnit, anyUnit, anyUnit, 7), "*/5/7 */1/7 */2/7 * * *"},
		{"any unit", "* * * */1 */2 */3", timeout(anyUnit, anyUnit, anyUnit, 1, 2, 3, 1), "* * * */1/1 */2/1 */3/1"},
		{"a day of seconds is carried", "*/86400/1 * * * * *", timeout(0, 0, 0, 1, anyUnit, anyUnit, 1), "* * * */1/1 * *"},
		{"carried into what is there", "*/40000/1 */1 * * * *", timeout(40, 7, 11, anyUnit, anyUnit, anyUnit, 1), "*/40/1 */7/1 */11/1 * * *"},
		{"at once", "*/0 * * * * *", timeout(0, anyUnit, anyUnit, anyUnit, anyUnit, anyUnit, 1), "*/0/1 * * * * *"},
	}
	for _, r := range rows {
		got, err := ParseUnits(strings.Fields(r.six))
		if err != nil || got != r.want {
			t.Errorf("%s: ParseUnits(%s): got %+v, %v; want %+v", r.why, r.six, got, err, r.want)
			continue
		}
		units := FormatUnits(got)
		if back := strings.Join(units[:], " "); back != r.back {
			t.Errorf("%s: FormatUnits(%+v): got %s, want %s", r.why, got, back, r.back)
		}
	}
}

func TestParseUnitsRefuses(t *testing.T) {
	rows := []struct {
		why, six string
		kind     error
		field    string
	}{
		{"five fields", "0 0 0 * *", scheduler.ErrMissing, "time"},
		{"a number beside an interval", "*/5/1 0 * * * *", scheduler.ErrField, "minute"},
		{"a number before an interval", "0 */5/1 * * * *", scheduler.ErrField, "second"},
		{"out of range", "0 60 * * * *", scheduler.ErrField, "minute"},
		{"negative", "0 0 -1 * * *", scheduler.ErrField, "hour"},
		{"no number", "0 0 0 x * *", scheduler.ErrField, "day"},
		{"no interval", "*/ * * * * *", scheduler.ErrField, "second"},
		{"no count", "*/5/ * * * * *", scheduler.ErrField, "second"},
		{"negative count", "*/5/-1 * * * * *", scheduler.ErrField, "second"},
		{"too much", "*/5/1/1 * * * * *", scheduler.ErrField, "second"},
		{"too many digits", "*/99999999999999999999 * * * * *", scheduler.ErrField, "second"},
		{"empty", "*/0/2 * * * * *", scheduler.ErrField, "count"},
		{"31 February", "0 0 0 31 2 *", scheduler.ErrTime, "day"},
		{"ranges are not crontab's", "0 1-5 * * * *", scheduler.ErrField, "minute"},
	}
	for _, r := range rows {
		_, err := ParseUnits(strings.Fields(r.six))
		var field *scheduler.FieldError
		if !errors.As(err, &field) || field.Kind != r.kind || field.Field != r.field {
			t.Errorf("%s: ParseUnits(%s): got %v, want %v for %s", r.why, r.six, err, r.kind, r.field)
		}
	}
}

// seedCommands are the commands of the seed's README, as a shell hands them
// over, in its order.
var seedCommands = []struct {
	line string
	want Plan
}{
	{
		`set redis */5/1 * * * * * redis 'host=172.16.0.2;command=\'SET b 1 EX 300\'`,
		Plan{"redis", timeout(5, -1, -1, -1, -1, -1, 1), "redis", map[string]string{"host": "172.16.0.2", "command": "SET b 1 EX 300"}},
	},
	{
		`set shell */5/1 * * * * * shell 'cmd=ls`,
		Plan{"shell", timeout(5, -1, -1, -1, -1, -1, 1), "shell", map[string]string{"cmd": "ls"}},
	},
	{
		`set beanstalk */5/1 * * * * * beanstalk 'host=10.4.14.14;name=etask;body={}'`,
		Plan{"beanstalk", timeout(5, -1, -1, -1, -1, -1, 1), "beanstalk", map[string]string{"host": "10.4.14.14", "name": "etask", "body": "{}"}},
	},
	{
		`set thrift */5/1 * * * * * thrift 'host=10.4.14.14;port=4220`,
		Plan{"thrift", timeout(5, -1, -1, -1, -1, -1, 1), "thrift", map[string]string{"host": "10.4.14.14", "port": "4220"}},
	},
	{
		`set http */5/1 * * * * * http 'url=\'http://www.baidu.com\''`,
		Plan{"http", timeout(5, -1, -1, -1, -1, -1, 1), "http", map[string]string{"url": "http://www.baidu.com"}},
	},
	{
		`set mysql */5/1 * * * * * mysql 'host=172.16.0.2;user=root;passwd=123456;db=test;sql=\'update test set created_at=now() where id=1\'`,
		Plan{"mysql", timeout(5, -1, -1, -1, -1, -1, 1), "mysql", map[string]string{
			"host": "172.16.0.2", "user": "root", "passwd": "123456", "db": "test", "sql": "update test set created_at=now() where id=1",
		}},
	},
	{
		`set redis 0 32 16 * * * redis 'host=172.16.0.2;command=\'SET b 1 EX 300\'`,
		Plan{"redis", calendar(0, 32, 16, -1, -1, -1), "redis", map[string]string{"host": "172.16.0.2", "command": "SET b 1 EX 300"}},
	},
	{
		`set shell 0 32 16 * * * shell 'cmd=ls`,
		Plan{"shell", calendar(0, 32, 16, -1, -1, -1), "shell", map[string]string{"cmd": "ls"}},
	},
	{
		`set beanstalk 0 32 16 * * * beanstalk 'host=10.4.14.14;name=etask;body={}'`,
		Plan{"beanstalk", calendar(0, 32, 16, -1, -1, -1), "beanstalk", map[string]string{"host": "10.4.14.14", "name": "etask", "body": "{}"}},
	},
	{
		`set thrift 0 32 16 * * * thrift 'host=10.4.14.14;port=4220`,
		Plan{"thrift", calendar(0, 32, 16, -1, -1, -1), "thrift", map[string]string{"host": "10.4.14.14", "port": "4220"}},
	},
	{
		`set http 0 32 16 * * * http 'url=\'http://www.baidu.com\''`,
		Plan{"http", calendar(0, 32, 16, -1, -1, -1), "http", map[string]string{"url": "http://www.baidu.com"}},
	},
}

func equalPlans(a, b Plan) bool {
	return a.Key == b.Key && a.Schedule == b.Schedule && a.Action == b.Action && maps.Equal(a.Params, b.Params)
}

func TestSeedCommands(t *testing.T) {
	for _, r := range seedCommands {
		commands := Words(r.line)
		if len(commands) != 1 || commands[0][0] != "set" {
			t.Errorf("Words(%s): got %q, want one command set", r.line, commands)
			continue
		}
		got, err := ParsePlan(commands[0][1:])
		if err != nil || !equalPlans(got, r.want) {
			t.Errorf("%s:\ngot  %+v, %v\nwant %+v", r.line, got, err, r.want)
		}
	}
}

// TestSeedReadme checks that seedCommands are the README's, all but its last
// one, which lacks a time field.
func TestSeedReadme(t *testing.T) {
	readme, err := os.ReadFile("testdata/seed_commands.txt")
	if err != nil {
		t.Fatal(err)
	}
	// A shell passes what is between double quotes as it is: no \" or $ is in it.
	found := regexp.MustCompile(`(?m)^forsun "(set .*)"$`).FindAllStringSubmatch(string(readme), -1)
	if got, want := len(found), len(seedCommands)+1; got != want {
		t.Fatalf("commands in the README: got %d, want %d", got, want)
	}
	for i, r := range seedCommands {
		if got := found[i][1]; got != r.line {
			t.Errorf("command %d: got %s, want %s", i, got, r.line)
		}
	}
	_, err = ParsePlan(Words(found[len(found)-1][1])[0][1:])
	var field *scheduler.FieldError
	if !errors.As(err, &field) || field.Kind != scheduler.ErrMissing || field.Field != "week" || field.Value != "mysql" {
		t.Errorf("the README's last command: got %v, want the week to be missing", err)
	}
}

func TestParsePlan(t *testing.T) {
	rows := []struct {
		why, line string
		want      Plan
	}{
		{"sh is shell", `k 0 * * * * * sh date`, Plan{"k", calendar(0, -1, -1, -1, -1, -1), "shell", map[string]string{"cmd": "date"}}},
		{"bash is shell", `k 0 * * * * * bash 'date >> log.txt'`, Plan{"k", calendar(0, -1, -1, -1, -1, -1), "shell", map[string]string{"cmd": "date >> log.txt"}}},
		{"a URL", `k 0 * * * * * http http://h/?a=1`, Plan{"k", calendar(0, -1, -1, -1, -1, -1), "http", map[string]string{"url": "http://h/?a=1"}}},
		{"a key with blanks", `'my key' 0 * * * * * sh ls`, Plan{"my key", calendar(0, -1, -1, -1, -1, -1), "shell", map[string]string{"cmd": "ls"}}},
		{"no parameters", `k 0 * * * * * own`, Plan{"k", calendar(0, -1, -1, -1, -1, -1), "own", nil}},
	}
	for _, r := range rows {
		got, err := ParsePlan(Words(r.line)[0])
		if err != nil || !equalPlans(got, r.want) {
			t.Errorf("%s: %s:\ngot  %+v, %v\nwant %+v", r.why, r.line, got, err, r.want)
		}
	}
}

func TestParsePlanRefuses(t *testing.T) {
	rows := []struct {
		why, line string
		kind      error
		field     string
	}{
		{"only a key", "k", scheduler.ErrMissing, "second"},
		{"the time ends", "k 0 0 0", scheduler.ErrMissing, "day"},
		{"a time field is missing", "k 0 0 0 * * shell ls", scheduler.ErrMissing, "week"},
		{"no action", "k 0 0 0 * * *", scheduler.ErrMissing, "action"},
		{"parameters not quoted", "k 0 0 0 * * * shell ls -la", scheduler.ErrParams, "params"},
		{"a bad time field", "k 0 0 24 * * * shell ls", scheduler.ErrField, "hour"},
		{"bad parameters", "k 0 0 0 * * * redis ls", scheduler.ErrParams, "params"},
	}
	for _, r := range rows {
		_, err := ParsePlan(Words(r.line)[0])
		var field *scheduler.FieldError
		if !errors.As(err, &field) || field.Kind != r.kind || field.Field != r.field {
			t.Errorf("%s: %s: got %v, want %v for %s", r.why, r.line, err, r.kind, r.field)
		}
	}
	if _, err := ParsePlan(nil); !errors.Is(err, scheduler.ErrMissing) {
		t.Errorf("no words: got %v, want ErrMissing", err)
	}
}

func TestPlanString(t *testing.T) {
	p := Plan{"my key", timeout(5000, -1, -1, -1, -1, -1, 1), "redis", map[string]string{"host": "127.0.0.1", "command": "SET b 1 EX 300"}}
	if got, want := p.String(), `'my key' */5000/1 * * * * * redis "command='SET b 1 EX 300';host='127.0.0.1'"`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func FuzzPlanLine(f *testing.F) {
	for _, r := range seedCommands {
		f.Add(strings.TrimPrefix(r.line, "set "))
	}
	f.Add("k 32 16 * * * mysql 'host=h'")
	f.Add("k */86400/1 * * * * * sh 'date >> \\'a b\\''")
	f.Add("'k;' 0 0 0 29 2 7 http \"url='\"")
	f.Fuzz(func(t *testing.T, text string) {
		for _, words := range Words(text) {
			p, err := ParsePlan(words)
			if err != nil {
				var field *scheduler.FieldError
				if !errors.As(err, &field) || field.Field == "" {
					t.Fatalf("%q: an error that names no field: %v", words, err)
				}
				continue
			}
			again := Words(p.String())
			if len(again) != 1 {
				t.Fatalf("%s reads back as %q", p, again)
			}
			back, err := ParsePlan(again[0])
			if err != nil || back.Key != p.Key || back.Action != p.Action || !maps.Equal(back.Params, p.Params) {
				t.Fatalf("%s reads back as %+v, %v; want %+v", p, back, err, p)
			}
			if FormatUnits(back.Schedule) != FormatUnits(p.Schedule) || back.Schedule.Interval() != p.Schedule.Interval() {
				t.Fatalf("%s: the schedule reads back as %+v, want %+v", p, back.Schedule, p.Schedule)
			}
		}
	})
}
