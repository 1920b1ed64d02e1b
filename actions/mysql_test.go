package actions

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/snower/forsun/actions/actionstest"
	"github.com/snower/forsun/scheduler"
)

func newMySQL(t *testing.T) *MySQL {
	t.Helper()
	a := NewMySQL(DefaultMySQLOptions())
	t.Cleanup(func() { a.Close() })
	return a
}

func TestMySQLCheck(t *testing.T) {
	a := newMySQL(t)
	for _, row := range []struct {
		why    string
		params map[string]string
		kind   error
		field  string
	}{
		{"defaults", map[string]string{"sql": "SELECT 1"}, nil, ""},
		{"everything", map[string]string{"host": "h", "port": "3307", "user": "root", "passwd": "123456", "db": "test", "max_connections": "2", "sql": "update test set created_at=now() where id=1", "other": "x"}, nil, ""},
		{"no sql", map[string]string{"db": "test"}, scheduler.ErrMissing, "params.sql"},
		{"blank sql", map[string]string{"sql": " \n"}, scheduler.ErrParams, "params.sql"},
		{"port", map[string]string{"sql": "SELECT 1", "port": "-1"}, scheduler.ErrParams, "params.port"},
		{"connections", map[string]string{"sql": "SELECT 1", "max_connections": "many"}, scheduler.ErrParams, "params.max_connections"},
	} {
		wantField(t, row.why, a.Check(row.params), row.kind, row.field)
	}
	if got, want := a.Target(map[string]string{"host": "h"}), "h:3306"; got != want {
		t.Errorf("Target: got %q, want %q", got, want)
	}
	if got, want := a.Timeout(nil), 30*time.Second; got != want {
		t.Errorf("Timeout: got %s, want %s", got, want)
	}
}

func TestMySQLDefaults(t *testing.T) {
	options := DefaultMySQLOptions()
	options.User, options.Passwd = "operator", "s3cret"
	a := NewMySQL(options)
	defer a.Close()
	for _, row := range []struct {
		params map[string]string
		want   mysqlTarget
	}{
		{nil, mysqlTarget{"127.0.0.1:3306", "mysql", "operator", "s3cret"}},
		{map[string]string{"user": "root"}, mysqlTarget{"127.0.0.1:3306", "mysql", "root", ""}},
		{map[string]string{"passwd": "p"}, mysqlTarget{"127.0.0.1:3306", "mysql", "operator", "p"}},
		{map[string]string{"user": "root", "passwd": "p", "db": "d"}, mysqlTarget{"127.0.0.1:3306", "d", "root", "p"}},
	} {
		f := firingOf(row.params, "sql", "SELECT 1")
		p, err := a.parse(f.Plan.Params)
		if err != nil || p.target != row.want {
			t.Errorf("parse(%v): got %+v, %v, want %+v", row.params, p.target, err, row.want)
		}
	}
}

// mysqlTest is one MariaDB that the subtests of TestMySQL share.
type mysqlTest struct {
	server *actionstest.Server
	db     *sql.DB
}

// do executes an operator's statements.
func (m *mysqlTest) do(t *testing.T, statements ...string) {
	t.Helper()
	for _, s := range statements {
		if _, err := m.db.Exec(s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

// value returns the first column of the first row as text, "" if there is none.
func (m *mysqlTest) value(t *testing.T, query string, args ...any) string {
	t.Helper()
	var v sql.NullString
	if err := m.db.QueryRow(query, args...).Scan(&v); err != nil && !errors.Is(err, sql.ErrNoRows) {
		t.Fatalf("%s: %v", query, err)
	}
	return v.String
}

// params lead to database test.
func (m *mysqlTest) params() map[string]string {
	p := addressOf(m.server)
	p["db"] = "test"
	return p
}

func TestMySQL(t *testing.T) {
	t.Parallel()
	m := &mysqlTest{server: actionstest.StartMariaDB(t, "--innodb-lock-wait-timeout=1", "--local-infile=1")}
	cfg := mysql.NewConfig()
	cfg.User, cfg.Net, cfg.Addr, cfg.DBName = "root", "tcp", m.server.Addr, "mysql"
	cfg.Timeout, cfg.ReadTimeout = 5*time.Second, 30*time.Second
	cfg.Logger = &mysql.NopLogger{}
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		t.Fatal(err)
	}
	m.db = sql.OpenDB(connector)
	t.Cleanup(func() { m.db.Close() })
	m.do(t, "CREATE DATABASE test", "CREATE TABLE test.t (id VARCHAR(64) PRIMARY KEY, v TEXT) ENGINE=InnoDB CHARSET=utf8mb4")
	// In turn: some change what holds for the whole server.
	for _, test := range []struct {
		name string
		run  func(*testing.T, *mysqlTest)
	}{
		{"statements", mysqlStatements},
		{"laravel jobs", mysqlLaravelJobs},
		{"errors", mysqlErrors},
		{"lock wait and deadlock", mysqlLocks},
		{"session state", mysqlSessionState},
		{"login", mysqlLogin},
		{"killed at the deadline", mysqlKilledAtDeadline},
		{"max_connections", mysqlMaxConnections},
		{"read-only server", mysqlReadOnly},
		{"restart", mysqlRestart},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, m) })
	}
}

func mysqlStatements(t *testing.T, m *mysqlTest) {
	a := newMySQL(t)
	id := string(firingOf(nil).ID())
	for _, row := range []struct{ why, sql, out, ask, want string }{
		{"insert", "INSERT INTO t VALUES ('a', 'x')", "rows affected: 1", "SELECT v FROM test.t WHERE id='a'", "x"},
		{"update with a semicolon behind", "UPDATE t SET v='y' WHERE id='a';", "rows affected: 1", "SELECT v FROM test.t WHERE id='a'", "y"},
		{"nothing to update", "UPDATE t SET v='z' WHERE id='nobody'", "rows affected: 0", "SELECT v FROM test.t WHERE id='a'", "y"},
		{"tokens", "INSERT INTO t VALUES ('${firing.id}', '${firing.due} ${firing.attempt} ${firing.key}')", "rows affected: 1", "SELECT v FROM test.t WHERE id='" + id + "'", "1795345900 1 ${firing.key}"},
		{"beyond the basic plane", "INSERT INTO t VALUES ('u', '键 😀 é')", "rows affected: 1", "SELECT v FROM test.t WHERE id='u'", "键 😀 é"},
		{"a select, its rows thrown away", "SELECT * FROM t", "rows affected: 0", "SELECT COUNT(*) FROM test.t", "3"},
		{"a result set from a procedure", "CREATE PROCEDURE p() BEGIN INSERT INTO t VALUES ('p', '1'); SELECT 1; SELECT 2; END", "rows affected: 0", "SELECT COUNT(*) FROM test.t", "3"},
		{"call it", "CALL p()", "rows affected: 1", "SELECT v FROM test.t WHERE id='p'", "1"},
		{"definitions", "CREATE TABLE other (a INT)", "rows affected: 0", "SELECT COUNT(*) FROM test.other", "0"},
		{"percent and question marks", "INSERT INTO t VALUES ('%s', '? %d')", "rows affected: 1", "SELECT v FROM test.t WHERE id='%s'", "? %d"},
	} {
		out, err := attempt(t, a, firingOf(m.params(), "sql", row.sql))
		if err != nil {
			t.Errorf("%s: %v", row.why, err)
			continue
		}
		if out != row.out {
			t.Errorf("%s: output: got %q, want %q", row.why, out, row.out)
		}
		if got := m.value(t, row.ask); got != row.want {
			t.Errorf("%s: %s: got %q, want %q", row.why, row.ask, got, row.want)
		}
	}
}

// mysqlLaravelJobs: a Laravel worker must find its job byte for byte.
func mysqlLaravelJobs(t *testing.T, m *mysqlTest) {
	m.do(t, "CREATE TABLE test.jobs (id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, queue VARCHAR(255) NOT NULL, payload LONGTEXT NOT NULL, attempts TINYINT UNSIGNED NOT NULL, reserved TINYINT UNSIGNED NOT NULL, reserved_at INT UNSIGNED NULL, available_at INT UNSIGNED NOT NULL, created_at INT UNSIGNED NOT NULL) CHARSET=utf8mb4")
	a := newMySQL(t)
	for i, payload := range laravelPayloads(t) {
		if got, want := must(t, a, firingOf(m.params(), "sql", payload.SQL)), "rows affected: 1"; got != want {
			t.Errorf("payload %d: output: got %q, want %q", i, got, want)
		}
		if got := m.value(t, "SELECT payload FROM test.jobs ORDER BY id DESC LIMIT 1"); got != payload.Expect {
			t.Errorf("payload %d:\ngot  %s\nwant %s", i, got, payload.Expect)
		}
		if got, want := m.value(t, "SELECT queue FROM test.jobs ORDER BY id DESC LIMIT 1"), "default"; got != want {
			t.Errorf("payload %d: queue: got %q, want %q", i, got, want)
		}
	}
}

func mysqlErrors(t *testing.T, m *mysqlTest) {
	const secret = "pass-w0rd-s3cret"
	m.do(t, "INSERT INTO test.t VALUES ('dup', 'x')", "CREATE TABLE test.n (a INT NOT NULL)")
	a := newMySQL(t)
	for _, row := range []struct {
		why, db, sql string
		texts        []string
	}{
		{"syntax", "test", "SELEKT 1", []string{"mysql " + m.server.Addr + ": Error 1064"}},
		{"no such table", "test", "UPDATE nosuch SET a=1", []string{"1146", "nosuch"}},
		{"a duplicate key", "test", "INSERT INTO t VALUES ('dup', 'y')", []string{"1062"}},
		{"no such database", "nosuch", "SELECT 1", []string{"1049", "connect and log in"}},
		{"two statements", "test", "INSERT INTO t VALUES ('m1', ''); INSERT INTO t VALUES ('m2', '')", []string{"1064"}},
		{"a local file", "test", "LOAD DATA LOCAL INFILE '/etc/hostname' INTO TABLE t", []string{"not registered"}},
		{"a server option", "test", "SELECT 1 INTO OUTFILE '/nosuch/x'", nil},
		{"a secret in a statement", "test", "CREATE USER u IDENTIFIED BY '" + secret + "' NOSUCHOPTION '" + secret + "'", []string{"1064", "left out"}},
		{"a secret in an assignment", "test", "SET PASSWORD FOR '" + secret + "' = nosuch(" + secret + ")", []string{"left out"}},
		{"rows after the first are refused: none is kept", "test", "INSERT INTO t VALUES ('before', ''), ('dup', '')", []string{"1062"}},
	} {
		out, err := attempt(t, a, firingOf(m.params(), "db", row.db, "sql", row.sql))
		wantFailure(t, row.why, err, false, row.texts...)
		wantNoSecret(t, row.why, secret, out, err)
	}
	for _, id := range []string{"m1", "m2", "before"} {
		if got := m.value(t, "SELECT COUNT(*) FROM test.t WHERE id=?", id); got != "0" {
			t.Errorf("row %q: got %s, want 0", id, got)
		}
	}
	if got := m.value(t, "SELECT COUNT(*) FROM information_schema.innodb_trx"); got != "0" {
		t.Errorf("open transactions after errors: got %s, want 0", got)
	}
}

// mysqlLocks: what another session's locks do is worth another attempt.
func mysqlLocks(t *testing.T, m *mysqlTest) {
	m.do(t, "INSERT INTO test.t VALUES ('lock1', '0'), ('lock2', '0')")
	a := newMySQL(t)
	tx, err := m.db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.Exec("UPDATE test.t SET v='held' WHERE id='lock1'"); err != nil {
		t.Fatal(err)
	}
	_, err = attempt(t, a, firingOf(m.params(), "sql", "UPDATE t SET v='mine' WHERE id='lock1'"))
	wantFailure(t, "lock wait timeout", err, true, "1205")

	// The firing locks lock2 and waits for lock1, which we hold; then we ask for
	// lock2. The server ends one of the two; having changed more, we are not it.
	for i := range 20 {
		if _, err := tx.Exec("INSERT INTO test.t VALUES (?, '')", "weight"+strconv.Itoa(i)); err != nil {
			t.Fatal(err)
		}
	}
	result := make(chan error, 1)
	go func() {
		_, err := attempt(t, a, firingOf(m.params(), "sql", "UPDATE t SET v='mine' WHERE id IN ('lock2', 'lock1') ORDER BY id DESC"))
		result <- err
	}()
	waitFor(t, "the firing to wait for the lock", func() bool {
		// InnoDB refreshes this table only for who has not read it for 100 ms.
		time.Sleep(110 * time.Millisecond)
		return m.value(t, "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_state='LOCK WAIT'") != "0"
	})
	if _, err := tx.Exec("UPDATE test.t SET v='held' WHERE id='lock2'"); err != nil {
		t.Fatalf("our side of the deadlock: %v", err)
	}
	wantFailure(t, "deadlock", <-result, true, "1213")
	tx.Rollback()
	must(t, a, firingOf(m.params(), "sql", "UPDATE t SET v='mine' WHERE id='lock1'"))
	if got, want := m.value(t, "SELECT v FROM test.t WHERE id='lock1'"), "mine"; got != want {
		t.Errorf("the retry: got %q, want %q", got, want)
	}
}

// mysqlSessionState: what one firing does to its session must not reach
// another's.
func mysqlSessionState(t *testing.T, m *mysqlTest) {
	a := newMySQL(t)
	m.do(t, "CREATE TABLE test.s (db TEXT, mode TEXT, var TEXT)")
	for _, before := range []string{
		"USE mysql", "SET SESSION sql_mode='NO_BACKSLASH_ESCAPES'", "SET @x=1", "SET autocommit=0",
		"LOCK TABLES t WRITE", "CREATE TEMPORARY TABLE s (a INT)", "/* a comment */ USE mysql", "  use mysql",
	} {
		must(t, a, firingOf(m.params(), "sql", before))
		must(t, a, firingOf(m.params(), "sql", "INSERT INTO s VALUES (DATABASE(), @@sql_mode LIKE '%NO_BACKSLASH%', @x)"))
		if got, want := m.value(t, "SELECT CONCAT_WS(' ', db, mode, var) FROM test.s"), "test 0"; got != want {
			t.Errorf("after %s: got %q, want %q", before, got, want)
		}
		m.do(t, "DELETE FROM test.s")
	}
}

func mysqlLogin(t *testing.T, m *mysqlTest) {
	const secret = "pass-w0rd-s3cret"
	m.do(t, "CREATE USER alice IDENTIFIED BY '"+secret+"'", "GRANT ALL ON test.* TO alice")
	a := newMySQL(t)
	for _, row := range []struct{ why, user, passwd, sql, err string }{
		{"password", "alice", secret, "INSERT INTO t VALUES ('alice', '')", ""},
		{"wrong password", "alice", secret + "-wrong", "SELECT 1", "1045"},
		{"no password", "alice", "", "SELECT 1", "1045"},
		{"unknown account", "bob", secret, "SELECT 1", "1045"},
		{"what an account may not", "alice", secret, "DELETE FROM mysql.user", "1142"},
		{"the password in a statement", "alice", secret, "SELECT nosuch('" + secret + "') FROM `" + secret + "`", "***"},
	} {
		out, err := attempt(t, a, firingOf(m.params(), "user", row.user, "passwd", row.passwd, "sql", row.sql))
		wantNoSecret(t, row.why, secret, out, err)
		if row.err == "" {
			if err != nil {
				t.Errorf("%s: %v", row.why, err)
			}
			continue
		}
		wantFailure(t, row.why, err, false, row.err)
	}
}

// mysqlKilledAtDeadline: a statement that was cut off does not go on on the
// server, and holds no lock there.
func mysqlKilledAtDeadline(t *testing.T, m *mysqlTest) {
	m.do(t, "INSERT INTO test.t VALUES ('slow', 'old')")
	a := newMySQL(t)
	wantEndAtDeadline(t, a, firingOf(m.params(), "sql", "SELECT SLEEP(60)"))

	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := a.Execute(ctx, firingOf(m.params(), "sql", "UPDATE t SET v=CONCAT('new', SLEEP(60)) WHERE id='slow'"))
	wantFailure(t, "an update that sleeps", err, true, "deadline")
	waitFor(t, "the statements to end on the server", func() bool {
		return m.value(t, "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE '%SLEEP(60)%' AND id <> CONNECTION_ID()") == "0"
	})
	m.do(t, "UPDATE test.t SET v='free' WHERE id='slow'") // 1 s of waiting for the lock would fail it
	if got, want := m.value(t, "SELECT v FROM test.t WHERE id='slow'"), "free"; got != want {
		t.Errorf("the row: got %q, want %q", got, want)
	}

	silent := actionstest.StartSilent(t)
	wantEndAtDeadline(t, a, firingOf(addressOf(silent), "sql", "SELECT 1"))
}

func mysqlMaxConnections(t *testing.T, m *mysqlTest) {
	a := newMySQL(t)
	m.do(t, "INSERT INTO test.t VALUES ('n', '0')")
	connections := func() int {
		var name string
		var n int
		if err := m.db.QueryRow("SHOW GLOBAL STATUS LIKE 'Connections'").Scan(&name, &n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	had := connections()
	var wg sync.WaitGroup
	for range 30 {
		wg.Go(func() {
			if _, err := attempt(t, a, firingOf(m.params(), "max_connections", "2", "sql", "UPDATE t SET v=v+1 WHERE id='n'")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got, want := connections()-had, 2; got > want {
		t.Errorf("connections for 30 firings at once: got %d, want at most %d", got, want)
	}
	if got, want := m.value(t, "SELECT v FROM test.t WHERE id='n'"), "30"; got != want {
		t.Errorf("the counter: got %s, want %s", got, want)
	}
}

func mysqlReadOnly(t *testing.T, m *mysqlTest) {
	m.do(t, "CREATE USER writer", "GRANT ALL ON test.* TO writer", "SET GLOBAL read_only=1")
	a := newMySQL(t)
	_, err := attempt(t, a, firingOf(m.params(), "user", "writer", "sql", "INSERT INTO t VALUES ('ro', '')"))
	wantFailure(t, "read-only", err, true, "1290")
	m.do(t, "SET GLOBAL read_only=0")
	must(t, a, firingOf(m.params(), "user", "writer", "sql", "INSERT INTO t VALUES ('ro', '')"))
}

// mysqlRestart: connections that broke while idle cost nothing; what breaks
// while it runs is retryable.
func mysqlRestart(t *testing.T, m *mysqlTest) {
	a := newMySQL(t)
	f := firingOf(m.params(), "sql", "UPDATE t SET v='r' WHERE id='a'")
	must(t, a, f)
	m.server.Restart()
	must(t, a, f)

	result := make(chan error, 1)
	go func() {
		_, err := attempt(t, a, firingOf(m.params(), "sql", "SELECT SLEEP(59)"))
		result <- err
	}()
	waitFor(t, "the statement to run", func() bool {
		return m.value(t, "SELECT COUNT(*) FROM information_schema.processlist WHERE info = 'SELECT SLEEP(59)'") != "0"
	})
	m.server.Stop()
	wantFailure(t, "stopped meanwhile", <-result, true)
	_, err := attempt(t, a, f)
	wantFailure(t, "nobody listens", err, true, "refused")
}

// TestMySQLRetryable has the rows that no server says on demand.
func TestMySQLRetryable(t *testing.T) {
	for _, row := range []struct {
		err  error
		want bool
	}{
		{&mysql.MySQLError{Number: 1040, Message: "Too many connections"}, true},
		{&mysql.MySQLError{Number: 1203}, true},
		{&mysql.MySQLError{Number: 1053, Message: "Server shutdown in progress"}, true},
		{&mysql.MySQLError{Number: 1213, Message: "Deadlock found"}, true},
		{&mysql.MySQLError{Number: 1792, Message: "Cannot execute statement in a READ ONLY transaction."}, true},
		{&mysql.MySQLError{Number: 1290, Message: "The MySQL server is running with the --super-read-only option"}, true},
		{&mysql.MySQLError{Number: 1290, Message: "The MySQL server is running with the --secure-file-priv option"}, false},
		{&mysql.MySQLError{Number: 1317, Message: "Query execution was interrupted"}, false},
		{&mysql.MySQLError{Number: 1064}, false},
		{mysql.ErrInvalidConn, true},
		{mysql.ErrPktTooLarge, false},
		{mysql.ErrNativePassword, false},
		{context.DeadlineExceeded, true},
	} {
		if got := mysqlRetryable(fmt.Errorf("commit: %w", row.err)); got != row.want {
			t.Errorf("%v: got retryable %t, want %t", row.err, got, row.want)
		}
	}
}

func TestMySQLKeepsSession(t *testing.T) {
	for _, row := range []struct {
		sql  string
		want bool
	}{
		{"INSERT INTO t VALUES (1)", true},
		{"\n update t set a=1", true},
		{"DELETE FROM t", true},
		{"REPLACE\tt VALUES (1)", true},
		{"(SELECT 1)", true},
		{"select`a`", true},
		{"SET @a=1", false},
		{"USE x", false},
		{"CALL p()", false},
		{"/* */ SELECT 1", false},
		{"INSERTED", false},
		{"", false},
		{";", false},
	} {
		if got := keepsSession(row.sql); got != row.want {
			t.Errorf("keepsSession(%q): got %t, want %t", row.sql, got, row.want)
		}
	}
}
