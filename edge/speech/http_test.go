package speech

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
)

func service(t *testing.T, answer http.HandlerFunc) HTTP {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	return HTTP{URL: server.URL, Client: server.Client()}
}

func TestHTTPAsksWithTheWholeRequest(t *testing.T) {
	want := Request{Text: "您好", Voice: "xiaoxiao", Language: "zh-CN"}
	file := []byte("RIFF…")
	s := service(t, func(w http.ResponseWriter, r *http.Request) {
		var body map[string]string
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			t.Error(err)
		}
		if r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" || r.Header.Get("Authorization") != "Bearer k" {
			t.Errorf("%s %v", r.Method, r.Header)
		}
		if !reflect.DeepEqual(body, map[string]string{"text": "您好", "voice": "xiaoxiao", "language": "zh-CN"}) {
			t.Errorf("body %v", body)
		}
		w.Header().Set("Content-Type", "audio/x-wav; charset=binary")
		_, _ = w.Write(file)
	})
	s.Header = http.Header{"Authorization": {"Bearer k"}}
	got, err := s.Synthesize(t.Context(), want)
	if err != nil || !bytes.Equal(got, file) {
		t.Errorf("%q, %v", got, err)
	}
}

func TestHTTPFailuresAreSentences(t *testing.T) {
	for _, tc := range []struct {
		name   string
		answer http.HandlerFunc
		says   string
	}{
		{"status", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "the key is wrong", http.StatusForbidden) }, "answered 403"},
		{"web page", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }, "text/html"},
		{"nothing", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Type", "audio/wav") }, "no audio"},
		{"cut off", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "audio/wav")
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte("RIFF"))
		}, "did not answer"},
		{"endless", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "audio/wav")
			block := make([]byte, 1<<20)
			for range MaxAudio>>20 + 1 {
				if _, err := w.Write(block); err != nil {
					return
				}
			}
		}, "more than 32 MB"},
	} {
		_, err := service(t, tc.answer).Synthesize(t.Context(), Request{Text: "a"})
		if err == nil || errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), tc.says) || strings.Contains(err.Error(), "key") {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	if _, err := (HTTP{URL: server.URL}).Synthesize(t.Context(), Request{Text: "a"}); err == nil || strings.Contains(err.Error(), "127.0.0.1") {
		t.Errorf("nobody there: %v", err)
	}
	if _, err := (HTTP{URL: "://"}).Synthesize(t.Context(), Request{Text: "a"}); err == nil {
		t.Error("malformed URL was taken")
	}
}

func TestHTTPEndsWithTheContext(t *testing.T) {
	why := errors.New("caller hung up")
	ctx, cancel := context.WithCancelCause(t.Context())
	s := service(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then does the server see that the client is gone
		cancel(why)
		<-r.Context().Done()
	})
	if _, err := s.Synthesize(ctx, Request{Text: "a"}); !errors.Is(err, why) {
		t.Errorf("canceled: %v", err)
	}
}
