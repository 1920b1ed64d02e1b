package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
)

// compose checks the fleet of containers.
func (l *lint) compose(file string) {
	path, err := filepath.Abs(filepath.Join(l.dir, file))
	if err != nil {
		l.bad(file, "%v", err)
		return
	}
	project, err := loader.LoadWithContext(context.Background(), types.ConfigDetails{
		WorkingDir:  filepath.Dir(path),
		ConfigFiles: []types.ConfigFile{{Filename: path, Content: l.read(file)}},
		Environment: types.Mapping{},
	})
	if err != nil {
		l.bad(file, "%v", err)
		return
	}
	for name, s := range project.Services {
		l.want(s.HealthCheck != nil, file, "%s has no health check", name)
		for _, v := range s.Volumes {
			if v.Type == types.VolumeTypeBind {
				_, err := os.Stat(v.Source)
				l.want(err == nil, file, "%s: volume: %v", name, err)
			}
		}
	}

	redis := strings.Join(project.Services["redis"].Command, " ")
	l.want(strings.Contains(redis, "--appendonly yes") && strings.Contains(redis, "--maxmemory-policy noeviction"),
		file, "redis is started with %q, want AOF and noeviction", redis)

	forsund := project.Services["forsund"]
	if len(forsund.Command) == 0 || forsund.Command[0] != "forsund" {
		l.bad(file, "forsund: the command is %q, want forsund and its options", forsund.Command)
		return
	}
	// On top of what the image has.
	env := []string{"FORSUN_BIND=0.0.0.0", "FORSUN_HTTP=0.0.0.0:9002", "FORSUN_LOG=/var/log/forsun/forsund.log", "FORSUN_LOG_ROTATE=100M"}
	for name, value := range forsund.Environment {
		if value != nil {
			env = append(env, name+"="+*value)
		}
	}
	options := l.config(file, forsund.Command[1:], env)
	l.serves(file, options, "0.0.0.0")
	host := options["driver-redis-host"]
	_, ok := project.Services[host]
	l.want(ok && options["driver"] == "redis", file, "forsund: --driver is %s on %s, which is no service", options["driver"], host)
	l.want(forsund.Deploy != nil && forsund.Deploy.Replicas != nil && *forsund.Deploy.Replicas == 3, file, "forsund: want three replicas")
	if forsund.HealthCheck != nil {
		l.probe(file, url(forsund.HealthCheck.Test))
	}
	patience := time.Duration(0)
	if forsund.StopGracePeriod != nil {
		patience = time.Duration(*forsund.StopGracePeriod)
	}
	l.stops(file, options, patience, 0)

	var published []uint32
	for _, p := range project.Services["balancer"].Ports {
		published = append(published, p.Target)
		l.want(p.HostIP == "127.0.0.1", file, "balancer: port %d is published on %q, want this machine only", p.Target, p.HostIP)
	}
	l.want(slices.Equal(published, []uint32{thriftPort, httpPort}), file, "balancer: ports %v", published)
}
