package rpc

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"testing"
)

// What the Python forsun was sent and answered, byte for byte.
const (
	goldenPing      = "800100010000000470696e670000000000"
	goldenPong      = "800100020000000470696e6700000000060000000000"
	goldenCreate    = "800100010000000d63726561746554696d656f7574000000000b00010000000274310600020e100600030000060004000006000500000600060000060007ffff06000800010b0009000000057368656c6c0d000a0b0b0000000100000003636d64000000047472756500"
	goldenCreated   = "800100020000000d63726561746554696d656f7574000000000c0000020001010b00020000000274310600030e100600040000060005000006000600000600070000060008ffff0800096b02dac206000a000006000b000106000c000008000d000000000b000e000000057368656c6c0d000f0b0b0000000100000003636d6400000004747275650000"
	goldenNotFound  = "0c000106000103eb0b00020000000fe8aea1e58892e69caae689bee588b00000"
	goldenBadTime   = "0c000106000103ea0b000200000012e5ae9ae697b6e697b6e997b4e99499e8afaf0000"
	goldenBadAction = "0c000106000103ee0b000200000018e69caae79fa5e5a484e79086e58aa8e4bd9ce7b1bbe59e8b0000"
)

// call returns an unframed binary call of name with the given fields.
func call(name string, seq uint32, fields ...[]byte) []byte {
	b := []byte{0x80, 1, 0, 1}
	b = binary.BigEndian.AppendUint32(b, uint32(len(name)))
	b = append(b, name...)
	b = binary.BigEndian.AppendUint32(b, seq)
	for _, f := range fields {
		b = append(b, f...)
	}
	return append(b, 0)
}

// answered returns the head of the reply to call.
func answered(kind byte, name string, seq uint32) []byte {
	b := call(name, seq)
	b[3] = kind
	return b[:len(b)-1]
}

// Fields of binary messages.
func str(id byte, s string) []byte {
	b := binary.BigEndian.AppendUint32([]byte{11, 0, id}, uint32(len(s)))
	return append(b, s...)
}

func i16(id byte, n int16) []byte { return binary.BigEndian.AppendUint16([]byte{6, 0, id}, uint16(n)) }

func i32(id byte, n int32) []byte { return binary.BigEndian.AppendUint32([]byte{8, 0, id}, uint32(n)) }

func TestGoldens(t *testing.T) {
	t.Parallel()
	_, addr := startThrift(t, nil)
	c := dial(t, addr)
	for _, row := range []struct {
		name          string
		request, want []byte
	}{
		{"ping", unhex(t, goldenPing), unhex(t, goldenPong)},
		{"createTimeout", unhex(t, goldenCreate), unhex(t, goldenCreated)},
		{"createTimeout again replaces", unhex(t, goldenCreate), unhex(t, goldenCreated)},
		{
			"get: as created", call("get", 7, str(1, "t1")),
			append(answered(2, "get", 7), unhex(t, goldenCreated)[25:]...),
		},
		{
			"remove: as created", call("remove", 0, str(1, "t1")),
			append(answered(2, "remove", 0), unhex(t, goldenCreated)[25:]...),
		},
		{
			"remove of an absent key: 1003", call("remove", 1, str(1, "t1")),
			append(answered(2, "remove", 1), unhex(t, goldenNotFound)...),
		},
		{
			"get of an absent key: 1003", call("get", 1, str(1, "t1")),
			append(answered(2, "get", 1), unhex(t, goldenNotFound)...),
		},
		{
			"count below 0: 1002", call("createTimeout", 2, str(1, "k"), i16(2, 1), i16(8, -1)),
			append(answered(2, "createTimeout", 2), unhex(t, goldenBadTime)...),
		},
		{
			"31 February: 1002", call("create", 2, str(1, "k"), i16(2, 0), i16(3, 0), i16(4, 0), i16(5, 31), i16(6, 2)),
			append(answered(2, "create", 2), unhex(t, goldenBadTime)...),
		},
		{
			"unknown action: 1006", call("create", 3, str(1, "k"), i16(2, 0), str(8, "nope")),
			append(answered(2, "create", 3), unhex(t, goldenBadAction)...),
		},
		{
			"no key: 1007", call("create", 4, i16(2, 0)),
			slices.Concat(answered(2, "create", 4), []byte{12, 0, 1}, i16(1, 1007), str(2, "key参数是必须的"), []byte{0, 0}),
		},
		{
			"no parameter the action needs: 1007", call("create", 4, str(1, "k"), i16(2, 0), str(8, "http")),
			slices.Concat(answered(2, "create", 4), []byte{12, 0, 1}, i16(1, 1007), str(2, "url参数是必须的"), []byte{0, 0}),
		},
		{
			"field out of range: 1008", call("create", 5, str(1, "k"), i16(2, 60)),
			slices.Concat(answered(2, "create", 5), []byte{12, 0, 1}, i16(1, 1008),
				str(2, "second: 60 is not allowed; allowed: 0 to 59, or -1 for any"), []byte{0, 0}),
		},
		{
			"absent arguments take their defaults", call("createTimeout", 6, str(1, "d"), i16(2, 5)),
			slices.Concat(answered(2, "createTimeout", 6), []byte{12, 0, 0}, []byte{2, 0, 1, 1}, str(2, "d"), i16(3, 5),
				i16(4, -1), i16(5, -1), i16(6, -1), i16(7, -1), i16(8, -1), i32(9, goldenNow+5), i16(10, 0), i16(11, 1), i16(12, 0),
				i32(13, 0), str(14, "shell"), []byte{13, 0, 15, 11, 11, 0, 0, 0, 0}, []byte{0, 0}),
		},
		{
			"unknown fields are skipped", call("remove", 8, i32(77, 5), str(1, "d"), str(99, "x")),
			slices.Concat(answered(2, "remove", 8), []byte{12, 0, 0}, []byte{2, 0, 1, 1}, str(2, "d"), i16(3, 5),
				i16(4, -1), i16(5, -1), i16(6, -1), i16(7, -1), i16(8, -1), i32(9, goldenNow+5), i16(10, 0), i16(11, 1), i16(12, 0),
				i32(13, 0), str(14, "shell"), []byte{13, 0, 15, 11, 11, 0, 0, 0, 0}, []byte{0, 0}),
		},
		{
			"unknown method: exception 1", call("nosuch", 9, str(1, "x")),
			slices.Concat(answered(3, "nosuch", 9), str(1, "Unknown function nosuch"), i32(2, 1), []byte{0}),
		},
		{
			"forsun_call: exception 6", call("forsun_call", 10, str(1, "k"), i32(2, 1)),
			slices.Concat(answered(3, "forsun_call", 10),
				str(1, "Internal error processing forsun_call: it is for the servers forsun calls back, not for forsun itself"), i32(2, 6), []byte{0}),
		},
		{
			"getKeys of nothing: an empty list", call("getKeys", 11, str(1, "")),
			slices.Concat(answered(2, "getKeys", 11), []byte{15, 0, 0, 11, 0, 0, 0, 0, 0}),
		},
		{
			"getTime of nothing: an empty list", call("getTime", 11, i32(1, 5)),
			slices.Concat(answered(2, "getTime", 11), []byte{15, 0, 0, 12, 0, 0, 0, 0, 0}),
		},
		{
			"getCurrent of nothing: an empty list", call("getCurrent", 11),
			slices.Concat(answered(2, "getCurrent", 11), []byte{15, 0, 0, 12, 0, 0, 0, 0, 0}),
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := ask(t, c, row.request, len(row.want)); !bytes.Equal(got, row.want) {
				t.Errorf("request %s\n got %s\nwant %s", hex.EncodeToString(row.request), hex.EncodeToString(got), hex.EncodeToString(row.want))
			}
		})
	}
}

func TestPipelinedCalls(t *testing.T) {
	t.Parallel()
	_, addr := startThrift(t, nil)
	c := dial(t, addr)
	var requests, want []byte
	for seq := range uint32(500) {
		requests = append(requests, call("ping", seq)...)
		want = append(want, append(answered(2, "ping", seq), 6, 0, 0, 0, 0, 0)...)
	}
	if got := ask(t, c, requests, len(want)); !bytes.Equal(got, want) {
		t.Errorf("got %x\nwant %x", got, want)
	}
}
