package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// dockerfile checks the image.
func (l *lint) dockerfile(file string) {
	parsed, err := parser.Parse(bytes.NewReader(l.read(file)))
	if err != nil {
		l.bad(file, "%v", err)
		return
	}
	for _, w := range parsed.Warnings {
		l.bad(file, "%s", w.Short)
	}
	rules := linter.New(&linter.Config{Warn: func(_, short, _, _ string, _ []parser.Range) { l.bad(file, "%s", short) }})
	stages, _, err := instructions.Parse(parsed.AST, rules)
	if err != nil {
		l.bad(file, "%v", err)
		return
	}
	l.want(len(stages) >= 2, file, "%d stage, want what builds apart from what runs", len(stages))
	l.goVersion(file, stages[0].BaseName)

	image := stages[len(stages)-1]
	var env, volumes, exposed, entrypoint, check, installed []string
	for _, c := range image.Commands {
		switch c := c.(type) {
		case *instructions.EnvCommand:
			for _, pair := range c.Env {
				env = append(env, pair.Key+"="+pair.Value)
			}
		case *instructions.VolumeCommand:
			volumes = append(volumes, c.Volumes...)
		case *instructions.ExposeCommand:
			exposed = append(exposed, c.Ports...)
		case *instructions.EntrypointCommand:
			entrypoint = c.CmdLine
		case *instructions.HealthCheckCommand:
			check = c.Health.Test
		case *instructions.RunCommand:
			installed = append(installed, strings.Fields(strings.Join(c.CmdLine, " "))...)
		case *instructions.CopyCommand:
			for _, source := range c.SourcePaths {
				if c.From == "" {
					_, err := os.Stat(filepath.Join(l.dir, "..", source))
					l.want(err == nil, file, "COPY %s: %v", source, err)
				}
			}
		}
	}
	options := l.config(file, nil, env)
	l.serves(file, options, "127.0.0.1")
	l.want(slices.Equal(exposed, []string{"6458", "9002"}), file, "EXPOSE %v, want 6458 9002", exposed)
	for _, o := range []string{"driver-mem-store-file", "log"} {
		inside := slices.ContainsFunc(volumes, func(v string) bool { return options[o] == v || filepath.Dir(options[o]) == v })
		l.want(inside, file, "--%s is %s, which is in none of the volumes %v", o, options[o], volumes)
	}
	l.want(slices.Contains(entrypoint, "/usr/local/bin/docker-entrypoint"), file, "ENTRYPOINT %v, want one that goes on as forsun", entrypoint)
	for _, needed := range []string{"tzdata", "curl", "tini", "ca-certificates"} {
		l.want(slices.Contains(installed, needed), file, "%s is not installed", needed)
	}
	l.probe(file, url(check))
}

// goVersion checks that the image is built with the Go that go.mod asks for.
func (l *lint) goVersion(file, base string) {
	module := l.read(filepath.Join("..", "go.mod"))
	m := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindSubmatch(module)
	if m == nil {
		l.bad(file, "go.mod says no version of go")
		return
	}
	l.want(strings.HasPrefix(base, "golang:"+string(m[1])+"-"), file, "built in %s, but go.mod asks for go %s", base, m[1])
}
