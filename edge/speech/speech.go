// Package speech owns turning text into spoken audio: what is asked of a speech engine, and the engines there are
// (espeak-ng beside the edge, any HTTP endpoint of the operator's). It leaves caching, conversion and playing to
// edge/prompt and edge/media.
package speech

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// Limits of one synthesis.
const (
	MaxText  = 4096 // characters
	MaxSSML  = 8192 // characters
	MaxAudio = 32 << 20

	timeLimit = 15 * time.Second
)

var (
	// ErrNone: the edge has no speech engine at all.
	ErrNone = errors.New("no speech engine is installed or configured; ask the operator for one, or play a file")
	// ErrInvalid: the request itself is wrong; the text around it says what to change.
	ErrInvalid = errors.New("invalid")
)

// Request is what is to be spoken: exactly one of Text and SSML. Language is a BCP 47 tag such as "zh-CN"; Voice a
// name that the engine knows. Either may be empty: the engine chooses. Provider says which engine, by its name in
// Providers; the engine itself does not look at it.
type Request struct {
	Text     string `json:"text,omitempty"`
	SSML     string `json:"ssml,omitempty"`
	Voice    string `json:"voice,omitempty"`
	Language string `json:"language,omitempty"`
	Provider string `json:"-"`
}

// Check reports what is wrong with a request whatever the engine. The error wraps ErrInvalid.
func (r Request) Check() error {
	switch {
	case r.Text != "" && r.SSML != "":
		return invalid("give either text or ssml, not both")
	case strings.TrimSpace(r.Text) == "" && strings.TrimSpace(r.SSML) == "":
		return invalid("there is no text to speak")
	case utf8.RuneCountInString(r.Text) > MaxText:
		return invalid("the text has more than 4,096 characters")
	case utf8.RuneCountInString(r.SSML) > MaxSSML:
		return invalid("the ssml has more than 8,192 characters")
	}
	return nil
}

// wrong is a request's fault: its text is the sentence alone, and it is an ErrInvalid.
type wrong string

func (w wrong) Error() string        { return string(w) }
func (w wrong) Is(target error) bool { return target == ErrInvalid }

func invalid(format string, args ...any) error { return wrong(fmt.Sprintf(format, args...)) }

// Provider is a speech engine. Synthesize returns a whole WAV file that edge/media/wav reads, of at most MaxAudio
// bytes. It blocks until then or until the context ends, and is safe for concurrent use. An error that wraps
// ErrInvalid is the request's fault, any other the engine's; the text of both is fit for the application.
type Provider interface {
	Synthesize(ctx context.Context, r Request) ([]byte, error)
}

// Providers are the engines of an edge by the name that an application gives. The zero value has none. It must not
// change once it is in use.
type Providers struct {
	ByName  map[string]Provider
	Default string // the name that an empty one stands for
}

// Find returns the engine and its name; an empty name is the default. The error is ErrNone where there is no engine at
// all, and wraps ErrInvalid where there is none of that name.
func (p Providers) Find(name string) (string, Provider, error) {
	if len(p.ByName) == 0 {
		return "", nil, ErrNone
	}
	if name == "" {
		name = p.Default
	}
	provider, ok := p.ByName[name]
	if !ok {
		return "", nil, invalid("there is no speech provider named %.64q", name)
	}
	return name, provider, nil
}
