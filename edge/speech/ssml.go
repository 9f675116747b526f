package speech

import (
	"encoding/xml"
	"errors"
	"io"
	"slices"
	"strings"
)

// ssmlElements are the elements of SSML 1.1 that espeak-ng is given, each with the attributes kept.
//
// Why a list of what is allowed: espeak-ng opens the files that <audio> and <voice name> point to, and hands some of
// their names to a shell.
var ssmlElements = map[string][]string{
	"speak":    {"lang"},
	"p":        {"lang"},
	"s":        {"lang"},
	"voice":    {"lang", "gender"},
	"break":    {"strength", "time"},
	"prosody":  {"rate", "pitch", "range", "volume"},
	"emphasis": {"level"},
	"say-as":   {"interpret-as", "format", "detail"},
	"sub":      {"alias"},
}

// ssmlDropped are elements whose content is not to be spoken either.
var ssmlDropped = []string{"desc", "lexicon", "meta", "metadata"}

// cleanSSML rewrites a document, or a piece of one, with nothing in it but text and ssmlElements. The content of any
// other element is spoken: of <audio> that is what SSML wants said when a file cannot be played.
func cleanSSML(ssml string) (string, error) {
	decoder := xml.NewDecoder(strings.NewReader(ssml))
	var b strings.Builder
	b.WriteString("<speak>")
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			b.WriteString("</speak>")
			return b.String(), nil
		}
		if err != nil {
			line, _ := decoder.InputPos()
			return "", invalid("the ssml is not well-formed XML at line %d", line)
		}
		switch token := token.(type) {
		case xml.StartElement:
			if slices.Contains(ssmlDropped, token.Name.Local) {
				if err := decoder.Skip(); err != nil {
					return "", invalid("the ssml element <%.32s> is not closed", token.Name.Local)
				}
				continue
			}
			writeStart(&b, token)
		case xml.EndElement:
			if ssmlElements[token.Name.Local] != nil {
				b.WriteString("</" + token.Name.Local + ">")
			}
		case xml.CharData:
			writeEscaped(&b, plainText(string(token)))
		}
	}
}

func writeStart(b *strings.Builder, element xml.StartElement) {
	attributes := ssmlElements[element.Name.Local]
	if attributes == nil {
		return
	}
	b.WriteString("<" + element.Name.Local)
	for _, a := range element.Attr {
		if !slices.Contains(attributes, a.Name.Local) {
			continue
		}
		name := a.Name.Local
		if name == "lang" {
			if !voiceName.MatchString(a.Value) {
				continue
			}
			name = "xml:lang"
		}
		b.WriteString(" " + name + `="`)
		writeEscaped(b, plainText(a.Value))
		b.WriteByte('"')
	}
	b.WriteByte('>')
}

// writeEscaped escapes what espeak-ng's small XML reader would take for markup.
func writeEscaped(b *strings.Builder, text string) {
	_, _ = ssmlEscapes.WriteString(b, text)
}

var ssmlEscapes = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;")
