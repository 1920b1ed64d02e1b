// Command ledger is the witness of the chaos tests as a process:
//
//	ledger sink FILE    serve the calls of firings, keep each in FILE before it is
//	                    answered, and say on one line of JSON where, until SIGTERM
//	ledger judge DIR    judge what a scenario kept in DIR: journal, receipts…, rules
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/snower/forsun/scripts/chaos/ledger"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "ledger:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) != 2 || args[0] != "sink" && args[0] != "judge" {
		return fmt.Errorf("arguments %q; want: sink FILE, or judge DIR", args)
	}
	if args[0] == "sink" {
		return sink(ctx, args[1], out)
	}
	return judge(args[1], out)
}

// sink serves until ctx ends.
func sink(ctx context.Context, path string, out io.Writer) error {
	s, err := ledger.NewSink(path)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(out).Encode(s.Addresses); err != nil {
		return errors.Join(err, s.Close())
	}
	<-ctx.Done()
	return s.Close()
}

// judge prints the verdict. It fails if there is anything in it.
func judge(dir string, out io.Writer) error {
	text, err := os.ReadFile(filepath.Join(dir, "rules"))
	if err != nil {
		return err
	}
	var rules ledger.Rules
	if err := json.Unmarshal(text, &rules); err != nil {
		return err
	}
	journal, err := ledger.ReadJournal(filepath.Join(dir, "journal"))
	if err != nil {
		return err
	}
	paths, err := filepath.Glob(filepath.Join(dir, "receipts*"))
	if err != nil {
		return err
	}
	var receipts []ledger.Receipt
	for _, path := range paths {
		book, err := ledger.Follow(path)
		if err != nil {
			return err
		}
		receipts = append(receipts, book.Receipts()...)
		if err := book.Close(); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	v := ledger.Judge(journal, receipts, rules)
	fmt.Fprintln(out, v)
	if problems := v.Problems(len(receipts) + v.Expected); problems != "" {
		fmt.Fprint(out, problems)
		return errors.New("the scheduler did not do what it should")
	}
	return nil
}
