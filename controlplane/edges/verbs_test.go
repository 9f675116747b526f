package edges_test

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/message"
	"github.com/hookswitch/hookswitch/controlplane/rest"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
	"github.com/hookswitch/hookswitch/controlplane/survey"
	"github.com/hookswitch/hookswitch/controlplane/voicemail"
	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/openapi"
	"github.com/hookswitch/hookswitch/webhooks"
	"github.com/hookswitch/hookswitch/webhooks/guard"
)

// verbs adds to a house what the verbs need.
func verbs(t *testing.T, d *db.DB) *house {
	t.Helper()
	h := newHouse(t, d)
	h.Voicemails, h.Surveys = &voicemail.Service{DB: d}, &survey.Service{DB: d}
	h.Messages = &message.Service{DB: d, Bus: h.Bus, Guard: guard.New(guard.Config{}), Log: h.Log}
	spec, err := openapi.Load()
	if err != nil {
		t.Fatal(err)
	}
	operations := map[string]rest.Operation{}
	for _, more := range []map[string]rest.Operation{h.Voicemails.Operations(), h.Surveys.Operations(), h.Messages.Operations()} {
		maps.Copy(operations, more)
	}
	h.Server = resttest.Mount(t, d, spec, operations)
	return h
}

func wantCode(t *testing.T, what string, err error, code control.Code, says string) {
	t.Helper()
	if control.CodeOf(err) != code || !strings.Contains(err.Error(), says) {
		t.Errorf("%s: got %v, want %s with %q", what, err, code, says)
	}
}

func TestAnEdgeAsksForAMailbox(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		h := verbs(t, d)
		id := h.add(t, resttest.Token, "mailboxes", map[string]any{
			"name": "王芳", "max_length": 60, "silence": 0, "finish_on_key": "#*", "greeting": []any{map[string]any{"verb": "say", "text": "x"}},
		})
		got, err := h.Mailbox(t.Context(), control.MailboxQuery{AccountID: resttest.Account, Mailbox: "王芳"})
		if err != nil || got.ID != id || got.MinLength != 1 || got.MaxLength != 60 || got.Silence != 0 || got.FinishOnKey != "#*" || got.Greeting == nil {
			t.Errorf("%+v, %v", got, err)
		}
		h.add(t, resttest.Token, "mailboxes", map[string]any{"name": "closed", "enabled": false})
		_, err = h.Mailbox(t.Context(), control.MailboxQuery{AccountID: resttest.Account, Mailbox: "closed"})
		wantCode(t, "a disabled one", err, control.CodeNotAllowed, "disabled")
		_, err = h.Mailbox(t.Context(), control.MailboxQuery{AccountID: resttest.OtherAccount, Mailbox: id})
		wantCode(t, "another account's", err, control.CodeNotFound, id)
	})
}

func TestAnEdgeAsksForASurvey(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		h := verbs(t, d)
		say := func(text string) []any { return []any{map[string]any{"verb": "say", "text": text}} }
		question := map[string]any{"name": "service", "prompt": say("a"), "invalid_prompt": say("b"), "options": []any{map[string]any{"key": "1"}, map[string]any{"key": "*"}}, "timeout": 2.5}
		id := h.add(t, resttest.Token, "surveys", map[string]any{"name": "x", "thanks": say("c"), "questions": []any{question}})
		got, err := h.Survey(t.Context(), control.SurveyQuery{AccountID: resttest.Account, Survey: "x"})
		if err != nil || got.ID != id || got.Version != 1 || got.Invite != nil || got.Thanks == nil || len(got.Questions) != 1 {
			t.Fatalf("%+v, %v", got, err)
		}
		if q := got.Questions[0]; q.Name != "service" || q.Keys != "1*" || q.Attempts != 2 || q.Timeout != 2.5 || q.Prompt == nil || q.InvalidPrompt == nil {
			t.Errorf("%+v", q)
		}
		_, err = h.Survey(t.Context(), control.SurveyQuery{AccountID: resttest.OtherAccount, Survey: "x"})
		wantCode(t, "another account's", err, control.CodeNotFound, "x")
	})
}

func TestAnEdgeSendsAMessageOnce(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		h := verbs(t, d)
		m := control.TextMessage{AccountID: resttest.Account, CallID: "call_1", Key: "key_1", To: "13800138000", Body: "您好"}
		_, err := h.SendMessage(t.Context(), m)
		wantCode(t, "without a provider", err, control.CodeInvalid, "provider")
		h.add(t, resttest.Token, "message_providers", map[string]any{
			"name": "x", "kind": "http", "is_default": true, "from": "10690",
			"http": map[string]any{"url": "https://sms.example.com/send", "body": `{"to":"{to}","text":"{body}","id":"{id}"}`, "id_pointer": "/id"},
		})
		ids := make([]webhooks.MessageID, 4)
		var all sync.WaitGroup
		for i := range ids {
			all.Go(func() {
				taken, err := h.SendMessage(t.Context(), m)
				if err != nil {
					t.Error(err)
				}
				ids[i] = taken.MessageID
			})
		}
		all.Wait()
		if len(slices.Compact(ids)) != 1 || ids[0] == "" {
			t.Errorf("sent as %v", ids)
		}
		var sent message.Message
		resttest.Want(t, h.Do(t, resttest.Token, http.MethodGet, "/v1/messages/"+string(ids[0]), nil), http.StatusOK, &sent)
		if sent.To != "+8613800138000" || sent.From != "10690" || sent.CallID != "call_1" {
			t.Errorf("%+v", sent)
		}
		for what, change := range map[string]func(*control.TextMessage){
			"/to":          func(m *control.TextMessage) { m.To = "x" },
			"/template_id": func(m *control.TextMessage) { m.Body, m.TemplateID = "", "mtp_none" },
			"key":          func(m *control.TextMessage) { m.Key = "" },
		} {
			wrong := m
			wrong.Key = "key_" + what
			change(&wrong)
			_, err := h.SendMessage(t.Context(), wrong)
			wantCode(t, what, err, control.CodeInvalid, what)
		}
		template := h.add(t, resttest.Token, "message_templates", map[string]any{"name": "x", "body": "您好{name}"})
		filled := m
		filled.Key, filled.Body, filled.TemplateID = "key_2", "", template
		// A call's data may hold what no template can say.
		filled.Data = map[string]any{"name": "王芳", "order": map[string]any{"id": 1}, "text": strings.Repeat("x", 1000)}
		if _, err := h.SendMessage(t.Context(), filled); err != nil {
			t.Error(err)
		}
	})
}

func park(id string, call webhooks.CallID, slot string) control.Park {
	return control.Park{Owner: ownerOf(call, "boot_1"), ID: id, Slot: slot}
}

func (h *house) park(t *testing.T, p control.Park) string {
	t.Helper()
	got, err := h.Park(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	return got.Slot
}

func TestASlotHasOneCall(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		h := verbs(t, d)
		if got := h.park(t, park("park_1", "call_1", "")); got != "701" {
			t.Errorf("the first free slot is %s", got)
		}
		if got := h.park(t, park("park_1", "call_1", "")); got != "701" {
			t.Errorf("asked again, it is %s", got)
		}
		if got := h.park(t, park("park_2", "call_2", "")); got != "702" {
			t.Errorf("the next is %s", got)
		}
		_, err := h.Park(t.Context(), park("park_3", "call_3", "701"))
		wantCode(t, "one that is taken", err, control.CodeBusy, "701")
		_, err = h.Park(t.Context(), park("park_3", "call_3", strings.Repeat("7", 33)))
		wantCode(t, "no slot", err, control.CodeInvalid, "32")
		other := park("park_4", "call_4", "701")
		other.AccountID = resttest.OtherAccount
		if got := h.park(t, other); got != "701" {
			t.Errorf("another account's is %s", got)
		}
		found, err := h.FindParked(t.Context(), control.ParkedQuery{AccountID: resttest.Account, Slot: "701"})
		if err != nil || found.CallID != "call_1" || found.EdgeID != "edge_1" {
			t.Errorf("%+v, %v", found, err)
		}
		// It moves, and leaves its old slot.
		if got := h.park(t, park("park_5", "call_1", "vip")); got != "vip" {
			t.Errorf("it moves to %s", got)
		}
		_, err = h.FindParked(t.Context(), control.ParkedQuery{AccountID: resttest.Account, Slot: "701"})
		wantCode(t, "what it left", err, control.CodeNotFound, "701")
		// To leave an old stay late does not end the new one.
		for _, id := range []string{"park_1", "park_none"} {
			if err := h.LeavePark(t.Context(), control.ParkLeave{AccountID: resttest.Account, ID: id}); err != nil {
				t.Error(err)
			}
		}
		if err := h.LeavePark(t.Context(), control.ParkLeave{AccountID: resttest.OtherAccount, ID: "park_5"}); err != nil {
			t.Error(err)
		}
		if _, err := h.FindParked(t.Context(), control.ParkedQuery{AccountID: resttest.Account, Slot: "vip"}); err != nil {
			t.Error(err)
		}
		if err := h.LeavePark(t.Context(), control.ParkLeave{AccountID: resttest.Account, ID: "park_5"}); err != nil {
			t.Error(err)
		}
		_, err = h.FindParked(t.Context(), control.ParkedQuery{AccountID: resttest.Account, Slot: "vip"})
		wantCode(t, "what was given back", err, control.CodeNotFound, "vip")
	})
}

func TestManyWhoParkAtOnceHaveASlotEach(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		h := verbs(t, d)
		const calls = 16
		given := make([]string, calls)
		taken := 0
		var mu sync.Mutex
		var all sync.WaitGroup
		for i := range calls {
			all.Go(func() {
				given[i] = h.park(t, park(fmt.Sprint("park_", i), webhooks.CallID(fmt.Sprint("call_", i)), ""))
			})
			all.Go(func() {
				_, err := h.Park(t.Context(), park(fmt.Sprint("park_vip_", i), webhooks.CallID(fmt.Sprint("call_vip_", i)), "vip"))
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					taken++
				}
			})
		}
		all.Wait()
		slices.Sort(given)
		if len(slices.Compact(slices.Clone(given))) != calls {
			t.Errorf("given: %v", given)
		}
		if taken != 1 {
			t.Errorf("%d calls have the slot vip", taken)
		}
	})
}

func TestAllSlotsTaken(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		h := verbs(t, d)
		for n := 701; n <= 799; n++ {
			h.park(t, park(fmt.Sprint("park_", n), webhooks.CallID(fmt.Sprint("call_", n)), ""))
		}
		_, err := h.Park(t.Context(), park("park_x", "call_x", ""))
		wantCode(t, "one more", err, control.CodeBusy, "701 to 799")
	})
}

func TestASlotWhoseCallIsOverIsFree(t *testing.T) {
	for name, c := range map[string]struct {
		known, ended bool
		later        time.Duration
		free         bool
	}{
		"it lives":                {known: true, later: time.Hour},
		"it has ended":            {known: true, ended: true, free: true},
		"it was never heard of":   {later: 2 * time.Minute, free: true},
		"it will be heard of yet": {later: 30 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			dbtest.Each(t, func(t *testing.T, d *db.DB) {
				h := verbs(t, d)
				h.park(t, park("park_1", "call_1", "701"))
				if c.known {
					h.initiate(t, "call_1", "boot_1", db.Now(), webhooks.EventData{Direction: webhooks.Inbound})
				}
				if c.ended {
					e := webhooks.Event{
						ID: webhooks.NewEventID(), Type: webhooks.EventCallEnded, Sequence: 2, OccurredAt: db.Now(),
						Data: webhooks.EventData{CDR: &webhooks.CDR{Status: webhooks.StatusCompleted, Cause: webhooks.CauseProgramEnd, EndedAt: db.Now()}},
					}
					if _, err := h.Publish(t.Context(), control.Batch{Owner: ownerOf("call_1", "boot_1"), Events: []webhooks.Event{e}}); err != nil {
						t.Fatal(err)
					}
				}
				h.pass(c.later)
				_, err := h.FindParked(t.Context(), control.ParkedQuery{AccountID: resttest.Account, Slot: "701"})
				if (control.CodeOf(err) == control.CodeNotFound) != c.free {
					t.Errorf("found: %v", err)
				}
				_, err = h.Park(t.Context(), park("park_2", "call_2", "701"))
				if (err == nil) != c.free {
					t.Errorf("parked: %v", err)
				}
			})
		})
	}
}
