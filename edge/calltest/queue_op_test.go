package calltest

import (
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/webhooks"
)

// metStory is a story about two calls, each with a program of its own, that have met: a caller out of a queue and the leg that
// has taken it, or one that was parked and the leg that has picked it up. It is told of live changes to each of the four: self
// is whose call is changed, and number the phone of that.
func metStory(t *testing.T, tell func(t *testing.T, b *Bench, self, other *Call, number string)) {
	t.Helper()
	for name, c := range map[string]struct {
		came  webhooks.EventType // of the first to come
		first bool               // is the one whose call is changed
	}{
		"the caller out of a queue": {webhooks.EventQueueJoined, true}, "the leg that has taken it": {webhooks.EventQueueJoined, false},
		"the call that was parked": {webhooks.EventCallParked, true}, "the leg that has picked it up": {webhooks.EventCallParked, false},
	} {
		t.Run(name, func(t *testing.T) {
			queueStory(t, func(t *testing.T, b *Bench) {
				if c.came == webhooks.EventCallParked {
					parking(b, "")
					b.App.Answer("/parked", `[]`)
					b.App.Answer("/picked", `[]`)
				}
				first := b.Phone("1001").Dial("1000").Answered()
				b.Event(c.came)
				second := b.Phone("1002").Dial("2000").Answered()
				b.Event(webhooks.EventCallBridged)
				b.Pass(200 * time.Millisecond)
				if c.first {
					tell(t, b, first, second, "1001")
				} else {
					tell(t, b, second, first, "1002")
				}
				b.Idle()
			})
		})
	}
}

func TestQueueAndParkTalkOnHold(t *testing.T) {
	metStory(t, func(t *testing.T, b *Bench, self, other *Call, number string) {
		id := callOf(b, number)
		changing(b, id, 1, `{"op":"hold","prompt":[{"verb":"play","media_id":"sys_welcome"}]}`)
		if e := b.Event(webhooks.EventActionCompleted); e.CallID != id || e.Data.PeerCallID == "" {
			t.Errorf("told of %+v", e.Data)
		}
		if e := b.Event(webhooks.EventCallHeld); e.CallID != id || !*e.Data.Held {
			t.Errorf("held: %+v", e.Data)
		}
		other.Forget()
		soon(other, SystemPrompt(t, "sys_welcome"))
		unheard(b, 3, other, self)
		changing(b, id, 2, `{"op":"unhold"}`)
		b.Event(webhooks.EventActionCompleted)
		talking(self, other)
		changing(b, id, 3, `{"op":"hold"}`)
		b.Event(webhooks.EventActionCompleted)
		other.HangUp() // and nothing of the hold is left
		self.ExpectBye()
	})
}

func TestQueueAndParkTalkMuted(t *testing.T) {
	metStory(t, func(_ *testing.T, b *Bench, self, other *Call, number string) {
		id := callOf(b, number)
		changing(b, id, 1, `{"op":"mute"}`)
		b.Event(webhooks.EventActionCompleted)
		unheard(b, 3, self, other)
		self.Forget()
		hello := Voice(4, 500*time.Millisecond)
		other.Talk(hello)
		self.Hears(hello)
		changing(b, id, 2, `{"op":"unmute"}`)
		b.Event(webhooks.EventActionCompleted)
		talking(self, other)
		self.HangUp()
		other.ExpectBye()
	})
}

func TestQueueAndParkTalkPlayedInto(t *testing.T) {
	metStory(t, func(t *testing.T, b *Bench, self, other *Call, number string) {
		id := callOf(b, number)
		goodbye := SystemPrompt(t, "sys_goodbye")
		self.Forget()
		other.Forget()
		changing(b, id, 1, `{"op":"play","media_id":"sys_goodbye","to":"both"}`)
		soon(self, goodbye)
		soon(other, goodbye)
		b.Event(webhooks.EventActionCompleted)
		changing(b, id, 2, `{"op":"play","tone":"500","loop":0,"to":"both"}`)
		b.Pass(500 * time.Millisecond)
		changing(b, id, 3, `{"op":"play","media_id":"sys_goodbye"}`) // to itself alone, and the tone is over
		soon(self, goodbye)
		b.Pass(3 * time.Second) // to its end
		talking(self, other)
		self.HangUp()
		other.ExpectBye()
	})
}

func TestQueueAndParkTalkDisconnected(t *testing.T) {
	metStory(t, func(t *testing.T, b *Bench, self, other *Call, number string) {
		changing(b, callOf(b, number), 1, `{"op":"disconnect"}`)
		b.Event(webhooks.EventActionCompleted)
		self.ExpectBye()
		other.ExpectBye()
		b.Ended(webhooks.CauseAPIHangup)
		b.Ended(webhooks.CauseAPIHangup)
		b.Idle()
		for _, r := range b.App.Requests() {
			if o := r.Call.Trigger; o != nil && o.Outcome != webhooks.Hangup {
				t.Errorf("%s was told of %s", r.Path, o.Outcome)
			}
		}
	})
}

func TestQueueTalkChangedWithAWordForThePartner(t *testing.T) {
	const goodbye = `"instructions":[{"verb":"play","media_id":"sys_goodbye"}]`
	for _, number := range []string{"1001", "1002"} {
		for name, peer := range map[string]string{"hang-up": `"hangup"`, "instructions": `[{"verb":"play","media_id":"sys_welcome"}]`} {
			t.Run(number+" "+name, func(t *testing.T) {
				queueStory(t, func(t *testing.T, b *Bench) {
					calls := map[string]*Call{"1001": b.Phone("1001").Dial("1000").Answered()}
					b.Event(webhooks.EventQueueJoined)
					calls["1002"] = b.Phone("1002").Dial("2000").Answered()
					b.Event(webhooks.EventQueueConnected)
					b.Pass(200 * time.Millisecond)
					self, other := calls[number], calls[map[string]string{"1001": "1002", "1002": "1001"}[number]]
					changing(b, callOf(b, number), 1, `{`+goodbye+`,"peer":`+peer+`}`)
					if name == "hang-up" {
						other.ExpectBye()
						b.Ended(webhooks.CauseAPIHangup)
					} else {
						soon(other, SystemPrompt(t, "sys_welcome"))
						outcome(b, "/queued", 1, webhooks.Redirected)
						other.ExpectBye()
					}
					soon(self, SystemPrompt(t, "sys_goodbye"))
					self.ExpectBye()
					b.Idle()
				})
			})
		}
	}
}
