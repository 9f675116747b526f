package smpp

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// Config says which message centre, and how. Texts are ASCII without control characters; whoever makes it checks that.
type Config struct {
	// Dial connects, with TLS where there is any.
	Dial        func(ctx context.Context) (net.Conn, error)
	SystemID    string
	Password    string
	SystemType  string
	ServiceType string
	// SAR says which part of a text a message is in parameters of its own, instead of in a header of the message itself.
	SAR bool
	// Window is how many messages may be unanswered at once; 10 when zero.
	Window int
	// EnquireLink is how often the link is checked; 30 s when zero.
	EnquireLink time.Duration
	// AnswerWithin is how long an answer may take; 10 s when zero. BindWithin is the same for all of connecting and binding.
	AnswerWithin time.Duration
	BindWithin   time.Duration
	// Backoff is the first wait after a session that failed; 1 s when zero. It doubles up to 64 of it.
	Backoff time.Duration
	// Deliver takes what comes from the message centre, one after the other. When it fails, the same comes again.
	Deliver func(ctx context.Context, d Delivery) error
	// State, where set, is told each time a session begins, with nil, and of each that ended or failed to begin.
	State func(err error)
	Log   *slog.Logger
}

func (c Config) withDefaults() Config {
	for field, fallback := range map[*time.Duration]time.Duration{
		&c.EnquireLink: 30 * time.Second, &c.AnswerWithin: 10 * time.Second, &c.BindWithin: 20 * time.Second, &c.Backoff: time.Second,
	} {
		if *field == 0 {
			*field = fallback
		}
	}
	if c.Window == 0 {
		c.Window = 10
	}
	if c.State == nil {
		c.State = func(error) {}
	}
	return c
}

// Client keeps a session with one message centre. It is safe for concurrent use.
type Client struct {
	cfg Config

	mu      sync.Mutex // guards current
	current *session
}

// New makes a client, which has no session until it runs.
func New(cfg Config) *Client { return &Client{cfg: cfg.withDefaults()} }

// maxDoublings bounds the wait between two sessions, and steady is how long a session must last for the next wait to be
// the first again.
const (
	maxDoublings = 6
	steady       = 30 * time.Second
)

// Run binds, and binds again when a session ends, until ctx ends. It then unbinds, and waits until the connection is gone.
// It returns nil.
func (c *Client) Run(ctx context.Context) error {
	for failures := 0; ctx.Err() == nil; failures++ {
		began := time.Now()
		bound, err := c.serve(ctx)
		if bound && time.Since(began) >= steady {
			failures = 0
		}
		if ctx.Err() == nil {
			c.cfg.State(err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait(c.cfg.Backoff, failures)):
		}
	}
	return nil
}

// wait is a fifth more or less than what it should be, so that what failed together does not come back together.
func wait(first time.Duration, failures int) time.Duration {
	pause := first << min(failures, maxDoublings)
	return pause + time.Duration((rand.Float64()-0.5)*0.4*float64(pause))
}

// serve has one session.
func (c *Client) serve(ctx context.Context) (bound bool, err error) {
	s, err := bind(ctx, c.cfg)
	if err != nil {
		return false, err
	}
	c.set(s)
	c.cfg.State(nil)
	err = s.run(ctx)
	c.set(nil)
	return true, err
}

func (c *Client) set(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.current = s
}

func (c *Client) session() *session {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.current
}

// Bound reports whether there is a session.
func (c *Client) Bound() bool { return c.session() != nil }

// Submit sends one short message within the window, and gives the message centre's id of it. The error is a Status when
// the message centre refused it, wraps ErrUnanswered when nobody knows, and is anything else when it was not sent.
func (c *Client) Submit(ctx context.Context, m Message) (string, error) {
	s := c.session()
	if s == nil {
		return "", ErrUnbound
	}
	return s.submit(ctx, m)
}

// Explain says in a sentence, fit for whoever named the message centre, why there is no session.
func Explain(err error) string {
	status, refused := errors.AsType[Status](err)
	op, network := errors.AsType[*net.OpError](err)
	_, unresolved := errors.AsType[*net.DNSError](err)
	switch {
	case err == nil:
		return ""
	case refused && (status == WrongPassword || status == WrongSystemID || status == BindFailed):
		return "the message centre refused the system id or the password (" + status.Name() + ")"
	case refused:
		return "the message centre refused to bind: " + status.Name()
	case unresolved:
		return "the host name was not resolved"
	case network && op.Op == "dial":
		return "the host did not accept the connection"
	case errors.Is(err, ErrUnanswered), errors.Is(err, context.DeadlineExceeded):
		return "the message centre did not answer in time"
	case errors.Is(err, errLength), errors.Is(err, errBody):
		return err.Error()
	}
	return "the connection to the message centre was lost"
}
