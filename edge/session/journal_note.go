package session

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/edge/media"
	"github.com/hookswitch/hookswitch/edge/sdp"
	"github.com/hookswitch/hookswitch/webhooks"
	"github.com/hookswitch/hookswitch/webhooks/twiml"
)

// What the parts of a session have to say to the journal: each a line where the thing happens.

// noting is what the session's own goroutine needs for its notes.
type noting struct {
	verb   string            // of the instruction that runs
	masks  bool              // a masked gather runs: it takes the keys
	masked *webhooks.Trigger // what the newest masked gather came to
	keys   []heardKey        // that came, and no one has taken yet
}

// heardKey is a key whose entry waits until it is known whether a masked gather takes it.
type heardKey struct {
	key    byte
	source string
	at     time.Time
}

// noteEvent keeps an event as subscribers are told of it.
func (s *Session) noteEvent(e webhooks.Event) {
	data, err := json.Marshal(e.Data)
	if err != nil {
		return // as it will fail to be published, which is logged
	}
	b, ok := s.journal.open(e.OccurredAt, control.JournalEvent)
	if !ok {
		return
	}
	b = appendString(append(b, `,"type":`...), string(e.Type))
	if e.Sequence > 0 {
		b = appendInt(append(b, `,"sequence":`...), e.Sequence)
	}
	b = append(append(b, `,"data":`...), s.journal.hides.cleanJSON(data)...)
	s.journal.shut(e.OccurredAt, b)
}

// noteInstruction keeps an instruction that begins.
func (s *Session) noteInstruction(i webhooks.Instruction) {
	s.settleKeys(false)
	s.noting.verb = i.Verb()
	text, err := json.Marshal(i)
	if err != nil {
		return
	}
	now := time.Now()
	b, ok := s.journal.open(now, control.JournalInstruction)
	if !ok {
		return
	}
	text = s.journal.hides.cleanJSON(jsonWithoutSecrets(text))
	if len(text) <= s.journal.most(mostRequest) {
		b = append(append(b, `,"instruction":`...), text...)
	} else { // of one that is longer than any in earnest, what it is
		b = appendString(append(b, `,"instruction":{"verb":`...), i.Verb())
		b = appendInt(append(b, `},"length":`...), int64(len(text)))
	}
	s.journal.shut(now, b)
}

// noteOutcome keeps how an instruction ended. t is nil where its verb has no outcomes.
func (s *Session) noteOutcome(i webhooks.Instruction, t *webhooks.Trigger, began time.Time) {
	s.settleKeys(false)
	s.noting.verb = ""
	if g, ok := i.(*webhooks.Gather); ok && g.Mask && t != nil {
		s.noting.masked = t
		s.journal.hides.hide(t.Digits)
	}
	var trigger []byte
	if t != nil {
		told := *s.withoutKeys(t)
		told.Verb, told.ID = i.Verb(), i.Common().ID
		trigger, _ = json.Marshal(told) // of strings and numbers
	}
	now := time.Now()
	b, ok := s.journal.open(now, control.JournalOutcome)
	if !ok {
		return
	}
	b = appendString(append(b, `,"verb":`...), i.Verb())
	if id := i.Common().ID; id != "" {
		b = appendString(append(b, `,"id":`...), id)
	}
	b = appendInt(append(b, `,"ms":`...), now.Sub(began).Milliseconds())
	if t != nil {
		b = appendString(append(b, `,"outcome":`...), string(t.Outcome))
		b = append(append(b, `,"trigger":`...), s.journal.hides.cleanJSON(trigger)...)
	}
	s.journal.shut(now, b)
}

// withoutKeys is an outcome without what a masked gather took.
func (s *Session) withoutKeys(t *webhooks.Trigger) *webhooks.Trigger {
	if t == nil || t != s.noting.masked {
		return t
	}
	hidden := *t
	hidden.Digits = strings.Repeat(maskStand, len(t.Digits))
	return &hidden
}

// noteRequest keeps a question to the application, as it is about to be sent.
func (s *Session) noteRequest(a *webhooks.Ask) {
	r := a.Request
	r.Type, r.Contract = "program.request", 1
	r.Trigger = s.withoutKeys(r.Trigger)
	method := a.Method
	var body []byte
	if a.Form != nil {
		body = []byte(formWithoutSecrets(a.Form(r).Encode()))
	} else {
		method = http.MethodPost
		text, err := json.Marshal(r)
		if err != nil {
			return // the client says so
		}
		body = jsonWithoutSecrets(text)
	}
	if method == "" {
		method = http.MethodPost
	}
	now, hides := time.Now(), s.journal.hides
	b, ok := s.journal.open(now, control.JournalRequest)
	if !ok {
		return
	}
	b = appendString(append(b, `,"id":`...), string(r.RequestID))
	b = appendInt(append(b, `,"sequence":`...), int64(r.RequestSequence))
	b = appendString(append(b, `,"reason":`...), string(r.Reason))
	b = appendString(append(b, `,"method":`...), method)
	b = appendString(append(b, `,"url":`...), hides.clean([]byte(urlWithoutSecrets(a.URL))))
	b = appendText(b, "body", hides.clean(body), s.journal.most(mostRequest))
	s.journal.shut(now, b)
}

// noteAttempt keeps a single attempt that failed, of a question and not of telling a status.
func (s *Session) noteAttempt(a webhooks.Attempt) {
	if a.Code == "" || !strings.HasPrefix(string(a.RequestID), "req_") {
		return
	}
	now := time.Now()
	b, ok := s.journal.open(now, control.JournalAnswer)
	if !ok {
		return
	}
	b = appendString(append(b, `,"id":`...), string(a.RequestID))
	b = appendInt(append(b, `,"attempt":`...), int64(a.Number))
	b = appendStatus(b, a.Status)
	b = appendString(append(b, `,"error":{"code":`...), a.Code)
	s.journal.shut(now, append(b, '}'))
}

// noteAnswer keeps what an application answered, or why there is no answer.
func (s *Session) noteAnswer(a *webhooks.Ask, got webhooks.Reply, err error) {
	now, hides := time.Now(), s.journal.hides
	b, ok := s.journal.open(now, control.JournalAnswer)
	if !ok {
		return
	}
	b = appendString(append(b, `,"id":`...), string(a.Request.RequestID))
	if err != nil {
		f := webhooks.FailureOf(err)
		b = appendStatus(b, f.Status)
		b = appendString(append(b, `,"error":{"code":`...), f.Code)
		if rejected, ok := errors.AsType[*webhooks.RejectedError](err); ok && rejected.Pointer != "" {
			b = appendString(append(b, `,"pointer":`...), rejected.Pointer)
		}
		b = appendText(b, "message", hides.clean([]byte(f.Message)), mostEnding)
		s.journal.shut(now, append(b, '}'))
		return
	}
	b = appendStatus(b, got.Status)
	b = appendString(append(b, `,"url":`...), hides.clean([]byte(urlWithoutSecrets(got.URL))))
	if got.ContentType != "" {
		b = appendString(append(b, `,"content_type":`...), got.ContentType)
	}
	if got.Kind == webhooks.ReplyAudio {
		b = appendInt(append(b, `,"length":`...), int64(len(got.Body)))
	} else {
		b = appendText(b, "body", hides.clean(withoutSecrets(got.Body)), s.journal.most(mostAnswer))
	}
	s.journal.shut(now, b)
}

func appendStatus(b []byte, status int) []byte {
	if status == 0 {
		return b
	}
	return appendInt(append(b, `,"status":`...), int64(status))
}

// noteWarning keeps what is wrong with a document that runs all the same.
func (s *Session) noteWarning(w twiml.Warning) {
	now, hides := time.Now(), s.journal.hides
	b, ok := s.journal.open(now, control.JournalWarning)
	if !ok {
		return
	}
	b = append(b, `,"code":"twiml"`...)
	b = appendString(append(b, `,"pointer":`...), hides.clean([]byte(w.Pointer)))
	b = appendText(b, "message", hides.clean([]byte(w.Message)), mostEnding)
	s.journal.shut(now, b)
}

// noteAction keeps a live change that is made now.
func (s *Session) noteAction(a control.Action) {
	text, err := json.Marshal(a)
	if err != nil {
		return
	}
	now := time.Now()
	b, ok := s.journal.open(now, control.JournalAction)
	if !ok {
		return
	}
	text = s.journal.hides.cleanJSON(jsonWithoutSecrets(text))
	if len(text) > s.journal.most(mostRequest) {
		b = appendInt(append(b, `,"length":`...), int64(len(text)))
		text, _ = json.Marshal(control.Action{ActionID: a.ActionID, AccountID: a.AccountID, CallID: a.CallID})
	}
	b = append(append(b, `,"action":`...), text...)
	s.journal.shut(now, b)
}

// noteTimer keeps that a time was over: of the instruction that runs, where name is "".
func (s *Session) noteTimer(name string) {
	if name == "" {
		name = s.noting.verb
	}
	now := time.Now()
	if b, ok := s.journal.open(now, control.JournalTimer); ok {
		s.journal.shut(now, appendString(append(b, `,"name":`...), name))
	}
}

// noteMedia keeps what the media engine tells. Keys are kept where they are taken.
func (s *Session) noteMedia(e media.Event) {
	if e.Kind == media.Digit || e.Kind == media.DigitEnd {
		return
	}
	now := time.Now()
	b, ok := s.journal.open(now, control.JournalMedia)
	if !ok {
		return
	}
	b = appendString(append(b, `,"fact":`...), e.Kind.String())
	if e.Reason != 0 {
		b = appendString(append(b, `,"reason":`...), e.Reason.String())
	}
	if e.Duration > 0 {
		b = appendInt(append(b, `,"ms":`...), e.Duration.Milliseconds())
	}
	if e.Err != nil {
		b = appendText(b, "error", e.Err.Error(), mostEnding)
	}
	s.journal.shut(now, b)
}

// noteAgreed keeps what offer and answer came to: the first, and each re-INVITE and UPDATE, such as hold.
func (s *Session) noteAgreed(n sdp.Negotiated) {
	now := time.Now()
	b, ok := s.journal.open(now, control.JournalMedia)
	if !ok {
		return
	}
	b = append(b, `,"fact":"agreed"`...)
	b = appendString(append(b, `,"codec":`...), n.Codec.Name())
	b = appendString(append(b, `,"direction":`...), n.Direction.String())
	if n.Remote.IsValid() {
		b = appendString(append(b, `,"remote":`...), n.Remote.String())
	}
	if n.DTMF {
		b = append(b, `,"dtmf":true`...)
	}
	s.journal.shut(now, b)
}

// noteKey takes note of a key that a verb is about to be told of. It is true, to stand where that is decided.
func (s *Session) noteKey(key byte, source string) bool {
	s.noting.keys = append(s.noting.keys, heardKey{key, source, time.Now()})
	return true
}

// masking says that a gather begins that takes keys masked, or not; the result says that it has ended.
func (s *Session) masking(mask bool) (done func()) {
	s.settleKeys(false)
	before := s.noting.masks
	s.noting.masks = mask
	return func() {
		s.settleKeys(false)
		s.noting.masks = before
	}
}

// settleKeys writes the entries of keys that have been taken: of all that came but those that wait in typed for a gather.
// At the end of the call nobody knows what those were meant for.
//
// Why it is worked out rather than told by every verb that takes a key: what is forgotten in one verb would be a masked key
// in the journal, or one that is missing from it.
func (s *Session) settleKeys(last bool) {
	n := &s.noting
	count := len(n.keys) - len(s.typed)
	if last {
		count = len(n.keys)
	}
	if count <= 0 {
		return
	}
	taken, left := n.keys[:count], n.keys[count:]
	newest := len(n.keys) - 1
	switch {
	case last:
		s.writeKeys(taken, true)
	case waits(left, s.typed):
		s.writeKeys(taken, n.masks)
	case waits(n.keys[count-1:newest], s.typed): // those that wait are older than the newest, which was taken
		s.writeKeys(n.keys[:count-1], n.masks)
		s.writeKeys(n.keys[newest:], n.masks)
		left = n.keys[count-1 : newest]
	default: // as it cannot be; then rather too little
		s.writeKeys(taken, true)
	}
	n.keys = slices.Clone(left)
}

// waits reports whether these keys are those typed.
func waits(keys []heardKey, typed []byte) bool {
	for i, k := range keys {
		if i >= len(typed) || k.key != typed[i] {
			return false
		}
	}
	return len(keys) == len(typed)
}

func (s *Session) writeKeys(keys []heardKey, masked bool) {
	for _, k := range keys {
		s.writeKey(k, masked)
	}
}

func (s *Session) writeKey(k heardKey, masked bool) {
	now := time.Now()
	b, ok := s.journal.open(now, control.JournalInput)
	if !ok {
		return
	}
	key := string(k.key)
	if masked {
		key = maskStand
	}
	b = appendString(append(b, `,"key":`...), key)
	b = appendString(append(b, `,"source":`...), k.source)
	if now.Sub(k.at) >= time.Millisecond {
		b = appendInt(append(b, `,"pressed":`...), k.at.Sub(s.journal.began).Microseconds())
	}
	s.journal.shut(now, b)
}
