// Package memstore is the embedded store of forsun: one shard (id 0) in a
// Pebble database in one directory, or in memory only (":memory:").
//
// # What it promises
//
// A Put, Remove or Claim that was answered is on disk (with SyncAlways, the
// default): it survives a crash of the process and a power cut. A Finish, a
// Promote and a Rescue are answered once they are written, and are on disk
// lazySync later: if the process or the machine dies in between, the firing
// repeats under the same id. What a crash leaves half written at the end of the write-ahead log was
// never answered and is dropped at the next Open; damage to what was on disk is
// refused, with the name of the file and the place: see Damage.
//
// It does not promise to go on when the disk does not: an error of a write
// or of an fsync, of a read in the midst of a change, damage that is read, or a disk that is
// full to the last byte ends the store (see Failed), and while it opens, Open. Retrying a
// failed fsync can lie.
//
// # Damage
//
// Pebble takes nearly everything that it cannot read in its newest log, and in its
// manifest, for the torn end that a crash leaves, and goes on without what follows
// (wal.go says why). So it is kept how far each of them is synced, and Open reads them before Pebble
// does: if one is damaged, or cut, before that place, or if the newest log is
// gone, Open fails. It is kept in two ways. After each fsync it is written to
// the file "synced", which is not fsynced with it (synced.go): it is exact when the
// process was killed, or stopped, and so is the check, to the last byte. And with each
// fsync the log itself says how far it was synced before: that is found behind the
// damage.
//
// After a power cut, or a crash of the system, the file may be old: it is on disk half a second to a
// second after the last write, in a busy store every 5 s, and whenever the manifest was
// written. If it is, then not noticed are, both in the newest log: damage to what the last two
// fsyncs wrote (the requests they answered: usually a few, at most what had gathered
// while the fsyncs before were under way), and a log that is cut off, without a trace of
// what followed, in what was synced within those seconds. What is lost is then the end
// of what was acknowledged, never a part from its middle. If "synced" is removed or damaged, too,
// or an older version wrote the log, that holds for the whole log, and
// damage to the manifest is not noticed. A log that a newer one follows must end as a closed one
// does, or be empty. Tables have their own checksums, which are looked at when
// they are read.
//
// # Backup
//
// A backup (backup.go) is a Pebble checkpoint in a directory of its own, and a list of its
// files with a checksum of each MiB, written last. Restoring compares all of it, so that
// the file "synced", of which a backup has none, is not missed. What goes wrong in
// writing it ends the backup, not the store: guard stands before the database only.
//
// # One writer
//
// Every change is made by one goroutine (writer.go), in the order in which
// requests came: read what is stored, compare, append to a Pebble batch, apply. There
// are no locks on keys and no half-done states between a compare and its write. A
// second goroutine waits for the fsync of each group of requests and then
// answers them, so that the next groups are applied while the last one is being
// synced; one fsync serves all that gathered meanwhile. The log is longer than what is written
// of it (guard.go), so that an fsync has only the data to write. Pebble is called for
// writing from the writer only: if it stalls, callers are answered by their
// deadline. What Pebble would do about a write that fails, it never learns of: see
// guard.go.
//
// Claimed firings are queued in memory after the claim is synced, and taken from
// there: a Take waits for no disk. Who has taken what is not stored, only how far each
// action's queue was handed out. At Open every firing that was claimed and not
// finished is queued again; one that a worker had when the process crashed
// counts an attempt and a delivery more, and is a dead letter after MaxDeliveries
// crashes. One that it had only for moments (lazySync, and what the write takes) may run
// again under the same attempt.
//
// # Layout
//
// Numbers in keys are big-endian, signed ones with the top bit flipped, so that
// they sort. Values begin with the version of their codec.
//
//	m                             counters and last sequence number; format, term, what was taken
//	p <key>                       where the plan is: action and next due second
//	s <action> 0 <due:8> <key>    the plan, at its place in its action's schedule
//	f <seq:8>                     a firing that is queued or running
//	x <seq:8>                     that firing is not to be retried
//	r <ms:8> <seq:8>              a firing that waits to be retried at ms
//	k <key> 0 <seq:8>             the ms of a firing that waits: retries by key
//	d <seq:8>                     a dead letter
//	h <seq:8> <ms:8> <n:4>        n finished attempts, recorded together at ms
//	q <key>                       a plan that could not be decoded, and why
//
// A plan is stored in the schedule, not beside it, so that a leader that reads
// and claims a second's plans reads them in one sweep: with ten million plans
// around them a read of each by key would be what the tick waits for. Get reads twice.
//
// A sequence number is given once: f, r and k keys are written once and removed
// once, which is what Pebble's SingleDelete asks for, and leaves no tombstones
// behind a firing that comes and goes within one memtable.
//
// A schedule is consumed from its front, so its front is full of tombstones.
// schedule.go remembers which stretches of an action's schedule are empty, and reads
// skip them.
package memstore
