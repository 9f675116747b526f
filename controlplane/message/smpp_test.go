package message_test

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/message"
	"github.com/hookswitch/hookswitch/controlplane/message/smpp/smpptest"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
)

// bySMPP is a provider of kind smpp at a message centre.
func (f *fixture) bySMPP(t *testing.T, center *smpptest.Center, more map[string]any) message.Provider {
	t.Helper()
	port, err := strconv.Atoi(center.Port)
	if err != nil {
		t.Fatal(err)
	}
	s := map[string]any{"host": "127.0.0.1", "port": port, "system_id": smpptest.SystemID, "password": smpptest.Password}
	for name, value := range more {
		s[name] = value
	}
	return f.provider(t, map[string]any{"kind": "smpp", "is_default": true, "from": "10690", "messages_per_second": 1000, "smpp": s})
}

func TestAMessageCentreTakesMessagesAndReports(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d, loopback)
		center := smpptest.Start(t)
		p := f.bySMPP(t, center, nil)
		stop := f.run(t)
		center.Line(t, "bound")
		until(t, "bound", func() bool {
			return do[message.Provider](t, f, http.MethodGet, "/v1/message_providers/"+p.ID, nil, http.StatusOK).State == "bound"
		})
		for _, c := range []struct {
			tell   string
			status message.Status
			code   string
		}{
			{"early DELIVRD", message.Delivered, ""}, {"receipts UNDELIV", message.Undelivered, "027"}, {"receipts DELIVRD", message.Delivered, ""},
			{"receipts ACCEPTD", message.Sent, ""},
		} {
			center.Tell(t, "%s", c.tell)
			center.Line(t, "told")
			for _, text := range []string{"hello", strings.Repeat("您好", 40)} {
				m := f.becomes(t, f.send(t, text).ID, c.status)
				if m.ErrorCode != c.code || m.ProviderMessageID == "" {
					t.Errorf("%s: %+v", c.tell, m)
				}
				for range m.Segments {
					if got := center.Line(t, "submit"); got[2] != "10690" || got[3] != "8613800138000" || got[9] != "0/1/1/1" {
						t.Errorf("submitted %v", got)
					}
				}
			}
		}
		stop()
		center.Line(t, "unbound")
		if p = do[message.Provider](t, f, http.MethodGet, "/v1/message_providers/"+p.ID, nil, http.StatusOK); p.State != "unbound" || p.LastError != "" {
			t.Errorf("after it was stopped: %+v", p)
		}
	})
}

func TestABusyMessageCentreIsSentTheSameLater(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d, loopback)
		center := smpptest.Start(t)
		f.bySMPP(t, center, nil)
		center.Tell(t, "throttle 2")
		center.Line(t, "told")
		m := f.send(t, "x")
		f.run(t)
		if m = f.becomes(t, m.ID, message.Sent); m.Attempts != 1 {
			t.Errorf("%d attempts", m.Attempts)
		}
		center.Tell(t, "refuse 1 0B")
		center.Line(t, "told")
		if m = f.becomes(t, f.send(t, "x").ID, message.Failed); m.ErrorCode != "ESME_RINVDSTADR" {
			t.Errorf("failed by %q", m.ErrorCode)
		}
	})
}

func TestPartsThatWereTakenAreNotSentAgain(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d, loopback)
		center := smpptest.Start(t)
		f.bySMPP(t, center, nil)
		center.Tell(t, "disconnect 2")
		center.Tell(t, "receipts DELIVRD")
		center.Line(t, "told")
		m := f.send(t, strings.Repeat("a", 400))
		f.run(t)
		f.becomes(t, m.ID, message.Delivered)
		var parts []string
		for range 3 {
			header := center.Line(t, "submit")[7][:12]
			parts = append(parts, header[10:])
		}
		if slices.Sort(parts); !slices.Equal(parts, []string{"01", "02", "03"}) {
			t.Errorf("sent the parts %v", parts)
		}
	})
}

func TestAMessageCentreThatDiesLosesNothing(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d, loopback)
		center := smpptest.Start(t)
		f.bySMPP(t, center, nil)
		f.run(t)
		center.Line(t, "bound")
		var ids []string
		for i := range 40 {
			ids = append(ids, f.send(t, fmt.Sprint("message ", i)).ID)
		}
		for range 10 {
			center.Line(t, "submit")
		}
		center.Kill()
		before := map[string]bool{}
		for _, line := range center.Lines() {
			if line[0] == "submit" {
				before[line[7]] = true
			}
		}
		again := smpptest.StartAt(t, center.Port)
		for _, id := range ids {
			f.becomes(t, id, message.Sent)
		}
		// Only what was in the window when it died may have come twice.
		twice := 0
		for _, line := range again.Lines() {
			if line[0] == "submit" && before[line[7]] {
				twice++
			}
		}
		if twice > 10 {
			t.Errorf("%d came twice", twice)
		}
	})
}

func TestIDsInAnotherFormAreKnown(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d, loopback)
		center := smpptest.Start(t)
		f.bySMPP(t, center, map[string]any{"id_format": "hex_decimal"})
		f.run(t)
		m := f.becomes(t, f.send(t, "x").ID, message.Sent)
		answered, err := strconv.ParseUint(center.Line(t, "submit")[1], 16, 64)
		if err != nil || m.ProviderMessageID != fmt.Sprint(answered) {
			t.Errorf("%q is %q, %v", fmt.Sprint(answered), m.ProviderMessageID, err)
		}
		center.Tell(t, "state 0%d DELIVRD", answered)
		f.becomes(t, m.ID, message.Delivered)
	})
}

func TestMessagesFromPhonesArriveWhole(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d, loopback)
		center := smpptest.Start(t)
		f.bySMPP(t, center, nil)
		f.run(t)
		center.Line(t, "bound")
		center.Tell(t, "deliver 8613800138000 10690 8 64 0500030702026389") // the second part first
		center.Line(t, "answer")
		center.Tell(t, "deliver 8613800138000 10690 0 0 68690a")
		center.Tell(t, "deliver 8613800138000 10690 8 64 0500030702016089")
		list := func(query string) []message.Message {
			return do[struct{ Data []message.Message }](t, f, http.MethodGet, "/v1/messages?direction=inbound&sort=created_at"+query, nil, http.StatusOK).Data
		}
		center.Line(t, "answer")
		center.Line(t, "answer")
		until(t, "both are there", func() bool { return len(list("")) == 2 })
		for i, want := range []string{"hi\n", "\u6089\u6389"} {
			m := list("")[i]
			if m.Body != want || m.Status != message.Received || m.From != "+8613800138000" || m.To != "10690" {
				t.Errorf("arrived %+v", m)
			}
			if got := f.events(t, m.ID); !slices.Equal(got, []string{"received"}) {
				t.Errorf("events %v", got)
			}
		}
		// A part whose other never comes is shown in the end.
		center.Tell(t, "deliver 8613800138000 10690 0 64 0500030902026f6b")
		center.Line(t, "answer")
		f.exec(t, "UPDATE message_parts SET created_at = ?", db.Now().AddDate(0, 0, -1))
		if err := f.messages.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if all := list("&from=%2B8613800138000"); len(all) != 3 || all[2].Body != "[…]ok" {
			t.Errorf("arrived %+v", all)
		}
	})
}

func TestOfTwoProcessesOneHasTheSession(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d, loopback)
		center := smpptest.Start(t)
		p := f.bySMPP(t, center, nil)
		stopFirst := f.run(t)
		center.Line(t, "bound")
		f.run(t)
		f.becomes(t, f.send(t, "x").ID, message.Sent)
		for _, line := range center.Lines() {
			if line[0] == "bound" {
				t.Error("both have a session")
			}
		}
		stopFirst()
		center.Line(t, "bound")
		f.becomes(t, f.send(t, "y").ID, message.Sent)
		// Switched off, it has none.
		resttest.Want(t, f.Do(t, resttest.Token, http.MethodPatch, "/v1/message_providers/"+p.ID, `{"enabled":false}`), http.StatusOK, nil)
		center.Line(t, "unbound")
	})
}

func TestAMessageCentreAtAPrivateAddressIsNotDialled(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		p := f.bySMPP(t, smpptest.Start(t), nil)
		f.run(t)
		until(t, "it is said", func() bool {
			p = do[message.Provider](t, f, http.MethodGet, "/v1/message_providers/"+p.ID, nil, http.StatusOK)
			return strings.Contains(p.LastError, "not allowed")
		})
	})
}
