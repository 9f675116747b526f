package calltest

import (
	"fmt"
	"strings"
)

// requested takes a REFER, which is accepted unless the phone is told otherwise, or a NOTIFY. The caller holds mu.
func (c *Call) requested(m *message) {
	code := 200
	if m.method() == "REFER" {
		code = c.refers
		if code == 0 {
			code = 202
		}
	}
	c.requests = append(c.requests, m)
	if code > 0 {
		c.phone.send(c.response(m, code, ""))
	}
}

// AnswerRefer says what the phone answers to REFER: 202 when nobody says so, −1 for nothing at all.
func (c *Call) AnswerRefer(code int) {
	c.b().mu.Lock()
	defer c.b().mu.Unlock()
	c.refers = code
}

// answerReferNow answers a REFER that the phone has left without an answer so far.
func (c *Call) answerReferNow(code int) {
	c.b().mu.Lock()
	defer c.b().mu.Unlock()
	for _, m := range c.requests {
		if m.method() == "REFER" {
			c.phone.send(c.response(m, code, ""))
			return
		}
	}
}

// requestOf waits for the next request of a method.
func (c *Call) requestOf(method string) *message {
	c.b().t.Helper()
	var found *message
	c.b().until(patience, "phone "+c.phone.Name+" got no "+method, func() bool {
		for i, m := range c.requests {
			if m.method() == method {
				found = m
				c.requests = append(c.requests[:i:i], c.requests[i+1:]...)
				return true
			}
		}
		return false
	})
	return found
}

// ExpectRefer waits for a REFER and checks where it leads.
func (c *Call) ExpectRefer(to string) {
	c.b().t.Helper()
	if got := uri(c.requestOf("REFER").header("Refer-To")); got != to {
		c.b().t.Errorf("phone %s was referred to %s, expected %s", c.phone.Name, got, to)
	}
}

// Notify tells the edge how the call stands that its REFER led to.
func (c *Call) Notify(code int, last bool) {
	c.b().t.Helper()
	c.sendNotify(code, last)
	c.take("NOTIFY", 200)
}

// sendNotify is Notify that waits for nothing.
func (c *Call) sendNotify(code int, last bool) {
	state := "active;expires=60"
	if last {
		state = "terminated;reason=noresource"
	}
	c.b().mu.Lock()
	c.seq++
	c.phone.send(c.make("NOTIFY", fmt.Sprintf("SIP/2.0 %d %s\r\n", code, reasons[code]),
		"Event: refer", "Subscription-State: "+state, "Content-Type: message/sipfrag;version=2.0"))
	c.b().mu.Unlock()
}

// Refer asks the edge to send whom it speaks with elsewhere, and checks what is answered.
func (c *Call) Refer(to string, code int) {
	c.b().t.Helper()
	c.sendRefer(to)
	c.take("REFER", code)
}

// sendRefer is Refer that waits for nothing.
func (c *Call) sendRefer(to string) {
	c.b().mu.Lock()
	defer c.b().mu.Unlock()
	c.seq++
	c.phone.send(c.make("REFER", "", "Refer-To: <"+to+">", "Referred-By: <sip:"+c.phone.Name+"@"+Realm+">"))
}

// Notified waits for a NOTIFY that says how the call stands which a REFER of this phone led to.
func (c *Call) Notified(code int, last bool) {
	c.b().t.Helper()
	m := c.requestOf("NOTIFY")
	over := strings.HasPrefix(m.header("Subscription-State"), "terminated")
	if !strings.HasPrefix(m.body, fmt.Sprintf("SIP/2.0 %d ", code)) || over != last || !strings.HasPrefix(m.header("Event"), "refer") {
		c.b().t.Errorf("phone %s was told %q, %s; expected %d", c.phone.Name, m.body, m.header("Subscription-State"), code)
	}
}

// Replaces names this call's dialog for who is to take its place (RFC 3891), as the edge sees it.
func (c *Call) Replaces() string {
	c.b().mu.Lock()
	defer c.b().mu.Unlock()
	theirs := c.remoteTag
	if c.inbound {
		theirs = tag(c.remote)
	}
	return c.id + ";to-tag=" + theirs + ";from-tag=" + c.localTag
}

// Attended is a URI for Refer that has the new call take the place of another.
func Attended(to string, replaced *Call) string {
	escape := strings.NewReplacer(";", "%3B", "=", "%3D", "@", "%40")
	return to + "?Replaces=" + escape.Replace(replaced.Replaces())
}
