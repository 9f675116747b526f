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
		{`[{"verb":"gather","input":["voice"]}]`, "/0/input", "must be dtmf"},
		{`[{"verb":"gather","prompt":[{"verb":"dial","to":[]}]}]`, "/0/prompt/0/verb", "not allowed in a prompt"},
		{`[{"verb":"gather","on":{"busy":[]}}]`, "/0/on/busy", "no outcome"},
		{`[{"verb":"pause","on":{"completed":[]}}]`, "/0/on/completed", "no outcome"},
		{`[{"verb":"play"}]`, "/0", "needs one of"},
		{`[{"verb":"play","url":null}]`, "/0", "needs one of"},
		{`[{"verb":"play","url":"/a.wav","tone":"busy"}]`, "/0/tone", "together with url"},
		{`[{"verb":"play","url":"ftp://x/y"}]`, "/0/url", "http"},
		{`[{"verb":"play","url":""}]`, "/0/url", "must be a URL"},
		{`[{"verb":"play","media_id":""}]`, "/0/media_id", "1–64 characters"}, // which, stored, would be a play of nothing
		{`[{"verb":"say","text":""}]`, "/0/text", "1–4096 characters"},
		{`[{"verb":"redirect"}]`, "/0/url", "missing"},
		{`[{"verb":"dial","to":[]}]`, "/0/to", "1–10"},
		{`[{"verb":"dial","to":[{}]}]`, "/0/to/0", "needs one of"},
		{`[{"verb":"dial","to":[{"extension":"1001","username":"x"}]}]`, "/0/to/0/username", "sip target"},
		{`[{"verb":"dial","to":[{"fax":"1"}]}]`, "/0/to/0/fax", "unknown attribute"},
		{`[{"verb":"dial","to":[{"agent":"agt_1","client":"amy"}]}]`, "/0/to/0/client", "together with agent"},
		{`[{"verb":"dial","to":[{"agent":"agt_1","trunk":"t"}]}]`, "/0/to/0/trunk", "only with a number"},
		{`[{"verb":"dial","to":[{"client":""}]}]`, "/0/to/0/client", "1–256 characters"},
		{`[{"verb":"dial","to":[{"number":"95588","status_events":["call.bridged"]}]}]`, "/0/to/0/status_events", "must be call.initiated or"},
		{`[{"verb":"dial","to":[{"number":"95588"}],"refer":7}]`, "/0/refer", "must be a URL"},
		{`[{"verb":"dial","to":[{"number":"95588"}],"machine_detection":{"tuning":{"speech_threshold_ms":1}}}]`, "/0/machine_detection/tuning/speech_threshold_ms", "1000–6000"},
		{`[{"verb":"transfer"}]`, "/0/to", "missing"},
		{`[{"verb":"transfer","to":[{"number":"95588"}]}]`, "/0/to", "must be an object"},
		{`[{"verb":"transfer","to":{"username":"u"}}]`, "/0/to", "needs one of"},
		{`[{"verb":"transfer","to":{"number":"95588","password":"p"}}]`, "/0/to/username", "sip target"},
		{`[{"verb":"refer","to":"bob"}]`, "/0/to", "SIP or tel URI"},
		{`[{"verb":"unpark"}]`, "/0/slot", "missing"},
		{`[{"verb":"park","slot":"a b"}]`, "/0/slot", "1–32"},
		{`[{"verb":"enqueue"}]`, "/0/queue", "missing"},
		{`[{"verb":"enqueue","queue":"q","priority":-1}]`, "/0/priority", "0–1000"},
		{`[{"verb":"enqueue","queue":"q","on":{"empty":[]}}]`, "/0/on/empty", "no outcome"},
		{`[{"verb":"dequeue"}]`, "/0", "needs one of queue, call_id"},
		{`[{"verb":"dequeue","queue":"q","call_id":"call_1"}]`, "/0/call_id", "together with queue"},
		{`[{"verb":"leave","on":{"left":[]}}]`, "/0/on/left", "it has none"},
		{`[{"verb":"conference","name":"r","mode":"whisper"}]`, "/0/whisper_to", "goes with mode whisper"},
		{`[{"verb":"conference","name":"r","whisper_to":"call_1"}]`, "/0/whisper_to", "goes with mode whisper"},
		{`[{"verb":"conference","name":"r","max_participants":1}]`, "/0/max_participants", "2–250"},
		{`[{"verb":"detect","for":["human"]}]`, "/0/for", "machine or announcement"},
		{`[{"verb":"recording"}]`, "/0/op", "missing"},
		{`[{"verb":"message","to":"+8613800138000"}]`, "/0", "needs one of body, template_id"},
		{`[{"verb":"voicemail","mailbox":"1001","greeting":[{"verb":"gather"}]}]`, "/0/greeting/0/verb", "not allowed in a prompt"},
		{`[{"verb":"survey","survey_id":"s","invite":[{"verb":"record"}]}]`, "/0/invite/0/verb", "not allowed in a prompt"},
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
			if err := check("/"+name+"/"+key, v.FieldByIndex(f.index), &f.rules); err != nil {
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

func TestWhatIsNotThereYetIsRefusedByItsName(t *testing.T) {
	for body, says := range map[string]string{
		`[{"verb":"stream","op":"start","url":"wss://x"}]`:           "/0/verb: stream is not available yet",
		`[{"verb":"transcribe","op":"start"}]`:                       "/0/verb: transcribe is not available yet",
		`[{"verb":"gather","input":["dtmf","speech"]}]`:              "/0/input: speech is not available yet; must be dtmf",
		`[{"verb":"gather","speech":{"language":"zh-CN"}}]`:          "/0/speech: is not available yet",
		`[{"verb":"record","transcribe":true}]`:                      "/0/transcribe: is not available yet",
		`[{"verb":"enqueue","queue":"q","skills":{"en":5}}]`:         "/0/skills: is not available yet",
		`[{"verb":"enqueue","queue":"q","preferred_agent":"agt_1"}]`: "/0/preferred_agent: is not available yet",
		`[{"verb":"enqueue","queue":"q","preferred_for":20}]`:        "/0/preferred_for: is not available yet",
		`[{"verb":"enqueue","queue":"q","callback_key":"1"}]`:        "/0/callback_key: is not available yet",
		`[{"verb":"gather","prompt":[{"verb":"stream"}]}]`:           "/0/prompt/0/verb: stream is not available yet",
	} {
		if _, err := ParseProgram([]byte(body)); err == nil || err.Error() != says {
			t.Errorf("%s: %v, want %s", body, err, says)
		}
	}
}

func TestASubProgramHoldsOnlyWhatItsKindAllows(t *testing.T) {
	everywhere := map[SubKind]string{
		SubPrompt: `{"verb":"gather","prompt":[%s]}`,
		SubScreen: `{"verb":"dial","to":[{"extension":"1001","screen":[%s]}]}`,
		SubWait:   `{"verb":"enqueue","queue":"q","wait":[%s]}`,
	}
	more := map[SubKind][]string{
		SubPrompt: {`{"verb":"voicemail","mailbox":"m","greeting":[%s]}`, `{"verb":"survey","survey_id":"s","invite":[%s]}`, `{"verb":"gather","invalid_prompt":[%s]}`, `{"verb":"gather","no_input_prompt":[%s]}`},
		SubScreen: {`{"verb":"dial","to":[{"number":"1"}],"screen":[%s]}`, `{"verb":"enqueue","queue":"q","screen":[%s]}`, `{"verb":"dequeue","queue":"q","screen":[%s]}`, `{"verb":"transfer","to":{"number":"1"},"screen":[%s]}`},
		SubWait:   {`{"verb":"conference","name":"r","wait":[%s]}`},
	}
	least := map[string]string{
		"play": `"tone":"busy"`, "say": `"text":"x"`, "send_digits": `"digits":"1"`, "recording": `"op":"stop"`, "voicemail": `"mailbox":"m"`,
		"dial": `"to":[{"number":"1"}]`, "transfer": `"to":{"number":"1"}`, "refer": `"to":"sip:a@b"`, "unpark": `"slot":"1"`, "enqueue": `"queue":"q"`,
		"dequeue": `"queue":"q"`, "conference": `"name":"r"`, "redirect": `"url":"/x"`, "tag": `"data":{}`, "message": `"to":"95588","body":"x"`, "survey": `"survey_id":"s"`,
	}
	for kind, first := range everywhere {
		for _, where := range append(more[kind], first) {
			for _, name := range Verbs() {
				body := `{"verb":"` + name + `"`
				if least[name] != "" {
					body += "," + least[name]
				}
				body += "}"
				_, err := ParseProgram([]byte("[" + strings.Replace(where, "%s", body, 1) + "]"))
				if (err == nil) != kind.Allows(name) {
					t.Errorf("%s in %s: %v", name, where, err)
				}
			}
		}
	}
	// What stands under an on belongs to the sub-program that it stands in.
	inOn := `[{"verb":"dial","to":[{"extension":"1001","screen":[{"verb":"gather","on":{"digits":[{"verb":"dial","to":[{"number":"1"}]}]}}]}]}]`
	if _, err := ParseProgram([]byte(inOn)); err == nil || !strings.HasPrefix(err.Error(), "/0/to/0/screen/0/on/digits/0/verb: dial is not allowed in a screen") {
		t.Error(err)
	}
	// A URL is asked for a program like any other, so what it answered is checked when it comes.
	p, err := ParseProgram([]byte(`[{"verb":"say","text":"x","on":{"completed":[{"verb":"leave"}]}},{"verb":"gather"}]`))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Fits(SubWait); err != nil {
		t.Error(err)
	}
	if err := p.Fits(SubPrompt); err == nil || !strings.HasPrefix(err.Error(), "/instructions/0/on/completed/0/verb: leave is not allowed in a prompt") {
		t.Error(err)
	}
}

func TestAReferIsDeniedUnlessAURLIsNamed(t *testing.T) {
	for body, want := range map[string]string{`"deny"`: "", `null`: "", `"/r"`: "/r", `{"url":"/r","method":"GET"}`: "/r"} {
		p, err := ParseProgram([]byte(`[{"verb":"dial","to":[{"number":"1"}],"refer":` + body + `}]`))
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if target := p.Instructions[0].(*Dial).Refer; target != nil {
			got = target.URL
		}
		if got != want {
			t.Errorf("%s: asks %q", body, got)
		}
	}
}

var storedPrograms = []string{
	`[]`,
	`[{"verb":"answer","headers":{"X-A":"b"}},{"verb":"play","tone":"busy","loop":0},{"verb":"say","text":"hi"},{"verb":"pause","length":0.5}]`,
	`{"instructions":[{"verb":"gather","on":{"timeout":[],"default":"/x","digits":{"url":"/y","method":"GET"}},"prompt":[{"verb":"say","text":"1?"}],"finish_on_key":"","digit_timeout":0}],"state":null,"guard":{"budget_ms":2000,"on_failure":[{"verb":"hangup"}]}}`,
	`[{"verb":"record","action":"/done","trim":false},{"verb":"redirect","url":"/z"},{"verb":"hangup"},{"verb":"reject","reason":"busy"},{"verb":"send_digits","digits":"1w2"},{"verb":"tag","data":{"a":[1,{"b":2}]}}]`,
	`[{"verb":"dial","to":[{"extension":"1001","timeout":5,"screen":[{"verb":"gather"}]},{"sip":"sip:a@b","username":"u","password":"p"},{"number":"+8613800138000","trunk":"main"}],"strategy":"sequential","record":"answer","hang_up_on":"*"}]`,
	`[{"verb":"dial","to":[{"agent":"agt_1","send_digits":"ww1","machine_detection":{"async":true},"status_url":"/s","status_events":["call.ended"]},{"client":"amy"}],"machine_detection":{"mode":"message_end","tuning":{}},"refer":"/r","recording_status_url":"/t","recording_status_events":[]},{"verb":"transfer","to":{"extension":"1001"},"mode":"attended"},{"verb":"refer","to":"tel:+8613800138000"},{"verb":"park"},{"verb":"unpark","slot":"1"}]`,
	`[{"verb":"enqueue","queue":"support","wait":[{"verb":"say","text":"x"},{"verb":"leave"}],"max_wait":60,"max_size":5,"create":true,"data":{"a":1},"screen":"/s","action":"/a"},{"verb":"dequeue","queue":"support","timeout":3},{"verb":"dequeue","call_id":"call_1"},{"verb":"conference","name":"r","mode":"whisper","whisper_to":"call_1","wait":[],"time_limit":5,"status_events":["conference.joined"]}]`,
	`[{"verb":"detect","for":["beep"],"tuning":{}},{"verb":"recording","op":"start","channels":1},{"verb":"voicemail","mailbox":"1001","greeting":[]},{"verb":"message","to":"{{call.from}}","body":"x","on":{"sent":"/s"}},{"verb":"survey","survey_id":"s","invite":"/i"}]`,
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

// BenchmarkParseProgram reads an answer as short menus have it.
func BenchmarkParseProgram(b *testing.B) {
	body := []byte(`{"instructions":[
		{"verb":"gather","id":"menu","num_digits":1,"attempts":2,"prompt":[{"verb":"say","text":"销售请按1，其他请按2","language":"zh-CN"}],
		 "on":{"timeout":[{"verb":"play","media_id":"sys_goodbye"},{"verb":"hangup"}]},"action":{"url":"/menu"}}],"state":{"lang":"zh"}}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseProgram(body); err != nil {
			b.Fatal(err)
		}
	}
}
