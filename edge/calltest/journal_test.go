package calltest

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/edge/session"
	"github.com/hookswitch/hookswitch/webhooks"
	"github.com/hookswitch/hookswitch/webhooks/webhooktest"
)

// library is a control plane that keeps the journals it is sent.
type library struct {
	control.Control

	mu      sync.Mutex // guards what follows
	began   map[webhooks.CallID]time.Time
	chunks  map[webhooks.CallID][]control.JournalChunk
	refuses error // what a batch with a chunk is answered with
}

func (l *library) setup(c *session.Config) {
	l.chunks, l.began, l.Control = map[webhooks.CallID][]control.JournalChunk{}, map[webhooks.CallID]time.Time{}, c.Control
	c.Control = l
}

// Publish implements control.Control.
func (l *library) Publish(ctx context.Context, b control.Batch) (control.Published, error) {
	l.mu.Lock()
	refuses := l.refuses
	l.mu.Unlock()
	if refuses != nil && len(b.Journal) > 0 {
		return control.Published{}, refuses
	}
	done, err := l.Control.Publish(ctx, b)
	if err != nil {
		return done, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(b.Events) > 0 && b.Events[0].Type == webhooks.EventCallInitiated {
		l.began[b.CallID] = b.Events[0].OccurredAt
	}
	for _, chunk := range b.Journal {
		z, err := gzip.NewReader(bytes.NewReader(chunk.Text))
		if err != nil {
			return done, err
		}
		if chunk.Text, err = io.ReadAll(z); err != nil {
			return done, err
		}
		l.chunks[b.CallID] = append(l.chunks[b.CallID], chunk)
	}
	return done, nil
}

// entry is one entry of a journal.
type entry struct {
	T    int64  `json:"t"`
	Kind string `json:"kind"`

	Version     int             `json:"version"`
	BeganAt     time.Time       `json:"began_at"`
	Peer        string          `json:"peer"`
	Message     string          `json:"message"`
	ID          string          `json:"id"`
	Sequence    int64           `json:"sequence"`
	Reason      string          `json:"reason"`
	URL         string          `json:"url"`
	Status      int             `json:"status"`
	Attempt     int             `json:"attempt"`
	Body        string          `json:"body"`
	Length      int             `json:"length"`
	Error       json.RawMessage `json:"error"`
	Instruction json.RawMessage `json:"instruction"`
	Verb        string          `json:"verb"`
	Outcome     string          `json:"outcome"`
	Trigger     json.RawMessage `json:"trigger"`
	Key         string          `json:"key"`
	Source      string          `json:"source"`
	Pressed     int64           `json:"pressed"`
	Name        string          `json:"name"`
	Fact        string          `json:"fact"`
	Codec       string          `json:"codec"`
	Direction   string          `json:"direction"`
	Type        string          `json:"type"`
	Data        json.RawMessage `json:"data"`
	Action      json.RawMessage `json:"action"`
	Pointer     string          `json:"pointer"`
	Code        string          `json:"code"`
	Dropped     int             `json:"dropped"`
}

// legs are those of which something of the journal has come, in the order in which they began.
func (l *library) legs() []webhooks.CallID {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.SortedFunc(maps.Keys(l.chunks), func(a, b webhooks.CallID) int { return l.began[a].Compare(l.began[b]) })
}

// text is the journal of the leg that began as the nth, and whether it is whole. Its form is checked.
func (l *library) text(t *testing.T, nth int) (text []byte, whole bool) {
	t.Helper()
	legs := l.legs()
	if nth >= len(legs) {
		t.Fatalf("%d journals came", len(legs))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, chunk := range l.chunks[legs[nth]] {
		if chunk.Number != i+1 || whole || !bytes.HasSuffix(chunk.Text, []byte("\n")) {
			t.Errorf("chunk %d is the %dth, after the last: %t", chunk.Number, i+1, whole)
		}
		text, whole = append(text, chunk.Text...), chunk.Last
	}
	if len(text) > control.MaxJournal {
		t.Errorf("the journal has %d octets", len(text))
	}
	return text, whole
}

func (l *library) entries(t *testing.T, nth int) []entry {
	t.Helper()
	text, whole := l.text(t, nth)
	var all []entry
	last := int64(0)
	for line := range bytes.Lines(text) {
		var e entry
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if e.T < last {
			t.Errorf("time runs back at %s", line)
		}
		last = e.T
		all = append(all, e)
	}
	if all[0].Kind != control.JournalBegin || all[0].Version != control.JournalVersion || all[0].BeganAt.IsZero() {
		t.Errorf("it begins with %+v", all[0])
	}
	if whole != (all[len(all)-1].Kind == control.JournalEnd) {
		t.Errorf("whole: %t, but it ends with %+v", whole, all[len(all)-1])
	}
	return all
}

// kinds of entries that fit.
func only(all []entry, fits func(entry) bool) []entry {
	return slices.DeleteFunc(slices.Clone(all), func(e entry) bool { return !fits(e) })
}

func ofKind(all []entry, kind string) []entry {
	return only(all, func(e entry) bool { return e.Kind == kind })
}

// golden compares the journals of a bench, call by call, with testdata/NAME.journal.
func (l *library) golden(t *testing.T, b *Bench, name string) {
	t.Helper()
	b.Idle()
	b.Pass(time.Second)
	b.Close()
	var out strings.Builder
	b.mu.Lock()
	names := b.callNames()
	b.mu.Unlock()
	for i, id := range l.legs() {
		fmt.Fprintf(&out, "%s\n", names[string(id)])
		all := l.entries(t, i)
		lines := make([]string, len(all))
		for k, e := range all {
			lines[k] = fmt.Sprintf("%10d  %-11s  %s", e.T, e.Kind, b.shown(e))
		}
		// Within one instant the edge's goroutines are free to do things in any order.
		slices.SortStableFunc(lines, func(a, c string) int { return cmp.Compare(a[:10]+rankOf(a), c[:10]+rankOf(c)) })
		out.WriteString(strings.Join(lines, "\n") + "\n\n")
	}
	got := idPattern.ReplaceAllStringFunc(out.String(), func(id string) string {
		if names[id] == "" {
			names[id] = id[:strings.IndexByte(id, '_')]
		}
		return names[id]
	})
	path := filepath.Join("testdata", name+".journal")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the journal differs from %s at line %d; it is now:\n%s", path, differs(got, string(want)), got)
	}
}

func rankOf(line string) string {
	for i, kind := range []string{"begin", "end"} {
		if strings.HasPrefix(line[12:], kind+" ") {
			return []string{"\x00", "\xff"}[i]
		}
	}
	return line[12:]
}

// shown is an entry without what is another each time.
func (b *Bench) shown(e entry) string {
	object := func(raw json.RawMessage) string { return pairs(raw) }
	switch e.Kind {
	case control.JournalSIPIn, control.JournalSIPOut:
		b.mu.Lock()
		defer b.mu.Unlock()
		for name, p := range b.phones {
			if p.Addr.String() == e.Peer {
				return name + "  " + summary([]byte(e.Message))
			}
		}
		return e.Peer + "  " + summary([]byte(e.Message))
	case control.JournalRequest:
		var r webhooks.CallRequest
		if json.Unmarshal([]byte(e.Body), &r) != nil || string(r.RequestID) != e.ID {
			return "unreadable: " + e.Body
		}
		text := fmt.Sprintf("%s #%d", strings.TrimPrefix(e.URL, b.App.URL), e.Sequence)
		if r.Trigger != nil {
			text += " {" + pairs(r.Trigger) + "}"
		}
		return e.Reason + " " + text
	case control.JournalAnswer:
		return fmt.Sprintf("%d %s %s", e.Status, e.Body, e.Error)
	case control.JournalInstruction:
		return object(e.Instruction)
	case control.JournalOutcome:
		if e.Trigger == nil {
			return e.Verb
		}
		return e.Verb + " " + e.Outcome + " {" + object(e.Trigger) + "}"
	case control.JournalInput:
		return fmt.Sprintf("%s by %s, pressed %d", e.Key, e.Source, e.Pressed)
	case control.JournalTimer:
		return e.Name
	case control.JournalMedia:
		return strings.TrimSpace(e.Fact + " " + e.Codec + " " + e.Direction)
	case control.JournalEvent:
		return fmt.Sprintf("%d %s {%s}", e.Sequence, e.Type, object(e.Data))
	case control.JournalAction:
		return string(e.Action)
	case control.JournalEnd:
		return fmt.Sprintf("dropped %d", e.Dropped)
	}
	return ""
}

func journalStory(t *testing.T, tell func(t *testing.T, b *Bench, l *library)) {
	t.Helper()
	l := &library{}
	storyWith(t, Setup{Session: l.setup}, func(t *testing.T, b *Bench) { tell(t, b, l) })
}

func TestJournalOfAMenu(t *testing.T) {
	journalStory(t, func(t *testing.T, b *Bench, l *library) {
		b.Webhook("1000", nil)
		b.App.Answer("/voice", menu)
		b.App.Answer("/menu", `[{"verb":"play","media_id":"sys_digits_{{trigger.digits}}"},{"verb":"pause","length":2}]`)
		call := b.Phone("1001").Dial("1000").Expect(180).Answered()
		b.Pass(time.Second)
		call.Press("4")
		call.ExpectBye()
		b.Ended(webhooks.CauseProgramEnd)
		l.golden(t, b, "menu")
	})
}

func TestJournalOfADialHasBothLegs(t *testing.T) {
	journalStory(t, func(t *testing.T, b *Bench, l *library) {
		b.Webhook("1000", nil)
		b.App.Answer("/voice", `[{"verb":"dial","to":[{"extension":"1002"}],"action":"/dialed"}]`)
		b.App.Answer("/dialed", `[]`)
		callee := b.Phone("1002")
		call := b.Phone("1001").Dial("1000").Answered()
		ringing := callee.Rings()
		b.Pass(2 * time.Second)
		ringing.Answer()
		b.Event(webhooks.EventCallBridged)
		b.Pass(time.Second)
		call.Hold()
		b.Pass(time.Second)
		call.Resume()
		call.Press("7")
		b.Pass(time.Second)
		ringing.HangUp()
		call.ExpectBye()
		l.golden(t, b, "dial")
	})
}

// A call to somebody who asks for a password.
func TestJournalHoldsTheMessagesFromBeforeTheCallWasKnown(t *testing.T) {
	journalStory(t, func(t *testing.T, b *Bench, l *library) {
		b.Webhook("1000", nil)
		callee := b.Phone("1002")
		b.App.Answer("/voice", at(callee, `[{"verb":"dial","to":[{"sip":"sip:bob@ADDRESS","username":"bob","password":"canary-trunk"}]}]`))
		phone := b.Phone("1001")
		call := phone.Dial("1000").Answered()
		callee.Called().Challenge("bob", "canary-trunk").Refuse(404)
		call.ExpectBye()
		b.Idle()
		b.Pass(time.Second)
		if in, out := l.messages(t, 0), l.messages(t, 1); in != "INVITE 180 200 ACK BYE 200" || out != "INVITE 407 ACK INVITE 404 ACK" {
			t.Errorf("of the caller there is %s, of the dialled leg %s", in, out)
		}
		for i := range 2 {
			if text, _ := l.text(t, i); bytes.Contains(text, []byte("canary")) || bytes.Contains(text, []byte("response=")) {
				t.Errorf("a password or a digest is in journal %d: %s", i, text)
			}
		}
	})
}

// messages are the SIP messages of a journal, by method and status.
func (l *library) messages(t *testing.T, nth int) string {
	var all []string
	for _, e := range l.entries(t, nth) {
		if strings.HasPrefix(e.Kind, "sip_") {
			start, _, _ := strings.Cut(e.Message, "\r\n")
			all = append(all, strings.Fields(strings.TrimPrefix(start, "SIP/2.0 "))[0])
		}
	}
	return strings.Join(all, " ")
}

func TestJournalTellsTimersHoldAndWarnings(t *testing.T) {
	journalStory(t, func(t *testing.T, b *Bench, l *library) {
		b.Plane.TimeLimit = 20
		b.Webhook("1000", func(a *control.Application) { a.Format = control.FormatTwiML })
		b.App.Answer("/voice", webhooktest.Response{ContentType: "application/xml", Body: `<Response><Gather timeout="1" colour="red"/><Pause length="60"/></Response>`})
		call := b.Phone("1001").Dial("1000").Answered()
		b.Pass(2 * time.Second)
		call.Hold()
		call.Resume()
		call.ExpectBye()
		b.Ended(webhooks.CauseTimeLimit)
		b.Pass(time.Second)
		all := l.entries(t, 0)
		var got []string
		for _, e := range all {
			switch e.Kind {
			case control.JournalTimer:
				got = append(got, "timer "+e.Name)
			case control.JournalWarning:
				got = append(got, "warning "+e.Code)
			case control.JournalMedia:
				got = append(got, strings.TrimSpace(e.Fact+" "+e.Direction))
			}
		}
		text := strings.Join(got, ", ")
		want := "agreed sendrecv, warning twiml, agreed sendrecv, first_packet, timer gather, agreed recvonly, agreed sendrecv, timer time_limit"
		if text != want {
			t.Errorf("there is\n%s\nwant\n%s", text, want)
		}
		if r := ofKind(all, control.JournalRequest); len(r) == 0 || !strings.Contains(r[0].Body, "CallStatus=") {
			t.Errorf("requests: %+v", r)
		}
	})
}

func TestJournalTellsLiveChanges(t *testing.T) {
	journalStory(t, func(t *testing.T, b *Bench, l *library) {
		b.Program("1000", wait60)
		b.Phone("1001").Dial("1000").Answered()
		id := b.Event(webhooks.EventCallInitiated).CallID
		change, err := webhooks.ParseAction([]byte(`{"op":"hangup"}`))
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Calls.Act(t.Context(), control.Action{ActionID: "act_1", AccountID: Account, CallID: id, Change: change}); err != nil {
			t.Fatal(err)
		}
		b.Ended(webhooks.CauseAPIHangup)
		b.Idle()
		b.Pass(time.Second)
		actions := ofKind(l.entries(t, 0), control.JournalAction)
		if len(actions) != 1 || !bytes.Contains(actions[0].Action, []byte("act_1")) || !bytes.Contains(actions[0].Action, []byte("hangup")) {
			t.Errorf("actions: %+v", actions)
		}
	})
}

// What replays a call needs: each key, when it came, and each answer whole.
func TestJournalHasEveryKeyInTheOrderInWhichItCame(t *testing.T) {
	journalStory(t, func(t *testing.T, b *Bench, l *library) {
		b.Webhook("1000", nil)
		answer := `[{"verb":"play","media_id":"sys_welcome"},{"verb":"gather","num_digits":2,"finish_on_key":"","action":"/a"}]`
		b.App.Answer("/voice", answer)
		b.App.Answer("/a", `[{"verb":"record","finish_on_key":"#","max_length":20,"silence":0},{"verb":"pause","length":1}]`)
		call := b.Phone("1001").Dial("1000").Answered()
		b.Pass(300 * time.Millisecond)
		call.Press("12") // while the welcome plays: they wait
		b.App.Expect("incoming")
		b.App.Expect("action", "digits", "12")
		b.Pass(2 * time.Second)
		call.Press("5#") // the first is nobody's
		call.ExpectBye()
		b.Idle()
		b.Pass(time.Second)
		all := l.entries(t, 0)
		keys := ""
		for _, e := range ofKind(all, control.JournalInput) {
			keys += e.Key
			if waited := e.Pressed != 0 && e.Pressed < e.T; waited != (e.Key == "1" || e.Key == "2") {
				t.Errorf("key %s at %d was pressed at %d", e.Key, e.T, e.Pressed)
			}
		}
		if keys != "125#" {
			t.Errorf("the keys are %s", keys)
		}
		if a := ofKind(all, control.JournalAnswer); len(a) != 2 || a[0].Body != answer || a[0].Length != 0 {
			t.Errorf("answers: %+v", a)
		}
	})
}

// The canaries: none may be in any octet of any journal.
func TestNoSecretAndNoMaskedKeyIsEverInAJournal(t *testing.T) {
	secret := "whsec_" + base64.StdEncoding.EncodeToString([]byte("canary-signing-secret-0123456789"))
	for name, press := range map[string]func(c *Call, keys string){
		"RFC 4733": (*Call).Press,
		"INFO":     (*Call).PressINFO,
	} {
		t.Run(name, func(t *testing.T) {
			journalStory(t, func(t *testing.T, b *Bench, l *library) {
				b.Webhook("1000", func(a *control.Application) { a.Secrets = []string{secret} })
				b.App.Secrets(secret)
				// The first key comes while the welcome plays, the others while the gather waits.
				b.App.Answer("/voice", `{"instructions":[{"verb":"play","media_id":"sys_welcome"},{"verb":"gather","num_digits":6,"mask":true,"finish_on_key":"","action":"/pin?pin={{trigger.digits}}"}],
					"state":{"client_secret":"canary-state","api-key":["canary-list"]}}`)
				b.App.Answer("/pin", `{"instructions":[{"verb":"tag","data":{"card":"739154","n":739154,"x_token":{"a":"canary-nested"}}},
					{"verb":"gather","num_digits":6,"mask":true,"timeout":2,"attempts":2,"valid":"9","action":"/again"},
					{"verb":"dial","to":[{"sip":"sip:739154@192.0.2.99:5060","username":"u","password":"canary-password"}],"headers":{"X-Api-Key":"canary-header","X-Card":"739154"},"action":"/dialed"}],"state":{"seen":"739154"}}`)
				b.App.Answer("/again", `[]`)
				b.App.Answer("/dialed", `[]`)
				call := b.Phone("1001").Dial("1000").Answered()
				b.Pass(300 * time.Millisecond)
				press(call, "7")
				b.Pass(5 * time.Second)
				press(call, "39154")
				b.App.Expect("incoming")
				b.App.Expect("action", "digits", "739154")
				b.Pass(time.Second)
				press(call, "862")
				b.Pass(3 * time.Second)
				press(call, "57")
				b.App.Expect("action", "digits", "57")
				call.ExpectBye()
				b.Idle()
				b.Pass(5 * time.Second)
				checkCanaries(t, l, []string{"canary", "739154", `"57"`, `"862"`, secret})
				all := l.entries(t, 0)
				keys := ""
				for _, e := range ofKind(all, control.JournalInput) {
					keys += e.Key
				}
				if keys != strings.Repeat("•", 11) {
					t.Errorf("the keys are %s", keys)
				}
			})
		})
	}
}

// The digits that a masked gather took go into a leg that is dialled: what it says on the wire is not kept either.
func TestMaskedKeysStayHiddenInTheLegsThatAreDialled(t *testing.T) {
	journalStory(t, func(t *testing.T, b *Bench, l *library) {
		callee := b.Phone("1002")
		b.Program("1000", at(callee, `[{"verb":"gather","num_digits":6,"mask":true,"on":{"digits":[
			{"verb":"dial","to":[{"sip":"sip:{{trigger.digits}}@ADDRESS","username":"u","password":"canary-password"}],"headers":{"X-Api-Key":"canary-header"},"timeout":5}]}}]`))
		call := b.Phone("1001").Dial("1000").Answered()
		call.Press("739154")
		callee.Called().Answer()
		b.Pass(time.Second)
		call.HangUp()
		b.Idle()
		b.Pass(time.Second)
		l.entries(t, 1)
		checkCanaries(t, l, []string{"canary", "sip:739154"})
		text, _ := l.text(t, 1)
		if bytes.Contains(text, []byte("739154")) {
			t.Errorf("%s", text)
		}
	})
}

// at puts a phone's address into a program.
func at(p *Phone, program string) string {
	return strings.ReplaceAll(program, "ADDRESS", p.Addr.String())
}

// checkCanaries looks for what must not be there in all that has come, in whichever form.
func checkCanaries(t *testing.T, l *library, canaries []string) {
	t.Helper()
	for i := range l.legs() {
		text, _ := l.text(t, i)
		for _, canary := range canaries {
			if at := bytes.Index(text, []byte(canary)); at >= 0 {
				t.Errorf("%q is in journal %d: …%s…", canary, i, text[max(0, at-200):min(len(text), at+100)])
			}
		}
	}
}

func TestJournalIsBoundedAndKeepsTheEnd(t *testing.T) {
	journalStory(t, func(t *testing.T, b *Bench, l *library) {
		b.Webhook("1000", nil)
		long := `[{"verb":"answer"},{"verb":"pause","length":1},{"verb":"redirect","url":"/voice"}]` + strings.Repeat(" ", 30<<10)
		for range 20 {
			b.App.Answer("/voice", long)
		}
		call := b.Phone("1001").Dial("1000").Answered()
		b.Pass(15 * time.Second)
		call.HangUp()
		b.Idle()
		b.Pass(time.Second)
		all := l.entries(t, 0)
		end := all[len(all)-1]
		if end.Kind != control.JournalEnd || end.Dropped == 0 {
			t.Errorf("it ends with %+v", end)
		}
		if ended := only(all, func(e entry) bool { return e.Type == string(webhooks.EventCallEnded) }); len(ended) != 1 {
			t.Errorf("%d ends", len(ended))
		}
		if bye := only(all, func(e entry) bool { return strings.HasPrefix(e.Message, "BYE ") }); len(bye) > 1 {
			t.Errorf("%d BYE", len(bye))
		}
	})
}

func TestOneTextIsCutAndSaysHowLongItWas(t *testing.T) {
	journalStory(t, func(t *testing.T, b *Bench, l *library) {
		b.Webhook("1000", nil)
		b.App.Answer("/voice", `[{"verb":"answer"}]`+strings.Repeat(" ", 100<<10))
		b.Phone("1001").Dial("1000").Answered().ExpectBye()
		b.Idle()
		b.Pass(time.Second)
		a := ofKind(l.entries(t, 0), control.JournalAnswer)
		if len(a) != 1 || len(a[0].Body) != 64<<10 || a[0].Length != 100<<10+len(`[{"verb":"answer"}]`) {
			t.Errorf("%d octets of %d", len(a[0].Body), a[0].Length)
		}
	})
}

func TestALongCallShipsItsJournalWhileItLasts(t *testing.T) {
	journalStory(t, func(t *testing.T, b *Bench, l *library) {
		b.Program("1000", wait60)
		call := b.Phone("1001").Dial("1000").Answered()
		b.Pass(20 * time.Second)
		if all := l.entries(t, 0); len(all) < 5 || all[len(all)-1].Kind == control.JournalEnd {
			t.Errorf("of a call that lives there is %+v", all)
		}
		call.HangUp()
		b.Idle()
		b.Pass(time.Second)
		l.entries(t, 0)
	})
}

func TestAFencedEdgeShipsNothingMore(t *testing.T) {
	journalStory(t, func(t *testing.T, b *Bench, l *library) {
		b.Program("1000", `[{"verb":"answer"},{"verb":"pause","length":15},{"verb":"pause","length":60}]`)
		b.Phone("1001").Dial("1000").Answered()
		b.Pass(13 * time.Second)
		before, _ := l.text(t, 0)
		l.mu.Lock()
		l.refuses = &control.Error{Code: control.CodeFenced, Message: "another process has taken the call over"}
		l.mu.Unlock()
		b.Idle() // fenced with its next chunk
		l.mu.Lock()
		l.refuses = nil
		l.mu.Unlock()
		b.Pass(time.Minute)
		if after, whole := l.text(t, 0); !bytes.Equal(before, after) || whole {
			t.Errorf("there is more: %s", after[len(before):])
		}
		b.Plane.Away(true) // for the check of the end, which another process tells
	})
}

func TestJournalOutlivesTheControlPlanesAbsence(t *testing.T) {
	journalStory(t, func(t *testing.T, b *Bench, l *library) {
		b.Plane.KeepFor = 3600
		b.Program("1000", `[{"verb":"answer"},{"verb":"pause","length":40}]`)
		b.Phone("1001").Dial("1000").Answered().HangUp()
		b.Idle()
		b.Pass(time.Second)
		b.Plane.Away(true)
		call := b.Phone("1001").Dial("1000").Answered()
		b.Pass(30 * time.Second)
		call.HangUp()
		b.Idle()
		b.Pass(time.Second)
		if n := len(l.legs()); n != 1 {
			t.Fatalf("%d journals came while the control plane was away", n)
		}
		b.Plane.Away(false)
		b.Pass(5 * time.Second)
		all := l.entries(t, 1)
		if all[len(all)-1].Kind != control.JournalEnd {
			t.Errorf("it ends with %+v", all[len(all)-1])
		}
	})
}

// What an edge could not ship before it stopped, the next process ships from the spool.
func TestJournalIsShippedByTheNextProcess(t *testing.T) {
	first, second := &library{}, &library{}
	spool := t.TempDir()
	storyWith(t, Setup{Session: first.setup, Spool: spool}, func(t *testing.T, b *Bench) {
		b.Plane.KeepFor = 3600
		b.Program("1000", wait60)
		b.Phone("1001").Dial("1000").Answered().HangUp()
		b.Idle()
		b.Pass(time.Second)
		b.Plane.Away(true)
		b.Phone("1001").Dial("1000").Answered().HangUp()
		b.Idle()
		b.Pass(time.Second)
		b.Close()
		b.Plane.Away(false)
		again := NewWith(t, Setup{Session: second.setup, Spool: spool, Plane: b.Plane})
		again.Pass(5 * time.Second)
		if all := second.entries(t, 0); all[len(all)-1].Kind != control.JournalEnd || len(first.legs()) != 1 {
			t.Errorf("the next process shipped %+v", all)
		}
	})
}

// Of an edge that is killed there is what it had shipped.
func TestWhatAnEdgeHadShippedIsThereWhenItIsKilled(t *testing.T) {
	journalStory(t, func(t *testing.T, b *Bench, l *library) {
		b.Program("1000", wait60)
		b.Phone("1001").Dial("1000").Answered()
		b.Pass(25 * time.Second)
		all := l.entries(t, 0) // as a control plane has it in this moment
		kinds := map[string]int{}
		for _, e := range all {
			kinds[e.Kind]++
		}
		for _, kind := range []string{control.JournalBegin, control.JournalSIPIn, control.JournalSIPOut, control.JournalEvent, control.JournalInstruction, control.JournalMedia} {
			if kinds[kind] == 0 {
				t.Errorf("no %s in %v", kind, slices.Sorted(maps.Keys(kinds)))
			}
		}
	})
}
