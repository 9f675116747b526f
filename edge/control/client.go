package control

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/hookswitch/hookswitch/webhooks"
)

// ClientConfig says where the control plane is.
type ClientConfig struct {
	URL   string      // https://host:port, or http://host:port for HTTP/2 in clear text
	Token string      // edge_…
	TLS   *tls.Config // roots, and a certificate of this edge for mTLS; nil takes the system's roots
	Log   *slog.Logger
}

// Client is a Control across the network, and the edge's end of the commands that come back. It is safe for
// concurrent use.
type Client struct {
	base  string
	token string
	http  *http.Client
	log   *slog.Logger
}

var _ Control = (*Client)(nil)

// NewClient makes a client. It does not connect yet. Close it.
func NewClient(cfg ClientConfig) (*Client, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, errors.New("control URL: must be https://HOST:PORT or http://HOST:PORT")
	}
	if cfg.Token == "" {
		return nil, errors.New("control token: must be given; make one with: hookswitch key create --edge")
	}
	dialer := &net.Dialer{Timeout: 3 * time.Second, KeepAlive: 10 * time.Second}
	return &Client{
		base:  strings.TrimSuffix(u.Scheme+"://"+u.Host+u.Path, "/"),
		token: cfg.Token,
		log:   cfg.Log,
		http: &http.Client{Transport: &http.Transport{
			DialContext:         dialer.DialContext,
			TLSClientConfig:     cfg.TLS,
			TLSHandshakeTimeout: 3 * time.Second,
			IdleConnTimeout:     time.Minute,
			Protocols:           Protocols(),
			// A dead peer is found out in ten seconds, not when TCP gives up.
			HTTP2: &http.HTTP2Config{SendPingTimeout: 5 * time.Second, PingTimeout: 5 * time.Second},
		}},
	}, nil
}

// Close drops idle connections. Requests in progress end with their contexts.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// How long an answer may take when the caller's context allows more.
const (
	answerWithin = 10 * time.Second
	finishWithin = 2 * time.Minute // hours of recording are read and written
)

// Credential asks the control plane.
func (c *Client) Credential(ctx context.Context, q CredentialQuery) (Credential, error) {
	return ask[Credential](ctx, c, pathCredential, q, answerWithin)
}

// Route asks the control plane.
func (c *Client) Route(ctx context.Context, in Incoming) (Route, error) {
	return ask[Route](ctx, c, pathRoute, in, answerWithin)
}

// Register asks the control plane.
func (c *Client) Register(ctx context.Context, r Registration) (Registered, error) {
	return ask[Registered](ctx, c, pathRegister, r, answerWithin)
}

// Resolve asks the control plane.
func (c *Client) Resolve(ctx context.Context, q ResolveQuery) (Resolved, error) {
	return ask[Resolved](ctx, c, pathResolve, q, answerWithin)
}

// Media asks the control plane.
func (c *Client) Media(ctx context.Context, q MediaQuery) (MediaGrant, error) {
	return ask[MediaGrant](ctx, c, pathMedia, q, answerWithin)
}

// Upload asks the control plane.
func (c *Client) Upload(ctx context.Context, u Upload) (UploadGrant, error) {
	return ask[UploadGrant](ctx, c, pathUpload, u, answerWithin)
}

// Finish asks the control plane.
func (c *Client) Finish(ctx context.Context, f Finish) (Finished, error) {
	return ask[Finished](ctx, c, pathFinish, f, finishWithin)
}

// Publish asks the control plane.
func (c *Client) Publish(ctx context.Context, b Batch) (Published, error) {
	return ask[Published](ctx, c, pathPublish, b, answerWithin)
}

// Beat tells the control plane.
func (c *Client) Beat(ctx context.Context, b Beat) error {
	_, err := ask[struct{}](ctx, c, pathBeat, b, answerWithin)
	return err
}

func ask[A, Q any](ctx context.Context, c *Client, path string, q Q, within time.Duration) (A, error) {
	var a A
	body, err := json.Marshal(q)
	if err != nil {
		return a, fmt.Errorf("control %s: %w", path, err)
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	r, err := c.request(ctx, path, bytes.NewReader(body))
	if err != nil {
		return a, err
	}
	response, err := c.http.Do(r)
	if err != nil {
		return a, fmt.Errorf("control plane: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxMessage+1))
	switch {
	case err != nil:
		return a, fmt.Errorf("control plane: %w", err)
	case len(answer) > maxMessage:
		return a, fmt.Errorf("control %s: the answer is larger than %d bytes", path, maxMessage)
	case response.StatusCode != http.StatusOK:
		return a, refusal(response.StatusCode, answer)
	}
	if err := json.Unmarshal(answer, &a); err != nil {
		return a, fmt.Errorf("control %s: %w", path, err)
	}
	return a, nil
}

func (c *Client) request(ctx context.Context, path string, body io.Reader) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+path, body)
	if err != nil {
		return nil, fmt.Errorf("control %s: %w", path, err)
	}
	r.Header.Set("Authorization", "Bearer "+c.token)
	r.Header.Set("Content-Type", "application/json")
	return r, nil
}

// refusal reads the Error in an answer; an answer without one means that the control plane, or what stands before
// it, is away.
func refusal(status int, body []byte) error {
	var e Error
	if json.Unmarshal(body, &e) == nil && e.Code != "" {
		return &e
	}
	return fmt.Errorf("control plane: HTTP status %d", status)
}

// How long to wait between attempts to connect; each wait is drawn between half and one and a half of it, so that
// a thousand edges do not come back at once.
const (
	firstWait = 100 * time.Millisecond
	longWait  = 5 * time.Second
	workers   = 16 // commands carried out at a time
)

// Serve takes commands for the edge until ctx ends, and returns its cause. It connects again for as long as that
// takes; a token that is not accepted is logged, and tried again too, because tokens are rotated on the other side.
// A command that comes again, by whichever connection, is carried out once: see Once.
func (c *Client) Serve(ctx context.Context, id webhooks.EdgeID, e Edge) error {
	e = NewOnce(e)
	wait := firstWait
	for ctx.Err() == nil {
		began := time.Now()
		err := c.serveOnce(ctx, id, e)
		if ctx.Err() != nil {
			break
		}
		if time.Since(began) > longWait {
			wait = firstWait
		}
		c.log.Warn("control.disconnected", "edge_id", id, "error", err.Error(), "retry_in_ms", wait.Milliseconds())
		select {
		case <-ctx.Done():
		case <-time.After(wait/2 + rand.N(wait)):
		}
		wait = min(2*wait, longWait)
	}
	return context.Cause(ctx)
}

// serveOnce holds one connection.
func (c *Client) serveOnce(ctx context.Context, id webhooks.EdgeID, e Edge) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	body, replies := io.Pipe()
	// The transport waits in the request's body and looks at the context only after it; so the end of the context
	// has to end the body. Whoever still writes a reply is freed as well.
	context.AfterFunc(ctx, func() { _ = replies.CloseWithError(context.Cause(ctx)) })
	r, err := c.request(ctx, pathCommands, body)
	if err != nil {
		return err
	}
	r.Header.Set(edgeHeader, string(id))
	unanswered := time.AfterFunc(answerWithin, func() { cancel(errors.New("no answer from the control plane")) })
	response, err := c.http.Do(r)
	unanswered.Stop()
	if err != nil {
		return errors.Join(err, context.Cause(ctx))
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(response.Body, maxMessage))
		return refusal(response.StatusCode, text)
	}
	c.log.Info("control.connected", "edge_id", id)
	s := &commandServer{edge: e, out: replies, queue: make(chan taken, maxQueued)}
	err = s.run(ctx, cancel, response.Body)
	return errors.Join(err, context.Cause(ctx))
}

// commandServer carries out the commands of one connection.
type commandServer struct {
	edge  Edge
	queue chan taken

	mu  sync.Mutex // guards out
	out io.Writer
}

func (s *commandServer) run(ctx context.Context, cancel context.CancelCauseFunc, body io.ReadCloser) error {
	var all sync.WaitGroup
	defer all.Wait()
	defer close(s.queue)
	for range workers {
		all.Go(func() {
			for c := range s.queue {
				s.reply(cancel, replyTo(c.ID, s.carryOut(ctx, c)))
			}
		})
	}
	// A command that runs when the connection ends is told so.
	defer cancel(errors.New("the connection to the control plane ended"))
	silent := time.AfterFunc(silenceEnds, func() {
		cancel(errors.New("the control plane has been silent for too long"))
	})
	defer silent.Stop()
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, maxMessage)
	for lines.Scan() {
		silent.Reset(silenceEnds)
		var c taken
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			return fmt.Errorf("command: %w", err)
		}
		if c.TimeoutMS > 0 {
			c.until = time.Now().Add(time.Duration(c.TimeoutMS) * time.Millisecond)
		}
		if c.Ping {
			s.reply(cancel, reply{Pong: true})
			continue
		}
		select {
		case s.queue <- c:
		default:
			s.reply(cancel, replyTo(c.ID, &Error{Code: CodeBusy, Message: "this edge has too many commands waiting"}))
		}
	}
	return lines.Err()
}

// errLate is a command whose asker has gone: it is not carried out, so that nothing happens after it was said that nobody
// knows.
var errLate = errors.New("the command waited for longer than its asker")

func (s *commandServer) carryOut(ctx context.Context, c taken) error {
	if !c.until.IsZero() {
		if !time.Now().Before(c.until) {
			return errLate
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, c.until)
		defer cancel()
	}
	switch {
	case c.Originate != nil:
		return carry(ctx, c.Originate, s.edge.Originate)
	case c.Action != nil:
		return carry(ctx, c.Action, s.edge.Act)
	}
	return &Error{Code: CodeUnsupported, Message: "this edge does not know the command; it may be older than the control plane"}
}

func carry[T any](ctx context.Context, text json.RawMessage, do func(context.Context, T) error) error {
	var asked T
	if err := json.Unmarshal(text, &asked); err != nil {
		return &Error{Code: CodeUnsupported, Message: "this edge cannot read the command and may be older than the control plane: " + err.Error()}
	}
	return do(ctx, asked)
}

func (s *commandServer) reply(cancel context.CancelCauseFunc, r reply) {
	text, err := line(r)
	if err == nil {
		s.mu.Lock()
		_, err = s.out.Write(text)
		s.mu.Unlock()
	}
	if err != nil {
		cancel(fmt.Errorf("reply: %w", err))
	}
}
