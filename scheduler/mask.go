package scheduler

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
)

// Masked stands where a secret was.
const Masked = "***"

// secretName says whether the whole value of a parameter is a secret. Names have
// no case here: a client's "Header_Cookie" is sent as a cookie too.
func secretName(name string) bool {
	switch strings.ToLower(name) {
	case "passwd", "password", "auth_password", "header_authorization", "header_cookie":
		return true
	}
	return false
}

// MaskParams returns a copy of params fit for logs, tables and audit: the value
// of a secret parameter is Masked, and so is the user information of any URL in
// another value. Empty secrets stay empty. nil stays nil.
func MaskParams(params map[string]string) map[string]string {
	if params == nil {
		return nil
	}
	masked := make(map[string]string, len(params))
	for name, value := range params {
		switch {
		case value == "":
		case secretName(name):
			value = Masked
		default:
			value = maskUserInfo(value)
		}
		masked[name] = value
	}
	return masked
}

// Secrets returns the texts of params that must not be shown, for MaskText: the
// values of secret parameters and the user information of URLs, whole and in
// the parts a peer may repeat alone (the credentials behind an authorization
// scheme, a password, the values of cookies), each also as percent-encoding and
// JSON write it. The order is not defined.
func Secrets(params map[string]string) []string {
	var secrets []string
	add := func(s string) {
		if s == "" || slices.Contains(secrets, s) {
			return
		}
		secrets = append(secrets, s)
		for _, form := range encodings(s) {
			if form != s && !slices.Contains(secrets, form) {
				secrets = append(secrets, form)
			}
		}
	}
	for name, value := range params {
		if !secretName(name) {
			eachUserInfo(value, func(start, end int) {
				info := value[start:end]
				add(info)
				if _, password, ok := strings.Cut(info, ":"); ok {
					add(password)
					if plain, err := url.PathUnescape(password); err == nil {
						add(plain)
					}
				}
			})
			continue
		}
		add(value)
		switch strings.ToLower(name) {
		case "header_authorization":
			_, credentials, _ := strings.Cut(value, " ")
			add(strings.TrimSpace(credentials))
		case "header_cookie":
			for pair := range strings.SplitSeq(value, ";") {
				// Values like "1" or "en" are settings, and masking them would
				// leave nothing to read.
				if _, v, _ := strings.Cut(pair, "="); len(strings.TrimSpace(v)) >= 6 {
					add(strings.TrimSpace(v))
				}
			}
		}
	}
	return secrets
}

// SecretTexts returns secrets for MaskText, each also in the forms that a peer may
// give it back in.
func SecretTexts(secrets ...string) []string {
	var texts []string
	for _, s := range secrets {
		if s == "" {
			continue
		}
		for _, form := range append(encodings(s), s) {
			if !slices.Contains(texts, form) {
				texts = append(texts, form)
			}
		}
	}
	return texts
}

// secretsKey is what WithSecrets puts into a context.
type secretsKey struct{}

// WithSecrets returns a context of an attempt that must not show texts, beside what
// the names of its parameters say.
func WithSecrets(ctx context.Context, texts []string) context.Context {
	return context.WithValue(ctx, secretsKey{}, texts)
}

// SecretsOf returns, for MaskText, what an attempt with ctx and params must not show:
// Secrets and what WithSecrets was told.
func SecretsOf(ctx context.Context, params map[string]string) []string {
	more, _ := ctx.Value(secretsKey{}).([]string)
	return append(Secrets(params), more...)
}

// MaskHead is MaskText of a text whose end was cut off: what may be the beginning
// of a secret there, or of a URL whose user information has not ended, is dropped.
func MaskHead(s string, secrets ...string) string {
	end := len(s)
	for _, secret := range secrets {
		for n := min(len(secret)-1, len(s)); n > 0; n-- {
			if strings.HasSuffix(s, secret[:n]) {
				end = min(end, len(s)-n)
				break
			}
		}
	}
	if i := strings.LastIndex(s, "://"); i >= 0 && !strings.ContainsAny(s[i+3:], "/?#@ \t\r\n\"'") {
		end = min(end, i)
	}
	return MaskText(s[:end], secrets...)
}

// encodings returns s as it may come back from a peer: as a query, a path, any
// part of a URL, JSON (of those that escape <, > and &, all but ASCII, or / and those
// that do not) and Go write it, and in base64.
func encodings(s string) []string {
	query := url.QueryEscape(s)
	var plain strings.Builder
	encoder := json.NewEncoder(&plain)
	encoder.SetEscapeHTML(false)
	encoder.Encode(s) // a string never fails
	quoted, _ := json.Marshal(s)
	readable := unquoted(strings.TrimSuffix(plain.String(), "\n"))
	return []string{
		query, url.PathEscape(s), strings.ReplaceAll(query, "+", "%20"),
		unquoted(string(quoted)), readable, inASCII(readable), strings.ReplaceAll(inASCII(readable), "/", `\/`), unquoted(strconv.Quote(s)),
		base64.StdEncoding.EncodeToString([]byte(s)), base64.RawURLEncoding.EncodeToString([]byte(s)),
	}
}

// inASCII returns a text in JSON as writers do that escape all but ASCII.
func inASCII(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r < 0x80 {
			b.WriteRune(r)
			continue
		}
		for _, unit := range utf16.Encode([]rune{r}) {
			fmt.Fprintf(&b, `\u%04x`, unit)
		}
	}
	return b.String()
}

// unquoted takes the quotes off a text in quotes.
func unquoted(s string) string { return s[1 : len(s)-1] }

// MaskText returns s with every occurrence of a secret, and the user
// information of every URL, replaced by Masked. Secrets of up to three bytes
// are replaced only where no letter or digit touches them: a password "a" is
// not to erase every a.
func MaskText(s string, secrets ...string) string {
	if s == "" {
		return s
	}
	// The longest first, so that one that is part of another does not leave the
	// rest of that one behind.
	longest := slices.SortedFunc(slices.Values(secrets), func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	for _, secret := range longest {
		switch {
		case secret == "":
		case len(secret) <= 3:
			s = maskWord(s, secret)
		default:
			s = strings.ReplaceAll(s, secret, Masked)
		}
	}
	return maskUserInfo(s)
}

// maskWord replaces word in s where it stands alone.
func maskWord(s, word string) string {
	var b strings.Builder
	for from := 0; ; {
		i := strings.Index(s[from:], word)
		if i < 0 {
			return b.String() + s[from:]
		}
		start, end := from+i, from+i+len(word)
		if start > 0 && alphanumeric(s[start-1]) || end < len(s) && alphanumeric(s[end]) {
			b.WriteString(s[from : start+1])
			from = start + 1
			continue
		}
		b.WriteString(s[from:start])
		b.WriteString(Masked)
		from = end
	}
}

func alphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c >= 0x80
}

// maskUserInfo replaces the user information of every URL in s.
func maskUserInfo(s string) string {
	var b strings.Builder
	last := 0
	eachUserInfo(s, func(start, end int) {
		b.WriteString(s[last:start])
		b.WriteString(Masked)
		last = end
	})
	if last == 0 {
		return s
	}
	return b.String() + s[last:]
}

// eachUserInfo calls fn with the bounds of what stands between "://" and the
// last "@" of the authority behind it, for every URL in s.
func eachUserInfo(s string, fn func(start, end int)) {
	for from := 0; ; {
		i := strings.Index(s[from:], "://")
		if i < 0 {
			return
		}
		start := from + i + len("://")
		authority := s[start:]
		if end := strings.IndexAny(authority, "/?#\\ \t\r\n\"'`<>|"); end >= 0 {
			authority = authority[:end]
		}
		if at := strings.LastIndexByte(authority, '@'); at > 0 && authority[:at] != Masked {
			fn(start, start+at)
		}
		from = start
	}
}
