package e2e

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/deploy/phone"
	"github.com/hookswitch/hookswitch/webhooks"
	"github.com/hookswitch/hookswitch/webhooks/webhooktest"
)

// Calling somebody on a caller's behalf.
var dialStories = []scenario{
	{"a party hangs up", dialCalleeHangsUp},
	{"a bridged call reaches its time limit, recorded on two channels", dialTimeLimit},
	{"a party is busy", func(t *testing.T, d *deployment) { dialRefused(t, d, 486, "Busy Here", "busy", "busy") }},
	{"a party declines", func(t *testing.T, d *deployment) { dialRefused(t, d, 603, "Decline", "declined", "declined") }},
	{"a party's server fails", func(t *testing.T, d *deployment) {
		dialRefused(t, d, 500, "Server Internal Error", "unreachable", "unreachable")
	}},
	{"a party does not answer and is cancelled", func(t *testing.T, d *deployment) { dialNoAnswer(t, d, "uas-no-answer") }},
	{"a party answers in the moment it is cancelled", func(t *testing.T, d *deployment) { dialNoAnswer(t, d, "uas-cancel-race") }},
	{"the caller gives up while a party rings", dialCallerGivesUp},
	{"a party that speaks another codec", dialOtherCodec},
	{"a party says ten times what it is doing", dialProgress},
	{"messages to a party have more than 1,400 octets", dialBig},
	{"a registered extension is called, at two telephones", dialExtension},
	{"an extension that is not registered", dialUnregistered},
	{"two parties are tried one after the other", dialSequential},
}

// dials makes a number that calls the target, with more attributes of dial, and tells /dialled what came of it.
func (d *deployment) dials(t *testing.T, more object, to ...object) (*webhooktest.App, string) {
	t.Helper()
	dial := object{"verb": "dial", "id": "transfer", "to": to, "action": object{"url": "/dialled"}}
	for k, v := range more {
		dial[k] = v
	}
	text, err := json.Marshal([]object{dial})
	if err != nil {
		t.Fatal(err)
	}
	app, number := d.application(t, nil)
	app.Answer("incoming", string(text))
	app.Answer("/dialled", `[{"verb":"hangup"}]`)
	return app, number
}

func at(r *sippRun) object { return object{"sip": r.uri()} }

// The party sends back what it hears: the caller hears itself, sample by sample.
func dialBridged(t *testing.T, d *deployment) {
	said := noise(1500 * time.Millisecond)
	exactly(t, func() string {
		p := party(t, "uas-echo", sipp{echo: true})
		app, number := d.dials(t, nil, at(p))
		r := d.place(t, phone.Call{To: number, HangUp: 4 * time.Second, Speak: slices.Concat(silence(1500*time.Millisecond), said)})
		p.succeeds()
		app.Expect("incoming")
		asked := app.Expect("/dialled", "outcome", "hangup")
		c, events := d.endedBySIP(t, r.SIPCallID)
		legs := d.dialled(t, c.ID)
		if len(legs) != 1 || legs[0].Status != "completed" || legs[0].ConversationID != c.ConversationID || legs[0].Direction != "outbound_dial" {
			t.Fatalf("the legs are %+v; the application was told %s", legs, asked.Body)
		}
		if got := events.one(t, webhooks.EventCallBridged).Data.PeerCallID; string(got) != legs[0].ID {
			t.Errorf("bridged with %s, not with %s", got, legs[0].ID)
		}
		if c.Cause != "caller_hangup" || c.EndedBy != "caller" || legs[0].EndedBy != "caller" {
			t.Errorf("the records are %+v and %+v", c, legs[0])
		}
		return missing(r.Heard, said)
	})
}

func dialCalleeHangsUp(t *testing.T, d *deployment) {
	p := party(t, "uas-hang-up", sipp{duration: 500 * time.Millisecond, echo: true})
	app, number := d.dials(t, nil, at(p))
	r := d.calls(t, "listen", sipp{to: number})
	p.succeeds()
	r.succeeds()
	app.Expect("incoming")
	app.Expect("/dialled", "outcome", "completed", "ended_by", "callee", "sip_code", "200", "cause", "callee_hangup")
	c, _ := d.endedBySIP(t, r.sipCallID)
	if legs := d.dialled(t, c.ID); len(legs) != 1 || legs[0].Cause != "callee_hangup" || legs[0].EndedBy != "callee" || c.Cause != "program_end" {
		t.Errorf("the records are %+v and %+v", c, legs)
	}
}

func dialTimeLimit(t *testing.T, d *deployment) {
	p := party(t, "uas-echo", sipp{echo: true})
	app, number := d.dials(t, object{"time_limit": 2, "record": "answer"}, at(p))
	r := d.place(t, phone.Call{To: number, Speak: sine(700, 5*time.Second)})
	p.succeeds()
	app.Expect("incoming")
	asked := app.Expect("/dialled", "outcome", "time_limit", "ended_by", "system")
	c, _ := d.endedBySIP(t, r.SIPCallID)
	list := d.recorded(t, c.ID)
	if len(list) != 1 || list[0].Channels != 2 || list[0].ID != asked.Value("recording_id") || list[0].Status != "completed" {
		t.Fatalf("the recordings are %+v; the application was told %s", list, asked.Body)
	}
	pcm := decodeWAV(t, d.audio(t, list[0].ID), 2)
	if pcm.Duration() < 1500*time.Millisecond || pcm.Duration() > 2500*time.Millisecond {
		t.Errorf("two seconds were recorded as %s", pcm.Duration())
	}
	for n := range 2 { // what the caller says, and what comes back from the party
		hears(t, channel(pcm, n), 700, 1200*time.Millisecond)
	}
}

func dialRefused(t *testing.T, d *deployment, code int, reason, outcome, cause string) {
	p := party(t, "uas-refuse", sipp{values: object{"code": code, "reason": reason}})
	app, number := d.dials(t, nil, at(p))
	r := d.calls(t, "listen", sipp{to: number})
	p.succeeds()
	r.succeeds()
	app.Expect("incoming")
	asked := app.Expect("/dialled", "outcome", outcome)
	c, _ := d.endedBySIP(t, r.sipCallID)
	if legs := d.dialled(t, c.ID); len(legs) != 1 || legs[0].SIPCode != code || legs[0].Cause != cause || legs[0].ID != asked.Value("trigger.call_id") {
		t.Errorf("the legs are %+v; the application was told %s", legs, asked.Body)
	}
}

func dialNoAnswer(t *testing.T, d *deployment, scenario string) {
	p := party(t, scenario, sipp{})
	app, number := d.dials(t, object{"timeout": 1}, at(p))
	r := d.calls(t, "listen", sipp{to: number})
	p.succeeds()
	r.succeeds()
	app.Expect("incoming")
	app.Expect("/dialled", "outcome", "no_answer")
	c, _ := d.endedBySIP(t, r.sipCallID)
	if legs := d.dialled(t, c.ID); len(legs) != 1 || legs[0].Cause != "no_answer" || legs[0].Status != "no_answer" {
		t.Errorf("the legs are %+v", legs)
	}
}

func dialCallerGivesUp(t *testing.T, d *deployment) {
	p := party(t, "uas-no-answer", sipp{})
	_, number := d.dials(t, nil, at(p))
	r := d.place(t, phone.Call{To: number, HangUp: time.Second})
	p.succeeds()
	c, _ := d.endedBySIP(t, r.SIPCallID)
	if legs := d.dialled(t, c.ID); len(legs) != 1 || legs[0].Status != "canceled" || legs[0].EndedBy != "caller" || c.Cause != "caller_hangup" {
		t.Errorf("the records are %+v and %+v", c, legs)
	}
}

func dialOtherCodec(t *testing.T, d *deployment) {
	p := party(t, "uas-pcma", sipp{echo: true})
	app, number := d.dials(t, object{"time_limit": 2}, at(p))
	r := d.place(t, phone.Call{To: number, Speak: sine(700, 5*time.Second)})
	p.succeeds()
	hears(t, r.Heard, 700, 1300*time.Millisecond)
	app.Expect("incoming")
	app.Expect("/dialled", "outcome", "time_limit")
	c, _ := d.endedBySIP(t, r.SIPCallID)
	if legs := d.dialled(t, c.ID); len(legs) != 1 || legs[0].Media == nil || legs[0].Media.Codec != "PCMA" || c.Media == nil || c.Media.Codec != "PCMU" {
		t.Errorf("the legs are %+v", legs)
	}
}

func dialProgress(t *testing.T, d *deployment) {
	p := party(t, "uas-progress", sipp{echo: true})
	app, number := d.dials(t, object{"time_limit": 1}, at(p))
	r := d.place(t, phone.Call{To: number, Speak: sine(700, 4*time.Second)})
	p.succeeds()
	hears(t, r.Heard, 700, 700*time.Millisecond)
	app.Expect("incoming")
	app.Expect("/dialled", "outcome", "time_limit")
	c, _ := d.endedBySIP(t, r.SIPCallID)
	legs := d.dialled(t, c.ID)
	if len(legs) != 1 {
		t.Fatalf("the legs are %+v", legs)
	}
	if rung := d.events(t, legs[0].ID).of(webhooks.EventCallRinging); len(rung) != 1 {
		t.Errorf("ten 183 were told of %d times", len(rung))
	}
}

func dialBig(t *testing.T, d *deployment) {
	filler := strings.Repeat("0123456789", 90)
	p := party(t, "uas-echo", sipp{echo: true})
	_, number := d.dials(t, object{"time_limit": 1, "headers": object{"X-First": filler, "X-Second": filler}}, at(p))
	r := d.calls(t, "listen", sipp{to: number})
	p.succeeds()
	r.succeeds()
	if n := strings.Count(p.file("messages"), filler); n != 2 {
		t.Errorf("%d of 2 long headers arrived", n)
	}
}

func dialExtension(t *testing.T, d *deployment) {
	extension, password := d.extension(t)
	// Both telephones ring; the one that answers has the call, the other is cancelled.
	rings := d.registers(t, "uas-no-answer", sipp{}, extension, password)
	answers := d.registers(t, "uas-echo", sipp{echo: true}, extension, password)
	list := get[page[struct{ Contact, Source, Extension string }]](t, d, "/v1/registrations?extension="+extension)
	if len(list.Data) != 2 {
		t.Fatalf("the registrations are %+v", list.Data)
	}
	app, number := d.dials(t, object{"time_limit": 1}, object{"extension": extension})
	r := d.calls(t, "listen", sipp{to: number})
	answers.succeeds()
	rings.succeeds()
	r.succeeds()
	app.Expect("incoming")
	app.Expect("/dialled", "outcome", "time_limit", "target", extension)
	c, _ := d.endedBySIP(t, r.sipCallID)
	if legs := d.dialled(t, c.ID); len(legs) != 1 || legs[0].Status != "completed" || legs[0].To != extension {
		t.Errorf("the legs are %+v", legs)
	}
}

func dialUnregistered(t *testing.T, d *deployment) {
	extension, _ := d.extension(t)
	app, number := d.dials(t, nil, object{"extension": extension})
	r := d.calls(t, "listen", sipp{to: number})
	r.succeeds()
	app.Expect("incoming")
	app.Expect("/dialled", "outcome", "unreachable")
	if a := d.ask(t, http.MethodGet, "/v1/registrations?extension="+extension, nil, nil); a.status != http.StatusOK || len(into[page[object]](t, a.body).Data) != 0 {
		t.Errorf("the registrations are %d %s", a.status, a.body)
	}
}

func dialSequential(t *testing.T, d *deployment) {
	busy := party(t, "uas-refuse", sipp{values: object{"code": 486, "reason": "Busy Here"}})
	answers := party(t, "uas-hang-up", sipp{duration: 300 * time.Millisecond, echo: true})
	app, number := d.dials(t, object{"strategy": "sequential"}, at(busy), at(answers))
	r := d.calls(t, "listen", sipp{to: number})
	busy.succeeds()
	answers.succeeds()
	r.succeeds()
	app.Expect("incoming")
	app.Expect("/dialled", "outcome", "completed")
	c, _ := d.endedBySIP(t, r.sipCallID)
	legs := d.dialled(t, c.ID)
	if len(legs) != 2 || legs[0].Status != "busy" || legs[1].Status != "completed" {
		t.Errorf("the legs are %+v", legs)
	}
}
