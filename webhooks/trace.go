package webhooks

import (
	"crypto/rand"
	"encoding/hex"
	"strings"

	"github.com/oklog/ulid/v2"
)

// traceparent is the header of W3C Trace Context, level 1. The trace id is the call's own 128 bits, so that every
// request of one call is one trace; each attempt is a span of its own.
func traceparent(call CallID) string {
	trace := TraceID(call)
	var span [8]byte
	_, _ = rand.Read(span[:]) // never fails (crypto/rand)
	return "00-" + hex.EncodeToString(trace[:]) + "-" + hex.EncodeToString(span[:]) + "-01"
}

// TraceID is the trace of a call: the 128 bits of its id, random ones where the id is not one of ours.
func TraceID(call CallID) (trace [16]byte) {
	_, text, _ := strings.Cut(string(call), "_")
	id, err := ulid.ParseStrict(text)
	if err != nil {
		_, _ = rand.Read(trace[:]) // never fails (crypto/rand)
		return trace
	}
	return id
}
