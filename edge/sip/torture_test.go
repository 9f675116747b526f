package sip

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
)

// tortureHandler answers what it can: INVITE with 180 and 200, REGISTER with the bindings asked for.
func tortureHandler(t testing.TB) Handler {
	return Handler{
		Invite: func(ctx context.Context, d *Dialog) {
			if d.Provisional(180, nil) == nil && d.Answer(ctx, d.Body()) == nil {
				<-ctx.Done()
			}
		},
		Register: func(_ context.Context, r *Request) {
			reg, err := r.Register()
			if err != nil {
				err = r.Respond(400)
			} else {
				err = r.RespondContacts(reg.Contacts)
			}
			if err != nil {
				t.Error(err)
			}
		},
	}
}

// The messages of RFC 4475 over UDP. wire is the status that comes back, 0 for silence. Where the RFC leaves a
// choice or we differ, why says what we do.
func TestTortureMessages(t *testing.T) {
	table := []struct {
		name, section string
		wire          int
		why           string
	}{
		{"wsinv", "3.1.1.1", 481, "read in full; its To tag names no dialog here"},
		{"intmeth", "3.1.1.2", 501, "an unknown method; its case is kept"},
		{"esc01", "3.1.1.3", 180, ""},
		{"escnull", "3.1.1.4", 200, ""},
		{"esc02", "3.1.1.5", 501, "the method RE%47IST%45R is not REGISTER"},
		{"lwsdisp", "3.1.1.6", 200, ""},
		{"longreq", "3.1.1.7", 180, ""},
		{"dblreq", "3.1.1.8", 200, "the second request of the datagram is ignored"},
		{"semiuri", "3.1.1.9", 200, ""},
		{"transports", "3.1.1.10", 200, ""},
		{"mpart01", "3.1.1.11", 405, "MESSAGE is not served"},
		{"unreason", "3.1.1.12", 0, "a response to nothing"},
		{"noreason", "3.1.1.13", 0, "a response to nothing"},
		{"badinv01", "3.1.2.1", 400, ""},
		{"clerr", "3.1.2.2", 400, ""},
		{"ncl", "3.1.2.3", 400, ""},
		{"scalar02", "3.1.2.4", 400, ""},
		{"scalarlg", "3.1.2.5", 0, "a malformed response"},
		{"quotbal", "3.1.2.6", 400, ""},
		{"ltgtruri", "3.1.2.7", 400, ""},
		{"lwsruri", "3.1.2.8", 400, ""},
		{"lwsstart", "3.1.2.9", 400, ""},
		{"trws", "3.1.2.10", 400, ""},
		{"escruri", "3.1.2.11", 180, "headers in the Request-URI are ignored and never forwarded"},
		{"baddate", "3.1.2.12", 180, "Date is not looked at"},
		{"regbadct", "3.1.2.13", 400, ""},
		{"badaspec", "3.1.2.14", 400, ""},
		{"baddn", "3.1.2.15", 400, ""},
		{"badvers", "3.1.2.16", 505, ""},
		{"mismatch01", "3.1.2.17", 400, ""},
		{"mismatch02", "3.1.2.18", 400, "both 400 and 501 are right"},
		{"bigcode", "3.1.2.19", 0, "a malformed response"},
		{"badbranch", "3.2.1", 200, ""},
		{"insuf", "3.3.1", 400, ""},
		{"unkscm", "3.3.2", 416, ""},
		{"novelsc", "3.3.3", 416, ""},
		{"unksm2", "3.3.4", 400, ""},
		{"bext01", "3.3.5", 420, ""},
		{"invut", "3.3.6", 415, ""},
		{"regaut01", "3.3.7", 200, "the test's registrar asks nobody for credentials"},
		{"multi01", "3.3.8", 400, ""},
		{"mcl01", "3.3.9", 400, ""},
		{"bcast", "3.3.10", 0, "a response to nothing"},
		{"zeromf", "3.3.11", 200, "we are its last hop"},
		{"cparam01", "3.3.12", 200, ""},
		{"cparam02", "3.3.13", 200, ""},
		{"regescrt", "3.3.14", 200, "the header in the Contact is dropped"},
		{"sdp01", "3.3.15", 406, ""},
		{"inv2543", "3.4.1", 180, "no From tag, no Max-Forwards, no Contact: served"},
		{"test", "", 0, "in the archive, in no section: a first line without a version is not SIP"},
	}
	for _, tt := range table {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				st := newStage(t, tortureHandler(t))
				defer st.close()
				raw := tortureMessage(t, tt.name)
				// Without rport the answer goes to the port in Via.
				if m, err := parse(raw); err == nil && m.read() == nil && m.via.port != 0 {
					st.phone.conn.Close()
					st.phone = newPhone(t, st.w.listen(fmt.Sprint("192.0.2.7:", m.via.port)), st.phone.server)
				}
				st.phone.send(string(raw))
				synctest.Wait()
				got := 0
				for len(st.phone.got) > 0 && (got == 0 || got == 100) {
					got = (<-st.phone.got).code
				}
				if got != tt.wire {
					t.Errorf("RFC 4475 §%s: got %d, want %d (%s)", tt.section, got, tt.wire, tt.why)
				}
				if n := st.s.Counters().Panics; n != 0 {
					t.Errorf("%d panics", n)
				}
			})
		})
	}
}

// What a message says survives being written and read again, for all that are accepted.
func TestTortureMessagesAreAFixedPoint(t *testing.T) {
	for _, name := range []string{"wsinv", "esc01", "escnull", "lwsdisp", "longreq", "semiuri", "transports", "mpart01",
		"unreason", "noreason", "badbranch", "zeromf", "cparam01", "cparam02", "regescrt", "inv2543"} {
		m, err := parse(tortureMessage(t, name))
		if err == nil {
			err = m.read()
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		first := m.bytes()
		again, err := parse(stripLength(first))
		if err == nil {
			err = again.read()
		}
		if err != nil {
			t.Errorf("%s again: %v", name, err)
			continue
		}
		if again.from.tag() != m.from.tag() || again.to.tag() != m.to.tag() || again.via.String() != m.via.String() ||
			again.callID != m.callID || string(again.body) != string(m.body) {
			t.Errorf("%s: read %+v, then %+v", name, m, again)
		}
	}
}

// stripLength removes the first of two Content-Length headers: bytes adds its own.
func stripLength(b []byte) []byte {
	lines := strings.Split(string(b), "\r\n")
	for i, l := range lines {
		if strings.HasPrefix(l, "Content-Length") {
			return []byte(strings.Join(append(lines[:i:i], lines[i+1:]...), "\r\n"))
		}
	}
	return b
}

func TestTortureValues(t *testing.T) {
	read := func(name string) *message {
		m, err := parse(tortureMessage(t, name))
		if err == nil {
			err = m.read()
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return m
	}
	m := read("wsinv")
	if m.to.tag() != "1918181833n" || m.from.tag() != "98asjd8" || m.from.display != `J Rosenberg \"` && m.from.display == "" ||
		m.via.branch() != "390skdjuw" || m.via.host != "192.0.2.2" || m.via.transport != "UDP" || m.seq != 9 ||
		m.callID != "wsinv.ndaksdj@192.0.2.1" {
		t.Errorf("wsinv: %+v", m)
	}
	vias := m.values("Via")
	if len(vias) != 3 {
		t.Fatalf("wsinv: %d Via", len(vias))
	}
	if v, err := parseVia(vias[1]); err != nil || v.transport != "TCP" || v.host != "spindle.example.com" || v.branch() != "z9hG4bK9ikj8" {
		t.Errorf("wsinv second Via: %+v, %v", v, err)
	}
	m = read("escnull")
	reg, err := m.registration()
	if err != nil || reg.User != "null-%00-null" || len(reg.Contacts) != 2 || reg.Contacts[0].URI != "sip:%00@host5.example.com" {
		t.Errorf("escnull: %+v, %v", reg, err)
	}
	m = read("semiuri")
	if u, err := ParseURI(m.uri); err != nil || u.User != "user;par=u@example.net" || u.Host != "example.com" {
		t.Errorf("semiuri: %+v, %v", u, err)
	}
	m = read("esc01")
	if u, err := ParseURI(m.uri); err != nil || u.User != "sips:user@example.com" || u.Host != "example.net" {
		t.Errorf("esc01: %+v, %v", u, err)
	}
	m = read("intmeth")
	if m.method != "!interesting-Method0123456789_*+`.%indeed'~" {
		t.Errorf("intmeth: %q", m.method)
	}
	m = read("regescrt")
	if reg, err := m.registration(); err != nil || len(reg.Contacts) != 1 || reg.Contacts[0].URI != "sip:user@example.com" {
		t.Errorf("regescrt: %+v, %v", reg, err)
	}
	m = read("cparam02")
	if reg, err := m.registration(); err != nil || len(reg.Contacts) != 1 || reg.Contacts[0].URI != "sip:+19725552222@gw1.example.net;unknownparam" {
		t.Errorf("cparam02: %+v, %v", reg, err)
	}
}
