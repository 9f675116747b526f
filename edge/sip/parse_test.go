package sip

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
)

const options = "OPTIONS sip:x@192.0.2.1 SIP/2.0\r\n" +
	"Via: SIP/2.0/UDP 192.0.2.7:5060;branch=z9hG4bKx;rport\r\n" +
	"Max-Forwards: 70\r\n" +
	"From: <sip:a@example.com>;tag=1\r\n" +
	"To: <sip:x@192.0.2.1>\r\n" +
	"Call-ID: c\r\n" +
	"CSeq: 1 OPTIONS\r\n" +
	"Content-Length: 0\r\n\r\n"

// Each check has a message that passes and others that do not.
func TestChecks(t *testing.T) {
	with := func(line string) string { return strings.Replace(options, "Max-Forwards: 70", line, 1) }
	method := func(m string) string { return strings.ReplaceAll(options, "OPTIONS", m) }
	body := func(kind string) string {
		return strings.Replace(method("INVITE"), "Content-Length: 0\r\n\r\n", kind+"Content-Length: 3\r\n\r\nv=0", 1)
	}
	table := []struct {
		name, raw string
		code      int // 0: served
		header    string
	}{
		{"plain", options, 0, ""},
		{"lower-case header names", strings.ReplaceAll(strings.ReplaceAll(options, "Call-ID", "call-id"), "CSeq", "cseq"), 0, ""},
		{"version 3", strings.Replace(options, "SIP/2.0", "SIP/3.0", 1), 505, ""},
		{"CSeq of another method", strings.Replace(options, "1 OPTIONS", "1 INVITE", 1), 400, ""},
		{"CSeq beyond 2**31", strings.Replace(options, "1 OPTIONS", "2147483648 OPTIONS", 1), 400, ""},
		{"CSeq without number", strings.Replace(options, "1 OPTIONS", "OPTIONS", 1), 400, ""},
		{"scheme mailto", strings.Replace(options, "sip:x@192.0.2.1 SIP", "mailto:x@192.0.2.1 SIP", 1), 416, ""},
		{"scheme tel", strings.Replace(options, "sip:x@192.0.2.1 SIP", "tel:+8610 SIP", 1), 0, ""},
		{"no From", strings.Replace(options, "From:", "X-From:", 1), 400, ""},
		{"no To", strings.Replace(options, "To:", "X-To:", 1), 400, ""},
		{"no Call-ID", strings.Replace(options, "Call-ID:", "X-Call-ID:", 1), 400, ""},
		{"no CSeq", strings.Replace(options, "CSeq:", "X-CSeq:", 1), 400, ""},
		{"no Via", strings.Replace(options, "Via:", "X-Via:", 1), 400, ""},
		{"two Call-ID", with("Call-ID: d"), 400, ""},
		{"two From in both forms", with("f: <sip:b@example.com>;tag=2"), 400, ""},
		{"two Content-Length", with("Content-Length: 0"), 400, ""},
		{"two Content-Length in both forms", with("l: 0"), 400, ""},
		{"Content-Length too long", strings.Replace(options, "Content-Length: 0", "Content-Length: 1", 1), 400, ""},
		{"Content-Length negative", strings.Replace(options, "Content-Length: 0", "Content-Length: -1", 1), 400, ""},
		{"Content-Length of 4 GiB", strings.Replace(options, "Content-Length: 0", "Content-Length: 4294967296", 1), 400, ""},
		{"Max-Forwards not a number", with("Max-Forwards: many"), 400, ""},
		{"Max-Forwards 0", with("Max-Forwards: 0"), 0, ""},
		{"Max-Forwards missing", with("X: y"), 0, ""},
		{"Require", with("Require: 100rel, timer"), 420, "Unsupported"},
		{"Require nothing", with("Require:"), 0, ""},
		{"bare LF", with("X: a\nY: b"), 400, ""},
		{"bare CR", with("X: a\rY: b"), 400, ""},
		{"NUL", with("X: a\x00b"), 400, ""},
		{"line without colon", with("X"), 400, ""},
		{"unknown method", method("DANCE"), 501, "Allow"},
		{"known method", method("SUBSCRIBE"), 405, "Allow"},
		{"no registrar", method("REGISTER"), 405, "Allow"},
		{"SDP", body("Content-Type: application/sdp\r\n"), 0, ""},
		{"SDP in odd case", body("c: Application/SDP ;charset=x\r\n"), 0, ""},
		{"other body", body("Content-Type: text/plain\r\n"), 415, "Accept"},
		{"body without type", body(""), 415, "Accept"},
		{"optional body", body("Content-Type: text/plain\r\nContent-Disposition: x;handling=optional\r\n"), 0, ""},
		{"compressed body", body("Content-Type: application/sdp\r\nContent-Encoding: gzip\r\n"), 415, "Accept-Encoding"},
		{"caller cannot read SDP", strings.Replace(method("INVITE"), "Max-Forwards: 70", "Accept: text/plain", 1), 406, ""},
		{"caller reads anything", strings.Replace(method("INVITE"), "Max-Forwards: 70", "Accept: text/plain, */*", 1), 0, ""},
		{"UPDATE of no dialog", strings.Replace(method("UPDATE"), "To: <sip:x@192.0.2.1>", "To: <sip:x@192.0.2.1>;tag=9", 1), 481, ""},
	}
	for _, tt := range table {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				h := tortureHandler(t)
				h.Register = nil
				st := newStage(t, h)
				defer st.close()
				st.phone.send(tt.raw)
				m := st.phone.next()
				if m != nil && m.code == 100 {
					m = st.phone.next()
				}
				if m == nil {
					t.Fatal("no answer")
				}
				if tt.code == 0 && m.code >= 300 || tt.code != 0 && m.code != tt.code {
					t.Errorf("got %d, want %d", m.code, tt.code)
				}
				if tt.header != "" && m.get(tt.header) == "" {
					t.Errorf("%d without %s", m.code, tt.header)
				}
			})
		})
	}
}

// What is beyond the limits is dropped, also for those we know, and the server goes on.
func TestLimits(t *testing.T) {
	with := func(line string) string { return strings.Replace(options, "Max-Forwards: 70", line, 1) }
	at := map[string]string{
		"128 headers":   with(strings.Repeat("X: y\r\n", 128-8) + "X: y"),
		"64 parameters": with("X: y" + strings.Repeat(";a=b", maxParams)),
		"8 kB line":     with("X: " + strings.Repeat("y", maxLine-3)),
		"60 kB":         strings.Replace(options, "Content-Length: 0\r\n\r\n", "Content-Length: 60000\r\n\r\n"+strings.Repeat("x", 60000), 1),
	}
	beyond := map[string]string{
		"129 headers":     with(strings.Repeat("X: y\r\n", 130) + "X: y"),
		"65 parameters":   with("X: y" + strings.Repeat(";a=b", maxParams+1)),
		"8k parameters":   strings.Replace(options, "tag=1", "tag=1"+strings.Repeat(";p", 8000/3), 1),
		"long line":       with("X: " + strings.Repeat("y", maxLine)),
		"long folded":     with("X: " + strings.Repeat("y\r\n ", maxLine)),
		"long first line": strings.Replace(options, "sip:x@", "sip:"+strings.Repeat("x", maxLine)+"@", 1),
		"not SIP":         "GET / HTTP/1.1\r\n\r\n",
		"garbage":         "\x16\x03\x01\x02\x00\x01\x00",
		"keep-alive":      "\r\n\r\n",
		"zeros":           "\x00\x00\x00\x00",
		"STUN":            "\x00\x01\x00\x00\x21\x12\xa4\x42aaaaaaaaaaaa",
	}
	bubble(t, func(t *testing.T) {
		st := newStage(t, Handler{})
		defer st.close()
		for name, raw := range beyond {
			st.phone.send(raw)
			synctest.Wait()
			if len(st.phone.got) != 0 {
				t.Errorf("%s: answered %d", name, (<-st.phone.got).code)
			}
		}
		for name, raw := range at {
			st.phone.send(raw)
			synctest.Wait()
			if len(st.phone.got) != 1 {
				t.Fatalf("%s: no answer", name)
			}
			st.phone.code(200)
		}
		if n := st.s.Counters().Guarded; n != uint64(len(beyond)-3) {
			t.Errorf("%d guarded", n)
		}
	})
}

func TestTransactionLimit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		st := newStage(t, Handler{Invite: func(ctx context.Context, d *Dialog) { <-ctx.Done() }}, func(c *Config) { c.Limits.Transactions = 1 })
		defer st.close()
		p := st.phone
		p.send(p.request(methodInvite, "1", sdpOffer))
		p.code(100)
		p.callID = "second"
		p.send(p.request(methodInvite, "2", sdpOffer))
		if m := p.code(503); m.get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
	})
}

func TestURI(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want URI
	}{
		{"sip:1001@example.com", URI{"sip", "1001", "example.com", 0, ""}},
		{"SIPS:+86%2010@Example.COM:5061;transport=tcp?X=y", URI{"sips", "+86 10", "example.com", 5061, "transport=tcp"}},
		{"sip:a:secret@[2001:db8::1]:5070", URI{"sip", "a", "2001:db8::1", 5070, ""}},
		{"sip:192.0.2.1", URI{"sip", "", "192.0.2.1", 0, ""}},
		{"tel:+861012345678;ext=5", URI{"tel", "+861012345678", "", 0, "ext=5"}},
		{"urn:service:sos", URI{"urn", "", "service:sos", 0, ""}},
	} {
		got, err := ParseURI(tt.in)
		if err != nil || got != tt.want {
			t.Errorf("%s: %+v, %v", tt.in, got, err)
		}
		if again, err := ParseURI(got.String()); err != nil || again != got {
			t.Errorf("%s written as %s: %+v, %v", tt.in, got, again, err)
		}
	}
	for _, s := range []string{"", "sip", "sip:", "sip:@x", "sip:a@", "sip:a@b:99999", "sip:a@b:x", "sip:a b@c", "sip:a@[::1", "sip:a@[x]", "1:2", "tel:",
		"sip:a@b\r\nX: y"} {
		if u, err := ParseURI(s); err == nil {
			t.Errorf("%q gave %+v", s, u)
		}
	}
}

func TestNameAddr(t *testing.T) {
	for _, tt := range []struct{ in, display, uri, tag string }{
		{`"A \"B\" C" <sip:a@b>;tag=x`, `A "B" C`, "sip:a@b", "x"},
		{`<sip:a@b;lr;user=phone> ; x = "y;tag=z" ; TAG = q`, "", "sip:a@b;lr;user=phone", "q"},
		{`sip:a@b;tag=x`, "", "sip:a@b", "x"},
		{`Li Lei <sip:a@b>`, "Li Lei", "sip:a@b", ""},
		{`李雷 <sip:a@b>`, "李雷", "sip:a@b", ""},
		{`"<x>, y" <sip:a@b>;`, "<x>, y", "sip:a@b", ""},
	} {
		a, err := parseNameAddr(tt.in)
		if err != nil || a.display != tt.display || a.uri != tt.uri || a.tag() != tt.tag {
			t.Errorf("%s: %+v, %v", tt.in, a, err)
		}
	}
	for _, s := range []string{"", `"a <sip:a@b>`, `"a" sip:a@b`, "<sip:a@b", "<sip:a@b>x", "a, b <sip:a@b>", "sip:a@b?x=y", "<sip:a@b>;tag=\"x", "<sip:a@b>;=x"} {
		if a, err := parseNameAddr(s); err == nil {
			t.Errorf("%q gave %+v", s, a)
		}
	}
}

func TestSplitList(t *testing.T) {
	got := splitList(`<sip:a,b@c>;x="1,2" , "d,\"e" <sip:f>,, g`)
	want := []string{`<sip:a,b@c>;x="1,2"`, `"d,\"e" <sip:f>`, "g"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%q", got)
	}
}

func TestMultipartGivesItsSDP(t *testing.T) {
	body := "--b1\r\nContent-Type: application/isup;version=itu-t92+\r\n\r\n\x01\x00\x20\r\n--b1\r\nContent-Type: application/sdp\r\n\r\n" + sdpOffer + "\r\n--b1--\r\n"
	m := &message{body: []byte(body)}
	m.add("Content-Type", "multipart/mixed;boundary=b1")
	if got := string(m.sdp()); got != sdpOffer {
		t.Errorf("%q", got)
	}
	m.body = []byte("--b2\r\n")
	if got := m.sdp(); got != nil {
		t.Errorf("%q", got)
	}
}

func TestReplyAddress(t *testing.T) {
	peer := netip.MustParseAddrPort("192.0.2.7:40000")
	for _, tt := range []struct{ via, reply, header string }{
		{"SIP/2.0/UDP 192.0.2.7:5070;branch=x", "192.0.2.7:5070", "SIP/2.0/UDP 192.0.2.7:5070;branch=x"},
		{"SIP/2.0/UDP 192.0.2.7;rport;branch=x", "192.0.2.7:40000", "SIP/2.0/UDP 192.0.2.7;rport=40000;branch=x;received=192.0.2.7"},
		{"SIP/2.0/UDP 10.0.0.2:5070;branch=x", "192.0.2.7:40000", "SIP/2.0/UDP 10.0.0.2:5070;branch=x;received=192.0.2.7"},
		{"SIP/2.0/UDP pc.example.com:5070;branch=x;received=6.6.6.6", "192.0.2.7:5070", "SIP/2.0/UDP pc.example.com:5070;branch=x;received=192.0.2.7"},
		{"SIP/2.0/UDP [2001:db8::9]:5070;branch=x;rport, SIP/2.0/TCP a", "192.0.2.7:40000",
			"SIP/2.0/UDP [2001:db8::9]:5070;branch=x;rport=40000;received=192.0.2.7, SIP/2.0/TCP a"},
	} {
		m := &message{method: "OPTIONS"}
		m.add("Via", tt.via)
		if err := m.readVia(); err != nil {
			t.Fatal(err)
		}
		if got := m.replyTo(peer); got.String() != tt.reply {
			t.Errorf("%s: reply to %s", tt.via, got)
		}
		m.received(peer)
		if got := m.get("Via"); got != tt.header {
			t.Errorf("%s became %s", tt.via, got)
		}
	}
}

func TestValidHeader(t *testing.T) {
	names := []string{"Via", "v", "Route", "Record-Route", "Contact", "m", "Call-ID", "i", "CSeq", "From", "f", "To", "t", "Max-Forwards",
		"Content-Length", "l", "Content-Type", "Content-Anything", "Authorization", "Proxy-Authorization", "WWW-Authenticate",
		"P-Asserted-Identity", "p-preferred-identity", "Remote-Party-ID", "Identity", "Diversion", "History-Info", "Require",
		"Proxy-Require", "Supported", "Allow", "Refer-To", "Replaces", "Session-Expires", "Path", "Expires"}
	payloads := []string{"ok", "", "a;b=c", "\"q\"", "<sip:a@b>", strings.Repeat("x", 1024), "a\r\nVia: x", "a\nb", "a\rb", "a\x00b",
		"\r\n\r\n", strings.Repeat("x", 1025), "a\x7f", "\u2028"}
	for _, n := range names {
		for _, p := range payloads {
			if ValidHeader(n, p) == nil || ValidHeader(strings.ToUpper(n), p) == nil {
				t.Errorf("%s: %q passed", n, p)
			}
		}
	}
	for i, p := range payloads {
		ok := i < 6 || p == "\u2028"
		if err := ValidHeader("X-Call", p); (err == nil) != ok {
			t.Errorf("X-Call: %q: %v", p, err)
		}
	}
	for _, n := range []string{"", "X Y", "X:Y", "X\r\nY", "X\x00", "é", strings.Repeat("x", 65)} {
		if ValidHeader(n, "v") == nil {
			t.Errorf("name %q passed", n)
		}
	}
}

func TestCredentialsAreNotTraced(t *testing.T) {
	raw := "REGISTER sip:x SIP/2.0\r\nauthorization: Digest secret1,\r\n response=secret2\r\nProxy-Authorization : secret3\r\nX: y\r\n z\r\n\r\nbody secret-not"
	got := string(redact([]byte(raw)))
	want := "REGISTER sip:x SIP/2.0\r\nauthorization: -\r\nProxy-Authorization: -\r\nX: y\r\n z\r\n\r\nbody secret-not"
	if got != want {
		t.Errorf("%q", got)
	}
}

func TestTraceSeesBothWays(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var seen []string
		st := newStage(t, Handler{}, func(c *Config) {
			c.Trace = func(e TraceEvent) {
				first, _, _ := strings.Cut(string(e.Message), "\r\n")
				seen = append(seen, fmt.Sprintf("%v %s %s %s %s", e.Out, e.Transport, e.Peer, e.SIPCallID, first))
			}
		})
		st.phone.send(options)
		st.phone.code(200)
		st.close()
		want := []string{"false UDP 192.0.2.7:5060 c OPTIONS sip:x@192.0.2.1 SIP/2.0", "true UDP 192.0.2.7:5060 c SIP/2.0 200 OK"}
		if !reflect.DeepEqual(seen, want) {
			t.Errorf("%q", seen)
		}
	})
}

func TestRegistration(t *testing.T) {
	read := func(lines ...string) (Registration, error) {
		raw := strings.ReplaceAll(options, "OPTIONS", "REGISTER")
		m, err := parse([]byte(strings.Replace(raw, "Max-Forwards: 70", strings.Join(append(lines, "X: y"), "\r\n"), 1)))
		if err == nil {
			err = m.read()
		}
		if err != nil {
			t.Fatal(err)
		}
		return m.registration()
	}
	reg, err := read("Expires: 300", `m: "a, b" <sip:1@10.0.0.1:5060;transport=udp>;expires=60;q=0.5;+sip.instance="<urn:uuid:1>";reg-id=1, <sip:2@h>`,
		"Contact: <sip:3@h?X=y>;expires=soon;q=9", "Path: <sip:p1;lr>, <sip:p2;lr>")
	if err != nil {
		t.Fatal(err)
	}
	want := []Contact{
		{"sip:1@10.0.0.1:5060;transport=udp", 60, 0.5, "<urn:uuid:1>", 1}, {"sip:2@h", 300, 1, "", 0}, {"sip:3@h", 3600, 1, "", 0},
	}
	if !reflect.DeepEqual(reg.Contacts, want) || reg.Expires != 300 || reg.User != "x" || reg.Host != "192.0.2.1" || len(reg.Path) != 2 {
		t.Errorf("%+v", reg)
	}
	if reg, err := read(); err != nil || reg.Contacts != nil || reg.Expires != -1 {
		t.Errorf("query: %+v, %v", reg, err)
	}
	if reg, err := read("Contact: *", "Expires: 0"); err != nil || !reg.Star {
		t.Errorf("star: %+v, %v", reg, err)
	}
	for _, lines := range [][]string{
		{"Contact: *"}, {"Contact: *", "Expires: 60"}, {"Contact: *, <sip:1@h>", "Expires: 0"}, {"Contact: <mailto:a@b>"},
		{"Contact: <sip:1@h"}, {"Contact: " + strings.Repeat("<sip:1@h>,", 17)}, {"Expires: -1"},
	} {
		if reg, err := read(lines...); err == nil {
			t.Errorf("%q gave %+v", lines, reg)
		}
	}
}

func seeds(f *testing.F) {
	files, err := filepath.Glob("testdata/torture/*.dat")
	if err != nil || len(files) == 0 {
		f.Fatal("no torture messages", err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(options))
}

// Whatever is accepted can be written so that it is read back with the same meaning, and no response built from it breaks
// its own framing.
func FuzzParse(f *testing.F) {
	seeds(f)
	peer := netip.MustParseAddrPort("192.0.2.7:5060")
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parse(data)
		if err == nil {
			err = m.read()
		}
		if err != nil {
			if m != nil && m.isRequest() {
				wellFormed(t, m.respond(400, "tag"))
			}
			return
		}
		if !m.isRequest() {
			return
		}
		m.received(peer)
		m.replyTo(peer)
		if r := m.check(); r != nil {
			res := m.respond(r.code, "tag")
			res.headers = append(res.headers, r.headers...)
			wellFormed(t, res)
			return
		}
		m.sdp()
		res := wellFormed(t, m.respond(200, "tag"))
		if err := res.read(); err != nil {
			t.Fatalf("response %q: %v", res.bytes(), err)
		}
		if res.callID != m.callID || res.seq != m.seq || res.from.tag() != m.from.tag() || res.via.branch() != m.via.branch() ||
			res.via.host != m.via.host || res.to.tag() == "" && m.to.tag() == "" {
			t.Fatalf("request %+v, response %+v", m, res)
		}
		if reg, err := m.registration(); err == nil {
			for _, c := range reg.Contacts {
				if _, err := ParseURI(c.URI); err != nil {
					t.Fatalf("contact %q: %v", c.URI, err)
				}
			}
		}
	})
}

func wellFormed(t *testing.T, res *message) *message {
	t.Helper()
	again, err := parse(res.bytes())
	if err != nil && !errors.Is(err, errLimit) {
		t.Fatalf("response %q: %v", res.bytes(), err)
	}
	if err == nil && len(again.headers) != len(res.headers)+1 {
		t.Fatalf("%d headers read back as %d", len(res.headers), len(again.headers))
	}
	if err != nil {
		return res
	}
	return again
}

func FuzzAuthorization(f *testing.F) {
	f.Add(strings.TrimPrefix(linphoneAuth("n", MD5, "p", 1, "u"), "Authorization: "))
	f.Add(strings.TrimPrefix(baresipAuth("n", SHA256, "p", 1, "u"), "Authorization: "))
	f.Add(md5Challenge)
	s := NewDigestServer()
	f.Fuzz(func(t *testing.T, value string) {
		a, err := ParseAuthorization(value)
		if err != nil {
			return
		}
		if s.Verify(phoneIP, "REGISTER", a, func(alg string) string { return HA1(alg, a.Username, a.Realm, "secret") }) == nil {
			t.Fatalf("%q passed", value)
		}
		c := Credentials{Username: a.Username, Password: "x"}
		p, ok := pickChallenge([]string{value}, "")
		if !ok {
			return
		}
		b, err := ParseAuthorization(c.answer(p, "INVITE", "sip:x"))
		if err != nil || b.Realm != p.get("realm") || b.Nonce != p.get("nonce") {
			t.Fatalf("%q answered %+v, %v", value, b, err)
		}
	})
}

func FuzzContact(f *testing.F) {
	for _, s := range []string{`"a, b" <sip:1@10.0.0.1:5060;transport=udp>;expires=60;q=0.5;+sip.instance="<urn:uuid:1>"`, "sip:a@b", "*", "<sip:%00@h>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		for _, v := range splitList(value) {
			c, err := parseContact(v, 60)
			if err != nil {
				continue
			}
			u, err := ParseURI(c.URI)
			if err != nil {
				t.Fatal(err)
			}
			if again, err := ParseURI(u.String()); err != nil || again != u {
				t.Fatalf("%q is %+v, written %q, read %+v, %v", c.URI, u, u.String(), again, err)
			}
		}
	})
}

// No value from outside puts a line into a message.
func FuzzOutgoing(f *testing.F) {
	f.Add("Display", "user", "example.com", "X-A", "value")
	f.Add("a\r\nX: y", "u\r\nX: y", "h\r\nX: y", "X\r\nY", "v\r\nX: y\x00")
	f.Fuzz(func(t *testing.T, display, user, host, name, value string) {
		m := &message{method: methodInvite, uri: URI{Scheme: "sip", User: user, Host: "example.com"}.String()}
		m.add("Via", "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKx")
		if s, err := formatParty(Party{display, user, host}); err == nil {
			m.add("From", s)
		}
		if checkHeader(name, value) == nil {
			m.add(name, value)
		}
		again, err := parse(m.bytes())
		if errors.Is(err, errLimit) {
			return
		}
		if err != nil || len(again.headers) != len(m.headers)+1 || again.uri != m.uri {
			t.Fatalf("%q: %v", m.bytes(), err)
		}
	})
}
