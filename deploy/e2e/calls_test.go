package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/deploy/phone"
	"github.com/hookswitch/hookswitch/webhooks"
	"github.com/hookswitch/hookswitch/webhooks/webhooktest"
)

// What a call is: set up, answered, held, refused, ended.
var callStories = []scenario{
	{"an application answers, plays and hangs up", answerPlayHangUp},
	{"a telephone hears what an application plays", hearsTone},
	{"a caller hangs up", callerHangsUp},
	{"a caller gives up before the answer", callerCancels},
	{"a caller puts us on hold", hold},
	{"an INVITE without an offer", lateOffer},
	{"a late ACK", lateACK},
	{"an INVITE of more than 1,400 octets over UDP", func(t *testing.T, d *deployment) { bigMessage(t, d, false) }},
	{"an INVITE of more than 1,400 octets over TCP", func(t *testing.T, d *deployment) { bigMessage(t, d, true) }},
	{"a telephone over TCP", overTCP},
	{"a hundred calls in five seconds", burst},
	{"a number that does not exist", unknownNumber},
	{"a number without application", unboundNumber},
	{"a caller without a codec of ours", noCodec},
	{"an application rejects", rejected},
	{"a stranger gets no answer", stranger},
	{"guessing passwords by INVITE earns a ban", guessesByInvite},
	{"guessing passwords by REGISTER earns a ban", guessesByRegister},
	{"an unknown user looks like a wrong password", unknownUser},
}

func answerPlayHangUp(t *testing.T, d *deployment) {
	app, number := d.application(t, nil)
	app.Answer("incoming", `[{"verb":"play","tone":"440/600"},{"verb":"hangup"}]`)
	r := d.calls(t, "listen", sipp{to: number})
	r.succeeds()
	app.Expect("incoming", "from", "+8613800138000", "to", number, "direction", "inbound", "status", "ringing")
	app.ExpectNothing()
	c, events := d.endedBySIP(t, r.sipCallID)
	if c.Status != "completed" || c.Cause != "program_end" || c.EndedBy != "application" || c.SIPCode != 200 || c.From != "+8613800138000" || c.To != number {
		t.Errorf("the record is %+v", c)
	}
	if c.Media == nil || c.Media.Codec != "PCMU" || c.Media.PacketsSent < 25 {
		t.Errorf("its audio is %+v", c.Media)
	}
	if c.AnsweredAt == nil || c.TalkDuration < 0.5 || c.Duration < c.TalkDuration {
		t.Errorf("it took %v s, %v s of them answered", c.Duration, c.TalkDuration)
	}
	if got := events.String(); got != " call.initiated call.ringing call.answered call.ended" {
		t.Errorf("its events are%s", got)
	}
}

func hearsTone(t *testing.T, d *deployment) {
	r := d.place(t, phone.Call{To: d.program(t, `[{"verb":"play","tone":"620/1000"},{"verb":"play","tone":"880/800"},{"verb":"hangup"}]`)})
	hears(t, r.Heard, 620, 900*time.Millisecond)
	hears(t, r.Heard, 880, 300*time.Millisecond)
	c, _ := d.endedBySIP(t, r.SIPCallID)
	if c.From != "1001" || c.Cause != "program_end" || r.EndedByUs {
		t.Errorf("the record is %+v; hung up by the telephone: %t", c, r.EndedByUs)
	}
}

func callerHangsUp(t *testing.T, d *deployment) {
	app, number := d.application(t, nil)
	app.Answer("incoming", `[{"verb":"gather","id":"menu","timeout":30,"action":{"url":"/menu"}}]`)
	r := d.place(t, phone.Call{To: number, HangUp: 700 * time.Millisecond})
	app.Expect("incoming")
	app.Expect("/menu", "outcome", "hangup", "id", "menu", "call.status", "completed")
	c, _ := d.endedBySIP(t, r.SIPCallID)
	if c.Cause != "caller_hangup" || c.EndedBy != "caller" || c.Status != "completed" {
		t.Errorf("the record is %+v", c)
	}
}

func callerCancels(t *testing.T, d *deployment) {
	app, number := d.application(t, nil)
	app.Answer("incoming", webhooktest.Hang()) // it still thinks when the caller is gone
	r := d.calls(t, "cancel", sipp{to: number})
	r.succeeds()
	c, events := d.endedBySIP(t, r.sipCallID)
	if c.Status != "canceled" || c.Cause != "canceled" || c.EndedBy != "caller" || c.SIPCode != 487 || c.AnsweredAt != nil {
		t.Errorf("the record is %+v", c)
	}
	if len(events.of(webhooks.EventWebhookFailed)) > 0 {
		t.Error("a request that the caller's end cancelled is told of as a failure of the application")
	}
}

func hold(t *testing.T, d *deployment) {
	r := d.calls(t, "hold", sipp{to: d.program(t, `[{"verb":"answer"},{"verb":"play","tone":"440","loop":0}]`)})
	r.succeeds()
	c, events := d.endedBySIP(t, r.sipCallID)
	held := events.of(webhooks.EventCallHeld)
	if len(held) != 2 || !*held[0].Data.Held || *held[1].Data.Held {
		t.Errorf("held and taken off it are %v", held)
	}
	if c.Cause != "caller_hangup" {
		t.Errorf("the record is %+v", c)
	}
}

func lateOffer(t *testing.T, d *deployment) {
	r := d.calls(t, "late-offer", sipp{to: d.program(t, `[{"verb":"play","tone":"440/600"},{"verb":"hangup"}]`)})
	r.succeeds()
	if c, _ := d.endedBySIP(t, r.sipCallID); c.Cause != "program_end" || c.Media == nil || c.Media.PacketsSent < 25 {
		t.Errorf("the record is %+v with %+v", c, c.Media)
	}
}

// The 200 comes again from T1 doubling until its ACK is there (RFC 3261 §13.3.1.4): in four seconds at 0, 0.5, 1.5 and 3.5.
// That the call ends when it never comes takes 32 s and is left to virtual time.
func lateACK(t *testing.T, d *deployment) {
	r := d.calls(t, "no-ack", sipp{to: d.program(t, `[{"verb":"answer"},{"verb":"pause","length":60}]`)})
	r.succeeds()
	answers := 0
	for message := range strings.SplitSeq(r.file("messages"), "UDP message received") {
		if strings.Contains(message, "SIP/2.0 200 OK") && strings.Contains(message, "CSeq: 1 INVITE") {
			answers++
		}
	}
	if answers != 4 {
		t.Errorf("the 200 came %d times, want 4\n%s", answers, r.file("messages"))
	}
	if c, _ := d.endedBySIP(t, r.sipCallID); c.Cause != "caller_hangup" {
		t.Errorf("the record is %+v", c)
	}
}

func bigMessage(t *testing.T, d *deployment, tcp bool) {
	app, number := d.application(t, nil)
	app.Answer("incoming", `[{"verb":"play","tone":"440/200"},{"verb":"hangup"}]`)
	filler := strings.Repeat("0123456789", 80) // twice
	r := d.calls(t, "big", sipp{to: number, tcp: tcp, values: object{"filler": filler}})
	r.succeeds()
	if asked := app.Expect("incoming"); asked.Call.Call.SIP.Headers["X-Filler"] != filler {
		t.Errorf("the application was told the headers %v", asked.Call.Call.SIP.Headers)
	}
	if c, _ := d.endedBySIP(t, r.sipCallID); c.Cause != "program_end" {
		t.Errorf("the record is %+v", c)
	}
}

func overTCP(t *testing.T, d *deployment) {
	r := d.place(t, phone.Call{Network: "tcp", To: d.program(t, `[{"verb":"play","tone":"620/900"},{"verb":"hangup"}]`)})
	hears(t, r.Heard, 620, 500*time.Millisecond)
}

func burst(t *testing.T, d *deployment) {
	const calls = 100
	app, number := d.application(t, nil)
	app.Answer("incoming", `[{"verb":"play","tone":"440/300"},{"verb":"hangup"}]`)
	r := d.calls(t, "listen", sipp{to: number, calls: calls})
	r.succeeds()
	if n := len(app.Requests()); n != calls {
		t.Errorf("the application was asked %d times", n)
	}
	var list page[call] // the edge publishes while the calls go on, and a little later
	eventually(t, 30*time.Second, func() string {
		list = get[page[call]](t, d, "/v1/calls?limit=1000&to="+strings.ReplaceAll(number, "+", "%2B"))
		if len(list.Data) == calls {
			return ""
		}
		return fmt.Sprintf("%d calls have a record", len(list.Data))
	})
	for _, c := range list.Data {
		if c, _ = d.ended(t, c.ID); c.Cause != "program_end" || c.Status != "completed" {
			t.Errorf("a record is %+v", c)
		}
	}
}

func unknownNumber(t *testing.T, d *deployment) {
	r := d.calls(t, "refused", sipp{to: "+862311111111", values: object{"code": 404}})
	r.succeeds()
	if got := d.tries(t, phone.Call{To: "8888"}); got.Code != 404 {
		t.Errorf("the telephone is told %d %s", got.Code, got.Reason)
	}
}

func unboundNumber(t *testing.T, d *deployment) {
	number := "+8623" + "77001234"
	d.expect(t, http.StatusCreated, http.MethodPost, "/v1/numbers", object{"number": number})
	r := d.calls(t, "refused", sipp{to: number, values: object{"code": 404}})
	r.succeeds()
}

func noCodec(t *testing.T, d *deployment) {
	r := d.calls(t, "no-codec", sipp{to: d.program(t, `[{"verb":"answer"}]`)})
	r.succeeds()
	if c, _ := d.endedBySIP(t, r.sipCallID); c.Cause != "no_codec" || c.Status != "failed" || c.SIPCode != 488 {
		t.Errorf("the record is %+v", c)
	}
}

func rejected(t *testing.T, d *deployment) {
	for reason, want := range map[string]struct {
		code   int
		status string
	}{"busy": {486, "busy"}, "rejected": {603, "rejected"}} {
		r := d.calls(t, "refused", sipp{to: d.program(t, `[{"verb":"reject","reason":"`+reason+`"}]`), values: object{"code": want.code}})
		r.succeeds()
		if c, _ := d.endedBySIP(t, r.sipCallID); c.Status != want.status || c.SIPCode != want.code || c.EndedBy != "application" {
			t.Errorf("the record is %+v", c)
		}
	}
}

// Who is neither an extension nor a carrier's network hears nothing: a scanner learns not even that somebody is there.
func stranger(t *testing.T, d *deployment) {
	r := d.callsFrom(t, strangerAddr(), "ignored", sipp{to: d.program(t, `[{"verb":"answer"}]`)})
	r.succeeds()
}
