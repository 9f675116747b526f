package calltest

import (
	"bytes"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
	"github.com/hookswitch/hookswitch/webhooks/webhooktest"
)

// referring has the edge refer a phone elsewhere; the application is told at /done.
func referring(b *Bench, to string) *Call {
	b.Webhook("1000", nil)
	b.App.Answer("/voice", `[{"verb":"answer"},{"verb":"refer","id":"r","to":"`+to+`","headers":{"X-Why":"test"},"action":"/done"}]`)
	b.App.Answer("/done", `[]`)
	call := b.Phone("1001").Dial("1000").Answered()
	b.App.Expect("incoming")
	return call
}

func TestReferOutcomes(t *testing.T) {
	for name, c := range map[string]struct {
		answer int
		phone  func(*Bench, *Call)
		want   []string
	}{
		"answered": {202, func(b *Bench, c *Call) {
			c.Notify(100, false)
			c.Notify(180, false)
			b.Pass(time.Second)
			c.Notify(200, true)
		},
			[]string{"outcome", "accepted", "sip_code", "202", "notify_sip_code", "200"}},
		"busy": {202, func(_ *Bench, c *Call) { c.Notify(100, false); c.Notify(486, true) },
			[]string{"outcome", "refused", "sip_code", "202", "notify_sip_code", "486"}},
		"declined":          {603, func(*Bench, *Call) {}, []string{"outcome", "refused", "sip_code", "603"}},
		"not understood":    {501, func(*Bench, *Call) {}, []string{"outcome", "refused", "sip_code", "501"}},
		"without an answer": {-1, func(*Bench, *Call) {}, []string{"outcome", "refused", "sip_code", "408"}},
		"without NOTIFY":    {202, func(*Bench, *Call) {}, []string{"outcome", "accepted", "sip_code", "202"}},
		"and no more told":  {202, func(_ *Bench, c *Call) { c.Notify(180, true) }, []string{"outcome", "accepted", "sip_code", "202", "notify_sip_code", "180"}},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				b.Phone("1001")
				b.Webhook("1000", nil)
				b.App.Answer("/voice", `[{"verb":"answer"},{"verb":"pause"},{"verb":"refer","id":"r","to":"sip:1003@example.test","action":"/done"}]`)
				b.App.Answer("/done", `[]`)
				call := b.Phone("1001").Dial("1000").Answered()
				call.AnswerRefer(c.answer)
				b.App.Expect("incoming")
				call.ExpectRefer("sip:1003@example.test")
				c.phone(b, call)
				if c.answer < 0 || len(c.want) == 4 {
					b.Pass(33 * time.Second)
				}
				b.App.Expect("/done", c.want...)
				call.ExpectBye()
				contractKept(t, b)
			})
		})
	}
}

func TestReferToANumberIsInThePhonesDomain(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		call := referring(b, "1003")
		call.ExpectRefer("sip:1003@" + Realm)
		call.Notify(200, true)
		b.App.Expect("/done", "outcome", "accepted")
		call.ExpectBye()
	})
}

func TestReferredPhoneThatHangsUpEndsItsCall(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		call := referring(b, "sip:1003@example.test")
		call.ExpectRefer("sip:1003@example.test")
		call.HangUp()
		b.App.Expect("/done", "outcome", "hangup", "sip_code", "202")
		contractKept(t, b)
	})
}

func TestReferEndsWithALiveChange(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		call := referring(b, "sip:1003@example.test")
		call.ExpectRefer("sip:1003@example.test")
		b.Pass(100 * time.Millisecond)
		change(t, b, b.Event(webhooks.EventCallInitiated).CallID, `[{"verb":"pause","length":2}]`)
		b.App.Expect("/done", "outcome", "redirected", "sip_code", "202")
		call.Notify(200, true) // is still answered
		call.ExpectBye()
		contractKept(t, b)
	})
}

func TestReferBeforeTheAnswerFails(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Webhook("1000", nil)
		b.App.Answer("/voice", `[{"verb":"refer","to":"sip:1003@example.test","action":"/done"}]`)
		b.App.Answer("/done", `[]`)
		b.Phone("1001").Dial("1000")
		b.App.Expect("incoming")
		b.App.Expect("/done", "outcome", "failed")
		contractKept(t, b)
	})
}

func TestTwilioRefer(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Webhook("1000", func(a *control.Application) { a.Format = control.FormatTwiML })
		b.App.Answer("/voice", `<Response><Say>x</Say><Refer action="/done"><Sip>sip:1003@example.test?X-a=1</Sip></Refer></Response>`)
		b.App.Answer("/done", `<Response/>`)
		call := b.Phone("1001").Dial("1000")
		b.App.Expect("/voice")
		call.Answered()
		call.ExpectRefer("sip:1003@example.test?X-a=1")
		call.Notify(200, true)
		b.App.Expect("/done", "ReferCallStatus", "in-progress", "ReferSipResponseCode", "202", "NotifySipResponseCode", "200")
		call.ExpectBye()
		contractKept(t, b)
	})
}

func TestReferIsDeclinedUnlessTheDialAllowsIt(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		call, answered := connected(b, ``)
		answered.Refer("sip:1003@example.test", 603)
		call.Refer("sip:1003@example.test", 603)
		b.Pass(time.Second)
		call.Talking()
		answered.HangUp()
		b.App.Expect("/done", "outcome", "completed")
		call.ExpectBye()
		contractKept(t, b)
	})
}

func TestReferOfAnotherKindIsRefused(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Program("1000", `[{"verb":"answer"},{"verb":"pause","length":5}]`)
		call := b.Phone("1001").Dial("1000").Answered()
		call.Refer("sip:1003@example.test", 603) // it speaks with nobody
		call.Refer("mailto:1003@example.test", 416)
		call.Refer("sip:1003@example.test?Replaces=x", 400)
		call.HangUp()
		contractKept(t, b)
	})
}

// allowing is a dial whose application decides on a REFER at /refer.
func allowing(b *Bench, to string, answer any) *Call {
	call := dialing(b, to, `,"refer":"/refer"`).Answered()
	b.App.Answer("/refer", answer)
	return call
}

// connected is a caller whose dial, of these attributes, 1002 has answered. 1003 is there to be sent to.
func connected(b *Bench, attributes string) (caller, callee *Call) {
	b.t.Helper()
	phone := b.Phone("1002")
	b.Phone("1003")
	caller = dialing(b, to1002, attributes).Answered()
	callee = phone.Rings().Answer()
	b.Event(webhooks.EventCallBridged)
	return caller, callee
}

// letRefer is connected with a dial whose application decides on a REFER at /refer.
func letRefer(b *Bench, answer any) (caller, callee *Call) {
	b.t.Helper()
	b.App.Answer("/refer", answer)
	return connected(b, `,"refer":"/refer"`)
}

func TestReferOfTheCalleeIsTheApplicationsToDecide(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		call, answered := letRefer(b, `[{"verb":"dial","to":[{"extension":"1003"}]}]`)
		third := b.Phone("1003")
		answered.Refer("sip:1003@"+edgeAddr.Addr().String(), 202)
		answered.Notified(100, false)
		b.App.Expect("/refer", "outcome", "referred", "refer_to", "sip:1003@"+edgeAddr.Addr().String(), "ended_by", "callee", "target", "1002")
		answered.Notified(200, true)
		answered.ExpectBye()
		last := third.Rings().Answer()
		call.Forget()
		voice := Voice(1, time.Second)
		last.Talk(voice)
		b.Pass(1500 * time.Millisecond)
		if !bytes.Contains(call.Heard(), voice) {
			t.Error("the caller does not hear the third")
		}
		last.HangUp()
		call.ExpectBye()
		contractKept(t, b)
		b.Golden("refer-callee")
	})
}

func TestReferWhoseApplicationFails(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		call, answered := letRefer(b, webhooktest.Status(500))
		answered.Refer("sip:1003@example.test", 202)
		answered.Notified(100, false)
		answered.ExpectByeWithin(500 * time.Millisecond) // the apology is for the caller alone
		answered.Notified(503, true)
		call.ExpectBye()
		contractKept(t, b)
	})
}

func TestCallerHangsUpWhileTheReferIsDecided(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		callee := b.Phone("1002")
		call := dialing(b, to1002, `,"refer":"/refer"`).Answered()
		b.App.Answer("/refer", `[{"verb":"pause","length":20}]`)
		answered := callee.Rings().Answer()
		b.Event(webhooks.EventCallBridged)
		answered.Refer("sip:1003@example.test", 202)
		call.HangUp()
		answered.ExpectBye()
		contractKept(t, b)
	})
}

func TestReferOfTheCallerHandsTheCalleeOver(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		call, answered := letRefer(b, `[]`)
		third := b.Phone("1003")
		call.Refer("sip:1003@"+edgeAddr.Addr().String(), 202)
		call.Notified(100, false)
		ringing := third.Rings()
		answered.Forget()
		answered.HearsTone(450)
		last := ringing.Answer()
		call.Notified(200, true)
		b.App.Expect("/done", "outcome", "referred", "ended_by", "caller")
		call.ExpectBye()
		answered.Forget()
		voice := Voice(1, time.Second)
		last.Talk(voice)
		b.Pass(1500 * time.Millisecond)
		if !bytes.Contains(answered.Heard(), voice) {
			t.Error("the callee does not hear the third")
		}
		last.HangUp()
		answered.ExpectBye()
		contractKept(t, b)
		b.Golden("refer-caller")
	})
}

func TestReferThatLeadsNowhereLeavesTheTwoTalking(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		call, answered := letRefer(b, `[]`)
		third := b.Phone("1003")
		call.Refer("sip:1003@"+edgeAddr.Addr().String(), 202)
		call.Notified(100, false)
		third.Called().Busy()
		call.Notified(486, true)
		call.Forget()
		voice := Voice(1, time.Second)
		answered.Talk(voice)
		b.Pass(1500 * time.Millisecond)
		if !bytes.Contains(call.Heard(), voice) {
			t.Error("the two do not hear each other again")
		}
		answered.HangUp()
		b.App.Expect("/done", "outcome", "completed", "ended_by", "callee")
		call.ExpectBye()
		contractKept(t, b)
	})
}

func TestPhoneThatHangsUpBehindItsReferIsNotMissed(t *testing.T) {
	for name, busy := range map[string]bool{"the target answers": false, "the target is busy": true} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				call, answered := letRefer(b, `[]`)
				third := b.Phone("1003")
				call.Refer("sip:1003@"+edgeAddr.Addr().String(), 202)
				ringing := third.Called()
				call.HangUp()
				b.App.Expect("/done", "outcome", "hangup")
				b.Pass(time.Second)
				if busy {
					ringing.Busy()
					answered.ExpectBye()
				} else {
					answered.Talking()
					ringing.Answer()
					b.Pass(time.Second)
					answered.HangUp()
					ringing.ExpectBye()
				}
				contractKept(t, b)
			})
		})
	}
}

func TestAttendedTransferJoinsTheTwoOthers(t *testing.T) {
	for name, onFirst := range map[string]bool{"REFER in the first call": true, "REFER in the second": false} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				// 1001 calls 1002, who calls 1003 by 2000 and connects the two.
				agent, third := b.Phone("1002"), b.Phone("1003")
				b.Program("2000", `[{"verb":"dial","to":[{"extension":"1003"}],"refer":"/x"}]`)
				customer := allowing(b, to1002, `[]`)
				first := agent.Rings().Answer()
				b.Event(webhooks.EventCallBridged)
				second := agent.DialWith("2000", Invite{}).Answered()
				last := third.Rings().Answer()
				b.Event(webhooks.EventCallBridged)
				if onFirst {
					first.Refer(Attended("sip:1003@"+Realm, second), 202)
					first.Notified(100, false)
					first.Notified(200, true)
				} else {
					second.Refer(Attended("sip:1001@"+Realm, first), 202)
					second.Notified(100, false)
					second.Notified(200, true)
				}
				first.ExpectBye()
				second.ExpectBye()
				customer.Forget()
				hello := Voice(1, time.Second)
				last.Talk(hello)
				b.Pass(1500 * time.Millisecond)
				if !bytes.Contains(customer.Heard(), hello) {
					t.Error("the customer does not hear the third")
				}
				last.HangUp()
				b.App.Expect("/done", "outcome", "completed", "target", "1003")
				customer.ExpectBye()
				contractKept(t, b)
				if onFirst {
					b.Golden("refer-attended")
				}
			})
		})
	}
}

func TestAttendedTransferOfTwoIncomingCalls(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		agent := b.Phone("1002")
		b.Program("2000", `[{"verb":"dial","to":[{"extension":"1002"}],"refer":"/x"}]`)
		one := allowing(b, to1002, `[]`)
		first := agent.Rings().Answer()
		other := b.Phone("1004").Dial("2000").Answered()
		second := agent.Rings().Answer()
		b.Pass(time.Second)
		first.Refer(Attended("sip:1004@"+Realm, second), 202)
		first.ExpectBye()
		second.ExpectBye()
		one.Forget()
		hello := Voice(1, time.Second)
		other.Talk(hello)
		b.Pass(1500 * time.Millisecond)
		if !bytes.Contains(one.Heard(), hello) {
			t.Error("the two callers do not hear each other")
		}
		other.HangUp()
		b.App.Expect("/done", "outcome", "completed", "target", "1004")
		one.ExpectBye()
		contractKept(t, b)
	})
}

func TestAttendedTransferOfSomebodyElsesCallIsDeclined(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		agent := b.Phone("1002")
		b.Phone("1003")
		b.Program("2000", `[{"verb":"dial","to":[{"extension":"1003"}],"refer":"/x"}]`)
		call := allowing(b, to1002, `[]`)
		first := agent.Rings().Answer()
		other := b.Phone("1004").Dial("2000").Answered()
		theirs := b.Phone("1003").Rings().Answer()
		b.Pass(time.Second)
		first.Refer(Attended("sip:1003@"+Realm, theirs), 603)
		first.HangUp()
		call.ExpectBye()
		other.HangUp()
		theirs.ExpectBye()
		contractKept(t, b)
	})
}

func TestInviteWithReplacesTakesThePlaceOfACall(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		callee := b.Phone("1002")
		b.Phone("1003")
		call := dialing(b, to1002, ``).Answered()
		answered := callee.Rings().Answer()
		b.Event(webhooks.EventCallBridged)
		b.Plane.OnRoute = knowingPhones
		taking := b.Phone("1003").DialWith("1002", Invite{Headers: []string{"Require: replaces", "Replaces: " + answered.Replaces()}}).Challenged().Answered()
		answered.ExpectBye()
		call.Forget()
		hello := Voice(1, time.Second)
		taking.Talk(hello)
		b.Pass(1500 * time.Millisecond)
		if !bytes.Contains(call.Heard(), hello) {
			t.Error("the caller does not hear who has taken the call")
		}
		call.HangUp()
		taking.ExpectBye()
		b.App.Expect("/done", "outcome", "hangup")
		contractKept(t, b)
		b.Golden("invite-replaces")
	})
}

// knowingPhones asks every phone for its password.
func knowingPhones(in control.Incoming) (control.Route, error) {
	if in.CredentialID == "" {
		return control.Route{}, &control.Error{Code: control.CodeChallenge, Realm: Realm, Message: "an extension"}
	}
	return control.Route{
		AccountID: Account, From: in.FromUser, To: in.ToUser, Dialed: in.ToUser, CredentialID: in.CredentialID, Language: "en",
		Application: control.Application{ID: "app_x", Program: new(webhooks.Program)},
	}, nil
}

func TestInviteWithReplacesThatFitsNothingIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		headers func(answered *Call) []string
		code    int
	}{
		"no such call": {func(*Call) []string { return []string{"Replaces: x;to-tag=1;from-tag=2"} }, 481},
		"a wrong tag":  {func(a *Call) []string { return []string{"Replaces: " + a.Replaces() + "x"} }, 481},
		"early only":   {func(a *Call) []string { return []string{"Replaces: " + a.Replaces() + ";early-only"} }, 486},
		"malformed":    {func(*Call) []string { return []string{"Replaces: x"} }, 400},
		"two of them":  {func(a *Call) []string { return []string{"Replaces: " + a.Replaces(), "Replaces: " + a.Replaces()} }, 400},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				call, answered := connected(b, ``)
				b.Plane.OnRoute = knowingPhones
				b.Phone("1003").DialWith("1002", Invite{Headers: c.headers(answered)}).Challenged().Expect(c.code)
				answered.Talking()
				call.HangUp()
				answered.ExpectBye()
				contractKept(t, b)
			})
		})
	}
}

func TestSecondReferWhileTheFirstIsMadeIsRefused(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		call, answered := letRefer(b, `[]`)
		third := b.Phone("1003")
		call.Refer("sip:1003@"+edgeAddr.Addr().String(), 202)
		call.Notified(100, false)
		ringing := third.Rings()
		call.Refer("sip:1004@"+edgeAddr.Addr().String(), 491)
		call.HangUp() // the one that is made goes on all the same
		last := ringing.Answer()
		b.App.ExpectAt("/done", "outcome", "hangup")
		b.Pass(time.Second)
		last.Talking()
		answered.HangUp()
		last.ExpectBye()
		contractKept(t, b)
	})
}

func TestHoldEndsWithARefer(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		callee, third := b.Phone("1002"), b.Phone("1003")
		call := allowing(b, to1002, `[{"verb":"dial","to":[{"extension":"1003"}]}]`)
		answered := callee.Rings().Answer()
		held := b.Event(webhooks.EventCallBridged).CallID
		if err := act(b, held, 1, func(a *control.Action) { a.Change.Op = &webhooks.OpHold{} }); err != nil {
			t.Fatal(err)
		}
		b.Pass(100 * time.Millisecond)
		answered.Refer("sip:1003@"+edgeAddr.Addr().String(), 202)
		last := third.Rings().Answer()
		answered.ExpectBye()
		call.Forget()
		voice := Voice(1, time.Second)
		last.Talk(voice)
		b.Pass(1500 * time.Millisecond)
		if !bytes.Contains(call.Heard(), voice) {
			t.Error("the caller does not hear the third")
		}
		last.HangUp()
		call.ExpectBye()
		contractKept(t, b)
	})
}
