package webhooks

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestParseProgramAcceptsTheContractsExample(t *testing.T) {
	p, err := ParseProgram([]byte(`{"instructions":[
		{"verb":"gather","id":"menu","num_digits":1,"attempts":2,
		 "prompt":[{"verb":"say","text":"销售请按1，其他请按2","language":"zh-CN"}],
		 "on":{"timeout":[{"verb":"play","media_id":"sys_goodbye"},{"verb":"hangup"}],"invalid":[]},
		 "action":{"url":"/menu"}}],
		"state":{"lang":"zh"}}`))
	if err != nil {
		t.Fatal(err)
	}
	g := p.Instructions[0].(*Gather)
	if g.ID != "menu" || g.NumDigits != 1 || g.Attempts != 2 || g.Action.URL != "/menu" {
		t.Errorf("attributes were not read: %+v", g)
	}
	if g.FinishOnKey != "#" || g.Timeout != 5 || !g.BargeIn || g.MinDigits != 1 {
		t.Errorf("defaults were not applied: %+v", g)
	}
	if on, ok := g.On["invalid"]; !ok || on.Target != nil || len(on.Instructions) != 0 {
		t.Errorf("an empty list under on must be kept apart from an absent one: %+v", g.On)
	}
	if string(p.State) != `{"lang":"zh"}` {
		t.Errorf("state is %s", p.State)
	}
}

func TestParseProgramRefusesWithAPointerAndASentence(t *testing.T) {
	for _, c := range []struct{ body, pointer, says string }{
		{`{`, "", "not JSON"},
		{`[] []`, "", "follows"},
		{`3`, "", "a program is"},
		{`{}`, "/instructions", "missing"},
		{`{"instructions":{}}`, "/instructions", "list"},
		{`{"instructions":[],"foo":1}`, "/foo", "unknown attribute"},
		{`{"instructions":[],"state":[]}`, "/state", "object"},
		{`{"instructions":[],"state":{"x":"` + strings.Repeat("y", MaxStateBytes) + `"}}`, "/state", "bytes"},
		{`{"instructions":[],"guard":{"budget_ms":3}}`, "/guard/budget_ms", "1000–15000"},
		{`[1]`, "/0", "object"},
		{`[{}]`, "/0/verb", "missing"},
		{`[{"verb":"sing"}]`, "/0/verb", "not a verb"},
		{`[{"verb":"pause","duration":2}]`, "/0/duration", "unknown attribute"},
		{`[{"verb":"pause","length":"2"}]`, "/0/length", "number"},
		{`[{"verb":"pause"},{"verb":"gather"},{"verb":"gather","timeout":1000}]`, "/2/timeout", "0–600 seconds"},
		{`[{"verb":"gather","num_digits":1.5}]`, "/0/num_digits", "whole number"},
		{`[{"verb":"gather","min_digits":3,"num_digits":2}]`, "/0/min_digits", "more than"},
		{`[{"verb":"gather","finish_on_key":"##"}]`, "/0/finish_on_key", "one key"},
		{`[{"verb":"gather","valid":"("}]`, "/0/valid", "regular expression"},
		{`[{"verb":"gather","input":["speech"]}]`, "/0/input", "must be dtmf"},
		{`[{"verb":"gather","prompt":[{"verb":"dial","to":[]}]}]`, "/0/prompt/0/verb", "not allowed in a prompt"},
		{`[{"verb":"gather","on":{"busy":[]}}]`, "/0/on/busy", "no outcome"},
		{`[{"verb":"pause","on":{"completed":[]}}]`, "/0/on/completed", "no outcome"},
		{`[{"verb":"play"}]`, "/0", "needs one of"},
		{`[{"verb":"play","url":null}]`, "/0", "needs one of"},
		{`[{"verb":"play","url":"/a.wav","tone":"busy"}]`, "/0/tone", "together with url"},
		{`[{"verb":"play","url":"ftp://x/y"}]`, "/0/url", "http"},
		{`[{"verb":"play","url":""}]`, "/0/url", "must be a URL"},
		{`[{"verb":"redirect"}]`, "/0/url", "missing"},
		{`[{"verb":"dial","to":[]}]`, "/0/to", "1–10"},
		{`[{"verb":"dial","to":[{}]}]`, "/0/to/0", "needs one of"},
		{`[{"verb":"dial","to":[{"extension":"1001","username":"x"}]}]`, "/0/to/0/username", "sip target"},
		{`[{"verb":"dial","to":[{"agent":"agt_1"}]}]`, "/0/to/0/agent", "unknown attribute"},
		{`[{"verb":"dial","to":[{"extension":"1001"}],"headers":{"Via":"x"}}]`, "/0/headers/Via", "X- header"},
		{`[{"verb":"dial","to":[{"extension":"1001"}],"headers":{"X-A":"a\r\nVia: b"}}]`, "/0/headers/X-A", "one line"},
		{`[{"verb":"send_digits","digits":"12x"}]`, "/0/digits", "0-9"},
		{`[{"verb":"reject","sip_code":200}]`, "/0/sip_code", "400–699"},
		{`[{"verb":"tag"}]`, "/0/data", "missing"},
		{`[{"verb":"gather","on":{"timeout":5}}]`, "/0/on/timeout", "list of instructions"},
		{`[{"verb":"gather","action":{"url":"/x","method":"PUT"}}]`, "/0/action/method", "POST or GET"},
		{nested(20), strings.Repeat("/0/on/timeout", 17), "nested"},
		{`[` + strings.Repeat(`{"verb":"answer"},`, MaxInstructions) + `{"verb":"answer"}]`, "/1000", "at most 1000"},
	} {
		_, err := ParseProgram([]byte(c.body))
		var refused *ProgramError
		if !errors.As(err, &refused) {
			t.Errorf("%.80s: was accepted", c.body)
			continue
		}
		if refused.Pointer != c.pointer || !strings.Contains(refused.Message, c.says) {
			t.Errorf("%.80s:\n got %q %q\nwant %q %q", c.body, refused.Pointer, refused.Message, c.pointer, c.says)
		}
	}
}

func nested(depth int) string {
	body := `{"verb":"gather"}`
	for range depth {
		body = `{"verb":"gather","on":{"timeout":[` + body + `]}}`
	}
	return "[" + body + "]"
}

func TestFreeAttributesAreIgnored(t *testing.T) {
	if _, err := ParseProgram([]byte(`{"x_note":1,"instructions":[{"verb":"pause","x_why":"breath"}]}`)); err != nil {
		t.Error(err)
	}
}

func TestTemplatesPassTheFormatsOfTheirField(t *testing.T) {
	if _, err := ParseProgram([]byte(`[{"verb":"dial","to":[{"number":"{{data.callback}}"}]},{"verb":"play","url":"{{state.url}}"}]`)); err != nil {
		t.Error(err)
	}
}

// Every default in the table of tags must be readable and inside its own bounds, or an absent attribute would be
// worse than a wrong one.
func TestDefaultsObeyTheirOwnRules(t *testing.T) {
	for _, name := range Verbs() {
		ins := verbs[name].make()
		Defaults(ins)
		v := reflect.ValueOf(ins).Elem()
		for key, f := range fieldsOf(v.Type()) {
			if _, ok := f.tag.Lookup("default"); !ok {
				continue
			}
			if err := check("/"+name+"/"+key, v.FieldByIndex(f.index), f.tag); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestProgramsSurviveBeingStored(t *testing.T) {
	for _, body := range storedPrograms {
		first, err := ParseProgram([]byte(body))
		if err != nil {
			t.Errorf("%s: %v", body, err)
			continue
		}
		written, err := json.Marshal(first)
		if err != nil {
			t.Fatal(err)
		}
		second, err := ParseProgram(written)
		if err != nil || !reflect.DeepEqual(first, second) {
			t.Errorf("%s\nbecame %s\n%v", body, written, err)
		}
	}
}

var storedPrograms = []string{
	`[]`,
	`[{"verb":"answer","headers":{"X-A":"b"}},{"verb":"play","tone":"busy","loop":0},{"verb":"say","text":"hi"},{"verb":"pause","length":0.5}]`,
	`{"instructions":[{"verb":"gather","on":{"timeout":[],"default":"/x","digits":{"url":"/y","method":"GET"}},"prompt":[{"verb":"say","text":"1?"}],"finish_on_key":"","digit_timeout":0}],"state":null,"guard":{"budget_ms":2000,"on_failure":[{"verb":"hangup"}]}}`,
	`[{"verb":"record","action":"/done","trim":false},{"verb":"redirect","url":"/z"},{"verb":"hangup"},{"verb":"reject","reason":"busy"},{"verb":"send_digits","digits":"1w2"},{"verb":"tag","data":{"a":[1,{"b":2}]}}]`,
	`[{"verb":"dial","to":[{"extension":"1001","timeout":5,"screen":[{"verb":"gather"}]},{"sip":"sip:a@b","username":"u","password":"p"},{"number":"+8613800138000","trunk":"main"}],"strategy":"sequential","record":"answer","hang_up_on":"*"}]`,
}

func FuzzParseProgram(f *testing.F) {
	for _, body := range storedPrograms {
		f.Add([]byte(body))
	}
	f.Add([]byte(nested(20)))
	f.Fuzz(func(t *testing.T, body []byte) {
		first, err := ParseProgram(body)
		if err != nil {
			return
		}
		written, err := json.Marshal(first)
		if err != nil {
			t.Fatal(err)
		}
		if len(written) > MaxProgramBytes {
			return // defaults written out may outgrow the limit; a stored program is checked again then
		}
		if _, err := ParseProgram(written); err != nil {
			t.Errorf("%s was accepted, but written as %s: %v", body, written, err)
		}
	})
}

func TestTemplatesAreEscapedForWhereTheyStand(t *testing.T) {
	v := Vars{
		Call:    Call{From: "+8613800138000"},
		Trigger: &Trigger{Verb: "gather", Digits: "1#"},
		State:   json.RawMessage(`{"n":{"a":7}}`),
		Data:    map[string]any{"name": "a/b?c=<d>"},
	}
	for _, c := range []struct{ got, want string }{
		{v.Text("按了{{trigger.digits}}, {{ call.from }}"), "按了1#, +8613800138000"},
		{v.URL("https://x/{{data.name}}?n={{state.n.a}}"), "https://x/a%2Fb%3Fc%3D%3Cd%3E?n=7"},
		{v.XML("<speak>{{data.name}}</speak>"), "<speak>a/b?c=&lt;d&gt;</speak>"},
		{v.Text("{{nothing.here}}|{{data.x.y}}|{{open"), "||{{open"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}

func TestSIDsAreTheIdsBitsAndBack(t *testing.T) {
	id := NewID("call")
	sid := SID(id)
	if len(sid) != 34 || !strings.HasPrefix(sid, "CA") {
		t.Fatalf("SID(%s) = %q", id, sid)
	}
	back, err := FromSID(sid)
	if err != nil || back != id {
		t.Errorf("FromSID(%s) = %q, %v; want %s", sid, back, err, id)
	}
	if got, err := FromSID(id); err != nil || got != id {
		t.Errorf("an id of ours must pass FromSID unchanged: %q, %v", got, err)
	}
}

func TestEveryCauseSaysWhyInBothLanguages(t *testing.T) {
	for _, c := range Causes() {
		info := c.Info()
		if info.Chinese == "" || info.English == "" || info.SIP < 400 || info.Q850 == 0 || !info.Status.Final() || info.EndedBy == "" {
			t.Errorf("%s: incomplete row %+v", c, info)
		}
	}
}
