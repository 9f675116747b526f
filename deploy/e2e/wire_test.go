package e2e

import (
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/deploy/phone"
)

// wire is a SIP phone as bare as can be: it sends text and reads text. It does by itself what SIPp cannot: look at a
// challenge, and leave its port to somebody else.
type wire struct {
	t      *testing.T
	d      *deployment
	conn   *net.UDPConn
	callID string
	cseq   int
}

func (d *deployment) wire(t *testing.T, from netip.Addr) *wire {
	t.Helper()
	conn, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0)), net.UDPAddrFromAddrPort(d.sip))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // often closed before
	return &wire{t: t, d: d, conn: conn, callID: "wire-" + conn.LocalAddr().String()}
}

// local is where it sends from.
func (w *wire) local() netip.AddrPort { return w.conn.LocalAddr().(*net.UDPAddr).AddrPort() }

// register sends REGISTER, once or with what the answer asks for, and returns the last answer; "" when none came.
func (w *wire) register(user, password string) string {
	w.t.Helper()
	answer := w.send(user, "")
	if !strings.HasPrefix(answer, "SIP/2.0 401 ") {
		return answer
	}
	return w.send(user, authorization(w.t, answer, "REGISTER", "sip:"+w.d.domain, user, password))
}

func (w *wire) send(user, authorization string) string {
	w.t.Helper()
	w.cseq++
	text := fmt.Sprintf(`REGISTER sip:%[1]s SIP/2.0
Via: SIP/2.0/UDP %[2]s;branch=z9hG4bK%[4]d
Max-Forwards: 70
From: <sip:%[3]s@%[1]s>;tag=wire
To: <sip:%[3]s@%[1]s>
Call-ID: %[5]s
CSeq: %[4]d REGISTER
Contact: <sip:%[3]s@%[2]s>
Expires: 120
%[6]sContent-Length: 0

`, w.d.domain, w.local(), user, w.cseq, w.callID, authorization)
	return w.exchange(strings.ReplaceAll(text, "\n", "\r\n"))
}

// exchange sends a request and waits a moment for its answer.
func (w *wire) exchange(text string) string {
	w.t.Helper()
	if _, err := w.conn.Write([]byte(text)); err != nil {
		w.t.Fatal(err)
	}
	if err := w.conn.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
		w.t.Fatal(err)
	}
	var answer [4096]byte
	n, err := w.conn.Read(answer[:])
	if err != nil {
		return ""
	}
	return string(answer[:n])
}

var challenge = regexp.MustCompile(`(?m)^WWW-Authenticate: Digest realm="([^"]*)", nonce="([^"]*)", algorithm=MD5, qop="auth"`)

// authorization answers the MD5 challenge of a 401 (RFC 2617 §3.2.2.1).
func authorization(t *testing.T, answer, method, uri, user, password string) string {
	t.Helper()
	asked := challenge.FindStringSubmatch(answer)
	if asked == nil {
		t.Fatalf("no challenge for MD5 in %s", answer)
	}
	realm, nonce := asked[1], asked[2]
	const cnonce, nc = "0a4f113b", "00000001"
	response := hashed(hashed(user, realm, password), nonce, nc, cnonce, "auth", hashed(method, uri))
	return fmt.Sprintf("Authorization: Digest username=%q, realm=%q, nonce=%q, uri=%q, response=%q, algorithm=MD5, cnonce=%q, qop=auth, nc=%s\n",
		user, realm, nonce, uri, response, cnonce, nc)
}

func hashed(parts ...string) string {
	sum := md5.Sum([]byte(strings.Join(parts, ":")))
	return hex.EncodeToString(sum[:])
}

// registers has a telephone register with its password, and wait to be called.
func (d *deployment) registers(t *testing.T, scenario string, s sipp, extension, password string) *sippRun {
	t.Helper()
	from := strangerAddr()
	w := d.wire(t, from)
	if answer := w.register(extension, password); !strings.HasPrefix(answer, "SIP/2.0 200 ") || !strings.Contains(answer, "<sip:"+extension+"@"+w.local().String()+">") {
		t.Fatalf("REGISTER is answered %s", answer)
	}
	s.port = w.local().Port()
	if err := w.conn.Close(); err != nil {
		t.Fatal(err)
	}
	p := runSIPp(t, from, scenario, s, "")
	p.listening()
	return p
}

// Passwords may be guessed five times in a minute; then the address hears nothing more, not even with the right one. Others
// are not troubled.
func guessesByRegister(t *testing.T, d *deployment) {
	extension, password := d.extension(t)
	w := d.wire(t, strangerAddr())
	for n := range 5 {
		if answer := w.register(extension, "guess"+strconv.Itoa(n)); !strings.HasPrefix(answer, "SIP/2.0 401 ") {
			t.Fatalf("guess %d is answered %s", n, answer)
		}
	}
	if answer := w.register(extension, password); answer != "" {
		t.Errorf("a banned address is answered %s", answer)
	}
	if answer := d.wire(t, strangerAddr()).register(extension, password); !strings.HasPrefix(answer, "SIP/2.0 200 ") {
		t.Errorf("another address is answered %s", answer)
	}
}

func guessesByInvite(t *testing.T, d *deployment) {
	extension, _ := d.extension(t)
	from := strangerAddr()
	r := d.callsFrom(t, from, "wrong-digest", sipp{to: "1000", values: object{"user": extension, "domain": d.domain}})
	r.succeeds()
	again := d.callsFrom(t, from, "ignored", sipp{to: "1000"})
	again.succeeds()
	if answer := d.wire(t, from).register(extension, "anything"); answer != "" {
		t.Errorf("a banned address is answered %s", answer)
	}
}

// Telephones that speak SHA-256 may be asked for it, and for nothing less.
func TestDigestSHA256(t *testing.T) {
	t.Parallel()
	d := deploy(t, together, options{edge: []string{"--digest", "SHA-256"}})
	r := d.place(t, phone.Call{To: d.program(t, `[{"verb":"play","tone":"620/800"},{"verb":"hangup"}]`)})
	hears(t, r.Heard, 620, 500*time.Millisecond)
	w := d.wire(t, strangerAddr())
	if answer := w.send("1001", ""); !strings.Contains(answer, "algorithm=SHA-256") || strings.Contains(answer, "algorithm=MD5") {
		t.Errorf("REGISTER is answered %s", answer)
	}
}

// An unknown user is challenged like a known one, and refused like one with a wrong password: nobody learns who exists.
func unknownUser(t *testing.T, d *deployment) {
	extension, _ := d.extension(t)
	known := d.wire(t, strangerAddr()).register(extension, "wrong-password")
	unknown := d.wire(t, strangerAddr()).register("7777", "wrong-password")
	if shape(known) != shape(unknown) || known == "" {
		t.Errorf("a wrong password is answered\n%s\nan unknown user\n%s", known, unknown)
	}
}

// shape is an answer without what differs anyway.
func shape(answer string) string {
	varying := regexp.MustCompile(`(?m)^(Via|From|To|Call-ID):.*|nonce="[^"]*"`)
	return varying.ReplaceAllString(answer, "")
}
