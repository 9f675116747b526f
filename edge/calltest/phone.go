package calltest

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
)

// Phone is a scripted telephone. It speaks SIP and RTP of its own, not the edge's, and does by itself only what every
// phone does: it acknowledges, answers BYE and CANCEL, and sends silence when it has nothing to say.
type Phone struct {
	Name     string
	Password string // as the control plane knows it
	Typed    string // as it was typed into the phone; "" is the right one
	Addr     netip.AddrPort
	Agent    webhooks.AgentID // whose phone it is, as the control plane knows it; "" for nobody's

	// Set before a call; the zero value speaks PCMU and PCMA and RFC 4733.
	ALaw   bool // speaks only PCMA
	MuLaw  bool // speaks only PCMU
	Opus   bool // speaks nothing the edge does
	NoDTMF bool // knows no telephone-event
	// Patient phones do not mind audio that overtakes the answer; to others it is a fault.
	Patient bool
	Silent  bool // does not ring, nor answer anything: as if it were switched off
	Acks    bool // acknowledges a 200 by itself and begins to talk, whenever it comes

	b     *Bench
	edge  netip.AddrPort // that it speaks with
	calls []*Call
	reply []*message // to REGISTER
	ports uint16
	made  int
}

// Phone returns the phone of that name, which comes into being when it is first named.
func (b *Bench) Phone(name string) *Phone {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p := b.phones[name]; p != nil {
		return p
	}
	at := netip.AddrFrom4([4]byte{192, 0, 2, byte(101 + len(b.phones))})
	p := &Phone{Name: name, Password: "secret-" + name, Addr: netip.AddrPortFrom(at, 5060), b: b, edge: edgeAddr, ports: 4000}
	b.phones[name] = p
	b.wire.open(p.Addr, p.receive)
	return p
}

// known is the phone of that name, nil when there is none.
func (b *Bench) known(name string) *Phone {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.phones[name]
}

// ofAgent is an agent's phone, nil when there is none.
func (b *Bench) ofAgent(id string) *Phone {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.phones {
		if p.Agent != "" && string(p.Agent) == id {
			return p
		}
	}
	return nil
}

// Hop is the way to the phone as the control plane tells it.
func (p *Phone) Hop(caller string) control.Hop {
	return control.Hop{
		Kind: control.KindPhone, URI: "sip:" + p.Name + "@" + p.Addr.String(), Destination: p.Addr.String(), Transport: "udp",
		CallerID: caller, CallerHost: Realm, To: p.Name, CredentialID: webhooks.CredentialID("cred_" + p.Name), AgentID: p.Agent,
	}
}

// Invite is what a phone may do otherwise when it dials.
type Invite struct {
	LateOffer bool     // the INVITE has no session description; the answer goes into the ACK
	Headers   []string // whole lines
	From      string   // user part of From; the phone's name when empty
}

// Dial sends an INVITE.
func (p *Phone) Dial(number string) *Call { return p.DialWith(number, Invite{}) }

// DialWith sends an INVITE that is not the usual one.
func (p *Phone) DialWith(number string, i Invite) *Call {
	p.b.mu.Lock()
	defer p.b.mu.Unlock()
	c := p.newCall(fmt.Sprintf("%s-%d@%s", p.Name, p.made+1, p.Addr.Addr()))
	c.localTag = fmt.Sprintf("%s-%d", p.Name, p.made)
	from := p.Name
	if i.From != "" {
		from = i.From
	}
	c.target = "sip:" + number + "@" + p.edge.Addr().String()
	c.local, c.remote = "<sip:"+from+"@"+Realm+">", "<"+c.target+">"
	c.headers, c.late = i.Headers, i.LateOffer
	c.invite()
	return c
}

// Rings waits for the phone to be called, and rings.
func (p *Phone) Rings() *Call {
	p.b.t.Helper()
	c := p.Called()
	c.respond(180, "")
	return c
}

// Called waits for an INVITE and leaves it without an answer.
func (p *Phone) Called() *Call {
	p.b.t.Helper()
	var found *Call
	p.b.until(patience, "phone "+p.Name+" was not called", func() bool {
		for _, c := range p.calls {
			if c.inbound && !c.taken {
				c.taken, found = true, c
				return true
			}
		}
		return false
	})
	return found
}

// NotCalled fails the test when the phone has been called and nobody has noticed.
func (p *Phone) NotCalled() {
	p.b.t.Helper()
	p.b.mu.Lock()
	defer p.b.mu.Unlock()
	for _, c := range p.calls {
		if c.inbound && !c.taken {
			p.b.t.Errorf("phone %s was called", p.Name)
		}
	}
}

// newCall makes a call with a port for its audio. The caller holds mu.
func (p *Phone) newCall(id string) *Call {
	p.made++
	p.ports += 2
	c := &Call{phone: p, id: id, host: p.Addr.Addr(), port: p.ports, seq: 1}
	c.audio = newAudio(c)
	p.calls = append(p.calls, c)
	p.b.wire.open(c.rtpAddr(), c.audio.receive)
	return c
}

// receive takes a SIP message off the wire.
func (p *Phone) receive(d Datagram) {
	p.b.mu.Lock()
	defer p.b.mu.Unlock()
	if p.Silent {
		return
	}
	m, err := parseMessage(d.Data)
	if err != nil {
		p.b.t.Errorf("phone %s received %q: %v", p.Name, d.Data, err)
		return
	}
	if m.code != 0 && m.method() == "REGISTER" {
		p.reply = append(p.reply, m)
		return
	}
	for _, c := range p.calls {
		if c.id == m.header("Call-ID") {
			c.receive(m)
			return
		}
	}
	if m.code == 0 && m.method() == "INVITE" {
		p.called(m)
	}
}

// called begins an incoming call.
func (p *Phone) called(m *message) {
	c := p.newCall(m.header("Call-ID"))
	c.inbound, c.request = true, m
	c.localTag = fmt.Sprintf("%s-%d", p.Name, p.made)
	c.local, c.remote = m.header("To"), m.header("From")
	c.target = uri(m.header("Contact"))
	c.audio.agree(m.body)
}

func (p *Phone) send(text string) { p.b.wire.send(p.Addr, p.edge, []byte(text)) }

func (p *Phone) password() string {
	if p.Typed != "" {
		return p.Typed
	}
	return p.Password
}

// Register sends a REGISTER and answers the challenge, and returns the final status: 0 when there was no answer.
func (p *Phone) Register() int {
	p.b.t.Helper()
	status, challenge := p.register("")
	if status != 401 {
		return status
	}
	status, _ = p.register(credentials(challenge, p.Name, p.password(), "REGISTER", "sip:"+Realm))
	return status
}

func (p *Phone) register(authorization string) (status int, challenge string) {
	p.b.mu.Lock()
	p.made++
	p.reply = nil
	lines := []string{
		"REGISTER sip:" + Realm + " SIP/2.0",
		fmt.Sprintf("Via: SIP/2.0/UDP %s;branch=z9hG4bKreg%d;rport", p.Addr, p.made),
		"Max-Forwards: 70",
		fmt.Sprintf("From: <sip:%s@%s>;tag=reg%d", p.Name, Realm, p.made),
		fmt.Sprintf("To: <sip:%s@%s>", p.Name, Realm),
		"Call-ID: register-" + p.Name,
		fmt.Sprintf("CSeq: %d REGISTER", p.made),
		fmt.Sprintf("Contact: <sip:%s@%s>", p.Name, p.Addr),
		"Expires: 600",
	}
	if authorization != "" {
		lines = append(lines, "Authorization: "+authorization)
	}
	p.send(strings.Join(append(lines, "Content-Length: 0"), "\r\n") + "\r\n\r\n")
	p.b.mu.Unlock()
	p.b.within(5*time.Second, func() bool { return len(p.reply) > 0 })
	p.b.mu.Lock()
	defer p.b.mu.Unlock()
	if len(p.reply) == 0 {
		return 0, ""
	}
	return p.reply[0].code, p.reply[0].challengeMD5()
}
