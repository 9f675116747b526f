package session

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/edge/sip"
	"github.com/hookswitch/hookswitch/webhooks"
)

// callerClaim is what the INVITE for a caller in a queue says of itself: an entry, a claim on it, the leg that has that, and
// the agent whose leg it is, if any.
type callerClaim struct {
	entry string
	claim int64
	leg   webhooks.CallID
	agent webhooks.AgentID
}

func (c callerClaim) String() string {
	value := fmt.Sprintf("%s;claim=%d;leg=%s", c.entry, c.claim, c.leg)
	if c.agent != "" {
		value += ";agent=" + string(c.agent)
	}
	return value
}

// parseCallerClaim reads such a value; ok is false for anything else.
func parseCallerClaim(value string) (c callerClaim, ok bool) {
	entry, rest, _ := strings.Cut(value, ";claim=")
	number, rest, ok := strings.Cut(rest, ";leg=")
	leg, agent, known := strings.Cut(rest, ";agent=")
	if !ok || !strings.HasPrefix(entry, "wait_") || !strings.HasPrefix(leg, "call_") || strings.ContainsAny(leg+entry+agent, "; ") {
		return callerClaim{}, false
	}
	if known && !strings.HasPrefix(agent, "agent_") {
		return callerClaim{}, false
	}
	claim, err := strconv.ParseInt(number, 10, 64)
	if err != nil || claim < 1 || strconv.FormatInt(claim, 10) != number {
		return callerClaim{}, false
	}
	return callerClaim{entry: entry, claim: claim, leg: webhooks.CallID(leg), agent: webhooks.AgentID(agent)}, true
}

// acceptTaker serves the INVITE of another edge whose leg has taken a caller of this one. Whether that is so the caller asks
// the control plane before the two are connected.
func (c *Calls) acceptTaker(ctx context.Context, d *sip.Dialog, value string) {
	claim, ok := parseCallerClaim(value)
	w := c.queued.find(claim.entry)
	if !ok || w == nil {
		c.refuse(d, 480)
		return
	}
	by := &taker{
		leg: claim.leg, claim: claim.claim, agent: claim.agent, dialog: d,
		over: make(chan struct{}), ready: make(chan struct{}), connected: make(chan struct{}), served: make(chan struct{}),
	}
	switch {
	case w.i.Screen != nil: // it stands in a program of this edge, and would be run on the leg over there
		c.refuse(d, 488)
		return
	case w.offer(by) != nil:
		c.refuse(d, 480)
		return
	}
	w.want(by)
	select {
	case <-by.over:
	case <-d.Context().Done():
	case <-ctx.Done():
	}
	if w.abandon(by) {
		c.refuse(d, 480)
		return
	}
	<-by.served // the caller's goroutine has taken it on
}

// abandon is release unless the caller serves the leg already: then it is false.
func (w *waiter) abandon(by *taker) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if closed(by.ready) {
		return false
	}
	w.let(by)
	return true
}

// meetRemote is meet for a leg of another edge; nil when the two did not come to speak.
func (s *Session) meetRemote(w *waiter, by *taker) *webhooks.Trigger {
	if !w.begin(by) {
		return nil
	}
	defer w.release(by)
	d, err := s.answerDeputy(by.leg, by.dialog)
	if err != nil {
		defer close(by.served)
		s.log.Warn("queue.link", "error", err.Error())
		s.calls.refuse(by.dialog, 488)
		return nil
	}
	w.mu.Lock()
	claim := control.QueueClaim{AccountID: s.account, ID: w.entry.ID, Claim: by.claim}
	w.mu.Unlock()
	confirm := func(ctx context.Context) (struct{}, error) {
		return struct{}{}, s.calls.queues().ConfirmCaller(ctx, claim)
	}
	_, t, err := inquire(s, confirm, func(struct{}, error) {})
	if t != nil || err != nil || by.dialog.Context().Err() != nil { // see waiter.stood
		defer close(by.served)
		s.calls.refuse(by.dialog, 480) // one that nobody vouches for is not connected: it may be anyone
		s.dismissDeputy(d)
		return t
	}
	s.spawn(func() {
		<-d.deputy.over
		close(by.served)
	})
	d.deputy.link.follow(by.dialog)
	by.s = d
	w.speaks(by)
	s.station(d)
	return s.talkQueued(by)
}

// begin has the caller serve a leg of another edge; false when that is not to be any more.
func (w *waiter) begin(by *taker) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.taker != by {
		return false
	}
	close(by.ready)
	return true
}

// speaks lets the caller speak with a leg of another edge.
func (w *waiter) speaks(by *taker) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.claim = by.claim
	w.tellConnected(by)
	introduce(w.s, by.s)
	close(by.connected)
}

// serveElsewhere is serve for a caller of another edge.
func (s *Session) serveElsewhere(c *control.QueueCaller, screen *webhooks.Sub) *webhooks.Trigger {
	refused := func(text string) *webhooks.Trigger {
		s.giveBack(c, control.QueueFailed)
		return s.failed(errors.New(text))
	}
	switch {
	case !c.SIP.IsValid():
		return refused("the caller who is next is carried by another edge, and nobody knows where that is reached")
	case screen != nil:
		return refused("the caller who is next is carried by another edge, where the screen of this dequeue cannot be run; dequeue without screen")
	}
	s.setData(c.Data)
	if own := subOf(c.Screen); own != nil {
		if t, ok := s.screenAlone(*own, c, nil); !ok {
			return t
		}
	}
	d, err := s.openDeputy(c.CallID, c.SIP.Addr(), s.codecs())
	if err != nil {
		return refused("no audio can be set up: " + err.Error())
	}
	dialog, t, err := s.inviteEdge(c.SIP, linkQueue, callerClaim{c.ID, c.Claim, s.id, s.call.AgentID}.String(), d.deputy.link)
	rejected, _ := errors.AsType[*sip.RejectedError](err)
	if t == nil && err == nil {
		return s.talkElsewhere(c, d, dialog)
	}
	s.dismissDeputy(d)
	switch {
	case t != nil:
		s.giveBack(c, control.QueueCanceled)
		return t
	case rejected != nil && rejected.Code == 480:
		s.giveBack(c, control.QueueCanceled)
		return nil
	case rejected != nil && rejected.Code == 488:
		return refused("the caller who is next is carried by another edge, from where it cannot be connected with this leg; dequeue from a leg on its own edge")
	}
	return refused("the edge of the caller who is next could not be reached: " + err.Error())
}

// talkElsewhere is the talk with a caller of another edge.
func (s *Session) talkElsewhere(c *control.QueueCaller, d *Session, dialog *sip.Dialog) *webhooks.Trigger {
	if err := d.deputy.reach(dialog); err != nil { // the caller is told by the BYE
		s.dismissDeputy(d)
		return s.failed(fmt.Errorf("the audio of the caller's edge: %w", err))
	}
	began := time.Now()
	s.meetOver(d)
	return s.talkTaken(c.CallID, c.Waited, began)
}
