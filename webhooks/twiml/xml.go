package twiml

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/hookswitch/hookswitch/webhooks"
)

// maxDepth bounds how deep elements may be nested. <Response><Gather><Say> and SSML's own nesting need far less.
const maxDepth = 16

// element is one XML element with what stands in it, in order. Names are without their namespace prefix.
type element struct {
	name     string
	line     int // where its start tag begins, from 1
	attrs    []attribute
	children []child
}

type attribute struct{ name, value string }

// child is an element, or text where element is nil.
type child struct {
	element *element
	text    string
}

// at is the pointer that a refusal or a warning about the element carries: "<Gather> line 3".
func (e *element) at() string { return fmt.Sprintf("<%s> line %d", e.name, e.line) }

// refuse makes the error for something that is wrong with the element.
func (e *element) refuse(format string, args ...any) error {
	return &webhooks.ProgramError{Pointer: e.at(), Message: fmt.Sprintf(format, args...)}
}

// text is the element's text, elements in it left out, with runs of white space made one space: generated
// documents indent and break their texts, numbers and URLs, and mean nothing by it.
func (e *element) text() string {
	var out strings.Builder
	for _, c := range e.children {
		out.WriteString(c.text)
	}
	return oneLine(out.String())
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// readXML reads a document into its root element. It tolerates what real applications send (byte order mark, blank
// lines before the prolog, namespaces, a DOCTYPE) and resolves no entity but XML's own five and character
// references, so that nothing outside the body is ever read and nothing in it can grow.
func readXML(body []byte) (*element, error) {
	body = bytes.TrimPrefix(body, []byte("\xef\xbb\xbf"))
	dec := xml.NewDecoder(bytes.NewReader(body))
	dec.CharsetReader = charset
	var root *element
	var open []*element
	for {
		// Text is a token of its own, so the position before a tag is where the tag begins.
		line, _ := dec.InputPos()
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, syntaxError(line, err)
		}
		switch t := token.(type) {
		case xml.StartElement:
			e := &element{name: t.Name.Local, line: line}
			if err := e.readAttributes(t.Attr); err != nil {
				return nil, err
			}
			switch {
			case len(open) >= maxDepth:
				return nil, e.refuse("is nested more than %d elements deep", maxDepth)
			case len(open) > 0:
				parent := open[len(open)-1]
				parent.children = append(parent.children, child{element: e})
			case root != nil:
				return nil, e.refuse("follows the end of the document; everything belongs into one <Response>")
			default:
				root = e
			}
			open = append(open, e)
		case xml.EndElement:
			open = open[:len(open)-1]
		case xml.CharData:
			if len(open) > 0 {
				open[len(open)-1].addText(string(t))
				continue
			}
			if len(bytes.TrimSpace(t)) > 0 {
				return nil, &webhooks.ProgramError{Pointer: lineOf(line), Message: fmt.Sprintf("text outside of <Response>: %q; an answer is one XML document", clip(strings.TrimSpace(string(t))))}
			}
		}
	}
	if root == nil {
		return nil, &webhooks.ProgramError{Pointer: lineOf(1), Message: "there is no XML element; an empty answer is written <Response/>"}
	}
	return root, nil
}

// addText joins text that a comment or a CDATA section has cut in two.
func (e *element) addText(text string) {
	if last := len(e.children) - 1; last >= 0 && e.children[last].element == nil {
		e.children[last].text += text
		return
	}
	e.children = append(e.children, child{text: text})
}

func (e *element) readAttributes(attrs []xml.Attr) error {
	for _, a := range attrs {
		if a.Name.Space != "" || a.Name.Local == "xmlns" {
			continue // namespaces, xml:space, xsi:schemaLocation: nobody's attributes
		}
		for _, other := range e.attrs {
			if other.name == a.Name.Local {
				return e.refuse("has %s twice; give it once", a.Name.Local)
			}
		}
		e.attrs = append(e.attrs, attribute{a.Name.Local, a.Value})
	}
	return nil
}

func lineOf(n int) string { return fmt.Sprintf("line %d", n) }

func syntaxError(line int, err error) error {
	message := err.Error()
	if s, ok := errors.AsType[*xml.SyntaxError](err); ok {
		line, message = s.Line, s.Msg
	}
	return &webhooks.ProgramError{Pointer: lineOf(line), Message: "the body is not XML: " + message}
}

// charset converts the two encodings besides UTF-8 that need no table.
func charset(label string, in io.Reader) (io.Reader, error) {
	switch strings.ToLower(label) {
	case "us-ascii", "ascii", "utf8":
		return in, nil
	case "iso-8859-1", "latin1":
	default:
		return nil, fmt.Errorf("the encoding %q is not read here; write the document in UTF-8", clip(label))
	}
	raw, err := io.ReadAll(in) // bounded: the body is in memory already
	if err != nil {
		return nil, err
	}
	runes := make([]rune, len(raw))
	for i, b := range raw {
		runes[i] = rune(b)
	}
	return strings.NewReader(string(runes)), nil
}

// clip keeps what an application wrote from filling a log.
func clip(s string) string {
	const most = 64
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
