package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hookswitch/hookswitch/webhooks"
)

// Handler serves edges that dial in. Its server must speak HTTP/2: see Protocols.
type Handler struct {
	Control Control
	// Authorize checks an edge's token; any error refuses it as unauthorized, and an error that is no *Error is
	// answered as a control plane that is away.
	Authorize func(ctx context.Context, token string) error
	// Attach is told of an edge whose commands can be sent from now on, until the returned function is called. A
	// newer connection of the same edge may come before the older one has gone.
	Attach func(id webhooks.EdgeID, e Edge) (detach func())
	Log    *slog.Logger
}

// Protocols is what the seam's servers and clients speak: HTTP/2, with TLS or without.
func Protocols() *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP2(true)
	p.SetUnencryptedHTTP2(true)
	return p
}

// ServeHTTP answers one method, or holds one edge's stream of commands.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		refuse(w, &Error{Code: CodeUnauthorized, Message: "the request carries no Bearer token"})
		return
	}
	if err := h.Authorize(r.Context(), token); err != nil {
		h.fail(w, r, err)
		return
	}
	if r.Method != http.MethodPost {
		http.Error(w, "POST only", http.StatusMethodNotAllowed)
		return
	}
	switch r.URL.Path {
	case pathCredential:
		serve(h, w, r, h.Control.Credential)
	case pathRoute:
		serve(h, w, r, h.Control.Route)
	case pathRegister:
		serve(h, w, r, h.Control.Register)
	case pathResolve:
		serve(h, w, r, h.Control.Resolve)
	case pathMedia:
		serve(h, w, r, h.Control.Media)
	case pathUpload:
		serve(h, w, r, h.Control.Upload)
	case pathFinish:
		serve(h, w, r, h.Control.Finish)
	case pathPublish:
		serve(h, w, r, h.Control.Publish)
	case pathBeat:
		serve(h, w, r, func(ctx context.Context, b Beat) (struct{}, error) { return struct{}{}, h.Control.Beat(ctx, b) })
	case pathCommands:
		h.commands(w, r)
	case pathPlaceConference:
		serve(h, w, r, h.Control.PlaceConference)
	case pathRedeemLink:
		serve(h, w, r, h.Control.RedeemLink)
	case pathFindLeg:
		serve(h, w, r, h.Control.FindLeg)
	case pathMailbox:
		serve(h, w, r, h.Control.Mailbox)
	case pathSurvey:
		serve(h, w, r, h.Control.Survey)
	case pathSendMessage:
		serve(h, w, r, h.Control.SendMessage)
	case pathPark:
		serve(h, w, r, h.Control.Park)
	case pathLeavePark:
		serve(h, w, r, func(ctx context.Context, l ParkLeave) (struct{}, error) {
			return struct{}{}, h.Control.LeavePark(ctx, l)
		})
	case pathFindParked:
		serve(h, w, r, h.Control.FindParked)
	default:
		if !h.serveQueues(w, r) {
			http.NotFound(w, r)
		}
	}
}

// serve reads a question, asks, and writes the answer.
func serve[Q, A any](h *Handler, w http.ResponseWriter, r *http.Request, ask func(context.Context, Q) (A, error)) {
	var q Q
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxMessage))
	if err == nil {
		err = json.Unmarshal(body, &q)
	}
	if err != nil {
		refuse(w, &Error{Code: CodeInvalid, Message: "the message cannot be read: " + err.Error()})
		return
	}
	a, err := ask(r.Context(), q)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	body, err = json.Marshal(a)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body) // an edge that is gone asks again
}

func (h *Handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	if refusal, ok := errors.AsType[*Error](err); ok {
		refuse(w, refusal)
		return
	}
	if r.Context().Err() == nil {
		h.Log.Error("control.failed", "path", r.URL.Path, "error", err.Error())
	}
	http.Error(w, "unavailable", http.StatusServiceUnavailable)
}

func refuse(w http.ResponseWriter, e *Error) {
	body, err := json.Marshal(e)
	if err != nil {
		panic(fmt.Sprintf("control: a struct of strings cannot be marshalled: %v", err))
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(statusOf(e.Code))
	_, _ = w.Write(body) // an edge that is gone asks again
}

// commands holds one edge's stream until either side goes away.
func (h *Handler) commands(w http.ResponseWriter, r *http.Request) {
	id := webhooks.EdgeID(r.Header.Get(edgeHeader))
	if id == "" {
		refuse(w, &Error{Code: CodeInvalid, Message: "the stream names no edge in " + edgeHeader})
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	out := http.NewResponseController(w)
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	if err := out.Flush(); err != nil {
		return
	}
	s := &stream{queue: make(chan command, maxQueued), waiting: map[uint64]chan reply{}, gone: ctx.Done()}
	detach := h.Attach(id, s)
	defer detach()
	h.Log.Info("edge.connected", "edge_id", id, "remote", r.RemoteAddr)
	defer h.Log.Info("edge.disconnected", "edge_id", id, "remote", r.RemoteAddr)

	var readers sync.WaitGroup
	defer readers.Wait()
	// The body ends with the handler at the latest; closing it frees the reader before.
	defer func() { _ = r.Body.Close() }()
	readers.Go(func() {
		defer cancel()
		s.read(r.Body)
	})
	s.write(ctx, func(c command) error {
		text, err := line(c)
		if err != nil {
			return err
		}
		if err := out.SetWriteDeadline(time.Now().Add(writeWithin)); err != nil {
			return err
		}
		if _, err := w.Write(text); err != nil {
			return err
		}
		if err := out.Flush(); err != nil {
			return err
		}
		// HTTP/2 resets a stream whose deadline passes even while nothing is written to it.
		return out.SetWriteDeadline(time.Time{})
	})
}

// stream is an edge at the far end of a connection.
type stream struct {
	queue chan command
	gone  <-chan struct{}
	last  atomic.Uint64 // number given to a command
	heard atomic.Int64  // when anything last came from the edge, Unix ns

	mu      sync.Mutex // guards waiting
	waiting map[uint64]chan reply
}

var _ Edge = (*stream)(nil)

// Originate sends the command down the stream.
func (s *stream) Originate(ctx context.Context, o Originate) error {
	return s.send(ctx, command{Originate: &o})
}

// Act sends the command down the stream.
func (s *stream) Act(ctx context.Context, a Action) error { return s.send(ctx, command{Action: &a}) }

var errStreamGone = errors.New("the edge's connection is gone")

func (s *stream) send(ctx context.Context, c command) error {
	c.ID = s.last.Add(1)
	if until, ok := ctx.Deadline(); ok {
		c.TimeoutMS = max(1, time.Until(until).Milliseconds())
	}
	answer := make(chan reply, 1)
	s.mu.Lock()
	s.waiting[c.ID] = answer
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.waiting, c.ID)
		s.mu.Unlock()
	}()
	select {
	case <-s.gone:
		return errStreamGone
	case s.queue <- c:
	default:
		return &Error{Code: CodeBusy, Message: fmt.Sprintf("%d commands wait for this edge already", maxQueued)}
	}
	select {
	case r := <-answer:
		return r.result()
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-s.gone:
		return errStreamGone
	}
}

// write sends commands and pings until the context ends, a write fails, or the edge has been silent for too long.
func (s *stream) write(ctx context.Context, send func(command) error) {
	s.heard.Store(time.Now().UnixNano())
	pings := time.NewTicker(pingEvery)
	defer pings.Stop()
	for {
		var c command
		select {
		case <-ctx.Done():
			return
		case c = <-s.queue:
		case <-pings.C:
			if time.Since(time.Unix(0, s.heard.Load())) > silenceEnds {
				return
			}
			c = command{Ping: true}
		}
		if send(c) != nil {
			return
		}
	}
}

// read takes replies until the stream ends or something on it is no reply.
func (s *stream) read(body io.Reader) {
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, maxMessage)
	for lines.Scan() {
		var r reply
		if json.Unmarshal(lines.Bytes(), &r) != nil {
			return
		}
		s.heard.Store(time.Now().UnixNano())
		s.mu.Lock()
		answer := s.waiting[r.ID]
		delete(s.waiting, r.ID)
		s.mu.Unlock()
		if answer != nil {
			answer <- r
		}
	}
}
