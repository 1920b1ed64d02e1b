package access

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"unicode/utf8"

	"github.com/snower/forsun/scheduler"
)

// Bounds of a token file.
const (
	maxTokenFile = 1 << 20
	maxTokens    = 1000 // each presented one is compared with all
	minToken     = 16   // bytes: fewer can be guessed
	maxToken     = 512
)

// Token is an entry of a token file.
type Token struct {
	Name  string
	Right Right
	Scope *scheduler.Scope // nil: no limits

	digest [sha256.Size]byte // of the token itself, which is not kept
	of     *tokenSet
}

// tokenSet is what a file held when it was read.
type tokenSet struct{ tokens []*Token }

// Tokens are the tokens of a file. All methods may be called at any time.
type Tokens struct {
	path    string
	actions []string
	current atomic.Pointer[tokenSet]
}

// LoadTokens reads a token file: a token a line, as
//
//	NAME RIGHT TOKEN [keys=PREFIX,…] [actions=NAME,…]
//
// with blanks between, where RIGHT is read, write or admin, TOKEN has 16 to 512
// printable ASCII characters, or is sha256: and the hexadecimal SHA-256 of one.
// keys and actions limit the token, and may be given several times. Empty lines,
// and those that begin with #, are nothing. actions are the names there are.
func LoadTokens(path string, actions []string) (*Tokens, error) {
	t := &Tokens{path: path, actions: actions}
	return t, t.Reload()
}

// Reload reads the file again. If it cannot be read, or has a fault, the tokens
// stay what they were.
func (t *Tokens) Reload() error {
	data, err := readSecret(t.path, maxTokenFile)
	if err != nil {
		return err
	}
	set, err := parseTokens(data, t.actions)
	if err != nil {
		return fmt.Errorf("%s: %w", t.path, err)
	}
	t.current.Store(set)
	return nil
}

// Count returns how many tokens there are.
func (t *Tokens) Count() int { return len(t.current.Load().tokens) }

// Exposed says who else can read the file, for a warning; "": nobody.
func (t *Tokens) Exposed() string { return exposed(t.path) }

// Find returns the token that was presented, or nil. It takes the same time
// whichever token that is, and however much of one it has right.
func (t *Tokens) Find(presented string) *Token {
	if len(presented) > maxToken {
		return nil
	}
	return t.current.Load().find(sha256.Sum256([]byte(presented)))
}

func (s *tokenSet) find(digest [sha256.Size]byte) *Token {
	var found *Token
	for _, one := range s.tokens {
		if subtle.ConstantTimeCompare(one.digest[:], digest[:]) == 1 {
			found = one
		}
	}
	return found
}

// Now returns what has become of a token that Find returned once: itself, or as
// the file has it by now, or nil if it has it no more.
func (t *Tokens) Now(token *Token) *Token {
	set := t.current.Load()
	if token == nil || token.of == set {
		return token
	}
	return set.find(token.digest)
}

// lineError is a fault of a line. It never shows what stands there, which may be a
// token.
func lineError(line int, format string, args ...any) error {
	return fmt.Errorf("line %d: %s", line, fmt.Sprintf(format, args...))
}

func parseTokens(data []byte, actions []string) (*tokenSet, error) {
	set := &tokenSet{}
	names, digests := map[string]int{}, map[[sha256.Size]byte]int{}
	n := 0
	for text := range strings.Lines(string(data)) {
		n++
		if !utf8.ValidString(text) {
			return nil, lineError(n, "not UTF-8")
		}
		fields := strings.Fields(text)
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		token, err := parseToken(fields, actions)
		if err != nil {
			return nil, lineError(n, "%s", err)
		}
		if first, ok := names[token.Name]; ok {
			return nil, lineError(n, "the same name as in line %d", first)
		}
		if first, ok := digests[token.digest]; ok {
			return nil, lineError(n, "the same token as in line %d", first)
		}
		names[token.Name], digests[token.digest] = n, n
		token.of = set
		if set.tokens = append(set.tokens, token); len(set.tokens) > maxTokens {
			return nil, lineError(n, "more than %d tokens", maxTokens)
		}
	}
	if len(set.tokens) == 0 {
		return nil, errors.New("no token in it; allowed: a line for each, NAME RIGHT TOKEN")
	}
	return set, nil
}

func parseToken(fields, actions []string) (*Token, error) {
	if len(fields) < 3 {
		return nil, fmt.Errorf("%d words; allowed: NAME RIGHT TOKEN, and then keys=PREFIX,… and actions=NAME,…", len(fields))
	}
	token := &Token{Name: fields[0]}
	if !isName(token.Name) {
		return nil, errors.New("name (the first word): allowed: up to 64 letters, digits and . _ -")
	}
	var ok bool
	if token.Right, ok = parseRight(fields[1]); !ok {
		return nil, errors.New("right (the second word): allowed: read, write, admin")
	}
	if err := token.secret(fields[2]); err != nil {
		return nil, err
	}
	scope := &scheduler.Scope{}
	for i, field := range fields[3:] {
		what, value, _ := strings.Cut(field, "=")
		var items []string
		for item := range strings.SplitSeq(value, ",") {
			if item != "" {
				items = append(items, item)
			}
		}
		switch {
		case what != "keys" && what != "actions":
			return nil, fmt.Errorf("word %d: allowed: keys=PREFIX,… and actions=NAME,…", i+4)
		case len(items) == 0:
			return nil, fmt.Errorf("%s= needs something behind it; without a limit it is left out", what)
		case what == "keys":
			scope.Prefixes = append(scope.Prefixes, items...)
		default:
			for j, item := range items {
				if !slices.Contains(actions, item) {
					return nil, fmt.Errorf("actions=: name %d is not one of %s", j+1, strings.Join(actions, ", "))
				}
			}
			scope.Actions = append(scope.Actions, items...)
		}
	}
	if len(scope.Prefixes)+len(scope.Actions) > 0 {
		token.Scope = scope
	}
	return token, nil
}

// secret takes the token itself, or its digest.
func (t *Token) secret(word string) error {
	if hexed, ok := strings.CutPrefix(word, "sha256:"); ok {
		digest, err := hex.DecodeString(hexed)
		if err != nil || len(digest) != sha256.Size {
			return errors.New("token (the third word): allowed behind sha256: 64 hexadecimal digits")
		}
		t.digest = [sha256.Size]byte(digest)
		if t.digest == sha256.Sum256(nil) { // as of a variable that was not set: it would let in who shows an empty token
			return errors.New("token (the third word): it is the SHA-256 of nothing; allowed: that of a token")
		}
		return nil
	}
	if len(word) < minToken || len(word) > maxToken || strings.ContainsFunc(word, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return fmt.Errorf("token (the third word): it has %d characters; allowed: %d to %d printable ASCII ones, such as openssl rand -hex 32 makes", utf8.RuneCountInString(word), minToken, maxToken)
	}
	t.digest = sha256.Sum256([]byte(word))
	return nil
}

func isName(s string) bool {
	return len(s) <= 64 && !strings.ContainsFunc(s, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("._-", r))
	})
}

// LoadToken reads a file that holds one token, as a client keeps it. Empty lines,
// and those that begin with #, are nothing.
func LoadToken(path string) (string, error) {
	data, err := readSecret(path, maxTokenFile)
	if err != nil {
		return "", err
	}
	var token string
	for line := range bytes.Lines(data) {
		word := strings.TrimSpace(string(line))
		switch {
		case word == "" || strings.HasPrefix(word, "#"):
			continue
		case token != "":
			return "", fmt.Errorf("%s: more than one line; allowed: the token alone", path)
		case len(word) > maxToken || strings.ContainsFunc(word, func(r rune) bool { return r <= ' ' || r > '~' }):
			return "", fmt.Errorf("%s: allowed: the token alone, up to %d printable ASCII characters without blanks", path, maxToken)
		}
		token = word
	}
	if token == "" {
		return "", fmt.Errorf("%s: no token in it", path)
	}
	return token, nil
}

// readSecret reads a file of at most limit bytes, unless others may write it.
func readSecret(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() { // to open a pipe may take for ever
		return nil, fmt.Errorf("%s: not a regular file", path)
	}
	if writable(info) {
		return nil, fmt.Errorf("%s: every user may write it (mode %s); chmod 600 it", path, info.Mode().Perm())
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s: larger than %d bytes", path, limit)
	}
	return data, err
}
