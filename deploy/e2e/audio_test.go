package e2e

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/deploy/phone"
	"github.com/hookswitch/hookswitch/edge/media/wav"
	"github.com/hookswitch/hookswitch/webhooks"
)

// Audio, sample by sample: what is recorded is what was said, what is heard is what was to be played.
var exactStories = []scenario{
	{"a recording holds what SIPp said", recordsSIPp},
	{"a recording holds what a telephone said", recordsTelephone},
	{"a file is heard as it was uploaded", playsMedia},
	{"a caller hears itself through a bridge and back", dialBridged},
}

// Recordings and prompts.
var audioStories = []scenario{
	{"a recording ends by a key, and is played back", recordsAndPlays},
	{"a broken file is refused with the reason", brokenMedia},
	{"a recording is listed, read, fetched and deleted", recordingsByREST},
	{"text is spoken", says},
}

const recordAll = `[{"verb":"record","beep":false,"silence":0,"trim":false,"max_length":60,"finish_on_key":""},{"verb":"hangup"}]`

func recordsSIPp(t *testing.T, d *deployment) {
	said := noise(2 * time.Second)
	voice := encodeMuLaw(slices.Concat(silence(300*time.Millisecond), said, silence(300*time.Millisecond)))
	number := d.program(t, recordAll)
	exactly(t, func() string {
		r := d.calls(t, "call", sipp{to: number, voice: voice, duration: 3200 * time.Millisecond})
		r.succeeds()
		c, _ := d.endedBySIP(t, r.sipCallID)
		return missing(d.onlyRecording(t, c.ID).Samples, said)
	})
}

func recordsTelephone(t *testing.T, d *deployment) {
	said := noise(2 * time.Second)
	number := d.program(t, recordAll)
	exactly(t, func() string {
		r := d.place(t, phone.Call{To: number, HangUp: 3200 * time.Millisecond, Speak: slices.Concat(silence(300*time.Millisecond), said)})
		c, _ := d.endedBySIP(t, r.SIPCallID)
		return missing(d.onlyRecording(t, c.ID).Samples, said)
	})
}

// onlyRecording fetches the one recording of a call, of one channel, and checks that what is known of it is true.
func (d *deployment) onlyRecording(t *testing.T, callID string) wav.PCM {
	t.Helper()
	list := d.recorded(t, callID)
	if len(list) != 1 || list[0].Status != "completed" || list[0].Channels != 1 || list[0].Format != "wav" || list[0].Failure != "" {
		t.Fatalf("the recordings are %+v", list)
	}
	file := d.audio(t, list[0].ID)
	pcm := decodeWAV(t, file, 1)
	if off := pcm.Duration().Seconds() - list[0].Duration; int64(len(file)) != list[0].Size || off > 0.01 || off < -0.01 {
		t.Errorf("the file has %d octets and %s, the recording says %d and %v s", len(file), pcm.Duration(), list[0].Size, list[0].Duration)
	}
	return pcm
}

func recordsAndPlays(t *testing.T, d *deployment) {
	said := sine(700, 1500*time.Millisecond)
	app, number := d.application(t, nil)
	app.Answer("incoming", `[{"verb":"record","silence":0,"trim":false,"finish_on_key":"#","action":{"url":"/recorded"}}]`)
	app.Answer("/recorded", `[{"verb":"play","recording_id":"{{trigger.recording_id}}"},{"verb":"hangup"}]`)
	r := d.place(t, phone.Call{
		To: number, Speak: slices.Concat(silence(time.Second), said), Digits: []phone.Press{{Keys: "#", At: 3 * time.Second}},
	})
	app.Expect("incoming")
	asked := app.Expect("/recorded", "outcome", "key", "key", "#")
	hears(t, r.Heard, 700, 1300*time.Millisecond)
	c, _ := d.endedBySIP(t, r.SIPCallID)
	list := d.recorded(t, c.ID)
	if len(list) != 1 || list[0].ID != asked.Value("recording_id") || list[0].Status != "completed" {
		t.Errorf("the recordings are %+v; the application was told %s", list, asked.Body)
	}
	if pcm := decodeWAV(t, d.audio(t, list[0].ID), 1); pcm.Duration() < 1500*time.Millisecond || pcm.Duration() > 3500*time.Millisecond {
		t.Errorf("the recording has %s", pcm.Duration())
	}
}

func playsMedia(t *testing.T, d *deployment) {
	want := noise(2 * time.Second)
	file := wav.Encode(wav.PCM{Samples: want, Rate: 8000, Channels: 1})
	made := into[struct {
		ID   string
		Size int
	}](t, d.expect(t, http.StatusCreated, http.MethodPost, "/v1/media?name="+strings.ReplaceAll(t.Name()[len(t.Name())-10:], " ", "-"), file))
	if made.Size != len(file) {
		t.Errorf("%d octets are %d", len(file), made.Size)
	}
	program := `[{"verb":"answer"},{"verb":"pause","length":0.5},{"verb":"play","media_id":"` + made.ID + `"},{"verb":"pause","length":0.4},{"verb":"hangup"}]`
	number := d.program(t, program)
	exactly(t, func() string {
		r := d.place(t, phone.Call{To: number})
		return missing(r.Heard, want)
	})
	// The file may go; who plays it then hears of it.
	d.expect(t, http.StatusNoContent, http.MethodDelete, "/v1/media/"+made.ID, nil)
	if a := d.ask(t, http.MethodGet, "/v1/media/"+made.ID, nil, nil); a.status != http.StatusNotFound {
		t.Errorf("the deleted file answers %d", a.status)
	}
}

func brokenMedia(t *testing.T, d *deployment) {
	whole := wav.Encode(wav.PCM{Samples: noise(100 * time.Millisecond), Rate: 8000, Channels: 1})
	odd := slices.Clone(whole)
	copy(odd[24:], []byte{0xa0, 0x0f, 0, 0}) // 4,000 Hz
	for name, file := range map[string][]byte{"text": []byte("this is no audio at all"), "half a header": whole[:30], "an unknown rate": odd} {
		a := d.ask(t, http.MethodPost, "/v1/media?name=broken", file, nil)
		if a.status != http.StatusUnprocessableEntity && a.status != http.StatusBadRequest {
			t.Errorf("%s is answered %d: %s", name, a.status, a.body)
			continue
		}
		if p := a.problem(t); len(p.Detail) < 10 {
			t.Errorf("%s is refused without a reason: %s", name, a.body)
		}
	}
}

func recordingsByREST(t *testing.T, d *deployment) {
	r := d.calls(t, "call", sipp{to: d.program(t, recordAll), voice: encodeMuLaw(noise(time.Second)), duration: 1200 * time.Millisecond})
	r.succeeds()
	c, _ := d.endedBySIP(t, r.sipCallID)
	made := d.recorded(t, c.ID)[0]
	events := d.events(t, c.ID)
	if started := events.one(t, webhooks.EventRecordingStarted).Data; string(started.RecordingID) != made.ID {
		t.Errorf("recording.started says %+v", started)
	}
	eventually(t, 10*time.Second, func() string {
		if len(d.events(t, c.ID).of(webhooks.EventRecordingCompleted)) == 1 {
			return ""
		}
		return "there is no recording.completed: " + d.events(t, c.ID).String()
	})
	path := "/v1/recordings/" + made.ID
	if got := get[recording](t, d, path); got != made {
		t.Errorf("the recording is %+v, listed as %+v", got, made)
	}
	link := get[struct {
		URL       string
		ExpiresAt time.Time `json:"expires_at"`
	}](t, d, path+"/media?as=json")
	res, err := rest.Get(link.URL) // with no credentials but the link itself
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK || res.ContentLength != made.Size || !link.ExpiresAt.After(time.Now()) {
		t.Errorf("the link answers %s with %d octets and is good until %s", res.Status, res.ContentLength, link.ExpiresAt)
	}
	d.expect(t, http.StatusNoContent, http.MethodDelete, path, nil)
	if got := get[recording](t, d, path); got.Status != "deleted" {
		t.Errorf("deleted, the recording is %+v", got)
	}
	if a := d.ask(t, http.MethodGet, path+"/media", nil, nil); a.status != http.StatusConflict && a.status != http.StatusNotFound {
		t.Errorf("deleted, its audio answers %d: %s", a.status, a.body)
	}
}

func says(t *testing.T, d *deployment) {
	number := d.program(t, `[{"verb":"say","text":"Welcome, caller. This is a sentence.","language":"en"},{"verb":"hangup"}]`)
	r := d.place(t, phone.Call{To: number})
	if spoken := phone.Seconds(phone.Sounds(r.Heard), "speech"); spoken < 1 {
		t.Errorf("%.1f s of speech were heard: %s", spoken, phone.Describe(phone.Sounds(r.Heard)))
	}
}
