package delivery

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/endpoint"
	"github.com/hookswitch/hookswitch/controlplane/event"
	"github.com/hookswitch/hookswitch/webhooks"
	"github.com/hookswitch/hookswitch/webhooks/guard"
)

// outcome is what came of an attempt.
type outcome int

const (
	returned  outcome = iota // nothing: it was not made, or cut off by us
	delivered                // 2xx
	failed                   // to be tried again
	dead                     // for the last time
)

// result is an attempt on its way to the database.
type result struct {
	lane    *lane
	item    *item
	outcome outcome
	sent    bool // there was a request: it says something about the endpoint
	attempt endpoint.Attempt
	next    time.Time // of failed
}

const (
	connectWithin = 5 * time.Second
	answerMost    = 64 << 10 // bytes read of an answer
	answerKept    = 4 << 10  // and kept
	statusGone    = http.StatusGone
)

// hidden stands for the values of an endpoint's own headers in the record.
const hidden = "[hidden]"

// send makes one request to an endpoint.
func (s *Service) send(ctx context.Context, to *endpoint.Endpoint, one *item) result {
	r := result{item: one, attempt: endpoint.Attempt{
		ID: db.NewID("att"), AccountID: one.AccountID, DeliveryID: one.ID, Number: one.Attempts + 1, StartedAt: db.Now(), RequestHeaders: map[string]string{},
	}}
	if one.event.ID == "" {
		r.outcome, r.attempt.Error, r.attempt.Message = dead, "expired", "the event is no longer kept"
		return r
	}
	body, err := event.Encode(one.event)
	if err == nil {
		err = s.post(ctx, to, body, &r)
	}
	if err != nil {
		r.outcome, r.attempt.Error, r.attempt.Message = dead, "internal", err.Error()
	}
	return r
}

func (s *Service) post(ctx context.Context, to *endpoint.Endpoint, body []byte, r *result) error {
	started := time.Now()
	header := http.Header{"Content-Type": {"application/json"}}
	if err := webhooks.Sign(header, r.item.EventID, started, body, to.Secrets(started)...); err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	for name := range header {
		r.attempt.RequestHeaders[name] = header.Get(name)
	}
	for _, name := range slices.Sorted(maps.Keys(to.Headers)) {
		header.Set(name, to.Headers[name])
		r.attempt.RequestHeaders[name] = hidden
	}
	within, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	answer, err := s.Guard.Fetch(within, guard.Request{
		Method: http.MethodPost, URL: to.URL, Header: header, Body: body, MaxBody: answerMost, ConnectTimeout: connectWithin, NoRedirects: true,
	})
	if ctx.Err() != nil && err != nil {
		return nil // we are stopping: another process sends it
	}
	now := time.Now()
	r.sent = true
	r.attempt.DurationMS = now.Sub(started).Milliseconds()
	r.attempt.ResponseStatus, r.attempt.ResponseBody = answer.Status, kept(answer.Body)
	// An answer that ended early has been an answer.
	if answer.Status >= 200 && answer.Status <= 299 {
		r.outcome = delivered
		return nil
	}
	r.attempt.Error, r.attempt.Message = "status", fmt.Sprintf("the answer was %d", answer.Status)
	if e, ok := errors.AsType[*guard.Error](err); ok && answer.Status == 0 {
		r.attempt.Error, r.attempt.Message = string(e.Class), e.Text
	}
	first := r.attempt.StartedAt
	if r.item.FirstAttemptAt != nil {
		first = *r.item.FirstAttemptAt
	}
	at, over := s.next(r.item.Failures+1, first, now, asked(answer.Header, now), rand.Float64())
	r.outcome, r.next = failed, at.UTC().Truncate(time.Microsecond)
	if over {
		r.outcome = dead
	}
	return nil
}

// kept is what is recorded of an answer's body.
func kept(body []byte) string {
	text := strings.ToValidUTF8(string(body[:min(len(body), answerKept)]), "\ufffd")
	return strings.ReplaceAll(text, "\x00", "\ufffd")
}
