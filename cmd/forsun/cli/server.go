package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
)

func runInfo(ctx context.Context, s *session, args []string) error {
	if err := none(args, "info"); err != nil {
		return err
	}
	info, err := s.client.Info(ctx)
	if err != nil {
		return err
	}
	if s.opts.Output == outputJSON {
		return writeJSON(s.out, info)
	}
	sheet := s.sheet(column{title: "name"}, column{title: "value"})
	for _, name := range slices.Sorted(maps.Keys(info)) {
		if err := sheet.add(name, info[name]); err != nil {
			return err
		}
	}
	return sheet.flush()
}

// runVersion prints both versions. That there is no server is no failure: the
// question about this program is answered.
func runVersion(ctx context.Context, s *session, args []string) error {
	if err := none(args, "version"); err != nil {
		return err
	}
	mine, server := version(s.process.Version), ""
	info, err := s.client.Info(ctx)
	if err == nil {
		server = info["forsun_version"]
	}
	if s.opts.Output == outputJSON {
		return writeJSON(s.out, map[string]string{"forsun": mine, "forsund": server})
	}
	fmt.Fprintln(s.out, "forsun", mine)
	if err != nil {
		_, why := s.describe(err)
		_, err = fmt.Fprintln(s.out, "forsund unknown:", why)
		return err
	}
	_, err = fmt.Fprintf(s.out, "forsund %s at %s\n", printable(server), s.client.Address())
	return err
}
