package calltest

import (
	"context"
	"strconv"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
)

// verbsOfPlane is what the plane knows for voicemail, survey, message, park and unpark; the plane's lock guards it.
type verbsOfPlane struct {
	mailboxes map[string]control.Mailbox
	surveys   map[string]control.Survey
	messages  map[string]control.TextMessage // by key
	sends     int
	parkedAt  map[string]time.Time    // by slot
	parked    map[string]control.Park // by slot
	onMessage func(control.TextMessage) error
	hold      chan struct{} // until it is closed, no answer comes
}

var _ control.Verbs = (*Plane)(nil)

// SetMailbox binds a name to a mailbox.
func (p *Plane) SetMailbox(name string, m control.Mailbox) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.verbs.mailboxes == nil {
		p.verbs.mailboxes = map[string]control.Mailbox{}
	}
	p.verbs.mailboxes[name] = m
}

// SetSurvey binds a name to a survey.
func (p *Plane) SetSurvey(name string, v control.Survey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.verbs.surveys == nil {
		p.verbs.surveys = map[string]control.Survey{}
	}
	p.verbs.surveys[name] = v
}

// Hold keeps the answers to what these verbs ask back until the returned function is called.
func (p *Plane) Hold() (release func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	hold := make(chan struct{})
	p.verbs.hold = hold
	return func() {
		p.mu.Lock()
		p.verbs.hold = nil
		p.mu.Unlock()
		close(hold)
	}
}

// OnMessage decides, each time, what sending a message fails with; the message is kept all the same, as one whose answer
// is lost. nil is nothing.
func (p *Plane) OnMessage(fn func(control.TextMessage) error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.verbs.onMessage = fn
}

// Messages returns the messages that were sent, and how often sending was asked for.
func (p *Plane) Messages() (sent []control.TextMessage, asked int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range p.verbs.messages {
		sent = append(sent, m)
	}
	return sent, p.verbs.sends
}

// Parked returns which call is in which slot.
func (p *Plane) Parked() map[string]webhooks.CallID {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := map[string]webhooks.CallID{}
	for slot, q := range p.verbs.parked {
		out[slot] = q.CallID
	}
	return out
}

// ParkElsewhere says that a slot has a call on another edge.
func (p *Plane) ParkElsewhere(slot string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.park(control.Park{Owner: control.Owner{EdgeID: "edge_other", CallID: "call_other"}, ID: "park_other", Slot: slot})
}

func (p *Plane) park(q control.Park) {
	if p.verbs.parked == nil {
		p.verbs.parked, p.verbs.parkedAt = map[string]control.Park{}, map[string]time.Time{}
	}
	if p.verbs.parked[q.Slot].ID != q.ID {
		p.verbs.parkedAt[q.Slot] = time.Now()
	}
	p.verbs.parked[q.Slot] = q
}

// asked waits for Hold, and fails while the plane is away.
func (p *Plane) asked(ctx context.Context) error {
	p.mu.Lock()
	hold := p.verbs.hold
	p.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return p.reachable()
}

func notFound(what string) error {
	return &control.Error{Code: control.CodeNotFound, Message: "there is no " + what}
}

// Mailbox implements control.Control.
func (p *Plane) Mailbox(ctx context.Context, q control.MailboxQuery) (control.Mailbox, error) {
	if err := p.asked(ctx); err != nil {
		return control.Mailbox{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	m, ok := p.verbs.mailboxes[q.Mailbox]
	if !ok {
		return control.Mailbox{}, notFound("mailbox " + q.Mailbox)
	}
	return m, nil
}

// Survey implements control.Control.
func (p *Plane) Survey(ctx context.Context, q control.SurveyQuery) (control.Survey, error) {
	if err := p.asked(ctx); err != nil {
		return control.Survey{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	v, ok := p.verbs.surveys[q.Survey]
	if !ok {
		return control.Survey{}, notFound("survey " + q.Survey)
	}
	return v, nil
}

// SendMessage implements control.Control: a message is kept once for each key.
func (p *Plane) SendMessage(ctx context.Context, m control.TextMessage) (control.MessageTaken, error) {
	if err := p.asked(ctx); err != nil {
		return control.MessageTaken{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.verbs.sends++
	if p.verbs.onMessage != nil {
		if err := p.verbs.onMessage(m); control.CodeOf(err) != "" {
			return control.MessageTaken{}, err
		} else if err != nil {
			p.keep(m)
			return control.MessageTaken{}, err
		}
	}
	p.keep(m)
	return control.MessageTaken{MessageID: webhooks.MessageID("msg_" + m.Key)}, nil
}

func (p *Plane) keep(m control.TextMessage) {
	if p.verbs.messages == nil {
		p.verbs.messages = map[string]control.TextMessage{}
	}
	p.verbs.messages[m.Key] = m
}

// firstSlot is given to whoever asks for any.
const firstSlot = 701

// Park implements control.Control.
func (p *Plane) Park(ctx context.Context, q control.Park) (control.Parked, error) {
	if err := p.asked(ctx); err != nil {
		return control.Parked{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for n := firstSlot; q.Slot == ""; n++ {
		if _, taken := p.verbs.parked[strconv.Itoa(n)]; !taken {
			q.Slot = strconv.Itoa(n)
		}
	}
	if has, taken := p.verbs.parked[q.Slot]; taken && has.ID != q.ID {
		return control.Parked{}, &control.Error{Code: control.CodeBusy, Message: "slot " + q.Slot + " is taken"}
	}
	p.park(q)
	return control.Parked{Slot: q.Slot}, nil
}

// LeavePark implements control.Control.
func (p *Plane) LeavePark(ctx context.Context, l control.ParkLeave) error {
	if err := p.asked(ctx); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for slot, q := range p.verbs.parked {
		if q.ID == l.ID {
			delete(p.verbs.parked, slot)
		}
	}
	return nil
}

// FindParked implements control.Control.
func (p *Plane) FindParked(ctx context.Context, q control.ParkedQuery) (control.ParkedCall, error) {
	if err := p.asked(ctx); err != nil {
		return control.ParkedCall{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	has, ok := p.verbs.parked[q.Slot]
	if !ok {
		return control.ParkedCall{}, notFound("call in slot " + q.Slot)
	}
	found := control.ParkedCall{CallID: has.CallID, EdgeID: has.EdgeID, Waited: webhooks.SecondsOf(time.Since(p.verbs.parkedAt[q.Slot]))}
	if has.EdgeID != q.EdgeID {
		found.Way = p.way(has.EdgeID, control.Link{
			Kind: control.LinkPark, AccountID: q.AccountID, CallID: q.CallID, EdgeID: q.EdgeID, Name: q.Slot,
		})
	}
	return found, nil
}
