package session

import (
	"errors"
	"time"

	"github.com/hookswitch/hookswitch/edge/media"
	"github.com/hookswitch/hookswitch/edge/sip"
	"github.com/hookswitch/hookswitch/webhooks"
)

// Dir is a leg's direction as metrics show it.
type Dir string

// The directions: In is a call that reached us, Out one that we placed.
const (
	In  Dir = "in"
	Out Dir = "out"
)

// Observer is told what operators measure of calls. A field that is nil is told nothing. The functions are called on the
// goroutines of calls: they must not block. All words among their arguments come from small closed sets.
type Observer struct {
	// Invited is told the final response of every INVITE that begins a leg, ours (In) or the far side's (Out). The code
	// is 0 where there was none.
	Invited func(dir Dir, code int)
	// Ended is told every leg that is over, when its record is closed.
	Ended func(LegEnd)
	// Asked is told every question to an application, retries included: ok, or what failed, as in webhooks.RequestError
	// (a status as its class, such as 5xx), or rejected.
	Asked func(outcome string, took time.Duration)
	// Attempted is told every single request of such a question.
	Attempted func(outcome string)
	// Performed is told every instruction that ran: its verb, and its outcome ("" for a verb that has none).
	Performed func(verb, outcome string, took time.Duration)
	// PromptStarted is told how long after its instruction began (play, say) a prompt was handed to the media engine,
	// whose next frame, 20 ms later at most, carries it.
	PromptStarted func(verb string, after time.Duration)
	// AuthFailed is told a wrong password or an unknown user, by method: INVITE or REGISTER.
	AuthFailed func(method string)
}

// LegEnd is a leg that is over.
type LegEnd struct {
	CallID  webhooks.CallID
	TrunkID webhooks.TrunkID // "" where it came or went by no trunk
	Dir     Dir
	Status  webhooks.Status
	Cause   webhooks.Cause
	SIPCode int // the final response of its INVITE

	Rang     time.Duration // from start to the first 18x; 0: never
	Answered time.Duration // from start to the 2xx; 0: never
	Lasted   time.Duration // from start to end

	TraceID string // where somebody records it, in hexadecimal
	Codec   string // of Media, such as PCMA
	Network string // pstn for a trunk, phone for anything else
	Media   media.Stats
}

func (o Observer) invited(dir Dir, code int) {
	if o.Invited != nil {
		o.Invited(dir, code)
	}
}

func (o Observer) asked(outcome string, took time.Duration) {
	if o.Asked != nil {
		o.Asked(outcome, took)
	}
}

func (o Observer) attempted(outcome string) {
	if o.Attempted != nil {
		o.Attempted(outcome)
	}
}

func (o Observer) promptStarted(verb string, after time.Duration) {
	if o.PromptStarted != nil {
		o.PromptStarted(verb, after)
	}
}

func (o Observer) authFailed(method string) {
	if o.AuthFailed != nil {
		o.AuthFailed(method)
	}
}

func (s *Session) dir() Dir {
	if s.call.Direction == webhooks.Inbound {
		return In
	}
	return Out
}

// observed performs an instruction, within a span of its own.
func (s *Session) observed(i webhooks.Instruction) *webhooks.Trigger {
	began := time.Now()
	end := s.startVerb(i.Verb())
	s.noteInstruction(i)
	t := s.perform(i)
	s.noteOutcome(i, t, began)
	outcome := ""
	if t != nil {
		outcome = string(t.Outcome)
	}
	end(outcome)
	if performed := s.calls.cfg.Observer.Performed; performed != nil {
		performed(i.Verb(), outcome, time.Since(began))
	}
	return t
}

// observeEnd tells of the end of a leg. The record is closed, so nothing changes it any more.
func (s *Session) observeEnd(end ended, stats media.Stats) {
	if s.fenced() { // another process tells how the call ends
		s.span.End()
		return
	}
	s.mu.Lock()
	e := LegEnd{
		CallID: s.id, TrunkID: s.call.TrunkID, Dir: s.dir(), Status: s.call.Status, Cause: end.cause, SIPCode: end.cause.Info().SIP,
		Lasted: time.Since(s.cdr.StartedAt), Network: "phone", Media: stats,
	}
	if end.code != 0 {
		e.SIPCode = end.code
	}
	if s.cdr.RingingAt != nil {
		e.Rang = s.cdr.RingingAt.Sub(s.cdr.StartedAt)
	}
	if s.cdr.AnsweredAt != nil {
		e.SIPCode, e.Answered = 200, s.cdr.AnsweredAt.Sub(s.cdr.StartedAt)
	}
	if s.sdp.set {
		e.Codec = s.sdp.active.Codec.Name()
	}
	s.mu.Unlock()
	if s.span.IsRecording() {
		e.TraceID = s.span.SpanContext().TraceID().String()
	}
	if e.TrunkID != "" {
		e.Network = "pstn"
	}
	if e.Dir == In && e.Answered == 0 { // an answer was told when it was given
		s.calls.cfg.Observer.invited(In, e.SIPCode)
	}
	if s.calls.cfg.Observer.Ended != nil {
		s.calls.cfg.Observer.Ended(e)
	}
	s.endCall(e)
}

// outcomeOf puts a failed question into one word of a small set.
func outcomeOf(err error) string {
	if err == nil {
		return "ok"
	}
	if e, ok := errors.AsType[*webhooks.RequestError](err); ok {
		return outcomeWord(e.Code, e.Status)
	}
	if _, ok := errors.AsType[*webhooks.RejectedError](err); ok {
		return "rejected"
	}
	return "error"
}

// outcomeWord is the word for a code of webhooks.RequestError; a status becomes its class.
func outcomeWord(code string, status int) string {
	if code == "status" {
		return codeClass(status)
	}
	if code == "" {
		return "ok"
	}
	return code
}

// codeClass is the class of a status, of SIP or HTTP: 1xx to 6xx, or none.
func codeClass(code int) string {
	if code < 100 || code > 699 {
		return "none"
	}
	return string(rune('0'+code/100)) + "xx"
}

// inviteCode is the final response of an INVITE of ours; 0 without one.
func inviteCode(err error) int {
	if err == nil {
		return 200
	}
	if rejected, ok := errors.AsType[*sip.RejectedError](err); ok {
		return rejected.Code
	}
	return 0
}
