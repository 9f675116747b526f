package audit

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
)

func TestCanonicalJSONIsOneForm(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{` { "b" : [ 1 , true , null ] , "a" : "\u4f60\/" } `, `{"a":"你/","b":[1,true,null]}`},
		{`{}`, `{}`}, {`[]`, `[]`}, {`"x"`, `"x"`}, {`{"a":{"c":1,"b":{}}}`, `{"a":{"b":{},"c":1}}`},
		{`[0, -0, 0.0, 0e9]`, `[0,0,0,0]`},
		{`[1.50, 15e-1, 0.15E+1]`, `[15e-1,15e-1,15e-1]`},
		{`[100, 1e2, -1200]`, `[1e2,1e2,-12e2]`},
		{`[12345678901234567890.5]`, `[123456789012345678905e-1]`},
		{`[1e99999999999999999999]`, `[1e99999999999999999999]`},
	} {
		got, err := canonical([]byte(c.text))
		if err != nil || string(got) != c.want {
			t.Errorf("%s became %s, %v; want %s", c.text, got, err, c.want)
		}
	}
	for _, text := range []string{``, `{`, `{"a":1,"a":1}`, `{"a":1}{}`, `[1,]`, "[\"\xff\"]", `nul`, `{"a":1,"\u0061":2}`} {
		if got, err := canonical([]byte(text)); err == nil {
			t.Errorf("%q became %s", text, got)
		}
	}
}

// What is no JSON has a hash too: nothing may keep an entry from being sealed.
func TestEveryEntryHasAHashOfItsOwn(t *testing.T) {
	seen := map[string]string{}
	for _, e := range []Entry{
		{}, {ID: "a"}, {AccountID: "a"}, {ActorID: "a"}, {ActorID: "a\nobject_id 0"}, {Before: json.RawMessage(`{}`)}, {After: json.RawMessage(`{}`)},
		{Before: json.RawMessage(`{`)}, {Before: json.RawMessage(`null`)}, {Before: json.RawMessage("\xff")}, {Before: json.RawMessage("\xfe")},
		{Before: json.RawMessage(`{"a":1,"a":2}`)}, {Before: json.RawMessage(`{"a":2,"a":1}`)}, {Before: json.RawMessage(`"{"`)}, {Status: 1},
	} {
		h := hash(&e)
		described, err := json.Marshal(map[string]any{"id": e.ID, "before": string(e.Before)})
		if err != nil {
			t.Fatal(err)
		}
		if had, twice := seen[h]; twice {
			t.Errorf("%s and %s have one hash", had, described)
		}
		seen[h] = string(described)
	}
}

func FuzzCanonical(f *testing.F) {
	for _, text := range []string{`{"a":[1.50,-0e1,"\ud800",null]}`, `[[]]`, `1e-400`, `"\u2028<"`, "{\"\xff\":1}"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		one, err := canonical(text)
		if err != nil {
			return
		}
		again, err := canonical(one)
		if err != nil || !bytes.Equal(one, again) {
			t.Errorf("%q became %q, and that %q %v", text, one, again, err)
		}
		var a, b any
		if json.Unmarshal(text, &a) != nil || json.Unmarshal(one, &b) != nil {
			return // a number that no float holds
		}
		if !reflect.DeepEqual(a, b) {
			t.Errorf("%q means %v, and %q %v", text, a, one, b)
		}
	})
}
