package webhooktest

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"syscall"

	"github.com/hookswitch/hookswitch/webhooks"
	"github.com/hookswitch/hookswitch/webhooks/guard"
)

// Start serves the application on a port of 127.0.0.1 and sets URL.
func (a *App) Start() {
	s := httptest.NewServer(a)
	a.URL = s.URL
	a.t.Cleanup(func() { a.stop(); s.Close() })
}

// Client returns a client that reaches the application over real sockets; the guard allows loopback.
func (a *App) Client() *webhooks.Client {
	return a.client(guard.Config{AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}})
}

// MemoryClient returns a client that reaches the application in memory, for tests in virtual time.
func (a *App) MemoryClient() *webhooks.Client {
	return a.client(guard.Config{Transport: a.Transport()})
}

func (a *App) client(cfg guard.Config) *webhooks.Client {
	g := guard.New(cfg)
	a.t.Cleanup(g.Close)
	return webhooks.NewClient(webhooks.ClientConfig{Guard: g})
}

// Transport returns a transport on which every host is this application: real HTTP over connections in memory, so that
// it works inside a synctest bubble. Both ends are gone when the test ends.
func (a *App) Transport() http.RoundTripper {
	l := &listener{conns: make(chan net.Conn), closed: make(chan struct{})}
	s := &http.Server{Handler: a}
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.Serve(l) }) // ends with Close
	transport := &http.Transport{
		MaxResponseHeaderBytes: guard.MaxHeaderBytes,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			switch refused, ignored := a.connection(); {
			case refused:
				return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
			case ignored:
				select {
				case <-ctx.Done():
					return nil, ctx.Err()
				case <-a.closing:
					return nil, net.ErrClosed
				}
			}
			return l.dial(ctx)
		},
	}
	a.t.Cleanup(func() {
		a.stop()
		transport.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			a.t.Errorf("the application still answers at the end of the test: %v", err)
		}
		serving.Wait()
	})
	return transport
}

// Refuse makes the next n connections in memory fail at once; Ignore leaves them without an answer.
func (a *App) Refuse(n int) { a.mu.Lock(); defer a.mu.Unlock(); a.refuse = n }

// Ignore leaves the next n connections in memory without an answer.
func (a *App) Ignore(n int) { a.mu.Lock(); defer a.mu.Unlock(); a.ignore = n }

func (a *App) connection() (refused, ignored bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.refuse > 0:
		a.refuse--
		return true, false
	case a.ignore > 0:
		a.ignore--
		return false, true
	}
	return false, false
}

// listener accepts connections in memory.
type listener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *listener) dial(ctx context.Context) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case l.conns <- theirs:
		return ours, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *listener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4zero} }
