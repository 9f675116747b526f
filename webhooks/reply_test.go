package webhooks

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/hookswitch/hookswitch/webhooks/guard"
)

func response(status int, contentType, body string) guard.Response {
	h := http.Header{}
	if contentType != "" {
		h.Set("Content-Type", contentType)
	}
	return guard.Response{Status: status, Header: h, Body: []byte(body), URL: "https://app.test/a"}
}

func TestClassifyReadsAnAnswerByItsType(t *testing.T) {
	const program, markup = `{"instructions":[{"verb":"hangup"}]}`, "<Response><Hangup/></Response>"
	for _, c := range []struct {
		name, contentType, body string
		kind                    ReplyKind
		verb                    string // of the only instruction; "" for an empty program
	}{
		{"JSON", "application/json", program, ReplyProgram, "hangup"},
		{"JSON with charset", "application/json; charset=utf-8", program, ReplyProgram, "hangup"},
		{"JSON with a broken parameter", "Application/JSON; charset", program, ReplyProgram, "hangup"},
		{"JSON of a vendor", "application/vnd.acme+json", `[{"verb":"hangup"}]`, ReplyProgram, "hangup"},
		{"JSON with a byte order mark", "application/json", "\ufeff" + program, ReplyProgram, "hangup"},
		{"JSON without type", "", program, ReplyProgram, "hangup"},
		{"JSON as plain text", "text/plain; charset=utf-8", " " + program, ReplyProgram, "hangup"},
		{"XML", "application/xml", markup, ReplyXML, ""},
		{"XML as text", "text/xml; charset=utf-8", markup, ReplyXML, ""},
		{"XML without type", "", "\n<?xml version=\"1.0\"?>" + markup, ReplyXML, ""},
		{"XML as HTML", "text/html; charset=utf-8", "\n" + markup, ReplyXML, ""},
		{"XML with declaration as HTML", "text/html", "<?xml version=\"1.0\"?>" + markup, ReplyXML, ""},
		{"XML after a comment as HTML", "text/html", "<!-- menu --> \n" + markup, ReplyXML, ""},
		{"XML as plain text", "text/plain", markup, ReplyXML, ""},
		{"XML that is none is the compiler's to refuse", "application/xml", "no", ReplyXML, ""},
		{"audio", "audio/mpeg", "ID3", ReplyAudio, "play"},
		{"text", "text/plain", "您好\n", ReplyProgram, "say"},
		{"text in brackets", "text/plain", "[laughs] hello", ReplyProgram, "say"},
		{"nothing", "", "", ReplyProgram, ""},
		{"nothing, with a type", "text/html", " \r\n", ReplyProgram, ""},
		{"no audio", "audio/wav", "", ReplyProgram, ""},
	} {
		r, err := classify(response(200, c.contentType, c.body))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		verb := ""
		for _, i := range r.Program.Instructions {
			verb += i.Verb()
		}
		if r.Kind != c.kind || verb != c.verb {
			t.Errorf("%s: %s %q, want %s %q", c.name, r.Kind, verb, c.kind, c.verb)
		}
	}
	if r, err := classify(response(204, "text/html", "")); err != nil || len(r.Program.Instructions) > 0 {
		t.Errorf("204: %+v, %v", r, err)
	}
}

func TestClassifyPlaysAndSays(t *testing.T) {
	r, err := classify(response(200, "audio/wav", "RIFF"))
	play := r.Program.Instructions[0].(*Play)
	if err != nil || play.URL != "https://app.test/a" || play.Loop != 1 || string(r.Body) != "RIFF" {
		t.Errorf("%+v, %v", play, err)
	}
	large := response(200, "audio/wav", "")
	large.Body = nil
	if r, err = classify(large); err != nil || r.Kind != ReplyAudio || r.Body != nil {
		t.Errorf("audio that is too large to hold: %+v, %v", r, err)
	}
	r, err = classify(response(200, "text/plain", " 您好 \n"))
	if say := r.Program.Instructions[0].(*Say); err != nil || say.Text != "您好" || say.Loop != 1 {
		t.Errorf("%+v, %v", say, err)
	}
}

func TestRejectedKeepsTheCompilersPointer(t *testing.T) {
	r := Reply{URL: "https://app.test/a", Status: 200}
	e := r.Rejected(&ProgramError{"<Gather> line 3", "timeout must be a number"})
	if e.Error() != "<Gather> line 3: timeout must be a number" || e.URL != r.URL {
		t.Errorf("%+v", e)
	}
}

// FuzzClassify feeds whatever a server may answer. An answer is usable or refused with a sentence, never both.
func FuzzClassify(f *testing.F) {
	for _, contentType := range []string{"application/json", "text/xml", "text/html", "text/plain", "audio/wav", "", "a/b; =", "application/problem+json"} {
		for _, body := range []string{"", "[]", `{"instructions":[{"verb":"say","text":"x"}]}`, "<!-- -- ><Response/>", "<!--", "{", "[1", "\ufeff", "\xff", "hello"} {
			f.Add(200, contentType, []byte(body))
		}
	}
	f.Fuzz(func(t *testing.T, status int, contentType string, body []byte) {
		resp := guard.Response{Status: status, Header: http.Header{"Content-Type": {contentType}}, Body: body, URL: "https://app.test/"}
		r, err := classify(resp)
		if err != nil {
			e, ok := errors.AsType[*RejectedError](err)
			if !ok || strings.TrimSpace(e.Message) == "" {
				t.Fatalf("%v is no refusal with a sentence", err)
			}
			if r.Kind != "" {
				t.Fatalf("refused and usable at once: %+v", r)
			}
			return
		}
		switch r.Kind {
		case ReplyXML:
		case ReplyProgram, ReplyAudio:
			// What may run can be written down and read again.
			raw, err := r.Program.MarshalJSON()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := ParseProgram(raw); err != nil && len(raw) <= MaxProgramBytes {
				t.Fatalf("%s: %v", raw, err)
			}
		default:
			t.Fatalf("kind is %q", r.Kind)
		}
	})
}
