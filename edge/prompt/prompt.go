// Package prompt owns the audio a program can name and turns it into what a leg plays: system files, uploaded media, URLs,
// tones, speech. Everything is converted once, kept in bounded memory and shared by all calls. It leaves playing to
// edge/media, speaking to edge/speech, and what follows when there is nothing to play to edge/session.
package prompt

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/edge/media"
	"github.com/hookswitch/hookswitch/edge/media/codec"
	"github.com/hookswitch/hookswitch/edge/media/tone"
	"github.com/hookswitch/hookswitch/edge/speech"
	"github.com/hookswitch/hookswitch/webhooks/guard"
)

// Limits of one prompt and of getting it.
const (
	MaxDuration = time.Hour // what lasts longer is refused

	DefaultMaxBytes = 256 << 20
	DefaultMaxFile  = 25 << 20

	loadTimeout  = 30 * time.Second // one load in all: waiting for a turn, bytes, conversion
	readTimeout  = 10 * time.Second // from the request to the first byte of its answer
	grantTimeout = 3 * time.Second  // for the control plane to say where an uploaded file is

	// maxDownloads bounds the files held in memory before they are converted, and maxConversions the processors that
	// conversions take away from calls. maxPerHost keeps one slow host from taking all downloads.
	maxDownloads   = 64
	maxPerHost     = 8
	maxConversions = 2
)

// Config is what a Store needs. Fields that are nil make their method fail; sizes that are zero are the defaults.
type Config struct {
	// Guard fetches the URLs that accounts name.
	Guard *guard.Client
	// Media is the control plane's answer to where a file is (control.Control's method).
	Media func(ctx context.Context, q control.MediaQuery) (control.MediaGrant, error)
	// Blobs fetches from where Media pointed: the operator's own storage, whose address no account gave.
	// The standard transport when nil.
	Blobs *http.Client
	// Speech are the engines behind Say.
	Speech speech.Providers
	// MaxBytes bounds the memory of cached prompts, two bytes for each sample at 8 kHz: the default, 256 MiB, holds 4.6
	// hours. The system's own prompts, about 2 MB, are beside it.
	MaxBytes int64
	// MaxFile bounds a file before its conversion; 25 MiB are 27 minutes of 16-bit PCM at 8 kHz.
	MaxFile int64
	// Logger hears of every load; nil is silent.
	Logger *slog.Logger
}

// Store turns names into prompts. Its methods are safe for concurrent use, and block no longer than their context, or
// 30 s. Their error is an *Error, or the context's cause when that ended first.
type Store struct {
	config  Config
	system  map[systemKey]*media.Prompt
	cache   *cache
	flights *flights

	downloads   semaphore
	hosts       [maxDownloads]semaphore // by hash of the host's name
	conversions semaphore
}

// New returns a Store with the system's prompts in it. Close ends what it has under way.
func New(config Config) *Store {
	if config.MaxBytes <= 0 {
		config.MaxBytes = DefaultMaxBytes
	}
	if config.MaxFile <= 0 {
		config.MaxFile = DefaultMaxFile
	}
	if config.Blobs == nil {
		config.Blobs = &http.Client{Timeout: loadTimeout}
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Store{
		config:      config,
		system:      loadSystem(),
		cache:       newCache(config.MaxBytes),
		flights:     newFlights(config.Logger),
		downloads:   make(semaphore, maxDownloads),
		conversions: make(semaphore, maxConversions),
	}
	for i := range s.hosts {
		s.hosts[i] = make(semaphore, maxPerHost)
	}
	return s
}

// Close ends the loads under way, whose callers get CodeClosed, and returns when they are gone. Prompts stay valid. It
// can be called twice.
func (s *Store) Close() { s.flights.close() }

// Tone returns one period of a tone: a name as tone.Named knows ("busy", "ringback-us", "beep") or the notation of
// tone.Parse ("440+480/2000,0/4000").
func (s *Store) Tone(expression string) (*media.Prompt, error) {
	key := "tone " + strings.ToLower(strings.TrimSpace(expression))
	if p := s.cache.get(key); p != nil {
		return p, nil
	}
	spec, ok := tone.Named(strings.TrimSpace(expression))
	if !ok {
		var err error
		if spec, err = tone.Parse(expression); err != nil {
			return nil, failure(CodeInvalid, err, "%s", err.Error())
		}
	}
	p := media.NewPrompt(spec.PCM())
	s.cache.put(key, entry{prompt: p})
	return p, nil
}

// Say returns a text as the request's provider speaks it. The same words in the same voice are spoken once for all calls.
// Without any provider the error is CodeNoSpeech, and wraps speech.ErrNone.
func (s *Store) Say(ctx context.Context, r speech.Request) (*media.Prompt, error) {
	if err := r.Check(); err != nil {
		return nil, speechFailure(err)
	}
	name, engine, err := s.config.Speech.Find(r.Provider)
	if err != nil {
		return nil, speechFailure(err)
	}
	key := sayKey(name, r)
	if p := s.cache.get(key); p != nil {
		return p, nil
	}
	return s.flights.do(ctx, key, func(ctx context.Context) (*media.Prompt, error) {
		if p := s.cache.get(key); p != nil {
			return p, nil
		}
		return s.speak(ctx, key, name, engine, r)
	})
}

func (s *Store) speak(ctx context.Context, key, name string, engine speech.Provider, r speech.Request) (*media.Prompt, error) {
	start := time.Now()
	file, err := engine.Synthesize(ctx, r)
	if err != nil {
		s.config.Logger.Warn("prompt.speech_failed", "provider", name, "duration_ms", time.Since(start).Milliseconds(),
			"error", err, "reason", reason(err))
		return nil, speechFailure(err)
	}
	p, err := s.convert(ctx, file, speech.MaxAudio)
	if err != nil {
		if broken := asError(err); broken != nil {
			return nil, failure(CodeSpeech, err, "the speech engine's answer cannot be played: %s", broken.Message)
		}
		return nil, err
	}
	s.cache.put(key, entry{prompt: p})
	s.config.Logger.Debug("prompt.spoken", "provider", name, "duration_ms", time.Since(start).Milliseconds(), "size", p.Size())
	return p, nil
}

// sayKey is a digest: a key of 8,192 characters would outweigh the audio of many.
func sayKey(provider string, r speech.Request) string {
	digest := sha256.Sum256(fmt.Appendf(nil, "%q", []string{provider, r.Voice, r.Language, r.Text, r.SSML}))
	return "say " + string(digest[:])
}

// Bytes returns a WAV file as a prompt: the body of an application's audio/* answer. It converts on the caller's
// goroutine; the same bytes are converted once.
func (s *Store) Bytes(body []byte) (*media.Prompt, error) {
	digest := sha256.Sum256(body)
	key := "bytes " + string(digest[:])
	if p := s.cache.get(key); p != nil {
		return p, nil
	}
	p, err := decode(body, s.config.MaxFile)
	if err != nil {
		return nil, err
	}
	s.cache.put(key, entry{prompt: p})
	return p, nil
}

// G711 returns octets as a recorder wrote them, one or two interleaved channels, as a prompt: a call's own recording. What
// is over MaxDuration is left out. It is not cached, and nil when there is not one whole sample or id is no codec.
func (s *Store) G711(id codec.ID, channels int, raw []byte) *media.Prompt {
	return fromG711(id, channels, raw)
}
