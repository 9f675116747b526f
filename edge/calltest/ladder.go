package calltest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hookswitch/hookswitch/edge/prompt"
	"github.com/hookswitch/hookswitch/edge/sip"
	"github.com/hookswitch/hookswitch/webhooks"
)

var update = flag.Bool("update", false, "rewrite the ladders in testdata")

// rung is one line of a ladder: a SIP message, an event, a question to the application, or its answer.
type rung struct {
	at    time.Time
	rank  int    // among what happens in the same instant
	who   string // between equals
	text  string
	event *webhooks.Event // its text is made last, when every call has a name
	taken bool            // by Bench.Event
}

// What came in stands before what it led to. Within one instant the edge's goroutines are free to do things in any
// order; this is the order they are shown in.
const (
	rankIn = iota
	rankAnswer
	rankEvent
	rankOut
	rankAsk
)

// traced notes a SIP message, as the edge sees it.
func (b *Bench) traced(e sip.TraceEvent) {
	b.mu.Lock()
	defer b.mu.Unlock()
	peer := b.nameOf(e)
	r := rung{at: e.Time, rank: rankIn, who: peer, text: fmt.Sprintf("%-6s -> edge    %s", peer, summary(e.Message))}
	if e.Out {
		r.rank, r.text = rankOut, fmt.Sprintf("edge   -> %-6s  %s", peer, summary(e.Message))
	}
	b.ladder = append(b.ladder, r)
	if m, err := parseMessage(e.Message); err == nil { // what cannot be read is shown in the ladder
		b.signal = append(b.signal, signal{at: e.Time, out: e.Out, peer: peer, message: m})
	}
}

// signal is a SIP message as the edge sent or received it.
type signal struct {
	*message
	at   time.Time
	out  bool
	peer string // the phone's name
}

func (b *Bench) nameOf(e sip.TraceEvent) string {
	for name, p := range b.phones {
		if p.Addr == e.Peer {
			return name
		}
	}
	return e.Peer.Addr().String()
}

// shown are the headers that a ladder shows.
var shown = []string{"Reason", "Retry-After", "Contact: *", "Expires", "User-To-User", "Refer-To", "Subscription-State"}

// ourTag is a tag of the edge's in the Replaces of a Refer-To, another one each time.
var ourTag = regexp.MustCompile(`(-tag%3D)[0-9a-f]{32}`)

// summary is a SIP message on one line: the start line, what decides about the call, and the session description.
func summary(raw []byte) string {
	m, err := parseMessage(raw)
	if err != nil {
		return fmt.Sprintf("unreadable: %v", err)
	}
	text := strings.TrimSuffix(m.start, " SIP/2.0")
	if m.code != 0 {
		text = strings.TrimPrefix(m.start, "SIP/2.0 ")
		if method := m.method(); method != "INVITE" {
			text += " (" + method + ")"
		}
	}
	for _, name := range shown {
		if v := m.header(name); v != "" {
			text += "; " + name + ": " + ourTag.ReplaceAllString(v, "$1*")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.headers)) {
		if strings.HasPrefix(name, "x-") {
			text += "; " + name + ": " + m.header(name)
		}
	}
	if m.header("Authorization") != "" {
		text += "; with credentials"
	}
	switch {
	case m.header("Content-Type") == "application/sdp":
		text += "  [" + described(m.body) + "]"
	case m.body != "":
		text += "  [" + strings.Join(strings.Fields(m.body), " ") + "]"
	}
	return text
}

// described is a session description in a few words.
func described(body string) string {
	words := []string{}
	direction := "sendrecv"
	for line := range strings.Lines(body) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "m="):
			fields := strings.Fields(line)
			words = append(words, strings.TrimPrefix(fields[0], "m="))
			for _, pt := range fields[3:] {
				words = append(words, payloadName(pt, body))
			}
		case line == "a=sendonly", line == "a=recvonly", line == "a=inactive":
			direction = strings.TrimPrefix(line, "a=")
		}
	}
	return strings.Join(append(words, direction), " ")
}

func payloadName(pt, body string) string {
	for line := range strings.Lines(body) {
		if after, ok := strings.CutPrefix(strings.TrimSpace(line), "a=rtpmap:"+pt+" "); ok {
			name, _, _ := strings.Cut(after, "/")
			return name
		}
	}
	return "PT" + pt
}

// asked is the way to the application: it takes a little time, so that question and answer stand apart, and keeps
// both for the ladder.
type asked struct {
	b    *Bench
	next http.RoundTripper
}

// thinking is how long an application that answers at once takes.
const thinking = 20 * time.Millisecond

// RoundTrip implements http.RoundTripper.
func (a *asked) RoundTrip(req *http.Request) (*http.Response, error) {
	path := req.URL.RequestURI()
	a.note(rankAsk, path, "edge   -> app     "+question(req))
	a.keep(req)
	timer := time.NewTimer(thinking)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-req.Context().Done():
		a.note(rankAsk, path, "edge   -> app     gives up "+path)
		return nil, req.Context().Err()
	}
	res, err := a.next.RoundTrip(req)
	if err != nil {
		a.note(rankAnswer, path, "app    -> edge    "+path+" fails")
		return nil, err
	}
	if body, err := buffer(res); err != nil {
		a.note(rankAnswer, path, "app    -> edge    "+path+" fails")
	} else {
		a.note(rankAnswer, path, fmt.Sprintf("app    -> edge    %d%s", res.StatusCode, answerOf(res, body)))
	}
	return res, nil
}

// CloseIdleConnections lets the guard's Close reach the transport.
func (a *asked) CloseIdleConnections() {
	if t, ok := a.next.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// ask is a request that the edge began to send to the application, whether or not it got there.
type ask struct {
	at   time.Time
	path string
	id   string // webhook-id: the same when it is tried again
	call webhooks.CallRequest
}

func (a *asked) keep(req *http.Request) {
	kept := ask{at: time.Now(), path: req.URL.Path, id: req.Header.Get(webhooks.HeaderID)}
	if req.GetBody != nil {
		if body, err := req.GetBody(); err == nil {
			_ = json.NewDecoder(body).Decode(&kept.call) // a form, or a question for audio, has none
		}
	}
	a.b.mu.Lock()
	defer a.b.mu.Unlock()
	a.b.asks = append(a.b.asks, kept)
}

func (a *asked) note(rank int, who, text string) {
	a.b.mu.Lock()
	defer a.b.mu.Unlock()
	a.b.ladder = append(a.b.ladder, rung{at: time.Now(), rank: rank, who: who, text: text})
}

// buffer reads the whole body, however slowly it comes, so that it can be shown. The edge reads the same, with the same end.
func buffer(res *http.Response) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(res.Body, 2*prompt.DefaultMaxFile))
	_ = res.Body.Close() // what it held has been read
	res.Body = io.NopCloser(io.MultiReader(bytes.NewReader(body), ending{err}))
	return body, err
}

// ending is how a body ends: with an error, or like any other where that is nil.
type ending struct{ err error }

// Read implements io.Reader.
func (e ending) Read([]byte) (int, error) {
	if e.err == nil {
		return 0, io.EOF
	}
	return 0, e.err
}

// question is a request on one line.
func question(req *http.Request) string {
	text := req.Method + " " + req.URL.RequestURI()
	if req.GetBody == nil {
		return text
	}
	body, err := req.GetBody()
	if err != nil {
		return text
	}
	var r webhooks.CallRequest
	if json.NewDecoder(body).Decode(&r) != nil {
		return text
	}
	text += fmt.Sprintf(" %s #%d of %s", r.Reason, r.RequestSequence, r.CallID)
	if r.Trigger != nil {
		text += " {" + pairs(r.Trigger) + "}"
	}
	if r.Error != nil {
		text += fmt.Sprintf(" error %s %d", r.Error.Code, r.Error.Status)
	}
	return text
}

// answerOf is what a response asks for, on one line.
func answerOf(res *http.Response, body []byte) string {
	if p, err := webhooks.ParseProgram(body); err == nil {
		verbs := make([]string, len(p.Instructions))
		for i, instruction := range p.Instructions {
			verbs[i] = instruction.Verb()
		}
		return " [" + strings.Join(verbs, " ") + "]"
	}
	if location := res.Header.Get("Location"); location != "" {
		return " to " + location
	}
	if len(body) == 0 {
		return ""
	}
	return fmt.Sprintf(" %s, %d bytes", res.Header.Get("Content-Type"), len(body))
}

// hidden are the values that say nothing about a story, or are another each time.
var hidden = []string{
	"conversation_id", "sip_call_id", "source", "request_id", "reason_zh", "media", "reason", "message",
	"started_at", "ringing_at", "answered_at", "ended_at",
}

// pairs writes a struct's values in the order of their names.
func pairs(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	var object map[string]any
	if err := json.Unmarshal(raw, &object); err != nil {
		return err.Error()
	}
	words := []string{}
	for _, key := range slices.Sorted(maps.Keys(object)) {
		if slices.Contains(hidden, key) {
			continue
		}
		if nested, ok := object[key].(map[string]any); ok {
			words = append(words, pairs(nested))
			continue
		}
		words = append(words, fmt.Sprintf("%s=%v", key, object[key]))
	}
	return strings.Join(words, " ")
}

var idPattern = regexp.MustCompile(`\b(call|rec|act|conf|conv|evt)_[0-9A-Z]{26}\b`)

// Ladder writes down all that has happened: every SIP message, event, question and answer, each with its time from
// the beginning of the bench, and names in place of ids.
func (b *Bench) Ladder() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	names := b.callNames()
	rungs := slices.Clone(b.ladder)
	for i := range rungs {
		if e := rungs[i].event; e != nil {
			rungs[i].rank, rungs[i].who = rankEvent, fmt.Sprintf("%s %04d", names[string(e.CallID)], e.Sequence)
			rungs[i].text = fmt.Sprintf("event  %-9s %d %s {%s}", e.CallID, e.Sequence, e.Type, pairs(e.Data))
		}
	}
	slices.SortStableFunc(rungs, func(a, c rung) int {
		return cmp.Or(a.at.Compare(c.at), cmp.Compare(a.rank, c.rank), cmp.Compare(a.who, c.who))
	})
	var out strings.Builder
	for _, r := range rungs {
		fmt.Fprintf(&out, "%9s  %s\n", b.offset(r.at), r.text)
	}
	counts := map[string]int{}
	return idPattern.ReplaceAllStringFunc(out.String(), func(id string) string {
		if names[id] == "" {
			kind, _, _ := strings.Cut(id, "_")
			counts[kind]++
			names[id] = kind + "-" + strconv.Itoa(counts[kind])
		}
		return names[id]
	})
}

// callNames calls every leg by the phone at its other end.
func (b *Bench) callNames() map[string]string {
	names, used := map[string]string{}, map[string]int{}
	for _, e := range b.events {
		if e.Type != webhooks.EventCallInitiated {
			continue
		}
		name := e.Data.From
		if e.Data.Direction != webhooks.Inbound {
			name = e.Data.To
		}
		used[name]++
		if n := used[name]; n > 1 {
			name += "/" + strconv.Itoa(n)
		}
		names[string(e.CallID)] = "call:" + name
	}
	return names
}

func (b *Bench) offset(at time.Time) string {
	return strconv.FormatFloat(at.Sub(b.started).Seconds(), 'f', 3, 64)
}

// Golden compares the ladder with testdata/NAME.ladder, which go test -update writes anew.
func (b *Bench) Golden(name string) {
	b.t.Helper()
	b.Idle()
	b.Pass(time.Second) // for the answers to the last requests
	b.Close()
	b.matchLadder(name)
}

// matchLadder compares the ladder as it stands.
func (b *Bench) matchLadder(name string) {
	b.t.Helper()
	path, got := filepath.Join("testdata", name+".ladder"), b.Ladder()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			b.t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		b.t.Fatal(err)
	}
	if got != string(want) {
		b.t.Errorf("the ladder differs from %s at line %d; it is now:\n%s", path, differs(got, string(want)), got)
	}
}

// differs is the first line, counted from 1, in which two texts differ.
func differs(a, b string) int {
	left, right := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(left), len(right)) {
		if left[i] != right[i] {
			return i + 1
		}
	}
	return min(len(left), len(right)) + 1
}
