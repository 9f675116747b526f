package session

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/edge/media"
	"github.com/hookswitch/hookswitch/edge/prompt"
	"github.com/hookswitch/hookswitch/edge/sip"
	"github.com/hookswitch/hookswitch/webhooks"
)

// A parked call waits on its own edge, where its slot is known: so that of two who want to pick it up at the same moment
// exactly one does, whatever else is away. The control plane gives slots out, and says which edge has whom. A leg of another
// edge picks it up over a link.

// place is a slot of an account.
type place struct {
	account webhooks.AccountID
	slot    string
}

// parkings are the calls that are parked on this edge. The zero value is none.
type parkings struct {
	mu sync.Mutex // guards at
	at map[place]*parking
}

// parking is one call in its slot, from being parked to going on.
type parking struct {
	place
	s     *Session
	since time.Time
	knock chan struct{} // has room for one: by has come
	left  chan struct{} // closed when the call goes on, or is over
	by    *pickup       // under the lock of parkings
}

// pickup is a leg that has taken a parked call, until the two part.
type pickup struct {
	s         *Session      // of a leg of another edge its deputy, once it is there
	dialog    *sip.Dialog   // of the link of a leg of another edge; nil for one of this
	served    chan struct{} // of such a leg: closed when the parked call has no more to do with it
	leg       webhooks.CallID
	ready     chan struct{} // closed by the parked call when it can be connected
	connected chan struct{} // closed when the two speak
	began     time.Time     // of the talk; set before connected is closed
	left      chan struct{} // closed by the leg when it goes on, or is over
}

// offer lets a call be picked up.
func (p *parkings) offer(a *parking) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.at == nil {
		p.at = map[place]*parking{}
	}
	a.by = nil
	p.at[a.place] = a
}

// withdraw ends that, unless somebody has picked it up.
func (p *parkings) withdraw(a *parking) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.at[a.place] == a {
		delete(p.at, a.place)
	}
}

// take picks the call up that is in a place; nil when there is none. Nobody else finds it from then on.
func (p *parkings) take(at place, by *pickup) *parking {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := p.at[at]
	if a == nil {
		return nil
	}
	delete(p.at, at)
	a.by = by
	a.knock <- struct{}{}
	return a
}

// connect lets a parked call speak with the leg that has come. False: it does not wait for that one any more.
func (p *parkings) connect(a *parking, by *pickup) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if a.by != by {
		return false
	}
	by.began = time.Now()
	waited := webhooks.SecondsOf(by.began.Sub(a.since))
	a.s.emitLive(webhooks.EventCallUnparked, webhooks.EventData{Slot: a.slot, Waited: &waited, PeerCallID: by.leg})
	introduce(a.s, by.s)
	close(by.connected)
	return true
}

// release has a parked call wait no longer for the leg that has come. False: the two speak already.
func (p *parkings) release(a *parking, by *pickup) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if closed(by.connected) {
		return false
	}
	a.by = nil
	return true
}

// park keeps the call in a slot, with music, until somebody who has picked it up is gone again.
func (s *Session) park(i *webhooks.Park) *webhooks.Trigger {
	if !s.answer(nil) {
		return s.interrupted()
	}
	s.dropTyped()
	q := control.Park{
		Owner: control.Owner{EdgeID: s.calls.cfg.EdgeID, BootID: s.calls.cfg.BootID, Epoch: 1, AccountID: s.account, CallID: s.id},
		ID:    webhooks.NewID("park"), Slot: s.vars().Text(i.Slot),
	}
	leave := func(_ control.Parked, err error) {
		if control.CodeOf(err) == "" { // it was given, or nobody knows
			s.leaveSlot(q.ID)
		}
	}
	given, t, err := inquire(s, func(ctx context.Context) (control.Parked, error) { return s.calls.cfg.Control.Park(ctx, q) }, leave)
	switch {
	case t != nil:
		return t
	case err != nil:
		s.spawn(func() { leave(given, err) })
		return s.failed(refusal(err))
	}
	return s.stayIn(q.ID, given)
}

// stayIn is the stay in a slot that was given, until it is given back.
func (s *Session) stayIn(id string, given control.Parked) *webhooks.Trigger {
	defer s.spawn(func() { s.leaveSlot(id) })
	a := &parking{place: place{s.account, given.Slot}, s: s, since: time.Now(), knock: make(chan struct{}, 1), left: make(chan struct{})}
	defer close(a.left)
	s.emit(webhooks.EventCallParked, webhooks.EventData{Slot: a.slot})
	defer func() { s.counts(time.Since(a.since)) }()
	return s.stay(a)
}

// leaveSlot gives a slot back, and keeps at it while the call lives; when that ends, so does its stay.
func (s *Session) leaveSlot(id string) {
	for {
		ctx, done := context.WithTimeout(context.WithoutCancel(s.ctx), inquiryTime)
		err := s.calls.cfg.Control.LeavePark(ctx, control.ParkLeave{AccountID: s.account, ID: id})
		done()
		if err == nil || control.CodeOf(err) != "" || !sleep(s.ctx, time.Second) {
			return
		}
	}
}

// stay waits in a slot until somebody has come and gone.
func (s *Session) stay(a *parking) *webhooks.Trigger {
	for {
		t := s.waitParked(a)
		if t == nil {
			t = s.pickedUp(a)
		}
		if t != nil {
			t.Slot = a.slot
			return t
		}
		// Whoever came was gone before the two spoke: the call waits on.
	}
}

// waitParked plays music until somebody picks the call up.
func (s *Session) waitParked(a *parking) *webhooks.Trigger {
	if hold, ok := s.calls.cfg.Prompts.System(prompt.Hold, s.lang); ok {
		music := s.leg.Play(media.PlayConfig{Prompts: []*media.Prompt{hold}, Loop: 0})
		defer func() { s.leg.StopPlay(music) }()
	}
	s.calls.parked.offer(a)
	defer s.calls.parked.withdraw(a)
	s.news = a.knock
	defer func() { s.news = nil }()
	for {
		woke, e := s.wait(nil)
		switch woke {
		case wokeNews:
			return nil
		case wokeDigit:
			s.emit(webhooks.EventDTMF, webhooks.EventData{Digit: string(e.Digit)})
		case wokeAction, wokeEnd:
			return s.unpicked(a)
		}
	}
}

// unpicked ends the stay of a call that nobody has picked up.
func (s *Session) unpicked(a *parking) *webhooks.Trigger {
	waited := webhooks.SecondsOf(time.Since(a.since))
	s.emit(webhooks.EventCallUnparked, webhooks.EventData{Slot: a.slot, Waited: &waited})
	t := s.interrupted()
	t.Waited = &waited
	return t
}

// pickedUp is the talk of a parked call with the leg that has come; nil when that was gone before.
func (s *Session) pickedUp(a *parking) *webhooks.Trigger {
	by := a.by
	if by.dialog != nil {
		return s.pickedUpFar(a, by)
	}
	s.peerGone, s.news = by.left, by.connected
	defer func() { s.peerGone, s.news = nil, nil }()
	close(by.ready)
	for {
		woke, e := s.wait(nil)
		switch woke {
		case wokeNews:
			return s.talkParked(a, by)
		case wokeDigit:
			s.emit(webhooks.EventDTMF, webhooks.EventData{Digit: string(e.Digit)})
		case wokePeer, wokeAction, wokeEnd:
			if !s.calls.parked.release(a, by) { // in the same moment
				return s.talkParked(a, by)
			}
			if woke == wokePeer {
				return nil
			}
			return s.unpicked(a)
		}
	}
}

// pickedUpFar is pickedUp for a leg of another edge.
func (s *Session) pickedUpFar(a *parking, by *pickup) *webhooks.Trigger {
	d, err := s.answerDeputy(by.leg, by.dialog)
	if err != nil {
		defer close(by.served)
		s.log.Warn("park.link", "error", err.Error())
		s.calls.refuse(by.dialog, 488)
		return nil
	}
	s.spawn(func() {
		<-d.deputy.over
		close(by.served)
	})
	d.deputy.link.follow(by.dialog)
	if by.dialog.Context().Err() != nil {
		s.dismissDeputy(d)
		return nil
	}
	by.s = d
	s.calls.parked.connect(a, by)
	s.station(d)
	return s.talkParked(a, by)
}

// acceptPickup serves the INVITE of another edge whose leg picks up a call that is parked on this one.
func (c *Calls) acceptPickup(d *sip.Dialog, of control.Link) {
	by := &pickup{dialog: d, served: make(chan struct{}), connected: make(chan struct{}), leg: of.CallID}
	a := c.parked.take(place{of.AccountID, of.Name}, by)
	if a == nil {
		c.refuse(d, 480)
		return
	}
	select {
	case <-by.served:
	case <-a.left:
		switch {
		case by.s != nil: // the link may serve others yet
			<-by.served
		case !closed(by.served): // it went on before it could see who came
			c.refuse(d, 480)
		}
	}
}

// talkParked is the talk of a parked call with the leg that has come, until it speaks with nobody any more.
func (s *Session) talkParked(a *parking, by *pickup) *webhooks.Trigger {
	return s.talkPickedUp(by.leg, webhooks.SecondsOf(by.began.Sub(a.since)), by.began)
}

// talkPickedUp is the talk of a parked call, or of who has picked it up. Neither is told how the other went.
func (s *Session) talkPickedUp(with webhooks.CallID, waited webhooks.Seconds, began time.Time) *webhooks.Trigger {
	s.news = nil
	t := s.talkInBond("")
	if t.Outcome == webhooks.Lost {
		t.Outcome = webhooks.Bridged
	}
	duration := webhooks.SecondsOf(time.Since(began))
	t.CallID, t.Waited, t.Duration, t.EndedBy = with, &waited, &duration, ""
	return t
}

// unpark connects this leg with the call that is parked in a slot.
func (s *Session) unpark(i *webhooks.Unpark) *webhooks.Trigger {
	if !s.answer(nil) {
		return s.interrupted()
	}
	s.dropTyped()
	slot := s.vars().Text(i.Slot)
	by := &pickup{s: s, leg: s.id, ready: make(chan struct{}), connected: make(chan struct{}), left: make(chan struct{})}
	defer close(by.left)
	began := time.Now()
	defer func() { s.counts(time.Since(began)) }()
	var t *webhooks.Trigger
	if a := s.calls.parked.take(place{s.account, slot}, by); a != nil {
		t = s.pickUp(a, by)
	} else {
		t = s.parkedElsewhere(slot)
	}
	t.Slot = slot
	return t
}

// parkedElsewhere is what becomes of a leg that finds nobody here in a slot: another edge may have him.
func (s *Session) parkedElsewhere(slot string) *webhooks.Trigger {
	q := control.ParkedQuery{EdgeID: s.calls.cfg.EdgeID, AccountID: s.account, CallID: s.id, Slot: slot}
	found, t, err := inquire(s, func(ctx context.Context) (control.ParkedCall, error) { return s.calls.cfg.Control.FindParked(ctx, q) }, nil)
	switch {
	case t != nil:
		return t
	case control.CodeOf(err) == control.CodeNotFound:
		return &webhooks.Trigger{Outcome: webhooks.Empty}
	case err != nil:
		return s.failed(refusal(err))
	case found.EdgeID != s.calls.cfg.EdgeID:
		return s.pickUpFar(slot, found)
	}
	return &webhooks.Trigger{Outcome: webhooks.Empty} // it has just left, or somebody else has it
}

// pickUpFar connects the leg with a call that is parked on another edge, and is their talk.
func (s *Session) pickUpFar(slot string, found control.ParkedCall) *webhooks.Trigger {
	refuse := func(text string) *webhooks.Trigger {
		return s.failed(errors.New("the call in slot " + slot + " is carried by another edge, " + text))
	}
	asked := time.Now()
	if !found.SIP.IsValid() {
		return refuse("and nobody knows where that is reached")
	}
	d, err := s.openDeputy(found.CallID, found.SIP.Addr(), s.codecs())
	if err != nil {
		return s.failed(fmt.Errorf("no audio can be set up: %w", err))
	}
	dialog, t, err := s.inviteEdge(found.SIP, control.LinkPark, found.Ticket, d.deputy.link)
	switch {
	case t != nil:
	case notThere(err): // it has just left, or somebody else has it
		t = &webhooks.Trigger{Outcome: webhooks.Empty}
	case err != nil:
		t = refuse("which could not be reached: " + err.Error())
	default:
		if err := d.deputy.reach(dialog); err != nil { // it is told by the BYE
			t = refuse("whose audio cannot be had: " + err.Error())
		}
	}
	if t != nil {
		s.dismissDeputy(d)
		return t
	}
	began := time.Now()
	s.meetOver(d)
	return s.talkPickedUp(found.CallID, found.Waited+webhooks.SecondsOf(began.Sub(asked)), began)
}

// pickUp connects the two, and is their talk.
func (s *Session) pickUp(a *parking, by *pickup) *webhooks.Trigger {
	s.peerGone, s.news = a.left, by.ready
	defer func() { s.peerGone, s.news = nil, nil }()
	for {
		woke, e := s.wait(nil)
		switch woke {
		case wokeNews:
			return s.connectParked(a, by)
		case wokePeer:
			return &webhooks.Trigger{Outcome: webhooks.Empty}
		case wokeDigit:
			s.typeAhead(e.Digit)
		case wokeAction, wokeEnd:
			return s.interrupted()
		}
	}
}

func (s *Session) connectParked(a *parking, by *pickup) *webhooks.Trigger {
	if !s.calls.parked.connect(a, by) {
		return &webhooks.Trigger{Outcome: webhooks.Empty}
	}
	return s.talkPickedUp(a.s.id, webhooks.SecondsOf(by.began.Sub(a.since)), by.began)
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
