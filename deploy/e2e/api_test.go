package e2e

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/deploy/phone"
	"github.com/hookswitch/hookswitch/webhooks"
	"github.com/hookswitch/hookswitch/webhooks/webhooktest"
)

// Calls by REST: started, changed while they live, listed.
var apiStories = []scenario{
	{"a call to an extension, with instructions, data and a recording", originates},
	{"a call to somebody busy", originateBusy},
	{"a call to somebody who does not answer", originateNoAnswer},
	{"a call by a trunk", originateByTrunk},
	{"a live call is hung up", hangsUp},
	{"a live call gets other instructions", redirects},
	{"a live call is sent to a URL", redirectsToURL},
	{"a change for a call as it was", staleChange},
	{"calls are listed page by page", lists},
	{"a repeated request starts no second call", idempotent},
	{"requests without a key are refused", unauthorized},
}

func originates(t *testing.T, d *deployment) {
	extension, password := d.extension(t)
	p := d.registers(t, "uas-echo", sipp{echo: true}, extension, password)
	started := post[call](t, d, "/v1/calls", object{
		"to": object{"extension": extension}, "from": "1001", "record": true, "data": object{"order": "4711"}, "external_id": t.Name(),
		"program": []object{{"verb": "play", "tone": "620/1500"}, {"verb": "tag", "data": object{"heard": "{{data.order}}"}}, {"verb": "hangup"}},
	})
	if started.Status != "queued" && started.Status != "ringing" || started.Direction != "outbound_api" || started.To != extension {
		t.Errorf("started as %+v", started)
	}
	p.succeeds()
	c, events := d.ended(t, started.ID)
	if c.Status != "completed" || c.Cause != "program_end" || c.From != "1001" || c.Data["order"] != "4711" {
		t.Errorf("the record is %+v", c)
	}
	if got := events.String(); !strings.HasPrefix(got, " call.initiated call.ringing call.answered recording.started") {
		t.Errorf("the events are%s", got)
	}
	list := d.recorded(t, c.ID)
	if len(list) != 1 || list[0].Channels != 2 || list[0].Status != "completed" {
		t.Fatalf("the recordings are %+v", list)
	}
	pcm := decodeWAV(t, d.audio(t, list[0].ID), 2)
	for n := range 2 { // what came back, and what we said
		hears(t, channel(pcm, n), 620, time.Second)
	}
	found := get[page[call]](t, d, "/v1/calls?direction=outbound_api&to="+extension)
	if len(found.Data) != 1 || found.Data[0].ID != started.ID {
		t.Errorf("found %+v", found.Data)
	}
}

func originateBusy(t *testing.T, d *deployment) {
	p := party(t, "uas-refuse", sipp{values: object{"code": 486, "reason": "Busy Here"}})
	started := post[call](t, d, "/v1/calls", object{"to": at(p), "program": []object{{"verb": "hangup"}}})
	p.succeeds()
	if c, _ := d.ended(t, started.ID); c.Status != "busy" || c.Cause != "busy" || c.SIPCode != 486 || c.AnsweredAt != nil || c.EndedBy != "callee" {
		t.Errorf("the record is %+v", c)
	}
}

func originateNoAnswer(t *testing.T, d *deployment) {
	p := party(t, "uas-no-answer", sipp{})
	started := post[call](t, d, "/v1/calls", object{"to": at(p), "timeout": 1, "program": []object{{"verb": "hangup"}}})
	p.succeeds()
	if c, _ := d.ended(t, started.ID); c.Status != "no_answer" || c.Cause != "no_answer" || c.EndedBy != "system" {
		t.Errorf("the record is %+v", c)
	}
}

func originateByTrunk(t *testing.T, d *deployment) {
	p := party(t, "uas-hang-up", sipp{duration: 300 * time.Millisecond, echo: true})
	const own = "+862368910000"
	d.expect(t, http.StatusCreated, http.MethodPost, "/v1/numbers", object{"number": own})
	trunk := post[struct{ ID string }](t, d, "/v1/trunks", object{
		"name": p.addr.String(), "address": p.addr.Addr().String(), "port": p.addr.Port(), "caller_id": own,
	})
	app := webhooktest.New(t) // signed for the first application of the account, whose secret is not known here
	app.Start()
	app.Answer("answered", `[{"verb":"pause","length":20}]`)
	started := post[call](t, d, "/v1/calls", object{"to": object{"number": "138 0013 8001"}, "trunk_id": trunk.ID, "url": app.URL + "/answered"})
	p.succeeds()
	c, _ := d.ended(t, started.ID)
	if c.Cause != "callee_hangup" || c.To != "+8613800138001" || c.From != own {
		t.Errorf("the record is %+v", c)
	}
	if message := p.file("messages"); !strings.Contains(message, "INVITE sip:+8613800138001@") || !strings.Contains(message, "From: <sip:"+own+"@") {
		t.Errorf("the carrier got %s", message)
	}
}

// act changes a live call and returns the one event that says what came of it.
func (d *deployment) act(t *testing.T, id string, change object) webhooks.Event {
	t.Helper()
	a := d.ask(t, http.MethodPost, "/v1/calls/"+id+"/actions", change, nil)
	if a.status != http.StatusAccepted {
		t.Fatalf("the change is answered %d: %s", a.status, a.body)
	}
	action := into[struct {
		ActionID string `json:"action_id"`
	}](t, a.body).ActionID
	var outcome webhooks.Event
	eventually(t, 10*time.Second, func() string {
		for _, e := range d.events(t, id) {
			if string(e.Data.ActionID) == action {
				outcome = e
				return ""
			}
		}
		return "nothing came of the change"
	})
	return outcome
}

// talking waits until a call is answered and returns its record.
func (d *deployment) talking(t *testing.T, number string) call {
	t.Helper()
	var c call
	eventually(t, 15*time.Second, func() string {
		list := get[page[call]](t, d, "/v1/calls?status=in_progress&to="+strings.ReplaceAll(number, "+", "%2B"))
		if len(list.Data) == 1 {
			c = list.Data[0]
			return ""
		}
		return "the call is not in progress"
	})
	return c
}

const waiting = `[{"verb":"answer"},{"verb":"pause","length":60}]`

func hangsUp(t *testing.T, d *deployment) {
	number := d.program(t, waiting)
	over := d.live(t, phone.Call{To: number})
	c := d.talking(t, number)
	if e := d.act(t, c.ID, object{"op": "hangup"}); e.Type != webhooks.EventActionCompleted {
		t.Errorf("the change ended with %+v", e)
	}
	if r := <-over; r.EndedByUs || r.Err != nil {
		t.Errorf("the telephone says %v, hung up itself: %t", r.Err, r.EndedByUs)
	}
	if c, _ = d.ended(t, c.ID); c.Cause != "api_hangup" || c.EndedBy != "api" {
		t.Errorf("the record is %+v", c)
	}
	if a := d.ask(t, http.MethodPost, "/v1/calls/"+c.ID+"/actions", object{"op": "hangup"}, nil); a.status != http.StatusConflict || !strings.Contains(a.problem(t).Detail, "completed") {
		t.Errorf("a change too late is answered %d: %s", a.status, a.body)
	}
}

func redirects(t *testing.T, d *deployment) {
	number := d.program(t, waiting)
	over := d.live(t, phone.Call{To: number})
	c := d.talking(t, number)
	d.act(t, c.ID, object{"instructions": []object{{"verb": "play", "tone": "880/800"}, {"verb": "hangup"}}})
	hears(t, (<-over).Heard, 880, 600*time.Millisecond)
	if c, _ = d.ended(t, c.ID); c.Cause != "program_end" {
		t.Errorf("the record is %+v", c)
	}
}

func redirectsToURL(t *testing.T, d *deployment) {
	app, number := d.application(t, nil)
	app.Answer("incoming", `[{"verb":"gather","id":"long","timeout":60,"action":{"url":"/told"}}]`)
	app.Answer("/live", `[{"verb":"play","tone":"880/800"},{"verb":"hangup"}]`)
	over := d.live(t, phone.Call{To: number})
	c := d.talking(t, number)
	d.act(t, c.ID, object{"url": app.URL + "/live"})
	hears(t, (<-over).Heard, 880, 600*time.Millisecond)
	app.Expect("incoming")
	for range 2 { // what was cut short is told beside what comes next, in any order
		if asked := app.Requests()[1:]; len(asked) == 2 {
			break
		}
		app.Expect(app.Requests()[len(app.Requests())-1].Path)
	}
	for _, asked := range app.Requests()[1:] {
		switch asked.Path {
		case "/live":
			if asked.Value("reason") != "modified" {
				t.Errorf("asked %s", asked.Body)
			}
		case "/told":
			if asked.Value("outcome") != "redirected" {
				t.Errorf("told %s", asked.Body)
			}
		}
	}
}

func staleChange(t *testing.T, d *deployment) {
	number := d.program(t, waiting)
	over := d.live(t, phone.Call{To: number})
	c := d.talking(t, number)
	path, change := "/v1/calls/"+c.ID+"/actions", object{"instructions": []object{{"verb": "answer"}, {"verb": "pause", "length": 60}}}
	if a := d.ask(t, http.MethodPost, path, change, http.Header{"If-Match": {`"77"`}}); a.status != http.StatusPreconditionFailed {
		t.Errorf("a change for etag 77 of a call with etag %s is answered %d: %s", c.Etag, a.status, a.body)
	}
	if a := d.ask(t, http.MethodPost, path, change, http.Header{"If-Match": {`"` + c.Etag + `"`}}); a.status != http.StatusAccepted {
		t.Errorf("a change for etag %s is answered %d: %s", c.Etag, a.status, a.body)
	}
	eventually(t, 10*time.Second, func() string {
		if now := get[call](t, d, "/v1/calls/"+c.ID); now.Etag != c.Etag {
			return ""
		}
		return "the etag is the same after a change"
	})
	d.act(t, c.ID, object{"op": "hangup"})
	<-over
}

func lists(t *testing.T, d *deployment) {
	number := d.program(t, `[{"verb":"reject"}]`)
	for range 3 {
		d.calls(t, "refused", sipp{to: number, values: object{"code": 603}}).succeeds()
	}
	to := strings.ReplaceAll(number, "+", "%2B")
	eventually(t, 10*time.Second, func() string {
		if len(get[page[call]](t, d, "/v1/calls?to="+to).Data) == 3 {
			return ""
		}
		return "the calls are not listed"
	})
	seen := map[string]bool{}
	for path := "/v1/calls?limit=2&status=rejected&to=" + to; path != ""; {
		list := get[page[call]](t, d, path)
		for _, c := range list.Data {
			seen[c.ID] = true
		}
		path = ""
		if list.NextCursor != "" {
			path = "/v1/calls?limit=2&status=rejected&to=" + to + "&cursor=" + list.NextCursor
		}
	}
	if len(seen) != 3 {
		t.Errorf("%d of 3 calls were listed", len(seen))
	}
	if a := d.ask(t, http.MethodGet, "/v1/calls?colour=red", nil, nil); a.status != http.StatusBadRequest || !strings.Contains(a.problem(t).Detail, "colour") {
		t.Errorf("an unknown filter is answered %d: %s", a.status, a.body)
	}
}

func idempotent(t *testing.T, d *deployment) {
	p := party(t, "uas-refuse", sipp{values: object{"code": 486, "reason": "Busy Here"}})
	start := object{"to": at(p), "program": []object{{"verb": "hangup"}}}
	header := http.Header{"Idempotency-Key": {t.Name()}}
	first, second := d.ask(t, http.MethodPost, "/v1/calls", start, header), d.ask(t, http.MethodPost, "/v1/calls", start, header)
	if first.status != http.StatusCreated || second.status != http.StatusCreated || into[call](t, first.body).ID != into[call](t, second.body).ID {
		t.Errorf("answered %d %s, then %d %s", first.status, first.body, second.status, second.body)
	}
	start["timeout"] = 20
	if a := d.ask(t, http.MethodPost, "/v1/calls", start, header); a.status != http.StatusUnprocessableEntity {
		t.Errorf("the same key with another body is answered %d: %s", a.status, a.body)
	}
	p.succeeds()
}

func unauthorized(t *testing.T, d *deployment) {
	for _, header := range []string{"", "Bearer sk_nobody", "Basic " + d.key} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, d.url+"/v1/calls", nil)
		if err != nil {
			t.Fatal(err)
		}
		if header != "" {
			req.Header.Set("Authorization", header)
		}
		res, err := rest.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != http.StatusUnauthorized {
			t.Errorf("%q is answered %s", header, res.Status)
		}
	}
}
