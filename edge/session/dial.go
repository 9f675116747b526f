package session

import (
	"context"
	"errors"
	"maps"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/edge/media"
	"github.com/hookswitch/hookswitch/edge/media/codec"
	"github.com/hookswitch/hookswitch/webhooks"
)

// party is news of a target that is being called.
type party struct {
	leg    *Session // nil when there was nothing to call
	target webhooks.DialTarget
	state  partyState
	end    ended // with partyGone

	pick         *pick                     // with partyAccepted: by which it is to pick up; nil for none
	machine      bool                      // with partyGone: a machine answered, or the network announced why nobody can
	announcement webhooks.AnnouncementKind // with partyGone: what was announced before an answer
}

type partyState uint8

const (
	partyEarly    partyState = iota // its early audio can be heard
	partyAccepted                   // answered, and it passed its screen
	partyGone                       // it cannot be connected; end says why
)

// dialing is one dial instruction while it runs.
type dialing struct {
	*webhooks.Dial
	s        *Session
	ctx      context.Context // ends the legs that ring
	cancel   context.CancelCauseFunc
	ringback media.PlayID
	parties  chan party            // with room for all news, so that nobody who rings ever waits for the caller
	left     []webhooks.DialTarget // sequential: still to be called
	ringing  int
	worst    ended
	last     party  // the newest that was lost, for the trigger
	machine  *party // the first that turned out to be a machine
	record   *spool
	from     string   // whom the parties see calling, where it is not the caller of this leg; "" where it is
	peer     *Session // whom the caller speaks with, or spoke with last

	// attend is the life of a leg that was accepted; nil for that of the caller's partner.
	attend func(leg *Session)

	awaiting bool // whoever answers will be connected
}

func (s *Session) dial(i *webhooks.Dial) *webhooks.Trigger {
	if !i.AnswerOnBridge && !s.answer(nil) {
		return s.interrupted()
	}
	s.dropTyped()
	d := &dialing{Dial: i, s: s, parties: make(chan party, 2*len(i.To))}
	d.ctx, d.cancel = context.WithCancelCause(s.ctx)
	s.parties = d.parties
	defer func() { s.parties = nil }()
	d.play()
	if i.Record == "ringing" {
		d.startRecording()
	}
	d.call()
	s.ringing = d
	peer, t := d.await()
	s.ringing = nil
	if t == nil {
		t = d.bridge(peer)
	}
	d.giveUp(t)
	s.leg.StopPlay(d.ringback)
	d.stopRecording(t)
	return t
}

// giveUp tells whoever still rings that the call is over: of a live change the API is the one who ends it, else the caller.
func (d *dialing) giveUp(t *webhooks.Trigger) {
	by := webhooks.EndedByCaller
	if t != nil && t.Outcome == webhooks.Redirected {
		by = webhooks.EndedByAPI
	}
	d.cancel(ended{cause: webhooks.CauseCanceled, by: by})
}

// play lets the caller hear that it rings, where the network does not do so.
func (d *dialing) play() {
	name := d.Ringback
	if name == "" {
		if d.AnswerOnBridge && !d.s.answered() {
			return // the 180 makes the caller's own network ring
		}
		name = "ringback"
	}
	if !d.s.answered() && !d.s.early() {
		return
	}
	tone, err := d.s.calls.cfg.Prompts.Tone(name)
	if err != nil {
		d.s.log.Info("dial.ringback", "error", err.Error())
		return
	}
	d.ringback = d.s.leg.Play(media.PlayConfig{Prompts: []*media.Prompt{tone}, Loop: 0})
}

// call starts calling: everybody, or the first.
func (d *dialing) call() {
	d.left = d.To
	if d.Strategy == "sequential" {
		d.next()
		return
	}
	for len(d.left) > 0 {
		d.next()
	}
}

func (d *dialing) next() {
	target := d.left[0]
	d.left = d.left[1:]
	d.ringing++
	call := d.callee(target)
	d.s.spawn(func() { d.s.callTarget(call) })
}

// callee is a target made ready on the goroutine of the session that dials: what it takes from there must not be read
// once the target rings, because that session goes on.
type callee struct {
	dial    *webhooks.Dial
	of      *dialing // for the leg's own dial alone to look into
	attend  func(*Session)
	ctx     context.Context // of the dialing: ends the leg while it rings
	parties chan<- party    // of the dialing
	near    *media.Leg      // of the session that dials

	target webhooks.DialTarget
	query  control.ResolveQuery
	sole   bool       // the only one: its early audio can be heard
	codecs []codec.ID // in this order, so that nothing need be transcoded
	base   string     // of the URLs in its screen
	guard  *webhooks.Guard
	data   map[string]any // of the caller, as it is now
	span   trace.Span     // of the dial

	digits    string // to be sent when it answers
	status    statusTarget
	detection *webhooks.MachineDetection
	detected  statusTarget // told what the detection finds
}

func (d *dialing) callee(t webhooks.DialTarget) callee {
	c := callee{
		dial: d.Dial, of: d, attend: d.attend, ctx: d.ctx, parties: d.parties, near: d.s.leg, target: t, query: d.s.resolveQuery(t, d.CallerID), sole: len(d.To) == 1, codecs: d.s.codecs(),
		base: d.s.base, guard: d.s.guard, data: maps.Clone(d.s.data), span: d.s.doing,
		digits: d.s.vars().Text(t.SendDigits), status: d.s.statusTarget(webhooks.Target{URL: t.StatusURL, Method: t.StatusMethod}, t.StatusEvents), detection: d.MachineDetection,
	}
	if d.from != "" {
		c.query.From = d.from
	}
	if t.MachineDetection != nil {
		c.detection = t.MachineDetection
	}
	if c.detection != nil {
		c.detected = d.s.statusTarget(webhooks.Target{URL: c.detection.StatusURL, Method: c.detection.StatusMethod}, nil)
	}
	return c
}

// codecs puts the codec in use first, so that the other leg need not be transcoded.
func (s *Session) codecs() []codec.ID {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sdp.set && s.sdp.active.Codec == codec.PCMA {
		return []codec.ID{codec.PCMA, codec.PCMU}
	}
	return []codec.ID{codec.PCMU, codec.PCMA}
}

// await waits until somebody accepts, or nobody can any more. The trigger is set when the dial is over without a
// connection.
func (d *dialing) await() (*Session, *webhooks.Trigger) {
	s := d.s
	began := time.Now()
	d.awaiting = true
	defer func() {
		d.awaiting = false
		s.counts(time.Since(began))
	}()
	for {
		woke, e := s.wait(nil)
		switch {
		case woke == wokeParty && s.party.state == partyEarly:
			d.hearEarly(s.party.leg)
		case woke == wokeParty && s.party.state == partyAccepted:
			if p := s.party.pick; p == nil || p.take() {
				return s.party.leg, nil
			}
		case woke == wokeParty:
			if d.lost(s.party) {
				return nil, d.unconnected()
			}
		case woke == wokeDigit && d.HangUpOn != "" && e.Digit == d.HangUpOn[0]:
			return nil, &webhooks.Trigger{Outcome: webhooks.Canceled}
		case woke == wokeDigit:
			s.typeAhead(e.Digit)
		case woke == wokeAction, woke == wokeEnd:
			return nil, s.interrupted()
		}
	}
}

// hearEarly connects the caller with what the party's network says before an answer: an announcement, or its own
// ringing.
func (d *dialing) hearEarly(peer *Session) {
	if !d.s.answered() && !d.s.early() {
		return
	}
	if media.Bridge(d.s.leg, peer.leg) == nil {
		d.s.leg.StopPlay(d.ringback)
		d.ringback = 0
	}
}

// lost notes a party that cannot be connected and reports whether it was the last.
func (d *dialing) lost(p party) bool {
	d.ringing--
	d.worst, d.last = worse(d.worst, p.end), p
	if p.machine && d.machine == nil {
		d.machine = &p
	}
	if len(d.left) > 0 && d.ringing == 0 {
		d.next()
	}
	return d.ringing == 0
}

// outcomes says what a dial came to, from why its best party could not be connected.
var outcomes = map[webhooks.Cause]webhooks.Outcome{
	webhooks.CauseBusy:     webhooks.Busy,
	webhooks.CauseDeclined: webhooks.Declined,
	// Of a party that answered and hung up before it was connected, in its screen.
	webhooks.CauseCalleeHangup: webhooks.Declined,
	webhooks.CauseNoAnswer:     webhooks.NoAnswer,
	webhooks.CauseCanceled:     webhooks.NoAnswer,
	webhooks.CauseNotAllowed:   webhooks.NotAllowed,
}

func (d *dialing) unconnected() *webhooks.Trigger {
	if d.machine != nil {
		return d.machine.machineTrigger()
	}
	t := &webhooks.Trigger{
		Outcome: webhooks.Unreachable, Target: d.last.target.Name(),
		Cause: d.worst.cause, SIPCode: d.worst.code, Error: d.worst.text,
	}
	if o, ok := outcomes[d.worst.cause]; ok {
		t.Outcome = o
	}
	if d.last.leg != nil {
		t.CallID = d.last.leg.id
	}
	t.Announcement = d.last.announcement
	return t
}

// bridge connects the caller with the party that accepted, until either leaves or the time is over.
func (d *dialing) bridge(peer *Session) *webhooks.Trigger {
	s := d.s
	s.leg.StopPlay(d.ringback)
	if !s.answer(nil) {
		peer.cancel(s.leaving())
		return s.interrupted()
	}
	if err := media.Bridge(s.leg, peer.leg); err != nil {
		peer.cancel(ended{cause: webhooks.CauseError, text: err.Error()})
		return s.failed(err)
	}
	peer.detach() // from here on it ends when the talk does, or on its own
	d.cancel(elsewhere())
	d.peer = peer
	bind(s, s, peer, d.Refer)
	s.emit(webhooks.EventCallBridged, webhooks.EventData{PeerCallID: peer.id})
	peer.emitLive(webhooks.EventCallBridged, webhooks.EventData{PeerCallID: s.id})
	if d.Record == "answer" {
		d.startRecording()
	}
	began := time.Now()
	t := d.talk()
	s.leg.Unbridge()
	s.counts(time.Since(began))
	duration := webhooks.SecondsOf(time.Since(began))
	peer = d.peer
	t.CallID, t.Target, t.Duration, t.SIPCode = peer.who(), peer.partyName(), &duration, 200
	t.AnsweredAt = peer.answeredAt()
	t.AnsweredBy, t.DetectionDuration = peer.answeredBy()
	return t
}

// talk is the bridged call. It ends with whom the caller speaks with then: another may have taken the party's place.
func (d *dialing) talk() *webhooks.Trigger {
	s := d.s
	s.inTalk = true
	defer func() { s.inTalk, s.peerGone = false, nil }()
	limit := time.NewTimer(d.TimeLimit.Duration())
	defer limit.Stop()
	timeUp := false // it was noticed while this leg spoke with somebody else
	for {
		b := s.bonded()
		d.peer, s.peerGone = b.other(s), b.over
		woke, e := wokeTimer, media.Event{}
		if !timeUp {
			woke, e = s.wait(limit.C)
		}
		switch {
		case woke == wokeOrder && s.order.bond != s.bonded():
			s.order.refuse()
		case woke == wokePeer && s.bonded() != b: // somebody else is there
		case woke == wokePeer:
			s.part(b, b.why)
			return d.peerLeft(b)
		case woke == wokeOrder && s.order.handover != nil:
			s.handOver(s.order.handover, b)
		case woke == wokeOrder && s.order.consult != nil:
			timeUp = s.consultBeside(s.order.consult, b, limit.C)
		case woke == wokeOrder && s.order.referral != nil:
			return s.referredBy(s.order.referral, b)
		case woke == wokeTimer:
			s.part(b, ended{cause: webhooks.CauseTimeLimit})
			return &webhooks.Trigger{Outcome: webhooks.TimeLimit, EndedBy: webhooks.EndedBySystem, Cause: webhooks.CauseTimeLimit}
		case woke == wokeDigit && d.HangUpOn != "" && e.Digit == d.HangUpOn[0]:
			s.part(b, ended{cause: webhooks.CauseCallerHangup, by: webhooks.EndedByCaller})
			return &webhooks.Trigger{Outcome: webhooks.Completed, EndedBy: webhooks.EndedByCaller, Cause: webhooks.CauseCallerHangup}
		case woke == wokeDigit:
			s.emit(webhooks.EventDTMF, webhooks.EventData{Digit: string(e.Digit)})
		case woke == wokeParty && s.party.state == partyAccepted:
			s.party.leg.cancel(elsewhere())
		case woke == wokeAction && keepsPartner(*s.pending):
			s.keeping = true
			return s.interrupted()
		case woke == wokeAction:
			s.replaced(b)
			return s.interrupted()
		case woke == wokeEnd:
			s.part(b, s.leaving())
			return s.interrupted()
		}
	}
}

// peerLeft says how the talk ended, when it was not this leg that ended it.
func (d *dialing) peerLeft(b *bond) *webhooks.Trigger {
	if b.referTo != "" {
		return &webhooks.Trigger{Outcome: webhooks.Referred, ReferTo: b.referTo, EndedBy: webhooks.EndedByCaller, Cause: webhooks.CauseCallerHangup}
	}
	return peerLeft(d.peer)
}

// partyName is whom a leg is with, as its record shows it.
func (s *Session) partyName() string {
	if s.deputy != nil {
		return s.deputy.of.Load().Name
	}
	if s.call.Direction == webhooks.Inbound {
		return s.call.From
	}
	return s.call.To
}

// peerLeft says how the other leg went.
func peerLeft(peer *Session) *webhooks.Trigger {
	t := &webhooks.Trigger{Outcome: webhooks.Completed, EndedBy: webhooks.EndedByCallee, Cause: webhooks.CauseCalleeHangup}
	if peer.ctx.Err() == nil {
		t.EndedBy, t.Cause = webhooks.EndedByAPI, webhooks.CauseProgramEnd
		return t
	}
	end := endOf(peer.ctx)
	t.Cause = end.cause
	if t.EndedBy = end.by; t.EndedBy == "" {
		t.EndedBy = end.cause.Info().EndedBy
	}
	if end.cause == webhooks.CauseMediaTimeout || end.cause == webhooks.CauseEdgeLost {
		t.Outcome, t.EndedBy = webhooks.Lost, webhooks.EndedBySystem
	}
	return t
}

func (s *Session) answeredAt() *time.Time {
	if s.deputy != nil {
		return s.deputy.of.Load().AnsweredAt
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cdr.AnsweredAt
}

func (d *dialing) startRecording() {
	status := d.s.statusTarget(webhooks.Target{URL: d.RecordingStatusURL, Method: d.RecordingStatusMethod}, d.RecordingStatusEvents)
	p, err := d.s.startRecording(media.RecordConfig{Channels: 2}, "dial", status)
	if err == nil {
		d.record = p
	}
}

func (d *dialing) stopRecording(t *webhooks.Trigger) {
	if d.record == nil {
		return
	}
	t.RecordingID = d.record.RecordingID
	d.s.leg.StopRecord(d.record.media)
	d.s.awaitRecord(d.record.media)
}

// callTarget calls one target on behalf of a dial and tells it what comes of it. It runs on a goroutine of the
// session that dials, and becomes the goroutine of the new leg.
func (s *Session) callTarget(c callee) {
	t := c.target
	news := party{target: t, state: partyGone}
	if !sleep(c.ctx, t.Delay.Duration()) {
		news.end = endOf(c.ctx)
		c.parties <- news
		return
	}
	resolved, err := s.resolveTarget(c.ctx, c.query)
	if err != nil {
		news.end = resolveEnd(err)
		c.parties <- news
		return
	}
	leg := s.calls.newSession(trace.ContextWithSpan(s.calls.ctx, c.span), webhooks.NewCallID(), s.account, s.app, s.lang)
	leg.detach = context.AfterFunc(c.ctx, func() {
		if s.fenced() && leg.answered() { // who takes a call over takes the legs that are answered with it
			leg.fence()
		}
		leg.cancel(endOf(c.ctx))
	})
	leg.call.Direction = webhooks.OutboundDial
	leg.call.ParentCallID, leg.call.ConversationID = s.id, s.call.ConversationID
	leg.base, leg.guard = c.base, c.guard
	leg.setData(c.data)
	leg.journal.hides = s.journal.hides
	leg.guest = true
	leg.rungBy = c.of
	leg.watch(c.status, legEvents)
	leg.detectMachine(c.detection, c.detected)
	machine := leg.detection
	news.leg = leg
	if !s.calls.add(leg) {
		leg.detach()
		leg.dismiss()
		news.end = ended{cause: webhooks.CauseOverload}
		c.parties <- news
		return
	}
	reported := false
	leg.conduct(func() {
		defer leg.leave()
		if !leg.ring(c, resolved.Hops) {
			return
		}
		reported = true
		c.parties <- party{leg: leg, target: t, state: partyAccepted}
		if c.attend != nil {
			c.attend(leg)
			return
		}
		leg.attend()
	})
	if !reported {
		news.end = endOf(leg.ctx)
		news.machine, news.announcement = machine.ended(leg)
		c.parties <- news
	}
}

// ring places a dialled leg and runs its screen; true: it may be connected.
func (s *Session) ring(c callee, hops []control.Hop) bool {
	d, t := c.dial, c.target
	timeout := d.Timeout
	if t.Timeout > 0 {
		timeout = t.Timeout
	}
	ctx, done := context.WithTimeoutCause(s.ctx, timeout.Duration(), ended{cause: webhooks.CauseNoAnswer})
	defer done()
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	p := placing{near: c.near, codecs: c.codecs, callerName: d.CallerName, headers: d.Headers, username: t.Username, password: t.Password}
	p.early = func() {
		s.detection.hearEarly(s, giveUp)
		if c.sole {
			c.parties <- party{leg: s, target: t, state: partyEarly}
		}
	}
	answered := s.place(ctx, hops, p)
	s.detection.endEarly()
	if !answered {
		return false
	}
	if c.digits != "" {
		s.press(c.digits, sendDuration, sendGap)
	}
	if !s.judge() {
		s.cancel(ended{cause: webhooks.CauseProgramEnd, by: webhooks.EndedBySystem, text: "a machine answered"})
		return false
	}
	screen := d.Screen
	if t.Screen != nil {
		screen = t.Screen
	}
	return screen == nil || s.screen(*screen)
}

// screen runs a program on the called party before it is connected. It is accepted unless the program rejects or
// hangs up.
func (s *Session) screen(sub webhooks.Sub) bool {
	s.screened = true
	defer func() { s.screened = false }()
	if sub.Target != nil {
		s.askNext(webhooks.ReasonScreen, *sub.Target, nil)
	} else {
		s.rest = sub.Instructions
	}
	s.execute()
	if s.refused {
		s.cancel(ended{cause: webhooks.CauseDeclined, by: webhooks.EndedByCallee, text: "the screen refused"})
	}
	return s.ctx.Err() == nil
}

// attend is a connected leg's life: it belongs to whom it speaks with until the call ends, or a live change gives it a
// program of its own.
func (s *Session) attend() {
	s.inTalk = true
	defer func() { s.inTalk, s.peerGone = false, nil }()
	for {
		b := s.bonded()
		s.peerGone = nil
		if b != nil { // the dial may not have noticed yet that the leg was accepted
			s.peerGone = b.over
		}
		woke, e := s.wait(nil)
		switch {
		case woke == wokeDigit:
			s.emit(webhooks.EventDTMF, webhooks.EventData{Digit: string(e.Digit)})
		case woke == wokePeer && s.bonded() == b:
			s.cancel(b.why)
			return
		case woke == wokeOrder && s.order.bond != s.bonded():
			s.order.refuse()
		case woke == wokeOrder && s.order.handover != nil:
			s.handOver(s.order.handover, s.order.bond)
		case woke == wokeOrder && s.order.consult != nil:
			s.consultBeside(s.order.consult, s.order.bond, nil)
		case woke == wokeAction:
			s.inTalk, s.peerGone = false, nil
			s.onItsOwn()
			if s.keeping = keepsPartner(*s.pending); !s.keeping {
				s.leg.Unbridge()
				s.peerOf(b)
				s.leave()
			}
			s.takeAction()
			s.execute()
			return
		case woke == wokeEnd:
			return
		}
	}
}

// resolveQuery asks where a target is, with its templates filled in.
func (s *Session) resolveQuery(t webhooks.DialTarget, callerID string) control.ResolveQuery {
	v := s.vars()
	t.Number, t.SIP, t.Extension, t.Agent, t.Client = v.Text(t.Number), v.Text(t.SIP), v.Text(t.Extension), v.Text(t.Agent), v.Text(t.Client)
	if t.CallerID != "" {
		callerID = t.CallerID
	}
	from := s.call.From
	if s.showsCalled && s.answered() {
		from = s.call.To
	}
	return control.ResolveQuery{
		AccountID: s.account, CallID: s.id, EdgeID: s.calls.cfg.EdgeID, Target: t, CallerID: v.Text(callerID), From: from,
	}
}

// resolveTarget asks the control plane, in bounded time.
func (s *Session) resolveTarget(ctx context.Context, q control.ResolveQuery) (control.Resolved, error) {
	ctx, done := context.WithTimeout(ctx, routeTime)
	defer done()
	return s.calls.cfg.Control.Resolve(ctx, q)
}

// resolveEnd is what a target that cannot be called ends with.
func resolveEnd(err error) ended {
	var refusal *control.Error
	if !errors.As(err, &refusal) {
		return ended{cause: webhooks.CauseUnreachable, text: "the control plane is away"}
	}
	cause := refusal.Cause
	if cause == "" {
		cause = webhooks.CauseUnreachable
	}
	return ended{cause: cause, text: refusal.Message}
}

// sleep waits; false: ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
