package sip

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// dialed is the outcome of an Invite running in the background.
type dialed struct {
	d   *Dialog
	err error
}

func (st *stage) dial(ctx context.Context, change ...func(*InviteConfig)) <-chan dialed {
	c := InviteConfig{URI: "sip:1001@" + phoneAddr, From: Party{Display: "韩梅梅", User: "4000", Host: "example.com"},
		Body: []byte(sdpOffer)}
	for _, f := range change {
		f(&c)
	}
	out := make(chan dialed, 1)
	go func() {
		d, err := st.s.Invite(ctx, c)
		out <- dialed{d, err}
	}()
	return out
}

func TestCallByUs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		st := newStage(t, Handler{})
		defer st.close()
		p := st.phone
		var progress []int
		got := st.dial(context.Background(), func(c *InviteConfig) {
			c.OnProvisional = func(r *Response) { progress = append(progress, r.Code) }
			c.PAI = &Party{User: "+8610", Host: "example.com"}
			c.Headers = []Header{{"X-Call", "7"}}
		})
		inv := p.method(methodInvite)
		if inv.uri != "sip:1001@192.0.2.7:5060" || inv.from.party() != (Party{"韩梅梅", "4000", "example.com"}) ||
			inv.to.party().User != "1001" || inv.get("X-Call") != "7" || inv.get("P-Asserted-Identity") != "<sip:+8610@example.com>" ||
			inv.get("Content-Type") != "application/sdp" || inv.peer.String() != serverAddr {
			t.Errorf("INVITE %+v", inv)
		}
		p.answer(inv, 100, "")
		for range 12 {
			p.answer(inv, 183, "early")
		}
		p.answer(inv, 200, "answer", "Record-Route: <sip:192.0.2.7:5060;lr>", "X-Their: 1")
		ack := p.method(methodAck)
		if ack.uri != "sip:callee@192.0.2.7:5060" || ack.get("Route") != "<sip:192.0.2.7:5060;lr>" || ack.via.branch() == inv.via.branch() {
			t.Errorf("ACK %+v", ack)
		}
		r := <-got
		if r.err != nil {
			t.Fatal(r.err)
		}
		if len(progress) != 12 || string(r.d.Body()) != "answer" || r.d.Header("X-Their") != "1" || !r.d.Outbound() {
			t.Errorf("progress %v body %q", progress, r.d.Body())
		}
		p.send(string(inv.respond(200, p.tag).bytes())) // the ACK was lost
		p.method(methodAck)
		if err := r.d.Provisional(180, nil); !errors.Is(err, ErrState) {
			t.Errorf("180 on a call of ours: %v", err)
		}
		// The callee hangs up.
		p.callID, p.toTag = inv.callID, inv.from.tag()
		p.send(p.request(methodBye, "b", ""))
		p.code(200)
		if err := causeSoon(t, r.d); !errors.Is(err, ErrRemoteBye) {
			t.Error(err)
		}
	})
}

func TestInviteRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		st := newStage(t, Handler{})
		defer st.close()
		p := st.phone
		got := st.dial(context.Background())
		inv := p.method(methodInvite)
		p.answer(inv, 486, "", "X-Why: lunch")
		if ack := p.method(methodAck); ack.via.branch() != inv.via.branch() || ack.to.tag() != p.tag || ack.seq != inv.seq {
			t.Errorf("ACK %+v", ack)
		}
		at := time.Now()
		p.answer(inv, 486, "") // our ACK was lost
		p.method(methodAck)
		if time.Since(at) != 0 {
			t.Errorf("repeated ACK after %v", time.Since(at))
		}
		r := <-got
		var rej *RejectedError
		if !errors.As(r.err, &rej) || rej.Code != 486 || rej.Reason != "Busy Here" || rej.Response.Header("x-why") != "lunch" {
			t.Errorf("error %v", r.err)
		}
	})
}

func TestInviteWithoutAnyAnswerTimesOut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		st := newStage(t, Handler{})
		defer st.close()
		start := time.Now()
		r := <-st.dial(context.Background())
		if !errors.Is(r.err, ErrTimeout) || time.Since(start) != 32*time.Second {
			t.Errorf("%v after %v", r.err, time.Since(start))
		}
		for range 7 { // 0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5 s
			st.phone.method(methodInvite)
		}
		if len(st.phone.got) != 0 {
			t.Error("more than seven INVITEs")
		}
	})
}

func TestCancelByUs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		st := newStage(t, Handler{})
		defer st.close()
		p := st.phone
		ctx, cancel := context.WithCancel(context.Background())
		got := st.dial(ctx)
		inv := p.method(methodInvite)
		p.answer(inv, 180, "")
		synctest.Wait()
		cancel()
		if r := <-got; !errors.Is(r.err, ErrCanceled) {
			t.Errorf("error %v", r.err)
		}
		c := p.method(methodCancel)
		if c.via.branch() != inv.via.branch() || c.seq != inv.seq || c.to.tag() != "" {
			t.Errorf("CANCEL %+v", c)
		}
		p.answer(c, 200, "")
		p.answer(inv, 487, "")
		p.method(methodAck)
	})
}

func TestCancelWaitsForProgress(t *testing.T) {
	bubble(t, func(t *testing.T) {
		st := newStage(t, Handler{})
		defer st.close()
		p := st.phone
		ctx, cancel := context.WithCancel(context.Background())
		got := st.dial(ctx)
		inv := p.method(methodInvite)
		cancel()
		<-got
		synctest.Wait()
		if len(p.got) != 0 {
			t.Error("CANCEL before any response")
		}
		p.answer(inv, 100, "")
		p.answer(p.method(methodCancel), 200, "")
		p.answer(inv, 487, "")
		p.method(methodAck)
	})
}

func TestServerEndCancelsRingingCalls(t *testing.T) {
	bubble(t, func(t *testing.T) {
		st := newStage(t, Handler{})
		p := st.phone
		got := st.dial(context.Background())
		inv := p.method(methodInvite)
		p.answer(inv, 180, "")
		synctest.Wait()
		done := make(chan struct{})
		go func() {
			defer close(done)
			p.method(methodCancel)
		}()
		st.cancel()
		<-done
		st.close()
		if r := <-got; !errors.Is(r.err, ErrCanceled) || !errors.Is(r.err, ErrClosed) {
			t.Errorf("error %v", r.err)
		}
		if r := <-st.dial(context.Background()); !errors.Is(r.err, ErrClosed) {
			t.Errorf("after the end: %v", r.err)
		}
	})
}

func TestAnswerThatCrossesCancelIsEnded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		st := newStage(t, Handler{})
		defer st.close()
		p := st.phone
		ctx, cancel := context.WithCancel(context.Background())
		got := st.dial(ctx)
		inv := p.method(methodInvite)
		p.answer(inv, 180, "")
		synctest.Wait()
		cancel()
		if r := <-got; !errors.Is(r.err, ErrCanceled) || r.d != nil {
			t.Errorf("error %v", r.err)
		}
		p.answer(inv, 200, "answer")
		p.answer(p.method(methodCancel), 481, "")
		if ack := p.method(methodAck); ack.seq != inv.seq {
			t.Errorf("ACK %+v", ack)
		}
		bye := p.method(methodBye)
		if bye.to.tag() != p.tag || bye.seq != inv.seq+1 {
			t.Errorf("BYE %+v", bye)
		}
		p.answer(bye, 200, "")
	})
}

func TestForkedAnswerIsEnded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		st := newStage(t, Handler{})
		defer st.close()
		p := st.phone
		got := st.dial(context.Background())
		inv := p.method(methodInvite)
		first := p.tag
		p.answer(inv, 200, "first")
		p.method(methodAck)
		r := <-got
		p.tag = "other-fork"
		for range 2 { // the second is a retransmission
			p.answer(inv, 200, "second")
		}
		ack := p.method(methodAck)
		bye := p.method(methodBye)
		if ack.to.tag() != "other-fork" || bye.to.tag() != "other-fork" {
			t.Errorf("ACK to %s, BYE to %s", ack.to.tag(), bye.to.tag())
		}
		p.answer(bye, 200, "")
		synctest.Wait()
		if err := r.d.Context().Err(); err != nil || st.s.Counters().Orphans != 1 {
			t.Errorf("first dialog %v, %d orphans", err, st.s.Counters().Orphans)
		}
		p.tag = first
		go sayBye(t, r.d)
		p.answer(p.method(methodBye), 200, "")
	})
}

func TestOurGlareWaitIsTheLongOne(t *testing.T) {
	bubble(t, func(t *testing.T) {
		st := newStage(t, Handler{})
		defer st.close()
		p := st.phone
		got := st.dial(context.Background())
		p.answer(p.method(methodInvite), 200, "x")
		p.method(methodAck)
		d := (<-got).d
		done := make(chan error, 1)
		go func() {
			_, err := d.Reinvite(context.Background(), []byte("ours"))
			done <- err
		}()
		p.answer(p.method(methodInvite), 491, "")
		p.method(methodAck)
		at := time.Now()
		again := p.method(methodInvite)
		if wait := time.Since(at); wait < 2100*time.Millisecond || wait > 4*time.Second {
			t.Errorf("the side with the Call-ID waited %v", wait)
		}
		p.answer(again, 200, "y")
		p.method(methodAck)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestReinviteCanceledByContext(t *testing.T) {
	bubble(t, func(t *testing.T) {
		st := newStage(t, Handler{})
		defer st.close()
		p := st.phone
		got := st.dial(context.Background())
		p.answer(p.method(methodInvite), 200, "x")
		p.method(methodAck)
		d := (<-got).d
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		done := make(chan error, 1)
		go func() {
			_, err := d.Reinvite(ctx, []byte("ours"))
			done <- err
		}()
		inv := p.method(methodInvite)
		p.answer(inv, 100, "")
		if err := <-done; !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		p.answer(p.method(methodCancel), 200, "")
		p.answer(inv, 200, "y") // crossed
		if ack := p.method(methodAck); ack.seq != inv.seq {
			t.Errorf("ACK %+v", ack)
		}
		if d.Context().Err() != nil {
			t.Error("the call ended")
		}
	})
}

func TestPeerBehindNATIsCalledWhereItIs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		st := newStage(t, Handler{})
		defer st.close()
		p := st.phone
		got := st.dial(context.Background(), func(c *InviteConfig) {
			c.URI = "sip:1001@10.1.1.5:5062"
			c.Destination = netip.MustParseAddrPort(phoneAddr)
		})
		inv := p.method(methodInvite)
		if inv.uri != "sip:1001@10.1.1.5:5062" {
			t.Errorf("uri %s", inv.uri)
		}
		res := inv.respond(200, p.tag)
		res.add("Contact", "<sip:1001@10.1.1.5:5062;line=7>")
		p.send(string(res.bytes()))
		if ack := p.method(methodAck); ack.uri != "sip:1001@10.1.1.5:5062;line=7" {
			t.Errorf("ACK %s", ack.uri)
		}
		d := (<-got).d
		go sayBye(t, d)
		p.answer(p.method(methodBye), 200, "")
	})
}

func TestInviteResolvesNames(t *testing.T) {
	bubble(t, func(t *testing.T) {
		st := newStage(t, Handler{}, func(c *Config) {
			c.Resolve = func(_ context.Context, host string) ([]netip.Addr, error) {
				if host != "trunk.example.com" {
					return nil, errors.New("no such host")
				}
				return []netip.Addr{netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("192.0.2.7")}, nil
			}
		})
		defer st.close()
		got := st.dial(context.Background(), func(c *InviteConfig) { c.URI = "sip:1@trunk.example.com" })
		st.phone.answer(st.phone.method(methodInvite), 404, "")
		st.phone.method(methodAck)
		<-got
		r := <-st.dial(context.Background(), func(c *InviteConfig) { c.URI = "sip:1@nowhere.example.com" })
		if !errors.Is(r.err, ErrTransport) {
			t.Error(r.err)
		}
	})
}

func TestInviteRefusesUnsafeValues(t *testing.T) {
	bubble(t, func(t *testing.T) {
		st := newStage(t, Handler{})
		defer st.close()
		for name, change := range map[string]func(*InviteConfig){
			"uri":       func(c *InviteConfig) { c.URI = "sip:1@192.0.2.7\r\nX: y" },
			"no scheme": func(c *InviteConfig) { c.URI = "1001" },
			"from host": func(c *InviteConfig) { c.From.Host = "a\r\nX: y" },
			"header":    func(c *InviteConfig) { c.Headers = []Header{{"X-A", "b\r\nX: y"}} },
			"name":      func(c *InviteConfig) { c.Headers = []Header{{"X-A: 1\r\nX", "b"}} },
			"via":       func(c *InviteConfig) { c.Headers = []Header{{"Via", "b"}} },
			"route":     func(c *InviteConfig) { c.Route = []string{"<sip:a\r\nX: y>"} },
			"pai":       func(c *InviteConfig) { c.PAI = &Party{User: "1", Host: "a b"} },
			"transport": func(c *InviteConfig) { c.Transport = "sctp" },
		} {
			if r := <-st.dial(context.Background(), change); r.err == nil {
				t.Errorf("%s: accepted", name)
			}
		}
		got := st.dial(context.Background(), func(c *InviteConfig) {
			c.From = Party{Display: "a\r\nX: \"y", User: "u\r\nX: y", Host: "example.com"}
		})
		inv := st.phone.method(methodInvite)
		if inv.get("X") != "" || inv.from.display != "aX: \"y" || inv.from.party().User != "u%0D%0AX%3A%20y" {
			t.Errorf("from %+v", inv.from)
		}
		st.phone.answer(inv, 404, "")
		st.phone.method(methodAck)
		<-got
	})
}

const md5Challenge = `Digest realm="trunk", nonce="abc", algorithm=MD5, qop="auth,auth-int", opaque="o"`

func TestTrunkChallengeIsAnswered(t *testing.T) {
	for _, alg := range []string{MD5, SHA256} {
		t.Run(alg, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				st := newStage(t, Handler{})
				defer st.close()
				p := st.phone
				got := st.dial(context.Background(), func(c *InviteConfig) {
					c.Auth = &Credentials{Username: "user", Password: "secret"}
				})
				inv := p.method(methodInvite)
				challenges := []string{"Proxy-Authenticate: " + md5Challenge}
				if alg == SHA256 {
					challenges = append(challenges, "Proxy-Authenticate: "+strings.Replace(md5Challenge, "MD5", SHA256, 1))
				}
				p.answer(inv, 407, "", challenges...)
				p.method(methodAck)
				again := p.method(methodInvite)
				checkDigest(t, again, "Proxy-Authorization", alg)
				if again.seq != inv.seq+1 || again.callID != inv.callID || again.from.tag() != inv.from.tag() ||
					again.via.branch() == inv.via.branch() || again.to.tag() != "" {
					t.Errorf("second INVITE %+v", again)
				}
				p.answer(again, 200, "x")
				if ack := p.method(methodAck); ack.get("Proxy-Authorization") == "" {
					t.Error("ACK without credentials")
				}
				d := (<-got).d
				go sayBye(t, d)
				bye := p.method(methodBye)
				p.answer(bye, 407, "", challenges...)
				bye = p.method(methodBye)
				checkDigest(t, bye, "Proxy-Authorization", alg)
				p.answer(bye, 200, "")
			})
		})
	}
}

func checkDigest(t *testing.T, m *message, header, alg string) {
	t.Helper()
	a, err := ParseAuthorization(m.get(header))
	if err != nil {
		t.Fatalf("%s: %v", m.get(header), err)
	}
	if a.Algorithm != alg || a.URI != m.uri || a.Response != a.response(m.method, HA1(alg, "user", "trunk", "secret")) {
		t.Errorf("credentials %+v", a)
	}
}

func TestWrongTrunkPasswordIsTriedOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		st := newStage(t, Handler{})
		defer st.close()
		p := st.phone
		got := st.dial(context.Background(), func(c *InviteConfig) {
			c.Auth = &Credentials{Username: "user", Password: "wrong"}
		})
		for range 2 {
			p.answer(p.method(methodInvite), 401, "", "WWW-Authenticate: "+md5Challenge)
			p.method(methodAck)
		}
		var rej *RejectedError
		if r := <-got; !errors.As(r.err, &rej) || rej.Code != 401 {
			t.Error(r.err)
		}
	})
}

// A peer must not get a digest by challenging a request in a call it made, in another realm, or one of our calls that has
// no credentials.
func TestChallengesThatGetNoDigest(t *testing.T) {
	bubble(t, func(t *testing.T) {
		dialogs := make(chan *Dialog, 1)
		st := newStage(t, answering(dialogs, nil))
		defer st.close()
		p := st.phone
		p.call()
		d := <-dialogs
		d.auth = &Credentials{Username: "user", Password: "secret"} // as if somebody had set them
		go sayBye(t, d)
		p.answer(p.method(methodBye), 401, "", "WWW-Authenticate: "+md5Challenge)
		if m := p.quiet(); m != nil {
			t.Errorf("after the challenge: %s %s", m.method, m.get("Authorization"))
		}
		for name, auth := range map[string]*Credentials{
			"realm": {Username: "user", Password: "secret", Realm: "mine"}, "none": nil,
		} {
			got := st.dial(context.Background(), func(c *InviteConfig) { c.Auth = auth })
			p.answer(p.method(methodInvite), 401, "", "WWW-Authenticate: "+md5Challenge)
			p.method(methodAck)
			if m := p.quiet(); m != nil {
				t.Errorf("%s: %s", name, m.method)
			}
			<-got
		}
	})
}

func TestCancelSaysThatTheCallWasAnsweredElsewhere(t *testing.T) {
	for _, c := range []struct {
		name     string
		cause    error
		progress bool // a provisional response came before the end
		reason   string
	}{
		{"elsewhere", ErrElsewhere, true, `SIP;cause=200;text="Call completed elsewhere"`},
		{"wrapped", fmt.Errorf("fork: %w", ErrElsewhere), true, `SIP;cause=200;text="Call completed elsewhere"`},
		{"before any response", ErrElsewhere, false, `SIP;cause=200;text="Call completed elsewhere"`},
		{"for another cause", errors.New("no answer"), true, ""},
		{"without a cause", nil, true, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				st := newStage(t, Handler{})
				defer st.close()
				p := st.phone
				ctx, cancel := context.WithCancelCause(context.Background())
				got := st.dial(ctx)
				inv := p.method(methodInvite)
				if c.progress {
					p.answer(inv, 180, "")
					synctest.Wait()
				}
				cancel(c.cause)
				if r := <-got; !errors.Is(r.err, ErrCanceled) || c.cause != nil && !errors.Is(r.err, c.cause) {
					t.Errorf("error %v", r.err)
				}
				if !c.progress {
					p.answer(inv, 180, "")
				}
				m := p.method(methodCancel)
				if reason := m.get("Reason"); reason != c.reason {
					t.Errorf("Reason %q", reason)
				}
				p.answer(m, 200, "")
				p.answer(inv, 487, "")
				p.method(methodAck)
			})
		})
	}
}
