package webhooks

import (
	"bytes"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/hookswitch/hookswitch/webhooks/guard"
)

// ReplyKind says how an answer is to be read.
type ReplyKind string

// The kinds of answer.
const (
	ReplyProgram ReplyKind = "program" // JSON, plain text or nothing: Program is ready to run
	ReplyXML     ReplyKind = "xml"     // Body is TwiML, for twiml.Parse with URL as its base
	ReplyAudio   ReplyKind = "audio"   // Program plays URL; Body is the audio itself where it fits
)

// Reply is an application's usable answer.
type Reply struct {
	Kind        ReplyKind
	Program     Program // of ReplyProgram and ReplyAudio
	Body        []byte  // as it was received; nil for audio of more than 256 KiB
	ContentType string  // as it was received
	URL         string  // that answered, after redirects: the base of relative URLs
	Status      int
}

// Rejected makes the error of an answer in XML that could not be compiled; problem is twiml.Parse's.
func (r Reply) Rejected(problem error) *RejectedError {
	e := &RejectedError{Message: problem.Error(), URL: r.URL, Status: r.Status}
	if p, ok := errors.AsType[*ProgramError](problem); ok {
		e.Pointer, e.Message = p.Pointer, p.Message
	}
	return e
}

// classify reads a 2xx response by its Content-Type and, where frameworks are known to send a wrong one, by how the
// body begins. The error is a *RejectedError.
func classify(resp guard.Response) (Reply, error) {
	r := Reply{Kind: ReplyProgram, Body: resp.Body, ContentType: resp.Header.Get("Content-Type"), URL: resp.URL, Status: resp.Status}
	kind, _, err := mime.ParseMediaType(r.ContentType)
	if err != nil {
		// A broken parameter does not make the type unknown (RFC 9110 §8.3).
		kind, _, _ = strings.Cut(strings.ToLower(r.ContentType), ";")
		kind = strings.TrimSpace(kind)
	}
	text := bytes.TrimSpace(bytes.TrimPrefix(resp.Body, []byte("\ufeff")))
	switch {
	case strings.HasPrefix(kind, "audio/") && (len(text) > 0 || resp.Body == nil):
		play := &Play{URL: resp.URL}
		Defaults(play)
		r.Kind, r.Program = ReplyAudio, Program{Instructions: []Instruction{play}}
		return r, nil
	case resp.Status == http.StatusNoContent || len(text) == 0:
		return r, nil
	case isJSON(kind), kind == "" && startsJSON(text):
		return r.program(text)
	case isXML(kind), (kind == "" || kind == "text/html") && startsXML(text):
		r.Kind = ReplyXML
		return r, nil
	case kind == "text/plain":
		return r.plain(text)
	}
	return Reply{}, r.Rejected(fmt.Errorf("the answer's Content-Type is %q; use application/json, application/xml, audio/* or text/plain", clip(r.ContentType)))
}

func (r Reply) program(text []byte) (Reply, error) {
	p, err := ParseProgram(text)
	if err != nil {
		return Reply{}, r.Rejected(err)
	}
	r.Program = p
	return r, nil
}

// plain is text to be said, unless it is plainly markup: net/http sends both JSON and a <Response> without XML
// declaration as text/plain where a handler names no type, and no application wants its brackets read out.
func (r Reply) plain(text []byte) (Reply, error) {
	if startsXML(text) {
		r.Kind = ReplyXML
		return r, nil
	}
	if startsJSON(text) {
		return r.program(text)
	}
	if !utf8.Valid(text) {
		return Reply{}, r.Rejected(errors.New("the text is not UTF-8"))
	}
	if n := utf8.RuneCount(text); n > maxSaid {
		return Reply{}, r.Rejected(fmt.Errorf("the text has %d characters; at most %d are said", n, maxSaid))
	}
	say := &Say{Text: string(text)}
	Defaults(say)
	r.Program = Program{Instructions: []Instruction{say}}
	return r, nil
}

const maxSaid = 4096 // characters, as in Say.Text

func isJSON(kind string) bool {
	return kind == "application/json" || kind == "text/json" || strings.HasSuffix(kind, "+json")
}

func isXML(kind string) bool {
	return kind == "application/xml" || kind == "text/xml" || strings.HasSuffix(kind, "+xml") && kind != "application/xhtml+xml"
}

// startsXML reports whether a text begins like a TwiML document, after comments.
func startsXML(text []byte) bool {
	for {
		rest, ok := bytes.CutPrefix(text, []byte("<!--"))
		if !ok {
			return bytes.HasPrefix(text, []byte("<?xml")) || bytes.HasPrefix(text, []byte("<Response"))
		}
		_, after, closed := bytes.Cut(rest, []byte("-->"))
		if !closed {
			return false
		}
		text = bytes.TrimSpace(after)
	}
}

// startsJSON reports whether a text begins like a program: an object with a name, or a list of objects.
func startsJSON(text []byte) bool {
	next := func(after byte) byte {
		rest, ok := bytes.CutPrefix(text, []byte{after})
		rest = bytes.TrimSpace(rest)
		if !ok || len(rest) == 0 {
			return 0
		}
		return rest[0]
	}
	inObject, inList := next('{'), next('[')
	return inObject == '"' || inObject == '}' || inList == '{' || inList == ']'
}

// isLargeAudio reports whether all that is wrong with an answer is that its audio is larger than a program may be:
// it is played from its URL then.
func isLargeAudio(resp guard.Response, err error) bool {
	e, ok := errors.AsType[*guard.Error](err)
	return ok && e.Class == guard.ClassBody && resp.Body == nil && resp.Status/100 == 2 &&
		strings.HasPrefix(strings.ToLower(resp.Header.Get("Content-Type")), "audio/")
}
