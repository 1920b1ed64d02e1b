// Promrules checks files of alert rules (.yml), and the queries of Grafana boards
// (.json), as Prometheus would read them, and prints what is wrong with them.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
)

func main() {
	bad := len(os.Args) < 2
	for _, file := range os.Args[1:] {
		check := rules
		if strings.HasSuffix(file, ".json") {
			check = board
		}
		if err := check(file); err != nil {
			bad = true
			fmt.Fprintf(os.Stderr, "%s: %v\n", file, err)
		}
	}
	if bad {
		os.Exit(1)
	}
}

func rules(file string) error {
	groups, errs := rulefmt.ParseFile(file, false, model.UTF8Validation, parser.NewParser(parser.Options{}), slog.New(slog.DiscardHandler))
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if len(groups.Groups) == 0 {
		return errors.New("no rules")
	}
	return nil
}

// board checks the queries of all panels, with something in the place of Grafana's
// variables.
func board(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var b struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &b); err != nil {
		return err
	}
	var errs []error
	queries := 0
	for _, p := range b.Panels {
		for _, t := range p.Targets {
			queries++
			expr := strings.NewReplacer("$__rate_interval", "5m", "$job", "forsun").Replace(t.Expr)
			if _, err := parser.NewParser(parser.Options{}).ParseExpr(expr); err != nil {
				errs = append(errs, fmt.Errorf("panel %q: %s: %w", p.Title, t.Expr, err))
			}
		}
	}
	if queries == 0 {
		errs = append(errs, errors.New("no queries"))
	}
	return errors.Join(errs...)
}
