package guard

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"syscall"
)

// Class is the kind of a failure, in one word that an account may see.
type Class string

// The classes of failure.
const (
	ClassURL      Class = "url"      // not a URL we fetch
	ClassDenied   Class = "denied"   // the address is not public and not allowed
	ClassDNS      Class = "dns"      // the name was not resolved
	ClassConnect  Class = "connect"  // no connection, or not in time
	ClassTLS      Class = "tls"      // no TLS, or no valid certificate
	ClassTimeout  Class = "timeout"  // connected, and no complete answer in time
	ClassReset    Class = "reset"    // the connection ended before the answer did
	ClassProtocol Class = "protocol" // the answer is not HTTP, or its header is too large
	ClassRedirect Class = "redirect" // too many redirects, or one to nowhere
	ClassBody     Class = "body"     // the body is too large or wrongly encoded
	ClassCanceled Class = "canceled" // our side gave up
)

// Error is a failed Fetch. Its text says what happened in one sentence without a full stop, is fit for the account
// that gave the URL, and is the same for every denied address, so that it is no port scanner. What the network
// said is behind Unwrap, for the operator.
type Error struct {
	Class Class
	Text  string
	err   error
}

// Error returns the sentence.
func (e *Error) Error() string { return e.Text }

// Unwrap returns the underlying error, or nil.
func (e *Error) Unwrap() error { return e.err }

const deniedText = "the address is not allowed: it is private, loopback, link-local or reserved; ask the operator to allow its network"

// sentences are the texts of failures that the network decides.
var sentences = map[Class]string{
	ClassDNS:      "the host name was not resolved",
	ClassConnect:  "the host did not accept the connection",
	ClassTLS:      "no TLS connection: the certificate or the protocol is not valid",
	ClassTimeout:  "no complete answer came in time",
	ClassReset:    "the connection was closed before the answer was complete",
	ClassProtocol: "the answer is not HTTP, or its header is larger than 16 kB",
	ClassBody:     "the body is not readable in the encoding it claims",
	ClassCanceled: "the request was canceled",
}

func failure(class Class, err error) *Error {
	return &Error{Class: class, Text: sentences[class], err: err}
}

// The causes with which an attempt's context ends before its caller's.
var (
	errConnectTimeout = &Error{Class: ClassConnect, Text: "no connection in time"}
	errReadTimeout    = &Error{Class: ClassTimeout, Text: "no answer began in time"}
)

// classify turns what http.Client said into an *Error; reached is how far the request got.
func classify(ctx context.Context, reached phase, err error) *Error {
	if ours, ok := errors.AsType[*Error](err); ok {
		return ours
	}
	if ctx.Err() != nil {
		return ended(ctx)
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return failure(ClassDNS, err)
	}
	if isTLS(err) {
		return failure(ClassTLS, err)
	}
	if isTimeout(err) {
		// Only the dialler and the handshake have limits of their own.
		return failure(ClassConnect, err)
	}
	switch reached {
	case phaseHandshake:
		if isReset(err) {
			return failure(ClassReset, err)
		}
		return failure(ClassTLS, err)
	case phaseConnecting:
		return failure(ClassConnect, err)
	case phaseAnswered:
		if !isReset(err) {
			return failure(ClassProtocol, err)
		}
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return failure(ClassConnect, err)
	}
	return failure(ClassReset, err)
}

// ended says why an attempt's context is over.
func ended(ctx context.Context) *Error {
	cause := context.Cause(ctx)
	if ours, ok := errors.AsType[*Error](cause); ok {
		return ours
	}
	if errors.Is(cause, context.DeadlineExceeded) {
		return failure(ClassTimeout, cause)
	}
	return failure(ClassCanceled, cause)
}

func isTimeout(err error) bool {
	t, ok := errors.AsType[net.Error](err)
	return ok && t.Timeout()
}

func isReset(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, net.ErrClosed)
}

func isTLS(err error) bool {
	if errors.Is(err, http.ErrSchemeMismatch) {
		return true
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return true
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return true
	}
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "remote error" // an alert of the other side (crypto/tls)
}

func tlsConfig(roots *x509.CertPool) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
}
