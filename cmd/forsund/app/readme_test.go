package app

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/snower/forsun/redisstore/redistest"
)

// root is the top of the checkout.
const root = "../../.."

// block is a fenced block of a page. A comment right before it says what it is
// for:
//
//	<!-- test -->         the commands are run; a text block behind it is their output
//	<!-- test wait -->    they are run again until that is their output
//	<!-- test exit 1 -->  their exit status is 1
//	<!-- test redis -->   they are run with a forsund on Redis, and its redis-cli
//	<!-- file NAME -->    it is written to that file
type block struct {
	line   int // of its fence, from 1
	marker string
	lang   string
	text   string
}

// blocks returns the fenced blocks of a page.
func blocks(t *testing.T, page string) (all []block) {
	t.Helper()
	var (
		open   *block
		marker string
	)
	for i, text := range strings.Split(readPage(t, page), "\n") {
		lang, fence := strings.CutPrefix(text, "```")
		switch {
		case open == nil && fence:
			open = &block{line: i + 1, marker: marker, lang: lang}
		case fence:
			all, open = append(all, *open), nil
		case open != nil:
			open.text += text + "\n"
		}
		marker = ""
		if m, ok := strings.CutPrefix(text, "<!-- "); ok && open == nil {
			marker = strings.TrimSuffix(m, " -->")
		}
	}
	if open != nil {
		t.Fatalf("%s:%d: the block is not closed", page, open.line)
	}
	return all
}

func readPage(t *testing.T, page string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, page))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestReadme runs the examples of README.md, in their order, against a forsund
// of their own, and compares what they print with what the page shows, but for
// times, ids and column widths.
func TestReadme(t *testing.T) {
	t.Parallel()
	r := newExamples(t)
	all := blocks(t, "README.md")
	ran := 0
	for i, b := range all {
		words := strings.Fields(b.marker)
		switch {
		case len(words) == 0:
		case words[0] == "file" && len(words) == 2:
			if err := os.WriteFile(filepath.Join(r.dir, words[1]), []byte(r.in.Replace(b.text)), 0o600); err != nil {
				t.Fatal(err)
			}
		case words[0] == "test" && b.lang == "sh":
			var want *string // nil: not shown
			if i+1 < len(all) && all[i+1].lang == "text" {
				want = &all[i+1].text
			}
			on := r
			if slices.Contains(words, "redis") {
				on = r.onRedis()
			}
			on.check(b, words[1:], want)
			ran++
		default:
			t.Fatalf("README.md:%d: marker %q", b.line, b.marker)
		}
	}
	if ran < 15 {
		t.Errorf("%d examples were run: are they still marked?", ran)
	}
}

// examples is where the examples of a page run: a directory that stands for a
// checkout and for /tmp, and a forsund.
type examples struct {
	t   *testing.T
	dir string
	env []string
	in  *strings.Replacer // paths and ports of the page to those of the test
	out *strings.Replacer // and back

	redis *examples // the ones with Redis, once there was one
}

func newExamples(t *testing.T) *examples {
	t.Helper()
	dir := t.TempDir()
	bin := filepath.Join(dir, "bin")
	if err := os.Mkdir(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("go", "build", "-o", bin, "../../forsun").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	rpc, err := filepath.Abs(filepath.Join(root, "rpc"))
	if err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{
		filepath.Join(dir, "rpc"):     rpc,
		filepath.Join(bin, "python3"): "/usr/bin/python3", // which has Debian's packages
		filepath.Join(bin, "forsund"): program,
	} {
		if err := os.Symlink(to, from); err != nil {
			t.Fatal(err)
		}
	}
	secrets := filepath.Join(dir, "secrets")
	if err := os.WriteFile(secrets, []byte("db-password = of-the-database\npush-token = 0123456789\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	// Without the actions whose example targets may exist on this machine.
	p := start(t, filepath.Join(dir, "store"), "--http=127.0.0.1:0", "--work=shell,http", "--extension-path="+filepath.Join(root, "deploy/extensions"), "--extension=tcp_line", "--secrets-file="+secrets)
	_, port, _ := strings.Cut(p.address, ":")
	return &examples{
		t: t, dir: dir,
		env: []string{
			"PATH=" + bin + ":" + os.Getenv("PATH"), "HOME=" + dir, "FORSUN_PORT=" + port,
			"TZ=UTC", "LC_ALL=C.UTF-8", "NO_COLOR=1",
		},
		in:  strings.NewReplacer("/tmp/", dir+"/", "127.0.0.1:9001", p.http, "127.0.0.1:6459", p.admin, "6458", port),
		out: strings.NewReplacer(dir+"/", "/tmp/", p.http, "127.0.0.1:9001", p.address, "127.0.0.1:6458"),
	}
}

// onRedis is where the examples run that look into Redis: a server of their own, and
// a forsund on it.
func (r *examples) onRedis() *examples {
	r.t.Helper()
	if r.redis != nil {
		return r.redis
	}
	server := redistest.Start(r.t)
	p := start(r.t, filepath.Join(r.dir, "none"), "--driver=redis", "--driver-redis-port="+strconv.Itoa(server.Port))
	_, port, _ := strings.Cut(p.address, ":")
	c := *r
	c.env = append(slices.Clone(r.env), "FORSUN_PORT="+port)
	c.in = strings.NewReplacer("redis-cli ", fmt.Sprintf("redis-cli -p %d ", server.Port))
	r.redis = &c
	return r.redis
}

// check runs a block and compares its output with what is wanted, if that is not
// nil.
func (r *examples) check(b block, words []string, want *string) {
	r.t.Helper()
	wait, status := slices.Contains(words, "wait"), 0
	if i := slices.Index(words, "exit"); i >= 0 {
		var err error
		if status, err = strconv.Atoi(words[i+1]); err != nil {
			r.t.Fatalf("README.md:%d: %v", b.line, err)
		}
	}
	deadline := time.Now().Add(patience)
	for {
		got, code := r.run(b.text)
		if want == nil {
			want = &got
		}
		if code == status && shape(got) == shape(*want) {
			return
		}
		if !wait || time.Now().After(deadline) {
			r.t.Errorf("README.md:%d: exit status %d, want %d\n%s--- got\n%s--- want\n%s", b.line, code, status, b.text, shape(got), shape(*want))
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// run runs commands and returns what they print.
func (r *examples) run(commands string) (output string, status int) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", r.in.Replace(commands))
	cmd.Dir, cmd.Env = r.dir, r.env
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		r.t.Fatal(err)
	}
	return r.out.Replace(string(out)), cmd.ProcessState.ExitCode()
}

// varying is what differs from run to run, and what stands for it.
var varying = []struct {
	pattern *regexp.Regexp
	name    string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d:\d\d`), "TIME"},
	{regexp.MustCompile(`[A-Z][a-z]{2} [A-Z][a-z]{2} +\d+ \d\d:\d\d:\d\d \w+ \d{4}`), "DATE"},
	{regexp.MustCompile(`\b[0-9a-f]{32}\b`), "FIRING"},
	{regexp.MustCompile(`\b[0-9a-f]{16}\b`), "RANDOM"},
	{regexp.MustCompile(`[\w.-]+-[0-9a-f]{8}\b`), "REPLICA"},
	{regexp.MustCompile(`\b1\d{9}(\.\d+)?\b`), "UNIX"},
	{regexp.MustCompile(`[+-]?\b\d+(\.\d+)?m?s\b`), "TOOK"},
	{regexp.MustCompile(`\bv\d+\.\d+\.\d+[\w.-]*`), "VERSION"},
	{regexp.MustCompile(`"(late|took)":[\d.]+`), `"$1":TOOK`},
	{regexp.MustCompile(`"notes_age_seconds": [\d.]+`), `"notes_age_seconds": AGE`},
	{regexp.MustCompile(`"sequence":"[\d.]+"`), `"sequence":SEQUENCE`},
	{regexp.MustCompile(`(?m)^\d+ +TIME`), "ID TIME"},
	{regexp.MustCompile(`[ \t]+`), " "},
	{regexp.MustCompile(`(?m) $`), ""},
}

// shape returns text without what differs from run to run.
func shape(text string) string {
	for _, v := range varying {
		text = v.pattern.ReplaceAllString(text, v.name)
	}
	return strings.TrimRight(text, "\n") + "\n"
}

// TestShape: what is compared is still the example, not just anything.
func TestShape(t *testing.T) {
	const a = `2026-11-24 00:25:54+00:00    fail    shell  2  dead  939ms  1.2s  vm-8dfbdce7   exit status 3`
	const want = "TIME fail shell 2 dead TOOK TOOK REPLICA exit status 3\n"
	if got := shape(a); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, other := range []string{
		`2026-11-24 00:25:54+00:00 fail shell 3 dead 939ms 1.2s vm-8dfbdce7 exit status 3`,
		`00:25:54 fail shell 2 dead 939ms 1.2s vm-8dfbdce7 exit status 3`,
	} {
		if shape(other) == want {
			t.Errorf("%q has the same shape", other)
		}
	}
}

// TestReadmeTranslation: both pages show the same examples.
func TestReadmeTranslation(t *testing.T) {
	t.Parallel()
	english, chinese := blocks(t, "README.md"), blocks(t, "README.zh-CN.md")
	if len(english) != len(chinese) {
		t.Errorf("README.md has %d blocks, README.zh-CN.md %d", len(english), len(chinese))
	}
	for i := range min(len(english), len(chinese)) {
		e, c := english[i], chinese[i]
		if same := (block{c.line, e.marker, e.lang, e.text}); same != c {
			t.Fatalf("README.zh-CN.md:%d: the block is not that of README.md:%d:\n%s", c.line, e.line, fmt.Sprint(c.marker, c.text))
		}
	}
}
