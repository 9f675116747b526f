package speech

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestCleanSSMLKeepsWhatIsHarmless(t *testing.T) {
	for _, tc := range []struct{ name, ssml, want string }{
		{"plain", "<speak>a</speak>", "<speak><speak>a</speak></speak>"},
		{"no root", "a<break/>b", "<speak>a<break></break>b</speak>"},
		{"attributes", `<prosody rate="slow" onload="x">a</prosody>`, `<speak><prosody rate="slow">a</prosody></speak>`},
		{"language", `<voice xml:lang="zh-CN" name="../x">a</voice>`, `<speak><voice xml:lang="zh-CN">a</voice></speak>`},
		{"language that is none", `<voice xml:lang="../x">a</voice>`, `<speak><voice>a</voice></speak>`},
		{"audio", `<audio src="/etc/passwd">instead</audio>`, "<speak>instead</speak>"},
		{"description", `<audio src="x"><desc>a dog</desc>woof</audio>`, "<speak>woof</speak>"},
		{"prolog", `<?xml version="1.0"?><!DOCTYPE speak><!-- c --><speak>a</speak>`, "<speak><speak>a</speak></speak>"},
		{"escapes", `a &lt;audio&gt; &amp; "b"`, "<speak>a &lt;audio&gt; &amp; &quot;b&quot;</speak>"},
	} {
		got, err := cleanSSML(tc.ssml)
		if err != nil || got != tc.want {
			t.Errorf("%s: %q, %v; want %q", tc.name, got, err, tc.want)
		}
	}
}

// What is given to espeak-ng is well-formed and holds no element or attribute but the allowed ones.
func FuzzCleanSSML(f *testing.F) {
	for _, seed := range []string{
		"", "text", "<speak>a</speak>", `<speak xml:lang="en"><p><s>a</s></p></speak>`,
		`<audio src="/etc/passwd"/>`, `<AUDIO SRC="x">`, `<![CDATA[<audio src="x"/>]]>`, "&lt;audio src='x'/&gt;",
		`<a:audio xmlns:a="b" src="x"/>`, "<desc><audio/></desc>", "<!DOCTYPE x [<!ENTITY e '<audio/>'>]>&e;",
		"<speak>\x01", "[[a]]", "[[[", "[<!-- -->[a]]", `<sub alias="&quot;/&gt;&lt;audio src='x'/&gt;">a</sub>`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, ssml string) {
		clean, err := cleanSSML(ssml)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Fatalf("%q: %v", ssml, err)
			}
			return
		}
		decoder := xml.NewDecoder(strings.NewReader(clean))
		for {
			token, err := decoder.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%q became %q: %v", ssml, clean, err)
			}
			if element, ok := token.(xml.StartElement); ok && ssmlElements[element.Name.Local] == nil {
				t.Fatalf("%q became %q with <%s>", ssml, clean, element.Name.Local)
			}
		}
		if strings.ContainsAny(clean, "\x01\x1b") || strings.Contains(clean, "[[") {
			t.Fatalf("%q became %q", ssml, clean)
		}
	})
}
