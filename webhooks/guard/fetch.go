package guard

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"time"
)

// maxConnectTimeout is the longest a request may wait for its connection.
const maxConnectTimeout = 10 * time.Second

// Request is one request and the redirects that follow from it.
type Request struct {
	Method string // GET when empty
	URL    string
	Header http.Header
	Body   []byte

	MaxBody        int64          // of the response, after decompression; DefaultMaxBody when zero
	ConnectTimeout time.Duration  // the client's when zero; at most 10 s
	ReadTimeout    time.Duration  // from the sent request to the first byte of its answer; no limit but ctx when zero
	NoRedirects    bool           // a redirect is the answer
	Jar            http.CookieJar // sends and keeps cookies; none when nil

	// Sign is called before the request and before each redirect it leads to, with what is about to be sent, and
	// adds headers to it. After 301, 302 and 303 a POST has become a GET without body (RFC 9110 §15.4).
	Sign func(method string, u *url.URL, body []byte, header http.Header)
}

// Response is the final answer.
type Response struct {
	Status int
	Header http.Header
	Body   []byte
	URL    string // that answered, after redirects, without fragment
	// Redirected says that URL is one the other side named.
	Redirected bool
}

// Fetch sends the request, follows up to three redirects and reads the body. The context's deadline holds for all of
// it, however slowly the body drips. The error is an *Error; when the header had arrived (the body is too large, or
// ended early), Status, Header and URL are set beside it. A status other than 2xx is no error.
func (c *Client) Fetch(ctx context.Context, r Request) (Response, error) {
	u, err := ParseURL(r.URL)
	if err != nil {
		return Response{}, err
	}
	if err := c.checkLiteral(u); err != nil {
		return Response{}, err
	}
	u.Fragment, u.RawFragment = "", ""

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	w := c.watch(r, cancel)
	defer w.stop()

	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, w.trace()), method(r), u.String(), bytes.NewReader(r.Body))
	if err != nil {
		return Response{}, &Error{Class: ClassURL, Text: "the URL is malformed", err: err}
	}
	if r.Header != nil {
		req.Header = r.Header.Clone()
	}
	if req.Header.Get("User-Agent") == "" {
		req.Header.Set("User-Agent", "Hookswitch/1")
	}
	sign(r, req)
	client := http.Client{Transport: c.transport, Jar: r.Jar, CheckRedirect: c.redirect(r)}
	resp, err := client.Do(req)
	if err != nil {
		return Response{}, classify(ctx, w.reached(), err)
	}
	defer resp.Body.Close()
	out := Response{Status: resp.StatusCode, Header: resp.Header, URL: resp.Request.URL.String(), Redirected: resp.Request.Response != nil}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return out, failure(ClassProtocol, nil)
	}
	out.Body, err = readBody(ctx, resp, r.MaxBody)
	return out, err
}

func method(r Request) string {
	if r.Method == "" {
		return http.MethodGet
	}
	return r.Method
}

func sign(r Request, req *http.Request) {
	if r.Sign == nil {
		return
	}
	var body []byte
	if req.ContentLength > 0 {
		body = r.Body
	}
	r.Sign(req.Method, req.URL, body, req.Header)
}

// redirect is http.Client's CheckRedirect: req is about to be sent because of via.
func (c *Client) redirect(r Request) func(req *http.Request, via []*http.Request) error {
	return func(req *http.Request, via []*http.Request) error {
		if r.NoRedirects {
			return http.ErrUseLastResponse
		}
		if len(via) > MaxRedirects {
			return &Error{Class: ClassRedirect, Text: "there are more than 3 redirects"}
		}
		if err := checkURL(req.URL); err != nil {
			return &Error{Class: ClassRedirect, Text: "it redirects to a URL that is not allowed", err: err}
		}
		if err := c.checkLiteral(req.URL); err != nil {
			return err
		}
		// The URL that redirected may hold what the next host must not see: a GET carries the call in its query.
		req.Header.Del("Referer")
		if req.Body == nil || req.Body == http.NoBody {
			req.Header.Del("Content-Type")
		}
		req.URL.Fragment, req.URL.RawFragment = "", ""
		sign(r, req)
		return nil
	}
}

// readBody reads at most limit bytes of what the transport has decompressed, so that a gzip bomb ends there, too.
func readBody(ctx context.Context, resp *http.Response, limit int64) ([]byte, error) {
	if limit == 0 {
		limit = DefaultMaxBody
	}
	if enc := resp.Header.Get("Content-Encoding"); enc != "" && enc != "identity" {
		return nil, &Error{Class: ClassBody, Text: "the body has a Content-Encoding that was not asked for"}
	}
	if resp.ContentLength > limit {
		return nil, tooLarge(limit)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	switch {
	case int64(len(body)) > limit:
		return nil, tooLarge(limit)
	case err == nil:
		return body, nil
	case ctx.Err() != nil:
		return nil, ended(ctx)
	case resp.Uncompressed && !isReset(err) && !isTimeout(err):
		return nil, failure(ClassBody, err)
	}
	return nil, failure(ClassReset, err)
}
