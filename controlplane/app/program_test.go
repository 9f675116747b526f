package app_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"github.com/hookswitch/hookswitch/webhooks"
)

// programSchema is the schema Program as the specification has it, in OpenAPI 3.1.
func programSchema(t testing.TB) func(text []byte) error {
	t.Helper()
	spec, err := specification()
	if err != nil {
		t.Fatal(err)
	}
	var document any
	if err := yaml.Unmarshal(spec.YAML, &document); err != nil {
		t.Fatal(err)
	}
	// Through JSON once, so that the values have the types of JSON.
	text, err := json.Marshal(document)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("https://example.com/openapi.json", parsed); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("https://example.com/openapi.json#/components/schemas/Program")
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

// programs hold every verb and attribute at least once.
var programs = []string{
	`[]`,
	`{"instructions":[],"state":null}`,
	`{"instructions":[{"verb":"answer","id":"a.b:c-d_e","headers":{"X-A":"b","User-to-User":"c"}}],"state":{"a":[1,null]},"guard":{"budget_ms":2000,"while_waiting":[{"verb":"play","tone":"ringback"}],"on_failure":"/sorry"},"x_note":7}`,
	`[{"verb":"play","url":"/a.wav","loop":0,"start":1.5,"volume_db":-3,"early":true,"on":{"completed":[],"failed":{"url":"/x","method":"GET"},"default":"/y"}}]`,
	`[{"verb":"play","media_id":"med_1"},{"verb":"play","recording_id":"rec_1"},{"verb":"play","tone":"440+480/2000,0/4000"}]`,
	`[{"verb":"say","text":"你好","voice":"v","language":"zh-CN","loop":2,"volume_db":0,"provider":"p"},{"verb":"say","ssml":"<speak/>"}]`,
	`[{"verb":"pause","length":0.5,"x_why":"breath","on":{"default":[{"verb":"hangup"}]}}]`,
	`[{"verb":"gather","input":["dtmf"],"prompt":[{"verb":"say","text":"1?"},{"verb":"pause"},{"verb":"play","tone":"busy"}],"num_digits":4,"min_digits":2,"finish_on_key":"","timeout":5,"digit_timeout":0,"barge_in":false,"attempts":3,"valid":"^[12]$","invalid_prompt":"/p","no_input_prompt":{"url":"/q"},"mask":true,"action":"/menu","on":{"digits":[],"invalid":[],"timeout":[],"hangup":"/h","redirected":"/r","failed":[]}}]`,
	`[{"verb":"record","max_length":60,"silence":0,"finish_on_key":"12*#","beep":false,"channels":2,"format":"wav","trim":false,"status_url":"https://example.com/s","action":{"url":"done","method":"POST"},"on":{"completed":[],"silence":[],"key":[],"empty":[]}}]`,
	`[{"verb":"dial","to":[{"extension":"1001","timeout":5,"delay":0,"screen":[{"verb":"gather"},{"verb":"tag","data":{}},{"verb":"reject"},{"verb":"hangup"}]},{"sip":"sip:a@b","username":"u","password":"p"},{"number":"+86 138-0013-8000","trunk":"main","caller_id":"anonymous"}],"strategy":"sequential","timeout":20,"time_limit":600,"caller_id":"+862368925278","caller_name":"Bob","answer_on_bridge":true,"ringback":"ringback","screen":"/screen","record":"ringing","hang_up_on":"*","headers":{"x-b":""},"action":"/after","on":{"busy":[],"no_answer":[],"declined":[],"unreachable":[],"not_allowed":[],"canceled":[],"lost":[],"time_limit":[],"completed":[]}}]`,
	`[{"verb":"redirect","url":"https://example.com:8443/a%20b?c=d#e","method":"GET"},{"verb":"hangup","cause":"done"},{"verb":"reject","reason":"busy","sip_code":486},{"verb":"send_digits","digits":"1w2W#","duration_ms":100,"gap_ms":40},{"verb":"tag","data":{"a":{"b":[]}}}]`,
	`[{"verb":"say","text":"{{data.name}}"},{"verb":"play","url":"{{state.url}}"},{"verb":"dial","to":[{"number":"{{data.callback}}"}]}]`,
}

// unsaid are the rules that a schema cannot say, by what ParseProgram says of them.
var unsaid = []string{
	"more than num_digits", "not a regular expression", "nested more than", "of the program; at most", "bytes of JSON; at most",
	"is larger than", "are more than 8,192 bytes",
}

// agree fails the test when schema and decoder disagree about a program.
func agree(t *testing.T, valid func([]byte) error, text []byte) (accepted bool) {
	t.Helper()
	_, parsed := webhooks.ParseProgram(text)
	schema := valid(text)
	if (parsed == nil) == (schema == nil) {
		return parsed == nil
	}
	if parsed != nil {
		for _, rule := range unsaid {
			if strings.Contains(parsed.Error(), rule) {
				return false
			}
		}
	}
	t.Errorf("%s\nParseProgram: %v\nthe schema: %v", text, parsed, schema)
	return false
}

func TestSchemaAndDecoderAcceptTheSamePrograms(t *testing.T) {
	valid := programSchema(t)
	for _, text := range programs {
		if !agree(t, valid, []byte(text)) {
			t.Errorf("%s: must be accepted by both", text)
		}
	}
	random := rand.New(rand.NewPCG(7, 11))
	accepted := 0
	const rounds = 6000
	for n := range rounds {
		text := mutate(random, programs[n%len(programs)])
		if agree(t, valid, text) {
			accepted++
		}
		if t.Failed() {
			return
		}
	}
	if accepted < rounds/20 || accepted > rounds*19/20 {
		t.Errorf("%d of %d mutants were accepted: the mutations prove nothing", accepted, rounds)
	}
}

// leaves are what a mutation puts in the place of something.
var leaves = []any{
	nil, true, false, 0, 1, -1, 2, 3, 486, 600, 601, 1000, 1001, 86400, 86401, 0.5, -41.5, 20, 21, "", "x", "#", "##", "*", "1001", "1", "123456789", "+8613800138000",
	"sip:a@b", "sip:", "https://example.com/x", "http://", "ftp://x/y", "/relative?x=1", "a:b", "//host/x", "http://[::1]:80/", "http://h:x/", "%zz", "GET", "POST",
	"PUT", "dtmf", "wav", "busy", "none", "answer", "simultaneous", "zh-CN", "zh_CN", "{{data.x}}", "a\nb", "anonymous", strings.Repeat("a", 64), strings.Repeat("a", 65),
	strings.Repeat("语", 71), strings.Repeat("9", 129), strings.Repeat("t", 4097), map[string]any{}, []any{}, []any{"dtmf"}, []any{"speech"}, []any{nil}, map[string]any{"url": "/x"},
	map[string]any{"url": "/x", "method": "GET"}, map[string]any{"url": "/x", "method": nil, "x_": 1}, map[string]any{"method": "GET"}, map[string]any{"url": 7},
	map[string]any{"verb": "hangup"}, []any{map[string]any{"verb": "pause"}}, []any{map[string]any{"verb": "dial", "to": []any{}}}, []any{map[string]any{"verb": "gather"}},
	[]any{map[string]any{"verb": "answer"}}, map[string]any{"default": []any{}}, map[string]any{"timeout": nil}, map[string]any{"X-A": "1"}, map[string]any{"Via": "1"},
	map[string]any{"X-A": "a\r\nb"}, map[string]any{"X-A": 1}, []any{map[string]any{"number": "95588", "username": ""}},
	[]any{map[string]any{"number": "95588", "username": "u"}}, []any{map[string]any{"extension": "1001", "trunk": "t"}}, []any{map[string]any{"sip": "sips:x", "trunk": ""}},
	[]any{map[string]any{"sip": "sip:x", "number": "1"}}, []any{map[string]any{"extension": "1"}},
}

// names are what a mutation adds.
var names = []string{
	"x_free", "X_no", "verb", "id", "on", "url", "media_id", "tone", "text", "ssml", "loop", "start", "length", "prompt", "num_digits", "min_digits", "timeout",
	"action", "screen", "guard", "state", "instructions", "to", "trunk", "username", "password", "number", "sip", "extension", "headers", "cause", "method", "default",
	"busy", "completed", "digits", "data", "sip_code", "reason", "budget_ms", "on_failure", "caller_id", "unknown",
}

// mutate changes one or two places of a program.
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
// given, the schema does not take it.
func withoutNullAlternatives(v any) any {
	switch x := v.(type) {
	case map[string]any:
		for _, name := range []string{"url", "media_id", "recording_id", "tone", "text", "ssml", "number", "sip", "extension"} {
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

func FuzzSchemaAndDecoderAgree(f *testing.F) {
	for n := range programs {
		f.Add(uint64(n), uint64(n))
	}
	valid := programSchema(f)
	f.Fuzz(func(t *testing.T, a, b uint64) {
		random := rand.New(rand.NewPCG(a, b))
		agree(t, valid, mutate(random, programs[random.IntN(len(programs))]))
	})
}
