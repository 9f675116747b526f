package control_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
)

// deadlines is the server's end of a stream, which HTTP/2 would reset when the deadline passes.
type deadlines struct {
	*httptest.ResponseRecorder

	mu     sync.Mutex
	until  time.Time
	writes int
}

func (d *deadlines) Flush() {}

func (d *deadlines) Write(b []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.writes += bytes.Count(b, []byte("\n"))
	return len(b), nil
}

func (d *deadlines) SetWriteDeadline(until time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.until = until
	return nil
}

func TestAnIdleStreamHasNoDeadlineToPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &control.Handler{
			Authorize: func(context.Context, string) error { return nil },
			Attach:    func(webhooks.EdgeID, control.Edge) func() { return func() {} }, Log: quiet(),
		}
		ctx, end := context.WithCancel(t.Context())
		body, edge := io.Pipe()
		r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/control/v1/commands", body)
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header.Set("Hookswitch-Edge", "edge_1")
		w := &deadlines{ResponseRecorder: httptest.NewRecorder()}
		var served sync.WaitGroup
		served.Go(func() { h.ServeHTTP(w, r) })
		for range 30 {
			<-time.After(time.Second) // virtual: pings are written meanwhile
			synctest.Wait()
			w.mu.Lock()
			if !w.until.IsZero() {
				t.Errorf("a deadline is left after %d writes", w.writes)
			}
			w.mu.Unlock()
			if _, err := io.WriteString(edge, `{"pong":true}`+"\n"); err != nil {
				t.Fatal(err)
			}
		}
		end()
		_ = edge.Close()
		served.Wait()
		if w.Code != http.StatusOK || w.writes < 3 {
			t.Errorf("status %d, %d writes", w.Code, w.writes)
		}
	})
}
