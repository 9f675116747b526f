package guard

import (
	"context"
	"net/http/httptrace"
	"strconv"
	"sync"
	"time"
)

// phase is how far the latest hop of a request got.
type phase int

const (
	phaseNone       phase = iota // nothing is known: the transport does not say
	phaseConnecting              // waiting for a connection
	phaseHandshake               // in the TLS handshake
	phaseSending                 // connected
	phaseAnswered                // the first byte of the answer is there
)

// watch follows a request through httptrace: it remembers the phase and ends the attempt when the connection or
// the first byte is not there in time. The hooks run on the transport's goroutines.
type watch struct {
	connect, read time.Duration
	cancel        context.CancelCauseFunc

	mu    sync.Mutex // guards what follows
	phase phase
	timer *time.Timer
}

func (c *Client) watch(r Request, cancel context.CancelCauseFunc) *watch {
	w := &watch{connect: r.ConnectTimeout, read: r.ReadTimeout, cancel: cancel}
	if w.connect == 0 {
		w.connect = c.connectTimeout
	}
	w.connect = min(w.connect, maxConnectTimeout)
	return w
}

func (w *watch) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GetConn:              func(string) { w.enter(phaseConnecting, w.connect, errConnectTimeout) },
		TLSHandshakeStart:    func() { w.move(phaseConnecting, phaseHandshake) },
		GotConn:              func(httptrace.GotConnInfo) { w.enter(phaseSending, 0, nil) },
		WroteRequest:         func(httptrace.WroteRequestInfo) { w.await() },
		GotFirstResponseByte: func() { w.enter(phaseAnswered, 0, nil) },
	}
}

// enter sets the phase and, with a limit, the timer that ends the attempt for it.
func (w *watch) enter(p phase, limit time.Duration, cause *Error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.phase = p
	w.set(limit, cause)
}

// move changes the phase where it is still the expected one: a dial goes on in the background when another
// connection was free first.
func (w *watch) move(from, to phase) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.phase == from {
		w.phase = to
	}
}

// await begins the wait for the first byte, unless the answer overtook the end of the request.
func (w *watch) await() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.phase == phaseSending {
		w.set(w.read, errReadTimeout)
	}
}

func (w *watch) set(limit time.Duration, cause *Error) {
	if w.timer != nil {
		w.timer.Stop()
		w.timer = nil
	}
	if limit > 0 {
		w.timer = time.AfterFunc(limit, func() { w.cancel(cause) })
	}
}

func (w *watch) reached() phase {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.phase
}

func (w *watch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.set(0, nil)
}

func tooLarge(limit int64) *Error {
	return &Error{Class: ClassBody, Text: "the body is larger than " + strconv.FormatInt(limit, 10) + " bytes"}
}
