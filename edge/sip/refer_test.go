package sip

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// notify renders a NOTIFY of the phone.
func (p *phone) notify(branch, event, state, fragment string) string {
	raw := p.request(methodNotify, branch, fragment, "Event: "+event, "Subscription-State: "+state)
	return strings.Replace(raw, "application/sdp", "message/sipfrag;version=2.0", 1)
}

func TestReferOfThePeer(t *testing.T) {
	for name, c := range map[string]struct {
		headers []string
		accept  int
		code    int
		to      string
	}{
		"accepted":            {[]string{"Refer-To: <sip:1003@example.com>"}, 202, 202, "sip:1003@example.com"},
		"to a number":         {[]string{"Refer-To: <tel:+862368925278>"}, 202, 202, "tel:+862368925278"},
		"declined":            {[]string{"Refer-To: <sip:1003@example.com>"}, 603, 603, "sip:1003@example.com"},
		"without a target":    {nil, 202, 400, ""},
		"with two":            {[]string{"Refer-To: <sip:a@b.c>", "Refer-To: <sip:d@b.c>"}, 202, 400, ""},
		"to another scheme":   {[]string{"Refer-To: <mailto:a@b.c>"}, 202, 416, ""},
		"of another method":   {[]string{"Refer-To: <sip:a@b.c;method=BYE>"}, 202, 603, ""},
		"that is unreadable":  {[]string{"Refer-To: <sip:a@b.c"}, 202, 400, ""},
		"with bad Replaces":   {[]string{"Refer-To: <sip:a@b.c?Replaces=x>"}, 202, 400, ""},
		"with Replaces":       {[]string{"Refer-To: <sip:a@b.c?Replaces=x%40y%3Bto-tag%3D1%3Bfrom-tag%3D2>"}, 202, 202, "sip:a@b.c x@y 1 2"},
		"with a known option": {[]string{"Refer-To: <sip:a@b.c>", "Require: norefersub"}, 202, 202, "sip:a@b.c"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				got := ""
				dialogs := make(chan *Dialog, 1)
				st := newStage(t, answering(dialogs, func(d *Dialog) {
					d.OnRefer(func(r *Referral) int {
						got = r.To.String()
						if r.Replaces != nil {
							got = fmt.Sprintln(got, r.Replaces.SIPCallID, r.Replaces.ToTag, r.Replaces.FromTag)
						}
						return c.accept
					})
				}))
				defer st.close()
				p := st.phone
				p.call()
				<-dialogs
				p.seq++
				p.send(p.request(methodRefer, "refer", "", c.headers...))
				p.code(c.code)
				if strings.TrimSpace(got) != c.to {
					t.Errorf("was told %q, expected %q", got, c.to)
				}
				if c.code == 202 {
					first := p.method(methodNotify)
					if string(first.body) != "SIP/2.0 100 Trying\r\n" || first.get("Event") != "refer;id=2" || !strings.HasPrefix(first.get("Subscription-State"), "active") {
						t.Errorf("NOTIFY %q of %s, %s", first.body, first.get("Event"), first.get("Subscription-State"))
					}
					p.answer(first, 200, "")
				}
			})
		})
	}
}

func TestReferIsDeclinedWhereNobodyTakesIt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		dialogs := make(chan *Dialog, 1)
		st := newStage(t, answering(dialogs, nil))
		defer st.close()
		p := st.phone
		p.call()
		<-dialogs
		p.seq++
		p.send(p.request(methodRefer, "refer", "", "Refer-To: <sip:1003@example.com>"))
		p.code(603)
	})
}

func TestReferOutsideACallIsRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		st := newStage(t, Handler{})
		defer st.close()
		p := st.phone
		p.send(p.request(methodRefer, "1", "", "Refer-To: <sip:1003@example.com>"))
		p.code(403)
		p.seq++
		p.send(p.notify("2", "refer", "active", "SIP/2.0 200 OK\r\n"))
		p.code(481)
	})
}

func TestNotifiesAreInOrderAndEndWithTheLast(t *testing.T) {
	for name, late := range map[string]bool{"answered at once": false, "the first is answered late": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				referrals := make(chan *Referral, 1)
				dialogs := make(chan *Dialog, 1)
				st := newStage(t, answering(dialogs, func(d *Dialog) {
					d.OnRefer(func(r *Referral) int { referrals <- r; return 202 })
				}))
				defer st.close()
				p := st.phone
				p.call()
				<-dialogs
				p.seq++
				p.send(p.request(methodRefer, "refer", "", "Refer-To: <sip:1003@example.com>"))
				p.code(202)
				r := <-referrals
				told := make(chan error, 2)
				go func() {
					told <- r.Notify(context.Background(), 180, false)
					told <- r.Notify(context.Background(), 486, true)
				}()
				first := p.method(methodNotify)
				if late {
					pass(300 * time.Millisecond)
				}
				p.answer(first, 200, "")
				for _, want := range []string{"SIP/2.0 180 Ringing\r\n", "SIP/2.0 486 Busy Here\r\n"} {
					m := p.method(methodNotify)
					if string(m.body) != want || strings.HasPrefix(m.get("Subscription-State"), "terminated") != strings.Contains(want, "486") {
						t.Errorf("NOTIFY %q, %s; expected %q", m.body, m.get("Subscription-State"), want)
					}
					p.answer(m, 200, "")
					if err := <-told; err != nil {
						t.Error(err)
					}
				}
				if err := r.Notify(context.Background(), 200, true); err != nil {
					t.Errorf("after the last: %v", err)
				}
			})
		})
	}
}

func TestPeerThatWantsNoNotifyGetsNone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		referrals := make(chan *Referral, 1)
		dialogs := make(chan *Dialog, 1)
		st := newStage(t, answering(dialogs, func(d *Dialog) {
			d.OnRefer(func(r *Referral) int { referrals <- r; return 202 })
		}))
		defer st.close()
		p := st.phone
		p.call()
		<-dialogs
		p.seq++
		p.send(p.request(methodRefer, "refer", "", "Refer-To: <sip:1003@example.com>", "Refer-Sub: false"))
		if m := p.code(202); m.get("Refer-Sub") != "false" {
			t.Errorf("Refer-Sub: %s", m.get("Refer-Sub"))
		}
		if err := (<-referrals).Notify(context.Background(), 200, true); err != nil {
			t.Error(err)
		}
		if m := p.quiet(); m != nil {
			t.Errorf("got %s", m.method)
		}
	})
}

func TestReferOfOurs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		dialogs := make(chan *Dialog, 1)
		st := newStage(t, answering(dialogs, nil))
		defer st.close()
		p := st.phone
		p.call()
		d := <-dialogs
		type result struct {
			sub *Subscription
			err error
		}
		results := make(chan result, 1)
		refer := func(to string) {
			go func() {
				sub, err := d.Refer(context.Background(), to, Header{"X-Why", "test"})
				results <- result{sub, err}
			}()
		}
		refer("sip:1003@example.com?X-a=1")
		m := p.method(methodRefer)
		if m.get("Refer-To") != "<sip:1003@example.com?X-a=1>" || m.get("Referred-By") == "" || m.get("X-Why") != "test" || m.get("Contact") == "" {
			t.Errorf("REFER %v", m.headers)
		}
		// A NOTIFY may overtake the response.
		p.seq++
		p.send(p.notify("n1", "refer", "active;expires=60", "SIP/2.0 100 Trying\r\n"))
		p.code(200)
		p.answer(m, 202, "")
		got := <-results
		if got.err != nil || got.sub.Code != 202 || got.sub.Quiet {
			t.Fatalf("%+v", got)
		}
		p.seq++
		p.send(p.notify("n2", fmt.Sprintf("refer;id=%d", m.seq), "terminated;reason=noresource", "SIP/2.0 486 Busy Here\r\n"))
		p.code(200)
		if a, b := <-got.sub.C, <-got.sub.C; a != (Progress{100, false}) || b != (Progress{486, true}) {
			t.Errorf("told %v and %v", a, b)
		}
		p.seq++
		p.send(p.notify("n3", "refer", "active", "SIP/2.0 200 OK\r\n"))
		p.code(481) // the subscription is over
		p.seq++
		p.send(p.notify("n4", "presence", "active", "x"))
		p.code(489)

		refer("tel:112")
		p.answer(p.method(methodRefer), 603, "")
		var rejected *RejectedError
		if got := <-results; !errors.As(got.err, &rejected) || rejected.Code != 603 {
			t.Errorf("refused with %v", got.err)
		}
		for _, to := range []string{"1003", "sip:a@b.c>;x", "sip:a@b.c\r\nX: y", ""} {
			if _, err := d.Refer(context.Background(), to); err == nil {
				t.Errorf("%q was taken", to)
			}
		}
	})
}

func TestReplacesNamesOneDialog(t *testing.T) {
	bubble(t, func(t *testing.T) {
		dialogs := make(chan *Dialog, 1)
		st := newStage(t, answering(dialogs, nil))
		defer st.close()
		p := st.phone
		p.call()
		d := <-dialogs
		for value, want := range map[string]bool{
			p.callID + ";to-tag=" + p.toTag + ";from-tag=" + p.tag:                 true,
			p.callID + " ; from-tag = " + p.tag + ";to-tag=" + p.toTag:             true,
			p.callID + ";to-tag=" + p.toTag + ";from-tag=" + p.tag + ";early-only": true,
			p.callID + ";to-tag=" + p.tag + ";from-tag=" + p.toTag:                 false,
			"x;to-tag=" + p.toTag + ";from-tag=" + p.tag:                           false,
		} {
			r, err := ParseReplaces(value)
			if err != nil || r.Names(d) != want || want && r.DialogID() != d.ID() || r.EarlyOnly != strings.Contains(value, "early-only") {
				t.Errorf("%s: %+v, %v", value, r, err)
			}
		}
		for _, value := range []string{"", "x", "x;to-tag=1", ";to-tag=1;from-tag=2", "x;to-tag=1;from-tag=2\r\n", strings.Repeat("x", 600) + ";to-tag=1;from-tag=2"} {
			if r, err := ParseReplaces(value); err == nil {
				t.Errorf("%q was read as %+v", value, r)
			}
		}
	})
}

func FuzzReferral(f *testing.F) {
	for _, to := range []string{
		"<sip:a@b.c?Replaces=x%40y%3Bto-tag%3D1%3Bfrom-tag%3D2>", "<tel:+1>", "sip:a@b.c", "<sip:a@b.c?replaces=%zz&Replaces=1>", "<mailto:a@b>", "\"x\" <sip:@>",
	} {
		f.Add(to, "SIP/2.0 200 OK\r\n", "refer;id=1")
	}
	f.Fuzz(func(t *testing.T, to, fragment, event string) {
		m := &message{method: methodRefer, seq: 1, body: []byte(fragment)}
		m.add("Refer-To", to)
		m.add("Event", event)
		m.add("Content-Type", "message/sipfrag")
		r, code := new(Dialog).readRefer(m)
		if (r == nil) == (code == 0) {
			t.Fatalf("%q: %+v and %d", to, r, code)
		}
		if r != nil {
			if _, err := ParseURI(r.To.String()); err != nil {
				t.Fatalf("%q gave %q", to, r.To)
			}
		}
		if code := fragmentCode(m); code != 0 && (code < 100 || code > 699) {
			t.Fatalf("%q gave %d", fragment, code)
		}
	})
}
