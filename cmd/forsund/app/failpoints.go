//go:build failpoints

package app

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"github.com/snower/forsun/scheduler"
)

// failpointEnv arms a failpoint: "<name>=<what>:<n>" has the n-th who comes there do
// what: exit, as by kill -9; stop, all of the process, until SIGCONT; or stall, the
// goroutine alone, for failpointStall.
const failpointEnv = "CHAOS_FAILPOINT"

// failpointStall is twice the life of a lease.
const failpointStall = 5 * time.Second

// armFailpoint arms the failpoint that the environment names. What it does it says in
// the log before.
func armFailpoint(log zerolog.Logger, env func(string) (string, bool)) error {
	text, ok := env(failpointEnv)
	if !ok {
		return nil
	}
	name, rest, _ := strings.Cut(text, "=")
	what, count, _ := strings.Cut(rest, ":")
	n, err := strconv.ParseInt(count, 10, 64)
	acts := map[string]func(){
		"exit":  func() { syscall.Kill(os.Getpid(), syscall.SIGKILL); select {} },
		"stop":  func() { syscall.Kill(os.Getpid(), syscall.SIGSTOP) },
		"stall": func() { time.Sleep(failpointStall) },
	}
	act := acts[what]
	if err != nil || n < 1 || act == nil {
		return fmt.Errorf("%s: %q is not <name>=exit|stop|stall:<n>", failpointEnv, text)
	}
	scheduler.ArmFailpoint(name, n, func() {
		log.Warn().Str("failpoint", name).Str("what", what).Msg("failpoint")
		act()
		log.Warn().Str("failpoint", name).Str("what", what).Msg("past the failpoint")
	})
	return nil
}
