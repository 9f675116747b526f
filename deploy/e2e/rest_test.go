package e2e

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/webhooks"
	"github.com/hookswitch/hookswitch/webhooks/webhooktest"
)

// object is a JSON object.
type object = map[string]any

// answer is what the REST API said.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// problem is what a refusal says.
type problem struct {
	Type, Title, Detail string
	Errors              []struct{ Pointer, Code, Message string }
}

func (a answer) problem(t *testing.T) problem {
	t.Helper()
	if kind := a.header.Get("Content-Type"); kind != "application/problem+json" {
		t.Errorf("a refusal of type %s: %s", kind, a.body)
	}
	var p problem
	if err := json.Unmarshal(a.body, &p); err != nil {
		t.Errorf("%v: %s", err, a.body)
	}
	return p
}

// ask makes one request to the REST API. A body that is bytes goes as it is, everything else as JSON.
func (d *deployment) ask(t *testing.T, method, path string, body any, header http.Header) answer {
	t.Helper()
	raw, ok := body.([]byte)
	kind := "audio/wav"
	if !ok && body != nil {
		var err error
		if raw, err = json.Marshal(body); err != nil {
			t.Fatal(err)
		}
		kind = "application/json"
	}
	req, err := http.NewRequestWithContext(t.Context(), method, d.url+path, bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = header.Clone()
	if req.Header == nil {
		req.Header = http.Header{}
	}
	req.Header.Set("Authorization", "Bearer "+d.key)
	if body != nil && req.Header.Get("Content-Type") == "" {
		req.Header.Set("Content-Type", kind)
	}
	res, err := rest.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	a := answer{status: res.StatusCode, header: res.Header}
	if a.body, err = io.ReadAll(res.Body); err != nil {
		t.Fatal(err)
	}
	return a
}

// rest keeps no connection, so that a process that has answered may end.
var rest = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// expect makes a request that must succeed.
func (d *deployment) expect(t *testing.T, status int, method, path string, body any) []byte {
	t.Helper()
	a := d.ask(t, method, path, body, nil)
	if a.status != status {
		t.Fatalf("%s %s answers %d, want %d: %s", method, path, a.status, status, a.body)
	}
	return a.body
}

func into[T any](t *testing.T, body []byte) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(body, &v); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	return v
}

func get[T any](t *testing.T, d *deployment, path string) T {
	t.Helper()
	return into[T](t, d.expect(t, http.StatusOK, http.MethodGet, path, nil))
}

func post[T any](t *testing.T, d *deployment, path string, body any) T {
	t.Helper()
	return into[T](t, d.expect(t, http.StatusCreated, http.MethodPost, path, body))
}

// page is a list.
type page[T any] struct {
	Data       []T
	NextCursor string `json:"next_cursor"`
}

// call is a call as the REST API shows it.
type call struct {
	ID, Etag, From, To, Direction, Status, Cause, Reason string
	ReasonZH                                             string     `json:"reason_zh"`
	SIPCode                                              int        `json:"sip_code"`
	EndedBy                                              string     `json:"ended_by"`
	ParentCallID                                         string     `json:"parent_call_id"`
	ConversationID                                       string     `json:"conversation_id"`
	StartedAt                                            time.Time  `json:"started_at"`
	AnsweredAt                                           *time.Time `json:"answered_at"`
	EndedAt                                              *time.Time `json:"ended_at"`
	Duration                                             float64
	TalkDuration                                         float64 `json:"talk_duration"`
	Media                                                *webhooks.Quality
	Data                                                 object
}

func (c call) final() bool { return webhooks.Status(c.Status).Final() }

// recording is a recording as the REST API shows it.
type recording struct {
	ID       string
	CallID   string `json:"call_id"`
	Status   string
	Duration float64
	Channels int
	Format   string
	Size     int64
	Failure  string
}

// found waits for the record of the call with this SIP Call-ID.
func (d *deployment) found(t *testing.T, sipCallID string) call {
	t.Helper()
	var c call
	eventually(t, 20*time.Second, func() string {
		list := get[page[call]](t, d, "/v1/calls?sip_call_id="+url.QueryEscape(sipCallID))
		if len(list.Data) != 1 {
			return fmt.Sprintf("%d calls have the SIP Call-ID %s", len(list.Data), sipCallID)
		}
		c = list.Data[0]
		return ""
	})
	return c
}

// ended waits for the end of a call's record, and checks what is true of every call: its events are numbered without
// a gap, exactly one of them is call.ended, and the record agrees with it.
func (d *deployment) ended(t *testing.T, id string) (call, events) {
	t.Helper()
	var c call
	eventually(t, 30*time.Second, func() string {
		if c = get[call](t, d, "/v1/calls/"+id); c.final() {
			return ""
		}
		return "the call is still " + c.Status
	})
	list := d.events(t, id)
	cdr := list.cdr(t)
	if c.EndedAt == nil || c.Reason == "" || c.ReasonZH == "" || c.EndedBy == "" {
		t.Errorf("the record of %s is not whole: %+v", id, c)
	}
	if string(cdr.Cause) != c.Cause || string(cdr.Status) != c.Status {
		t.Errorf("the record says %s, %s; the event %s, %s", c.Status, c.Cause, cdr.Status, cdr.Cause)
	}
	return c, list
}

// endedBySIP is ended for the call with this SIP Call-ID.
func (d *deployment) endedBySIP(t *testing.T, sipCallID string) (call, events) {
	t.Helper()
	return d.ended(t, d.found(t, sipCallID).ID)
}

// dialled waits for the end of the legs that a call dialled, oldest first.
func (d *deployment) dialled(t *testing.T, parent string) []call {
	t.Helper()
	list := get[page[call]](t, d, "/v1/calls?sort=started_at&parent_call_id="+parent)
	for i, c := range list.Data {
		list.Data[i], _ = d.ended(t, c.ID)
	}
	return list.Data
}

// events are a call's, in order.
type events []webhooks.Event

func (d *deployment) events(t *testing.T, id string) events {
	t.Helper()
	list := events(get[page[webhooks.Event]](t, d, "/v1/calls/"+id+"/events?limit=1000").Data)
	for i, e := range list {
		if e.Sequence != int64(i+1) {
			t.Errorf("event %d of %s (%s) has sequence %d", i+1, id, e.Type, e.Sequence)
		}
		if string(e.CallID) != id || e.AccountID == "" || e.ID == "" || e.OccurredAt.IsZero() {
			t.Errorf("event %d of %s is not whole: %+v", i+1, id, e)
		}
	}
	return list
}

// of are the events of a type.
func (l events) of(kind webhooks.EventType) events {
	var out events
	for _, e := range l {
		if e.Type == kind {
			out = append(out, e)
		}
	}
	return out
}

// one is the only event of a type.
func (l events) one(t *testing.T, kind webhooks.EventType) webhooks.Event {
	t.Helper()
	found := l.of(kind)
	if len(found) != 1 {
		t.Fatalf("there are %d events %s among %s", len(found), kind, l)
	}
	return found[0]
}

// cdr is what the one call.ended says.
func (l events) cdr(t *testing.T) webhooks.CDR {
	t.Helper()
	e := l.one(t, webhooks.EventCallEnded)
	if e.Data.CDR == nil {
		t.Fatal("call.ended has no cdr")
	}
	return *e.Data.CDR
}

// String is the types in order.
func (l events) String() string {
	text := ""
	for _, e := range l {
		text += " " + string(e.Type)
	}
	return text
}

// recorded waits until the recordings of a call are finished and returns them, oldest first.
func (d *deployment) recorded(t *testing.T, callID string) []recording {
	t.Helper()
	var list page[recording]
	eventually(t, 30*time.Second, func() string {
		list = get[page[recording]](t, d, "/v1/recordings?sort=created_at&call_id="+callID)
		if len(list.Data) == 0 {
			return "the call has no recording"
		}
		for _, r := range list.Data {
			if r.Status == "recording" {
				return "the recording is not finished"
			}
		}
		return ""
	})
	return list.Data
}

// audio fetches a recording's file, following the way to where it lies.
func (d *deployment) audio(t *testing.T, id string) []byte {
	t.Helper()
	return d.expect(t, http.StatusOK, http.MethodGet, "/v1/recordings/"+id+"/media", nil)
}

// numbers are handed out once.
var numbers atomic.Int32

// number makes an application of the values given and a number that it answers. It returns the application's secret too.
func (d *deployment) number(t *testing.T, application object) (number, secret string) {
	t.Helper()
	name := t.Name()
	application["name"] = name[max(0, len(name)-100):]
	made := post[struct{ ID, Secret string }](t, d, "/v1/applications", application)
	d.hide(made.Secret)
	number = fmt.Sprintf("+8623%d", 68920000+numbers.Add(1))
	d.expect(t, http.StatusCreated, http.MethodPost, "/v1/numbers", object{"number": number, "application_id": made.ID})
	return number, made.Secret
}

// program makes a number answered by a stored program, given as JSON.
func (d *deployment) program(t *testing.T, program string) string {
	t.Helper()
	number, _ := d.number(t, object{"program": json.RawMessage(`{"instructions":` + program + `}`)})
	return number
}

// application starts an application and makes a number that it answers. Every request it gets must be signed.
func (d *deployment) application(t *testing.T, more object) (*webhooktest.App, string) {
	t.Helper()
	app := webhooktest.New(t)
	app.Start()
	values := object{"voice_url": app.URL + "/voice"}
	maps.Copy(values, more)
	number, secret := d.number(t, values)
	app.Secrets(secret)
	return app, number
}

// extensions are handed out once.
var extensions atomic.Int32

// extension makes an extension and returns it with its password.
func (d *deployment) extension(t *testing.T) (extension, password string) {
	t.Helper()
	extension, password = fmt.Sprint(2000+extensions.Add(1)), rand.Text()
	d.hide(password)
	d.expect(t, http.StatusCreated, http.MethodPost, "/v1/credentials", object{"extension": extension, "password": password})
	return extension, password
}
