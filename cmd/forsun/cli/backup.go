package cli

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/snower/forsun/rpc/client"
)

func runBackup(ctx context.Context, s *session, args []string) error {
	dir, err := only(args, "backup", "DIR")
	if err != nil {
		return err
	}
	if dir, err = filepath.Abs(dir); err != nil { // forsund is elsewhere
		return err
	}
	s.wait = max(s.opts.Timeout, client.BackupTimeout)
	b, err := s.client.Backup(ctx, dir)
	if err != nil {
		return err
	}
	if s.opts.Output == outputJSON {
		return writeJSON(s.out, map[string]any{"directory": b.Directory, "plans": b.Plans, "files": b.Files, "bytes": b.Bytes, "took_ms": b.Took.Milliseconds()})
	}
	_, err = fmt.Fprintf(s.out, "%s: %d plans, %d files, %d bytes, in %s\n", printable(b.Directory), b.Plans, b.Files, b.Bytes, b.Took.Round(time.Millisecond))
	return err
}
