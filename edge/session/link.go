package session

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/edge/media"
	"github.com/hookswitch/hookswitch/edge/media/codec"
	"github.com/hookswitch/hookswitch/edge/sdp"
	"github.com/hookswitch/hookswitch/edge/sip"
	"github.com/hookswitch/hookswitch/webhooks"
)

// A leg that is to be with a caller in a queue, in a conference or with a parked call which another edge carries is joined
// with it by a link: a SIP call between the two edges. It is no call of the account: it has no record, no events, counts
// towards no limit, and lives as long as both ends want it.
//
// The INVITE says in linkHeader what it is for, and by what right. The edge that receives it asks the control plane whether
// that is so before it answers: nobody else is let in who sends such a header. For a caller in a queue the right is the claim
// of the leg; for the others a ticket that the control plane has given the leg's edge, which is good once.
//
// In a conference the two edges have more to tell each other than audio: they send words in INFO, each when the one before
// was confirmed.

// linkHeader is the header of the INVITE that one edge sends to another: what the link is for, a space, and the right to it.
const linkHeader = "X-Hookswitch-Link"

// linkQueue is what a link is for that leads to a caller in a queue. The others are those of tickets.
const linkQueue = "queue"

const (
	// linkTime bounds the call from edge to edge until it is answered: the other edge asks the control plane meanwhile.
	linkTime = 10 * time.Second
	// byeTime is how long the other edge may take to confirm a word, or the end of a link.
	byeTime = 5 * time.Second
	// linkSilence ends a link on which nothing is heard: an edge sends all the time, silence where there is nothing else.
	linkSilence = 5 * time.Second
	// maxWords bounds the words that wait on either end. An edge that falls so far behind has lost the link.
	maxWords = 256
	// wordType is the content type of a word.
	wordType = "application/vnd.hookswitch.link+json"
)

// link is one end of such a call.
type link struct {
	spawn  func(func()) // starts a goroutine of whoever has the link
	log    *slog.Logger
	dialog *sip.Dialog
	leg    *media.Leg
	local  sdp.Local
	over   chan struct{} // closed when the call between the edges is over
	lost   bool          // because the other edge was not heard any more; set before over closes
	once   sync.Once

	up      chan struct{} // closed when words can be said: the INVITE is answered, and that confirmed
	heard   chan []byte   // words of the other edge
	words   chan []byte   // to it
	closing chan struct{} // closed when there are no more to come
	spoken  chan struct{} // closed when they have been sent, or cannot be
}

// openLink prepares one end, near a leg that it is joined with.
func (c *Calls) openLink(near *media.Leg, peer netip.Addr, codecs []codec.ID, spawn func(func()), log *slog.Logger) (*link, error) {
	leg, err := c.cfg.Media.NewLeg(media.LegConfig{Near: near})
	if err != nil {
		return nil, err
	}
	return &link{
		spawn: spawn, log: log, leg: leg, over: make(chan struct{}),
		local: sdp.Local{Addr: c.cfg.MediaAddr(peer), Port: leg.Port(), SessionID: rand.Uint64() >> 1, Version: 1, Codecs: codecs},
		up:    make(chan struct{}), heard: make(chan []byte, maxWords), words: make(chan []byte, maxWords),
		closing: make(chan struct{}), spoken: make(chan struct{}),
	}, nil
}

func (s *Session) openLink(peer netip.Addr, codecs []codec.ID) (*link, error) {
	return s.calls.openLink(s.leg, peer, codecs, s.spawn, s.log)
}

// answer accepts the call of the other edge, and waits until that is confirmed.
func (l *link) answer(ctx context.Context, body []byte) error {
	err := l.dialog.Answer(ctx, body)
	if err == nil {
		close(l.up)
	}
	return err
}

// answerOffer is the answer to what the other edge has offered.
func (l *link) answerOffer(offered []byte) (answer []byte, agreed sdp.Negotiated, err error) {
	offer, err := sdp.Parse(offered)
	if err != nil {
		return nil, sdp.Negotiated{}, err
	}
	return sdp.Answer(offer, l.local)
}

// follow ends the link with its dialog, and when nothing is heard any more. It needs its owner's goroutines until close.
func (l *link) follow(d *sip.Dialog) {
	l.dialog = d
	if d.Outbound() {
		close(l.up)
	}
	d.OnInfo(l.hear)
	context.AfterFunc(d.Context(), func() { l.end(false) })
	l.spawn(func() {
		for e := range l.leg.Events() { // until the leg is closed
			if e.Kind == media.MediaTimeout {
				l.end(true)
			}
		}
	})
	l.spawn(l.speak)
}

func (l *link) end(lost bool) {
	l.once.Do(func() {
		l.lost = lost
		close(l.over)
	})
}

// agree lets audio flow as was agreed on.
func (l *link) agree(n sdp.Negotiated) error {
	return l.leg.Set(media.Params{
		Remote: n.Remote, RemoteRTCP: n.RTCP, RTCPMux: n.RTCPMux, Codec: n.Codec, PayloadType: n.PayloadType,
		DTMF: n.DTMF, DTMFPayloadType: n.DTMFPayloadType, Send: n.Remote.IsValid(), Receive: true, Timeout: linkSilence,
	})
}

// accept lets audio flow as the other edge has answered.
func (l *link) accept() error {
	answer, err := sdp.Parse(l.dialog.Body())
	if err != nil {
		return err
	}
	agreed, err := sdp.Accept(answer, l.local)
	if err != nil {
		return err
	}
	return l.agree(agreed)
}

// close says what is still to be said and hangs up.
func (l *link) close() {
	l.leg.Close()
	close(l.closing)
	if l.dialog == nil {
		return
	}
	l.spawn(func() {
		<-l.spoken
		ctx, done := context.WithTimeout(context.Background(), byeTime)
		defer done()
		if err := l.dialog.Bye(ctx); err != nil && !errors.Is(err, sip.ErrState) {
			l.log.Debug("link.bye", "error", err.Error())
		}
		l.end(false)
	})
}

// say sends a word to the other edge, after those before it. It does not wait.
func (l *link) say(word any) {
	body, err := json.Marshal(word)
	if err != nil {
		l.log.Error("link.word", "error", err.Error())
		l.end(true)
		return
	}
	l.pass(body)
}

// pass is say for a word that is written already.
func (l *link) pass(body []byte) {
	select {
	case l.words <- body:
	default:
		l.end(true)
	}
}

// speak sends the words. One that is not confirmed ends the link: what follows would not be understood.
func (l *link) speak() {
	defer close(l.spoken)
	select {
	case <-l.up:
	case <-l.over:
		return
	case <-l.closing:
		return
	}
	for {
		select {
		case body := <-l.words:
			if !l.tell(body) {
				return
			}
		case <-l.over:
			return
		case <-l.closing:
			for len(l.words) > 0 {
				if !l.tell(<-l.words) {
					return
				}
			}
			return
		}
	}
}

func (l *link) tell(body []byte) bool {
	ctx, done := context.WithTimeout(l.dialog.Context(), byeTime)
	defer done()
	if err := l.dialog.Info(ctx, wordType, body); err != nil {
		l.log.Info("link.lost", "error", err.Error())
		l.end(true)
		return false
	}
	return true
}

// hear takes a word of the other edge.
func (l *link) hear(contentType string, body []byte) (code int) {
	if contentType != wordType {
		return 415
	}
	select {
	case l.heard <- body:
		return 200
	default:
		return 503
	}
}

// listen gives the words of the other edge to take until the link is over, or stop closes.
func (l *link) listen(stop <-chan struct{}, take func([]byte)) {
	for {
		select {
		case body := <-l.heard:
			take(body)
		case <-stop:
			return
		case <-l.over:
			for len(l.heard) > 0 { // what was said before
				take(<-l.heard)
			}
			return
		}
	}
}

// inviteEdge calls another edge. The trigger is set when a live change or the end of the call came first.
func (s *Session) inviteEdge(at netip.AddrPort, kind, right string, l *link) (*sip.Dialog, *webhooks.Trigger, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), linkTime)
	var dialog *sip.Dialog
	var err error
	answered, gone := make(chan struct{}), make(chan struct{})
	s.spawn(func() {
		defer cancel()
		dialog, err = s.calls.callEdge(ctx, at, kind, right, l)
		select {
		case answered <- struct{}{}:
		case <-gone:
			if err == nil {
				s.release(dialog)
			}
		}
	})
	s.news = answered
	defer func() { s.news = nil }()
	for {
		woke, e := s.wait(nil)
		switch woke {
		case wokeNews:
			return dialog, nil, err
		case wokeDigit:
			s.typeAhead(e.Digit)
		case wokeAction, wokeEnd:
			cancel()
			close(gone)
			return nil, s.interrupted(), nil
		}
	}
}

// notThere reports that an edge has refused a link because whom it was for is not there any more.
func notThere(err error) bool {
	rejected, ok := errors.AsType[*sip.RejectedError](err)
	return ok && rejected.Code == 480
}

// acceptLink serves the INVITE of another edge. False: it is none.
func (c *Calls) acceptLink(ctx context.Context, d *sip.Dialog) bool {
	value := d.Header(linkHeader)
	if value == "" {
		return false
	}
	kind, right, _ := strings.Cut(value, " ")
	if kind == linkQueue {
		c.acceptTaker(ctx, d, right)
		return true
	}
	of, err := c.redeem(ctx, right)
	switch {
	case control.CodeOf(err) != "":
		c.cfg.Logger.Warn("link.refused", "source", d.RemoteAddr().Addr().String(), "error", err.Error())
		c.refuse(d, 403)
	case err != nil:
		c.cfg.Logger.Warn("control.unasked", "error", err.Error())
		c.refuse(d, 503, retryAfter)
	case of.Kind == control.LinkConference:
		c.hostLeg(ctx, d, of)
	case of.Kind == control.LinkPark:
		c.acceptPickup(d, of)
	case of.Kind == control.LinkLeg:
		c.lend(d, of)
	default:
		c.refuse(d, 488)
	}
	return true
}

// redeem asks what a ticket is good for.
func (c *Calls) redeem(ctx context.Context, ticket string) (control.Link, error) {
	ctx, done := context.WithTimeout(ctx, inquiryTime)
	defer done()
	return c.cfg.Control.RedeemLink(ctx, control.Ticket{EdgeID: c.cfg.EdgeID, ID: ticket})
}
