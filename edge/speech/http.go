package speech

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
)

// HTTP is a speech service behind one endpoint: POST of a Request as JSON, answered with audio/wav. The endpoint is the
// operator's own configuration, so its address is not guarded. A nil Client is the standard transport's.
type HTTP struct {
	URL    string
	Header http.Header // sent with every request: Authorization, an API key
	Client *http.Client
}

// Synthesize asks the endpoint once, within 15 s.
func (h HTTP) Synthesize(ctx context.Context, r Request) ([]byte, error) {
	if err := r.Check(); err != nil {
		return nil, err
	}
	body, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode the speech request: %w", err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeLimit, errTimeLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.URL, bytes.NewReader(body))
	if err != nil {
		return nil, failed("the speech service's URL is malformed", err)
	}
	for name, values := range h.Header {
		req.Header[http.CanonicalHeaderKey(name)] = values
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "audio/wav")
	resp, err := h.client().Do(req)
	if err != nil {
		return nil, unanswered(ctx, err)
	}
	defer resp.Body.Close()
	return readAnswer(ctx, resp)
}

func (h HTTP) client() *http.Client {
	if h.Client == nil {
		return &http.Client{Timeout: timeLimit}
	}
	return h.Client
}

func readAnswer(ctx context.Context, resp *http.Response) ([]byte, error) {
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return nil, failed(fmt.Sprintf("the speech service answered %d", resp.StatusCode), nil)
	}
	if kind := resp.Header.Get("Content-Type"); !isWAV(kind) {
		return nil, failed(fmt.Sprintf("the speech service answered with %.64q instead of audio/wav", kind), nil)
	}
	audio, err := io.ReadAll(io.LimitReader(resp.Body, MaxAudio+1))
	switch {
	case err != nil:
		return nil, unanswered(ctx, err)
	case len(audio) > MaxAudio:
		return nil, errTooMuch
	case len(audio) == 0:
		return nil, failed("the speech service answered with no audio", nil)
	}
	return audio, nil
}

// isWAV also takes a service that does not say what it sends: the decoder will see.
func isWAV(contentType string) bool {
	kind, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return contentType == ""
	}
	switch strings.ToLower(kind) {
	case "audio/wav", "audio/x-wav", "audio/wave", "audio/vnd.wave", "application/octet-stream":
		return true
	}
	return false
}

// engineError is an engine's failure: one sentence for the application, and what happened for the operator.
type engineError struct {
	text string
	err  error
}

func (e *engineError) Error() string { return e.text }
func (e *engineError) Unwrap() error { return e.err }

func failed(text string, err error) error { return &engineError{text: text, err: err} }

var (
	errTimeLimit = errors.New("the speech engine did not finish within 15 s")
	errTooMuch   = errors.New("the speech engine made more than 32 MB of audio; say less at once")
)

// unanswered is why no whole answer came: our time limit, the caller's context, or the network.
func unanswered(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return failed("the speech service did not answer", err)
}
