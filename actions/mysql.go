package actions

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/snower/forsun/scheduler"
)

// mysqlParams are the parameters of a mysql plan.
//
//	host             default 127.0.0.1
//	port             1 to 65535, default 3306
//	db               default mysql
//	user             default root
//	passwd           default none
//	max_connections  1 to 1024; the value of the first plan to use a target counts
//	sql              required: one statement
type mysqlParams struct {
	target         mysqlTarget
	maxConnections int
	sql            string
}

// mysqlTarget is what a connection can be used for again.
type mysqlTarget struct {
	addr, db, user, passwd string
}

// MySQLOptions configure the mysql action.
type MySQLOptions struct {
	ServerOptions
	User   string        // of plans that give none
	Passwd string        // of plans that give no user; "" is none
	Wait   time.Duration // for a connection to be free; 0: as long as the attempt may take
}

// DefaultMySQLOptions returns the options of a deployment that sets none.
func DefaultMySQLOptions() MySQLOptions {
	return MySQLOptions{ServerOptions: defaultServerOptions(8), User: "root"}
}

// Validate says which options are out of range, all of them joined.
func (o MySQLOptions) Validate() error {
	err := o.ServerOptions.validate("mysql")
	if o.User == "" {
		err = errors.Join(err, errors.New(`mysql action: User: "" is not allowed; allowed: an account's name`))
	}
	if o.Wait < 0 {
		err = errors.Join(err, fmt.Errorf("mysql action: Wait: %v is not allowed; allowed: 0 (no bound) or more", o.Wait))
	}
	return err
}

// MySQL is the action that executes one SQL statement on a MySQL or MariaDB
// server, in a transaction of its own: BEGIN, the statement, COMMIT; ROLLBACK if
// it failed. The statement is sent as it was stored, in utf8mb4, and its result
// set, if it has one, is thrown away.
//
// At least once: if the connection breaks during COMMIT it is not known whether
// the statement took effect, and it is executed again, under the same firing id.
// A unique column that holds ${firing.id} refuses the repeat.
//
// A statement that is cut off at its deadline is killed on the server, so that it
// does not go on holding locks there.
type MySQL struct {
	opts MySQLOptions
	pool *pool[mysqlTarget, *mysqlConn]
}

var _ scheduler.Action = (*MySQL)(nil)

// NewMySQL returns the mysql action. opts must be valid. Close it.
func NewMySQL(opts MySQLOptions) *MySQL {
	a := &MySQL{opts: opts}
	a.pool = newPool(poolOptions[mysqlTarget, *mysqlConn]{Open: a.dial, Idle: opts.IdleTime, MaxIdle: opts.MaxIdle, Wait: opts.Wait})
	return a
}

func (a *MySQL) parse(params map[string]string) (mysqlParams, error) {
	r := read(params)
	p := mysqlParams{
		target: mysqlTarget{
			addr:   r.address(3306),
			db:     r.text("db", "mysql"),
			user:   r.text("user", a.opts.User),
			passwd: r.text("passwd", ""),
		},
		maxConnections: r.maxConnections(a.opts.MaxConnections),
		sql:            r.need("sql"),
	}
	a.opts.Egress.refuse(r, "host", p.target.addr)
	if p.target.passwd == "" && r.text("user", "") == "" {
		p.target.passwd = a.opts.Passwd
	}
	if r.err() == nil && strings.TrimSpace(p.sql) == "" {
		r.refuse("sql", "one SQL statement")
	}
	return p, r.err()
}

// Check implements scheduler.Action.
func (a *MySQL) Check(params map[string]string) error {
	_, err := a.parse(params)
	return err
}

// Target implements scheduler.Action.
func (a *MySQL) Target(params map[string]string) string { return read(params).address(3306) }

// Timeout implements scheduler.Action.
func (a *MySQL) Timeout(map[string]string) time.Duration { return a.opts.Timeout }

// Close closes the connections; those in use, when their firings end.
func (a *MySQL) Close() error { return a.pool.Close() }

// Execute implements scheduler.Action. The output says how many rows were
// affected. After ctx is done it may take up to killTimeout longer, to end the
// statement on the server too.
func (a *MySQL) Execute(ctx context.Context, f *scheduler.Firing) (scheduler.Output, error) {
	p, err := a.parse(f.Plan.Params)
	if err != nil {
		return nil, err
	}
	fail := func(err error) error {
		return attemptError(ctx, "mysql", p.target.addr, f.Plan.Params, withoutStatement(p.sql, err), mysqlRetryable(err))
	}
	l, err := lend(ctx, a.pool, p.target, p.maxConnections)
	if err != nil {
		return nil, fail(err)
	}
	rows, err := l.Conn.transact(ctx, tokens(f)(p.sql))
	l.Conn.used = time.Now()
	if err == nil {
		if keepsSession(p.sql) {
			l.Release()
		} else {
			l.Discard()
		}
		return fmt.Appendf(nil, "rows affected: %d", rows), nil
	}
	if ctx.Err() != nil {
		// The driver has closed the connection; the server notices that only
		// when the statement ends.
		if killErr := a.kill(ctx, p.target, l.Conn.id); killErr != nil {
			err = fmt.Errorf("%w; the statement may still be running on the server: %w", err, killErr)
		}
		l.Discard()
		return nil, fail(err)
	}
	if !keepsSession(p.sql) || !l.Conn.rollback(ctx, err) {
		l.Discard()
	} else {
		l.Release()
	}
	return nil, fail(err)
}

// mysqlConn is a connection with the number the server knows it by. The driver
// is used without database/sql: pool does what sql.DB would, for all actions
// alike, and one firing has one connection from BEGIN to COMMIT.
type mysqlConn struct {
	driver.Conn
	id   uint64
	used time.Time
}

func (a *MySQL) dial(ctx context.Context, target mysqlTarget) (*mysqlConn, error) {
	ctx, cancel := context.WithTimeout(ctx, a.opts.ConnectTimeout)
	defer cancel()
	cfg := mysql.NewConfig() // without MultiStatements, without local files
	cfg.Net, cfg.Addr, cfg.DBName = "tcp", target.addr, target.db
	cfg.User, cfg.Passwd = target.user, target.passwd
	cfg.DialFunc = a.opts.Egress.dial
	cfg.WriteTimeout = a.opts.ConnectTimeout // for the farewell, which no context bounds
	cfg.Logger = &mysql.NopLogger{}          // what it logs it returns as well
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, err
	}
	conn, err := connector.Connect(ctx)
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, fmt.Errorf("connect and log in: %w", err)
	}
	c := &mysqlConn{Conn: conn, used: time.Now()}
	if c.id, err = c.number(ctx); err != nil {
		conn.Close()
		return nil, fmt.Errorf("ask for the connection's id: %w", err)
	}
	return c, nil
}

// number asks the server for the id of this connection.
func (c *mysqlConn) number(ctx context.Context) (uint64, error) {
	rows, err := c.Conn.(driver.QueryerContext).QueryContext(ctx, "SELECT CONNECTION_ID()", nil)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	row := make([]driver.Value, len(rows.Columns()))
	if err := rows.Next(row); err != nil {
		return 0, err
	}
	switch v := row[0].(type) {
	case uint64:
		return v, nil
	case int64:
		return uint64(v), nil
	case []byte:
		var n uint64
		_, err := fmt.Sscan(string(v), &n)
		return n, err
	}
	return 0, fmt.Errorf("CONNECTION_ID() is a %T", row[0])
}

// exec executes one statement.
func (c *mysqlConn) exec(ctx context.Context, sql string) (driver.Result, error) {
	return c.Conn.(driver.ExecerContext).ExecContext(ctx, sql, nil)
}

// transact executes the statement in a transaction and returns how many rows it
// affected. After an error the transaction may be open.
func (c *mysqlConn) transact(ctx context.Context, sql string) (rows int64, err error) {
	if _, err := c.exec(ctx, "BEGIN"); err != nil {
		return 0, fmt.Errorf("begin: %w", err)
	}
	result, err := c.exec(ctx, sql)
	if err != nil {
		return 0, err
	}
	if _, err := c.exec(ctx, "COMMIT"); err != nil {
		return 0, fmt.Errorf("commit: %w", err)
	}
	rows, _ = result.RowsAffected() // this driver's never fails
	return rows, nil
}

// rollback ends the transaction that failed with err, and says whether the
// connection can be used again.
func (c *mysqlConn) rollback(ctx context.Context, err error) bool {
	var answered *mysql.MySQLError
	if !errors.As(err, &answered) || readOnlyServer(answered) {
		return false // broken; or the next connection may lead to the new master
	}
	_, err = c.exec(ctx, "ROLLBACK")
	return err == nil
}

// usable implements serverConn.
func (c *mysqlConn) usable(ctx context.Context) bool {
	if c.Conn.(driver.SessionResetter).ResetSession(ctx) != nil { // looks whether the peer has closed it
		return false
	}
	return time.Since(c.used) < freshFor || c.Conn.(driver.Pinger).Ping(ctx) == nil
}

// killTimeout bounds how long Execute goes on past its context to kill a
// statement.
const killTimeout = 2 * time.Second

// kill ends a connection, and what it executes, on the server; its transaction is
// rolled back there. An account may always kill its own connections.
func (a *MySQL) kill(ctx context.Context, target mysqlTarget, id uint64) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), killTimeout)
	defer cancel()
	c, err := a.dial(ctx, target)
	if err != nil {
		return fmt.Errorf("kill it: %w", err)
	}
	defer c.Close()
	_, err = c.exec(ctx, fmt.Sprintf("KILL %d", id))
	var answered *mysql.MySQLError
	if errors.As(err, &answered) && answered.Number == 1094 { // no such connection: it has ended
		return nil
	}
	return err
}

// keepsSession says whether a statement leaves the session as it was: not the
// schema in use, variables, locks or temporary tables. Only then another firing
// may get the connection. What is not known to be harmless is not.
func keepsSession(sql string) bool {
	word := strings.TrimLeft(sql, " \t\r\n(")
	if i := strings.IndexFunc(word, func(c rune) bool { return (c|' ') < 'a' || (c|' ') > 'z' }); i >= 0 {
		word = word[:i]
	}
	switch strings.ToUpper(word) {
	case "INSERT", "UPDATE", "DELETE", "REPLACE", "SELECT":
		return true
	}
	return false
}

// withoutStatement returns err without what the server quotes of a statement that
// deals with passwords.
func withoutStatement(sql string, err error) error {
	var answered *mysql.MySQLError
	lower := strings.ToLower(sql)
	if !errors.As(err, &answered) || !strings.Contains(lower, "password") && !strings.Contains(lower, "identified") {
		return err
	}
	short := *answered
	short.Message = "(the message may repeat a secret of the statement and is left out)"
	return &short
}

// mysqlRetryable is the table of what is worth another attempt: whatever may be
// over by then. Every other error of the server (syntax, unknown table, duplicate
// key, access denied) would come again.
func mysqlRetryable(err error) bool {
	var answered *mysql.MySQLError
	if !errors.As(err, &answered) {
		return transportError(err) || errors.Is(err, mysql.ErrInvalidConn) || errors.Is(err, mysql.ErrMalformPkt) || errors.Is(err, mysql.ErrPktSync)
	}
	switch answered.Number {
	case 1021, // disk full
		1037, 1038, 1041, // out of memory
		1040, 1203, 1226, // too many connections, of the server or the account
		1047,                         // Galera: node not ready
		1053,                         // shutting down
		1152, 1158, 1159, 1160, 1161, // connection aborted, network errors
		1205, // lock wait timeout
		1213, // deadlock
		1927, // MariaDB: connection was killed
		3101: // group replication: rolled back during commit
		return true
	}
	return readOnlyServer(answered)
}

// readOnlyServer says whether the server refuses writes: a replica, perhaps soon
// a master, or a former master. 1290 also names other options than read_only.
func readOnlyServer(err *mysql.MySQLError) bool {
	switch err.Number {
	case 1792, 1836:
		return true
	case 1290:
		return strings.Contains(err.Message, "read-only") || strings.Contains(err.Message, "read_only")
	}
	return false
}
