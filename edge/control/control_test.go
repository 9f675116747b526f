package control_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/edge/control/controltest"
	"github.com/hookswitch/hookswitch/webhooks"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestInProcess(t *testing.T) {
	controltest.Suite(t, func(_ *testing.T, c control.Control, e control.Edge) (control.Control, control.Edge) { return c, e })
}

func TestOverHTTP2InClearText(t *testing.T) {
	controltest.Suite(t, func(t *testing.T, c control.Control, e control.Edge) (control.Control, control.Edge) {
		return join(t, c, e, false)
	})
}

func TestOverHTTP2WithTLS(t *testing.T) {
	controltest.Suite(t, func(t *testing.T, c control.Control, e control.Edge) (control.Control, control.Edge) {
		return join(t, c, e, true)
	})
}

const token = "edge_secret"

// plane is a control plane's listener for edges.
type plane struct {
	*httptest.Server
	attached chan control.Edge
	detached chan webhooks.EdgeID
}

func listen(t *testing.T, c control.Control, secure bool) *plane {
	t.Helper()
	p := &plane{attached: make(chan control.Edge, 10), detached: make(chan webhooks.EdgeID, 10)}
	h := &control.Handler{
		Control: c,
		Authorize: func(_ context.Context, given string) error {
			if given != token {
				return &control.Error{Code: control.CodeUnauthorized, Message: "the token is not accepted"}
			}
			return nil
		},
		Attach: func(id webhooks.EdgeID, e control.Edge) func() {
			p.attached <- e
			return func() { p.detached <- id }
		},
		Log: quiet(),
	}
	p.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 {
			t.Errorf("a request came over %s, want HTTP/2", r.Proto)
		}
		h.ServeHTTP(w, r)
	}))
	p.Config.Protocols = control.Protocols()
	if secure {
		p.EnableHTTP2 = true
		p.StartTLS()
	} else {
		p.Start()
	}
	t.Cleanup(p.Close)
	return p
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func (p *plane) client(t *testing.T, given string) *control.Client {
	t.Helper()
	cfg := control.ClientConfig{URL: p.URL, Token: given, Log: quiet()}
	if p.TLS != nil {
		roots := x509.NewCertPool()
		roots.AddCert(p.Certificate())
		cfg.TLS = &tls.Config{RootCAs: roots}
	}
	c, err := control.NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// serve runs the edge's end until the test ends, and before the listener closes.
func (p *plane) serve(t *testing.T, c *control.Client, e control.Edge) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		if err := c.Serve(ctx, "edge_1", e); !errors.Is(err, context.Canceled) {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(func() {
		cancel()
		done.Wait()
		<-p.detached
	})
}

func join(t *testing.T, c control.Control, e control.Edge, secure bool) (control.Control, control.Edge) {
	p := listen(t, c, secure)
	client := p.client(t, token)
	p.serve(t, client, e)
	return client, <-p.attached
}

func TestAWrongTokenIsUnauthorized(t *testing.T) {
	p := listen(t, &controltest.Control{}, false)
	err := p.client(t, "edge_guess").Beat(t.Context(), control.Beat{})
	if control.CodeOf(err) != control.CodeUnauthorized {
		t.Errorf("Beat with a wrong token: %v", err)
	}
}

func TestAnAbsentControlPlaneIsNoRefusal(t *testing.T) {
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := gone.Addr().String()
	if err := gone.Close(); err != nil {
		t.Fatal(err)
	}
	c, err := control.NewClient(control.ClientConfig{URL: "http://" + address, Token: token, Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Beat(t.Context(), control.Beat{}); err == nil || control.CodeOf(err) != "" {
		t.Errorf("Beat: %v, want an error without code", err)
	}
}

func TestAnEdgeComesBackAfterItsConnectionBroke(t *testing.T) {
	p := listen(t, &controltest.Control{}, false)
	acted := make(chan webhooks.CallID, 1)
	p.serve(t, p.client(t, token), &controltest.Edge{OnAct: func(_ context.Context, a control.Action) error {
		acted <- a.CallID
		return nil
	}})
	first := <-p.attached
	p.CloseClientConnections()
	if id := <-p.detached; id != "edge_1" {
		t.Errorf("%s was detached", id)
	}
	if err := first.Act(t.Context(), control.Action{}); err == nil || control.CodeOf(err) != "" {
		t.Errorf("a command to the connection that is gone: %v", err)
	}
	second := <-p.attached
	if err := second.Act(t.Context(), control.Action{CallID: "call_2"}); err != nil {
		t.Fatal(err)
	}
	if id := <-acted; id != "call_2" {
		t.Errorf("the edge was asked for %s", id)
	}
}

func TestACommandKnowsHowLongItsAskerWaits(t *testing.T) {
	_, e := join(t, &controltest.Control{}, &controltest.Edge{OnAct: func(ctx context.Context, _ control.Action) error {
		if _, ok := ctx.Deadline(); !ok {
			return errors.New("no deadline")
		}
		return nil
	}}, false)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := e.Act(ctx, control.Action{}); err != nil {
		t.Error(err)
	}
}

func TestCommandsAboveTheBoundAreRefusedAsBusy(t *testing.T) {
	release := make(chan struct{})
	_, e := join(t, &controltest.Control{}, &controltest.Edge{OnAct: func(context.Context, control.Action) error {
		<-release
		return nil
	}}, false)
	const many = 600 // more than are carried out and queued on both sides together
	results := make(chan error, many)
	var all sync.WaitGroup
	for range many {
		all.Go(func() { results <- e.Act(t.Context(), control.Action{}) })
	}
	if err := <-results; control.CodeOf(err) != control.CodeBusy {
		t.Errorf("the first result is %v, want busy", err)
	}
	close(release)
	all.Wait()
	close(results)
	for err := range results {
		if err != nil && control.CodeOf(err) != control.CodeBusy {
			t.Errorf("a command: %v", err)
		}
	}
}

func TestMessagesThatCannotBeReadAreInvalid(t *testing.T) {
	p := listen(t, &controltest.Control{}, false)
	transport := &http.Transport{Protocols: control.Protocols()}
	defer transport.CloseIdleConnections()
	for body, want := range map[string]int{
		`{"edge_id":7}`: http.StatusBadRequest,
		`not JSON`:      http.StatusBadRequest,
		`{"edge_id":"` + strings.Repeat("x", 5<<20) + `"}`: http.StatusBadRequest,
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.URL+"/control/v1/beat", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		response, err := transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		answer, _ := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("%.40s: %d %s, want %d", body, response.StatusCode, answer, want)
		}
	}
}
