package session

import (
	"time"

	"github.com/hookswitch/hookswitch/edge/media"
	"github.com/hookswitch/hookswitch/webhooks"
)

// wake says what ended a wait.
type wake uint8

const (
	wokeMedia    wake = iota // the event says what
	wokeDigit                // the event's Digit
	wokeTimer                // the caller's timer
	wokeAction               // a live change is in Session.pending, or Session.called is closed
	wokeParty                // news of a party being dialled is in Session.party
	wokePeer                 // the bridged leg has left
	wokeReply                // the application's answer is in Session.reply
	wokeNews                 // what the verb has set Session.news for
	wokeReferred             // news of a REFER of ours is in Session.progress
	wokeOrder                // what another leg wants is in Session.order
	wokeEnd                  // the call is over
)

// wait is where every verb waits: for the media, a key, a live change, the end of the call, or the caller's timer
// (nil: none).
func (s *Session) wait(timer <-chan time.Time) (wake, media.Event) {
	s.settleKeys(false)
	if s.pending != nil || closed(s.called) {
		return wokeAction, media.Event{}
	}
	var events <-chan media.Event
	if s.leg != nil {
		events = s.leg.Events()
	}
	for {
		// A change that came before the partner left is made, whatever the two lead to.
		if s.hearChange(); s.pending != nil && s.ctx.Err() == nil {
			return wokeAction, media.Event{}
		}
		if s.ctx.Err() != nil { // whatever else has happened by now came too late
			return wokeEnd, media.Event{}
		}
		select {
		case <-s.ctx.Done():
			return wokeEnd, media.Event{}
		case a := <-s.actions:
			if s.tooLate(a) || s.actBeside(a) {
				continue
			}
			s.pending = &a
			return wokeAction, media.Event{}
		case then := <-s.besides:
			then()
			s.forgetTold()
		case digit := <-s.digits:
			if s.from(digitsINFO) && s.noteKey(digit, "info") {
				return s.pressed(media.Event{Kind: media.Digit, Digit: digit})
			}
		case e, open := <-events:
			if !open {
				events = nil // the engine has ended; the edge's end is on its way
				continue
			}
			if woke, ok := s.noticed(e); ok && woke == wokeDigit {
				return s.pressed(e)
			} else if ok {
				return woke, e
			}
		case s.party = <-s.parties:
			return wokeParty, media.Event{}
		case s.reply = <-s.replies:
			return wokeReply, media.Event{}
		case s.progress = <-s.referred:
			return wokeReferred, media.Event{}
		case s.order = <-s.orders:
			s.followHold()
			if s.inTalk {
				return wokeOrder, media.Event{}
			}
			s.order.refuse()
		case <-s.peerGone:
			if len(s.actions) > 0 || s.inTalk && len(s.orders) > 0 { // what the partner asked for before it left is done
				continue
			}
			return wokePeer, media.Event{}
		case <-s.news:
			return wokeNews, media.Event{}
		case <-s.called:
			return wokeAction, media.Event{}
		case <-timer:
			s.noteTimer("")
			return wokeTimer, media.Event{}
		}
	}
}

// noticed handles the events that mean the same to every verb; false: the wait goes on.
func (s *Session) noticed(e media.Event) (wake, bool) {
	s.noteMedia(e)
	switch e.Kind {
	case media.Digit:
		return wokeDigit, s.from(digitsRTP) && s.noteKey(e.Digit, "rtp")
	case media.MediaTimeout:
		s.cancel(ended{cause: webhooks.CauseMediaTimeout})
		return wokeEnd, true
	case media.FirstPacket, media.DigitEnd:
		return wokeMedia, false
	case media.RecordDone:
		s.recordDone(e)
	case media.DigitsSent:
		s.keysSent(e.Err)
	case media.Detected:
		s.noticedDetection(e)
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
