package speech

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/edge/media/codec"
	"github.com/hookswitch/hookswitch/edge/media/detect"
	"github.com/hookswitch/hookswitch/edge/media/wav"
)

func installed(t testing.TB) *Espeak {
	t.Helper()
	e, ok := FindEspeak()
	if !ok {
		t.Fatal("espeak-ng is not installed: apt-get install espeak-ng")
	}
	return e
}

// program is an Espeak that runs a shell script instead.
func program(t *testing.T, script string) *Espeak {
	t.Helper()
	path := filepath.Join(t.TempDir(), "espeak-ng")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return NewEspeak(path)
}

func spoken(t *testing.T, e *Espeak, r Request) wav.PCM {
	t.Helper()
	file, err := e.Synthesize(t.Context(), r)
	if err != nil {
		t.Fatalf("%+v: %v", r, err)
	}
	pcm, err := wav.Decode(file, wav.Limits{})
	if err != nil {
		t.Fatalf("%+v: %v", r, err)
	}
	return pcm
}

// voiced is how much of the audio is speech.
func voiced(pcm wav.PCM) time.Duration {
	var vad detect.VAD
	samples := codec.Resample(pcm.Mono().Samples, pcm.Rate, 8000)
	frames := 0
	for ; len(samples) >= 160; samples = samples[160:] {
		if vad.Frame(samples[:160]) {
			frames++
		}
	}
	return time.Duration(frames) * 20 * time.Millisecond
}

func TestEspeakSpeaks(t *testing.T) {
	e := installed(t)
	for _, r := range []Request{
		{Text: "您好，欢迎致电。", Language: "zh-CN"},
		{Text: "您好，欢迎致电。"},
		{Text: "Hello, and welcome.", Language: "en"},
		{Text: "Hello, and welcome."},
		{Text: "Hello, and welcome.", Language: "en_GB", Voice: "woman"},
		{Text: "Hello, and welcome.", Language: "en-US", Voice: "Polly.Joanna"},
		{Text: "Hello, and welcome.", Voice: "en-us+f3"},
		{Text: "早晨，歡迎。", Language: "zh-HK"},
		{SSML: `<speak>Your code is <say-as interpret-as="characters">AB1</say-as><break time="300ms"/> thank you</speak>`, Language: "en"},
		{SSML: `a piece without a root &amp; <prosody rate="slow">slowly</prosody>`, Language: "en"},
	} {
		if got := voiced(spoken(t, e, r)); got < 600*time.Millisecond {
			t.Errorf("%+v: %s of speech", r, got)
		}
	}
}

func TestEspeakHasEveryVoiceOfTheTable(t *testing.T) {
	e := installed(t)
	for language, voice := range espeakVoices {
		for _, name := range []string{"", "man", "woman"} {
			if _, err := e.Synthesize(t.Context(), Request{Text: "1", Language: language, Voice: name}); err != nil {
				t.Errorf("%s (%s) %s: %v", language, voice, name, err)
			}
		}
	}
}

// espeak-ng's own reading of <audio> opens any file and hands its name to a shell (sox).
func TestEspeakPlaysNoFileOfTheMachine(t *testing.T) {
	e := installed(t)
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret.wav")
	long := wav.Encode(wav.PCM{Samples: make([]int16, 10*22050), Rate: 22050, Channels: 1})
	if err := os.WriteFile(secret, long, 0o600); err != nil {
		t.Fatal(err)
	}
	touched := filepath.Join(dir, "touched")
	for _, r := range []Request{
		{SSML: `<speak>hello <audio src="` + secret + `">there</audio></speak>`},
		{SSML: `<speak>hello <AUDIO src='` + secret + `'/></speak>`},
		{SSML: `<speak>hello <x:audio xmlns:x="y" src="` + secret + `"/></speak>`},
		{SSML: `<speak>hello <![CDATA[<audio src="` + secret + `"/>]]></speak>`},
		{SSML: `<speak>hello &lt;audio src="` + secret + `"/></speak>`},
		{SSML: `<speak>hello <audio src="$(touch ` + touched + `)"/></speak>`},
		{Text: `hello <audio src="` + secret + `"/>`},
		{Text: "-f " + secret},
	} {
		r.Language = "en"
		// Read aloud, the path in a text takes longer than "hello"; the file would add its ten seconds of silence.
		pcm := spoken(t, e, r)
		if silence := pcm.Duration() - voiced(pcm); silence > 8*time.Second {
			t.Errorf("%+v: the file was played", r)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("files after speaking: %v, %v", entries, err)
	}
}

func TestEspeakRefusals(t *testing.T) {
	e := installed(t)
	for _, tc := range []struct {
		request Request
		says    string
	}{
		{Request{Text: "a", Language: "xx-YY"}, "xx"},
		{Request{Text: "a", Language: "../../etc"}, "language tag"},
		{Request{Text: "a", Language: "-f/etc/passwd"}, "language tag"},
		{Request{Text: "a", Language: strings.Repeat("a", 40)}, "language tag"},
		{Request{Text: "a", Voice: "/etc/passwd"}, "name of a voice"},
		{Request{Text: "a", Voice: "--path=/tmp"}, "name of a voice"},
		{Request{Text: "a", Voice: "nobody"}, "nobody"},
		{Request{SSML: "<speak>a"}, "well-formed"},
		{Request{SSML: "<speak>a & b</speak>"}, "well-formed"},
	} {
		_, err := e.Synthesize(t.Context(), tc.request)
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%+v: %v", tc.request, err)
		}
	}
}

func TestEspeakFailureIsNotTheRequestsFault(t *testing.T) {
	for name, e := range map[string]*Espeak{
		"exit status": program(t, "echo something private >&2; exit 3"),
		"no audio":    program(t, "exit 0"),
		"no program":  NewEspeak(filepath.Join(t.TempDir(), "espeak-ng")),
	} {
		_, err := e.Synthesize(t.Context(), Request{Text: "a"})
		if err == nil || errors.Is(err, ErrInvalid) || strings.Contains(err.Error(), "private") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEspeakIsKilledWithTheContext(t *testing.T) {
	started := filepath.Join(t.TempDir(), "started")
	if err := syscall.Mkfifo(started, 0o600); err != nil {
		t.Fatal(err)
	}
	e := program(t, "echo > "+started+"; exec sleep 3600")
	why := errors.New("caller hung up")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	go func() {
		// Opening a FIFO waits for the other side, which is the program.
		if f, err := os.Open(started); err == nil {
			_ = f.Close()
		}
		cancel(why)
	}()
	if _, err := e.Synthesize(ctx, Request{Text: "a"}); !errors.Is(err, why) {
		t.Errorf("killed: %v", err)
	}
}

func TestEspeakEndlessOutputIsCutOff(t *testing.T) {
	e := program(t, "exec cat /dev/zero")
	if _, err := e.Synthesize(t.Context(), Request{Text: "a"}); !errors.Is(err, errTooMuch) {
		t.Errorf("endless: %v", err)
	}
}

func TestEspeakWaitingForATurnEndsWithTheContext(t *testing.T) {
	e := NewEspeak("/nonexistent")
	for range cap(e.slots) {
		e.slots <- struct{}{}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := e.Synthesize(ctx, Request{Text: "a"}); !errors.Is(err, context.Canceled) {
		t.Errorf("no turn: %v", err)
	}
}

func TestPlainTextHasNothingToObey(t *testing.T) {
	for text, want := range map[string]string{
		"您好\nworld":            "您好\nworld",
		"a\x01\x1b[b\x7f":      "a  (b ",
		"say [[h@l'oU]] now":   "say ((h@l'oU]] now",
		"[[[":                  "(((",
		"half a rune \xe6\x82": "half a rune  ",
	} {
		if got := plainText(text); got != want {
			t.Errorf("plainText(%q) = %q, want %q", text, got, want)
		}
	}
}
