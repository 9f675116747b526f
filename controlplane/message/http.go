package message

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest"
	"github.com/hookswitch/hookswitch/webhooks/guard"
)

const (
	askWithin = 15 * time.Second
	maxAnswer = 64 << 10
	// retryMost is the longest that a gateway may ask us to wait.
	retryMost = time.Hour
)

// ask has a gateway send a message.
func (s *Service) ask(ctx context.Context, p *Provider, m *Message) outcome {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	v, r := valuesOf(m, p), p.HTTP.Request
	header := http.Header{}
	for name, value := range p.Headers {
		header.Set(name, value)
	}
	request := guard.Request{Method: r.Method, URL: r.fillURL(v), Header: header, MaxBody: maxAnswer, NoRedirects: true}
	if r.Method != http.MethodGet {
		header.Set("Content-Type", string(r.ContentType)+"; charset=utf-8")
		request.Body = []byte(r.fillBody(v))
	}
	answer, err := s.Guard.Fetch(ctx, request)
	if err != nil && (answer.Status == 0 || answer.Status/100 == 2) {
		return unreached(err)
	}
	return r.judge(answer, m)
}

// unreached is the outcome of a request without an answer that can be read.
func unreached(err error) outcome {
	o := outcome{verdict: unsure, code: codeUnreached, text: "the provider could not be asked", cause: err}
	e, ok := errors.AsType[*guard.Error](err)
	if !ok {
		return o
	}
	o.text = "the provider could not be asked: " + e.Text
	switch e.Class {
	case guard.ClassURL, guard.ClassDenied:
		o.verdict, o.code = refused, codeURL
	case guard.ClassDNS, guard.ClassConnect, guard.ClassTLS:
		o.verdict, o.busy = notTaken, true // nothing of the request was sent
	}
	return o
}

// judge says what a gateway's answer means.
func (r Request) judge(answer guard.Response, m *Message) outcome {
	var value any
	decoder := json.NewDecoder(bytes.NewReader(answer.Body))
	decoder.UseNumber()
	readable := decoder.Decode(&value) == nil
	o := outcome{code: plain(textAt(value, r.ErrorCodePointer)), text: plain(textAt(value, r.ErrorMessagePointer))}
	if o.text == "" {
		o.text = fmt.Sprintf("the provider answered %d", answer.Status)
	}
	if answer.Status/100 != 2 {
		o.code = or(o.code, "http_"+strconv.Itoa(answer.Status))
		o.verdict, o.after = verdictOf(answer.Status), retryAfter(answer.Header)
		o.busy = o.verdict == notTaken
		return o
	}
	if r.SuccessPointer != "" {
		switch got := textAt(value, r.SuccessPointer); {
		case !readable:
			// It may have been taken: to send it again would be worse.
			return outcome{verdict: refused, code: codeUnexpected, text: "the provider's answer is not JSON"}
		case got == r.SuccessValue:
		case slices.Contains(r.RetryValues, got):
			o.verdict, o.code, o.busy = notTaken, or(o.code, plain(got)), true
			return o
		default:
			o.verdict, o.code = refused, or(o.code, or(plain(got), codeUnexpected))
			return o
		}
	}
	return outcome{verdict: accepted, parts: []segment{{
		MessageID: m.ID, Position: whole, AccountID: m.AccountID, ProviderID: m.ProviderID, ProviderMessageID: plain(textAt(value, r.IDPointer)),
	}}}
}

// verdictOf says what a status other than 2xx means. Of 429 and 503 it is agreed that nothing was done (RFC 6585 §4, RFC
// 9110 §15.6.4); of other faults of the server, and of a request that took too long, nobody knows.
func verdictOf(status int) verdict {
	switch {
	case status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable:
		return notTaken
	case status >= http.StatusInternalServerError, status == http.StatusRequestTimeout:
		return unsure
	}
	return refused
}

func retryAfter(h http.Header) time.Duration {
	seconds, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0
	}
	return min(time.Duration(seconds)*time.Second, retryMost)
}

// plain is a text of a provider as it can be stored, and shown on a line.
func plain(text string) string {
	text = strings.Map(func(r rune) rune {
		if isControl(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, ""))
	return clip(text)
}

// maxReports is the most reports of one request.
const maxReports = 1000

type reportIn struct {
	Token string          `path:"token"`
	Body  json.RawMessage `body:"json"`
}

// report takes a gateway's delivery reports. Whoever has the token may send them; it names the provider. Reports of what
// nobody knows are taken as well: a gateway that is refused them sends them again and again.
func (s *Service) report(ctx context.Context, _ auth.Caller, in reportIn) (rest.Answer, error) {
	var p Provider
	err := s.DB.Read().NewSelect().Model(&p).Where("report_token = ?", in.Token).Scan(ctx)
	if err := db.Check(err); err != nil || p.HTTP == nil {
		return rest.Answer{}, problem.NotFound("there is no message provider with this address for reports")
	}
	rule := p.HTTP.Report
	if rule == nil {
		return rest.Answer{}, problem.Refused("this message provider has no rule for reports; write http.report")
	}
	reports, err := rule.read(in.Body)
	if err != nil {
		return rest.Answer{}, err
	}
	ctx = db.AsAccount(ctx, p.AccountID)
	for _, f := range reports {
		switch {
		case f.messageID != "":
			err = s.reportedByID(ctx, &p, f.messageID, f.receipt)
		case f.ProviderMessageID != "":
			err = s.reported(ctx, &p, f.receipt)
		}
		if err != nil {
			return rest.Answer{}, err
		}
	}
	body := rule.Answer
	if body == nil {
		body = map[string]any{}
	}
	return rest.Answer{Status: http.StatusOK, Body: body}, nil
}

// found is one report of a gateway.
type found struct {
	receipt
	messageID string // ours; empty where it is not named
}

// read takes the reports of a body apart. What says nothing final is left out.
func (d *Report) read(body json.RawMessage) ([]found, error) {
	var value any
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	if err := decoder.Decode(&value); err != nil {
		return nil, problem.Invalid("the body is not JSON")
	}
	value = at(value, d.ListPointer)
	reports, ok := value.([]any)
	if !ok {
		reports = []any{value}
	}
	if len(reports) > maxReports {
		return nil, problem.Invalid(fmt.Sprintf("there may be at most %d reports in a request", maxReports))
	}
	var all []found
	for _, r := range reports {
		status := textAt(r, d.StatusPointer)
		if status == "" || slices.Contains(d.Ignored, status) {
			continue
		}
		f := found{
			receipt{ProviderMessageID: plain(textAt(r, d.IDPointer)), Status: Undelivered, ErrorCode: plain(textAt(r, d.ErrorCodePointer))},
			plain(textAt(r, d.MessageIDPointer)),
		}
		if slices.Contains(d.Delivered, status) {
			f.Status, f.ErrorCode = Delivered, ""
		} else if f.ErrorCode == "" {
			f.ErrorCode = plain(status)
		}
		all = append(all, f)
	}
	return all, nil
}
