package actionstest_test

import (
	"bufio"
	"database/sql"
	"net"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql"

	"github.com/snower/forsun/actions/actionstest"
)

func TestMariaDBAnswersQueriesAndComesBack(t *testing.T) {
	t.Parallel()
	s := actionstest.StartMariaDB(t, "--max-connections=17")
	for _, when := range []string{"started", "restarted"} {
		db, err := sql.Open("mysql", "root@tcp("+s.Addr+")/mysql?timeout=5s")
		if err != nil {
			t.Fatal(err)
		}
		var got int
		if err := db.QueryRow("SELECT @@max_connections").Scan(&got); err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		if want := 17; got != want {
			t.Errorf("%s: max_connections: got %d, want %d", when, got, want)
		}
		db.Close()
		if when == "started" {
			s.Restart()
		}
	}
}

func TestBeanstalkdAnswers(t *testing.T) {
	t.Parallel()
	s := actionstest.StartBeanstalkd(t)
	c, err := net.DialTimeout("tcp", s.Addr, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	c.Write([]byte("use a\r\n"))
	got, err := bufio.NewReader(c).ReadString('\n')
	if want := "USING a\r\n"; got != want || err != nil {
		t.Errorf("use: got %q, %v; want %q", got, err, want)
	}
}

func TestSilentSaysNothing(t *testing.T) {
	t.Parallel()
	s := actionstest.StartSilent(t)
	c, err := net.DialTimeout("tcp", s.Addr, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(100 * time.Millisecond))
	c.Write([]byte("hello\r\n"))
	if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil || !err.(net.Error).Timeout() {
		t.Errorf("read: got %d bytes, %v; want 0 and a timeout", n, err)
	}
}
