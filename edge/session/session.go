package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/edge/media"
	"github.com/hookswitch/hookswitch/edge/sdp"
	"github.com/hookswitch/hookswitch/edge/sip"
	"github.com/hookswitch/hookswitch/webhooks"
)

// Session is one live leg: from outside, started by the API, or dialled by a program. It never asks which of these
// it is to execute a program.
//
// One goroutine runs it and owns every field below that no other comment claims.
type Session struct {
	calls   *Calls
	log     *slog.Logger
	id      webhooks.CallID
	account webhooks.AccountID
	app     control.Application
	lang    string // of system prompts

	ctx     context.Context // its cause is an ended
	cancel  context.CancelCauseFunc
	work    sync.WaitGroup // goroutines of this session
	span    trace.Span     // of the leg's whole life; one that records nothing when nobody traces
	doing   trace.Span     // of the instruction that runs, else span
	actions chan control.Action
	digits  chan byte // keys that came by SIP INFO
	// confirmed is closed with the ACK (of ours or to us), before which we may send no request in the dialog.
	confirmed chan struct{}

	dialog *sip.Dialog // nil until the INVITE of an outgoing leg is answered
	leg    *media.Leg  // nil until there is media to set up
	sdp    negotiation

	call    webhooks.Call
	data    map[string]any
	state   json.RawMessage
	asked   int // requests so far: the newest is request_sequence
	cookies http.CookieJar
	trigger *webhooks.Trigger // the last outcome, for templates

	rest     []webhooks.Instruction // what is still to run
	base     string                 // URL that relative ones resolve against
	guard    *webhooks.Guard
	silent   int           // instructions since the last second of media, input or waiting
	worth    time.Duration // media and waiting since then
	pending  *control.Action
	typed    []byte // keys pressed that no instruction has asked for yet
	source   digitSource
	screened bool // running a screen: hangup and reject refuse the call rather than end the leg
	refused  bool

	recordings map[webhooks.RecordingID]*spool
	orders     chan order       // of the partner, or of whoever gives this leg another
	order      order            // the newest from it
	inTalk     bool             // orders are carried out; else they are refused
	keeping    bool             // the partner is kept for the transfer that runs next
	referral   *referral        // of the party of the dial that has just ended
	referred   <-chan referring // news of the REFER of the instruction that runs; nil when there is none
	progress   referring        // the newest of it

	detection *detection // machine detection of a leg that we called; nil when there is none, or it is over
	beside    *spool     // the recording that goes on beside the program; nil when there is none

	meantime *meantime // what is heard while a request is in flight; nil where no guard has said so yet

	replies <-chan reply // of the request in flight; nil when there is none
	reply   reply        // the newest from it
	given   sync.Map     // URL → *media.Prompt: audio that was an application's answer

	parties  chan party      // of the dial that runs; nil otherwise
	ringing  *dialing        // the dial that runs, until somebody is connected; nil otherwise
	party    party           // the newest from it
	peerGone <-chan struct{} // closed when the bridged leg leaves; nil when there is none
	called   <-chan struct{} // closed when the wait program that runs has no more to wait for; nil when there is none
	news     <-chan struct{} // of what else the verb that runs waits for; nil when there is nothing
	// showsCalled: who is dialled sees as the caller whom we have called.
	showsCalled bool
	rungBy      *dialing    // of a dialled leg: the dial; its fields are its session's
	detach      func() bool // of a dialled leg: its end no longer follows from that of the dial

	besides  chan func()            // what follows from work done apart
	acting   []*acting              // ops that are not told of yet
	pressing []func(error)          // whom to tell of keys that are being sent, in their order
	muted    bool                   // by a live change
	holding  *holding               // of whom the leg speaks with; nil for none
	aside    *aside                 // with whom it speaks while its partner waits, by a live change; nil for none
	surveys  []*surveyAsk           // for whom it speaks with when it leaves
	merged   atomic.Pointer[merged] // the talk of three that it is in; nil for none
	played   []played               // beside the program

	deputy      *deputy      // it stands for a leg of another edge; nil for a leg of this one
	participant *participant // in the conference it is in; nil when it is in none
	queued      *waiter      // its stay in a queue; nil when it is in none
	waiting     *waiting     // what the wait program that runs is for; nil when there is none

	status statusQueue

	journal journal
	noting  noting

	opening sync.Mutex // held while the hops of a fork make the leg that they share

	mu   sync.Mutex // guards what follows: handlers of the SIP side need it too
	tag  int        // the etag as a number
	seq  int64      // of the last event
	over bool       // call.ended was emitted: later events are numbered by the control plane
	gone bool       // another process has the call: nothing is told of it any more
	cdr  webhooks.CDR
	// held is what the leg's phone has done, cut what a live change has; heldSince is the beginning of what was told of
	// them, heldFor how long it was before.
	held, cut bool
	heldSince time.Time
	heldFor   time.Duration
	// bond is the partner that the leg speaks with, nil for none; parted says that it takes none any more; guest that it has
	// no program of its own and lives as long as its partner does.
	bond          *bond
	parted, guest bool
	beingHanded   bool // it calls somebody else to speak with, as its partner has asked
	// statusOf holds the status_url of each recording that has one.
	statusOf map[webhooks.RecordingID]statusTarget
	watchers []statusTarget // of this leg's events, beside the application's own
}

// digitSource is how a leg's keys reach us. The first key decides, so that a phone that reports each press twice,
// as RFC 4733 and as INFO, is heard once.
type digitSource uint8

const (
	digitsUnknown digitSource = iota
	digitsRTP
	digitsINFO
)

// newSession makes a session and its context, which ends with parent.
func (c *Calls) newSession(parent context.Context, id webhooks.CallID, account webhooks.AccountID, app control.Application, lang string) *Session {
	s := &Session{
		calls: c, id: id, account: account, app: app, lang: lang,
		log:        c.cfg.Logger.With("call_id", id, "account_id", account),
		actions:    make(chan control.Action, 8),
		digits:     make(chan byte, 32),
		besides:    make(chan func(), 16),
		orders:     make(chan order, 8),
		confirmed:  make(chan struct{}),
		data:       map[string]any{},
		recordings: map[webhooks.RecordingID]*spool{},
		base:       app.VoiceURL,
	}
	parent, s.span = c.startCall(parent, id)
	s.doing = s.span
	s.ctx, s.cancel = context.WithCancelCause(parent)
	s.keepJournal()
	now := time.Now().UTC()
	s.call = webhooks.Call{Status: webhooks.StatusRinging, StartedAt: now, Etag: "0"}
	s.cdr = webhooks.CDR{StartedAt: now}
	return s
}

// dismiss ends a session that was made and never let in.
func (s *Session) dismiss() {
	s.cancel(ended{cause: webhooks.CauseOverload})
	s.span.End()
}

// conduct runs the session's body and ends the leg, whatever happens in it.
func (s *Session) conduct(body func()) {
	defer s.finish()
	s.recovered(body)
}

// spawn starts a goroutine of this session, which finish waits for.
func (s *Session) spawn(body func()) {
	s.work.Go(func() { s.recovered(body) })
}

// recovered runs a part of the session. A panic in it ends this call and no other.
func (s *Session) recovered(body func()) {
	defer func() {
		if r := recover(); r != nil {
			s.log.Error("call.panicked", "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
			s.cancel(ended{cause: webhooks.CauseError, text: "panic"})
		}
	}()
	body()
}

// follow ties the session's life to its dialog's.
func (s *Session) follow(d *sip.Dialog) {
	s.dialog = d
	s.calls.trails.claim(d.SIPCallID(), &s.journal)
	s.call.SIP = webhooks.SIP{CallID: d.SIPCallID(), Source: d.RemoteAddr().Addr().String(), Headers: d.CustomHeaders()}
	context.AfterFunc(d.Context(), func() { s.cancel(s.dialogEnd(context.Cause(d.Context()))) })
	d.OnReinvite(s.reoffered)
	d.OnReinviteAnswer(s.reanswered)
	d.OnInfo(s.infoReceived)
	d.OnRefer(s.referReceived)
	s.calls.nameDialog(s)
}

// dialogEnd says what the end of the dialog means for the call.
func (s *Session) dialogEnd(cause error) ended {
	var rejected *sip.RejectedError
	switch {
	case errors.Is(cause, sip.ErrRemoteBye):
		if s.call.Direction == webhooks.Inbound {
			return ended{cause: webhooks.CauseCallerHangup, by: webhooks.EndedByCaller}
		}
		return ended{cause: webhooks.CauseCalleeHangup, by: webhooks.EndedByCallee}
	case errors.Is(cause, sip.ErrCanceled):
		return ended{cause: webhooks.CauseCanceled, by: webhooks.EndedByCaller}
	case errors.As(cause, &rejected):
		return ended{cause: webhooks.CauseOfSIP(rejected.Code), code: rejected.Code}
	case errors.Is(cause, sip.ErrNoACK):
		return ended{cause: webhooks.CauseMediaTimeout, by: webhooks.EndedBySystem, text: "no ACK"}
	case errors.Is(cause, sip.ErrTimeout), errors.Is(cause, sip.ErrTransport):
		return ended{cause: webhooks.CauseUnreachable, text: cause.Error()}
	}
	return ended{cause: webhooks.CauseError, text: errorText(cause)}
}

// finish ends the dialog and the media and emits the one call.ended.
func (s *Session) finish() {
	if s.ctx.Err() == nil {
		s.cancel(ended{cause: webhooks.CauseProgramEnd})
	}
	end := endOf(s.ctx)
	s.journal.finishing()
	if s.fenced() {
		s.log.Warn("call.fenced", "detail", end.text)
		if s.dialog != nil {
			s.dialog.Drop()
		}
	}
	s.leave()
	s.hangUp(end)
	s.stopRecordings()
	var stats media.Stats
	if s.leg != nil {
		s.leg.Close()
		stats = s.leg.Stats()
	}
	s.tellMade()
	s.emitEnded(end, qualityOf(stats, s.sdp.active))
	s.observeEnd(end, stats)
	s.drainActions()
	s.calls.remove(s)
	s.work.Wait()
	s.closeJournal()
}

// fence ends the session because another process has taken its call over: without BYE and without events, which are
// that process's to send.
func (s *Session) fence() {
	s.mu.Lock()
	s.gone = true
	s.mu.Unlock()
	s.journal.stop()
	s.cancel(ended{cause: webhooks.CauseEdgeLost, text: "another process has taken the call over"})
}

func (s *Session) fenced() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gone
}

// hangUp ends the SIP side: a final response where there was none, BYE where there was.
func (s *Session) hangUp(end ended) {
	if s.dialog == nil || s.dialog.Context().Err() != nil {
		return
	}
	info := end.cause.Info()
	reason := sip.Header{Name: "Reason", Value: fmt.Sprintf("Q.850;cause=%d", info.Q850)}
	// The far side gets one transaction's time to answer, after this leg is over in every other way.
	s.spawn(func() {
		ctx, done := context.WithTimeout(context.Background(), 32*time.Second)
		defer done()
		var err error
		if s.dialog.Outbound() || s.answered() {
			err = s.dialog.Bye(ctx, reason)
		} else {
			code := info.SIP
			if end.code != 0 {
				code = end.code
			}
			headers := []sip.Header{reason}
			if code == http.StatusServiceUnavailable {
				headers = append(headers, retryAfter)
			}
			err = s.dialog.Reject(code, headers...)
		}
		if err != nil && !errors.Is(err, sip.ErrState) {
			s.log.Debug("call.hangup_unanswered", "error", err.Error())
		}
	})
}

// retryAfter goes with every 503 (RFC 3261 §21.5.4).
var retryAfter = sip.Header{Name: "Retry-After", Value: "5"}

// touch makes the call a new version, because something an application could decide on has changed.
func (s *Session) touch() {
	if s.deputy != nil {
		s.deputy.say(talkWord{Touch: true})
		return
	}
	s.mu.Lock()
	s.tag++
	s.call.Etag = strconv.Itoa(s.tag)
	s.mu.Unlock()
}

func (s *Session) answered() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cdr.AnsweredAt != nil
}

// vars is what templates see.
func (s *Session) vars() webhooks.Vars {
	return webhooks.Vars{Call: s.call, Trigger: s.trigger, State: s.state, Data: s.data}
}

// setData merges values into the call's data, last write wins per key.
func (s *Session) setData(values map[string]any) { maps.Copy(s.data, values) }

// qualityOf turns the media counters into what the record shows.
func qualityOf(st media.Stats, n sdp.Negotiated) *webhooks.Quality {
	if st.PacketsSent == 0 && st.PacketsReceived == 0 {
		return nil
	}
	return &webhooks.Quality{
		Codec:           n.Codec.Name(),
		PacketsSent:     st.PacketsSent,
		PacketsReceived: st.PacketsReceived,
		PacketsLost:     st.Lost,
		PacketsLate:     st.Late,
		LossRatio:       st.LossRatio(),
		JitterMS:        float64(st.Jitter.Microseconds()) / 1000,
		RTTMS:           float64(st.RTT.Microseconds()) / 1000,
		MOS:             st.MOS,
	}
}
