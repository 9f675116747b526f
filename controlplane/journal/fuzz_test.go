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
		text := merge(0, 0, []chunk{{Epoch: 1, Number: 1, Entries: storable(first)}, {Epoch: 1, Number: 3, Entries: storable(second)}})
		packed, err := (&packer{}).pack(text)
		if err != nil {
			t.Fatal(err)
		}
		back, err := unpack(bytes.NewReader(packed))
		if err != nil || !bytes.Equal(back, text) {
			t.Fatalf("%v: %q became %q", err, text, back)
		}
		if back, err := unpack(bytes.NewReader(packed[:len(packed)/2])); err == nil && !bytes.HasPrefix(text, back) {
			t.Errorf("half of it became %q", back)
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

// BenchmarkPack is what sealing adds to the CPU of a call: 11 kB is the journal of a short menu.
func BenchmarkPack(b *testing.B) {
	line := []byte(`{"t":1250,"kind":"sip_in","transport":"udp","peer":"192.0.2.1:5060","message":"INVITE sip:+8613800138000@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1\r\n"}` + "\n")
	text, pack := bytes.Repeat(line, 11<<10/len(line)), &packer{}
	for b.Loop() {
		if _, err := pack.pack(text); err != nil {
			b.Fatal(err)
		}
	}
}
