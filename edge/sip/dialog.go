package sip

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// How a dialog ends: the cause of its context. A *RejectedError is the other way.
var (
	ErrRemoteBye = errors.New("bye received")
	ErrLocalBye  = errors.New("bye sent")
	ErrCanceled  = errors.New("canceled")
	ErrNoACK     = errors.New("no ack for 2xx within 64*T1")
	ErrTimeout   = errors.New("no response")
	ErrTransport = errors.New("transport failed")
	ErrDropped   = errors.New("dropped without answer")
	ErrClosed    = errors.New("server closed")
	ErrPanic     = errors.New("handler panicked")
)

// ErrElsewhere is a cause for the end of Invite's context: somebody else has answered the same call. The CANCEL then
// says so (RFC 3326 §3.1), and the phone shows no missed call. It may be wrapped.
var ErrElsewhere = errors.New("call completed elsewhere")

// ErrState is returned by an operation that does not fit the state of the dialog: answering twice, BYE before the answer.
var ErrState = errors.New("dialog is not in a state for this")

// RejectedError is a final response of 300 or more, received or sent.
type RejectedError struct {
	Code     int
	Reason   string
	Response *Response // nil when the rejection was ours
}

func (e *RejectedError) Error() string { return fmt.Sprintf("rejected: %d %s", e.Code, e.Reason) }

// Response is a response received, for reading.
type Response struct {
	Code   int
	Reason string
	m      *message
}

// Header returns the first value of a header, "" when there is none. Names are compared without regard to case.
func (r *Response) Header(name string) string { return r.m.get(name) }

// Headers returns the values of a header, one per line.
func (r *Response) Headers(name string) []string { return r.m.lines(name) }

// Body returns the session description, see Dialog.Body. The slice must not be changed.
func (r *Response) Body() []byte { return r.m.sdp() }

// ContentType returns Content-Type as it came.
func (r *Response) ContentType() string { return r.m.get("Content-Type") }

func responseOf(m *message) *Response { return &Response{Code: m.code, Reason: m.reason, m: m} }

func rejected(m *message) *RejectedError {
	return &RejectedError{Code: m.code, Reason: m.reason, Response: responseOf(m)}
}

// state of a dialog. It only ever grows.
type state int

const (
	early     state = iota // no final response yet
	answered               // 2xx sent, ACK awaited
	confirmed              // ACK sent or received
	ending                 // BYE sent, its answer awaited
	ended
)

// Dialog is one call's SIP state, for both directions. Methods may be called from any goroutine.
//
// Its life ends exactly once, and then Context ends with the cause; after that every operation returns that cause, and
// Bye does nothing.
type Dialog struct {
	s        *Server
	outbound bool
	callID   string
	localTag string
	local    string   // our From or To value, without tag
	invite   *message // the INVITE, received or sent; nil when restored
	st       *serverTx
	auth     *Credentials
	nat      bool // the peer's Contact cannot be reached: answer the way its messages came

	ctx      context.Context
	cancel   context.CancelCauseFunc
	handlers sync.WaitGroup // the Invite handler
	offers   chan struct{}  // holds one token: one re-INVITE of ours at a time
	over     chan struct{}  // closed when nothing of the dialog is left, its BYE answered

	mu        sync.Mutex // guards all below
	state     state
	remoteTag string
	remote    string   // their From or To value, without tag
	final     *message // the 2xx received
	target    string   // Request-URI for them: their latest Contact
	routes    []string
	sock      *socket
	peer      netip.AddrPort
	localSeq  uint32
	remoteSeq uint32
	seqKnown  bool
	realm     string // of the first challenge we answered
	acks      map[uint32]*ackWait
	answering *serverTx // their re-INVITE while it is being answered
	offering  bool      // our re-INVITE is out
	ackBody   []byte
	ringing   *message    // the last provisional response
	again     *time.Timer // repeats it

	onReinvite       func(offer []byte) (answer []byte, code int)
	onReinviteAnswer func(answer []byte)
	onInfo           func(contentType string, body []byte) int
	onRefer          func(*Referral) int
	subscriptions    map[uint32]*Subscription // that REFERs of ours made, by their CSeq
}

// ackWait is a 2xx of ours that waits for its ACK.
type ackWait struct {
	done chan struct{}
	body []byte // of the ACK; set before done closes
}

// Context ends with the dialog; context.Cause tells how: ErrRemoteBye, ErrLocalBye, ErrCanceled, ErrNoACK, ErrTimeout,
// ErrTransport, ErrDropped, ErrClosed, ErrPanic (by errors.Is) or a *RejectedError.
func (d *Dialog) Context() context.Context { return d.ctx }

// ID is unique per dialog: Call-ID and our tag.
func (d *Dialog) ID() string { return d.callID + ";" + d.localTag }

// SIPCallID returns the Call-ID header.
func (d *Dialog) SIPCallID() string { return d.callID }

// Outbound says whether we sent the INVITE.
func (d *Dialog) Outbound() bool { return d.outbound }

// From returns the From of the INVITE.
func (d *Dialog) From() Party {
	if d.outbound {
		return partyOf(d.local)
	}
	return partyOf(d.peerIdentity())
}

// To returns the To of the INVITE.
func (d *Dialog) To() Party {
	if d.outbound {
		return partyOf(d.peerIdentity())
	}
	return partyOf(d.local)
}

func (d *Dialog) peerIdentity() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.remote
}

func partyOf(value string) Party {
	a, err := parseNameAddr(value)
	if err != nil {
		return Party{}
	}
	return a.party()
}

// RequestURI returns the Request-URI of the INVITE; of a restored dialog it is zero.
func (d *Dialog) RequestURI() URI {
	if d.invite == nil {
		return URI{}
	}
	u, err := ParseURI(d.invite.uri)
	if err != nil {
		return URI{}
	}
	return u
}

// PAI returns the first P-Asserted-Identity (RFC 3325) the peer sent. Whether to believe it is the caller's decision.
func (d *Dialog) PAI() (Party, bool) {
	m := d.theirs()
	if m == nil {
		return Party{}, false
	}
	for _, v := range m.values("P-Asserted-Identity") {
		if a, err := parseNameAddr(v); err == nil {
			return a.party(), true
		}
	}
	return Party{}, false
}

// Diversion returns the diverting parties, the latest first (RFC 5806).
func (d *Dialog) Diversion() []Party {
	m := d.theirs()
	if m == nil {
		return nil
	}
	var out []Party
	for _, v := range m.values("Diversion") {
		if a, err := parseNameAddr(v); err == nil {
			out = append(out, a.party())
		}
	}
	return out
}

// theirs is what the peer sent to set the dialog up: the INVITE, or the 2xx.
func (d *Dialog) theirs() *message {
	if !d.outbound {
		return d.invite
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.final
}

// Header returns the first line of a header of the INVITE received, or of the 2xx received; "" when there is none or the
// dialog was restored.
func (d *Dialog) Header(name string) string {
	if m := d.theirs(); m != nil {
		return m.get(name)
	}
	return ""
}

// Headers returns all lines of a header, of the same message as Header.
func (d *Dialog) Headers(name string) []string {
	if m := d.theirs(); m != nil {
		return m.lines(name)
	}
	return nil
}

// Body returns the session description of the INVITE received or the 2xx received: its body, or the application/sdp part
// of a multipart body. Nil means that an offer is expected from us. The slice must not be changed.
func (d *Dialog) Body() []byte {
	if m := d.theirs(); m != nil {
		return m.sdp()
	}
	return nil
}

// ContentType returns the Content-Type that came with Body.
func (d *Dialog) ContentType() string { return d.Header("Content-Type") }

// AckBody returns the session description of the ACK that confirmed our answer: the peer's answer when the INVITE had no
// offer.
func (d *Dialog) AckBody() []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ackBody
}

// RemoteAddr returns where the peer's messages come from.
func (d *Dialog) RemoteAddr() netip.AddrPort {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.peer
}

// Transport returns "UDP" or "TCP".
func (d *Dialog) Transport() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sock.network
}

// Authorization returns the credentials of the INVITE for this realm, or for any when realm is "". Where a phone sent
// several, the strongest algorithm wins. False when there are none, or none that can be read.
func (d *Dialog) Authorization(realm string) (Authorization, bool) {
	if d.outbound || d.invite == nil {
		return Authorization{}, false
	}
	return authorizationFor(d.invite, realm)
}

// OnReinvite sets what answers a re-INVITE or an UPDATE with an offer of the peer. It gets the offer, nil when the peer
// wants one from us, and returns the session description and a status code (0 means 200). Without it, or before it is
// set, the peer gets 488. It runs on a goroutine of its own; until it returns, further offers of either side wait.
func (d *Dialog) OnReinvite(f func(offer []byte) (answer []byte, code int)) {
	d.mu.Lock()
	d.onReinvite = f
	d.mu.Unlock()
}

// OnReinviteAnswer sets what gets the answer that came in the ACK of a re-INVITE without an offer.
func (d *Dialog) OnReinviteAnswer(f func(answer []byte)) {
	d.mu.Lock()
	d.onReinviteAnswer = f
	d.mu.Unlock()
}

// OnInfo sets what takes INFO, in the order sent. It returns the status code of the response (0 means 200) and must not
// block: the dialog's later messages wait for it. Without it INFO with a body gets 415.
func (d *Dialog) OnInfo(f func(contentType string, body []byte) (code int)) {
	d.mu.Lock()
	d.onInfo = f
	d.mu.Unlock()
}

// newDialog registers a dialog; nil when the server takes no more.
func (s *Server) newDialog(d *Dialog) *Dialog {
	d.s = s
	d.ctx, d.cancel = context.WithCancelCause(context.Background())
	d.offers = make(chan struct{}, 1)
	d.over = make(chan struct{})
	d.acks = map[uint32]*ackWait{}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		d.cancel(ErrClosed)
		return nil
	}
	s.dialogs[d.ID()] = d
	return d
}

// dialogOf finds the dialog a request from the peer belongs to. Our tag cannot be guessed, theirs must be right too.
func (s *Server) dialogOf(m *message) *Dialog {
	s.mu.Lock()
	d := s.dialogs[m.callID+";"+m.to.tag()]
	s.mu.Unlock()
	if d == nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.remoteTag != m.from.tag() {
		return nil
	}
	return d
}

// end is the one place where a dialog ends. It says whether this call did it.
func (d *Dialog) end(cause error) bool {
	d.mu.Lock()
	if d.state == ended {
		d.mu.Unlock()
		return false
	}
	d.state = ended
	if d.again != nil {
		d.again.Stop()
	}
	if d.sock != nil && d.sock.stream() {
		d.sock.dialogs.Add(-1)
	}
	d.mu.Unlock()
	d.s.mu.Lock()
	delete(d.s.dialogs, d.ID())
	d.s.mu.Unlock()
	d.cancel(cause) // after BYE of ours the first cause stays
	close(d.over)
	return true
}

// bind remembers where the peer is. A connection in use by a dialog is not closed for being idle. d.mu is held.
func (d *Dialog) bind(k *socket, peer netip.AddrPort) {
	if d.sock != k {
		if d.sock != nil && d.sock.stream() {
			d.sock.dialogs.Add(-1)
		}
		if k.stream() {
			k.dialogs.Add(1)
		}
		d.sock = k
	}
	d.peer = peer
}

// refresh takes the target and the source of a target refresh request or its response (RFC 3261 §12.2). d.mu is held.
func (d *Dialog) refresh(m *message) {
	if c := m.values("Contact"); len(c) > 0 {
		if a, err := parseNameAddr(c[0]); err == nil {
			d.target = a.uri
		}
	}
	d.bind(m.sock, m.peer)
	d.nat = d.nat || behindNAT(d.target, m.peer.Addr())
}

// behindNAT: the peer says it is reached at a private address but its messages come from a public one.
func behindNAT(target string, peer netip.Addr) bool {
	u, err := ParseURI(target)
	if err != nil {
		return false
	}
	host, err := netip.ParseAddr(u.Host)
	return err == nil && private(host.Unmap()) && !private(peer)
}

// private: RFC 1918, RFC 4193, RFC 6598, loopback and link-local.
func private(a netip.Addr) bool {
	return a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() ||
		netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64, 0, 0}), 10).Contains(a)
}

// ourContact is the Contact value for this peer.
func (d *Dialog) ourContact() string {
	d.mu.Lock()
	k, peer := d.sock, d.peer.Addr()
	d.mu.Unlock()
	user := d.To().User
	if d.outbound {
		user = d.From().User
	}
	return d.s.contactFor(k, peer, user)
}

func (s *Server) contactFor(k *socket, peer netip.Addr, user string) string {
	at := s.contact(k, peer)
	u := URI{Scheme: "sip", User: user, Host: at.Addr().String(), Port: int(at.Port())}
	if k.stream() {
		u.Params = "transport=" + strings.ToLower(k.network)
	}
	return "<" + u.String() + ">"
}

// DialogState is all that is needed to continue a confirmed dialog elsewhere. It marshals to JSON.
type DialogState struct {
	Outbound   bool           `json:"outbound"`
	SIPCallID  string         `json:"sip_call_id"`
	LocalTag   string         `json:"local_tag"`
	RemoteTag  string         `json:"remote_tag"`
	Local      string         `json:"local"`  // our From or To value without tag
	Remote     string         `json:"remote"` // theirs
	Target     string         `json:"target"` // their latest Contact URI
	Routes     []string       `json:"routes,omitempty"`
	LocalCSeq  uint32         `json:"local_cseq"`
	RemoteCSeq *uint32        `json:"remote_cseq,omitempty"` // absent when the peer has sent no request
	Transport  string         `json:"transport"`
	Peer       netip.AddrPort `json:"peer"`
	NAT        bool           `json:"nat,omitempty"`
}

// Snapshot returns the state of the dialog as it is now. Credentials are not part of it. It is worth storing once the
// dialog is confirmed and after every request in it.
func (d *Dialog) Snapshot() DialogState {
	d.mu.Lock()
	defer d.mu.Unlock()
	st := DialogState{
		Outbound: d.outbound, SIPCallID: d.callID, LocalTag: d.localTag, RemoteTag: d.remoteTag, Local: d.local,
		Remote: d.remote, Target: d.target, Routes: slices.Clone(d.routes), LocalCSeq: d.localSeq,
		Transport: d.sock.network, Peer: d.peer, NAT: d.nat,
	}
	if d.seqKnown {
		seq := d.remoteSeq
		st.RemoteCSeq = &seq
	}
	return st
}

// restoreGap is added to the local CSeq of a restored dialog: its former owner may have used some after the snapshot.
const restoreGap = 10

// Restore continues a confirmed dialog from its state, here or on another machine. Over TCP the peer is called again
// when there is something to send. The peer learns the new address with the next Reinvite.
func (s *Server) Restore(st DialogState) (*Dialog, error) {
	if st.SIPCallID == "" || st.LocalTag == "" || st.Target == "" || !st.Peer.IsValid() {
		return nil, fmt.Errorf("restore dialog: incomplete state")
	}
	d := &Dialog{
		outbound: st.Outbound, callID: st.SIPCallID, localTag: st.LocalTag, remoteTag: st.RemoteTag, local: st.Local,
		remote: st.Remote, target: st.Target, routes: slices.Clone(st.Routes), localSeq: st.LocalCSeq + restoreGap,
		state: confirmed, nat: st.NAT,
	}
	if st.RemoteCSeq != nil {
		d.remoteSeq, d.seqKnown = *st.RemoteCSeq, true
	}
	k, err := s.restoredSocket(st)
	if err != nil {
		return nil, fmt.Errorf("restore dialog: %w", err)
	}
	d.bind(k, st.Peer)
	if s.newDialog(d) == nil {
		return nil, ErrClosed
	}
	return d, nil
}

// restoredSocket stands in for the socket of a restored dialog until the peer or we send something.
func (s *Server) restoredSocket(st DialogState) (*socket, error) {
	if strings.EqualFold(st.Transport, "UDP") {
		return s.packetSocket(st.Peer.Addr())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.conns[st.Peer]; k != nil {
		return k, nil
	}
	if len(s.tcp) == 0 {
		return nil, fmt.Errorf("%w: no TCP listener", ErrTransport)
	}
	return &socket{network: "TCP", local: s.tcp[0], remote: st.Peer}, nil
}
