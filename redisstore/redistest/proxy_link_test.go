package redistest

import "testing"

func TestRequestsAreFoundInAStream(t *testing.T) {
	for _, row := range []struct {
		stream string
		want   int // 0: not there to its end
	}{
		{"*1\r\n$4\r\nPING\r\n", 14},
		{"*1\r\n$4\r\nPING\r\n*1\r\n", 14},
		{"*2\r\n$3\r\nGET\r\n$0\r\n\r\n", 19},
		{"*2\r\n$3\r\nSET\r\n$6\r\n\r\n*1\r\n\r\nx", 25},
		{"*0\r\n", 4},
		{"PING\r\nPING", 6},
		{"\r\n", 2},
		{"PING", 0},
		{"*", 0},
		{"*2\r", 0},
		{"*2\r\n", 0},
		{"*2\r\n$3\r\nGET\r\n", 0},
		{"*2\r\n$3\r\nGET\r\n$1", 0},
		{"*2\r\n$3\r\nGET\r\n$1\r\na\r", 0},
	} {
		got, ok := requestLen([]byte(row.stream))
		if ok != (row.want > 0) || ok && got != row.want {
			t.Errorf("%q: got %d, %t; want %d", row.stream, got, ok, row.want)
		}
	}
}
