package webhooks

import (
	"bytes"
	"encoding/json"
	"maps"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"github.com/hookswitch/hookswitch/openapi"
)

// specification is the joined OpenAPI document as plain values, with a way to validate against its schemas.
type specification struct {
	document map[string]any
	compiler *jsonschema.Compiler
}

// contractFiles are those of the specification that this package is the other half of; the resources' stay out.
var contractFiles = []string{"openapi.yaml", "program.yaml", "requests.yaml", "call_events.yaml", "actions.yaml"}

func loadSpecification(t testing.TB) *specification {
	t.Helper()
	return loadFiles(t, contractFiles)
}

// loadFiles is the specification made of some of its files.
func loadFiles(t testing.TB, names []string) *specification {
	t.Helper()
	files := fstest.MapFS{}
	for _, name := range names {
		text, err := os.ReadFile("../openapi/" + name)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = &fstest.MapFile{Data: text}
	}
	spec, err := openapi.Parse(files)
	if err != nil {
		t.Fatal(err)
	}
	return specificationOf(t, spec)
}

func specificationOf(t testing.TB, spec *openapi.Spec) *specification {
	t.Helper()
	var document any
	if err := yaml.Unmarshal(spec.YAML, &document); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(document) // so that the values have the types of JSON
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	s := &specification{document: parsed.(map[string]any), compiler: jsonschema.NewCompiler()}
	if err := s.compiler.AddResource("https://example.com/openapi.json", parsed); err != nil {
		t.Fatal(err)
	}
	return s
}

// validator checks JSON against a schema of the specification.
func (s *specification) validator(t testing.TB, name string) func(text []byte) error {
	t.Helper()
	schema, err := s.compiler.Compile("https://example.com/openapi.json#/components/schemas/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return func(text []byte) error {
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			return err
		}
		return schema.Validate(v)
	}
}

func (s *specification) schema(t testing.TB, name string) map[string]any {
	t.Helper()
	components, _ := s.document["components"].(map[string]any)
	schemas, _ := components["schemas"].(map[string]any)
	found, ok := schemas[name].(map[string]any)
	if !ok {
		t.Fatalf("the specification has no schema %s", name)
	}
	return found
}

func properties(schema map[string]any) []string {
	given, _ := schema["properties"].(map[string]any)
	return slices.Sorted(maps.Keys(given))
}

func words(v any) []string {
	list, _ := v.([]any)
	out := []string{}
	for _, one := range list {
		if text, ok := one.(string); ok {
			out = append(out, text)
		}
	}
	slices.Sort(out)
	return out
}

// programs hold every verb, attribute and outcome at least once; TestThePrograms… shows that they do.
var programs = []string{
	`[]`,
	`{"instructions":[],"state":null}`,
	`{"instructions":[{"verb":"answer","id":"a.b:c-d_e","headers":{"X-A":"b","User-to-User":"c"}}],"state":{"a":[1,null]},"guard":{"budget_ms":2000,"while_waiting":[{"verb":"play","tone":"ringback"}],"on_failure":"/sorry"},"x_note":7}`,
	`[{"verb":"play","url":"/a.wav","loop":0,"start":1.5,"volume_db":-3,"early":true,"on":{"completed":[],"failed":{"url":"/x","method":"GET"},"default":"/y"}}]`,
	`[{"verb":"play","media_id":"med_1"},{"verb":"play","recording_id":"rec_1"},{"verb":"play","tone":"440+480/2000,0/4000"}]`,
	`[{"verb":"say","text":"你好","voice":"v","language":"zh-CN","loop":2,"volume_db":0,"provider":"p","on":{"completed":"/c"}},{"verb":"say","ssml":"<speak/>"}]`,
	`[{"verb":"pause","length":0.5,"x_why":"breath","on":{"default":[{"verb":"hangup"}]}}]`,
	`[{"verb":"gather","input":["dtmf"],"prompt":[{"verb":"say","text":"1?"},{"verb":"pause"},{"verb":"play","tone":"busy"}],"num_digits":4,"min_digits":2,"finish_on_key":"","timeout":5,"digit_timeout":0,"barge_in":false,"attempts":3,"valid":"^[12]$","invalid_prompt":"/p","no_input_prompt":{"url":"/q"},"mask":true,"action":"/menu","on":{"digits":[],"invalid":[],"timeout":[],"hangup":"/h","redirected":"/r","failed":[]}}]`,
	`[{"verb":"detect","for":["machine","announcement","beep","fax"],"timeout":20,"tuning":{"speech_threshold_ms":2000,"speech_end_threshold_ms":800,"silence_timeout_ms":3000},"action":"/d","on":{"human":[],"machine":[],"announcement":[],"beep":[],"fax":[],"unknown":[]}}]`,
	`[{"verb":"record","max_length":60,"silence":0,"finish_on_key":"12*#","beep":false,"channels":2,"format":"wav","trim":false,"status_url":"https://example.com/s","status_events":["recording.started"],"action":{"url":"done","method":"POST"},"on":{"completed":[],"silence":[],"key":[],"empty":[]}}]`,
	`[{"verb":"recording","op":"start","channels":1,"format":"wav","status_url":"/s","status_events":["recording.completed","recording.failed"]},{"verb":"recording","op":"pause"},{"verb":"recording","op":"resume"},{"verb":"recording","op":"stop"}]`,
	`[{"verb":"voicemail","mailbox":"1001","greeting":[{"verb":"say","text":"x"}],"max_length":60,"on":{"left":[],"empty":[]}}]`,
	`[{"verb":"dial","to":[{"extension":"1001","timeout":5,"delay":0,"screen":[{"verb":"gather","on":{"timeout":[{"verb":"hangup"}]}},{"verb":"tag","data":{}},{"verb":"reject"},{"verb":"hangup"}]},{"sip":"sip:a@b","username":"u","password":"p"},{"number":"+86 138-0013-8000","trunk":"main","caller_id":"anonymous","send_digits":"ww12#","status_url":"/s","status_events":["call.initiated","call.ringing","call.answered","call.ended"],"machine_detection":{"mode":"message_end","timeout":20,"async":true,"tuning":{"silence_timeout_ms":2000},"status_url":"/amd"}},{"agent":"agt_1"},{"client":"amy"}],"strategy":"sequential","timeout":20,"time_limit":600,"caller_id":"+862368925278","caller_name":"Bob","answer_on_bridge":true,"ringback":"ringback","screen":"/screen","record":"ringing","hang_up_on":"*","headers":{"x-b":""},"machine_detection":{},"refer":{"url":"/refer"},"recording_status_url":"/t","recording_status_events":["recording.completed"],"action":"/after","on":{"busy":[],"no_answer":[],"declined":[],"unreachable":[],"not_allowed":[],"canceled":[],"lost":[],"time_limit":[],"completed":[],"machine":[],"referred":[]}}]`,
	`[{"verb":"transfer","to":{"sip":"sip:a@b","password":"p"},"mode":"attended","timeout":20,"screen":[{"verb":"say","text":"x"}],"caller_id":"1001","action":"/t","on":{"completed":[],"no_answer":[],"busy":[],"returned":[]}},{"verb":"dial","to":[{"number":"1"}],"refer":"deny"}]`,
	`[{"verb":"refer","to":"sip:bob@example.com?X-A=1","headers":{"X-A":"b"},"action":"/r","on":{"accepted":[],"refused":[]}},{"verb":"refer","to":"tel:+8613800138000"},{"verb":"refer","to":"95588"}]`,
	`[{"verb":"park","slot":"7","on":{"bridged":[]}},{"verb":"unpark","slot":"7","on":{"bridged":[],"empty":[]}}]`,
	`[{"verb":"enqueue","queue":"support","priority":3,"wait":[{"verb":"say","text":"x"},{"verb":"gather","num_digits":1,"on":{"digits":[{"verb":"leave"}]}},{"verb":"tag","data":{}},{"verb":"redirect","url":"/w"},{"verb":"hangup"}],"max_wait":60,"max_size":5,"announce_position":true,"create":true,"data":{"a":1},"screen":[{"verb":"say","text":"y"}],"action":"/q","on":{"bridged":[],"left":[],"timeout":[],"full":[],"no_agents":[],"callback":[],"lost":[]}}]`,
	`[{"verb":"dequeue","queue":"support","screen":"/s","timeout":30,"on":{"bridged":[],"empty":[]}},{"verb":"dequeue","call_id":"call_1"},{"verb":"leave"}]`,
	`[{"verb":"conference","name":"r","mode":"whisper","whisper_to":"call_1","label":"amy","muted":true,"start_on_enter":false,"end_on_exit":true,"beep":"both","wait":[],"max_participants":5,"record":true,"time_limit":60,"hang_up_on":"*","status_url":"/s","status_events":["conference.started","conference.joined"],"recording_status_url":"/t","recording_status_events":[],"action":"/c","on":{"left":[],"ended":[],"kicked":[],"full":[]}},{"verb":"conference","name":"r","mode":"listen","wait":"/w"}]`,
	`[{"verb":"redirect","url":"https://example.com:8443/a%20b?c=d#e","method":"GET"},{"verb":"hangup","cause":"done"},{"verb":"reject","reason":"busy","sip_code":486},{"verb":"send_digits","digits":"1w2W#","duration_ms":100,"gap_ms":40},{"verb":"tag","data":{"a":{"b":[]}}}]`,
	`[{"verb":"message","to":"+8613800138000","body":"x","from":"+862368925278","status_url":"/s","on":{"sent":[],"failed":"/f"}},{"verb":"message","to":"95588","template_id":"tpl_1"},{"verb":"survey","survey_id":"s","invite":[{"verb":"pause"}],"on":{"answered":[],"skipped":[]}}]`,
	`[{"verb":"say","text":"{{data.name}}"},{"verb":"play","url":"{{state.url}}"},{"verb":"dial","to":[{"number":"{{data.callback}}"}]}]`,
}

// actions hold every op and attribute.
var actions = []string{
	`{"instructions":[{"verb":"hangup"}],"state":{"a":1},"guard":{"budget_ms":2000},"peer":"continue","x_a":1}`,
	`{"instructions":[],"state":null,"peer":[{"verb":"say","text":"x"}]}`,
	`{"url":"https://example.com/x","method":"GET","peer":"hangup"}`,
	`{"op":"hangup","cause":"done"}`, `{"op":"mute"}`, `{"op":"unmute","x_why":1}`, `{"op":"hold","prompt":[{"verb":"play","media_id":"sys_hold"}]}`, `{"op":"unhold"}`,
	`{"op":"digits","digits":"12#","duration_ms":100,"gap_ms":50}`,
	`{"op":"play","url":"/a.wav","loop":0,"volume_db":-3,"to":"both"}`, `{"op":"play","media_id":"med_1"}`, `{"op":"play","recording_id":"rec_1"}`, `{"op":"play","tone":"busy"}`,
	`{"op":"say","text":"x","voice":"v","language":"en","loop":2,"volume_db":1,"provider":"p","to":"self"}`, `{"op":"say","ssml":"<speak/>"}`,
	`{"op":"recording","do":"start","channels":1,"format":"wav","status_url":"/s","status_events":["recording.started"]}`,
	`{"op":"listen","by":{"agent":"agt_1"}}`, `{"op":"listen","call_id":"call_1"}`, `{"op":"whisper","by":{"number":"95588"}}`, `{"op":"whisper","call_id":"call_1"}`,
	`{"op":"barge","by":{"extension":"1001"}}`, `{"op":"barge","call_id":"call_1"}`, `{"op":"intercept","by":{"sip":"sip:a@b","username":"u"}}`,
	`{"op":"intercept","call_id":"call_1"}`, `{"op":"disconnect"}`, `{"op":"pick_up","by":{"client":"amy"}}`, `{"op":"pick_up","call_id":"call_1"}`,
	`{"op":"transfer","to":{"number":"95588","trunk":"t"},"timeout":20,"caller_id":"1001","peer":[{"verb":"hangup"}]}`, `{"op":"consult","to":{"extension":"1001"},"timeout":5,"caller_id":"1001","prompt":"/p"}`,
	`{"op":"complete"}`, `{"op":"cancel"}`, `{"op":"merge"}`, `{"op":"drop","call_id":"call_1"}`, `{"op":"retarget","to":{"agent":"agt_1"},"timeout":5}`,
	`{"op":"park","slot":"7","peer":"hangup"}`, `{"op":"park","peer":"continue"}`, `{"op":"survey","survey_id":"s","invite":[]}`,
	`{"op":"priority","priority":5}`, `{"op":"move","queue":"support","priority":1}`, `{"op":"assign","agent":"agt_1"}`,
}

// unsaid are the rules that a schema cannot say, by what the decoder says of them.
var unsaid = []string{
	"more than num_digits", "not a regular expression", "nested more than", "of the program; at most", "bytes of JSON; at most",
	"is larger than", "are more than 8,192 bytes",
}

// agree fails the test when schema and decoder disagree about a text.
func agree(t *testing.T, valid, decode func([]byte) error, text []byte) (accepted bool) {
	t.Helper()
	decoded, schema := decode(text), valid(text)
	if (decoded == nil) == (schema == nil) {
		return decoded == nil
	}
	if decoded != nil && slices.ContainsFunc(unsaid, func(rule string) bool { return strings.Contains(decoded.Error(), rule) }) {
		return false
	}
	t.Errorf("%s\nthe decoder: %v\nthe schema: %v", text, decoded, schema)
	return false
}

func decodeProgram(text []byte) error { _, err := ParseProgram(text); return err }
func decodeAction(text []byte) error  { _, err := ParseAction(text); return err }

func TestSchemaAndDecoderAcceptTheSame(t *testing.T) {
	spec := loadSpecification(t)
	for _, c := range []struct {
		schema string
		decode func([]byte) error
		seeds  []string
		rounds int
	}{{"Program", decodeProgram, programs, 2500}, {"LiveAction", decodeAction, actions, 2500}} {
		t.Run(c.schema, func(t *testing.T) {
			valid := spec.validator(t, c.schema)
			for _, text := range c.seeds {
				if !agree(t, valid, c.decode, []byte(text)) {
					t.Errorf("%s: must be accepted by both: %v", text, c.decode([]byte(text)))
				}
			}
			random := rand.New(rand.NewPCG(3, 5))
			accepted := 0
			for n := range c.rounds {
				if agree(t, valid, c.decode, mutate(random, c.seeds[n%len(c.seeds)])) {
					accepted++
				}
				if t.Failed() {
					return
				}
			}
			if accepted < c.rounds/20 || accepted > c.rounds*19/20 {
				t.Errorf("%d of %d mutants were accepted: the mutations prove nothing", accepted, c.rounds)
			}
		})
	}
}

func FuzzSchemaAndDecoderAgree(f *testing.F) {
	for n := range programs {
		f.Add(uint64(n), uint64(n), false)
	}
	for n := range actions {
		f.Add(uint64(n), uint64(n), true)
	}
	spec := loadSpecification(f)
	program, action := spec.validator(f, "Program"), spec.validator(f, "LiveAction")
	f.Fuzz(func(t *testing.T, a, b uint64, live bool) {
		random := rand.New(rand.NewPCG(a, b))
		if live {
			agree(t, action, decodeAction, mutate(random, actions[random.IntN(len(actions))]))
			return
		}
		agree(t, program, decodeProgram, mutate(random, programs[random.IntN(len(programs))]))
	})
}

// leaves are what a mutation puts in the place of something.
var leaves = []any{
	nil, true, false, 0, 1, -1, 2, 3, 486, 600, 601, 1000, 1001, 2000, 86400, 86401, 0.5, -41.5, 20, 21, "", "x", "#", "##", "*", "1001", "1", "123456789", "+8613800138000",
	"sip:a@b", "sip:", "tel:+1", "tel:", "https://example.com/x", "http://", "ftp://x/y", "/relative?x=1", "a:b", "//host/x", "http://[::1]:80/", "%zz", "GET", "POST",
	"PUT", "dtmf", "speech", "wav", "busy", "none", "both", "enter", "answer", "simultaneous", "blind", "whisper", "listen", "message_end", "start", "stop", "deny", "continue",
	"hangup", "zh-CN", "zh_CN", "{{data.x}}", "a\nb", "anonymous", strings.Repeat("a", 64), strings.Repeat("a", 65), strings.Repeat("语", 71), strings.Repeat("语", 129),
	strings.Repeat("9", 129), strings.Repeat("t", 1601), strings.Repeat("t", 4097), map[string]any{}, []any{}, []any{"dtmf"}, []any{"speech"}, []any{nil}, []any{"beep", "fax"},
	[]any{"recording.started"}, []any{"call.ended"}, []any{"conference.left", "call.ended"}, map[string]any{"url": "/x"}, map[string]any{"url": "/x", "method": "GET"},
	map[string]any{"url": "/x", "method": nil, "x_": 1}, map[string]any{"method": "GET"}, map[string]any{"url": 7}, map[string]any{"mode": "machine"}, map[string]any{"tuning": map[string]any{}},
	map[string]any{"speech_threshold_ms": 1000}, map[string]any{"verb": "hangup"}, []any{map[string]any{"verb": "pause"}}, []any{map[string]any{"verb": "leave"}},
	[]any{map[string]any{"verb": "dial", "to": []any{}}}, []any{map[string]any{"verb": "gather"}}, []any{map[string]any{"verb": "stream"}}, []any{map[string]any{"verb": "answer"}},
	map[string]any{"default": []any{}}, map[string]any{"default": []any{map[string]any{"verb": "answer"}}}, map[string]any{"timeout": nil}, map[string]any{"timeout": []any{map[string]any{"verb": "leave"}}},
	map[string]any{"X-A": "1"}, map[string]any{"Via": "1"}, map[string]any{"X-A": "a\r\nb"}, map[string]any{"X-A": 1}, map[string]any{"number": "95588"}, map[string]any{"agent": "a", "client": "b"},
	map[string]any{"extension": "1001", "trunk": "t"}, map[string]any{"client": "c", "username": ""}, []any{map[string]any{"number": "95588", "username": "u"}},
	[]any{map[string]any{"sip": "sips:x", "trunk": ""}}, []any{map[string]any{"sip": "sip:x", "number": "1"}}, []any{map[string]any{"agent": "agt_1"}},
}

// names are what a mutation adds.
var names = []string{
	"x_free", "X_no", "verb", "op", "id", "on", "url", "media_id", "tone", "text", "ssml", "loop", "start", "length", "prompt", "num_digits", "min_digits", "timeout", "wait", "max_wait",
	"action", "screen", "guard", "state", "instructions", "to", "trunk", "username", "password", "number", "sip", "extension", "agent", "client", "headers", "cause", "method", "default",
	"busy", "completed", "digits", "data", "sip_code", "reason", "budget_ms", "on_failure", "caller_id", "unknown", "queue", "call_id", "mode", "whisper_to", "label", "speech", "skills",
	"transcribe", "refer", "machine_detection", "tuning", "status_url", "status_events", "for", "slot", "body", "template_id", "peer", "by", "priority", "survey_id", "beep", "record",
}

// mutate changes one or two places of a text.
func mutate(random *rand.Rand, text string) []byte {
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		panic(err)
	}
	for range 1 + random.IntN(2) {
		v = change(random, v)
	}
	out, err := json.Marshal(withoutNullAlternatives(v))
	if err != nil {
		panic(err)
	}
	return out
}

// withoutNullAlternatives leaves out null where exactly one of several attributes is wanted: the decoder counts it as
// absent, the schema does not take it.
func withoutNullAlternatives(v any) any {
	switch x := v.(type) {
	case map[string]any:
		for _, name := range []string{
			"url", "media_id", "recording_id", "tone", "text", "ssml", "number", "sip", "extension", "agent", "client", "queue", "call_id", "body",
			"template_id", "op", "instructions", "by",
		} {
			if value, there := x[name]; there && value == nil {
				delete(x, name)
			}
		}
		for name := range x {
			x[name] = withoutNullAlternatives(x[name])
		}
	case []any:
		for i := range x {
			x[i] = withoutNullAlternatives(x[i])
		}
	}
	return v
}

// change walks to a random place and changes it.
func change(random *rand.Rand, v any) any {
	switch x := v.(type) {
	case map[string]any:
		keys := slices.Sorted(maps.Keys(x)) // a map's own order does not follow the seed
		switch pick := random.IntN(10); {
		case pick == 0 || len(keys) == 0:
			x[names[random.IntN(len(names))]] = leaf(random)
		case pick == 1:
			delete(x, keys[random.IntN(len(keys))])
		case pick == 2:
			return leaf(random)
		default:
			k := keys[random.IntN(len(keys))]
			x[k] = change(random, x[k])
		}
		return x
	case []any:
		switch pick := random.IntN(10); {
		case pick == 0 || len(x) == 0:
			return append(x, leaf(random))
		case pick == 1:
			return x[:len(x)-1]
		case pick == 2:
			return leaf(random)
		default:
			i := random.IntN(len(x))
			x[i] = change(random, x[i])
			return x
		}
	}
	return leaf(random)
}

func leaf(random *rand.Rand) any {
	// A copy: what is put in may be changed again.
	text, err := json.Marshal(leaves[random.IntN(len(leaves))])
	if err != nil {
		panic(err)
	}
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		panic(err)
	}
	return v
}

// TestTheSeedsHoldTheWholeVocabulary keeps the differential test from passing over what nobody wrote a seed for.
func TestTheSeedsHoldTheWholeVocabulary(t *testing.T) {
	seen := map[string]map[string]bool{}
	for _, text := range append(slices.Clone(programs), actions...) {
		var v any
		if err := json.Unmarshal([]byte(text), &v); err != nil {
			t.Fatal(err)
		}
		note(seen, v)
	}
	expect := func(what string, v any, outcomes []Outcome) {
		for name := range fieldsOf(reflect.TypeOf(v).Elem()) {
			if !seen[what][name] && name != "id" && name != "on" {
				t.Errorf("no seed has %s of %s", name, what)
			}
		}
		for _, o := range outcomes {
			if !slices.Contains(sharedOutcomes, o) && !seen[what]["on/"+string(o)] {
				t.Errorf("no seed has on.%s of %s", o, what)
			}
		}
	}
	for _, name := range Verbs() {
		expect(name, verbs[name].make(), Outcomes(name))
	}
	for _, name := range Ops() {
		expect("op "+name, ops[name].make(), nil)
	}
}

func note(seen map[string]map[string]bool, v any) {
	switch x := v.(type) {
	case []any:
		for _, one := range x {
			note(seen, one)
		}
	case map[string]any:
		what, ok := x["verb"].(string)
		if op, is := x["op"].(string); is && !ok {
			what = "op " + op
		}
		if seen[what] == nil {
			seen[what] = map[string]bool{}
		}
		for name, value := range x {
			seen[what][name] = true
			if on, is := value.(map[string]any); is && name == "on" {
				for outcome := range on {
					seen[what]["on/"+outcome] = true
				}
			}
			note(seen, value)
		}
	}
}

func TestEveryOutcomeHasAShape(t *testing.T) {
	for _, name := range Verbs() {
		for _, o := range verbs[name].outcomes {
			if _, ok := triggerMembers[name][o]; !ok {
				t.Errorf("%s %s has no row in triggerMembers", name, o)
			}
		}
		if len(triggerMembers[name]) != len(verbs[name].outcomes) {
			t.Errorf("%s has rows for outcomes it does not have: %v", name, triggerMembers[name])
		}
	}
	fields := fieldsOf(reflect.TypeFor[Trigger]())
	used := map[string]bool{"verb": true, "id": true, "outcome": true}
	for _, name := range Verbs() {
		for _, o := range Outcomes(name) {
			always, known, _ := Members(name, o)
			for _, member := range append(always, known...) {
				if _, ok := fields[member]; !ok && member != "priority" {
					t.Errorf("%s %s: a trigger has no member %s", name, o, member)
				}
				used[member] = true
			}
		}
	}
	for name := range fields {
		if !used[name] {
			t.Errorf("no outcome has the member %s", name)
		}
	}
}

// samples are a value for each member of a trigger.
func samples(t *testing.T, names []string) map[string]any {
	t.Helper()
	out := map[string]any{}
	fields := fieldsOf(reflect.TypeFor[Trigger]())
	given := map[string]any{
		"finished_by": "key", "announcement": "power_off", "kind": "busy", "answered_by": "human", "ended_by": "callee", "cause": "busy",
		"answered_at": "2026-01-31T08:00:00Z", "answers": map[string]any{"q1": 5},
	}
	for _, name := range names {
		if v, ok := given[name]; ok {
			out[name] = v
			continue
		}
		kind := reflect.TypeFor[Trigger]().FieldByIndex(fields[name].index).Type
		for kind.Kind() == reflect.Pointer {
			kind = kind.Elem()
		}
		switch kind.Kind() {
		case reflect.String:
			out[name] = "x"
		default:
			out[name] = 1
		}
	}
	return out
}

func TestATriggersShapeIsTheSchemas(t *testing.T) {
	valid := loadSpecification(t).validator(t, "Trigger")
	for _, verb := range Verbs() {
		for _, o := range Outcomes(verb) {
			always, known, _ := Members(verb, o)
			least := samples(t, always)
			least["verb"], least["outcome"] = verb, o
			most := samples(t, append(slices.Clone(always), known...))
			most["verb"], most["outcome"], most["id"] = verb, o, "a"
			for _, v := range []map[string]any{least, most} {
				text, err := json.Marshal(v)
				if err != nil {
					t.Fatal(err)
				}
				var trigger Trigger
				if err := json.Unmarshal(text, &trigger); err != nil {
					t.Fatal(err)
				}
				if err := trigger.Check(); err != nil {
					t.Errorf("%s: %v", text, err)
				}
				if err := valid(text); err != nil {
					t.Errorf("%s: %v", text, err)
				}
			}
			for _, name := range always {
				without := maps.Clone(least)
				delete(without, name)
				text, err := json.Marshal(without)
				if err != nil {
					t.Fatal(err)
				}
				if valid(text) == nil {
					t.Errorf("the schema takes %s %s without %s", verb, o, name)
				}
			}
		}
	}
}

func TestATriggerOfAnotherShapeIsFound(t *testing.T) {
	for _, c := range []struct {
		trigger Trigger
		says    string
	}{
		{Trigger{Verb: "gather", Outcome: Busy}, `gather has no outcome "busy"`},
		{Trigger{Verb: "pause", Outcome: Hangup}, `pause has no outcome "hangup"`},
		{Trigger{Verb: "record", Outcome: Completed}, "record completed: recording_id is missing"},
		{Trigger{Verb: "gather", Outcome: Timeout, CallID: "call_1", SIPCode: 486}, "gather timeout: has call_id, sip_code as well"},
		{Trigger{Verb: "play", Outcome: Failed}, "play failed: error is missing"},
	} {
		if err := c.trigger.Check(); err == nil || err.Error() != c.says {
			t.Errorf("%+v: %v, want %s", c.trigger, err, c.says)
		}
	}
}

// The structs that are written by hand have the members that the specification says, and no others.
func TestStructsHaveTheMembersOfTheirSchemas(t *testing.T) {
	spec := loadSpecification(t)
	for name, of := range map[string]reflect.Type{
		"CallRequest": reflect.TypeFor[CallRequest](), "LiveCall": reflect.TypeFor[Call](), "Waiting": reflect.TypeFor[Waiting](), "Event": reflect.TypeFor[Event](),
		"EventData": reflect.TypeFor[EventData](), "CDR": reflect.TypeFor[CDR](), "Quality": reflect.TypeFor[Quality](), "Guard": reflect.TypeFor[Guard](),
		"MachineDetection": reflect.TypeFor[MachineDetection](), "DetectionTuning": reflect.TypeFor[Tuning](), "DialTarget": reflect.TypeFor[DialTarget](),
	} {
		want := properties(spec.schema(t, name))
		if got := slices.Sorted(maps.Keys(fieldsOf(of))); !slices.Equal(got, want) {
			t.Errorf("%s: the struct has %v, the schema %v", name, got, want)
		}
	}
}

func TestEnumsAreTheSchemas(t *testing.T) {
	spec := loadSpecification(t)
	enum := func(schema, property string) []string {
		given, _ := spec.schema(t, schema)["properties"].(map[string]any)
		one, _ := given[property].(map[string]any)
		return words(one["enum"])
	}
	texts := func(list any) []string {
		out := []string{}
		for i := range reflect.ValueOf(list).Len() {
			out = append(out, reflect.ValueOf(list).Index(i).String())
		}
		slices.Sort(out)
		return out
	}
	outcomes := map[Outcome]bool{}
	for _, name := range Verbs() {
		for _, o := range Outcomes(name) {
			outcomes[o] = true
		}
	}
	for what, c := range map[string][2][]string{
		"event types":    {texts(EventTypes()), enum("Event", "type")},
		"causes":         {texts(Causes()), enum("CDR", "cause")},
		"causes of dial": {texts(Causes()), enum("DialTrigger", "cause")},
		"outcomes":       {texts(slices.Collect(maps.Keys(outcomes))), enum("EventData", "outcome")},
		"reasons":        {texts([]Reason{ReasonIncoming, ReasonAnswered, ReasonAction, ReasonOn, ReasonRedirect, ReasonPrompt, ReasonScreen, ReasonWait, ReasonModified, ReasonFallback}), enum("CallRequest", "reason")},
		"what answered":  {texts([]AnsweredBy{ByHuman, ByFax, ByUnknown, ByMachine, ByMachineEndBeep, ByMachineEndSilence, ByMachineEndOther}), enum("LiveCall", "answered_by")},
		"announcements":  {texts([]AnnouncementKind{AnnouncesInvalid, AnnouncesSuspended, AnnouncesPowerOff, AnnouncesBusy, AnnouncesNoAnswer, AnnouncesUnreachable}), enum("DetectTrigger", "kind")},
		"statuses":       {texts([]Status{StatusQueued, StatusRinging, StatusInProgress, StatusCompleted, StatusBusy, StatusNoAnswer, StatusFailed, StatusCanceled, StatusRejected}), enum("LiveCall", "status")},
		"who ends":       {texts([]EndedBy{EndedByCaller, EndedByCallee, EndedByApplication, EndedByAPI, EndedBySystem}), enum("CDR", "ended_by")},
	} {
		if !slices.Equal(c[0], c[1]) {
			t.Errorf("%s: %v here, %v in the schema", what, c[0], c[1])
		}
	}
}

func TestEveryEventsMembersExist(t *testing.T) {
	fields := fieldsOf(reflect.TypeFor[EventData]())
	used := map[string]bool{}
	for kind, text := range eventMembers {
		always, known := splitMembers(text)
		for _, name := range append(always, known...) {
			if _, ok := fields[name]; !ok {
				t.Errorf("%s: there is no member %s", kind, name)
			}
			used[name] = true
		}
	}
	for name := range fields {
		if !used[name] {
			t.Errorf("no event has the member %s", name)
		}
	}
	held := true
	for _, c := range []struct {
		event Event
		says  string
	}{
		{Event{Type: EventCallHeld, Data: EventData{Held: &held}}, ""},
		{Event{Type: EventCallHeld}, "call.held: held is missing"},
		{Event{Type: EventCallAnswered, Data: EventData{Digit: "1"}}, "call.answered: has digit as well"},
		{Event{Type: "call.sung"}, `"call.sung" is no event of a call`},
	} {
		if err := c.event.Check(); err == nil && c.says != "" || err != nil && err.Error() != c.says {
			t.Errorf("%+v: %v", c.event, err)
		}
	}
}

func TestEventTypesMatchPatterns(t *testing.T) {
	for pattern, want := range map[string]bool{"queue.joined": true, "queue.*": true, "*": true, "queue": false, "call.*": false, "queue.join": false} {
		if EventQueueJoined.Matches(pattern) != want {
			t.Errorf("%s: %v", pattern, !want)
		}
	}
}

// fieldsOf are t's fields by their JSON names.
func fieldsOf(t reflect.Type) map[string]field {
	all := map[string]field{}
	for _, f := range layoutOf(t).fields {
		all[f.name] = f
	}
	return all
}
