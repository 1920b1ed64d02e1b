package app

import "runtime/debug"

// Version returns the version of this build: what the linker was told, else
// what the Go tool recorded (of "go install module@version", or of the
// checkout), else "devel".
func Version(stamped string) string {
	if stamped != "" {
		return stamped
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "devel"
}
