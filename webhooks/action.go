package webhooks

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Action is a live change to a call: an Op acts, a Program or the answer of a Target replaces what runs. Exactly one
// of the three is set.
type Action struct {
	Op      Op
	Program *Program
	Target  *Target
	Peer    Peer // with Program or Target
}

// Peer is what a leg does whose partner is taken from it: of a change with a program the one that was bridged, of an op that
// hands the other party on the leg that it is made to. The zero value: it goes on with its own program, as when the partner
// had hung up.
type Peer struct {
	HangUp       bool
	Instructions []Instruction // run on it instead; nil for none
}

// Op is what a live change does. The set is closed: the table ops names every implementation. Ops have the struct tags
// of instructions.
type Op interface {
	Op() string
	isOp()
}

// ParseAction reads a live change: {"op":…} with the op's attributes, {"instructions":[…],"state","guard","peer"}, or
// {"url","method","peer"}. Unknown attributes are refused (x_… is free). The error is a *ProgramError.
func ParseAction(body []byte) (Action, error) {
	if len(body) > MaxProgramBytes {
		return Action{}, &ProgramError{"", fmt.Sprintf("the change is larger than %d bytes", MaxProgramBytes)}
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return Action{}, &ProgramError{"", "the body is not JSON: " + err.Error()}
	}
	if _, err := dec.Token(); err != io.EOF {
		return Action{}, &ProgramError{"", "something follows the JSON value"}
	}
	object, ok := v.(map[string]any)
	if !ok {
		return Action{}, &ProgramError{"", "a change is an object with op, instructions or url"}
	}
	a, err := new(decoder).action(object)
	if err != nil {
		return Action{}, err
	}
	return a, nil
}

func (d *decoder) action(object map[string]any) (Action, *ProgramError) {
	if object["op"] != nil {
		op, err := d.op(object)
		return Action{Op: op}, err
	}
	if err := checkOneOf("", object, []string{"op", "instructions", "url"}); err != nil {
		return Action{}, err
	}
	var a Action
	var err *ProgramError
	if object["url"] != nil {
		a.Target, err = d.replacingTarget(object)
	} else {
		a.Program, err = d.replacingProgram(object)
	}
	if err != nil {
		return Action{}, err
	}
	a.Peer, err = d.peer(object["peer"])
	return a, err
}

func (d *decoder) op(object map[string]any) (Op, *ProgramError) {
	name, ok := object["op"].(string)
	if !ok {
		return nil, &ProgramError{"/op", "must be a string"}
	}
	row, ok := ops[name]
	if !ok {
		return nil, &ProgramError{"/op", fmt.Sprintf("%q is not an op; use one of %s", clip(name), strings.Join(Ops(), ", "))}
	}
	if _, both := object["instructions"]; both {
		return nil, &ProgramError{"/instructions", "cannot stand together with op; give one of them"}
	}
	op := row.make()
	if err := d.object("", object, reflect.ValueOf(op).Elem(), scope{}); err != nil {
		return nil, err
	}
	return op, checkOneOf("", object, row.oneOf)
}

func (d *decoder) replacingTarget(object map[string]any) (*Target, *ProgramError) {
	target := map[string]any{}
	for key, value := range object {
		switch key {
		case "op", "instructions", "peer":
		default:
			target[key] = value
		}
	}
	t, err := d.target("", target)
	return &t, err
}

func (d *decoder) replacingProgram(object map[string]any) (*Program, *ProgramError) {
	program := maps.Clone(object)
	for _, key := range []string{"op", "url", "peer"} {
		delete(program, key)
	}
	p, err := d.program(program)
	return &p, err
}

func (d *decoder) peer(value any) (Peer, *ProgramError) {
	switch v := value.(type) {
	case nil:
		return Peer{}, nil
	case []any:
		list, err := d.instructions("/peer", v, scope{})
		return Peer{Instructions: list}, err
	case string:
		switch v {
		case "continue":
			return Peer{}, nil
		case "hangup":
			return Peer{HangUp: true}, nil
		}
	}
	return Peer{}, &ProgramError{"/peer", `must be "continue", "hangup" or a list of instructions`}
}

// MarshalJSON writes the change as ParseAction reads it.
func (a Action) MarshalJSON() ([]byte, error) {
	if a.Op != nil {
		return json.Marshal(a.Op)
	}
	out := map[string]any{}
	if a.Program != nil {
		out["instructions"] = a.Program.Instructions
		if a.Program.Instructions == nil {
			out["instructions"] = []Instruction{}
		}
		if a.Program.State != nil {
			out["state"] = a.Program.State
		}
		if a.Program.Guard != nil {
			out["guard"] = a.Program.Guard
		}
	}
	if a.Target != nil {
		out["url"] = a.Target.URL
		if a.Target.Method != "" {
			out["method"] = a.Target.Method
		}
	}
	if !a.Peer.IsZero() {
		out["peer"] = a.Peer
	}
	return json.Marshal(out)
}

// IsZero reports whether it goes on with its own program.
func (p Peer) IsZero() bool { return !p.HangUp && p.Instructions == nil }

// MarshalJSON writes it as the contract has it.
func (p Peer) MarshalJSON() ([]byte, error) {
	switch {
	case p.HangUp:
		return []byte(`"hangup"`), nil
	case p.Instructions != nil:
		return json.Marshal(p.Instructions)
	}
	return []byte(`"continue"`), nil
}

// UnmarshalJSON is ParseAction.
func (a *Action) UnmarshalJSON(body []byte) error {
	parsed, err := ParseAction(body)
	if err != nil {
		return err
	}
	*a = parsed
	return nil
}

// Ops returns the names of the ops there are, sorted.
func Ops() []string { return slices.Sorted(maps.Keys(ops)) }

// withOp writes an op with its name first.
func withOp(name string, plain any) ([]byte, error) {
	body, err := json.Marshal(plain)
	if err != nil {
		return nil, err
	}
	head := []byte(`{"op":"` + name + `"`)
	if len(body) > 2 {
		head = append(head, ',')
	}
	return append(head, body[1:]...), nil
}
