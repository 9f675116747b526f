package session

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hookswitch/hookswitch/edge/media"
	"github.com/hookswitch/hookswitch/edge/sip"
	"github.com/hookswitch/hookswitch/webhooks"
)

// bond is two legs that hear each other. It ends once, and both notice: over is closed. A leg that is given another
// partner before its bond ends goes on with the new one: what counts is Session.bond.
type bond struct {
	legs  [2]*Session
	owner *Session         // whose dial it is; nil when neither has one
	refer *webhooks.Target // who decides on a REFER; nil declines all
	over  chan struct{}
	// claimed: one of the two is handing the other on, or has it wait while it speaks with somebody else.
	claimed atomic.Bool

	supervising sync.Mutex     // guards supervised
	supervised  []*supervision // those that have begun or are to begin, and some that are over

	once sync.Once
	why  ended // set before over closes; for a party without a program of its own
	// referTo is where a REFER has sent the others, set before over closes; "" when the bond ended otherwise.
	referTo string
}

// longestBond ends a talk in which nobody has a dial with a time limit.
const longestBond = 4 * time.Hour

// bind makes two legs partners in the dial of one of them, the owner.
func bind(owner, a, b *Session, refer *webhooks.Target) *bond {
	n := newBond(owner, a, b, refer)
	owner.mu.Lock()
	if owner.ctx.Err() == nil {
		owner.parted = false // of what it did before it had a dial of its own
	}
	owner.mu.Unlock()
	a.enter(n)
	b.enter(n)
	return n
}

// introduce lets two legs speak with each other from now on that each have a program of their own.
func introduce(x, y *Session) {
	x.mayBond()
	y.mayBond()
	n := newBond(nil, x, y, nil)
	x.enter(n)
	y.enter(n)
	n.connect()
}

func newBond(owner, a, b *Session, refer *webhooks.Target) *bond {
	return &bond{legs: [2]*Session{a, b}, owner: owner, refer: refer, over: make(chan struct{})}
}

// enter puts the leg into a bond, which is over at once if it has left its call already.
func (s *Session) enter(b *bond) {
	s.mu.Lock()
	s.bond = b
	gone := s.parted
	s.wake()
	s.mu.Unlock()
	if gone {
		b.end(partnerLeft)
	}
}

// partnerLeft is the end of a party whose partner has gone.
var partnerLeft = ended{cause: webhooks.CauseCallerHangup, by: webhooks.EndedByCaller, text: "the other party left"}

// rebind takes two legs from their partners and lets them hear each other, whoever's goroutine asks for it. False: one of
// them is not with that partner any more, and nothing has changed. The bonds that they were in are the caller's to end.
func rebind(x *Session, was *bond, y *Session, with *bond) bool {
	n := newBond(nil, x, y, was.refer)
	switch {
	case was.owner == x:
		n.owner = x
	case with.owner == y:
		n.owner = y
	}
	if !x.trade(was, n) {
		return false
	}
	if !y.trade(with, n) {
		x.trade(n, was)
		return false
	}
	n.connect()
	return true
}

// connect lets the two hear each other, in a bond that is no dial's.
func (b *bond) connect() {
	x, y := b.legs[0], b.legs[1]
	if err := media.Bridge(x.leg, y.leg); err != nil { // one of them is at its end
		b.end(ended{cause: webhooks.CauseError, text: err.Error()})
		return
	}
	if b.owner == nil {
		limit := time.AfterFunc(longestBond, func() { b.end(ended{cause: webhooks.CauseTimeLimit}) })
		context.AfterFunc(x.ctx, func() { limit.Stop() })
	}
	x.emitLive(webhooks.EventCallBridged, webhooks.EventData{PeerCallID: y.who()})
	y.emitLive(webhooks.EventCallBridged, webhooks.EventData{PeerCallID: x.who()})
}

// other is the partner of a leg.
func (b *bond) other(s *Session) *Session {
	if b.legs[0] == s {
		return b.legs[1]
	}
	return b.legs[0]
}

// end ends the bond; the first to do so says why.
func (b *bond) end(why ended) { b.endReferred(why, "") }

// endReferred ends the bond because a REFER has sent the partner of whoever sent it elsewhere.
func (b *bond) endReferred(why ended, referTo string) {
	b.once.Do(func() {
		b.why, b.referTo = why, referTo
		close(b.over)
	})
}

// claim is had by one at a time: who is not to have it leaves the bond as it is.
func (b *bond) claim() bool { return b.claimed.CompareAndSwap(false, true) }

func (b *bond) unclaim() { b.claimed.Store(false) }

func (b *bond) isOver() bool {
	select {
	case <-b.over:
		return true
	default:
		return false
	}
}

// bonded is the bond that a leg is in, nil for none.
func (s *Session) bonded() *bond {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bond
}

// trade gives the leg another bond for the one it is in, and wakes it. False: it is not in that one, or at its end.
func (s *Session) trade(was, now *bond) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bond != was || s.parted || s.ctx.Err() != nil {
		return false
	}
	s.bond = now
	s.wake()
	return true
}

// wake has the leg look whom it is bonded with. The caller holds mu.
func (s *Session) wake() {
	select {
	case s.orders <- order{}:
	default: // it is awake already
	}
}

// order is what a leg is asked to do by its partner. The zero value has it look whom it is bonded with.
type order struct {
	bond     *bond // that the two are in
	handover *handover
	consult  *asideOrder   // by the leg's own live change
	referral *sip.Referral // the partner's REFER, for the application to decide
	from     *Session      // who asks
}

// refuse answers an order that is not carried out.
func (o order) refuse() {
	switch {
	case o.consult != nil:
		o.consult.o.done(errEngaged)
		o.bond.unclaim()
	case o.handover != nil:
		o.bond.other(o.from).handing(false)
		o.handover.refused = true
		o.handover.end = ended{cause: webhooks.CauseUnreachable, text: "the other party is not there any more"}
		close(o.handover.done)
	case o.referral != nil && o.from.ctx.Err() == nil:
		o.from.spawn(func() { o.from.notifyReferral(o.referral, 503) })
	}
}

// ask gives an order to the partner of a leg. False: it is not there any more, has too much to do, or is being handed over
// already.
func (b *bond) ask(from *Session, o order) bool {
	of := b.other(from)
	o.bond, o.from = b, from
	of.mu.Lock()
	defer of.mu.Unlock()
	if of.bond != b || of.parted || o.handover != nil && of.beingHanded {
		return false
	}
	select {
	case of.orders <- o:
		if o.handover != nil {
			of.beingHanded = true
		}
		return true
	default:
		return false
	}
}

// handing notes that the leg is being handed over, or not any more.
func (s *Session) handing(now bool) {
	s.mu.Lock()
	s.beingHanded = now
	s.mu.Unlock()
}

// part takes the leg out of a bond, and ends it for both. A partner that has no program of its own and nobody else to
// speak with is hung up. What it was still asked is refused.
func (s *Session) part(b *bond, why ended) {
	if b == nil {
		return
	}
	if s.bonded() == b {
		s.surveyAfter(b)
	}
	partner := b.other(s)
	if s.fenced() && partner.guestIn(b) { // who takes a call over takes both its legs
		partner.fence()
	}
	if partner.follows(b) {
		partner.cancel(why)
	}
	b.end(why)
	s.aloneAgain()
	s.mu.Lock()
	if s.bond == b {
		s.bond = nil
	}
	s.mu.Unlock()
	s.refuseOrders()
}

// follows reports whether the leg has nothing to do without its partner in this bond. One that is being handed over may
// soon have another.
func (s *Session) follows(b *bond) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.guest && s.bond == b && !s.beingHanded && s.merged.Load() == nil
}

// guestIn reports whether the leg is in this bond and has no program of its own.
func (s *Session) guestIn(b *bond) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.guest && s.bond == b
}

// onItsOwn notes that the leg has a program of its own from here on.
func (s *Session) onItsOwn() {
	s.mu.Lock()
	s.guest = false
	s.mu.Unlock()
}

// leave takes the leg out of whatever bond it is in, or will be put in, because its call is over or goes on elsewhere.
func (s *Session) leave() {
	s.mu.Lock()
	s.parted = true
	b := s.bond
	s.bond = nil
	s.mu.Unlock()
	if b != nil {
		s.surveyAfter(b)
		b.end(s.leaving())
	}
	s.aloneAgain()
	s.refuseOrders()
}

func (s *Session) refuseOrders() {
	for {
		select {
		case o := <-s.orders:
			o.refuse()
		default:
			return
		}
	}
}

// emitLive emits an event that another leg's goroutine has led to, unless the call has ended.
func (s *Session) emitLive(kind webhooks.EventType, data webhooks.EventData) {
	if s.deputy != nil {
		s.deputy.tell(kind, data)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.over {
		s.emitLocked(kind, data)
	}
}
