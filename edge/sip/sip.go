// Package sip owns SIP dialogs: listeners that survive hostile traffic, INVITE as server and as client, in-dialog
// requests, digest both ways and the parsing of REGISTER. It leaves to others what a call means, who may call, what an
// SDP body says (bodies are bytes) and where registrations are kept.
//
// The transaction state machines are those of github.com/emiago/sipgo/sip. Sockets, the parser, the transaction table,
// dispatch and dialogs are ours.
//
// Why not the rest of sipgo: its transports and transaction table start one goroutine per message, so that messages of
// one Call-ID overtake each other, keep an entry for every UDP source that ever sent a datagram, stop a listener on the
// first accept or filter error and log whole payloads; its parser loses white space, quoted parameters and the case of
// methods, so that what it read cannot be echoed as RFC 3261 §8.2.6.2 demands. One pass of our own reads a message within
// fixed limits and keeps every value as it came, so there is one opinion about what a message says, not two. The state
// machines are used unchanged; transaction.go says where it steps around two of their habits.
//
// Messages of one Call-ID are handled one after the other in the order in which they arrived.
//
// Everything waits on channels and on package time only, so a Server over an in-memory net.PacketConn runs inside a
// testing/synctest bubble (set Config.Resolve there: the resolver of package net does not). sipgo's own timers (T1 500 ms,
// T2 4 s, T4 5 s and those derived from them) are package variables there and are left at RFC 3261's values.
package sip

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"time"
)

// Config is read once by New.
type Config struct {
	// Listen are the sockets to serve. They belong to the server from New on and are closed by Run.
	Listen []Listener

	// Contact gives the address to put into Contact and Via for this peer. Port 0 means the port of the listener the
	// message leaves from. Nil means the listener's own address, which then must not be a wildcard.
	Contact func(peer netip.Addr) netip.AddrPort

	// UserAgent goes into User-Agent and Server. Empty sends neither.
	UserAgent string

	// Logger is optional; nil discards. Messages from outside are never logged whole.
	Logger *slog.Logger

	Handler Handler

	// Trace, when set, sees every message that passed the guard or was sent, in order per socket. It is called on the
	// socket's goroutine: it must not block.
	Trace func(TraceEvent)

	// Resolve looks up A and AAAA records. Nil uses net.DefaultResolver. It is never called for an IP literal.
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)

	// Dial opens outgoing TCP connections. Nil uses net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	Limits Limits
}

// Listener is one socket: PacketConn for "udp", Listener for "tcp".
type Listener struct {
	Network    string
	PacketConn net.PacketConn
	Listener   net.Listener
}

// Limits bound what strangers can make the server hold. Zero fields take the values named here.
type Limits struct {
	ConnsPerIP    int           // TCP connections from one address, 20
	Conns         int           // TCP connections in total, 4096
	FirstMessage  time.Duration // a new TCP connection must complete a message in this time, 10 s
	IdleConn      time.Duration // a TCP connection without a byte for this long is closed, 120 s
	Transactions  int           // open server transactions, 100000; requests beyond get 503 when known, else silence
	QueuedPerCall int           // messages of one Call-ID waiting to be handled, 1024; more are dropped and counted
	Queued        int           // messages waiting in total, 65536
}

// Handler is what the server calls. Every field is optional: without Invite and Register the methods are answered 405.
// A panic in any of them is recovered, counted, answered 500, and ends only that call.
type Handler struct {
	// Invite owns a new incoming call and runs on a goroutine of its own for as long as it likes. ctx is d.Context().
	// When it returns, an unanswered INVITE is answered 500 and an answered one is ended with BYE.
	Invite func(ctx context.Context, d *Dialog)

	// Register serves REGISTER. Requests with the same Call-ID are served one after the other in order of arrival.
	Register func(ctx context.Context, r *Request)

	// Options serves OPTIONS outside dialogs. Nil answers 200 to known sources and nothing to others.
	Options func(ctx context.Context, r *Request)

	// Known says whether this source is one of ours (a trunk's network, a registered phone): only then are malformed
	// requests answered, requests beyond a limit refused in words, and 100 Trying sent before Invite has decided. Nil
	// means everyone is known. It is called for every request and must be quick.
	Known func(source netip.Addr) bool

	// Banned, when set, is asked for every datagram and connection before anything is parsed; true drops it.
	Banned func(source netip.Addr) bool
}

// TraceEvent is one message on the wire.
type TraceEvent struct {
	Time      time.Time
	Out       bool // sent by us
	Transport string
	Local     netip.AddrPort
	Peer      netip.AddrPort
	SIPCallID string
	// Message is the whole message with the values of Authorization and Proxy-Authorization replaced by "-". The slice is
	// the receiver's to keep.
	Message []byte
}

// Header is one header line of a message to be sent. See ValidHeader for what may be in it.
type Header struct {
	Name  string
	Value string
}

// Party is one end as From, To, P-Asserted-Identity and Diversion show it.
type Party struct {
	Display string
	User    string // unescaped
	Host    string // without port; IPv6 without brackets
}

// Counters are totals since New.
type Counters struct {
	Received    uint64 // messages that passed the guard
	Sent        uint64
	Guarded     uint64 // dropped before parsing: too big, too many headers, banned source
	Malformed   uint64 // not parsable
	Refused     uint64 // parsable, failed a check of RFC 3261 §8.2 or our own
	Overflow    uint64 // dropped because a queue or table was full
	Panics      uint64 // handlers recovered
	WriteErrors uint64
	Orphans     uint64 // 2xx of forked or canceled INVITEs that were acknowledged and ended
}
