package actions

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/snower/forsun/scheduler"
)

// Secrets returns a secret by its name, and whether there is one. It is called from
// many goroutines.
type Secrets func(name string) (value string, ok bool)

const (
	// secretOpen begins a reference to a secret in the value of a parameter,
	// ${secret:NAME}.
	secretOpen  = "${secret:"
	secretClose = "}"
	// A secret has at least minSecret bytes: one that is shorter could not be masked
	// without masking much else.
	minSecret = 4
	maxSecret = 64 << 10
)

// CheckSecretName says whether a secret can have this name.
func CheckSecretName(name string) error {
	for i := range len(name) {
		c := name[i]
		if !('0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_' || c == '-') {
			return fmt.Errorf("secret name %s is not allowed; allowed: %s", scheduler.Shorten(name, 64), secretNames)
		}
	}
	if name == "" || len(name) > 64 {
		return fmt.Errorf("secret name %s is not allowed; allowed: %s", scheduler.Shorten(name, 64), secretNames)
	}
	return nil
}

const secretNames = "1 to 64 letters, digits, _ and -"

// CheckSecret says whether value can be a secret. The error does not show it.
func CheckSecret(value string) error {
	switch {
	case len(value) < minSecret || len(value) > maxSecret:
		return fmt.Errorf("a secret of %d bytes is not allowed; allowed: %d to %d", len(value), minSecret, maxSecret)
	case strings.ContainsFunc(value, func(c rune) bool { return c < ' ' || c == 0x7f }):
		return errors.New("a secret with control characters is not allowed; allowed: one line of text")
	case !utf8.ValidString(value):
		return errors.New("a secret that is not UTF-8 is not allowed; allowed: one line of text")
	case strings.Contains(value, "${"):
		return errors.New("a secret with ${ in it is not allowed; allowed: text without what could refer to another one")
	}
	return nil
}

// revealing is an action whose parameters may refer to secrets, as ${secret:NAME}:
// they are resolved for the attempt only, and nothing the action says afterwards
// shows them. What is stored, listed and logged is the reference.
//
// Where a value stands decides how it is put there:
//
//	shell cmd      not at all: a value in a command line could be read as a command
//	shell env      as the value of a variable, whatever characters it has
//	redis command  as a word or a part of one, whatever characters it has
//	mysql sql      as it is; values with quotes or backslashes are refused
//	http url       percent-encoded; as it is where it is the whole URL
//	others         as it is
type revealing struct {
	name    string
	action  scheduler.Action
	secrets Secrets
}

// limitedRevealing is revealing for an action that says how much of it can run.
type limitedRevealing struct {
	*revealing
	limited scheduler.Limited
}

var _ scheduler.Limited = (*limitedRevealing)(nil)

// Slots implements scheduler.Limited.
func (a *limitedRevealing) Slots() int { return a.limited.Slots() }

// revealed are the parameters of a plan with its secrets.
type revealed struct {
	params map[string]string // of the action; those that it expands itself are as they were stored
	values map[string]string // by name
	texts  []string          // what is to be masked
}

// refers says whether any parameter refers to a secret.
func refers(params map[string]string) bool {
	for _, value := range params {
		if strings.Contains(value, secretOpen) {
			return true
		}
	}
	return false
}

// Check implements scheduler.Action.
func (a *revealing) Check(params map[string]string) error {
	if !refers(params) {
		return a.action.Check(params)
	}
	r, err := a.reveal(params)
	if err != nil {
		return unmarked(err)
	}
	if a, ok := a.action.(HidingChecker); ok {
		return r.hideError(a.CheckHiding(r.params, r.texts), params)
	}
	return r.hideError(a.action.Check(r.params), params)
}

// HidingChecker is an action that is told at creation, too, what it must not show:
// one that has other ways to show it than the error.
type HidingChecker interface {
	CheckHiding(params map[string]string, secrets []string) error
}

// unmarked is err without the mark that it is worth another attempt, which is
// nothing to a client.
func unmarked(err error) error {
	if again, ok := errors.AsType[*scheduler.RetryableError](err); ok {
		return again.Err
	}
	return err
}

// Target implements scheduler.Action. It shows no secret: targets that differ by one
// only share their slots.
func (a *revealing) Target(params map[string]string) string {
	if !refers(params) {
		return a.action.Target(params)
	}
	r, err := a.reveal(params)
	if err != nil {
		return "" // Execute says why
	}
	return scheduler.MaskText(a.action.Target(r.params), r.texts...)
}

// Timeout implements scheduler.Action.
func (a *revealing) Timeout(params map[string]string) time.Duration {
	if refers(params) {
		if r, err := a.reveal(params); err == nil {
			params = r.params
		}
	}
	return a.action.Timeout(params)
}

// Execute implements scheduler.Action.
func (a *revealing) Execute(ctx context.Context, f *scheduler.Firing) (out scheduler.Output, err error) {
	if !refers(f.Plan.Params) {
		return a.action.Execute(ctx, f)
	}
	r, err := a.reveal(f.Plan.Params)
	if err != nil {
		return nil, err
	}
	defer func() {
		if p := recover(); p != nil { // the engine logs it
			panic(scheduler.MaskText(fmt.Sprint(p), r.texts...))
		}
	}()
	firing, plan := *f, *f.Plan
	plan.Params, firing.Plan = r.params, &plan
	ctx = scheduler.WithSecrets(context.WithValue(ctx, revealedKey{}, r), r.texts)
	out, err = a.action.Execute(ctx, &firing)
	return r.hideOutput(out), r.hideError(err, f.Plan.Params)
}

// reveal resolves what params refer to. Errors are *scheduler.FieldError, marked as
// worth another attempt where a secret is not there: it may be by then, or on
// another replica.
func (a *revealing) reveal(params map[string]string) (*revealed, error) {
	r := &revealed{params: maps.Clone(params), values: make(map[string]string)}
	for _, param := range slices.Sorted(maps.Keys(params)) {
		text := params[param]
		if !strings.Contains(text, secretOpen) {
			continue
		}
		refuse := func(value, allowed string) error {
			return &scheduler.FieldError{Kind: scheduler.ErrParams, Field: "params." + param, Value: value, Allowed: allowed}
		}
		if a.name == "shell" && param == "cmd" {
			return nil, refuse("a secret in a command", `a variable: env=NAME=${secret:…}, and "$NAME" in cmd`)
		}
		expanded, err := expandReferences(text, func(name string) (string, error) {
			if CheckSecretName(name) != nil {
				return "", refuse(secretOpen+"…", "${secret:NAME}, its name "+secretNames)
			}
			reference := secretOpen + name + secretClose
			value, ok := a.secret(name)
			if !ok {
				return "", scheduler.Retryable(refuse(reference, "secrets that the server has (--secrets-file, or FORSUN_SECRET_"+EnvName(name)+" in its environment)"))
			}
			if err := CheckSecret(value); err != nil {
				return "", scheduler.Retryable(refuse(reference, "a secret as --secrets-file takes them: "+err.Error()))
			}
			r.values[name] = value
			switch {
			case a.name == "mysql" && param == "sql" && strings.ContainsAny(value, "'\"`\\"):
				return "", refuse(reference, "in SQL, secrets without quotes and backslashes")
			case a.name == "http" && param == "url" && text != reference:
				value = percentEncode(value)
			}
			return value, nil
		})
		if err != nil {
			return nil, err
		}
		if !expandsItself(a.name, param) {
			r.params[param] = expanded
		}
	}
	r.texts = scheduler.SecretTexts(slices.Collect(maps.Values(r.values))...)
	return r, nil
}

func (a *revealing) secret(name string) (string, bool) {
	if a.secrets == nil {
		return "", false
	}
	return a.secrets(name)
}

// EnvName returns what a secret is called in the environment, behind FORSUN_SECRET_.
func EnvName(name string) string { return strings.ToUpper(strings.ReplaceAll(name, "-", "_")) }

// percentEncode returns s as any part of a URL can carry it.
func percentEncode(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

// expandsItself says whether an action takes a parameter apart before it puts
// secrets into the parts, with expandSecrets.
func expandsItself(action, param string) bool {
	return action == "shell" && param == "env" || action == "redis" && param == "command"
}

// expandReferences replaces every reference in s by what value returns for its
// name: "" for one without an end.
func expandReferences(s string, value func(name string) (string, error)) (string, error) {
	var b strings.Builder
	for {
		before, rest, ok := strings.Cut(s, secretOpen)
		b.WriteString(before)
		if !ok {
			return b.String(), nil
		}
		name, after, ok := strings.Cut(rest, secretClose)
		if !ok {
			name = ""
		}
		v, err := value(name)
		if err != nil {
			return "", err
		}
		b.WriteString(v)
		s = after
	}
}

type revealedKey struct{}

// expandSecrets returns what replaces references to secrets in the parts of a
// parameter that an action takes apart itself.
func expandSecrets(ctx context.Context) func(string) string {
	r, ok := ctx.Value(revealedKey{}).(*revealed)
	return func(s string) string {
		if !ok || !strings.Contains(s, secretOpen) {
			return s
		}
		expanded, err := expandReferences(s, func(name string) (string, error) {
			value, ok := r.values[name]
			if !ok {
				return "", errors.New("not resolved") // cannot be: the whole parameter was
			}
			return value, nil
		})
		if err != nil {
			return s
		}
		return expanded
	}
}

// hideError returns err without the secrets. It is retryable if it was, and
// errors.Is finds what it was; of the types in it only a *scheduler.FieldError
// stays.
func (r *revealed) hideError(err error, stored map[string]string) error {
	if err == nil {
		return nil
	}
	if again, ok := errors.AsType[*scheduler.RetryableError](err); ok {
		return &scheduler.RetryableError{Err: r.hideError(again.Err, stored), After: again.After}
	}
	if field, ok := errors.AsType[*scheduler.FieldError](err); ok {
		hidden := *field
		if hidden.Value != "" && strings.Contains(stored[strings.TrimPrefix(field.Field, "params.")], secretOpen) {
			hidden.Value = scheduler.Masked // what is shown of it may be cut short, where masking does not find it
		}
		for _, text := range []*string{&hidden.Field, &hidden.Value, &hidden.Allowed} {
			*text = scheduler.MaskText(*text, r.texts...)
		}
		return &hidden
	}
	return &hiddenError{text: r.mask(err.Error()), inner: err}
}

// mask masks a text that may have been cut off within a secret, by an action that
// knows of none, between two characters.
func (r *revealed) mask(text string) string {
	if len(text) > scheduler.MaxOutput-utf8.UTFMax {
		return scheduler.MaskHead(text, r.texts...)
	}
	return scheduler.MaskText(text, r.texts...)
}

// hideOutput masks an output.
func (r *revealed) hideOutput(out scheduler.Output) scheduler.Output {
	if len(out) == 0 {
		return out
	}
	return scheduler.Output(r.mask(string(out)))
}
