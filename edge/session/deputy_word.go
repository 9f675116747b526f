package session

import (
	"errors"
	"time"

	"github.com/hookswitch/hookswitch/webhooks"
)

// The words of two edges whose legs speak with each other over a link. Each end speaks for its own leg, to the deputy that
// stands for it on the other edge.

// talkWord is one of them: exactly one of these.
type talkWord struct {
	Hello   *person          `json:"hello,omitempty"`   // who is at this end
	Bridged *person          `json:"bridged,omitempty"` // your leg speaks with this one from now on: tell so
	Left    *leaveTaking     `json:"left,omitempty"`    // your leg speaks with nobody here any more
	HangUp  *ending          `json:"hangup,omitempty"`  // your leg is to be hung up, because of a change to another
	Change  *webhooks.Action `json:"change,omitempty"`  // your leg is to run this instead, because of a change to another
	Touch   bool             `json:"touch,omitempty"`   // your leg is a new version: how it takes part has changed
	Three   *bool            `json:"three,omitempty"`   // your leg is in a talk of three, or no longer
	Ask     *asking          `json:"ask,omitempty"`     // see deputy.asked
	Done    *answered        `json:"done,omitempty"`
}

// person is a leg as the one who speaks with it shows it.
type person struct {
	CallID     webhooks.CallID `json:"call_id"`
	Name       string          `json:"name,omitempty"` // of its party
	AnsweredAt *time.Time      `json:"answered_at,omitempty"`
}

// leaveTaking says why nobody speaks with a leg any more.
type leaveTaking struct {
	Why ending  `json:"why"`           // as a partner without a program of its own ends
	End *ending `json:"end,omitempty"` // of the call of who has left; nil where it goes on
}

// ending is an ended in a word.
type ending struct {
	Cause   webhooks.Cause   `json:"cause,omitempty"`
	EndedBy webhooks.EndedBy `json:"ended_by,omitempty"`
	Code    int              `json:"code,omitempty"`
	Text    string           `json:"text,omitempty"`
}

func endingOf(e ended) *ending {
	return &ending{Cause: e.cause, EndedBy: e.by, Code: e.code, Text: e.text}
}

// ended is it again; a cause that this edge does not know is an error.
func (e ending) ended() ended {
	if e.Cause != "" && !e.Cause.Known() {
		e.Cause = webhooks.CauseError
	}
	return ended{cause: e.Cause, by: e.EndedBy, code: e.Code, text: e.Text}
}

// answered is what became of an asking.
type answered struct {
	Number  int    `json:"number"`
	Message string `json:"message,omitempty"` // of a failure

	Slot string `json:"slot,omitempty"` // of park

	// Of a transfer.
	OK      bool             `json:"ok,omitempty"` // the target and the leg are connected, and the link is not needed any more
	CallID  webhooks.CallID  `json:"call_id,omitempty"`
	Outcome webhooks.Outcome `json:"outcome,omitempty"`
	End     *ending          `json:"end,omitempty"`
}

// err is why it was not made.
func (a answered) err() error {
	if a.Message == "" {
		return nil
	}
	return errors.New(a.Message)
}

// maxWord bounds a word in octets: it has to fit into one datagram.
const maxWord = 48 << 10

var errTooLong = errors.New("peer: the instructions are too long for a call that another edge carries; give a redirect to a url")
