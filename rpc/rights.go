package rpc

import "github.com/snower/forsun/rpc/access"

// permission is what it takes to do something, by either interface.
type permission struct {
	need   access.Right
	thrift []string // methods
	http   []string // methods and paths
}

// permissions is what every method of the Thrift interface and every endpoint of
// the HTTP interface takes. What is not here is for nobody.
//
// Beyond that a token's key prefixes and actions limit what it reaches, which the
// scheduler.Service sees to.
func permissions() []permission {
	return []permission{
		{access.None, []string{"auth"}, nil},
		{access.Open, []string{"ping", "forsun_call"}, []string{"GET /v1/ping"}},
		{
			access.Read,
			[]string{
				"get", "getPlan", "getCurrent", "getTime", "getKeys", "listPlans", "listTime", "preview",
				"history", "deadLetters", "info", "shards", "replicas", "serverTime",
			},
			[]string{
				"GET /v1/plan", "GET /v1/plan/next", "GET /v1/plans", "GET /v1/keys", "GET /v1/time",
				"GET /v1/history", "GET /v1/dead", "GET /v1/info", "GET /v1/shards", "GET /v1/replicas",
			},
		},
		{
			access.Write,
			[]string{"create", "createTimeout", "createMany", "restorePlans", "remove"},
			[]string{"POST /v1/plan", "PUT /v1/plan", "DELETE /v1/plan"},
		},
		{
			access.Admin,
			[]string{"redrive", "purge", "check", "backup"},
			[]string{"POST /v1/dead/redrive", "POST /v1/dead/purge", "DELETE /v1/dead/purge", "GET /v1/doctor"},
		},
	}
}

// nobody is what it takes to do what has no permission: more than there is.
const nobody = access.Admin + 1

// needs returns what each method or endpoint of one interface takes.
func needs(names func(permission) []string) func(name string) access.Right {
	all := map[string]access.Right{}
	for _, p := range permissions() {
		for _, name := range names(p) {
			all[name] = p.need
		}
	}
	return func(name string) access.Right {
		if need, ok := all[name]; ok {
			return need
		}
		return nobody
	}
}

func thriftNeeds() func(string) access.Right {
	return needs(func(p permission) []string { return p.thrift })
}

func httpNeeds() func(string) access.Right {
	return needs(func(p permission) []string { return p.http })
}
