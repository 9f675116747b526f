package sip

import (
	"slices"
	"sync/atomic"
)

// methods are those that messages are counted by; any other is the last.
var methods = [...]string{
	methodInvite, methodAck, methodBye, methodCancel, methodOptions, methodRegister, methodInfo, methodUpdate, methodPrack,
	methodRefer, methodNotify, methodSubscribe, methodMessage, methodPublish, "other",
}

// transports are the names of transport's numbers.
var transports = [...]string{"udp", "tcp"}

const (
	dirIn  = 0
	dirOut = 1

	kinds = 7 // a request, and the six classes of responses
)

// messages counts what passed, by what operators ask for. All sets are closed, so that no stranger adds to them.
type messages struct {
	passed    [len(methods)][len(transports)][2][kinds]atomic.Uint64
	repeated  [len(transports)][2]atomic.Uint64
	malformed [len(transports)]atomic.Uint64
}

// transport is the socket's index in transports.
func (k *socket) transport() int {
	if k.stream() {
		return 1
	}
	return 0
}

// count notes one message; code is 0 for a request, and method that of the request a response belongs to.
func (m *messages) count(k *socket, out bool, method string, code int) {
	i := slices.Index(methods[:], method)
	if i < 0 {
		i = len(methods) - 1
	}
	dir := dirIn
	if out {
		dir = dirOut
	}
	if kind := code / 100; kind < kinds {
		m.passed[i][k.transport()][dir][kind].Add(1)
	}
}

// MessageCount is how many messages of one kind passed since New.
type MessageCount struct {
	Method    string // upper case; other for those that no RFC names
	Transport string // udp, tcp
	Out       bool   // sent by us
	Class     int    // 0 for requests, 1 to 6 for the classes of responses
	Count     uint64
}

// Messages are the counts that are not 0. Messages sent include those repeated.
func (s *Server) Messages() []MessageCount {
	var all []MessageCount
	for i := range s.messages.passed {
		for t := range transports {
			for dir := range 2 {
				for kind := range kinds {
					if n := s.messages.passed[i][t][dir][kind].Load(); n > 0 {
						all = append(all, MessageCount{methods[i], transports[t], dir == dirOut, kind, n})
					}
				}
			}
		}
	}
	return all
}

// TransportCount is what one transport's sockets saw since New.
type TransportCount struct {
	Transport   string
	RepeatedIn  uint64 // requests that came again
	RepeatedOut uint64 // requests that we sent again (RFC 3261 §17.1)
	Malformed   uint64
	Connections int // open now; 0 for udp
}

// Transports are the counts of each transport.
func (s *Server) Transports() []TransportCount {
	s.mu.Lock()
	open := len(s.conns)
	s.mu.Unlock()
	all := make([]TransportCount, len(transports))
	for t, name := range transports {
		all[t] = TransportCount{
			Transport: name, Malformed: s.messages.malformed[t].Load(),
			RepeatedIn: s.messages.repeated[t][dirIn].Load(), RepeatedOut: s.messages.repeated[t][dirOut].Load(),
		}
	}
	all[1].Connections = open
	return all
}
