package session

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"strconv"

	"github.com/hookswitch/hookswitch/edge/media"
	"github.com/hookswitch/hookswitch/edge/media/codec"
	"github.com/hookswitch/hookswitch/edge/media/dtmf"
	"github.com/hookswitch/hookswitch/edge/sdp"
	"github.com/hookswitch/hookswitch/webhooks"
)

// negotiation is where a leg's offer/answer stands (RFC 3264). Session.mu guards it: re-INVITEs arrive on the
// dialog's goroutine.
type negotiation struct {
	local  sdp.Local
	late   bool   // the INVITE had no offer: ours goes into the 200
	answer []byte // what the 200 and an early 183 carry
	active sdp.Negotiated
	set    bool // active holds

	// audible: audio flows, because the call is answered, has early media, or is ours. Before that a caller's phone would
	// take our silence for early media and stop ringing in its owner's ear.
	audible  bool
	answered bool // a peer that sends nothing any more has gone; one that only rings has not
}

// offered makes the leg of an incoming call and reads its offer.
func (s *Session) offered(body []byte) error {
	if err := s.openLeg(nil, s.dialog.RemoteAddr().Addr(), nil); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(body) == 0 {
		s.sdp.late = true
		return nil
	}
	offer, err := sdp.Parse(body)
	if err != nil {
		return err
	}
	answer, agreed, err := sdp.Answer(offer, s.sdp.local)
	if err != nil {
		return err
	}
	s.sdp.answer = answer
	return s.agree(agreed, s.dialog.RemoteAddr().Addr())
}

// openLeg takes a port and prepares our side of the description. near puts it into the shard of the leg it may be
// bridged with; codecs are offered in that order.
func (s *Session) openLeg(near *media.Leg, peer netip.Addr, codecs []codec.ID) error {
	leg, err := s.calls.cfg.Media.NewLeg(media.LegConfig{Near: near})
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leg = leg
	s.sdp.local = sdp.Local{
		Addr: s.calls.cfg.MediaAddr(peer), Port: leg.Port(),
		SessionID: rand.Uint64() >> 1, Version: 1, Codecs: codecs, // the id must fit 63 bits for peers that read it as signed
	}
	s.calls.trails.expect(strconv.FormatUint(s.sdp.local.SessionID, 10), &s.journal)
	return nil
}

// agree puts an outcome into force; peer is where the signalling comes from. The caller holds mu.
func (s *Session) agree(n sdp.Negotiated, peer netip.Addr) error {
	s.sdp.active, s.sdp.set = n, true
	s.noteAgreed(n)
	remote := s.reachable(n.Remote, peer)
	p := media.Params{
		Remote: remote, RemoteRTCP: s.reachable(n.RTCP, peer), RTCPMux: n.RTCPMux,
		Codec: n.Codec, PayloadType: n.PayloadType,
		DTMF: n.DTMF, DTMFPayloadType: n.DTMFPayloadType,
		Send:    s.sdp.audible && n.Direction.Sends() && remote.IsValid(),
		Receive: s.sdp.audible && n.Direction.Receives(),
	}
	if p.Receive && s.sdp.answered {
		p.Timeout = s.calls.cfg.RTPTimeout
	}
	return s.leg.Set(p)
}

// open lets our audio through, as early media or because we answer.
func (s *Session) open(answered bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sdp.audible, s.sdp.answered = true, answered
	if answered {
		s.leg.Answered()
	}
	if !s.sdp.set {
		return // an offer of ours is still to be answered
	}
	if err := s.agree(s.sdp.active, s.dialog.RemoteAddr().Addr()); err != nil {
		s.cancel(mediaEnd(err))
	}
}

// reachable is where to send audio first. An address that the signalling has no business naming (a phone's private
// one behind its NAT, or somebody else's) is replaced by where the signalling comes from; the first packet then
// says where the phone really is.
func (s *Session) reachable(to netip.AddrPort, peer netip.Addr) netip.AddrPort {
	if !to.IsValid() || to.Addr().Unmap() == peer.Unmap() || s.calls.cfg.Guard.CheckAddr(to.Addr()) == nil {
		return to
	}
	return netip.AddrPortFrom(peer, to.Port())
}

// errDenied: an account named an address that accounts may not reach.
var errDenied = errors.New("the address is not allowed")

// mediaEnd is what a failure to set up audio means for the call.
func mediaEnd(err error) ended {
	switch {
	case errors.Is(err, media.ErrNoPorts):
		return ended{cause: webhooks.CauseOverload, text: err.Error()}
	case errors.Is(err, sdp.ErrNotAcceptable):
		return ended{cause: webhooks.CauseNoCodec, text: err.Error()}
	case errors.Is(err, sdp.ErrMalformed):
		return ended{cause: webhooks.CauseNoCodec, code: 400, text: err.Error()}
	}
	return ended{cause: webhooks.CauseError, text: err.Error()}
}

// answer sends the 200 once, and returns when audio can flow: at once, or with the ACK where the offer is ours.
func (s *Session) answer(headers map[string]string) bool {
	if s.answered() {
		return s.ctx.Err() == nil
	}
	if s.ctx.Err() != nil || s.dialog == nil {
		return false
	}
	s.mu.Lock()
	body, late := s.sdp.answer, s.sdp.late
	if late {
		body = sdp.Offer(s.sdp.local)
	}
	s.mu.Unlock()
	s.emit(webhooks.EventCallAnswered, webhooks.EventData{})
	s.touch()
	s.open(true)
	if late {
		return s.answerLate(body, headers)
	}
	// The ACK is waited for beside the program: the caller hears the first prompt a round trip earlier, and a lost ACK
	// costs nothing (the dialog repeats the 200 and ends the call after 64·T1).
	s.spawn(func() {
		if err := s.dialog.Answer(s.ctx, body, sipHeaders(headers)...); err != nil {
			s.cancel(s.dialogEnd(err))
			return
		}
		close(s.confirmed)
	})
	return true
}

func (s *Session) answerLate(offer []byte, headers map[string]string) bool {
	if err := s.dialog.Answer(s.ctx, offer, sipHeaders(headers)...); err != nil {
		s.cancel(s.dialogEnd(err))
		return false
	}
	close(s.confirmed)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.accept(s.dialog.AckBody(), s.dialog.RemoteAddr().Addr()); err != nil {
		s.cancel(mediaEnd(err))
		return false
	}
	return true
}

// early opens the way for audio before the answer: 183 with our description (RFC 3960).
func (s *Session) early() bool {
	if s.answered() {
		return s.ctx.Err() == nil
	}
	s.mu.Lock()
	body, late := s.sdp.answer, s.sdp.late
	s.mu.Unlock()
	if late {
		return false // nothing to send audio to before the ACK
	}
	if err := s.dialog.Provisional(183, body); err != nil {
		return s.ctx.Err() == nil && s.answered()
	}
	s.open(false)
	s.emit(webhooks.EventCallRinging, webhooks.EventData{EarlyMedia: true})
	return true
}

// reoffered answers a re-INVITE or UPDATE: hold, resume, a new address. It runs on the dialog's goroutine.
func (s *Session) reoffered(body []byte) (answer []byte, code int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	local := s.sdp.local
	local.Version++
	if s.sdp.set && s.sdp.active.DTMF {
		local.DTMFPayloadType = s.sdp.active.RecvDTMFPayloadType
	}
	if len(body) == 0 { // an offerless re-INVITE asks for our offer (RFC 3261 §14.2); its answer is in the ACK
		local.Lines = s.sdp.active.Lines
		s.sdp.local = local
		return sdp.Offer(local), 200
	}
	offer, err := sdp.Parse(body)
	if err != nil {
		return nil, 400
	}
	answer, agreed, err := sdp.Answer(offer, local)
	if err != nil {
		return nil, 488
	}
	if err := s.agree(agreed, s.dialog.RemoteAddr().Addr()); err != nil {
		return nil, 488
	}
	s.sdp.local, s.sdp.answer = local, answer
	s.noteHold(held(agreed))
	return answer, 200
}

// held reports whether the other side wants to hear nothing.
func held(n sdp.Negotiated) bool { return !n.Direction.Sends() || !n.Remote.IsValid() }

// noteHold tells that the other side has put us on hold, or taken us off it. The caller holds mu.
func (s *Session) noteHold(held bool) {
	s.held = held
	s.tellHeld()
}

// tellHeld tells that the call is held, or no longer, by its phone or by a live change. The caller holds mu.
func (s *Session) tellHeld() {
	held := s.held || s.cut
	if held != s.heldSince.IsZero() {
		return
	}
	data := webhooks.EventData{Held: &held}
	if s.bond != nil && s.cut {
		data.PeerCallID = s.bond.other(s).who()
	}
	s.emitLocked(webhooks.EventCallHeld, data)
}

// reanswered takes the answer to an offer that went out in the 200 of an offerless re-INVITE.
func (s *Session) reanswered(body []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.accept(body, s.dialog.RemoteAddr().Addr()); err != nil {
		s.log.Debug("call.reanswered", "error", err.Error()) // the audio stays as it was, which is what the peer hears
		return
	}
	s.noteHold(held(s.sdp.active))
}

// infoReceived takes a key pressed by SIP INFO.
func (s *Session) infoReceived(contentType string, body []byte) int {
	digit, _, err := dtmf.ParseInfo(contentType, body)
	if err != nil {
		return 415
	}
	select {
	case s.digits <- digit:
		return 200
	default:
		return 503 // nobody reads keys that fast
	}
}
