package journal

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// line is an entry as far as a ladder shows it.
type line struct {
	T    int64  `json:"t"`
	Kind string `json:"kind"`

	CallID      string          `json:"call_id"`
	EdgeID      string          `json:"edge_id"`
	BeganAt     time.Time       `json:"began_at"`
	Peer        string          `json:"peer"`
	Message     string          `json:"message"`
	Sequence    int64           `json:"sequence"`
	Reason      string          `json:"reason"`
	Method      string          `json:"method"`
	URL         string          `json:"url"`
	Status      int             `json:"status"`
	Attempt     int             `json:"attempt"`
	Body        string          `json:"body"`
	Error       json.RawMessage `json:"error"`
	Instruction json.RawMessage `json:"instruction"`
	Verb        string          `json:"verb"`
	ID          string          `json:"id"`
	Outcome     string          `json:"outcome"`
	Trigger     json.RawMessage `json:"trigger"`
	MS          int64           `json:"ms"`
	Key         string          `json:"key"`
	Source      string          `json:"source"`
	Name        string          `json:"name"`
	Fact        string          `json:"fact"`
	Codec       string          `json:"codec"`
	Direction   string          `json:"direction"`
	Type        string          `json:"type"`
	Data        json.RawMessage `json:"data"`
	Action      json.RawMessage `json:"action"`
	Code        string          `json:"code"`
	Pointer     string          `json:"pointer"`
	Dropped     int             `json:"dropped"`
}

// read takes an entry apart. What does not fit is left out: the text is an edge's.
func (e Entry) read() line {
	var l line
	_ = json.Unmarshal(e.text, &l)
	return l
}

// mostShown bounds what a ladder shows of one text.
const mostShown = 240

// ladder writes a journal for people: one line per entry, with the seconds since it began.
func ladder(entries []Entry, whole bool) []byte {
	var out bytes.Buffer
	for _, e := range entries {
		l := e.read()
		if l.Kind == "begin" {
			fmt.Fprintf(&out, "%s on %s, %s\n", l.CallID, l.EdgeID, l.BeganAt.UTC().Format(time.RFC3339Nano))
			continue
		}
		fmt.Fprintf(&out, "%11.6f  %s\n", float64(l.T)/1e6, oneLine(l.text()))
	}
	if !whole {
		out.WriteString("            (there may be more: the call lives, or its edge did not tell the end)\n")
	}
	return out.Bytes()
}

// text is what a ladder says of an entry.
func (l line) text() string {
	switch l.Kind {
	case "sip_in":
		return fmt.Sprintf("<- %-21s  %s", l.Peer, summary(l.Message))
	case "sip_out":
		return fmt.Sprintf("-> %-21s  %s", l.Peer, summary(l.Message))
	case "request":
		return fmt.Sprintf("=> %s %s  %s, request %d", l.Method, l.URL, l.Reason, l.Sequence)
	case "answer":
		return l.answer()
	case "instruction":
		return "   instruction  " + string(l.Instruction)
	case "outcome":
		if l.Trigger == nil {
			return fmt.Sprintf("   done         %s, %d ms", l.Verb, l.MS)
		}
		return fmt.Sprintf("   done         %s: %s, %d ms  %s", l.Verb, l.Outcome, l.MS, l.Trigger)
	case "input":
		return fmt.Sprintf("   key          %s (%s)", l.Key, l.Source)
	case "timer":
		return "   time is up   " + l.Name
	case "media":
		return "   media        " + strings.Join(strings.Fields(strings.Join([]string{l.Fact, l.Codec, l.Direction, l.Reason}, " ")), " ")
	case "event":
		return fmt.Sprintf("   event %-5d  %s  %s", l.Sequence, l.Type, l.Data)
	case "warning":
		return strings.TrimSpace(fmt.Sprintf("   warning      %s %s", l.Pointer, l.Message))
	case "action":
		return "   action       " + string(l.Action)
	case "end":
		if l.Dropped > 0 {
			return fmt.Sprintf("   end; there was no room for %d more entries", l.Dropped)
		}
		return "   end"
	}
	return "   " + l.Kind
}

func (l line) answer() string {
	switch {
	case l.Attempt > 0:
		return fmt.Sprintf("<= attempt %d failed: %s", l.Attempt, l.Error)
	case l.Error != nil:
		return fmt.Sprintf("<= no program: %s", l.Error)
	}
	return fmt.Sprintf("<= %d  %s", l.Status, l.Body)
}

// summary is a SIP message on one line: its start line, its CSeq where it is a response, and the media of its description.
func summary(message string) string {
	start, rest, _ := strings.Cut(message, "\r\n")
	text := strings.TrimSuffix(start, " SIP/2.0")
	response, isResponse := strings.CutPrefix(start, "SIP/2.0 ")
	if isResponse {
		text = response
	}
	for header := range strings.SplitSeq(rest, "\r\n") {
		name, value, _ := strings.Cut(header, ":")
		if isResponse && strings.EqualFold(name, "CSeq") {
			_, method, _ := strings.Cut(strings.TrimSpace(value), " ")
			text += " (" + method + ")"
		}
		if strings.EqualFold(name, "Reason") {
			text += "; Reason:" + value
		}
		if media, ok := strings.CutPrefix(header, "m="); ok {
			text += "  [" + media + "]"
		}
		switch header {
		case "a=sendonly", "a=recvonly", "a=inactive":
			text += " " + strings.TrimPrefix(header, "a=")
		}
	}
	return text
}

// oneLine makes of a text from the network what can be shown on a terminal: no line breaks and no control characters.
func oneLine(text string) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\r' || r == '\t':
			return ' '
		case r < ' ' || r == 0x7f || 0x80 <= r && r < 0xa0:
			return '\ufffd'
		}
		return r
	}, strings.ToValidUTF8(text, "\ufffd"))
	if runes := []rune(text); len(runes) > mostShown {
		text = string(runes[:mostShown]) + "…"
	}
	return text
}
