package calltest

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/webhooks"
	"github.com/hookswitch/hookswitch/webhooks/webhooktest"
)

// audioFile is an answer that says it is a WAV file.
func audioFile(body string, header http.Header) webhooktest.Response {
	return webhooktest.Response{ContentType: "audio/wav", Header: header, Body: body}
}

// Whatever stands at an address that a program plays, the verb ends once and the call goes on.
func TestCallGoesOnWhateverAnAudioURLHolds(t *testing.T) {
	whole := WAV(Voice(4, time.Second))
	const second, hangs, load = time.Second, 10 * time.Second, 15 * time.Second // until an answer begins, and in all
	for name, c := range map[string]struct {
		answer any
		within time.Duration
		says   string
	}{
		"hangs":                    {webhooktest.Hang(), hangs, "in time"},
		"drips":                    {webhooktest.Drip(second, whole), load, "in time"},
		"resets":                   {webhooktest.Reset(), second, "closed"},
		"fails":                    {webhooktest.Status(500), second, "500"},
		"is not there":             {webhooktest.Status(404), second, "404"},
		"redirects for ever":       {webhooktest.Redirect(302, "/audio"), second, "redirects"},
		"redirects inside":         {webhooktest.Redirect(302, "http://127.0.0.1/"), second, "not allowed"},
		"is empty":                 {audioFile("", nil), second, "empty"},
		"is garbage":               {audioFile("\x00\x01\x02garbage", nil), second, "RIFF"},
		"is a web page":            {audioFile("<html>Sign in</html>", nil), second, "a web page"},
		"is MP3":                   {audioFile("ID3\x04", nil), second, "MP3"},
		"promises more than comes": {audioFile(whole, http.Header{"Content-Length": {"90000"}}), second, "closed before"},
		"promises 2 GB":            {audioFile(whole, http.Header{"Content-Length": {"2147483648"}}), second, "larger than"},
		"is larger than allowed":   {audioFile(whole[:44]+strings.Repeat("\xff", 26<<20), nil), second, "larger than"},
		"is a file cut short":      {audioFile(whole[:len(whole)-100], nil), second, "cut short"},
		"is only a part":           {webhooktest.Response{Status: 206, ContentType: "audio/wav", Body: whole}, second, "206"},
		"is compressed":            {audioFile(whole, http.Header{"Content-Encoding": {"br"}}), second, "Content-Encoding"},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				b.App.Answer("/audio", c.answer)
				b.App.Answer("/told", `[{"verb":"play","media_id":"sys_goodbye"}]`)
				call := asking(b, `[{"verb":"answer"},{"verb":"play","id":"p","url":"/audio","on":{"failed":"/told"}}]`).Answered()
				began := b.Now()
				b.App.ExpectAt("/audio")
				b.Pass(c.within)
				r := b.App.ExpectAt("/told", "outcome", "failed", "id", "p")
				if took := b.Now() - began; took > c.within+time.Second {
					t.Errorf("it took %s", took)
				}
				if says := r.Value("error"); !strings.Contains(says, "/audio") || !strings.Contains(says, c.says) {
					t.Errorf("the application was told %q, expected something about %q", says, c.says)
				}
				soon(call, SystemPrompt(t, "sys_goodbye"))
				call.ExpectBye()
				b.Ended(webhooks.CauseProgramEnd)
			})
		})
	}
}

func TestHangUpEndsACallWhoseAudioURLHangs(t *testing.T) {
	for _, verb := range []string{
		`{"verb":"play","url":"/audio","on":{"hangup":"/told"}}`,
		`{"verb":"gather","prompt":[{"verb":"play","url":"/audio"}],"on":{"hangup":"/told"}}`,
	} {
		t.Run(verb[9:13], func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				b.App.Answer("/audio", webhooktest.Hang())
				call := asking(b, `[{"verb":"answer"},`+verb+`]`).Answered()
				b.App.ExpectAt("/audio")
				b.Pass(time.Second)
				call.HangUp()
				b.App.ExpectAt("/told", "outcome", "hangup")
				b.Ended(webhooks.CauseCallerHangup)
				b.Idle()
			})
		})
	}
}

func TestAudioThatChangesBetweenTwoPlaysIsTheNewOne(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		first, second, third := Voice(4, time.Second), Voice(5, 2*time.Second), Voice(6, time.Second)
		version := func(etag string, octets []byte) func(webhooktest.Request) any {
			return func(r webhooktest.Request) any {
				if r.Header.Get("If-None-Match") == etag {
					return webhooktest.Status(http.StatusNotModified)
				}
				return audioFile(WAV(octets), http.Header{"Etag": {etag}, "Cache-Control": {"no-cache"}})
			}
		}
		b.App.Answer("/audio",
			version(`"1"`, first), version(`"1"`, first), version(`"2"`, second), version(`"2"`, second),
			// A server that says that nothing changed, and names what nobody has.
			webhooktest.Response{Status: http.StatusNotModified, Header: http.Header{"Etag": {`"3"`}}}, version(`"3"`, third))
		call := asking(b, `[{"verb":"answer"}`+strings.Repeat(`,{"verb":"play","url":"/audio"}`, 5)+`]`).Answered()
		for _, octets := range [][]byte{first, first, second, second, third} {
			soon(call, octets)
		}
		call.ExpectBye()
		b.Ended(webhooks.CauseProgramEnd)
	})
}
