package scheduler

import (
	"maps"
	"strings"
	"testing"
)

func TestMaskParams(t *testing.T) {
	tests := []struct {
		why        string
		name, in   string
		wantMasked string
	}{
		{"mysql", "passwd", "s3cret", "***"},
		{"redis", "password", "s3cret", "***"},
		{"http", "auth_password", "s3cret", "***"},
		{"names have no case", "Header_Authorization", "Bearer s3cret", "***"},
		{"names have no case", "HEADER_COOKIE", "sid=s3cret", "***"},
		{"an empty secret is none", "passwd", "", ""},
		{"other names stay", "body", "s3cret", "s3cret"},
		{"user info of a URL", "url", "https://u:p%40w@h:1/a?b=c", "https://***@h:1/a?b=c"},
		{"a name alone is user info too", "url", "http://token@h/", "http://***@h/"},
		{"an @ in the password: the last one ends it", "url", "http://u:a@b@h/", "http://***@h/"},
		{"an @ behind the authority is no user info", "url", "http://h/u@x?m=a@b", "http://h/u@x?m=a@b"},
		{"several in a command", "cmd", "curl http://a:b@h/ 'ftp://c:d@i'", "curl http://***@h/ 'ftp://***@i'"},
		{"an empty user info", "url", "http://@h/", "http://@h/"},
	}
	for _, tt := range tests {
		in := map[string]string{tt.name: tt.in}
		kept := maps.Clone(in)
		got := MaskParams(in)
		if got[tt.name] != tt.wantMasked {
			t.Errorf("%s: MaskParams(%s=%q) = %q, want %q", tt.why, tt.name, tt.in, got[tt.name], tt.wantMasked)
		}
		if !maps.Equal(in, kept) {
			t.Errorf("%s: MaskParams changed its argument to %v", tt.why, in)
		}
	}
	if MaskParams(nil) != nil {
		t.Error("MaskParams(nil) is not nil")
	}
}

func TestMaskText(t *testing.T) {
	params := map[string]string{
		"passwd":               `pa"ss w/rd`,
		"header_Authorization": "Basic dXNlcjpwYXNz",
		"header_cookie":        "lang=en; session=0123456789",
		"url":                  "http://me:inner%2Fsecret@h/",
	}
	tests := []struct{ why, in, want string }{
		{"as given", `denied for pa"ss w/rd.`, "denied for ***."},
		{"as JSON writes it", `{"p":"pa\"ss w/rd"}`, `{"p":"***"}`},
		{"as a form writes it", "p=pa%22ss+w%2Frd&x=1", "p=***&x=1"},
		{"the header", "got Basic dXNlcjpwYXNz", "got ***"},
		{"the credentials alone", "token dXNlcjpwYXNz", "token ***"},
		{"one cookie", "session 0123456789 of en", "session *** of en"},
		{"the password of a URL", "inner%2Fsecret", "***"},
		{"that password decoded", "inner/secret", "***"},
		{"a URL that is no parameter", "see ftp://x:y@z/", "see ftp://***@z/"},
		{"nothing", "all well", "all well"},
		{"masked once", "http://***@h/", "http://***@h/"},
	}
	for _, tt := range tests {
		if got := MaskText(tt.in, Secrets(params)...); got != tt.want {
			t.Errorf("%s: MaskText(%q) = %q, want %q", tt.why, tt.in, got, tt.want)
		}
	}
}

func TestMaskTextShortAndNestedSecrets(t *testing.T) {
	tests := []struct {
		why, in string
		secrets []string
		want    string
	}{
		{"a short secret as a word", "a: banana (a)", []string{"a"}, "***: banana (***)"},
		{"short, at both ends", "ab x ab", []string{"ab"}, "*** x ***"},
		{"short, overlapping", "aaa aa", []string{"aa"}, "aaa ***"},
		{"one within the other", "password-2", []string{"pass", "password"}, "***-2"},
		{"an empty secret", "abc", []string{""}, "abc"},
	}
	for _, tt := range tests {
		if got := MaskText(tt.in, tt.secrets...); got != tt.want {
			t.Errorf("%s: MaskText(%q, %q) = %q, want %q", tt.why, tt.in, tt.secrets, got, tt.want)
		}
	}
}

func FuzzMaskText(f *testing.F) {
	f.Add("http://u:p@h/ s3cret", "s3cret")
	f.Add("aaaa", "aa")
	f.Add("://@://@", "@://")
	f.Fuzz(func(t *testing.T, text, secret string) {
		got := MaskText(text, secret)
		// A secret that masking itself can spell, or that the mask's own
		// neighbours can complete, is not a case anyone has.
		if len(secret) > 3 && !strings.Contains(secret, "*") && strings.Contains(got, secret) {
			t.Errorf("MaskText(%q, %q) = %q still holds it", text, secret, got)
		}
	})
}
