package session

import (
	"bytes"
	"sync"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/edge/sip"
)

// trails leads each SIP message to the journal of the leg that it belongs to, by its Call-ID. The first messages of a leg
// come before it is known whose they are: those of an incoming INVITE are held until the control plane has said so, and an
// INVITE of ours is known by the session id of its offer, which is random and the leg's alone (RFC 8866 §5.2).
type trails struct {
	mu     sync.Mutex // guards what follows
	of     map[string]*journal
	offers map[string]*journal
	held   []sip.TraceEvent
	size   int // octets of held
}

// trail is what leads to a journal. trails.mu guards it.
type trail struct {
	callIDs []string
	offer   string
}

// What is held of calls that are not known yet: beyond, the oldest goes, and is missing from its journal.
const (
	mostHeld     = 1024
	mostHeldSize = 2 << 20
	heldFor      = 10 * time.Second
)

// Trace is for sip.Config.Trace: it keeps the messages of calls in their journals.
func (c *Calls) Trace(e sip.TraceEvent) {
	if j := c.trails.find(e); j != nil {
		j.noteSIP(e)
	}
}

// find is the journal of a message. One that may become somebody's is held.
func (t *trails) find(e sip.TraceEvent) *journal {
	t.mu.Lock()
	defer t.mu.Unlock()
	if j := t.of[e.SIPCallID]; j != nil {
		return j
	}
	if e.Out && bytes.HasPrefix(e.Message, []byte("INVITE ")) {
		if j := t.offers[offerID(e.Message)]; j != nil {
			t.lead(e.SIPCallID, j)
			return j
		}
	}
	if bytes.HasPrefix(e.Message, []byte("ACK ")) || bytes.Contains(e.Message, []byte(" INVITE\r\n")) { // by its CSeq
		t.hold(e)
	}
	return nil
}

// offerID is the session id in the description that a message carries, "" without one: the second word of "o=".
func offerID(message []byte) string {
	_, origin, ok := bytes.Cut(message, []byte("\r\no="))
	if !ok {
		return ""
	}
	_, rest, _ := bytes.Cut(origin, []byte(" "))
	id, _, _ := bytes.Cut(rest, []byte(" "))
	return string(id)
}

// hold keeps a message for claim. The caller holds mu.
func (t *trails) hold(e sip.TraceEvent) {
	t.held = append(t.held, e)
	t.size += len(e.Message)
	old := 0
	for len(t.held)-old > mostHeld || t.size > mostHeldSize || e.Time.Sub(t.held[old].Time) > heldFor {
		t.size -= len(t.held[old].Message)
		old++
	}
	t.held = append(t.held[:0], t.held[old:]...)
}

// claim makes a Call-ID a journal's, with the messages that are held.
func (t *trails) claim(callID string, j *journal) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lead(callID, j)
	left := t.held[:0]
	for _, e := range t.held {
		if e.SIPCallID == callID {
			t.size -= len(e.Message)
			j.noteSIP(e)
		} else {
			left = append(left, e)
		}
	}
	clear(t.held[len(left):])
	t.held = left
}

// lead makes a Call-ID a journal's. The caller holds mu.
func (t *trails) lead(callID string, j *journal) {
	if t.of == nil {
		t.of = map[string]*journal{}
	}
	if t.of[callID] != j {
		t.of[callID] = j
		j.trail.callIDs = append(j.trail.callIDs, callID)
	}
}

// expect makes the INVITEs with an offer of this session id a journal's.
func (t *trails) expect(sessionID string, j *journal) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.offers == nil {
		t.offers = map[string]*journal{}
	}
	t.offers[sessionID], j.trail.offer = j, sessionID
}

// forget ends the trails that lead to a journal.
func (t *trails) forget(j *journal) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, id := range j.trail.callIDs {
		if t.of[id] == j {
			delete(t.of, id)
		}
	}
	delete(t.offers, j.trail.offer)
}

// noteSIP keeps a message.
func (j *journal) noteSIP(e sip.TraceEvent) {
	message := j.hides.clean(sipWithoutSecrets(e.Message))
	kind := control.JournalSIPIn
	if e.Out {
		kind = control.JournalSIPOut
	}
	b, ok := j.open(e.Time, kind)
	if !ok {
		return
	}
	b = appendString(append(b, `,"transport":`...), e.Transport)
	b = append(b, `,"peer":"`...)
	b = e.Peer.AppendTo(b)
	b = appendText(append(b, '"'), "message", message, j.most(mostMessage))
	j.shut(e.Time, b)
}
