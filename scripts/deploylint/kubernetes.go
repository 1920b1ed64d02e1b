package main

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"
)

// kubernetes checks the manifests that a kustomization lists, all of them that
// are there.
func (l *lint) kubernetes(dir string) {
	kustomization := filepath.Join(dir, "kustomization.yaml")
	var list struct {
		APIVersion string   `json:"apiVersion"`
		Kind       string   `json:"kind"`
		Resources  []string `json:"resources"`
	}
	if err := yaml.UnmarshalStrict(l.read(kustomization), &list); err != nil {
		l.bad(kustomization, "%v", err)
		return
	}
	there, err := filepath.Glob(filepath.Join(l.dir, dir, "*.yaml"))
	l.want(err == nil && len(there) == len(list.Resources)+1, kustomization, "lists %v, there are %v", list.Resources, there)

	var (
		deployment apps.Deployment
		service    core.Service
		budget     policy.PodDisruptionBudget
		network    networking.NetworkPolicy
	)
	for _, name := range list.Resources {
		file := filepath.Join(dir, name)
		data := l.read(file)
		var kind struct {
			APIVersion string `json:"apiVersion"`
			Kind       string `json:"kind"`
		}
		err := yaml.Unmarshal(data, &kind)
		var into any
		switch kind.APIVersion + " " + kind.Kind {
		case "apps/v1 Deployment":
			into = &deployment
		case "v1 Service":
			into = &service
		case "networking.k8s.io/v1 NetworkPolicy":
			into = &network
		case "policy/v1 PodDisruptionBudget":
			into = &budget
		default:
			l.bad(file, "a %s %s, which is not checked (%v)", kind.APIVersion, kind.Kind, err)
			continue
		}
		if err := yaml.UnmarshalStrict(data, into); err != nil {
			l.bad(file, "%v", err)
			return
		}
	}
	l.deployment(filepath.Join(dir, "deployment.yaml"), &deployment)
	labels := deployment.Spec.Template.Labels
	l.want(len(labels) > 0 && maps.Equal(deployment.Spec.Selector.MatchLabels, labels), dir, "the deployment does not select its own pods")
	l.want(maps.Equal(service.Spec.Selector, labels), dir, "the service selects %v, the pods are %v", service.Spec.Selector, labels)
	l.want(budget.Spec.Selector != nil && maps.Equal(budget.Spec.Selector.MatchLabels, labels), dir, "the disruption budget does not select the pods")
	l.want(budget.Spec.MaxUnavailable != nil, dir, "the disruption budget sets no maxUnavailable")
	l.network(dir, &deployment, &network)
	for _, p := range service.Spec.Ports {
		port := containerPort(&deployment, p.TargetPort)
		l.want(port != 0 && port == p.Port, dir, "the service's port %s, %d, leads to %s (port %d)", p.Name, p.Port, p.TargetPort.String(), port)
	}
}

// network checks that clients reach the pods, and the admin port is not for all.
func (l *lint) network(dir string, d *apps.Deployment, n *networking.NetworkPolicy) {
	l.want(maps.Equal(n.Spec.PodSelector.MatchLabels, d.Spec.Template.Labels), dir, "the network policy does not select the pods")
	open := make(map[int32]bool) // to everybody
	for _, rule := range n.Spec.Ingress {
		l.want(len(rule.Ports) > 0, dir, "the network policy has a rule for every port")
		for _, p := range rule.Ports {
			if p.Port == nil || containerPort(d, *p.Port) == 0 {
				l.bad(dir, "the network policy names a port that the pods do not have")
				continue
			}
			port := containerPort(d, *p.Port)
			open[port] = open[port] || len(rule.From) == 0
		}
	}
	l.want(maps.Equal(open, map[int32]bool{thriftPort: true, httpPort: true, adminPort: false}), dir, "the network policy opens the ports %v", open)
}

// containerPort is the number of a port of forsund's container; 0: it has none
// such.
func containerPort(d *apps.Deployment, target intstr.IntOrString) int32 {
	for _, c := range d.Spec.Template.Spec.Containers {
		for _, p := range c.Ports {
			if target.Type == intstr.String && p.Name == target.StrVal || target.Type == intstr.Int && p.ContainerPort == target.IntVal {
				return p.ContainerPort
			}
		}
	}
	return 0
}

func (l *lint) deployment(file string, d *apps.Deployment) {
	pod := d.Spec.Template.Spec
	if len(pod.Containers) != 1 {
		l.bad(file, "%d containers, want forsund", len(pod.Containers))
		return
	}
	c := pod.Containers[0]
	var env []string
	for _, v := range c.Env {
		value := v.Value
		if v.ValueFrom != nil {
			value = "1"
		}
		env = append(env, v.Name+"="+value)
	}
	l.want(len(c.Command) == 0, file, "command %v: the image's entrypoint is meant", c.Command)
	options := l.config(file, c.Args, env)
	l.serves(file, options, "0.0.0.0")
	var ports []int32
	for _, p := range c.Ports {
		ports = append(ports, p.ContainerPort)
	}
	l.want(slices.Equal(ports, []int32{thriftPort, httpPort, adminPort}), file, "ports %v, want %d, %d and %d", ports, thriftPort, httpPort, adminPort)
	annotated := d.Spec.Template.Annotations["prometheus.io/port"]
	l.want(annotated == fmt.Sprint(adminPort), file, "Prometheus is sent to port %q", annotated)
	l.want(options["driver"] == "redis", file, "several replicas need --driver=redis")

	for _, p := range []struct {
		name  string
		probe *core.Probe
		path  string
	}{
		{"startupProbe", c.StartupProbe, livePath},
		{"livenessProbe", c.LivenessProbe, livePath},
		{"readinessProbe", c.ReadinessProbe, readyPath},
	} {
		if p.probe == nil || p.probe.HTTPGet == nil {
			l.bad(file, "no %s", p.name)
			continue
		}
		port := containerPort(d, p.probe.HTTPGet.Port)
		l.want(p.probe.HTTPGet.Path == p.path && port == adminPort, file, "%s asks for %s on port %d, want %s on %d",
			p.name, p.probe.HTTPGet.Path, port, p.path, adminPort)
	}

	before := time.Duration(0)
	if c.Lifecycle != nil && c.Lifecycle.PreStop != nil && c.Lifecycle.PreStop.Exec != nil {
		command := c.Lifecycle.PreStop.Exec.Command
		seconds, err := 0, fmt.Errorf("want sleep and a number")
		if len(command) == 2 && command[0] == "sleep" {
			seconds, err = strconv.Atoi(command[1])
		}
		l.want(err == nil, file, "preStop: %q: %v", strings.Join(command, " "), err)
		before = time.Duration(seconds) * time.Second
	}
	l.want(before > 0, file, "no preStop: clients would be sent to a replica that is gone")
	if pod.TerminationGracePeriodSeconds == nil {
		l.bad(file, "no terminationGracePeriodSeconds")
	} else {
		l.stops(file, options, time.Duration(*pod.TerminationGracePeriodSeconds)*time.Second, before)
	}

	s := pod.SecurityContext
	l.want(s != nil && s.RunAsNonRoot != nil && *s.RunAsNonRoot && s.RunAsUser != nil && *s.RunAsUser == 65532, file, "want to run as 65532, the image's forsun")
	l.want(pod.EnableServiceLinks != nil && !*pod.EnableServiceLinks, file, "service links would set FORSUN_ variables")
	writable := slices.ContainsFunc(c.VolumeMounts, func(m core.VolumeMount) bool { return m.MountPath == options["action-shell-cwd"] })
	l.want(writable, file, "shell plans run in %s, which is no writable volume", options["action-shell-cwd"])
}
