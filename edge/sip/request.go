package sip

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"sync"
)

// Request is a request outside dialogs: REGISTER or OPTIONS. It is answered once; without an answer it gets 500 when its
// handler returns.
type Request struct {
	s  *Server
	m  *message
	st *serverTx // without fsm for OPTIONS, which is answered statelessly

	mu   sync.Mutex // guards done
	done bool
}

// Method returns the method, "REGISTER" or "OPTIONS".
func (r *Request) Method() string { return r.m.method }

// From returns the From.
func (r *Request) From() Party { return r.m.from.party() }

// To returns the To: for REGISTER the address of record.
func (r *Request) To() Party { return r.m.to.party() }

// RequestURI returns the Request-URI.
func (r *Request) RequestURI() URI {
	u, err := ParseURI(r.m.uri)
	if err != nil {
		return URI{}
	}
	return u
}

// SIPCallID returns the Call-ID header.
func (r *Request) SIPCallID() string { return r.m.callID }

// Header returns the first line of a header, "" when there is none.
func (r *Request) Header(name string) string { return r.m.get(name) }

// Headers returns all lines of a header.
func (r *Request) Headers(name string) []string { return r.m.lines(name) }

// Body returns the body. It must not be changed.
func (r *Request) Body() []byte { return r.m.body }

// ContentType returns Content-Type as it came.
func (r *Request) ContentType() string { return r.m.get("Content-Type") }

// RemoteAddr returns the source of the request.
func (r *Request) RemoteAddr() netip.AddrPort { return r.m.peer }

// Transport returns "UDP" or "TCP".
func (r *Request) Transport() string { return r.m.sock.network }

// Authorization returns the credentials for this realm, see Dialog.Authorization.
func (r *Request) Authorization(realm string) (Authorization, bool) {
	return authorizationFor(r.m, realm)
}

// Respond answers with a final status. Headers named Path and Service-Route are allowed here.
func (r *Request) Respond(code int, headers ...Header) error {
	if code < 200 || code > 699 {
		return fmt.Errorf("final code %d", code)
	}
	if err := checkHeaders(headers); err != nil {
		return err
	}
	return r.answer(code, headers)
}

// RespondContacts answers a REGISTER with 200 and the bindings that now exist, each with the seconds it has left
// (RFC 3261 §10.3 step 8).
func (r *Request) RespondContacts(contacts []Contact, headers ...Header) error {
	if err := checkHeaders(headers); err != nil {
		return err
	}
	all := make([]Header, 0, len(contacts)+len(headers))
	for _, c := range contacts {
		if _, err := ParseURI(c.URI); err != nil {
			return fmt.Errorf("contact: %w", err)
		}
		v := "<" + c.URI + ">"
		if c.Q >= 0 && c.Q < 1 {
			v += ";q=" + strconv.FormatFloat(c.Q, 'f', -1, 64)
		}
		v += ";expires=" + strconv.Itoa(max(c.Expires, 0))
		if c.Instance != "" {
			v += ";+sip.instance=" + quote(c.Instance)
		}
		if hasControl(v) {
			return fmt.Errorf("contact: control character")
		}
		all = append(all, Header{"Contact", v})
	}
	return r.answer(200, append(all, headers...))
}

// Challenge answers 401 with these WWW-Authenticate values and keeps nothing.
func (r *Request) Challenge(values []string) error {
	err := r.answer(401, challengeHeaders(values))
	if r.st.fsm != nil {
		r.st.forget()
	}
	return err
}

// Drop leaves the request without an answer.
func (r *Request) Drop() {
	if r.take() && r.st.fsm != nil {
		r.st.forget()
	}
}

// take gives the right to answer to the first who asks.
func (r *Request) take() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done {
		return false
	}
	r.done = true
	return true
}

func (r *Request) answer(code int, headers []Header) error {
	if !r.take() {
		return ErrState
	}
	res := r.m.respond(code, r.s.tagFor(r.m))
	if code == 200 && r.m.method == methodOptions {
		res.add("Allow", allow)
		res.add("Accept", "application/sdp")
	}
	res.headers = append(res.headers, headers...)
	r.s.product(res)
	if r.st.fsm != nil {
		return r.st.respond(res)
	}
	to := r.m.peer
	if !r.m.sock.stream() {
		to = r.m.replyTo(to)
	}
	r.s.messages.count(r.m.sock, true, r.m.method, res.code)
	return r.s.send(r.m.sock, to, res.bytes(), r.m.callID)
}

// finish answers 500 for a handler that did not answer.
func (r *Request) finish() {
	if r.mu.Lock(); !r.done {
		r.mu.Unlock()
		if err := r.answer(500, nil); err != nil {
			r.s.log.report("request.respond_failed", "error", err)
		}
		return
	}
	r.mu.Unlock()
}

// Registration is what a REGISTER asks for (RFC 3261 §10.3).
type Registration struct {
	User      string // address of record
	Host      string
	Contacts  []Contact // empty: the phone asks what is registered
	Star      bool      // "Contact: *": remove all
	Expires   int       // seconds, the Expires header; -1 when absent
	SIPCallID string
	CSeq      uint32
	Received  netip.AddrPort // source of the request: where a phone behind a NAT is reached
	Transport string         // "UDP" or "TCP"
	Path      []string       // RFC 3327
	UserAgent string
}

// Contact is one binding.
type Contact struct {
	URI      string // as the phone wrote it
	Expires  int    // seconds; of a REGISTER: its own expires, else the header's, else -1
	Q        float64
	Instance string // +sip.instance, "<urn:uuid:…>" (RFC 5626)
	RegID    int    // reg-id, 0 when absent
}

// maxContacts is how many bindings one REGISTER may carry.
const maxContacts = 16

// Register reads a REGISTER. An error is answered 400.
func (r *Request) Register() (Registration, error) { return r.m.registration() }

func (m *message) registration() (Registration, error) {
	u, err := ParseURI(m.to.uri)
	if err != nil {
		return Registration{}, fmt.Errorf("address of record: %w", err)
	}
	reg := Registration{
		User: u.User, Host: u.Host, Expires: -1, SIPCallID: m.callID, CSeq: m.seq, Received: m.peer,
		Path: m.values("Path"), UserAgent: m.get("User-Agent"),
	}
	if m.sock != nil {
		reg.Transport = m.sock.network
	}
	if s := m.get("Expires"); s != "" {
		if reg.Expires, err = seconds(s); err != nil {
			return Registration{}, fmt.Errorf("expires: %w", err)
		}
	}
	values := m.values("Contact")
	if len(values) > maxContacts {
		return Registration{}, fmt.Errorf("contacts: at most %d, are %d", maxContacts, len(values))
	}
	for _, v := range values {
		if v == "*" {
			reg.Star = true
			continue
		}
		c, err := parseContact(v, reg.Expires)
		if err != nil {
			return Registration{}, err
		}
		reg.Contacts = append(reg.Contacts, c)
	}
	// RFC 3261 §10.2.2: "*" stands alone and with Expires: 0.
	if reg.Star && (len(reg.Contacts) > 0 || reg.Expires != 0) {
		return Registration{}, fmt.Errorf("contact *: must be alone and with Expires: 0")
	}
	return reg, nil
}

func parseContact(value string, expires int) (Contact, error) {
	a, err := parseNameAddr(value)
	if err != nil {
		return Contact{}, fmt.Errorf("contact: %w", err)
	}
	u, err := ParseURI(a.uri)
	if err != nil {
		return Contact{}, fmt.Errorf("contact: %w", err)
	}
	if u.Scheme != "sip" && u.Scheme != "sips" {
		return Contact{}, fmt.Errorf("contact: scheme %.16q cannot be called", u.Scheme)
	}
	uri, _, _ := strings.Cut(a.uri, "?") // headers in a Contact are never acted upon
	c := Contact{URI: uri, Expires: expires, Q: 1, Instance: a.params.get("+sip.instance")}
	if v, ok := a.params.lookup("expires"); ok {
		// RFC 3261 §20.10: a malformed value counts as 3600.
		if c.Expires, err = seconds(v); err != nil {
			c.Expires = 3600
		}
	}
	if v, ok := a.params.lookup("q"); ok {
		if q, err := strconv.ParseFloat(v, 64); err == nil && q >= 0 && q <= 1 {
			c.Q = q
		}
	}
	if n, err := strconv.Atoi(a.params.get("reg-id")); err == nil && n > 0 {
		c.RegID = n
	}
	return c, nil
}

// seconds reads delta-seconds, 0 to 2**32-1.
func seconds(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	return int(n), err
}
