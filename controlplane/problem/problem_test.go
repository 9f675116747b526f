package problem_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/controlplane/problem"
)

func TestWriteIsRFC9457(t *testing.T) {
	w := httptest.NewRecorder()
	err := fmt.Errorf("create: %w", problem.InvalidField("/voice_url", "url.scheme", "must be https, is %q", "ftp"))
	if status := problem.Write(w, "req_1", err); status != http.StatusBadRequest || w.Code != status {
		t.Errorf("status %d, written %d", status, w.Code)
	}
	if got := w.Header().Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("Content-Type %q", got)
	}
	want := `{"type":"/docs/problems#invalid","title":"The request is not valid","status":400,` +
		`"detail":"/voice_url: must be https, is \"ftp\"","errors":[{"pointer":"/voice_url","code":"url.scheme","message":"must be https, is \"ftp\""}],"request_id":"req_1"}`
	if got := strings.TrimSpace(w.Body.String()); got != want {
		t.Errorf("got\n%s, want\n%s", got, want)
	}
}

func TestAnythingElseIsA500ThatSaysNothing(t *testing.T) {
	for _, err := range []error{errors.New("SELECT secret"), nil, problem.New("no_such_code", "SELECT secret")} {
		w := httptest.NewRecorder()
		if status := problem.Write(w, "req_1", err); status != http.StatusInternalServerError {
			t.Errorf("%v: status %d", err, status)
		}
		if strings.Contains(w.Body.String(), "SELECT") || !json.Valid(w.Body.Bytes()) {
			t.Errorf("%v: %s", err, w.Body)
		}
	}
}

func TestEveryConstructorHasItsStatus(t *testing.T) {
	for _, c := range []struct {
		p    *problem.Problem
		want int
	}{
		{problem.Invalid("d"), 400}, {problem.Unauthenticated("d"), 401}, {problem.Forbidden("calls.read"), 403}, {problem.NotFound("d"), 404},
		{problem.NoSuch("call_1"), 404}, {problem.Conflict("d"), 409}, {problem.Precondition(), 412}, {problem.TooLarge(5), 413},
		{problem.Refused("d"), 422}, {problem.RefusedField("/a", "c", "m"), 422}, {problem.TooMany("d", time.Second), 429}, {problem.Unavailable("d", time.Second), 503},
	} {
		if c.p.Status != c.want || c.p.Title == "" || c.p.Detail == "" || !strings.HasPrefix(c.p.Error(), string(c.p.Code)) {
			t.Errorf("got %+v, want %d", c.p, c.want)
		}
	}
}

func TestRetryAfterIsWholeSecondsRoundedUp(t *testing.T) {
	for wait, want := range map[time.Duration]string{time.Millisecond: "1", time.Second: "1", 1500 * time.Millisecond: "2", 0: ""} {
		w := httptest.NewRecorder()
		problem.Write(w, "", problem.TooMany("wait", wait))
		if got := w.Header().Get("Retry-After"); got != want {
			t.Errorf("%s: got %q, want %q", wait, got, want)
		}
	}
}

func TestEveryCodeIsExplained(t *testing.T) {
	page, err := os.ReadFile("../../openapi/docs/problems.html")
	if err != nil {
		t.Fatal(err)
	}
	for _, code := range problem.Codes() {
		if !strings.Contains(string(page), fmt.Sprintf("<h2 id=%q>", code)) {
			t.Errorf("the page of problems has no section %s", code)
		}
	}
}
