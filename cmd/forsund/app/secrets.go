package app

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync/atomic"

	"github.com/snower/forsun/actions"
)

// maxSecretsFile bounds the file that holds the secrets, in bytes.
const maxSecretsFile = 1 << 20

// secrets are what parameters of plans may name: those of a file, which may be read
// again, and else those of the environment.
type secrets struct {
	path string // "": no file
	env  func(string) (string, bool)
	file atomic.Pointer[map[string]string]
}

// load reads the file, if there is one. After an error what was read before stays.
// No error shows a secret.
func (s *secrets) load() error {
	if s.path == "" {
		return nil
	}
	read, err := readSecrets(s.path)
	if err != nil {
		return fmt.Errorf("--secrets-file: %w", err)
	}
	s.file.Store(&read)
	return nil
}

// get is an actions.Secrets.
func (s *secrets) get(name string) (string, bool) {
	if file := s.file.Load(); file != nil {
		if value, ok := (*file)[name]; ok {
			return value, true
		}
	}
	value, ok := s.env(secretPrefix + actions.EnvName(name))
	return value, ok && value != ""
}

// secretPrefix begins the names of variables that hold secrets.
const secretPrefix = envPrefix + "SECRET_"

// readSecrets reads lines of NAME=value. Blanks around either are no part of it;
// empty lines and those that begin with # are not read. Others may not read the
// file, and its group may not write it.
func readSecrets(path string) (map[string]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() { // to open a pipe waits for a writer
		return nil, fmt.Errorf("%s is not a file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err = f.Stat() // of what was opened: the path could be another file by now
	switch {
	case err != nil:
		return nil, err
	case info.Mode().Perm()&(otherBits|groupWrite) != 0:
		return nil, fmt.Errorf("%s: mode %04o is not allowed; allowed: 0600, 0640 or less, since others may not read it, nor its group write it", path, info.Mode().Perm())
	}
	data, err := io.ReadAll(io.LimitReader(f, maxSecretsFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxSecretsFile {
		return nil, fmt.Errorf("%s: more than 1 MiB is not allowed", path)
	}
	read := make(map[string]string)
	number := 0
	for line := range strings.SplitSeq(string(data), "\n") {
		number++
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		_, twice := read[name]
		switch { // nothing of the line is shown: even what stands before a = may be a secret
		case !ok || actions.CheckSecretName(name) != nil:
			err = errors.New("this line is not allowed; allowed: NAME=value, the name of 1 to 64 letters, digits, _ and -")
		case twice:
			err = errors.New("this name is not allowed; allowed: each name once")
		default:
			err = actions.CheckSecret(value)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: line %d: %w", path, number, err)
		}
		read[name] = value
	}
	return read, nil
}

const (
	otherBits  fs.FileMode = 0o007
	groupWrite fs.FileMode = 0o020
)
