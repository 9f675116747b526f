package calltest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/edge/media"
	"github.com/hookswitch/hookswitch/edge/session"
	"github.com/hookswitch/hookswitch/edge/sip"
	"github.com/hookswitch/hookswitch/webhooks"
)

// storyWith is a story on a bench that is set up otherwise.
func storyWith(t *testing.T, setup Setup, tell func(t *testing.T, b *Bench)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { tell(t, NewWith(t, setup)) })
}

const wait60 = `[{"verb":"answer"},{"verb":"pause","length":60}]`

func TestHoldAndResume(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Program("1000", wait60)
		call := b.Phone("1001").Dial("1000").Answered()
		call.HearsSilence(time.Second)
		call.Hold()
		held := b.Event(webhooks.EventCallHeld)
		b.Pass(45 * time.Second) // longer than anybody may be silent who is not on hold
		call.Talking()
		call.Resume()
		resumed := b.Event(webhooks.EventCallHeld)
		if held.Data.Held == nil || !*held.Data.Held || resumed.Data.Held == nil || *resumed.Data.Held {
			t.Errorf("held %v, then %v", held.Data.Held, resumed.Data.Held)
		}
		call.Forget()
		call.HearsSilence(time.Second)
		call.ExpectBye()
	})
}

func TestPhoneThatFallsSilentIsGone(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Program("1000", wait60)
		call := b.Phone("1001").Dial("1000").Answered()
		call.Mute(true)
		call.ExpectByeWithin(31 * time.Second)
		if cdr := b.Ended(webhooks.CauseMediaTimeout); cdr.EndedBy != webhooks.EndedBySystem || cdr.Status != webhooks.StatusCompleted {
			t.Errorf("%+v", cdr)
		}
	})
}

func TestTimeLimitOfANumber(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Plane.TimeLimit = 10
		b.Program("1000", wait60)
		b.Phone("1001").Dial("1000").Answered().ExpectByeWithin(11 * time.Second)
		b.Ended(webhooks.CauseTimeLimit)
	})
}

func TestNoCodecInCommon(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Program("1000", wait60)
		phone := b.Phone("1001")
		phone.Opus = true
		phone.Dial("1000").Expect(488)
		if cdr := b.Ended(webhooks.CauseNoCodec); cdr.Status != webhooks.StatusFailed || cdr.SIPCode != 488 {
			t.Errorf("%+v", cdr)
		}
	})
}

func TestEveryPortInUse(t *testing.T) {
	ports := func(c *media.Config) { c.PortMin, c.PortMax = 20000, 20001 }
	storyWith(t, Setup{Media: ports}, func(t *testing.T, b *Bench) {
		b.Program("1000", wait60)
		call := b.Phone("1001").Dial("1000").Answered()
		b.Phone("1002").Dial("1000").ExpectHeader(503, "Retry-After", "5")
		call.HangUp()
		b.Phone("1002").Dial("1000").Expect(503) // the port rests for 10 s
		b.Pass(11 * time.Second)
		b.Phone("1002").Dial("1000").Answered().HangUp()
	})
}

func TestEdgeIsFull(t *testing.T) {
	most := func(c *session.Config) { c.MaxCalls = 1 }
	storyWith(t, Setup{Session: most}, func(t *testing.T, b *Bench) {
		b.Program("1000", wait60)
		call := b.Phone("1001").Dial("1000").Answered()
		b.Phone("1002").Dial("1000").ExpectHeader(503, "Retry-After", "5")
		call.HangUp()
		b.Idle()
		b.Phone("1002").Dial("1000").Answered().HangUp()
	})
}

func TestDrainingEdgeTakesNoNewCallsAndLetsTheOldEnd(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Program("1000", wait60)
		call := b.Phone("1001").Dial("1000").Answered()
		drained := make(chan error, 1)
		go func() { drained <- b.Calls.Drain(context.Background()) }()
		b.Pass(time.Second)
		b.Phone("1002").Dial("1000").ExpectHeader(503, "Retry-After", "5")
		err := b.Calls.Originate(context.Background(), control.Originate{CallID: webhooks.NewCallID(), AccountID: Account})
		if control.CodeOf(err) != control.CodeBusy {
			t.Errorf("originate: %v", err)
		}
		call.Talking()
		call.HangUp()
		if err := <-drained; err != nil {
			t.Errorf("drain: %v", err)
		}
	})
}

func TestEdgeThatStopsEndsItsCalls(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Program("1000", wait60)
		call := b.Phone("1001").Dial("1000").Answered()
		b.Program("1001", `[{"verb":"pause","length":60}]`)
		ringing := b.Phone("1002").Dial("1001").Expect(180)
		b.Close()
		if !call.final || !ringing.final {
			t.Error("the phones do not know")
		}
		ends := b.Events(webhooks.EventCallEnded)
		for _, e := range ends {
			if e.Data.CDR.Cause != webhooks.CauseEdgeDrain {
				t.Errorf("ended with %s", e.Data.CDR.Cause)
			}
		}
		if published := b.Plane.Published(); len(ends) != 2 || len(published) != len(b.Events()) {
			t.Errorf("%d ends, %d of %d events were published", len(ends), len(published), len(b.Events()))
		}
	})
}

func TestLostACKIsMadeUpFor(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Program("1000", wait60)
		call := b.Phone("1001").Dial("1000").AnsweredWithoutACK()
		b.Pass(3 * time.Second)
		call.ACK()
		b.Pass(10 * time.Second)
		call.Talking()
		call.HangUp()
		b.Ended(webhooks.CauseCallerHangup)
	})
}

func TestCallWithoutACKEnds(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Program("1000", wait60)
		call := b.Phone("1001").Dial("1000").AnsweredWithoutACK()
		call.ExpectByeWithin(35 * time.Second)
		b.Ended(webhooks.CauseMediaTimeout)
	})
}

func TestRegisteredPhoneIsTakenAtItsWord(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		phone := b.Phone("1001")
		if code := phone.Register(); code != 200 {
			t.Fatalf("REGISTER was answered %d", code)
		}
		bindings := b.Plane.Registrations()
		if len(bindings) != 1 || bindings[0].Source != phone.Addr || bindings[0].CredentialID != "cred_1001" ||
			len(bindings[0].Contacts) != 1 || bindings[0].Contacts[0].Expires != 600 {
			t.Errorf("%+v", bindings)
		}
		phone.Typed = "wrong"
		if code := phone.Register(); code != 401 {
			t.Errorf("with a wrong password: %d", code)
		}
	})
}

func TestUnknownUserLooksLikeAWrongPassword(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Plane.OnCredential = func(control.CredentialQuery) (control.Credential, error) {
			return control.Credential{Realm: Realm}, nil
		}
		if code := b.Phone("1001").Register(); code != 401 {
			t.Errorf("%d", code)
		}
	})
}

func TestGuessingPasswordsIsBanned(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		phone := b.Phone("1001")
		phone.Typed = "wrong"
		tries := 0
		for ; tries < 50 && phone.Register() != 0; tries++ {
		}
		if tries == 50 {
			t.Fatal("50 wrong passwords were answered")
		}
		phone.Typed = ""
		if code := phone.Register(); code != 0 {
			t.Errorf("a banned address was answered %d", code)
		}
		if code := b.Phone("1002").Register(); code != 200 {
			t.Errorf("another address was answered %d", code)
		}
	})
}

func TestRegisterWhileTheControlPlaneIsAway(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Plane.Away(true)
		if code := b.Phone("1001").Register(); code != 503 {
			t.Errorf("%d", code)
		}
	})
}

func TestCallWithCredentials(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		route := func(in control.Incoming) (control.Route, error) {
			if in.CredentialID == "" {
				return control.Route{}, &control.Error{Code: control.CodeChallenge, Realm: Realm, Message: "an extension"}
			}
			return control.Route{
				AccountID: Account, From: in.FromUser, To: in.ToUser, Dialed: in.ToUser, CredentialID: in.CredentialID,
				Application: control.Application{Format: control.FormatNative, Program: Program(t, `[{"verb":"answer"},{"verb":"hangup"}]`)},
			}, nil
		}
		b.Plane.OnRoute = route
		b.Phone("1001").Dial("1000").Challenged().Answered().ExpectBye()
		if e := b.Event(webhooks.EventCallInitiated); e.Data.CredentialID != "cred_1001" {
			t.Errorf("the call is of %q", e.Data.CredentialID)
		}
		thief := b.Phone("1002")
		thief.Typed = "wrong"
		thief.Dial("1000").Challenged().Expect(401)
		b.Idle()
		if n := len(b.Events(webhooks.EventCallInitiated)); n != 1 {
			t.Errorf("%d calls", n)
		}
	})
}

func TestRefusalsOfTheControlPlane(t *testing.T) {
	for code, status := range map[control.Code]int{
		control.CodeNotFound: 404, control.CodeNotAllowed: 403, control.CodeBusy: 503, control.CodeInvalid: 500, control.CodeSilence: 0,
	} {
		t.Run(string(code), func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				b.Plane.OnRoute = func(control.Incoming) (control.Route, error) {
					return control.Route{}, &control.Error{Code: code, Message: "no"}
				}
				call := b.Phone("1001").Dial("1000")
				if status == 0 {
					call.ExpectNothing(10 * time.Second)
				} else {
					call.Expect(status)
				}
				if n := len(b.Events()); n != 0 {
					t.Errorf("%d events of a call that was none", n)
				}
			})
		})
	}
}

func TestLastRouteServesWhileTheControlPlaneIsAway(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Plane.KeepFor, b.Plane.Customer = 3600, "cus_1"
		b.Program("1000", `[{"verb":"answer"},{"verb":"hangup"}]`)
		b.Program("1005", `[{"verb":"answer"},{"verb":"hangup"}]`)
		phone := b.Phone("1001")
		phone.Dial("1000").Answered().ExpectBye()
		b.Plane.Away(true)
		phone.DialWith("1000", Invite{From: "1009"}).Answered().ExpectBye()
		phone.Dial("1005").ExpectHeader(503, "Retry-After", "5") // never routed before
		if e := b.Event(webhooks.EventCallInitiated); e.Data.CustomerID != "cus_1" {
			t.Errorf("from the customer %q", e.Data.CustomerID)
		}
		// Another caller is another customer, or none.
		if e := b.Event(webhooks.EventCallInitiated); e.Data.From != "1009" || e.Data.CustomerID != "" {
			t.Errorf("from %s, the customer %q", e.Data.From, e.Data.CustomerID)
		}
		b.Pass(2 * time.Hour / 60) // still within the time
		phone.Dial("1000").Answered().ExpectBye()
		b.Plane.Away(false)
		b.Pass(3 * time.Second)
		if published := len(b.Plane.Published()); published != len(b.Events()) {
			t.Errorf("%d of %d events were published", published, len(b.Events()))
		}
	})
}

func TestRouteThatMayNotBeKeptIsNot(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Program("1000", `[{"verb":"answer"},{"verb":"hangup"}]`)
		phone := b.Phone("1001")
		phone.Dial("1000").Answered().ExpectBye()
		b.Plane.Away(true)
		phone.Dial("1000").Expect(503)
	})
}

func TestEventsAreSpooledWhileTheControlPlaneIsAwayAndComeInOrder(t *testing.T) {
	spool := t.TempDir()
	storyWith(t, Setup{Spool: spool}, func(t *testing.T, b *Bench) {
		b.Plane.KeepFor = 3600
		b.Program("1000", `[{"verb":"gather","num_digits":1}]`)
		phone := b.Phone("1001")
		call := phone.Dial("1000").Answered()
		b.Pass(time.Second)
		b.Plane.Away(true)
		call.Press("1")
		call.ExpectBye()
		for range 5 {
			call := phone.Dial("1000").Answered()
			call.Press("2")
			call.ExpectBye()
		}
		b.Idle()
		b.Pass(5 * time.Second)
		if info, err := os.Stat(filepath.Join(spool, "events.ndjson")); err != nil || info.Size() == 0 {
			t.Fatalf("the spool: %v", err)
		}
		b.Plane.Away(false)
		b.Pass(5 * time.Second)
		if published := len(b.Plane.Published()); published != len(b.Events()) {
			t.Errorf("%d of %d events were published", published, len(b.Events()))
		}
		if _, err := os.Stat(filepath.Join(spool, "events.ndjson")); !os.IsNotExist(err) {
			t.Errorf("the spool is still there: %v", err)
		}
	})
}

func TestRestartPublishesWhatWasSpooled(t *testing.T) {
	t.Parallel()
	spool := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		voice := Voice(8, 2*time.Second)
		first := NewWith(t, Setup{Spool: spool})
		call := recording(first, first.Phone("1001"), `,"finish_on_key":"#","trim":false`)
		first.Plane.Away(true)
		call.Say(voice)
		first.Pass(jitterTime)
		call.Press("#")
		call.ExpectBye()
		first.Idle()
		emitted := first.Events()
		first.Close()

		first.Plane.Away(false)
		second := NewWith(t, Setup{Spool: spool, Plane: first.Plane})
		second.Pass(5 * time.Second)
		published := second.Plane.Published()
		if len(published) != len(emitted)+1 { // and recording.completed
			t.Errorf("%d events were emitted, and then published: %s", len(emitted), kinds(published))
		}
		finished := published[len(published)-1]
		octets, _, ok := second.Plane.Recording(finished.Data.RecordingID)
		if !ok || !strings.Contains(string(octets), string(voice)) {
			t.Errorf("the recording of %d samples is not what was said", len(octets))
		}
		left, err := os.ReadDir(spool)
		if err != nil || len(left) != 0 {
			t.Errorf("the spool still holds %v, %v", left, err)
		}
	})
}

func TestPanicEndsItsOwnCallOnly(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Program("1000", wait60)
		call := b.Phone("1001").Dial("1000").Answered()
		b.Plane.OnResolve = func(control.ResolveQuery) (control.Resolved, error) { panic("a fault of our own") }
		b.Program("1001", `[{"verb":"dial","to":[{"extension":"1003"}]}]`)
		b.Phone("1002").Dial("1001").Answered().ExpectBye()
		b.Ended(webhooks.CauseError)
		call.Talking()
		call.HangUp()
		b.Ended(webhooks.CauseCallerHangup)
	})
}

func TestPanicWhilePlacingACallEndsItToo(t *testing.T) {
	faulty := func(c *session.Config) {
		c.Invite = func(context.Context, sip.InviteConfig) (*sip.Dialog, error) { panic("a fault of our own") }
	}
	storyWith(t, Setup{Session: faulty}, func(t *testing.T, b *Bench) {
		b.Phone("1001")
		originate(t, b, nil)
		b.Ended(webhooks.CauseError)
	})
}

func TestManyCallsAtOnceKeepApart(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Program("1000", `[{"verb":"gather","num_digits":1},{"verb":"play","media_id":"sys_digits_{{trigger.digits}}"}]`)
		var calls []*Call
		for n := range 10 {
			calls = append(calls, b.Phone(fmt.Sprint(1001+n)).Dial("1000"))
		}
		for n, call := range calls {
			call.Answered()
			call.Press(fmt.Sprint(n))
		}
		for n, call := range calls {
			call.Hears(SystemPrompt(t, fmt.Sprintf("sys_digits_%d", n)))
			call.ExpectBye()
		}
	})
}

func TestUpdateHoldsAndResumes(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Program("1000", wait60)
		call := b.Phone("1001").Dial("1000").Answered()
		call.HearsSilence(time.Second)
		call.Update("sendonly")
		b.heldIs(true)
		call.Update("")
		b.heldIs(false)
		call.Forget()
		call.HearsSilence(time.Second)
		call.HangUp()
	})
}

// heldIs waits for the next call.held.
func (b *Bench) heldIs(want bool) {
	b.t.Helper()
	if e := b.Event(webhooks.EventCallHeld); e.Data.Held == nil || *e.Data.Held != want {
		b.t.Errorf("held is %v, expected %v", e.Data.Held, want)
	}
}

func TestReinviteWithoutAnOffer(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		voice := Voice(8, time.Second)
		call := recording(b, b.Phone("1001"), `,"finish_on_key":"#","silence":0,"trim":false`)
		call.HearsSilence(time.Second)
		call.ReinviteWithoutOffer("")
		call.HearsSilence(time.Second)
		call.ReinviteWithoutOffer("inactive")
		b.heldIs(true)
		call.ReinviteWithoutOffer("")
		b.heldIs(false)
		call.Say(voice)
		b.Pass(jitterTime)
		call.Press("#") // by the payload type agreed on again
		b.App.Expect("/done", "outcome", "key")
		if octets, _ := shipped(t, b); !bytes.Contains(octets, voice) {
			t.Error("what was said is not recorded")
		}
		call.ExpectBye()
	})
}

func TestAudioMovesToAnotherAddress(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		callee := b.Phone("1002")
		call := dialing(b, to1002, ``).Answered()
		answered := callee.Rings().Answer()
		b.Event(webhooks.EventCallBridged)
		b.Pass(100 * time.Millisecond)
		for n, mover := range []*Call{call, answered} {
			mover.MoveAudio()
			b.Pass(100 * time.Millisecond)
			call.Forget()
			answered.Forget()
			there, back := Voice(uint32(10+n), time.Second), Voice(uint32(20+n), time.Second)
			call.Talk(there)
			answered.Talk(back)
			answered.Hears(there)
			call.Hears(back)
		}
		call.HangUp()
		answered.ExpectBye()
	})
}

func TestFencedCallStopsSilently(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		var fenced atomic.Bool
		b.Plane.OnPublish = func(batch control.Batch) (control.Published, error) {
			if fenced.Load() {
				return control.Published{}, &control.Error{Code: control.CodeFenced, Message: "the call is another edge's"}
			}
			return control.Published{Expect: batch.Events[len(batch.Events)-1].Sequence + 1}, nil
		}
		callee := b.Phone("1002")
		b.Phone("1001").Register() // those who are known are told that a call is not
		callee.Register()
		call := dialing(b, to1002, ``).Answered()
		answered := callee.Rings().Answer()
		b.Event(webhooks.EventCallBridged)
		b.Pass(time.Second)
		fenced.Store(true)
		call.Hold() // of which the edge tells
		b.Idle()
		emitted := len(b.Events())
		b.Pass(100 * time.Millisecond)
		for _, c := range []*Call{call, answered} {
			c.Forget()
		}
		b.Pass(40 * time.Second)
		for _, c := range []*Call{call, answered} {
			c.Talking()
			if n := len(c.Heard()); n != 0 {
				t.Errorf("phone %s heard %d samples more", c.phone.Name, n)
			}
			c.hangUp(481) // here it is not known any more
		}
		if n := len(b.Events()); n != emitted || len(b.Events(webhooks.EventCallEnded)) != 0 {
			t.Errorf("%s", kinds(b.Events()))
		}
		b.App.ExpectNothing()
	})
}

func TestFencedRecordingIsNotShippedForEver(t *testing.T) {
	for name, segment := range map[string]int{"from the first segment on": 1, "from the second on": 2} {
		t.Run(name, func(t *testing.T) {
			spool := t.TempDir()
			storyWith(t, Setup{Spool: spool}, func(t *testing.T, b *Bench) {
				var asked atomic.Int64
				b.Plane.OnUpload = func(u control.Upload) (control.UploadGrant, error) {
					if u.Segment < segment {
						return control.UploadGrant{URL: storeURL + segmentName(u.RecordingID, u.Segment)}, nil
					}
					asked.Add(1)
					return control.UploadGrant{}, &control.Error{Code: control.CodeFenced, Message: "the call is another edge's"}
				}
				call := recording(b, b.Phone("1001"), `,"finish_on_key":"#","silence":0,"trim":false`)
				b.Pass(45 * time.Second)
				call.Press("#")
				b.App.Expect("/done", "outcome", "key")
				call.ExpectBye()
				b.Pass(time.Minute)
				if n := asked.Load(); n != 1 {
					t.Errorf("it was tried %d times", n)
				}
				if left, err := os.ReadDir(spool); err != nil || len(left) != 0 {
					t.Errorf("the spool still holds %v, %v", left, err)
				}
				if n := len(b.Events(webhooks.EventRecordingCompleted)); n != 0 {
					t.Error("the recording was completed")
				}
			})
		})
	}
}

func TestCallThatEndsWhileTheControlPlaneIsAwayIsToldLater(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Program("1000", wait60)
		call := b.Phone("1001").Dial("1000").Answered()
		b.Pass(time.Second)
		b.Plane.Away(true)
		call.HangUp()
		b.Idle()
		b.Pass(10 * time.Second)
		if n := len(b.Plane.Published()); n != 3 {
			t.Errorf("%d events came while nobody could take them", n)
		}
		b.Plane.Away(false)
		b.Pass(2 * time.Second)
		published := b.Plane.Published()
		if last := published[len(published)-1]; len(published) != 4 || last.Data.CDR == nil || last.Data.CDR.Cause != webhooks.CauseCallerHangup {
			t.Errorf("published: %s", kinds(published))
		}
	})
}
