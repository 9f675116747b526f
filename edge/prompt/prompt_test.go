package prompt

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/edge/media"
	"github.com/hookswitch/hookswitch/edge/media/codec"
	"github.com/hookswitch/hookswitch/edge/media/tone"
	"github.com/hookswitch/hookswitch/edge/media/wav"
	"github.com/hookswitch/hookswitch/edge/speech"
	"github.com/hookswitch/hookswitch/webhooks"
	"github.com/hookswitch/hookswitch/webhooks/guard"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sine is a second of a tone at a rate, on each channel.
func sine(hz float64, rate, channels int) wav.PCM {
	samples := make([]int16, rate*channels)
	for i := range samples {
		samples[i] = int16(8000 * math.Sin(2*math.Pi*hz*float64(i/channels)/float64(rate)))
	}
	return wav.PCM{Samples: samples, Rate: rate, Channels: channels}
}

func file(hz float64) []byte { return wav.Encode(sine(hz, 8000, 1)) }

// want is what a file made by file plays.
func want(hz float64) *media.Prompt { return media.NewPrompt(sine(hz, 8000, 1).Samples) }

func same(a, b *media.Prompt) bool { return a != nil && reflect.DeepEqual(a, b) }

func open(t *testing.T, config Config) *Store {
	t.Helper()
	s := New(config)
	t.Cleanup(s.Close)
	return s
}

func wantCode(t *testing.T, what string, err error, code Code, says string) {
	t.Helper()
	failed, ok := errors.AsType[*Error](err)
	if !ok || failed.Code != code || !strings.Contains(failed.Message, says) {
		t.Errorf("%s: %v (%T), want %s with %q", what, err, err, code, says)
	}
}

// loopback is a Store that may fetch from this machine, and a server on it.
func loopback(t *testing.T, config Config, handler http.HandlerFunc) (*Store, *httptest.Server) {
	t.Helper()
	server := httptest.NewServer(handler)
	config.Guard = guard.New(guard.Config{AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	config.Blobs = server.Client()
	s := New(config)
	t.Cleanup(func() {
		s.Close()
		config.Guard.Close()
		server.Close()
	})
	return s, server
}

// wire serves requests without a socket, so that they run in virtual time.
type wire http.HandlerFunc

func (w wire) RoundTrip(r *http.Request) (*http.Response, error) {
	recorder := httptest.NewRecorder()
	w(recorder, r)
	answer := recorder.Result()
	answer.Request = r
	if answer.StatusCode == 599 {
		return nil, errors.New("connection refused")
	}
	return answer, nil
}

func virtual(config Config, handler http.HandlerFunc) *Store {
	config.Guard = guard.New(guard.Config{Transport: wire(handler)})
	return New(config)
}

func TestURLIsFetchedOnceForManyCalls(t *testing.T) {
	var fetched atomic.Int32
	arrived := make(chan struct{})
	s, server := loopback(t, Config{}, func(w http.ResponseWriter, _ *http.Request) {
		fetched.Add(1)
		<-arrived
		w.Header().Set("Cache-Control", "max-age=60")
		_, _ = w.Write(file(440))
	})
	var calls, started sync.WaitGroup
	prompts := make([]*media.Prompt, 100)
	started.Add(len(prompts))
	for i := range prompts {
		calls.Go(func() {
			started.Done()
			p, err := s.URL(t.Context(), server.URL+"/a.wav#fragment")
			if err != nil {
				t.Error(err)
			}
			prompts[i] = p
		})
	}
	started.Wait()
	close(arrived)
	calls.Wait()
	for i, p := range prompts {
		if p != prompts[0] || !same(p, want(440)) {
			t.Fatalf("call %d plays something else", i)
		}
	}
	if n := fetched.Load(); n != 1 {
		t.Errorf("fetched %d times", n)
	}
}

func TestURLSurvivesTheCallThatAskedFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		s := virtual(Config{}, func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-release:
				_, _ = w.Write(file(440))
			case <-r.Context().Done():
				w.WriteHeader(599)
			}
		})
		defer s.Close()
		hungUp := errors.New("caller hung up")
		first, hangUp := context.WithCancelCause(t.Context())
		var calls sync.WaitGroup
		calls.Go(func() {
			if _, err := s.URL(first, "https://example.com/a.wav"); !errors.Is(err, hungUp) {
				t.Errorf("first call: %v", err)
			}
		})
		synctest.Wait()
		calls.Go(func() {
			if p, err := s.URL(t.Context(), "https://example.com/a.wav"); err != nil || !same(p, want(440)) {
				t.Errorf("second call: %v", err)
			}
		})
		synctest.Wait()
		hangUp(hungUp)
		synctest.Wait()
		close(release)
		calls.Wait()
	})
}

func TestLoadEndsWhenNobodyWaitsAndOnClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ended atomic.Int32
		s := virtual(Config{}, func(w http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
			ended.Add(1)
			w.WriteHeader(599)
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := s.URL(ctx, "https://example.com/a.wav")
		wantCode(t, "after the caller's time", err, CodeUnreachable, "not ready in time")
		synctest.Wait()
		if ended.Load() != 1 {
			t.Error("the abandoned fetch goes on")
		}
		go func() {
			<-time.After(time.Second)
			s.Close()
			s.Close()
		}()
		_, err = s.URL(t.Context(), "https://example.com/a.wav")
		wantCode(t, "while closing", err, CodeClosed, "stopping")
		_, err = s.URL(t.Context(), "https://example.com/a.wav")
		wantCode(t, "after closing", err, CodeClosed, "stopping")
	})
}

// origin is an HTTP server whose next answers a test sets, and which remembers what it was asked.
type origin struct {
	header http.Header
	status int
	hz     float64

	asked       int
	conditional string // If-None-Match and If-Modified-Since of the last request
}

func (o *origin) serve(w http.ResponseWriter, r *http.Request) {
	o.asked++
	o.conditional = r.Header.Get("If-None-Match") + r.Header.Get("If-Modified-Since")
	for name, values := range o.header {
		w.Header()[name] = values
	}
	w.WriteHeader(o.status)
	if o.status == 200 {
		_, _ = w.Write(file(o.hz))
	}
}

func TestURLIsAnHTTPCache(t *testing.T) {
	const address = "https://example.com/a.wav?token=secret"
	type answer struct {
		after       time.Duration // since the last one
		status      int
		header      string // lines "Name: value" separated by |
		asked       bool
		conditional string
		hz          float64 // 0: an error
	}
	long := time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC).Format(http.TimeFormat)
	for name, answers := range map[string][]answer{
		"max-age": {
			{0, 200, "Cache-Control: public, max-age=60", true, "", 440},
			{59 * time.Second, 200, "", false, "", 440},
			{2 * time.Second, 200, "", true, "", 450},
		},
		"ETag": {
			{0, 200, `Cache-Control: max-age=60|ETag: "1"`, true, "", 440},
			{61 * time.Second, 304, "", true, `"1"`, 440},
			{59 * time.Second, 304, "", false, "", 440},
			{2 * time.Second, 304, "Cache-Control: max-age=10", true, `"1"`, 440},
			{11 * time.Second, 200, `ETag: "2"`, true, `"1"`, 450},
			{0, 304, "", true, `"2"`, 450},
		},
		"Last-Modified": {
			{0, 200, "Last-Modified: " + long, true, "", 440},
			{299 * time.Second, 200, "", false, "", 440},
			{2 * time.Second, 304, "", true, long, 440},
			{299 * time.Second, 200, "", false, "", 440},
		},
		"no freshness":  {{0, 200, "", true, "", 440}, {0, 200, "", true, "", 450}},
		"no-store":      {{0, 200, `Cache-Control: no-store, max-age=60|ETag: "1"`, true, "", 440}, {0, 200, "", true, "", 450}},
		"private":       {{0, 200, "Cache-Control: max-age=60, private", true, "", 440}, {0, 200, "", true, "", 450}},
		"no-cache":      {{0, 200, `Cache-Control: no-cache|ETag: "1"|Expires: Thu, 01 Jan 2099 00:00:00 GMT`, true, "", 440}, {0, 503, "", true, `"1"`, 0}},
		"Vary *":        {{0, 200, "Cache-Control: max-age=60|Vary: *", true, "", 440}, {0, 200, "", true, "", 450}},
		"Age":           {{0, 200, "Cache-Control: max-age=60|Age: 50", true, "", 440}, {11 * time.Second, 200, "", true, "", 450}},
		"s-maxage":      {{0, 200, "Cache-Control: max-age=9999, s-maxage=5", true, "", 440}, {6 * time.Second, 200, "", true, "", 450}},
		"Expires":       {{0, 200, "Expires: Thu, 01 Jan 2099 00:00:00 GMT", true, "", 440}, {time.Hour, 200, "", false, "", 440}},
		"Expires 0":     {{0, 200, "Expires: 0|Last-Modified: " + long, true, "", 440}, {0, 200, "", true, long, 450}},
		"stale, gone":   {{0, 200, `ETag: "1"`, true, "", 440}, {0, 404, "", true, `"1"`, 0}, {0, 503, "", true, "", 0}},
		"stale, locked": {{0, 200, `ETag: "1"`, true, "", 440}, {0, 403, "", true, `"1"`, 0}},
		"stale, failing": {
			{0, 200, `ETag: "1"`, true, "", 440},
			{0, 503, "", true, `"1"`, 440},
			{9 * time.Second, 503, "", false, "", 440}, // a failing origin is not asked for each call
			{2 * time.Second, 599, "", true, `"1"`, 440},
			{11 * time.Second, 304, "", true, `"1"`, 440},
		},
		"must-revalidate": {{0, 200, `Cache-Control: must-revalidate|ETag: "1"`, true, "", 440}, {0, 503, "", true, `"1"`, 0}},
		"failing":         {{0, 503, "", true, "", 0}, {0, 200, "", true, "", 440}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := &origin{}
				s := virtual(Config{}, o.serve)
				defer s.Close()
				for i, a := range answers {
					<-time.After(a.after)
					*o = origin{status: a.status, hz: a.hz, header: http.Header{}}
					for line := range strings.SplitSeq(a.header, "|") {
						if name, value, ok := strings.Cut(line, ": "); ok {
							o.header.Set(name, value)
						}
					}
					p, err := s.URL(t.Context(), address)
					if asked := o.asked > 0; asked != a.asked || o.conditional != a.conditional {
						t.Errorf("answer %d: asked %v with %q", i, asked, o.conditional)
					}
					switch {
					case a.hz == 0 && (err == nil || strings.Contains(err.Error(), "secret")):
						t.Errorf("answer %d: error %v", i, err)
					case a.hz != 0 && (err != nil || !same(p, want(a.hz))):
						t.Errorf("answer %d: not what is played at %v Hz: %v", i, a.hz, err)
					}
				}
			})
		})
	}
}

func TestURLRefusals(t *testing.T) {
	s, server := loopback(t, Config{MaxFile: 20_000}, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/mp3":
			_, _ = w.Write([]byte("ID3\x04"))
		case "/page":
			_, _ = w.Write([]byte("\n<!DOCTYPE html><p>Sign in"))
		case "/large":
			_, _ = w.Write(make([]byte, 30_000))
		case "/cut":
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write(file(440)[:100])
		case "/loop":
			http.Redirect(w, r, "/loop", http.StatusFound)
		case "/inside":
			http.Redirect(w, r, "http://10.0.0.1/", http.StatusFound)
		default:
			http.NotFound(w, r)
		}
	})
	for _, tc := range []struct {
		url  string
		code Code
		says string
	}{
		{"ftp://example.com/a.wav", CodeInvalid, "https://"},
		{"http://10.0.0.1/a.wav", CodeNotAllowed, "not allowed"},
		{server.URL + "/inside", CodeNotAllowed, "not allowed"},
		{server.URL + "/loop", CodeInvalid, "3 redirects"},
		{server.URL + "/none?token=secret", CodeNotFound, "/none: the server answered 404"},
		{server.URL + "/mp3", CodeInvalid, "it is MP3; send a WAV file"},
		{server.URL + "/page", CodeInvalid, "it is a web page"},
		{server.URL + "/large", CodeInvalid, "20"},
		{server.URL + "/cut", CodeUnreachable, "closed before"},
		{"http://127.0.0.1:1/a.wav", CodeUnreachable, "did not accept"},
	} {
		p, err := s.URL(t.Context(), tc.url)
		wantCode(t, tc.url, err, tc.code, tc.says)
		if p != nil || strings.Contains(fmt.Sprint(err), "secret") {
			t.Errorf("%s: %v, %v", tc.url, p, err)
		}
	}
	_, err := open(t, Config{}).URL(t.Context(), server.URL)
	wantCode(t, "no guard", err, CodeNotAllowed, "fetches no files")
}

func TestCanceledCallGetsItsCause(t *testing.T) {
	s := open(t, Config{Guard: guard.New(guard.Config{})})
	why := errors.New("caller hung up")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	if _, err := s.URL(ctx, "https://example.com/a.wav"); !errors.Is(err, why) {
		t.Errorf("canceled: %v", err)
	}
}

// depot is a control plane with one file, and the storage behind it.
type depot struct {
	grant   control.MediaGrant
	refusal error
	status  int
	body    []byte
	asked   []control.MediaQuery
	fetched int
}

func (d *depot) media(_ context.Context, q control.MediaQuery) (control.MediaGrant, error) {
	d.asked = append(d.asked, q)
	return d.grant, d.refusal
}

func (d *depot) serve(w http.ResponseWriter, _ *http.Request) {
	d.fetched++
	w.WriteHeader(d.status)
	_, _ = w.Write(d.body)
}

func TestMediaIsFetchedOncePerVersion(t *testing.T) {
	d := &depot{status: 200, body: file(440)}
	s, server := loopback(t, Config{Media: d.media}, d.serve)
	d.grant = control.MediaGrant{URL: server.URL + "/?signature=secret", ETag: "1"}
	play := func(account webhooks.AccountID) (*media.Prompt, error) {
		return s.Media(t.Context(), account, "med_1", "en")
	}
	mustPlay := func(what string, account webhooks.AccountID, hz float64, fetched int) {
		t.Helper()
		if p, err := play(account); err != nil || !same(p, want(hz)) || d.fetched != fetched {
			t.Errorf("%s: %v, fetched %d times", what, err, d.fetched)
		}
	}
	mustPlay("first", "acc_1", 440, 1)
	if want := []control.MediaQuery{{AccountID: "acc_1", ID: "med_1"}}; !reflect.DeepEqual(d.asked, want) {
		t.Errorf("asked for %v", d.asked)
	}
	mustPlay("same ETag", "acc_1", 440, 1)
	mustPlay("another account", "acc_2", 440, 2)
	d.grant.ETag, d.body = "2", file(450)
	mustPlay("new ETag", "acc_1", 450, 3)

	d.grant.ETag, d.status = "3", 503
	mustPlay("storage away", "acc_1", 450, 4)
	d.refusal = errors.New("connection lost")
	mustPlay("control plane away", "acc_1", 450, 4)
	d.refusal = &control.Error{Code: control.CodeUnauthorized, Message: "the edge's token is not accepted"}
	mustPlay("our token", "acc_1", 450, 4)
	_, err := s.Media(t.Context(), "acc_1", "med_2", "en")
	wantCode(t, "our token, nothing known", err, CodeUnreachable, "med_2: nobody could say")

	d.refusal = &control.Error{Code: control.CodeNotFound, Message: "there is no media file med_1"}
	_, err = play("acc_1")
	wantCode(t, "deleted", err, CodeNotFound, "no media file")
	d.refusal = errors.New("connection lost")
	_, err = play("acc_1")
	wantCode(t, "deleted, then away", err, CodeUnreachable, "med_1")

	d.refusal, d.status = nil, 404
	_, err = play("acc_1")
	wantCode(t, "lost file", err, CodeNotFound, "storage")
	d.status, d.body = 200, []byte("OggS")
	_, err = play("acc_1")
	wantCode(t, "no WAV", err, CodeInvalid, "Ogg")
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("the signed address is told: %v", err)
	}
	d.body = make([]byte, DefaultMaxFile+1)
	_, err = play("acc_1")
	wantCode(t, "too large", err, CodeTooLarge, "bytes")
}

func TestMediaOfTheSystemNeedsNoControlPlane(t *testing.T) {
	s := open(t, Config{})
	goodbye, _ := s.System(Goodbye, "zh-CN")
	if p, err := s.Media(t.Context(), "acc_1", "sys_goodbye", "zh"); err != nil || p != goodbye {
		t.Errorf("sys_goodbye: %v", err)
	}
	_, err := s.Media(t.Context(), "acc_1", "sys_other", "zh")
	wantCode(t, "unknown", err, CodeNotFound, "sys_other")
	_, err = s.Media(t.Context(), "acc_1", "med_1", "zh")
	wantCode(t, "uploaded", err, CodeUnreachable, "no uploaded media")
}

// voice is a speech engine that counts.
type voice struct {
	asked  atomic.Int32
	answer func(speech.Request) ([]byte, error)
}

func (v *voice) Synthesize(_ context.Context, r speech.Request) ([]byte, error) {
	v.asked.Add(1)
	return v.answer(r)
}

func TestSayIsSpokenOncePerContent(t *testing.T) {
	v := &voice{answer: func(r speech.Request) ([]byte, error) { return file(float64(400 + len(r.Text))), nil }}
	s := open(t, Config{Speech: speech.Providers{ByName: map[string]speech.Provider{"a": v, "b": v}, Default: "a"}})
	first := speech.Request{Text: "hello", Voice: "x", Language: "en"}
	p, err := s.Say(t.Context(), first)
	if err != nil || !same(p, want(405)) {
		t.Fatal(err)
	}
	named := first
	named.Provider = "a"
	for _, r := range []speech.Request{first, named} {
		if again, err := s.Say(t.Context(), r); err != nil || again != p {
			t.Errorf("%+v is spoken again: %v", r, err)
		}
	}
	for i, r := range []speech.Request{
		{Text: "hello!", Voice: "x", Language: "en"},
		{Text: "hello", Voice: "y", Language: "en"},
		{Text: "hello", Voice: "x", Language: "de"},
		{Text: "hello", Voice: "x", Language: "en", Provider: "b"},
		{SSML: "hello", Voice: "x", Language: "en"},
		{Text: "hello", Voice: `x" "en`},
	} {
		if _, err := s.Say(t.Context(), r); err != nil || int(v.asked.Load()) != i+2 {
			t.Errorf("%+v: spoken %d times in all, %v", r, v.asked.Load(), err)
		}
	}
}

func TestSayFailuresAreSentences(t *testing.T) {
	none := open(t, Config{})
	_, err := none.Say(t.Context(), speech.Request{Text: "a"})
	wantCode(t, "no engine", err, CodeNoSpeech, "no speech engine")
	if !errors.Is(err, speech.ErrNone) {
		t.Errorf("no engine: %v", err)
	}
	v := &voice{}
	s := open(t, Config{Speech: speech.Providers{ByName: map[string]speech.Provider{"a": v}, Default: "a"}})
	for _, tc := range []struct {
		name    string
		request speech.Request
		file    []byte
		err     error
		code    Code
		says    string
	}{
		{"nothing to say", speech.Request{Text: " "}, nil, nil, CodeInvalid, "no text"},
		{"unknown engine", speech.Request{Text: "a", Provider: "b"}, nil, nil, CodeInvalid, `"b"`},
		{"engine down", speech.Request{Text: "a"}, nil, errors.New("the speech service answered 503"), CodeSpeech, "503"},
		{"no WAV", speech.Request{Text: "a"}, []byte("ID3"), nil, CodeSpeech, "MP3"},
		{"no audio", speech.Request{Text: "a"}, wav.Encode(wav.PCM{Rate: 8000, Channels: 1}), nil, CodeSpeech, "no audio"},
	} {
		v.answer = func(speech.Request) ([]byte, error) { return tc.file, tc.err }
		_, err := s.Say(t.Context(), tc.request)
		wantCode(t, tc.name, err, tc.code, tc.says)
	}
	v.answer = func(speech.Request) ([]byte, error) { panic("broken engine") }
	_, err = s.Say(t.Context(), speech.Request{Text: "a"})
	wantCode(t, "panic", err, CodeInvalid, "could not be read")
}

func TestSayWithEspeak(t *testing.T) {
	espeak, ok := speech.FindEspeak()
	if !ok {
		t.Fatal("espeak-ng is not installed: apt-get install espeak-ng")
	}
	s := open(t, Config{Speech: speech.Providers{ByName: map[string]speech.Provider{"espeak": espeak}, Default: "espeak"}})
	p, err := s.Say(t.Context(), speech.Request{Text: "销售请按1，其他请按2", Language: "zh-CN"})
	if err != nil || p.Duration() < time.Second || p.Duration() > 10*time.Second {
		t.Errorf("%v, %v", p, err)
	}
}

func TestTone(t *testing.T) {
	s := open(t, Config{})
	busy, err := s.Tone("busy")
	if err != nil || busy.Duration() != 700*time.Millisecond {
		t.Fatalf("busy: %v", err)
	}
	if again, err := s.Tone(" BUSY"); err != nil || again != busy {
		t.Errorf("again: %v", err)
	}
	spec, _ := tone.Parse("450/350,0/350")
	if p, err := s.Tone("450/350,0/350"); err != nil || !same(p, media.NewPrompt(spec.PCM())) {
		t.Errorf("notation: %v", err)
	}
	_, err = s.Tone("5/100")
	wantCode(t, "too low", err, CodeInvalid, "20–3900 Hz")
}

func TestBytesKeepsG711Exact(t *testing.T) {
	s := open(t, Config{})
	raw := make([]byte, 256)
	for i := range raw {
		raw[i] = byte(i)
	}
	for id, format := range map[codec.ID]uint16{codec.PCMU: 7, codec.PCMA: 6} {
		p, err := s.Bytes(g711File(format, 1, raw))
		if err != nil {
			t.Fatal(err)
		}
		samples := make([]int16, len(raw))
		id.Decode(samples, raw)
		if !same(p, media.NewPrompt(samples)) || !same(p, s.G711(id, 1, raw)) {
			t.Errorf("%s is not what was sent", id)
		}
		if again, _ := s.Bytes(g711File(format, 1, raw)); again != p {
			t.Errorf("%s is converted again", id)
		}
	}
}

func TestBytesConvertsEveryRateOnce(t *testing.T) {
	s := open(t, Config{})
	for _, rate := range []int{8000, 16000, 22050, 44100, 48000} {
		for _, channels := range []int{1, 2} {
			p, err := s.Bytes(wav.Encode(sine(1000, rate, channels)))
			if err != nil || p.Duration() != time.Second {
				t.Fatalf("%d Hz, %d channels: %v", rate, channels, err)
			}
			// The tone arrives as loud as it was: the same as at 8 kHz to the last bits of the filter.
			if level := power(p) - power(media.NewPrompt(sine(1000, 8000, 1).Samples)); math.Abs(level) > 0.2 {
				t.Errorf("%d Hz, %d channels: %.2f dB off", rate, channels, level)
			}
		}
	}
	for name, body := range map[string][]byte{"empty": nil, "text": []byte("hello"), "header alone": file(440)[:20]} {
		_, err := s.Bytes(body)
		wantCode(t, name, err, CodeInvalid, "")
	}
	_, err := s.Bytes(wav.Encode(wav.PCM{Rate: 8000, Channels: 1}))
	wantCode(t, "silence", err, CodeInvalid, "no audio")
	_, err = s.Bytes(g711File(7, 1, make([]byte, 3601*8000)))
	wantCode(t, "too many bytes", err, CodeTooLarge, "bytes")
	_, err = open(t, Config{MaxFile: 64 << 20}).Bytes(g711File(7, 1, make([]byte, 3601*8000)))
	wantCode(t, "too long", err, CodeTooLarge, "1h0m0s")
}

func TestG711OfACallsOwnRecording(t *testing.T) {
	s := open(t, Config{})
	mixed := make([]int16, 2)
	codec.PCMA.Decode(mixed, []byte{0x2A, 0xAA})
	stereo := s.G711(codec.PCMA, 2, []byte{0x2A, 0xAA, 0x2A, 0x2A, 0x55})
	if !same(stereo, media.NewPrompt([]int16{int16((int(mixed[0]) + int(mixed[1])) / 2), mixed[0]})) {
		t.Error("two channels are not mixed, or the half sample at the end is played")
	}
	for name, p := range map[string]*media.Prompt{
		"nothing": s.G711(codec.PCMU, 1, nil), "half a sample": s.G711(codec.PCMU, 2, []byte{1}),
		"no codec": s.G711(0, 1, []byte{1}), "no channel": s.G711(codec.PCMU, 0, []byte{1}),
	} {
		if p != nil {
			t.Errorf("%s is played", name)
		}
	}
	if p := s.G711(codec.PCMU, 1, make([]byte, 3601*8000)); p.Duration() != MaxDuration {
		t.Errorf("longest: %s", p.Duration())
	}
}

// power is a prompt's level in dB, measured on what a PCMU leg is sent.
func power(p *media.Prompt) float64 {
	octets := reflect.ValueOf(p).Elem().FieldByName("pcmu").Bytes()
	samples := make([]int16, len(octets))
	codec.PCMU.Decode(samples, octets)
	return tone.Power(samples[800 : len(samples)-800])
}

// g711File is a WAV file of format 6 (A-law) or 7 (µ-law) at 8 kHz.
func g711File(format uint16, channels int, octets []byte) []byte {
	header := wav.Header(channels, 8000, 0)
	f := append(header[:], octets...)
	binary.LittleEndian.PutUint16(f[20:], format)
	binary.LittleEndian.PutUint32(f[28:], uint32(8000*channels))
	binary.LittleEndian.PutUint16(f[32:], uint16(channels))
	binary.LittleEndian.PutUint16(f[34:], 8)
	binary.LittleEndian.PutUint32(f[4:], uint32(len(f)-8))
	binary.LittleEndian.PutUint32(f[40:], uint32(len(octets)))
	return f
}

func TestDownloadsAreBounded(t *testing.T) {
	for name, tc := range map[string]struct {
		host func(call int) string
		most int
	}{
		"one slow host": {func(int) string { return "example.com" }, maxPerHost},
		"many hosts":    {func(call int) string { return fmt.Sprintf("host%d.example.com", call) }, maxDownloads},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var now, most, done atomic.Int32
				s := virtual(Config{}, func(w http.ResponseWriter, _ *http.Request) {
					most.Store(max(most.Load(), now.Add(1)))
					<-time.After(time.Second)
					now.Add(-1)
					_, _ = w.Write(file(440)[:100])
				})
				defer s.Close()
				var calls sync.WaitGroup
				for call := range 150 {
					calls.Go(func() {
						_, _ = s.URL(t.Context(), fmt.Sprintf("https://%s/%d.wav", tc.host(call), call))
						done.Add(1)
					})
				}
				calls.Wait()
				if n := int(most.Load()); n > tc.most || n < min(tc.most, 8) || done.Load() != 150 {
					t.Errorf("%d at once, %d done", n, done.Load())
				}
			})
		})
	}
}
