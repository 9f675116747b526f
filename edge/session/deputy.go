package session

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/hookswitch/hookswitch/edge/media"
	"github.com/hookswitch/hookswitch/edge/media/codec"
	"github.com/hookswitch/hookswitch/edge/sdp"
	"github.com/hookswitch/hookswitch/edge/sip"
	"github.com/hookswitch/hookswitch/webhooks"
)

// deputy stands on this edge for a leg that another edge carries. It is a session whose audio is a link, and it speaks in a
// bond like any other: so whatever is done with a talk (handing the other on, holding, consulting, supervising) is done in
// the same way when one of the two is far away. On the other edge a deputy stands for the leg of this one.
//
//	edge A        link        edge B
//	leg ── deputy ═════ deputy ── leg
//
// What concerns the far leg itself, and not what it hears, a deputy passes on: to call a target and go on with it, to go into
// a slot or to a survey, to run a program, to be hung up. The far leg does that as it would for a partner of its own edge, and
// with it its record, its events and its application are those that they would be there. When the far leg goes on with
// somebody of its own edge, the link ends; when this edge gives it somebody else to speak with, the link stays, and the other
// edge is told who that is.
//
// Why no event is told of a deputy, and it is in no record: it is no call, see link.
//
// Its own goroutine, stand, owns the fields that no other comment claims.
type deputy struct {
	s      *Session // that it is
	link   *link
	answer []byte // to the INVITE of the other edge; nil where that was ours
	of     atomic.Pointer[person]
	three  atomic.Bool // the other edge has said that its leg is in a talk of three

	besides chan func()       // what follows from work done apart
	quit    chan struct{}     // closed when nothing follows any more
	over    chan struct{}     // closed when there is nothing of it left
	until   <-chan struct{}   // closed when it need not wait for a partner any more; nil while it has one
	serving int               // askings of the other edge that are not answered yet
	gone    bool              // nobody here speaks with the leg any more
	cutOff  bool              // the link is over
	watched *supervision      // what it does instead of speaking; nil for nothing
	duties  chan *supervision // what it is to do next
	pick    *pick             // it is to pick up; nil for nothing

	mu     sync.Mutex // guards what follows
	asks   int
	asking map[int]func(answered)
	deaf   bool // nothing is asked any more
}

// openDeputy prepares the deputy for a leg of another edge. Whoever does ends with stand, or dismisses it.
func (s *Session) openDeputy(of webhooks.CallID, peer netip.Addr, codecs []codec.ID) (*Session, error) {
	d := &Session{
		calls: s.calls, id: of, account: s.account, lang: s.lang, guest: true,
		log: s.log.With("deputy_of", of), orders: make(chan order, 8),
	}
	// It ends with its partner, also when the edge does: what that wants of the leg before it goes is passed on.
	d.ctx, d.cancel = context.WithCancelCause(context.WithoutCancel(s.calls.ctx))
	l, err := s.calls.openLink(s.leg, peer, codecs, d.spawn, d.log)
	if err != nil {
		d.cancel(err)
		return nil, err
	}
	d.leg = l.leg
	d.deputy = &deputy{
		s: d, link: l, besides: make(chan func(), 8), quit: make(chan struct{}), over: make(chan struct{}),
		duties: make(chan *supervision, 1), asking: map[int]func(answered){},
	}
	d.deputy.of.Store(&person{CallID: of})
	return d, nil
}

// answerDeputy is openDeputy for a link that the other edge has offered.
func (s *Session) answerDeputy(of webhooks.CallID, dialog *sip.Dialog) (*Session, error) {
	d, err := s.openDeputy(of, dialog.RemoteAddr().Addr(), nil)
	if err != nil {
		return nil, err
	}
	p := d.deputy
	var agreed sdp.Negotiated
	if p.answer, agreed, err = p.link.answerOffer(dialog.Body()); err == nil {
		err = p.link.agree(agreed)
	}
	if err != nil {
		s.dismissDeputy(d)
		return nil, err
	}
	return d, nil
}

// greet waits until the other edge has said whom it has at the link.
func (p *deputy) greet(ctx context.Context) error {
	select {
	case body := <-p.link.heard:
		p.hear(body)
		return nil
	case <-p.link.over:
		return errGone
	case <-ctx.Done():
		return ctx.Err()
	}
}

// reach lets audio flow as the other edge has answered.
func (p *deputy) reach(dialog *sip.Dialog) error {
	p.link.follow(dialog)
	return p.link.accept()
}

// dismissDeputy ends one that never stood.
func (s *Session) dismissDeputy(d *Session) {
	d.deputy.link.close()
	d.cancel(partnerLeft)
	s.spawn(d.work.Wait)
}

// meetOver lets the leg speak with a deputy whose link is up, without telling so: the other edge does.
func (s *Session) meetOver(d *Session) {
	s.mayBond()
	n := newBond(nil, s, d, nil)
	s.enter(n)
	d.enter(n)
	if err := media.Bridge(s.leg, d.leg); err != nil { // the leg is at its end
		n.end(ended{cause: webhooks.CauseError, text: err.Error()})
	}
	s.station(d)
}

// station begins the life of a deputy.
func (s *Session) station(d *Session) { s.spawn(func() { d.recovered(d.deputy.stand) }) }

// who is the leg as others show it: of a deputy the one that it stands for.
func (s *Session) who() webhooks.CallID {
	if p := s.deputy; p != nil {
		return p.of.Load().CallID
	}
	return s.id
}

// asPerson is the leg for the other end of a link.
func (s *Session) asPerson() *person {
	if p := s.deputy; p != nil {
		return p.of.Load()
	}
	return &person{CallID: s.id, Name: s.partyName(), AnsweredAt: s.answeredAt()}
}

// stand is a deputy's life: as long as somebody here speaks with the leg, and until what was asked is answered.
func (p *deputy) stand() {
	d := p.s
	defer close(p.over)
	defer d.work.Wait()
	defer p.close()
	if p.answer != nil {
		ctx, done := context.WithTimeout(context.WithoutCancel(d.ctx), linkTime)
		err := p.link.answer(ctx, p.answer)
		done()
		if err != nil {
			d.log.Info("link.answer", "error", err.Error())
			p.link.end(true)
		}
	}
	if b := d.bonded(); b != nil {
		p.say(talkWord{Hello: b.other(d).asPerson()})
	}
	for !p.finished() {
		p.next()
	}
}

// next does one thing of all that there may be to do.
func (p *deputy) next() {
	d, b := p.s, p.s.bonded()
	var left, stop <-chan struct{}
	if b != nil {
		left, p.until = b.over, nil
	}
	if b == nil || b.other(d).deputy != nil { // nobody tells it of the end of the edge
		stop = d.calls.ctx.Done()
	}
	end := d.ctx.Done()
	if p.gone {
		left, end, stop = nil, nil, nil
	}
	select {
	case o := <-d.orders:
		p.carry(o)
	case body := <-p.link.heard:
		p.hear(body)
	case v := <-p.duties:
		p.watch(v)
	case then := <-p.besides:
		then()
	case <-left:
		if d.bonded() == b && len(d.orders) == 0 { // what the partner has asked for before it left is passed on
			p.part(b.why)
		}
	case <-p.until:
		p.part(superviseOver)
	case <-stop:
		d.cancel(endOf(d.calls.ctx))
	case <-end:
		if len(d.orders) == 0 {
			p.part(endOf(d.ctx))
		}
	case <-p.link.over:
		for len(p.link.heard) > 0 { // what was said before
			p.hear(<-p.link.heard)
		}
		p.cut()
	}
}

// finished reports whether it need stand no longer. Nothing is asked of it after that.
func (p *deputy) finished() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deaf = p.cutOff || p.gone && p.serving == 0 && len(p.asking) == 0
	return p.deaf
}

// close hangs the link up.
func (p *deputy) close() {
	d := p.s
	d.leave()
	d.cancel(ended{cause: webhooks.CauseProgramEnd, by: webhooks.EndedByAPI, text: "the link is over"})
	p.fail(errGone)
	close(p.quit)
	p.link.close()
}

// part tells the other edge that nobody here speaks with its leg any more.
func (p *deputy) part(why ended) {
	left := leaveTaking{Why: *endingOf(why)}
	if b := p.s.bonded(); b != nil {
		if partner := b.other(p.s); partner.ctx.Err() != nil {
			left.End = endingOf(endOf(partner.ctx))
		}
	}
	p.say(talkWord{Left: &left})
	p.release(why)
}

// release takes the deputy out of its talk.
func (p *deputy) release(why ended) {
	d := p.s
	p.gone, p.until = true, nil
	p.stopWatching()
	if p.pick != nil {
		p.pick.lose(errOffDuty)
	}
	d.mu.Lock()
	b := d.bond
	d.bond, d.parted = nil, true
	d.mu.Unlock()
	if b != nil {
		b.end(why)
	}
	d.refuseOrders()
}

// watch has the leg supervise a talk, or take somebody's place in it, instead of what it did.
func (p *deputy) watch(v *supervision) {
	d := p.s
	p.stopWatching()
	switch {
	case v.intercept && v.takeOver(d):
		d.inThree(false)
	case !v.intercept && v.begin(d):
		d.inThree(true)
		p.watched, p.until = v, v.over
	default:
		p.part(superviseOver)
	}
}

func (p *deputy) stopWatching() {
	v := p.watched
	if v == nil {
		return
	}
	p.watched, p.until = nil, nil
	v.end(errOffDuty)
	p.s.leg.Unwatch()
}

// cut is the end of the link. When nobody has said why, the leg has hung up, or its edge was lost.
func (p *deputy) cut() {
	p.cutOff = true
	why := errGone
	if p.link.lost {
		why = errors.New("the edge that carries the other party was lost")
	}
	p.fail(why)
	if p.gone {
		return
	}
	d := p.s
	if p.link.lost {
		d.cancel(ended{cause: webhooks.CauseEdgeLost, text: why.Error()})
	} else {
		d.cancel(partnerLeft)
	}
	p.release(d.leaving())
}

// fail answers all that was asked of the other edge.
func (p *deputy) fail(why error) {
	p.mu.Lock()
	p.deaf = true
	asking := p.asking
	p.asking = map[int]func(answered){}
	p.mu.Unlock()
	for n, then := range asking {
		then(answered{Number: n, Message: why.Error()})
	}
}

// say tells the other edge. False: the word is too long.
func (p *deputy) say(w talkWord) bool {
	body, err := json.Marshal(w)
	if err != nil || len(body) > maxWord {
		p.s.log.Warn("link.word", "octets", len(body), "error", errorText(err))
		return false
	}
	p.link.pass(body)
	return true
}

// ask has the other edge do something with its leg, and then called when it is known what became of that: on the deputy's
// goroutine, or at once where nothing can be asked. Any goroutine may ask.
func (p *deputy) ask(change webhooks.Action, then func(answered)) {
	p.mu.Lock()
	if p.deaf {
		p.mu.Unlock()
		then(answered{Message: errGone.Error()})
		return
	}
	p.asks++
	n := p.asks
	p.asking[n] = then
	p.mu.Unlock()
	if !p.say(talkWord{Ask: &asking{Number: n, Change: change}}) {
		p.told(answered{Number: n, Message: errTooLong.Error()})
	}
}

func (p *deputy) told(a answered) {
	p.mu.Lock()
	then := p.asking[a.Number]
	delete(p.asking, a.Number)
	p.mu.Unlock()
	if then != nil {
		then(a)
	}
}

// inquire is ask for who waits for the answer.
func (p *deputy) inquire(change webhooks.Action) answered {
	got := make(chan answered, 1)
	p.ask(change, func(a answered) { got <- a })
	return <-got // given by stand at the latest
}

// carry passes on what the partner wants of the leg.
func (p *deputy) carry(o order) {
	d, h := p.s, o.handover
	switch {
	case o.bond == nil: // it looks whom it is with
		return
	case h == nil || o.bond != d.bonded():
		o.refuse()
		return
	}
	call := webhooks.Program{Instructions: []webhooks.Instruction{&h.dial}}
	p.ask(webhooks.Action{Program: &call}, func(a answered) {
		if a.OK { // it speaks with somebody of its own edge
			d.mu.Lock()
			d.bond, d.parted = nil, true
			d.mu.Unlock()
			p.gone = true
		}
		d.handing(false)
		h.ok, h.callID, h.outcome, h.err = a.OK, a.CallID, a.Outcome, a.err()
		h.end = ended{cause: webhooks.CauseUnreachable, text: a.Message}
		if a.End != nil {
			h.end = a.End.ended()
		}
		close(h.done)
	})
}

// tell passes on an event of the leg: whom it speaks with is all that another leg's goroutine tells.
func (p *deputy) tell(kind webhooks.EventType, data webhooks.EventData) {
	if kind != webhooks.EventCallBridged {
		return
	}
	with := &person{CallID: data.PeerCallID}
	if b := p.s.bonded(); b != nil {
		if o := b.other(p.s); o.who() == with.CallID {
			with = o.asPerson()
		}
	}
	p.say(talkWord{Bridged: with})
}

// hear is a word of the other edge.
func (p *deputy) hear(body []byte) {
	var w talkWord
	if err := json.Unmarshal(body, &w); err != nil {
		p.s.log.Error("link.word", "error", err.Error())
		p.link.end(true)
		return
	}
	switch {
	case w.Hello != nil:
		p.of.Store(w.Hello)
	case w.Bridged != nil:
		p.of.Store(w.Bridged)
		if partner := p.partner(); partner != nil {
			partner.emitLive(webhooks.EventCallBridged, webhooks.EventData{PeerCallID: w.Bridged.CallID})
		}
	case w.Left != nil && !p.gone:
		if w.Left.End != nil {
			p.s.cancel(w.Left.End.ended())
		}
		p.release(w.Left.Why.ended())
	case w.HangUp != nil:
		for _, leg := range p.s.speakers() {
			if leg != nil && leg != p.s {
				leg.endBy(w.HangUp.ended())
			}
		}
	case w.Change != nil && w.Change.Program != nil:
		if partner := p.partner(); partner != nil {
			partner.change(*w.Change)
		}
	case w.Touch:
		if partner := p.partner(); partner != nil {
			partner.touch()
		}
	case w.Three != nil:
		p.three.Store(*w.Three)
	case w.Ask != nil:
		p.asked(*w.Ask)
	case w.Done != nil:
		p.told(*w.Done)
	}
}

// partner is the leg of this edge that is with the one of the other; nil for none.
func (p *deputy) partner() *Session {
	b := p.s.bonded()
	if b == nil || b.isOver() {
		return nil
	}
	if partner := b.other(p.s); partner.bonded() == b {
		return partner
	}
	return nil
}

// asked has the leg of this edge do what its partner on the other wants of it: a program is the one dial of a transfer.
func (p *deputy) asked(a asking) {
	partner := p.partner()
	if partner == nil {
		p.answered(a, answered{Message: errGone.Error()})
		return
	}
	b := p.s.bonded()
	if a.Change.Program != nil {
		p.handOver(a, b)
		return
	}
	switch op := a.Change.Op.(type) {
	case *webhooks.OpPark:
		if !b.claim() {
			p.answered(a, answered{Message: errEngaged.Error()})
			return
		}
		var done answered
		p.apart(func() {
			defer b.unclaim()
			var err error
			if done.Slot, err = p.s.parkPartner(b, op); err != nil {
				done.Message = err.Error()
			}
		}, func() { p.answered(a, done) })
	case *webhooks.OpSurvey:
		wait := partner.sendToSurvey(b, &webhooks.Survey{SurveyID: op.SurveyID, Invite: op.Invite})
		var err error
		p.apart(func() { err = wait() }, func() { p.answered(a, answered{Message: errorText(err)}) })
	case *webhooks.OpDrop:
		p.answered(a, answered{Message: errorText(p.s.dropOne(op.CallID))})
	default:
		p.answered(a, answered{Message: "the edge of the other party is older and does not know the change"})
	}
}

// handOver has the leg of this edge call a target and go on with it.
func (p *deputy) handOver(a asking, b *bond) {
	var dial *webhooks.Dial
	if all := a.Change.Program.Instructions; len(all) == 1 {
		dial, _ = all[0].(*webhooks.Dial)
	}
	if dial == nil {
		p.answered(a, answered{Message: "there is nobody to call"})
		return
	}
	h := &handover{dial: *dial, done: make(chan struct{})}
	if !b.claim() {
		p.answered(a, answered{Message: errEngaged.Error()})
		return
	}
	if !b.ask(p.s, order{handover: h}) {
		b.unclaim()
		p.answered(a, answered{Message: errEngaged.Error()})
		return
	}
	p.apart(func() {
		<-h.done // the leg's goroutine closes it, whatever happens
		b.unclaim()
	}, func() {
		done := answered{OK: h.ok, CallID: h.callID, Outcome: h.outcome, End: endingOf(h.end)}
		if h.refused {
			done.Message = errGone.Error()
		}
		p.answered(a, done)
		if h.ok {
			p.release(handedOn)
		}
	})
}

func (p *deputy) answered(a asking, done answered) {
	done.Number = a.Number
	p.say(talkWord{Done: &done})
}

// apart has work done on another goroutine, and what follows from it on the deputy's own.
func (p *deputy) apart(work, then func()) {
	p.serving++
	p.s.spawn(func() {
		work()
		select {
		case p.besides <- func() { p.serving--; then() }:
		case <-p.quit:
		}
	})
}
