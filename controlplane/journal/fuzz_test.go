package journal

import (
	"bytes"
	"encoding/json"
	"testing"
	"unicode/utf8"

	"github.com/hookswitch/hookswitch/controlplane/auth"
)

// What is stored came from an edge, and in it is what strangers sent: reading it neither fails nor shows what is hidden.
func FuzzStoredChunks(f *testing.F) {
	f.Add([]byte(`{"t":1,"kind":"sip_in","peer":"192.0.2.1:5060","message":"INVITE sip:+8613800138000@x SIP/2.0\r\n"}`+"\n"), []byte("{\"t\":2}\n"))
	f.Add([]byte(`{"t":1,"kind":"request","url":"http://a/1?b=2","body":"{\"digits\":\"12\"}"}`+"\n"), []byte(""))
	f.Add([]byte(`{"kind":"answer","body":"Digits=1&From=%2B86"}`), []byte(`{"kind":"event","data":{"from":"1","n":[1,{"a":12345}]}}`))
	f.Add([]byte("{\n"), []byte("\x1f\x8b"))
	f.Fuzz(func(t *testing.T, first, second []byte) {
		members, err := follow(nil, 0, 0, []chunk{{Epoch: 1, Number: 1, Entries: storable(first)}, {Epoch: 1, Number: 3, Entries: storable(second)}})
		if err != nil {
			t.Fatal(err)
		}
		back, err := unpack(bytes.NewReader(members))
		if !isPacked(first) && !isPacked(second) && (err != nil || !bytes.HasPrefix(back, []byte(storable(first))) || !bytes.HasSuffix(back, []byte(storable(second)))) {
			t.Fatalf("%v: %q and %q became %q", err, first, second, back)
		}
		if half, err := unpack(bytes.NewReader(members[:len(members)/2])); err == nil && !bytes.HasPrefix(back, half) {
			t.Errorf("half of it became %q", half)
		}
		_, _ = unpack(bytes.NewReader(first))
		entries := split(back)
		for _, all := range [][]Entry{entries, hide(entries, auth.Mask{Numbers: true})} {
			if page, err := json.Marshal(Page{Data: all}); err != nil || !json.Valid(page) {
				t.Errorf("%v: %s", err, page)
			}
			if shown := ladder(all, false); !utf8.Valid(shown) || bytes.ContainsAny(shown, "\x1b\x00\r") {
				t.Errorf("the ladder is %q", shown)
			}
		}
	})
}

func FuzzHideDigits(f *testing.F) {
	for _, text := range []string{"+8613800138000", "138 0013-8000", "%2B%31%33%38", `\u0031\u0033\u0038`, "&#49;&#x33;8", "１３８", "call_01J00000000000000000000001", "1.2.3.4:5060", "a1b2"} {
		f.Add(text, 3)
		f.Add(text, 1)
	}
	f.Fuzz(func(t *testing.T, text string, least int) {
		least = 1 + least&3
		hidden := hideDigits(text, least)
		if len(fixed.FindString(hidden)) > 0 {
			return // has what may be shown
		}
		for i := 0; i < len(hidden); {
			count, end := measureRun(hidden[i:])
			if count > 2 && count >= least {
				t.Fatalf("%d digits in a row are shown of %q: %q", count, text, hidden)
			}
			_, size := utf8.DecodeRuneInString(hidden[i:])
			i += max(end, size, signSize(hidden[i:]))
		}
	})
}
