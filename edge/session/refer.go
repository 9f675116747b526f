package session

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hookswitch/hookswitch/edge/sip"
	"github.com/hookswitch/hookswitch/webhooks"
)

const (
	// referTime is how long the first NOTIFY may take. It should come at once (RFC 3515 §2.4.4), and where none comes there
	// will be none: trunks that accept a REFER and say nothing more are not rare.
	referTime = 32 * time.Second
	// referRings is how long the new call may ring.
	referRings = 180 * time.Second
	// notifyTime bounds what NOTIFYs of ours hold up.
	notifyTime = 5 * time.Second
)

// refer asks this leg's peer to call somebody else by itself. It ends when that call is answered or refused, or when its
// phone tells nothing of it any more: then the REFER was accepted, and how it went on is not known.
func (s *Session) refer(i *webhooks.Refer) *webhooks.Trigger {
	if !s.answered() {
		return s.failed(errors.New("only a call that is answered can be referred: answer it first"))
	}
	target, err := s.referTarget(s.vars().Text(i.To))
	if err != nil {
		return s.failed(err)
	}
	began := time.Now()
	defer func() { s.counts(time.Since(began)) }()
	ctx, done := context.WithCancel(s.ctx)
	defer done()
	news := s.askRefer(ctx, target, i.Headers)
	// It begins with the answer to the REFER, which has its own time: that of the transaction.
	timer := time.NewTimer(0)
	timer.Stop()
	defer timer.Stop()
	t := &webhooks.Trigger{Outcome: webhooks.Refused}
	for {
		s.referred = news
		woke, e := s.wait(timer.C)
		s.referred = nil
		switch woke {
		case wokeReferred:
			p := s.progress
			if p.err != nil && s.ctx.Err() == nil {
				return s.failed(p.err)
			}
			if p.next != nil {
				news = p.next
			}
			if over := referOutcome(t, p); over {
				return t
			}
			timer.Reset(referRings)
			if t.NotifyCode == 0 {
				timer.Reset(referTime)
			}
		case wokeTimer:
			return t
		case wokeDigit:
			s.typeAhead(e.Digit)
		case wokeAction, wokeEnd:
			t.Outcome = s.interrupted().Outcome
			return t
		}
	}
}

// referring is news of a REFER of ours: the answer to it, or what a NOTIFY told.
type referring struct {
	code     int   // of the response to the REFER; 0 otherwise
	err      error // why no REFER could be sent
	progress sip.Progress
	quiet    bool             // no NOTIFY will come
	next     <-chan referring // where further news come
}

// referOutcome brings a trigger up to date and reports whether the instruction is over.
func referOutcome(t *webhooks.Trigger, r referring) bool {
	switch p := r.progress; {
	case r.err != nil: // the call is over
		return false
	case r.code >= 300:
		t.SIPCode = r.code
		return true
	case r.code > 0:
		t.SIPCode, t.Outcome = r.code, webhooks.Accepted
		return r.quiet
	case p.Code >= 300:
		t.NotifyCode, t.Outcome = p.Code, webhooks.Refused
		return true
	default:
		if p.Code > 0 {
			t.NotifyCode = p.Code
		}
		return p.Code >= 200 || p.Last
	}
}

// askRefer sends the REFER and returns where its answer, and what NOTIFYs tell, can be read, until ctx ends.
func (s *Session) askRefer(ctx context.Context, target string, headers map[string]string) <-chan referring {
	news := make(chan referring, 1)
	s.spawn(func() {
		select {
		case <-s.confirmed:
		case <-ctx.Done():
			return
		}
		sub, err := s.dialog.Refer(ctx, target, sipHeaders(headers)...)
		if err != nil {
			s.log.Info("refer.refused", "error", err.Error())
			news <- unreferred(err)
			return
		}
		next := make(chan referring)
		news <- referring{code: sub.Code, quiet: sub.Quiet, next: next}
		for !sub.Quiet {
			select {
			case p := <-sub.C:
				select {
				case next <- referring{progress: p}:
				case <-ctx.Done():
					return
				}
				if p.Last {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	})
	return news
}

// unreferred is the news of a REFER that was not accepted. No answer, and no way to send it, count as the answers that
// RFC 3261 §8.1.3.1 says.
func unreferred(err error) referring {
	var rejected *sip.RejectedError
	switch {
	case errors.As(err, &rejected):
		return referring{code: rejected.Code}
	case errors.Is(err, sip.ErrTimeout):
		return referring{code: 408}
	case errors.Is(err, sip.ErrTransport):
		return referring{code: 503}
	}
	return referring{err: err}
}

// referTarget is the URI for Refer-To. A bare number is one in the domain that the peer itself is in.
func (s *Session) referTarget(to string) (string, error) {
	if scheme, _, ok := strings.Cut(to, ":"); !ok || !isReferScheme(scheme) {
		host := s.dialog.From().Host
		if s.dialog.Outbound() {
			host = s.dialog.To().Host
		}
		to = sip.URI{Scheme: "sip", User: to, Host: host}.String()
	}
	if _, err := sip.ParseURI(to); err != nil || strings.ContainsAny(to, `<>" ,`) {
		return "", fmt.Errorf("%q is no SIP or tel URI, and no number", to)
	}
	return to, nil
}

func isReferScheme(s string) bool {
	switch strings.ToLower(s) {
	case "sip", "sips", "tel":
		return true
	}
	return false
}
