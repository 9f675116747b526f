package speech

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"time"
	"unicode"
)

// Espeak speaks with espeak-ng, one short-lived process for each synthesis, on at most half of the processors at a time.
//
// Why no shell and text over standard input: an argument is visible to every user of the machine, and what an
// application wants said may be private.
type Espeak struct {
	path  string
	slots chan struct{}
}

// maxComplaint bounds what is kept of standard error.
const maxComplaint = 64 << 10

// NewEspeak uses the program at path.
func NewEspeak(path string) *Espeak {
	return &Espeak{path: path, slots: make(chan struct{}, max(1, runtime.NumCPU()/2))}
}

// FindEspeak looks for espeak-ng in the search path.
func FindEspeak() (*Espeak, bool) {
	path, err := exec.LookPath("espeak-ng")
	if err != nil {
		return nil, false
	}
	return NewEspeak(path), true
}

// Synthesize runs espeak-ng, within 15 s from when its turn comes. A voice of a cloud service (with a dot in its name,
// as "Polly.Joanna") stands for the language's own voice.
func (e *Espeak) Synthesize(ctx context.Context, r Request) ([]byte, error) {
	if err := r.Check(); err != nil {
		return nil, err
	}
	voice, err := espeakVoice(r)
	if err != nil {
		return nil, err
	}
	// --stdin reads to the end before it speaks; -b 1: the input is UTF-8.
	args := []string{"--stdout", "--stdin", "-b", "1", "-v", voice}
	input := plainText(r.Text)
	if r.SSML != "" {
		args = append(args, "-m")
		if input, err = cleanSSML(r.SSML); err != nil {
			return nil, err
		}
	}
	select {
	case e.slots <- struct{}{}:
		defer func() { <-e.slots }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	return e.run(ctx, args, input, voice)
}

func (e *Espeak) run(ctx context.Context, args []string, input, voice string) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, timeLimit, errTimeLimit)
	defer cancel()
	audio, complaint := bounded{limit: MaxAudio}, bounded{limit: maxComplaint}
	cmd := exec.CommandContext(ctx, e.path, args...)
	cmd.Env = []string{"LANG=C.UTF-8"}
	cmd.Stdin = strings.NewReader(input)
	cmd.Stdout = &audio
	cmd.Stderr = &complaint
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case audio.full:
		return nil, errTooMuch
	case err != nil && strings.Contains(complaint.buffer.String(), "voice does not exist"):
		return nil, invalid("espeak-ng has no voice or language %q", voice)
	case err != nil:
		return nil, failed("espeak-ng failed", errors.Join(err, errors.New(complaint.buffer.String())))
	case audio.buffer.Len() == 0:
		return nil, failed("espeak-ng made no audio", errors.New(complaint.buffer.String()))
	}
	return audio.buffer.Bytes(), nil
}

// bounded keeps what is written to it and refuses what goes over its limit, which ends the program that writes. The
// buffer is not embedded: its ReadFrom would go round the limit.
type bounded struct {
	buffer bytes.Buffer
	limit  int
	full   bool
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.buffer.Len()+len(p) > b.limit {
		b.full = true
		return 0, errTooMuch
	}
	return b.buffer.Write(p)
}

// espeakVoices maps languages whose espeak-ng name is not the first part of their tag.
var espeakVoices = map[string]string{
	"zh":    "cmn",
	"zh-hk": "yue",
	"zh-mo": "yue",
	"en":    "en-us",
	"en-gb": "en-gb",
	"en-au": "en-gb",
	"en-ie": "en-gb",
	"en-nz": "en-gb",
	"fr":    "fr-fr",
	"fr-be": "fr-be",
	"fr-ch": "fr-ch",
	"pt":    "pt",
	"pt-br": "pt-br",
	"es-mx": "es-419",
	"es-us": "es-419",
	"no":    "nb",
}

// espeakVariants are TwiML's basic voices as variants of the language's own.
var espeakVariants = map[string]string{"man": "+m3", "woman": "+f3", "alice": "+f3"}

// voiceName keeps what an application writes from being an option or a path: espeak-ng opens voices as files.
var voiceName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_]*([-+][A-Za-z0-9_]+)*$`)

// espeakVoice is the value of espeak-ng's -v.
func espeakVoice(r Request) (string, error) {
	language, err := espeakLanguage(r)
	if err != nil {
		return "", err
	}
	name := strings.ToLower(r.Voice)
	switch {
	case name == "" || strings.Contains(name, "."):
		return language, nil
	case espeakVariants[name] != "":
		return language + espeakVariants[name], nil
	case len(name) > 64 || !voiceName.MatchString(name):
		return "", invalid("%.64q is no name of a voice", r.Voice)
	}
	return name, nil
}

// espeakLanguage is the voice of the language, by the longest part of its tag that is known.
func espeakLanguage(r Request) (string, error) {
	if r.Language == "" {
		return guessLanguage(r.Text + r.SSML), nil
	}
	tag := strings.ToLower(strings.ReplaceAll(r.Language, "_", "-"))
	if len(tag) > 35 || !voiceName.MatchString(tag) {
		return "", invalid("%.64q is no language tag such as zh-CN", r.Language)
	}
	if voice := espeakVoices[tag]; voice != "" {
		return voice, nil
	}
	base, _, _ := strings.Cut(tag, "-")
	if voice := espeakVoices[base]; voice != "" {
		return voice, nil
	}
	return base, nil
}

// guessLanguage is Mandarin for a text with a Chinese character in it, which reads Latin words as English, and English
// for any other.
func guessLanguage(text string) string {
	if strings.ContainsFunc(text, func(r rune) bool { return unicode.Is(unicode.Han, r) }) {
		return "cmn"
	}
	return "en-us"
}

// plainText takes out of a text what espeak-ng would obey instead of say: control characters (its embedded commands
// begin with U+0001 and can name a sound file), and the double square brackets that hold phonemes.
func plainText(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsControl(r) && r != '\n':
			return ' '
		case r == '[':
			return '('
		}
		return r
	}, strings.ToValidUTF8(text, " "))
}
