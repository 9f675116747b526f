package sip

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// answering is a handler that answers every call and then waits for its end.
func answering(dialogs chan<- *Dialog, set func(*Dialog)) Handler {
	return Handler{Invite: func(ctx context.Context, d *Dialog) {
		if set != nil {
			set(d)
		}
		err := d.Answer(ctx, []byte(sdpOffer))
		dialogs <- d
		if err == nil {
			<-ctx.Done()
		}
	}}
}

func TestCallAnsweredAndEndedByCaller(t *testing.T) {
	bubble(t, func(t *testing.T) {
		dialogs := make(chan *Dialog, 1)
		st := newStage(t, answering(dialogs, nil))
		defer st.close()
		p := st.phone
		p.send(p.request(methodInvite, "1", sdpOffer))
		p.code(100)
		ok := p.code(200)
		if got := string(ok.body); got != sdpOffer {
			t.Errorf("answer %q", got)
		}
		if got := ok.get("Contact"); got != "<sip:service@192.0.2.1:5060>" {
			t.Errorf("contact %s", got)
		}
		p.send(p.request(methodAck, "2", ""))
		d := <-dialogs
		if d.From() != (Party{"Li Lei", "1001", "example.com"}) || d.To().User != "service" || d.Outbound() {
			t.Errorf("from %v to %v", d.From(), d.To())
		}
		if string(d.Body()) != sdpOffer || d.ContentType() != "application/sdp" || d.RemoteAddr().String() != phoneAddr {
			t.Errorf("body %q from %s", d.Body(), d.RemoteAddr())
		}
		p.seq++
		p.send(p.request(methodBye, "3", ""))
		p.code(200)
		if err := causeSoon(t, d); !errors.Is(err, ErrRemoteBye) {
			t.Errorf("cause %v", err)
		}
		if err := d.Bye(context.Background()); err != nil {
			t.Errorf("bye after bye: %v", err)
		}
	})
}

func TestCallEndedByUs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ended := make(chan error, 1)
		st := newStage(t, Handler{Invite: func(ctx context.Context, d *Dialog) {
			if err := d.Answer(ctx, nil); err != nil {
				t.Error(err)
			}
			ended <- d.Bye(ctx, Header{"Reason", "Q.850;cause=16"})
		}})
		defer st.close()
		p := st.phone
		p.call()
		bye := p.method(methodBye)
		if bye.uri != "sip:1001@192.0.2.7:5060" || bye.get("Reason") == "" || bye.to.tag() != p.tag || bye.from.tag() != p.toTag {
			t.Errorf("bye %+v", bye)
		}
		if bye.peer.String() != serverAddr || bye.via.host != "192.0.2.1" {
			t.Errorf("bye from %s via %v", bye.peer, bye.via)
		}
		p.answer(bye, 200, "")
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestHandlerThatReturnsEndsTheCall(t *testing.T) {
	bubble(t, func(t *testing.T) {
		answer := true
		st := newStage(t, Handler{Invite: func(ctx context.Context, d *Dialog) {
			if answer {
				if err := d.Answer(ctx, nil); err != nil {
					t.Error(err)
				}
			}
		}})
		defer st.close()
		p := st.phone
		p.call()
		p.answer(p.method(methodBye), 200, "")
		synctest.Wait()
		answer = false
		p.callID, p.toTag = "other", ""
		p.send(p.request(methodInvite, "9", sdpOffer))
		p.code(500)
	})
}

func TestCancelBeforeAnswer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		dialogs := make(chan *Dialog, 1)
		st := newStage(t, Handler{Invite: func(ctx context.Context, d *Dialog) {
			if err := d.Provisional(180, nil); err != nil {
				t.Error(err)
			}
			<-ctx.Done()
			if err := d.Answer(context.Background(), nil); !errors.Is(err, ErrCanceled) {
				t.Errorf("answer after cancel: %v", err)
			}
			dialogs <- d
		}})
		defer st.close()
		p := st.phone
		p.send(p.request(methodInvite, "1", sdpOffer))
		ringing := p.code(180)
		p.toTag = ""
		p.send(p.request(methodCancel, "1", ""))
		if ok := p.code(200); ok.seqFor != methodCancel {
			t.Errorf("200 for %s", ok.seqFor)
		}
		terminated := p.code(487)
		if terminated.to.tag() != ringing.to.tag() {
			t.Error("487 has another tag than 180")
		}
		p.toTag = terminated.to.tag()
		p.send(p.request(methodAck, "1", ""))
		if err := causeSoon(t, <-dialogs); !errors.Is(err, ErrCanceled) {
			t.Errorf("cause %v", err)
		}
		if m := p.quiet(); m != nil {
			t.Errorf("after ACK: %d %s", m.code, m.method)
		}
	})
}

// quiet is the first message within a minute, nil when there is none.
func (p *phone) quiet() *message {
	select {
	case m := <-p.got:
		return m
	case <-time.After(time.Minute):
		return nil
	}
}

func TestCancelAfterAnswerHasNoEffect(t *testing.T) {
	bubble(t, func(t *testing.T) {
		dialogs := make(chan *Dialog, 1)
		st := newStage(t, answering(dialogs, nil))
		defer st.close()
		p := st.phone
		p.send(p.request(methodInvite, "1", sdpOffer))
		p.code(200)
		tag := p.toTag
		p.toTag = ""
		p.send(p.request(methodCancel, "1", ""))
		if ok := p.code(200); ok.seqFor != methodCancel {
			t.Errorf("200 for %s", ok.seqFor)
		}
		p.toTag = tag
		p.send(p.request(methodAck, "2", ""))
		d := <-dialogs
		synctest.Wait()
		if err := d.Context().Err(); err != nil {
			t.Errorf("dialog ended: %v", context.Cause(d.Context()))
		}
	})
}

func TestCancelOfNothingIs481(t *testing.T) {
	bubble(t, func(t *testing.T) {
		st := newStage(t, Handler{})
		defer st.close()
		st.phone.send(st.phone.request(methodCancel, "1", ""))
		st.phone.code(481)
	})
}

func TestAnswerIsRepeatedUntilAck(t *testing.T) {
	bubble(t, func(t *testing.T) {
		dialogs := make(chan *Dialog, 1)
		st := newStage(t, answering(dialogs, nil))
		defer st.close()
		p := st.phone
		start := time.Now()
		p.send(p.request(methodInvite, "1", sdpOffer))
		var at []time.Duration
		for range 6 {
			p.code(200)
			at = append(at, time.Since(start))
		}
		want := []time.Duration{0, 500, 1500, 3500, 7500, 11500}
		for i := range want {
			want[i] *= time.Millisecond
		}
		if !slices.Equal(at, want) {
			t.Errorf("200 sent at %v, want %v", at, want)
		}
		p.send(p.request(methodAck, "2", ""))
		<-dialogs
		if m := p.quiet(); m != nil {
			t.Errorf("after ACK: %d %s", m.code, m.method)
		}
	})
}

func TestLostAckEndsWithBye(t *testing.T) {
	bubble(t, func(t *testing.T) {
		result := make(chan error, 1)
		st := newStage(t, Handler{Invite: func(ctx context.Context, d *Dialog) { result <- d.Answer(ctx, nil) }})
		defer st.close()
		p := st.phone
		start := time.Now()
		p.send(p.request(methodInvite, "1", sdpOffer))
		p.code(100)
		var m *message
		for m = p.next(); m.code == 200; m = p.next() {
		}
		if m.method != methodBye || time.Since(start) != 32*time.Second {
			t.Errorf("%s %d after %v", m.method, m.code, time.Since(start))
		}
		p.answer(m, 200, "")
		if err := <-result; !errors.Is(err, ErrNoACK) {
			t.Errorf("answer: %v", err)
		}
	})
}

func TestRetransmittedInviteIsOneCall(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var calls sync.Map
		n := 0
		st := newStage(t, Handler{Invite: func(ctx context.Context, d *Dialog) {
			n++
			calls.Store(d.ID(), true)
			if err := d.Provisional(180, nil); err != nil {
				t.Error(err)
			}
			<-ctx.Done()
		}})
		defer st.close()
		p := st.phone
		for range 4 {
			p.send(p.request(methodInvite, "1", sdpOffer))
			synctest.Wait()
		}
		for range 4 { // the first, then one per retransmission
			p.code(180)
		}
		if n != 1 {
			t.Errorf("%d calls", n)
		}
	})
}

func TestManyProvisionalResponses(t *testing.T) {
	bubble(t, func(t *testing.T) {
		st := newStage(t, Handler{Invite: func(ctx context.Context, d *Dialog) {
			for range 14 {
				if err := d.Provisional(183, []byte(sdpOffer)); err != nil {
					t.Error(err)
				}
			}
			if err := d.Reject(486, Header{"Retry-After", "60"}); err != nil {
				t.Error(err)
			}
			var r *RejectedError
			if !errors.As(context.Cause(ctx), &r) || r.Code != 486 {
				t.Errorf("cause %v", context.Cause(ctx))
			}
		}})
		defer st.close()
		p := st.phone
		p.send(p.request(methodInvite, "1", sdpOffer))
		for range 14 {
			if m := p.code(183); string(m.body) != sdpOffer {
				t.Errorf("body %q", m.body)
			}
		}
		p.code(486)
		p.send(p.request(methodAck, "1", ""))
	})
}

func TestProvisionalIsRepeatedEveryMinute(t *testing.T) {
	bubble(t, func(t *testing.T) {
		st := newStage(t, Handler{Invite: func(ctx context.Context, d *Dialog) {
			if err := d.Provisional(180, nil); err != nil {
				t.Error(err)
			}
			<-ctx.Done()
		}})
		defer st.close()
		p := st.phone
		p.send(p.request(methodInvite, "1", sdpOffer))
		p.code(180)
		start := time.Now()
		for range 3 {
			select {
			case m := <-p.got:
				if m.code != 180 {
					t.Errorf("got %d", m.code)
				}
			case <-time.After(2 * time.Minute):
				t.Fatal("no 180")
			}
		}
		if got := time.Since(start); got != 3*time.Minute {
			t.Errorf("three 180 in %v", got)
		}
	})
}

func TestLateOfferAnswerComesInAck(t *testing.T) {
	bubble(t, func(t *testing.T) {
		got := make(chan string, 1)
		st := newStage(t, Handler{Invite: func(ctx context.Context, d *Dialog) {
			if d.Body() != nil {
				t.Errorf("body %q", d.Body())
			}
			if err := d.Answer(ctx, []byte(sdpOffer)); err != nil {
				t.Error(err)
			}
			got <- string(d.AckBody())
			<-ctx.Done()
		}})
		defer st.close()
		p := st.phone
		p.send(p.request(methodInvite, "1", ""))
		p.code(200)
		p.send(p.request(methodAck, "2", "v=0\r\n"))
		if s := <-got; s != "v=0\r\n" {
			t.Errorf("ack body %q", s)
		}
	})
}

func TestHoldByThem(t *testing.T) {
	bubble(t, func(t *testing.T) {
		dialogs := make(chan *Dialog, 1)
		late := make(chan string, 1)
		st := newStage(t, answering(dialogs, func(d *Dialog) {
			d.OnReinvite(func(offer []byte) ([]byte, int) {
				if offer == nil {
					return []byte("our offer"), 200
				}
				return append([]byte("answer to "), offer...), 0
			})
			d.OnReinviteAnswer(func(answer []byte) { late <- string(answer) })
		}))
		defer st.close()
		p := st.phone
		p.call()
		d := <-dialogs
		p.seq++
		p.send(p.request(methodInvite, "3", "hold", "X-Test: 1"))
		if m := p.code(200); string(m.body) != "answer to hold" || m.get("Contact") == "" {
			t.Errorf("body %q", m.body)
		}
		p.send(p.request(methodAck, "4", ""))
		p.seq++
		p.send(p.request(methodUpdate, "5", "resume"))
		if m := p.code(200); string(m.body) != "answer to resume" {
			t.Errorf("body %q", m.body)
		}
		p.seq++
		p.send(p.request(methodUpdate, "6", "")) // session refresh
		p.code(200)
		p.seq++
		p.send(p.request(methodInvite, "7", ""))
		if m := p.code(200); string(m.body) != "our offer" {
			t.Errorf("body %q", m.body)
		}
		p.send(p.request(methodAck, "8", "their answer"))
		if s := <-late; s != "their answer" {
			t.Errorf("late answer %q", s)
		}
		if got := d.Snapshot().RemoteCSeq; got == nil || *got != uint32(p.seq) {
			t.Errorf("remote cseq %v", got)
		}
	})
}

func TestHoldByUsAndTargetRefresh(t *testing.T) {
	bubble(t, func(t *testing.T) {
		dialogs := make(chan *Dialog, 1)
		st := newStage(t, answering(dialogs, nil))
		defer st.close()
		p := st.phone
		p.call()
		d := <-dialogs
		type result struct {
			answer string
			err    error
		}
		got := make(chan result, 1)
		go func() {
			b, err := d.Reinvite(context.Background(), []byte("hold"))
			got <- result{string(b), err}
		}()
		inv := p.method(methodInvite)
		if string(inv.body) != "hold" || inv.get("Contact") == "" || inv.seq != 1 {
			t.Errorf("re-INVITE %+v", inv)
		}
		res := inv.respond(200, "")
		res.add("Contact", "<sip:moved@192.0.2.7:5060>")
		res.body = []byte("held")
		p.send(string(res.bytes()))
		if ack := p.method(methodAck); ack.uri != "sip:moved@192.0.2.7:5060" || ack.seq != inv.seq {
			t.Errorf("ack %+v", ack)
		}
		if r := <-got; r.err != nil || r.answer != "held" {
			t.Errorf("reinvite: %+v", r)
		}
		p.send(string(res.bytes())) // its ACK was lost
		if ack := p.method(methodAck); ack.seq != inv.seq {
			t.Errorf("ack %+v", ack)
		}
		go func() {
			_, err := d.Reinvite(context.Background(), []byte("codec"))
			got <- result{"", err}
		}()
		inv = p.method(methodInvite)
		if inv.uri != "sip:moved@192.0.2.7:5060" {
			t.Errorf("target %s", inv.uri)
		}
		p.answer(inv, 488, "")
		if ack := p.method(methodAck); ack.via.branch() != inv.via.branch() {
			t.Error("ACK of a refusal has another branch")
		}
		var r *RejectedError
		if e := (<-got).err; !errors.As(e, &r) || r.Code != 488 {
			t.Errorf("reinvite: %v", e)
		}
		if d.Context().Err() != nil {
			t.Error("a refused re-INVITE ended the call")
		}
	})
}

func TestGlareGivesWayAndTriesAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		dialogs := make(chan *Dialog, 1)
		st := newStage(t, answering(dialogs, nil))
		defer st.close()
		p := st.phone
		p.call()
		d := <-dialogs
		got := make(chan error, 1)
		go func() {
			_, err := d.Reinvite(context.Background(), []byte("ours"))
			got <- err
		}()
		ours := p.method(methodInvite)
		p.seq++
		p.send(p.request(methodInvite, "3", "theirs"))
		p.code(491)
		p.send(p.request(methodAck, "3", ""))
		p.answer(ours, 491, "")
		p.method(methodAck)
		at := time.Now()
		again := p.method(methodInvite)
		if wait := time.Since(at); wait > 2*time.Second {
			t.Errorf("the side without the Call-ID waited %v", wait)
		}
		p.answer(again, 200, "ok")
		p.method(methodAck)
		if err := <-got; err != nil {
			t.Error(err)
		}
	})
}

func TestSecondOfferWhileAnsweringIs500(t *testing.T) {
	bubble(t, func(t *testing.T) {
		dialogs := make(chan *Dialog, 1)
		release := make(chan struct{})
		st := newStage(t, answering(dialogs, func(d *Dialog) {
			d.OnReinvite(func([]byte) ([]byte, int) { <-release; return []byte("x"), 200 })
		}))
		defer st.close()
		p := st.phone
		p.call()
		<-dialogs
		p.seq++
		p.send(p.request(methodInvite, "3", "a"))
		synctest.Wait()
		p.seq++
		p.send(p.request(methodInvite, "4", "b"))
		if m := p.code(500); m.get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
		close(release)
		p.code(200)
	})
}

func TestByeWhileReinviteWaits(t *testing.T) {
	bubble(t, func(t *testing.T) {
		dialogs := make(chan *Dialog, 1)
		release := make(chan struct{})
		st := newStage(t, answering(dialogs, func(d *Dialog) {
			d.OnReinvite(func([]byte) ([]byte, int) { <-release; return []byte("x"), 200 })
		}))
		defer st.close()
		defer close(release)
		p := st.phone
		p.call()
		d := <-dialogs
		p.seq++
		p.send(p.request(methodInvite, "3", "a"))
		synctest.Wait()
		p.seq++
		p.send(p.request(methodBye, "4", ""))
		p.code(200)
		p.code(487)
		if err := causeSoon(t, d); !errors.Is(err, ErrRemoteBye) {
			t.Error(err)
		}
	})
}

func TestInfoStaysInOrder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		dialogs := make(chan *Dialog, 1)
		var got []string
		st := newStage(t, answering(dialogs, func(d *Dialog) {
			d.OnInfo(func(kind string, body []byte) int {
				got = append(got, kind+" "+string(body))
				return 0
			})
		}))
		defer st.close()
		p := st.phone
		p.call()
		<-dialogs
		const pairs = 1000
		for i := range pairs {
			for j := range 2 {
				p.seq++
				p.send(p.request(methodInfo, fmt.Sprint("i", i, "-", j), fmt.Sprint(2*i+j), "Content-Type: application/dtmf"))
			}
			if i%100 == 99 {
				synctest.Wait()
				for range 200 {
					p.code(200)
				}
			}
		}
		if len(got) != 2*pairs {
			t.Fatalf("%d of %d INFO", len(got), 2*pairs)
		}
		for i, s := range got {
			if s != fmt.Sprint("application/dtmf ", i) {
				t.Fatalf("INFO %d is %q", i, s)
			}
		}
	})
}

func TestInfoByUs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		dialogs := make(chan *Dialog, 1)
		st := newStage(t, answering(dialogs, nil))
		defer st.close()
		p := st.phone
		p.call()
		d := <-dialogs
		got := make(chan error, 1)
		go func() { got <- d.Info(context.Background(), "application/dtmf-relay", []byte("Signal=1\r\n")) }()
		m := p.method(methodInfo)
		if m.get("Content-Type") != "application/dtmf-relay" || string(m.body) != "Signal=1\r\n" {
			t.Errorf("info %+v", m)
		}
		p.answer(m, 200, "")
		if err := <-got; err != nil {
			t.Error(err)
		}
		go func() { got <- d.Info(context.Background(), "text/plain", nil) }()
		p.answer(p.method(methodInfo), 481, "")
		var r *RejectedError
		if err := <-got; !errors.As(err, &r) || r.Code != 481 {
			t.Error(err)
		}
		if err := causeSoon(t, d); !errors.As(err, &r) {
			t.Errorf("481 left the dialog alive: %v", err)
		}
	})
}

func TestPanicCostsOneCall(t *testing.T) {
	for _, where := range []string{"invite", "info", "reinvite"} {
		t.Run(where, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				dialogs := make(chan *Dialog, 2)
				st := newStage(t, Handler{Invite: func(ctx context.Context, d *Dialog) {
					dialogs <- d
					if where == "invite" && d.Header("X-Boom") != "" {
						panic("boom")
					}
					d.OnInfo(func(string, []byte) int { panic("boom") })
					d.OnReinvite(func([]byte) ([]byte, int) { panic("boom") })
					if err := d.Answer(ctx, nil); err == nil {
						<-ctx.Done()
					}
				}})
				defer st.close()
				p := st.phone
				switch where {
				case "invite":
					p.send(p.request(methodInvite, "1", sdpOffer, "X-Boom: 1"))
					p.code(500)
				default:
					p.call()
					synctest.Wait()
					p.seq++
					p.send(p.request(map[string]string{"info": methodInfo, "reinvite": methodInvite}[where], "2", "x"))
					first, second := p.next(), p.next()
					if first.code != 500 {
						first, second = second, first
					}
					if first.code != 500 || second.method != methodBye {
						t.Errorf("got %d and %s", first.code, second.method)
					}
					p.answer(second, 200, "")
				}
				if err := causeSoon(t, <-dialogs); !errors.Is(err, ErrPanic) {
					t.Errorf("cause %v", err)
				}
				if n := st.s.Counters().Panics; n != 1 {
					t.Errorf("%d panics counted", n)
				}
				q := newPhone(t, st.w.listen("192.0.2.8:5060"), p.server)
				q.call()
				q.conn.Close()
			})
		})
	}
}

func TestDropIsSilent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var known atomic.Bool
		st := newStage(t, Handler{
			Invite:   func(_ context.Context, d *Dialog) { d.Drop() },
			Register: func(_ context.Context, r *Request) { r.Drop() },
			Known:    func(netip.Addr) bool { return known.Load() },
		})
		defer st.close()
		p := st.phone
		p.send(p.request(methodInvite, "1", sdpOffer))
		p.send(p.request(methodRegister, "2", ""))
		p.send(p.request(methodOptions, "3", ""))
		p.send(p.request(methodMessage, "4", ""))
		p.send(strings.Replace(p.request(methodOptions, "5", ""), "From:", "From", 1))
		p.toTag = "x"
		p.send(p.request(methodBye, "6", ""))
		if m := p.quiet(); m != nil {
			t.Errorf("got %d", m.code)
		}
		known.Store(true)
		p.toTag = ""
		p.send(p.request(methodOptions, "7", ""))
		if m := p.code(200); m.get("Allow") != allow {
			t.Errorf("allow %s", m.get("Allow"))
		}
		p.send(p.request(methodMessage, "8", ""))
		if m := p.code(405); m.get("Allow") != allow {
			t.Errorf("allow %s", m.get("Allow"))
		}
	})
}

func TestForgedRequestsChangeNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		dialogs := make(chan *Dialog, 1)
		st := newStage(t, answering(dialogs, nil))
		defer st.close()
		p := st.phone
		p.call()
		d := <-dialogs
		tag, own := p.toTag, p.tag
		p.seq += 10
		p.toTag = "guess"
		p.send(p.request(methodBye, "f1", ""))
		p.code(481)
		p.toTag, p.tag = tag, "guess"
		p.send(p.request(methodBye, "f2", ""))
		p.code(481)
		p.tag, p.seq = own, 1
		p.send(p.request(methodBye, "f3", "")) // a sequence number used before
		p.code(500)
		if d.Context().Err() != nil {
			t.Errorf("forged BYE ended the call: %v", context.Cause(d.Context()))
		}
	})
}

func TestRecordRouteIsTheRouteSet(t *testing.T) {
	bubble(t, func(t *testing.T) {
		dialogs := make(chan *Dialog, 1)
		st := newStage(t, answering(dialogs, nil))
		defer st.close()
		p := st.phone
		rr := "Record-Route: <sip:192.0.2.7;lr>, <sip:192.0.2.99;lr>"
		p.send(p.request(methodInvite, "1", sdpOffer, rr))
		if ok := p.code(200); ok.get("Record-Route") != "<sip:192.0.2.7;lr>, <sip:192.0.2.99;lr>" {
			t.Errorf("record-route %q", ok.lines("Record-Route"))
		}
		p.send(p.request(methodAck, "2", ""))
		d := <-dialogs
		go sayBye(t, d)
		bye := p.method(methodBye)
		if got := bye.lines("Route"); !slices.Equal(got, []string{"<sip:192.0.2.7;lr>", "<sip:192.0.2.99;lr>"}) {
			t.Errorf("route %q", got)
		}
		p.answer(bye, 200, "")
	})
}

func TestStrictRouterGetsItsURI(t *testing.T) {
	bubble(t, func(t *testing.T) {
		dialogs := make(chan *Dialog, 1)
		st := newStage(t, answering(dialogs, nil))
		defer st.close()
		p := st.phone
		p.send(p.request(methodInvite, "1", sdpOffer, "Record-Route: <sip:192.0.2.7>"))
		p.code(200)
		p.send(p.request(methodAck, "2", ""))
		d := <-dialogs
		go sayBye(t, d)
		bye := p.method(methodBye)
		if bye.uri != "sip:192.0.2.7" || bye.get("Route") != "<sip:1001@192.0.2.7:5060>" {
			t.Errorf("%s route %q", bye.uri, bye.get("Route"))
		}
		p.answer(bye, 200, "")
	})
}

func TestRestoredDialogContinues(t *testing.T) {
	bubble(t, func(t *testing.T) {
		dialogs := make(chan *Dialog, 1)
		st := newStage(t, answering(dialogs, nil))
		defer st.close()
		p := st.phone
		p.call()
		d := <-dialogs
		stored, err := json.Marshal(d.Snapshot())
		if err != nil {
			t.Fatal(err)
		}
		var state DialogState
		if err := json.Unmarshal(stored, &state); err != nil {
			t.Fatal(err)
		}

		other, err := New(Config{Listen: []Listener{{Network: "udp", PacketConn: st.w.listen("192.0.2.2:5060")}}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- other.Run(ctx) }()
		r, err := other.Restore(state)
		if err != nil {
			t.Fatal(err)
		}
		if r.From() != d.From() || r.To() != d.To() || r.ID() != d.ID() || r.RemoteAddr() != d.RemoteAddr() {
			t.Error("restored dialog has another identity")
		}
		got := make(chan error, 1)
		go func() {
			_, err := r.Reinvite(context.Background(), []byte("moved"))
			got <- err
		}()
		inv := p.method(methodInvite)
		if inv.peer.String() != "192.0.2.2:5060" || inv.seq <= state.LocalCSeq || inv.from.tag() != p.toTag ||
			!strings.Contains(inv.get("Contact"), "192.0.2.2") {
			t.Errorf("re-INVITE %+v", inv)
		}
		p.server = inv.peer
		p.answer(inv, 200, "ok")
		p.method(methodAck)
		if err := <-got; err != nil {
			t.Error(err)
		}
		p.seq++
		p.send(p.request(methodBye, "b", ""))
		p.code(200)
		if err := causeSoon(t, r); !errors.Is(err, ErrRemoteBye) {
			t.Error(err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		p.server = d.s.udp[0].local
	})
}

func TestServerEndsWithByeAnd503(t *testing.T) {
	bubble(t, func(t *testing.T) {
		dialogs := make(chan *Dialog, 2)
		st := newStage(t, Handler{Invite: func(ctx context.Context, d *Dialog) {
			if d.Header("X-Ring") == "" {
				if err := d.Answer(ctx, nil); err != nil {
					t.Error(err)
				}
			}
			dialogs <- d
			<-ctx.Done()
		}})
		p := st.phone
		p.call()
		<-dialogs
		q := newPhone(t, st.w.listen("192.0.2.8:5060"), p.server)
		q.send(q.request(methodInvite, "1", sdpOffer, "X-Ring: 1"))
		d := <-dialogs
		go func() {
			p.answer(p.method(methodBye), 200, "")
			q.code(503)
			q.conn.Close()
		}()
		st.close()
		if err := causeSoon(t, d); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	})
}

func TestBigMessages(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for _, size := range []int{1400, 9000, 40000} {
			big := sdpOffer + strings.Repeat("a=x:"+strings.Repeat("y", 90)+"\r\n", size/96)
			st := newStage(t, Handler{Invite: func(ctx context.Context, d *Dialog) {
				if err := d.Answer(ctx, d.Body()); err != nil {
					t.Error(err)
				}
				<-ctx.Done()
			}})
			p := st.phone
			p.send(p.request(methodInvite, "1", big))
			if m := p.code(200); string(m.body) != big {
				t.Errorf("%d bytes came back as %d", len(big), len(m.body))
			}
			p.send(p.request(methodAck, "2", ""))
			synctest.Wait()
			st.close()
		}
	})
}

func TestRequestHandlers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		st := newStage(t, Handler{
			Register: func(_ context.Context, r *Request) {
				if r.Header("X-Boom") != "" {
					panic("boom")
				}
			},
			Options: func(_ context.Context, r *Request) {
				if r.Method() != methodOptions || r.From().User != "1001" || r.RequestURI().User != "service" || r.Transport() != "UDP" {
					t.Errorf("request %+v", r.m)
				}
				if err := r.Respond(200, Header{"X-Load", "3"}); err != nil {
					t.Error(err)
				}
				if err := r.Respond(500); !errors.Is(err, ErrState) {
					t.Errorf("answered twice: %v", err)
				}
			},
		})
		defer st.close()
		p := st.phone
		p.send(p.request(methodOptions, "1", ""))
		if m := p.code(200); m.get("X-Load") != "3" || m.get("Allow") == "" || m.to.tag() == "" {
			t.Errorf("%+v", m)
		}
		p.send(p.request(methodRegister, "2", "", "X-Boom: 1"))
		p.code(500)
		p.send(p.request(methodRegister, "3", ""))
		p.code(500) // its handler said nothing
		p.send(p.request(methodBye, "4", ""))
		p.code(481)
		if n := st.s.Counters().Panics; n != 1 {
			t.Errorf("%d panics", n)
		}
	})
}

func TestInviteIsChallenged(t *testing.T) {
	bubble(t, func(t *testing.T) {
		digest := NewDigestServer()
		st := newStage(t, Handler{Invite: func(ctx context.Context, d *Dialog) {
			source := d.RemoteAddr().Addr()
			a, ok := d.Authorization("example.com")
			if !ok {
				if err := d.Challenge(digest.Challenge(source, "example.com", false)); err != nil {
					t.Error(err)
				}
				return
			}
			if b, ok := d.Authorization(""); !ok || a != b {
				t.Errorf("credentials for any realm %+v", b)
			}
			if b, ok := d.Authorization("other"); ok {
				t.Errorf("credentials for another realm %+v", b)
			}
			if err := digest.Verify(source, methodInvite, a, func(alg string) string { return HA1(alg, "1001", "example.com", "secret") }); err != nil {
				t.Error(err)
			}
			if err := d.Reject(486); err != nil {
				t.Error(err)
			}
		}})
		defer st.close()
		p := st.phone
		p.send(p.request(methodInvite, "1", sdpOffer))
		nonce, _ := nonceOf(t, p.code(401), SHA256)
		p.send(p.request(methodAck, "1", ""))
		synctest.Wait()
		st.s.mu.Lock()
		if n := len(st.s.servers) + len(st.s.dialogs); n != 0 {
			t.Errorf("a challenge left %d transactions and dialogs", n)
		}
		st.s.mu.Unlock()
		a := Authorization{Username: "1001", Realm: "example.com", Nonce: nonce, URI: p.target, Algorithm: SHA256, QOP: "auth", CNonce: "c", NC: "00000001"}
		a.Response = a.response(methodInvite, HA1(SHA256, "1001", "example.com", "secret"))
		p.seq++
		p.send(p.request(methodInvite, "2", sdpOffer, fmt.Sprintf(
			`Authorization: Digest username="1001", realm="example.com", nonce="%s", uri="%s", algorithm=SHA-256, response="%s", qop=auth, nc=00000001, cnonce="c"`,
			nonce, p.target, a.Response)))
		p.code(486)
		p.send(p.request(methodAck, "2", ""))
	})
}

func TestOfferWithoutHandlerIs488(t *testing.T) {
	bubble(t, func(t *testing.T) {
		dialogs := make(chan *Dialog, 1)
		st := newStage(t, answering(dialogs, nil))
		defer st.close()
		p := st.phone
		p.call()
		d := <-dialogs
		p.seq++
		p.send(p.request(methodInvite, "3", "hold"))
		p.code(488)
		p.send(p.request(methodAck, "3", ""))
		for i, tt := range []struct {
			method string
			code   int
		}{{methodOptions, 200}, {methodRefer, 400}, {methodMessage, 405}, {"DANCE", 501}, {methodInfo, 415}} {
			p.seq++
			p.send(p.request(tt.method, fmt.Sprint("m", i), "x"))
			p.code(tt.code)
		}
		if d.Context().Err() != nil {
			t.Error("call ended")
		}
	})
}

func TestReinviteIsCanceledByThem(t *testing.T) {
	bubble(t, func(t *testing.T) {
		dialogs := make(chan *Dialog, 1)
		release := make(chan struct{})
		st := newStage(t, answering(dialogs, func(d *Dialog) {
			d.OnReinvite(func([]byte) ([]byte, int) { <-release; return []byte("x"), 200 })
		}))
		defer st.close()
		p := st.phone
		p.call()
		d := <-dialogs
		p.seq++
		p.send(p.request(methodInvite, "3", "a"))
		synctest.Wait()
		p.send(p.request(methodCancel, "3", ""))
		for range 2 {
			if m := p.next(); m.seqFor == methodCancel && m.code != 200 || m.seqFor == methodInvite && m.code != 487 {
				t.Errorf("%d for %s", m.code, m.seqFor)
			}
		}
		p.send(p.request(methodAck, "3", ""))
		close(release)
		if m := p.quiet(); m != nil || d.Context().Err() != nil {
			t.Errorf("after CANCEL: %+v, %v", m, context.Cause(d.Context()))
		}
	})
}

func TestDropOfAnAnsweredCallSendsNoBye(t *testing.T) {
	for name, acked := range map[string]bool{"confirmed": true, "before its ACK": false} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				drop, gone := make(chan struct{}), make(chan error, 1)
				st := newStage(t, Handler{
					Invite: func(ctx context.Context, d *Dialog) {
						go func() {
							<-drop
							d.Drop()
							d.Drop()
						}()
						_ = d.Answer(context.Background(), []byte(sdpOffer)) // the end says how it went
						<-ctx.Done()
						gone <- context.Cause(ctx)
					},
					Known: func(netip.Addr) bool { return true },
				})
				defer st.close()
				p := st.phone
				if acked {
					p.call()
				} else {
					p.send(p.request(methodInvite, "call", sdpOffer))
					p.toTag = p.code(200).to.tag()
				}
				close(drop)
				if err := <-gone; !errors.Is(err, ErrDropped) {
					t.Errorf("ended with %v", err)
				}
				if m := p.quiet(); m != nil {
					t.Errorf("got %s %d", m.method, m.code)
				}
				p.send(p.request(methodBye, "bye", ""))
				p.code(481)
			})
		})
	}
}
