package webhooks

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestParseActionReadsEveryWayToChangeACall(t *testing.T) {
	a, err := ParseAction([]byte(`{"op":"consult","to":{"extension":"1001"}}`))
	if err != nil {
		t.Fatal(err)
	}
	if op := a.Op.(*OpConsult); op.To.Extension != "1001" || op.Timeout != 30 || a.Program != nil || a.Target != nil {
		t.Errorf("%+v", a)
	}
	a, err = ParseAction([]byte(`{"instructions":[{"verb":"hangup"}],"state":{"a":1},"peer":"hangup"}`))
	if err != nil || len(a.Program.Instructions) != 1 || string(a.Program.State) != `{"a":1}` || !a.Peer.HangUp || a.Op != nil {
		t.Errorf("%+v, %v", a, err)
	}
	a, err = ParseAction([]byte(`{"url":"/x","method":"GET","peer":[{"verb":"say","text":"bye"}]}`))
	if err != nil || a.Target.URL != "/x" || a.Target.Method != "GET" || len(a.Peer.Instructions) != 1 {
		t.Errorf("%+v, %v", a, err)
	}
}

func TestParseActionRefusesWithAPointerAndASentence(t *testing.T) {
	for _, c := range []struct{ body, pointer, says string }{
		{`{`, "", "not JSON"},
		{`{} {}`, "", "follows"},
		{`[]`, "", "a change is an object"},
		{`{}`, "", "needs one of op, instructions, url"},
		{`{"op":null}`, "", "needs one of"},
		{`{"op":"mute","url":"/x"}`, "/url", "unknown attribute"},
		{`{"op":"mute","instructions":[]}`, "/instructions", "together with op"},
		{`{"instructions":[],"url":"/x"}`, "/url", "together with instructions"},
		{`{"op":7}`, "/op", "must be a string"},
		{`{"op":"sing"}`, "/op", `"sing" is not an op; use one of assign, barge`},
		{`{"op":"mute","peer":"hangup"}`, "/peer", "unknown attribute"},
		{`{"op":"mute","for":5}`, "/for", "unknown attribute"},
		{`{"op":"digits"}`, "/digits", "missing"},
		{`{"op":"digits","digits":"x"}`, "/digits", "0-9"},
		{`{"op":"play"}`, "", "needs one of url, media_id"},
		{`{"op":"play","url":"/a","tone":"busy"}`, "/tone", "together with url"},
		{`{"op":"say","text":"x","to":"peer"}`, "/to", "must be self or both"},
		{`{"op":"recording"}`, "/do", "missing"},
		{`{"op":"recording","do":"play"}`, "/do", "must be start or"},
		{`{"op":"listen"}`, "", "needs one of by, call_id"},
		{`{"op":"listen","by":{}}`, "/by", "needs one of number"},
		{`{"op":"listen","by":{"agent":"a"},"call_id":"call_1"}`, "/call_id", "together with by"},
		{`{"op":"transfer"}`, "/to", "missing"},
		{`{"op":"park","peer":"x"}`, "/peer", "must be"},
		{`{"op":"transfer","to":"1001"}`, "/to", "must be an object"},
		{`{"op":"hold","prompt":[{"verb":"gather"}]}`, "/prompt/0/verb", "not allowed in a prompt"},
		{`{"op":"drop"}`, "/call_id", "missing"},
		{`{"op":"priority"}`, "/priority", "missing"},
		{`{"op":"priority","priority":1001}`, "/priority", "0–1000"},
		{`{"op":"move"}`, "/queue", "missing"},
		{`{"op":"assign","agent":""}`, "/agent", "1–64"},
		{`{"instructions":{}}`, "/instructions", "list"},
		{`{"instructions":[],"method":"GET"}`, "/method", "unknown attribute"},
		{`{"instructions":[{"verb":"stream"}]}`, "/instructions/0/verb", "not available yet"},
		{`{"instructions":[],"peer":"wait"}`, "/peer", `"continue", "hangup"`},
		{`{"instructions":[],"peer":[{"verb":"sing"}]}`, "/peer/0/verb", "not a verb"},
		{`{"url":"ftp://x"}`, "/url", "http"},
		{`{"url":"/x","state":{}}`, "/state", "unknown attribute"},
	} {
		_, err := ParseAction([]byte(c.body))
		var refused *ProgramError
		if !errors.As(err, &refused) {
			t.Errorf("%s: was accepted", c.body)
			continue
		}
		if refused.Pointer != c.pointer || !strings.Contains(refused.Message, c.says) {
			t.Errorf("%s:\n got %q %q\nwant %q %q", c.body, refused.Pointer, refused.Message, c.pointer, c.says)
		}
	}
}

func TestActionsSurviveBeingSentToAnEdge(t *testing.T) {
	for _, body := range actions {
		var first, second Action
		if err := json.Unmarshal([]byte(body), &first); err != nil {
			t.Errorf("%s: %v", body, err)
			continue
		}
		written, err := json.Marshal(first)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(written, &second); err != nil || !reflect.DeepEqual(first, second) {
			t.Errorf("%s\nbecame %s\n%v", body, written, err)
		}
	}
}

func TestOpsAreThoseOfTheContract(t *testing.T) {
	want := strings.Fields(`hangup mute unmute hold unhold digits play say recording listen whisper barge intercept disconnect pick_up transfer
		consult complete cancel merge drop retarget park survey priority move assign`)
	slices.Sort(want)
	if got := Ops(); !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
	for name, row := range ops {
		if row.make().Op() != name {
			t.Errorf("%s is called %s", name, row.make().Op())
		}
	}
}

func FuzzParseAction(f *testing.F) {
	for _, body := range actions {
		f.Add([]byte(body))
	}
	f.Add([]byte(`{"op":null,"instructions":null,"url":"/x"}`))
	f.Add([]byte(`{"instructions":` + nested(20) + `,"peer":` + nested(3) + `}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		first, err := ParseAction(body)
		if err != nil {
			var refused *ProgramError
			if !errors.As(err, &refused) || refused.Message == "" {
				t.Fatalf("refused without a sentence: %v", err)
			}
			return
		}
		written, err := json.Marshal(first)
		if err != nil {
			t.Fatal(err)
		}
		if len(written) > MaxProgramBytes {
			return // defaults written out may outgrow the limit
		}
		if _, err := ParseAction(written); err != nil {
			t.Errorf("%s was accepted, but written as %s: %v", body, written, err)
		}
	})
}
