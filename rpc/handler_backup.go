package rpc

import (
	"context"
	"time"

	"github.com/apache/thrift/lib/go/thrift"

	"github.com/snower/forsun/rpc/gen/forsun"
	"github.com/snower/forsun/rpc/wire"
	"github.com/snower/forsun/scheduler"
)

// Backup is a backup of the store that was made.
type Backup struct {
	Directory string
	Plans     int64
	Files     int
	Bytes     int64
	Took      time.Duration
}

// backup writes files where the client says, as forsund's user: who is neither on this
// machine nor known may not have that done, whatever else is open to them.
func (h *handler) backup(ctx context.Context, a *forsun.ForsunBackupArgs) (thrift.TStruct, error) {
	b, err := h.makeBackup(ctx, a.Directory)
	if err != nil {
		return &forsun.ForsunBackupResult{Err: h.fail(ctx, wire.Create, "backup", "", err)}, nil
	}
	h.audit.begin(ctx, "backup").Str("directory", b.Directory).Int64("plans", b.Plans).Msg("audit: backup made")
	return &forsun.ForsunBackupResult{Success: &forsun.ForsunBackup{
		Directory: b.Directory, Plans: b.Plans, Files: int64(b.Files), Bytes: b.Bytes, TookMs: b.Took.Milliseconds(),
	}}, nil
}

func (h *handler) makeBackup(ctx context.Context, directory string) (Backup, error) {
	if peer, ok := scheduler.PeerFrom(ctx); ok && !peer.Loopback && !peer.Authenticated {
		return Backup{}, &scheduler.FieldError{Kind: scheduler.ErrNotAllowed, Field: "backup", Value: "for " + peer.Address, Allowed: "loopback, or a peer that shows a token or a certificate"}
	}
	if peer, ok := scheduler.PeerFrom(ctx); ok && peer.Scope != nil && len(peer.Scope.Prefixes) > 0 {
		return Backup{}, &scheduler.FieldError{Kind: scheduler.ErrNotAllowed, Field: "backup", Value: "for this token", Allowed: "a token without a limit on keys"}
	}
	if h.opts.Backup == nil {
		return Backup{}, &scheduler.FieldError{Kind: scheduler.ErrNotAllowed, Field: "backup", Value: "of this store", Allowed: "the embedded store; Redis has its own backups, and forsun export --ndjson writes its plans"}
	}
	return h.opts.Backup(ctx, directory)
}
