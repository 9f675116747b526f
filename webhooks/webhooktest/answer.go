package webhooktest

import (
	"encoding/json"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/hookswitch/hookswitch/webhooks"
)

// Response is an answer given literally.
type Response struct {
	Status      int // 200 when 0
	ContentType string
	Header      http.Header
	Body        string
}

// Behaviour is a way to answer that is not a program. Those that end early do so when the caller has gone.
type Behaviour struct {
	do func(a *App, w http.ResponseWriter, req *http.Request, r Request)
}

// Hang never answers.
func Hang() Behaviour {
	return Behaviour{func(a *App, _ http.ResponseWriter, req *http.Request, _ Request) { a.linger(req, 0) }}
}

// Slow waits before it answers.
func Slow(d time.Duration, then any) Behaviour {
	return Behaviour{func(a *App, w http.ResponseWriter, req *http.Request, r Request) {
		if a.linger(req, d) {
			a.write(w, req, then, r)
		}
	}}
}

// Drip sends one byte of the body each interval.
func Drip(interval time.Duration, body string) Behaviour {
	return Behaviour{func(a *App, w http.ResponseWriter, req *http.Request, _ Request) {
		w.Header().Set("Content-Type", "application/json")
		flush := http.NewResponseController(w).Flush
		for i := range len(body) {
			if _, err := io.WriteString(w, body[i:i+1]); err != nil || flush() != nil || !a.linger(req, interval) {
				return
			}
		}
	}}
}

// Reset closes the connection without an answer: with RST over TCP.
func Reset() Behaviour {
	return Behaviour{func(a *App, w http.ResponseWriter, _ *http.Request, _ Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			a.t.Errorf("reset: %v", err)
			return
		}
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // the connection is closed either way
		}
		_ = conn.Close()
	}}
}

// Redirect answers with the status (301, 302, 303, 307, 308) and a Location.
func Redirect(status int, location string) Response {
	return Response{Status: status, Header: http.Header{"Location": {location}}}
}

// Status answers with a status and no body.
func Status(status int) Response { return Response{Status: status} }

// Garbage answers 200 with a body that claims to be JSON.
func Garbage() Response {
	return Response{ContentType: "application/json", Body: "\x00\xff{{{ not json"}
}

// Oversized answers 200 with a JSON body larger than a program may be.
func Oversized() Response {
	return Response{ContentType: "application/json", Body: `{"instructions":[],"x_fill":"` + strings.Repeat("x", webhooks.MaxProgramBytes) + `"}`}
}

// linger reports whether d passed before the caller or the test was gone; 0 is for ever.
func (a *App) linger(req *http.Request, d time.Duration) bool {
	var passed <-chan time.Time
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		passed = t.C
	}
	select {
	case <-passed:
		return true
	case <-req.Context().Done():
	case <-a.closing:
	}
	return false
}

func (a *App) write(w http.ResponseWriter, req *http.Request, answer any, r Request) {
	switch x := answer.(type) {
	case nil:
		w.WriteHeader(http.StatusNoContent)
	case string:
		a.send(w, Response{ContentType: typeOf(x), Body: x})
	case Response:
		a.send(w, x)
	case Behaviour:
		x.do(a, w, req, r)
	case func(Request) any:
		a.write(w, req, x(r), r)
	case []webhooks.Instruction:
		a.write(w, req, webhooks.Program{Instructions: x}, r)
	default:
		body, err := json.Marshal(x)
		if err != nil {
			a.t.Errorf("an answer to %s: %v", r.Path, err)
		}
		a.send(w, Response{ContentType: "application/json", Body: string(body)})
	}
}

func (a *App) send(w http.ResponseWriter, x Response) {
	maps.Copy(w.Header(), x.Header)
	if x.ContentType != "" {
		w.Header().Set("Content-Type", x.ContentType)
	}
	if x.Status == 0 {
		x.Status = http.StatusOK
	}
	w.WriteHeader(x.Status)
	_, _ = io.WriteString(w, x.Body) // the caller may have gone
}

func typeOf(body string) string {
	switch {
	case strings.HasPrefix(body, "{"), strings.HasPrefix(body, "["):
		return "application/json"
	case strings.HasPrefix(body, "<"):
		return "text/xml; charset=utf-8"
	}
	return "text/plain; charset=utf-8"
}
