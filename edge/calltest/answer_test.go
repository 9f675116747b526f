package calltest

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/edge/speech"
	"github.com/hookswitch/hookswitch/webhooks"
	"github.com/hookswitch/hookswitch/webhooks/webhooktest"
)

// reader is a speech engine that says of each text a voice of its own.
type reader struct{}

// Synthesize implements speech.Provider.
func (reader) Synthesize(_ context.Context, r speech.Request) ([]byte, error) {
	return []byte(WAV(read(r.Text))), nil
}

func read(text string) []byte {
	return Voice(uint32(len(text)), time.Duration(len(text))*50*time.Millisecond)
}

var spoken = Setup{Speech: speech.Providers{ByName: map[string]speech.Provider{"reader": reader{}}, Default: "reader"}}

func TestPlainTextIsSaid(t *testing.T) {
	storyWith(t, spoken, func(t *testing.T, b *Bench) {
		call := asking(b, "Good morning").Answered()
		call.Hears(read("Good morning"))
		call.ExpectBye()
		b.Ended(webhooks.CauseProgramEnd)
	})
}

func TestTemplatesInWhatIsSaid(t *testing.T) {
	storyWith(t, spoken, func(t *testing.T, b *Bench) {
		call := asking(b, `[{"verb":"tag","data":{"name":"Li"}},{"verb":"say","text":"Hello {{data.name}} of {{call.from}}"}]`).Answered()
		call.Hears(read("Hello Li of 1001"))
		call.ExpectBye()
	})
}

func TestAudioPostedBackIsWhatIsHeard(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		first, second := Voice(5, 700*time.Millisecond), Voice(6, 700*time.Millisecond)
		posted := func(octets []byte) func(webhooktest.Request) any {
			return func(r webhooktest.Request) any {
				if r.Method != http.MethodPost {
					t.Errorf("the audio was fetched again by %s", r.Method)
				}
				return webhooktest.Response{ContentType: "audio/wav", Body: WAV(octets)}
			}
		}
		// The same URL answers another file each time, as one that speaks to the caller does.
		b.App.Answer("/prompt", posted(first), posted(second))
		b.App.Answer("/done", posted(first))
		call := asking(b, `[{"verb":"gather","timeout":1,"prompt":"/prompt","on":{"timeout":[]}},{"verb":"gather","timeout":1,"prompt":"/prompt","action":"/done"}]`).Answered()
		for _, want := range [][]byte{first, second, first} {
			call.Hears(want)
		}
		call.ExpectBye()
		b.App.Expect("prompt")
		b.App.Expect("prompt")
		b.App.Expect("action", "outcome", "timeout")
		b.App.ExpectNothing()
	})
}

func TestNothingAsAnAnswerEndsTheProgram(t *testing.T) {
	for name, answer := range map[string]any{"204": nil, "an empty body": webhooktest.Response{ContentType: "text/plain"}, "an empty document": `<Response/>`} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				b.Webhook("1000", nil)
				b.App.Answer("/voice", `[{"verb":"answer"},{"verb":"redirect","url":"/next"},{"verb":"play","media_id":"sys_goodbye"}]`)
				b.App.Answer("/next", answer)
				b.Phone("1001").Dial("1000").Answered().ExpectByeWithin(time.Second)
				b.Ended(webhooks.CauseProgramEnd)
			})
		})
	}
}

func TestPromptByURLResolvesAgainstItsOwnDocument(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		hello, bye := Voice(3, 500*time.Millisecond), Voice(4, 500*time.Millisecond)
		b.App.Answer("/prompts/menu", `{"instructions":[{"verb":"play","url":"hello.wav"}],"state":{"heard":true}}`)
		b.App.Answer("/prompts/hello.wav", webhooktest.Response{ContentType: "audio/wav", Body: WAV(hello)})
		b.App.Answer("/bye.wav", webhooktest.Response{ContentType: "audio/wav", Body: WAV(bye)})
		b.App.Answer("/done", `[]`)
		call := asking(b, `[{"verb":"gather","timeout":0,"prompt":"/prompts/menu","on":{"timeout":[]}},{"verb":"play","url":"bye.wav"},{"verb":"redirect","url":"done"}]`).Answered()
		call.Hears(hello)
		call.Hears(bye)
		call.ExpectBye()
		b.App.Expect("prompt")
		b.App.Expect("/prompts/hello.wav")
		b.App.Expect("/bye.wav")
		b.App.Expect("/done", "state.heard", "true")
	})
}

func TestTwoURLsThatRedirectToEachOtherAreALoop(t *testing.T) {
	for name, answer := range map[string]func(string) string{
		"native": func(to string) string { return `[{"verb":"redirect","url":"` + to + `"}]` },
		"twiml":  func(to string) string { return `<Response><Redirect>` + to + `</Redirect></Response>` },
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				b.Webhook("1000", nil)
				b.App.Answer("/voice", answer("/other"))
				b.App.Answer("/other", answer("/voice"))
				b.Phone("1001").Dial("1000").Expect(500)
				b.Ended(webhooks.CauseLoop)
				if n := len(b.App.Requests()); n != 1+webhooks.MaxSilentStretch {
					t.Errorf("the application was asked %d times", n)
				}
			})
		})
	}
}

func TestProgramOfAThousandInstructions(t *testing.T) {
	// Ten stretches of 99 instructions and a second of waiting: never a loop.
	stretch := strings.Repeat(`{"verb":"tag","data":{"a":1}},`, 99) + `{"verb":"pause"},`
	thousand := strings.TrimSuffix(strings.Repeat(stretch, 10), ",")
	t.Run("runs to its end", func(t *testing.T) {
		story(t, func(t *testing.T, b *Bench) {
			call := asking(b, `[`+thousand+`]`)
			call.Expect(603)
			if cdr := b.Ended(webhooks.CauseProgramEnd); cdr.Duration < 10 {
				t.Errorf("it took %v s", cdr.Duration)
			}
		})
	})
	t.Run("and one more is refused", func(t *testing.T) {
		story(t, func(t *testing.T, b *Bench) {
			asking(b, `[`+thousand+`,{"verb":"hangup"}]`)
			if e := b.Event(webhooks.EventWebhookRejected); e.Data.Pointer != "/1000" {
				t.Errorf("%+v", e.Data)
			}
			b.Ended(webhooks.CauseWebhookFailed)
		})
	})
}
