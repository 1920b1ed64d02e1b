package rpc

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/snower/forsun/rpc/access"
	"github.com/snower/forsun/rpc/gen/forsun"
)

// everything is what each interface has: the Thrift methods by the generated code,
// the HTTP endpoints by what is served.
func everything() (methods, endpoints []string) {
	methods = slices.Collect(maps.Keys(forsun.NewForsunProcessor(nil).ProcessorMap()))
	for path, byMethod := range new(api).paths() {
		for method := range byMethod {
			endpoints = append(endpoints, method+" "+path)
		}
	}
	slices.Sort(methods)
	slices.Sort(endpoints)
	return methods, endpoints
}

// TestPermissions: every method and endpoint has a permission, each one, and the
// server answers all of them; what has none is for nobody.
func TestPermissions(t *testing.T) {
	t.Parallel()
	methods, endpoints := everything()
	var thrifts, https []string
	for _, p := range permissions() {
		thrifts, https = append(thrifts, p.thrift...), append(https, p.http...)
	}
	slices.Sort(thrifts)
	slices.Sort(https)
	if !slices.Equal(thrifts, methods) {
		t.Errorf("permissions have the methods\n  %q\nthe interface\n  %q", thrifts, methods)
	}
	if !slices.Equal(https, endpoints) {
		t.Errorf("permissions have the endpoints\n  %q\nthe interface\n  %q", https, endpoints)
	}
	served := slices.Sorted(maps.Keys(newHandler(nil, DefaultOptions()).methods()))
	if !slices.Equal(served, methods) {
		t.Errorf("served are the methods\n  %q\nthe interface has\n  %q", served, methods)
	}
	for _, need := range []access.Right{thriftNeeds()("new"), httpNeeds()("GET /v1/new")} {
		if need <= access.Admin {
			t.Errorf("what has no permission takes %s", need)
		}
	}
}

// TestReadmeRights: the table of both pages is that of the program.
func TestReadmeRights(t *testing.T) {
	t.Parallel()
	var want []string
	for _, level := range []access.Right{access.Open, access.Read, access.Write, access.Admin} {
		var row []string
		for _, p := range permissions() {
			if p.need == level || level == access.Open && p.need == access.None {
				row = append(append(row, p.thrift...), p.http...)
			}
		}
		slices.Sort(row)
		want = append(want, strings.Join(row, ", "))
	}
	for _, page := range []string{"../README.md", "../README.zh-CN.md"} {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for line := range strings.Lines(string(text)) {
			if !strings.HasPrefix(line, "|") || !strings.Contains(line, "`ping`") && len(got) == 0 {
				if len(got) > 0 {
					break
				}
				continue
			}
			cells := strings.Split(line, "|")
			var row []string
			for i, name := range strings.Split(strings.Join(cells[2:], " "), "`") {
				if i%2 == 1 {
					row = append(row, name)
				}
			}
			slices.Sort(row)
			got = append(got, strings.Join(row, ", "))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s has\n  %s\nthe program\n  %s", page, strings.Join(got, "\n  "), strings.Join(want, "\n  "))
		}
	}
}
