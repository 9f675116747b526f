package calltest

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// Call is a call at a phone.
type Call struct {
	phone   *Phone
	id      string // Call-ID
	inbound bool
	taken   bool // by Phone.Rings
	late    bool // no session description in the INVITE

	local, remote string // From and To, the local one without tag
	localTag      string
	remoteTag     string
	target        string // Request-URI of what we send
	headers       []string
	seq           int
	branches      int

	request   *message   // the INVITE, of an inbound call
	last      string     // our last response to it
	responses []*message // to what we sent, not yet taken
	infos     []string   // bodies of INFO
	requests  []*message // REFER and NOTIFY that came, not yet taken
	refers    int        // what REFER is answered with: see AnswerRefer
	acked     string     // our ACK
	up        bool       // the 200 to our first INVITE is acknowledged
	confirmed bool       // an ACK came for our 200
	canceled  *message   // a CANCEL came
	bye       *message   // a BYE came
	final     bool       // it is over

	host  netip.Addr // of the audio; the phone's own until it moves
	port  uint16
	audio *audio
}

func (c *Call) b() *Bench { return c.phone.b }

func (c *Call) rtpAddr() netip.AddrPort { return netip.AddrPortFrom(c.host, c.port) }

// invite sends the INVITE. The caller holds mu.
func (c *Call) invite(extra ...string) {
	body := ""
	if !c.late {
		body = c.audio.describe("")
	}
	c.phone.send(c.make("INVITE", body, append(c.headers, extra...)...))
}

// make writes a request of the dialog. The caller holds mu.
func (c *Call) make(method, body string, extra ...string) string {
	remote := c.remote
	if c.remoteTag != "" && tag(remote) == "" {
		remote += ";tag=" + c.remoteTag
	}
	if method != "ACK" && method != "CANCEL" {
		c.branches++
	}
	lines := []string{
		method + " " + c.target + " SIP/2.0",
		fmt.Sprintf("Via: SIP/2.0/UDP %s;branch=z9hG4bK-%s-%d;rport", c.phone.Addr, c.localTag, c.branches),
		"Max-Forwards: 70",
		"From: " + c.local + ";tag=" + c.localTag,
		"To: " + remote,
		"Call-ID: " + c.id,
		fmt.Sprintf("CSeq: %d %s", c.seq, method),
		fmt.Sprintf("Contact: <sip:%s@%s>", c.phone.Name, c.phone.Addr),
	}
	lines = append(lines, extra...)
	if body != "" && method != "INFO" && method != "NOTIFY" {
		lines = append(lines, "Content-Type: application/sdp")
	}
	lines = append(lines, fmt.Sprintf("Content-Length: %d", len(body)))
	return strings.Join(lines, "\r\n") + "\r\n\r\n" + body
}

// respond answers the INVITE of an inbound call.
func (c *Call) respond(code int, body string) {
	c.b().mu.Lock()
	defer c.b().mu.Unlock()
	c.last = c.response(c.request, code, body)
	c.phone.send(c.last)
}

// response writes a response. The caller holds mu.
func (c *Call) response(req *message, code int, body string) string {
	to := req.header("To")
	if tag(to) == "" && code > 100 {
		to += ";tag=" + c.localTag
	}
	lines := []string{fmt.Sprintf("SIP/2.0 %d %s", code, reasons[code])}
	for _, via := range req.headers["via"] {
		lines = append(lines, "Via: "+via)
	}
	lines = append(lines, "From: "+req.header("From"), "To: "+to, "Call-ID: "+c.id, "CSeq: "+req.header("CSeq"),
		fmt.Sprintf("Contact: <sip:%s@%s>", c.phone.Name, c.phone.Addr))
	if body != "" {
		lines = append(lines, "Content-Type: application/sdp")
	}
	lines = append(lines, fmt.Sprintf("Content-Length: %d", len(body)))
	return strings.Join(lines, "\r\n") + "\r\n\r\n" + body
}

var reasons = map[int]string{
	100: "Trying", 180: "Ringing", 183: "Session Progress", 200: "OK", 202: "Accepted", 403: "Forbidden", 404: "Not Found", 480: "Temporarily Unavailable",
	407: "Proxy Authentication Required", 486: "Busy Here", 487: "Request Terminated", 488: "Not Acceptable Here", 500: "Server Internal Error", 603: "Decline",
}

// receive takes a message of the call. The caller holds mu.
func (c *Call) receive(m *message) {
	if m.code != 0 {
		c.responded(m)
		return
	}
	switch m.method() {
	case "INVITE":
		switch {
		case m.header("CSeq") != c.request.header("CSeq"): // with credentials
			c.request, c.last, c.confirmed = m, "", false
			c.audio.agree(m.body)
		case c.last != "": // again: what was answered was lost
			c.phone.send(c.last)
		}
	case "ACK":
		c.confirmed = true
	case "CANCEL":
		c.phone.send(c.response(m, 200, ""))
		if !c.final && !strings.HasPrefix(c.last, "SIP/2.0 2") {
			c.canceled, c.final = m, true
			c.last = c.response(c.request, 487, "")
			c.phone.send(c.last)
		}
	case "BYE":
		c.bye, c.final = m, true
		c.audio.running = false
		c.phone.send(c.response(m, 200, ""))
	case "INFO":
		c.infos = append(c.infos, m.body)
		c.phone.send(c.response(m, 200, ""))
	case "REFER", "NOTIFY":
		c.requested(m)
	}
}

// responded takes a response. The caller holds mu.
func (c *Call) responded(m *message) {
	if m.method() == "INVITE" && m.code >= 200 {
		if c.acked != "" && m.code < 300 {
			c.phone.send(c.acked) // the ACK was lost
			return
		}
		if m.code >= 300 {
			c.remoteTag = tag(m.header("To"))
			c.phone.send(c.make("ACK", ""))
			c.remoteTag = ""
			c.final = m.code != 401
		}
	}
	if m.method() == "INVITE" && m.code > 100 && m.code < 300 {
		c.remoteTag = tag(m.header("To"))
		if contact := m.header("Contact"); contact != "" {
			c.target = uri(contact)
		}
		if m.body != "" {
			c.audio.agree(m.body)
		}
	}
	if c.phone.Acks && m.method() == "INVITE" && m.code == 200 && !c.up {
		c.acknowledge() // and nobody need wait for it
		return
	}
	c.responses = append(c.responses, m)
}

// take waits for the next response to a method; provisional ones other than code are passed over.
func (c *Call) take(method string, code int) *message {
	c.b().t.Helper()
	var found *message
	c.b().until(patience, fmt.Sprintf("no %d to the %s of %s", code, method, c.phone.Name), func() bool {
		for len(c.responses) > 0 && found == nil {
			m := c.responses[0]
			c.responses = c.responses[1:]
			if m.method() == method && (m.code >= 200 || m.code == code) {
				found = m
			}
		}
		return found != nil
	})
	if found.code != code {
		c.b().t.Fatalf("phone %s got %s to its %s, expected %d", c.phone.Name, found.start, method, code)
	}
	return found
}

// Expect waits for a response to the INVITE with this status.
func (c *Call) Expect(code int) *Call {
	c.b().t.Helper()
	c.take("INVITE", code)
	return c
}

// ExpectHeader waits for a response and checks one of its headers.
func (c *Call) ExpectHeader(code int, name, value string) {
	c.b().t.Helper()
	if got := c.take("INVITE", code).header(name); got != value {
		c.b().t.Errorf("%s of the %d is %q, expected %q", name, code, got, value)
	}
}

// ExpectNothing waits a while in which no response may come.
func (c *Call) ExpectNothing(d time.Duration) {
	c.b().t.Helper()
	if c.b().within(d, func() bool { return len(c.responses) > 0 }) {
		c.b().t.Errorf("phone %s got %s, expected silence", c.phone.Name, c.responses[0].start)
	}
}

// Answered waits for the 200, acknowledges it and begins to talk.
func (c *Call) Answered() *Call {
	c.b().t.Helper()
	c.AnsweredWithoutACK()
	c.ACK()
	return c
}

// AnsweredWithoutACK waits for the 200 and keeps its ACK back.
func (c *Call) AnsweredWithoutACK() *Call {
	c.b().t.Helper()
	c.take("INVITE", 200)
	return c
}

// ACK acknowledges the 200, with the answer when the offer was in the 200, and begins to talk.
func (c *Call) ACK() {
	c.b().mu.Lock()
	defer c.b().mu.Unlock()
	c.acknowledge()
}

// acknowledge is ACK for a caller that holds mu.
func (c *Call) acknowledge() {
	body := ""
	if c.late {
		body = c.audio.describe("")
	}
	c.branches++ // the ACK of a 2xx is a transaction of its own (RFC 3261 §13.2.2.4)
	c.acked, c.up = c.make("ACK", body), true
	c.phone.send(c.acked)
	c.audio.begin()
}

// Challenged waits for a 401 and sends the INVITE again with credentials.
func (c *Call) Challenged() *Call {
	c.b().t.Helper()
	challenge := c.take("INVITE", 401).challengeMD5()
	c.b().mu.Lock()
	defer c.b().mu.Unlock()
	c.seq++
	c.invite("Authorization: " + credentials(challenge, c.phone.Name, c.phone.password(), "INVITE", c.target))
	return c
}

// Cancel gives up before an answer.
func (c *Call) Cancel() {
	c.b().mu.Lock()
	remoteTag := c.remoteTag
	c.remoteTag = ""
	target := c.target
	c.target = uri(c.remote)
	c.phone.send(c.make("CANCEL", ""))
	c.remoteTag, c.target = remoteTag, target
	c.b().mu.Unlock()
}

// HangUp sends BYE and waits for its answer.
func (c *Call) HangUp() { c.b().t.Helper(); c.hangUp(200) }

func (c *Call) hangUp(code int) {
	c.b().t.Helper()
	c.Bye()
	c.take("BYE", code)
}

// Bye sends BYE and waits for nothing.
func (c *Call) Bye() {
	c.b().mu.Lock()
	defer c.b().mu.Unlock()
	c.seq++
	c.final, c.audio.running = true, false
	c.phone.send(c.make("BYE", ""))
}

// ExpectBye waits for the edge to hang up.
func (c *Call) ExpectBye() *Call {
	c.b().t.Helper()
	c.b().until(patience, "phone "+c.phone.Name+" got no BYE", func() bool { return c.bye != nil })
	return c
}

// ExpectByeWithin waits for the edge to hang up, and no longer than a time.
func (c *Call) ExpectByeWithin(d time.Duration) {
	c.b().t.Helper()
	c.b().until(d, "phone "+c.phone.Name+" got no BYE", func() bool { return c.bye != nil })
}

// Talking fails the test when the call is over.
func (c *Call) Talking() {
	c.b().t.Helper()
	c.b().mu.Lock()
	defer c.b().mu.Unlock()
	if c.final {
		c.b().t.Errorf("the call of %s is over", c.phone.Name)
	}
}

// Answer picks up, and waits for the ACK.
func (c *Call) Answer() *Call {
	c.b().t.Helper()
	c.PickUp()
	c.b().until(patience, "phone "+c.phone.Name+" got no ACK", func() bool { return c.confirmed })
	return c
}

// PickUp sends the 200 and begins to talk.
func (c *Call) PickUp() {
	c.b().mu.Lock()
	body := c.audio.describe("")
	c.audio.begin()
	c.b().mu.Unlock()
	c.respond(200, body)
}

// Refuse answers with a final status.
func (c *Call) Refuse(code int) {
	c.b().mu.Lock()
	c.final = true
	c.b().mu.Unlock()
	c.respond(code, "")
}

// Busy answers 486.
func (c *Call) Busy() { c.Refuse(486) }

// Decline answers 603.
func (c *Call) Decline() { c.Refuse(603) }

// Early sends 183 with a session description and begins to talk before the answer.
func (c *Call) Early() *Call {
	c.b().mu.Lock()
	body := c.audio.describe("")
	c.audio.begin()
	c.b().mu.Unlock()
	c.respond(183, body)
	return c
}

// ExpectCancel waits for the edge to give the call up, and returns the Reason it gives.
func (c *Call) ExpectCancel() (reason string) {
	c.b().t.Helper()
	c.b().until(patience, "phone "+c.phone.Name+" got no CANCEL", func() bool { return c.canceled != nil })
	return c.canceled.header("Reason")
}

// Challenge asks for a user's password as a proxy does, and checks the answer.
func (c *Call) Challenge(user, password string) *Call {
	c.b().t.Helper()
	const challenge = `Digest realm="proxy.test", nonce="5f1a", qop="auth", algorithm=MD5`
	c.b().mu.Lock()
	asked := c.request
	c.last = strings.Replace(c.response(asked, 407, ""), "\r\n", "\r\nProxy-Authenticate: "+challenge+"\r\n", 1)
	c.phone.send(c.last)
	c.b().mu.Unlock()
	c.b().until(patience, "phone "+c.phone.Name+" got no credentials", func() bool { return c.request != asked })
	c.b().mu.Lock()
	defer c.b().mu.Unlock()
	given := c.request.header("Proxy-Authorization")
	target := strings.Fields(c.request.start)[1]
	secret, count := hash(user+":proxy.test:"+password), "00000001"
	want := hash(strings.Join([]string{secret, "5f1a", count, parameter(given, "cnonce"), "auth", hash("INVITE:" + target)}, ":"))
	if parameter(given, "username") != user || parameter(given, "response") != want {
		c.b().t.Errorf("phone %s was given %s", c.phone.Name, given)
	}
	return c
}

// Hold puts the edge on hold by a re-INVITE: "sendonly" to play music to it, "inactive" for silence.
func (c *Call) Hold() { c.reinvite("sendonly", 200) }

// Resume takes the edge off hold.
func (c *Call) Resume() { c.reinvite("", 200) }

func (c *Call) reinvite(direction string, code int) *message {
	c.b().t.Helper()
	c.b().mu.Lock()
	c.seq++
	c.acked = ""
	c.phone.send(c.make("INVITE", c.audio.describe(direction)))
	c.b().mu.Unlock()
	m := c.take("INVITE", code)
	c.b().mu.Lock()
	defer c.b().mu.Unlock()
	if code == 200 {
		c.branches++
		c.acked = c.make("ACK", "")
		c.phone.send(c.acked)
	}
	return m
}

// Update changes the session by UPDATE, with an offer of this direction ("" for both ways).
func (c *Call) Update(direction string) {
	c.b().t.Helper()
	c.b().mu.Lock()
	c.seq++
	c.phone.send(c.make("UPDATE", c.audio.describe(direction)))
	c.b().mu.Unlock()
	if m := c.take("UPDATE", 200); m.body == "" {
		c.b().t.Errorf("phone %s got no answer to its offer", c.phone.Name)
	}
}

// ReinviteWithoutOffer asks the edge for an offer and answers it in the ACK (RFC 3261 §14.2).
func (c *Call) ReinviteWithoutOffer(direction string) {
	c.b().t.Helper()
	c.b().mu.Lock()
	c.seq++
	c.acked = ""
	c.phone.send(c.make("INVITE", ""))
	c.b().mu.Unlock()
	if m := c.take("INVITE", 200); m.body == "" {
		c.b().t.Errorf("phone %s got no offer", c.phone.Name)
	}
	c.b().mu.Lock()
	defer c.b().mu.Unlock()
	c.branches++
	c.acked = c.make("ACK", c.audio.describe(direction))
	c.phone.send(c.acked)
}

// MoveAudio takes the audio to another address, as a phone does that comes into another network, and says so.
func (c *Call) MoveAudio() {
	c.b().t.Helper()
	c.b().mu.Lock()
	c.b().wire.close(c.rtpAddr())
	c.host = netip.AddrFrom4([4]byte{192, 0, 2, c.host.As4()[3] + 100})
	c.b().wire.open(c.rtpAddr(), c.audio.receive)
	c.b().mu.Unlock()
	c.reinvite("", 200)
}

// PressINFO presses keys by SIP INFO, application/dtmf-relay.
func (c *Call) PressINFO(keys string) {
	c.b().t.Helper()
	for _, key := range keys {
		c.b().mu.Lock()
		c.seq++
		c.phone.send(c.make("INFO", fmt.Sprintf("Signal=%c\r\nDuration=160\r\n", key), "Content-Type: application/dtmf-relay"))
		c.b().mu.Unlock()
		c.take("INFO", 200)
	}
}

// Infos returns the bodies of the INFO requests that came.
func (c *Call) Infos() []string {
	c.b().mu.Lock()
	defer c.b().mu.Unlock()
	return append([]string(nil), c.infos...)
}
