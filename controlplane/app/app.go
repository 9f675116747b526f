// Package app owns applications: what answers the webhooks of numbers, extensions and originated calls, and the secret
// its requests are signed with. Asking an application is left to the edge, binding one to the nouns that refer to it.
package app

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/url"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/webhooks"
)

// Formats of an application.
const (
	FormatNative = "native"
	FormatTwiML  = "twiml"
)

// Application is what answers webhooks.
type Application struct {
	bun.BaseModel `bun:"table:applications" json:"-"`
	db.Row
	Draft

	Secret string `bun:"secret" json:"secret"` // whsec_…
	// OldSecret signs as well, beside Secret, until OldSecretUntil.
	OldSecret      string     `bun:"old_secret,nullzero" json:"-"`
	OldSecretUntil *time.Time `bun:"old_secret_until" json:"old_secret_until,omitempty"`
}

// Draft is what a caller decides of an application. Exactly one of VoiceURL and Program is set. The defaults of absent
// fields are the specification's.
type Draft struct {
	Name     string `bun:"name" json:"name"`
	Format   string `bun:"format" json:"format"`
	VoiceURL string `bun:"voice_url,nullzero" json:"voice_url,omitempty"`
	// Program and FallbackInstructions are kept as they were given, and are programs (webhooks.ParseProgram).
	Program              json.RawMessage `bun:"program,type:jsonb,nullzero" json:"program,omitempty"`
	Method               string          `bun:"method" json:"method"`
	FallbackURL          string          `bun:"fallback_url,nullzero" json:"fallback_url,omitempty"`
	FallbackInstructions json.RawMessage `bun:"fallback_instructions,type:jsonb,nullzero" json:"fallback_instructions,omitempty"`
	StatusURL            string          `bun:"status_url,nullzero" json:"status_url,omitempty"`
	ConnectTimeoutMS     int             `bun:"connect_timeout_ms" json:"connect_timeout_ms"`
	BudgetMS             int             `bun:"budget_ms" json:"budget_ms"`
	Retries              int             `bun:"retries" json:"retries"`
	FallbackTimeoutMS    int             `bun:"fallback_timeout_ms" json:"fallback_timeout_ms"`
}

// Defaults are the values that the specification gives absent fields, for applications made in Go.
func Defaults() Draft {
	return Draft{
		Format: FormatNative, Method: "POST", ConnectTimeoutMS: 1000, BudgetMS: 5000, Retries: 1, FallbackTimeoutMS: 4000,
	}
}

// Check refuses what the specification cannot say.
func (d *Draft) Check() error {
	d.Program, d.FallbackInstructions = absent(d.Program), absent(d.FallbackInstructions)
	hasURL, hasProgram := d.VoiceURL != "", d.Program != nil
	switch {
	case hasURL && hasProgram:
		return problem.InvalidField("/program", "conflict", "cannot stand together with voice_url; give one of them, and null for the other")
	case !hasURL && !hasProgram:
		return problem.InvalidField("/voice_url", "required", "is missing; an application has a voice_url or a program")
	case d.Method == "GET" && d.Format != FormatTwiML:
		return problem.InvalidField("/method", "format", "GET is for the format twiml alone")
	case hasProgram && d.Format == FormatTwiML:
		return problem.InvalidField("/program", "format", "belongs to the format native; TwiML is answered by a voice_url")
	}
	for _, u := range []struct{ pointer, text string }{
		{"/voice_url", d.VoiceURL}, {"/fallback_url", d.FallbackURL}, {"/status_url", d.StatusURL},
	} {
		if err := CheckURL(u.pointer, u.text); err != nil {
			return err
		}
	}
	for _, p := range []struct {
		pointer string
		text    json.RawMessage
	}{{"/program", d.Program}, {"/fallback_instructions", d.FallbackInstructions}} {
		if _, err := ParseProgram(p.pointer, p.text); err != nil {
			return err
		}
	}
	return nil
}

// absent is nil for what JSON calls null.
func absent(text json.RawMessage) json.RawMessage {
	if bytes.Equal(bytes.TrimSpace(text), []byte("null")) {
		return nil
	}
	return text
}

// CheckURL refuses what is no URL of an application: it is http or https, with a host and without credentials. Empty is
// none at all. Which addresses may be asked is decided where they are dialled.
func CheckURL(pointer, text string) error {
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return problem.InvalidField(pointer, "url.malformed", "must be a URL such as https://example.com/voice")
	case u.Scheme != "http" && u.Scheme != "https":
		return problem.InvalidField(pointer, "url.scheme", "must begin with https:// or http://, is %q", u.Scheme)
	case u.Hostname() == "":
		return problem.InvalidField(pointer, "url.host", "names no host")
	case u.User != nil:
		return problem.InvalidField(pointer, "url.credentials", "must not carry a user name or password; requests are signed instead")
	}
	return nil
}

// ParseProgram reads a program that stands at pointer in a request. nil text is no program, and no error. What is wrong
// is an Invalid problem whose pointer leads into the program.
func ParseProgram(pointer string, text json.RawMessage) (*webhooks.Program, error) {
	if text = absent(text); text == nil {
		return nil, nil
	}
	p, err := webhooks.ParseProgram(text)
	if refused, ok := errors.AsType[*webhooks.ProgramError](err); ok {
		return nil, problem.InvalidField(pointer+refused.Pointer, "program", "%s", refused.Message)
	}
	if err != nil {
		return nil, err
	}
	// A program crosses to the edge with its defaults written out, where the same limit holds.
	written, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	if len(written) > webhooks.MaxProgramBytes {
		return nil, problem.InvalidField(pointer, "size", "has %d bytes with its defaults written out; at most %d are kept", len(written), webhooks.MaxProgramBytes)
	}
	return &p, nil
}

// Programs gives the stored programs, nil where there is none.
func (d *Draft) Programs() (program, fallback *webhooks.Program, err error) {
	if program, err = ParseProgram("/program", d.Program); err != nil {
		return nil, nil, err
	}
	fallback, err = ParseProgram("/fallback_instructions", d.FallbackInstructions)
	return program, fallback, err
}

// Secrets are those that requests are signed with now, the newest first.
func (a *Application) Secrets(now time.Time) []string {
	if a.OldSecret != "" && a.OldSecretUntil != nil && now.Before(*a.OldSecretUntil) {
		return []string{a.Secret, a.OldSecret}
	}
	return []string{a.Secret}
}

// rotation is how long an old secret signs on.
const rotation = 24 * time.Hour

// newSecret makes a signing secret of 192 random bits, in the form of Standard Webhooks.
func newSecret() string {
	var random [24]byte
	// rand.Read never fails (crypto/rand, since Go 1.24 it ends the process instead).
	_, _ = rand.Read(random[:])
	return "whsec_" + base64.StdEncoding.EncodeToString(random[:])
}
