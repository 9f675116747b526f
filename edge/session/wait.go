package session

import (
	"time"

	"github.com/hookswitch/hookswitch/edge/media"
	"github.com/hookswitch/hookswitch/webhooks"
)

// wake says what ended a wait.
type wake uint8

const (
	wokeMedia  wake = iota // the event says what
	wokeDigit              // the event's Digit
	wokeTimer              // the caller's timer
	wokeAction             // a live change is in Session.pending
	wokeParty              // news of a party being dialled is in Session.party
	wokePeer               // the bridged leg has left
	wokeReply              // the application's answer is in Session.reply
	wokeEnd                // the call is over
)

// wait is where every verb waits: for the media, a key, a live change, the end of the call, or the caller's timer
// (nil: none).
func (s *Session) wait(timer <-chan time.Time) (wake, media.Event) {
	if s.pending != nil {
		return wokeAction, media.Event{}
	}
	var events <-chan media.Event
	if s.leg != nil {
		events = s.leg.Events()
	}
	for {
		select {
		case <-s.ctx.Done():
			return wokeEnd, media.Event{}
		case a := <-s.actions:
			s.pending = &a
			return wokeAction, media.Event{}
		case digit := <-s.digits:
			if s.from(digitsINFO) {
				return wokeDigit, media.Event{Kind: media.Digit, Digit: digit}
			}
		case e, open := <-events:
			if !open {
				events = nil // the engine has ended; the edge's end is on its way
				continue
			}
			if woke, ok := s.noticed(e); ok {
				return woke, e
			}
		case s.party = <-s.parties:
			return wokeParty, media.Event{}
		case s.reply = <-s.replies:
			return wokeReply, media.Event{}
		case <-s.peerGone:
			return wokePeer, media.Event{}
		case <-timer:
			return wokeTimer, media.Event{}
		}
	}
}

// noticed handles the events that mean the same to every verb; false: the wait goes on.
func (s *Session) noticed(e media.Event) (wake, bool) {
	switch e.Kind {
	case media.Digit:
		return wokeDigit, s.from(digitsRTP)
	case media.MediaTimeout:
		s.cancel(ended{cause: webhooks.CauseMediaTimeout})
		return wokeEnd, true
	case media.FirstPacket, media.DigitEnd:
		return wokeMedia, false
	case media.RecordDone:
		s.recordDone(e)
	}
	return wokeMedia, true
}

// from reports whether keys from this source count.
func (s *Session) from(source digitSource) bool {
	if s.source == digitsUnknown {
		s.source = source
	}
	return s.source == source
}

// maxTyped bounds the keys kept for a gather that has not begun.
const maxTyped = 32

// type ahead: a key that came while no instruction wanted one is kept for the next gather, so that people who know
// the menu can type through it.
func (s *Session) typeAhead(digit byte) {
	if len(s.typed) < maxTyped {
		s.typed = append(s.typed, digit)
	}
}

// dropTyped forgets them, when an instruction that is no gather begins to play or record. Only now are they told:
// a masked gather might have wanted them.
func (s *Session) dropTyped() {
	for _, digit := range s.typed {
		s.emit(webhooks.EventDTMF, webhooks.EventData{Digit: string(digit)})
	}
	s.typed = s.typed[:0]
}
