package webhooks

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// decoder turns parsed JSON into the contract's structs by their tags (see Instruction) and refuses everything
// the contract does not name, with a JSON pointer and a sentence.
//
// Why not encoding/json with DisallowUnknownFields: it stops without a path, says Go types to people who wrote
// JavaScript, and cannot tell an absent attribute from a zero one, which defaults need.
type decoder struct {
	count int // instructions so far
}

// scope is where in a program something stands.
type scope struct {
	kind  SubKind // of the sub-program around it
	depth int     // of sub-programs within sub-programs
}

func (d *decoder) program(object map[string]any) (Program, *ProgramError) {
	var p Program
	for _, key := range slices.Sorted(maps.Keys(object)) {
		value, at := object[key], "/"+escapePointer(key)
		var err *ProgramError
		switch {
		case key == "instructions":
			list, ok := value.([]any)
			if !ok {
				return p, &ProgramError{at, "must be a list of instructions"}
			}
			p.Instructions, err = d.instructions(at, list, scope{})
		case key == "state":
			p.State, err = d.state(at, value)
		case key == "guard":
			p.Guard = new(Guard)
			err = d.object(at, value, reflect.ValueOf(p.Guard).Elem(), scope{})
		case strings.HasPrefix(key, "x_"):
		default:
			err = &ProgramError{at, "unknown attribute of a program; it has instructions, state and guard"}
		}
		if err != nil {
			return Program{}, err
		}
	}
	if _, ok := object["instructions"]; !ok {
		return p, &ProgramError{"/instructions", "is missing; an empty program is written as []"}
	}
	return p, nil
}

func (d *decoder) state(at string, value any) (json.RawMessage, *ProgramError) {
	if value == nil {
		return json.RawMessage("null"), nil
	}
	if _, ok := value.(map[string]any); !ok {
		return nil, &ProgramError{at, "must be a JSON object, or null to clear it"}
	}
	raw, err := json.Marshal(value)
	if err != nil {
		return nil, &ProgramError{at, "cannot be kept: " + err.Error()}
	}
	if len(raw) > MaxStateBytes {
		return nil, &ProgramError{at, fmt.Sprintf("is %d bytes of JSON; at most %d are kept", len(raw), MaxStateBytes)}
	}
	return raw, nil
}

// instructions decodes a list.
func (d *decoder) instructions(at string, list []any, in scope) ([]Instruction, *ProgramError) {
	if in.depth > maxProgramDepth {
		return nil, &ProgramError{at, fmt.Sprintf("is nested more than %d deep; answer a URL instead", maxProgramDepth)}
	}
	out := make([]Instruction, 0, len(list))
	for i, item := range list {
		here := at + "/" + strconv.Itoa(i)
		if d.count++; d.count > MaxInstructions {
			return nil, &ProgramError{here, fmt.Sprintf("is instruction %d of the program; at most %d are allowed", d.count, MaxInstructions)}
		}
		ins, err := d.instruction(here, item, in)
		if err != nil {
			return nil, err
		}
		out = append(out, ins)
	}
	return out, nil
}

func (d *decoder) instruction(at string, item any, in scope) (Instruction, *ProgramError) {
	object, ok := item.(map[string]any)
	if !ok {
		return nil, &ProgramError{at, `must be an object with a "verb"`}
	}
	name, ok := object["verb"].(string)
	if !ok {
		return nil, &ProgramError{at + "/verb", "is missing; every instruction names its verb"}
	}
	row, ok := verbs[name]
	if !ok {
		return nil, noVerb(at, name)
	}
	if err := allowed(at, name, in.kind); err != nil {
		return nil, err
	}
	ins := row.make()
	if err := d.object(at, item, reflect.ValueOf(ins).Elem(), in); err != nil {
		return nil, err
	}
	if err := checkOneOf(at, object, row.oneOf); err != nil {
		return nil, err
	}
	for key := range ins.Common().On {
		if key != "default" && !HasOutcome(name, Outcome(key)) {
			return nil, &ProgramError{at + "/on/" + escapePointer(key), fmt.Sprintf("%s has no outcome %q; it has %s", name, clip(key), outcomeNames(name))}
		}
	}
	return ins, checkInstruction(at, ins)
}

func noVerb(at, name string) *ProgramError {
	if slices.Contains(laterVerbs, name) {
		return &ProgramError{at + "/verb", name + " is not available yet"}
	}
	return &ProgramError{at + "/verb", fmt.Sprintf("%q is not a verb; use one of %s", clip(name), strings.Join(slices.Sorted(maps.Keys(verbs)), ", "))}
}

// allowed says why a verb cannot stand in a sub-program of the kind; nil when it can.
func allowed(at, verb string, kind SubKind) *ProgramError {
	if kind.Allows(verb) {
		return nil
	}
	return &ProgramError{at + "/verb", fmt.Sprintf("%s is not allowed in a %s; it takes %s", verb, kind, strings.Join(subVerbs[kind], ", "))}
}

func outcomeNames(name string) string {
	all := Outcomes(name)
	if len(all) == 0 {
		return "none"
	}
	words := []string{}
	for _, o := range all {
		words = append(words, string(o))
	}
	return strings.Join(words, ", ") + " and default"
}

func checkOneOf(at string, object map[string]any, names []string) *ProgramError {
	if len(names) == 0 {
		return nil
	}
	var given []string
	for _, name := range names {
		if object[name] != nil { // null is the same as absent
			given = append(given, name)
		}
	}
	switch len(given) {
	case 1:
		return nil
	case 0:
		return &ProgramError{at, "needs one of " + strings.Join(names, ", ")}
	}
	return &ProgramError{at + "/" + given[1], "cannot stand together with " + given[0] + "; give one of them"}
}

// layout is what the tags of a struct say, sorted by name; the fields of the embedded Step are included.
type layout struct {
	fields []field
	index  map[string]int
}

// field is what the tags of one of its fields say.
type field struct {
	name     string
	index    []int
	tag      reflect.StructTag
	rules    ruleset
	required bool
}

// layouts keeps what was read of types: reading it anew would take as long as all the rest of decoding.
var layouts sync.Map // of reflect.Type to *layout

func layoutOf(t reflect.Type) *layout {
	if known, ok := layouts.Load(t); ok {
		return known.(*layout)
	}
	l := &layout{index: map[string]int{}}
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name != "" && name != "-" {
			l.fields = append(l.fields, field{name, f.Index, f.Tag, readRules(f.Tag), hasRule(f.Tag, "required")})
		}
	}
	slices.SortFunc(l.fields, func(a, b field) int { return strings.Compare(a.name, b.name) })
	for i, f := range l.fields {
		l.index[f.name] = i
	}
	known, _ := layouts.LoadOrStore(t, l)
	return known.(*layout)
}

// names lists the fields.
func (l *layout) names() string {
	names := make([]string, len(l.fields))
	for i, f := range l.fields {
		names[i] = f.name
	}
	return strings.Join(names, ", ")
}

// object decodes a JSON object into the struct out: defaults first, then what was given, checked.
func (d *decoder) object(at string, value any, out reflect.Value, in scope) *ProgramError {
	object, ok := value.(map[string]any)
	if !ok {
		return &ProgramError{at, "must be an object"}
	}
	l := layoutOf(out.Type())
	if err := l.knows(at, object, out); err != nil {
		return err
	}
	for i := range l.fields {
		f := &l.fields[i]
		target := out.FieldByIndex(f.index)
		given, present := object[f.name]
		if !present || given == nil {
			if f.required {
				return &ProgramError{at + "/" + f.name, "is missing"}
			}
			setDefault(target, f.rules.standard)
			continue
		}
		here := at + "/" + f.name
		if err := d.value(here, given, target, f.tag, in); err != nil {
			return err
		}
		if err := check(here, target, &f.rules); err != nil {
			return err
		}
	}
	return nil
}

// knows refuses the first key of an object, in their order, that the struct has no field for.
func (l *layout) knows(at string, object map[string]any, out reflect.Value) *ProgramError {
	named, later := identity(out)
	var unknown []string
	for key := range object {
		if _, ok := l.index[key]; !ok && key != named && !strings.HasPrefix(key, "x_") {
			unknown = append(unknown, key)
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	key := slices.Min(unknown)
	if slices.Contains(later, key) {
		return &ProgramError{at + "/" + key, "is not available yet"}
	}
	return &ProgramError{at + "/" + escapePointer(key), "unknown attribute; it has " + l.names()}
}

// identity returns the attribute that says what a struct is, and those that it does not take yet.
func identity(out reflect.Value) (name string, later []string) {
	switch v := out.Addr().Interface().(type) {
	case Instruction:
		return "verb", laterAttributes[v.Verb()]
	case Op:
		return "op", nil
	}
	return "", nil
}

// Defaults sets the fields of the instruction that have a default in the contract, for programs built in Go.
func Defaults(i Instruction) { setDefaults(reflect.ValueOf(i).Elem()) }

func setDefaults(v reflect.Value) {
	for _, f := range layoutOf(v.Type()).fields {
		setDefault(v.FieldByIndex(f.index), f.rules.standard)
	}
}

func setDefault(target reflect.Value, standard *string) {
	if standard == nil {
		return
	}
	text := *standard
	switch target.Kind() {
	case reflect.String:
		target.SetString(text)
	case reflect.Bool:
		target.SetBool(text == "true")
	case reflect.Int:
		n, _ := strconv.Atoi(text) // the table's own literals; a test reads them all
		target.SetInt(int64(n))
	case reflect.Float64:
		n, _ := strconv.ParseFloat(text, 64)
		target.SetFloat(n)
	}
}

// value decodes one attribute.
func (d *decoder) value(at string, given any, target reflect.Value, tag reflect.StructTag, in scope) *ProgramError {
	switch target.Interface().(type) {
	case *Sub:
		sub, err := d.sub(at, given, scope{SubKind(tag.Get("sub")), in.depth})
		target.Set(reflect.ValueOf(&sub))
		return err
	case *Target:
		if hasRule(tag, "deny") && given == "deny" {
			return nil
		}
		t, err := d.target(at, given)
		target.Set(reflect.ValueOf(&t))
		return err
	case map[string]Sub:
		return d.subs(at, given, target, in)
	case map[string]any:
		object, ok := given.(map[string]any)
		if !ok {
			return &ProgramError{at, "must be an object"}
		}
		target.Set(reflect.ValueOf(object))
		return nil
	case map[string]string:
		return stringMap(at, given, target)
	case []DialTarget:
		return d.dialTargets(at, given, target, in)
	case DialTarget:
		return d.dialTarget(at, given, target, in)
	case []string:
		return stringList(at, given, target)
	case Peer:
		p, err := d.peer(given)
		target.Set(reflect.ValueOf(p))
		return err
	}
	if target.Kind() != reflect.Pointer {
		return scalar(at, given, target)
	}
	inner := reflect.New(target.Type().Elem())
	target.Set(inner)
	switch inner.Interface().(type) {
	case *DialTarget:
		return d.dialTarget(at, given, inner.Elem(), in)
	case *Seconds, *int:
		return scalar(at, given, inner.Elem())
	}
	return d.object(at, given, inner.Elem(), in)
}

func scalar(at string, given any, target reflect.Value) *ProgramError {
	switch target.Kind() {
	case reflect.String:
		text, ok := given.(string)
		if !ok {
			return &ProgramError{at, "must be a string"}
		}
		target.SetString(text)
	case reflect.Bool:
		yes, ok := given.(bool)
		if !ok {
			return &ProgramError{at, "must be true or false"}
		}
		target.SetBool(yes)
	case reflect.Int:
		number, ok := given.(json.Number)
		n, err := number.Float64() // 1.0 is as whole as 1 (JSON Schema, "integer")
		if !ok || err != nil || n != math.Trunc(n) || math.Abs(n) > 1<<53 {
			return &ProgramError{at, "must be a whole number"}
		}
		target.SetInt(int64(n))
	case reflect.Float64:
		number, ok := given.(json.Number)
		n, err := number.Float64()
		if !ok || err != nil {
			return &ProgramError{at, "must be a number"}
		}
		target.SetFloat(n)
	default:
		panic("webhooks: no rule to decode " + target.Type().String())
	}
	return nil
}

func stringMap(at string, given any, target reflect.Value) *ProgramError {
	object, ok := given.(map[string]any)
	if !ok {
		return &ProgramError{at, "must be an object of strings"}
	}
	out := make(map[string]string, len(object))
	for key, v := range object {
		text, ok := v.(string)
		if !ok {
			return &ProgramError{at + "/" + escapePointer(key), "must be a string"}
		}
		out[key] = text
	}
	target.Set(reflect.ValueOf(out))
	return nil
}

func stringList(at string, given any, target reflect.Value) *ProgramError {
	list, ok := given.([]any)
	if !ok {
		return &ProgramError{at, "must be a list of strings"}
	}
	out := make([]string, len(list))
	for i, v := range list {
		if out[i], ok = v.(string); !ok {
			return &ProgramError{at + "/" + strconv.Itoa(i), "must be a string"}
		}
	}
	target.Set(reflect.ValueOf(out))
	return nil
}

func (d *decoder) dialTargets(at string, given any, target reflect.Value, in scope) *ProgramError {
	list, ok := given.([]any)
	if !ok {
		return &ProgramError{at, "must be a list of targets"}
	}
	out := make([]DialTarget, len(list))
	for i, v := range list {
		if err := d.dialTarget(at+"/"+strconv.Itoa(i), v, reflect.ValueOf(&out[i]).Elem(), in); err != nil {
			return err
		}
	}
	target.Set(reflect.ValueOf(out))
	return nil
}

func (d *decoder) dialTarget(at string, given any, target reflect.Value, in scope) *ProgramError {
	if err := d.object(at, given, target, in); err != nil {
		return err
	}
	object, _ := given.(map[string]any) // or the decoder had refused it
	if err := checkOneOf(at, object, targetKinds); err != nil {
		return err
	}
	t, _ := target.Interface().(DialTarget)
	if (t.Username != "" || t.Password != "") && t.SIP == "" {
		return &ProgramError{at + "/username", "goes only with a sip target"}
	}
	if t.Trunk != "" && t.Number == "" {
		return &ProgramError{at + "/trunk", "goes only with a number"}
	}
	return nil
}

func (d *decoder) subs(at string, given any, target reflect.Value, in scope) *ProgramError {
	object, ok := given.(map[string]any)
	if !ok {
		return &ProgramError{at, "must be an object from outcome to instructions"}
	}
	out := make(map[string]Sub, len(object))
	for _, key := range slices.Sorted(maps.Keys(object)) {
		sub, err := d.sub(at+"/"+escapePointer(key), object[key], in)
		if err != nil {
			return err
		}
		out[key] = sub
	}
	target.Set(reflect.ValueOf(out))
	return nil
}

func (d *decoder) sub(at string, given any, in scope) (Sub, *ProgramError) {
	if list, ok := given.([]any); ok {
		ins, err := d.instructions(at, list, scope{in.kind, in.depth + 1})
		return Sub{Instructions: ins}, err
	}
	t, err := d.target(at, given)
	if err != nil {
		return Sub{}, &ProgramError{err.Pointer, strings.Replace(err.Message, "must be a URL", "must be a list of instructions, a URL", 1)}
	}
	return Sub{Target: &t}, nil
}

func (d *decoder) target(at string, given any) (Target, *ProgramError) {
	if text, ok := given.(string); ok {
		return Target{URL: text}, checkURL(at, text)
	}
	object, ok := given.(map[string]any)
	if !ok {
		return Target{}, &ProgramError{at, `must be a URL or {"url","method"}`}
	}
	var t struct {
		URL    string `json:"url" check:"required,url"`
		Method string `json:"method" enum:"POST|GET"`
	}
	err := d.object(at, object, reflect.ValueOf(&t).Elem(), scope{})
	return Target{URL: t.URL, Method: t.Method}, err
}

// escapePointer writes a key for a JSON pointer (RFC 6901 §3).
func escapePointer(key string) string {
	if !strings.ContainsAny(key, "~/") {
		return clip(key)
	}
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(clip(key))
}

// clip keeps what an application wrote from filling a log.
func clip(s string) string {
	const most = 64
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
