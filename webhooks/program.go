package webhooks

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
)

// Limits of a program. They bound what one answer can make an edge hold.
const (
	MaxProgramBytes  = 256 << 10 // of an answer's body
	MaxStateBytes    = 16 << 10
	MaxInstructions  = 1000 // in all, sub-programs included
	maxProgramDepth  = 16   // of sub-programs within sub-programs
	MaxSilentStretch = 100  // instructions without a second of media, input or waiting between them
)

// Program is what an application answers: instructions run in order, the state that comes back with the next
// request, and what happens while or when the application is away.
type Program struct {
	Instructions []Instruction
	State        json.RawMessage // absent (nil): kept; null: cleared; else a JSON object of at most 16 KiB
	Guard        *Guard
}

// Guard travels with a program so that the call survives the application's outage.
type Guard struct {
	BudgetMS     int  `json:"budget_ms,omitempty" check:"min=1000,max=15000"` // for the requests this program leads to
	WhileWaiting *Sub `json:"while_waiting,omitempty" sub:"prompt"`
	OnFailure    *Sub `json:"on_failure,omitempty"`
}

// ProgramError says why a program was refused: where, and one sentence that says what to change. A refused
// program does not run at all.
type ProgramError struct {
	Pointer string // JSON pointer (RFC 6901), or XML element and line; "" for the whole
	Message string
}

// Error returns the pointer and the sentence.
func (e *ProgramError) Error() string {
	if e.Pointer == "" {
		return e.Message
	}
	return e.Pointer + ": " + e.Message
}

// ParseProgram reads a program as an application answers it: an object with instructions, or a bare array of
// instructions. Unknown verbs and attributes are refused (x_… is free). The error is a *ProgramError.
func ParseProgram(body []byte) (Program, error) {
	if len(body) > MaxProgramBytes {
		return Program{}, &ProgramError{"", fmt.Sprintf("the program is larger than %d bytes", MaxProgramBytes)}
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return Program{}, &ProgramError{"", "the body is not JSON: " + err.Error()}
	}
	if _, err := dec.Token(); err != io.EOF {
		return Program{}, &ProgramError{"", "something follows the JSON value"}
	}
	d := new(decoder)
	if list, ok := v.([]any); ok {
		ins, err := d.instructions("", list, scope{})
		return Program{Instructions: ins}, asError(err)
	}
	object, ok := v.(map[string]any)
	if !ok {
		return Program{}, &ProgramError{"", "a program is an object with instructions, or a list of instructions"}
	}
	p, err := d.program(object)
	return p, asError(err)
}

// Fits says whether the program, answered where a sub-program of the kind was wanted, holds only what may stand there.
// The error is a *ProgramError.
func (p Program) Fits(kind SubKind) error {
	return asError(fits("/instructions", p.Instructions, kind))
}

func fits(at string, list []Instruction, kind SubKind) *ProgramError {
	for n, i := range list {
		here := at + "/" + strconv.Itoa(n)
		if err := allowed(here, i.Verb(), kind); err != nil {
			return err
		}
		on := i.Common().On
		for _, key := range slices.Sorted(maps.Keys(on)) {
			if err := fits(here+"/on/"+escapePointer(key), on[key].Instructions, kind); err != nil {
				return err
			}
		}
	}
	return nil
}

// asError keeps a nil *ProgramError from becoming a non-nil error.
func asError(err *ProgramError) error {
	if err == nil {
		return nil
	}
	return err
}

// MarshalJSON writes the program as ParseProgram reads it.
func (p Program) MarshalJSON() ([]byte, error) {
	out := struct {
		Instructions []Instruction   `json:"instructions"`
		State        json.RawMessage `json:"state,omitempty"`
		Guard        *Guard          `json:"guard,omitempty"`
	}{p.Instructions, p.State, p.Guard}
	if out.Instructions == nil {
		out.Instructions = []Instruction{}
	}
	return json.Marshal(out)
}

// UnmarshalJSON is ParseProgram.
func (p *Program) UnmarshalJSON(body []byte) error {
	parsed, err := ParseProgram(body)
	if err != nil {
		return err
	}
	*p = parsed
	return nil
}

// MarshalJSON writes a list, a URL, or {"url","method"}, as it was given.
func (s Sub) MarshalJSON() ([]byte, error) {
	if s.Target != nil {
		return s.Target.MarshalJSON()
	}
	if s.Instructions == nil {
		return []byte("[]"), nil
	}
	return json.Marshal(s.Instructions)
}

// MarshalJSON writes a URL, or {"url","method"} where there is a method.
func (t Target) MarshalJSON() ([]byte, error) {
	if t.Method == "" {
		return json.Marshal(t.URL)
	}
	return json.Marshal(map[string]string{"url": t.URL, "method": t.Method})
}

// withVerb writes an instruction with its verb first.
func withVerb(verb string, plain any) ([]byte, error) {
	body, err := json.Marshal(plain)
	if err != nil {
		return nil, err
	}
	head := []byte(`{"verb":"` + verb + `"`)
	if len(body) > 2 {
		head = append(head, ',')
	}
	return append(head, body[1:]...), nil
}
