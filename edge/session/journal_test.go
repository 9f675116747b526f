package session

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/edge/media"
	"github.com/hookswitch/hookswitch/edge/sip"
	"github.com/hookswitch/hookswitch/webhooks"
)

func TestSecretsOfSIPMessagesAreNotKept(t *testing.T) {
	for name, c := range map[string]struct{ message, want string }{
		"digest":              {"Authorization: Digest response=\"x\",\r\n nonce=\"y\"\r\nVia: z", "Authorization: -\r\nVia: z"},
		"proxy, any case":     {"proxy-AUTHORIZATION: Digest x", "proxy-AUTHORIZATION: -"},
		"own header":          {"X-Api-Key: abc\r\nX-Keyboard: k", "X-Api-Key: -\r\nX-Keyboard: k"},
		"password in a URI":   {"Contact: <sip:1001:pw@192.0.2.1>, \"a\" <SIPS:b:c@d>", "Contact: <sip:1001:-@192.0.2.1>, \"a\" <SIPS:b:-@d>"},
		"no password":         {"To: <sip:1001@192.0.2.1:5060>;tag=a:b@c", "To: <sip:1001@192.0.2.1:5060>;tag=a:b@c"},
		"SDES":                {"X: y\r\n\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:abc|2^31\r\na=rtpmap:0 PCMU/8000\r\n", "X: y\r\n\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:-\r\na=rtpmap:0 PCMU/8000\r\n"},
		"capabilities":        {"X: y\r\n\r\na=acap:1 crypto:1 AES INLINE:abc\r\n", "X: y\r\n\r\na=acap:1 crypto:1 AES INLINE:-\r\n"},
		"key, ICE and MIKEY":  {"X: y\r\n\r\nk=clear:abc\r\na=ice-pwd:abc\na=ice-ufrag:u\r\na=key-mgmt:mikey abc", "X: y\r\n\r\nk=-\r\na=ice-pwd:-\na=ice-ufrag:u\r\na=key-mgmt:-"},
		"a body that is text": {"X: y\r\n\r\nhello", "X: y\r\n\r\nhello"},
	} {
		if got := string(sipWithoutSecrets([]byte("INVITE sip:a@b SIP/2.0\r\n" + c.message))); got != "INVITE sip:a@b SIP/2.0\r\n"+c.want {
			t.Errorf("%s: %q", name, got)
		}
	}
	for body, want := range map[string]string{
		"Signal=5\r\nDuration=160\r\n": "Signal=•\r\nDuration=160\r\n", "Signal= * \r\n": "Signal=•\r\n", "7": "•", "A\r\n": "•",
		"p=Digit-Collection\r\nd=Digits=12\r\n": "p=Digit-Collection\r\nd=Digits=••\r\n",
	} {
		if got := string(sipWithoutSecrets([]byte("INFO sip:a@b SIP/2.0\r\nCSeq: 5 INFO\r\n\r\n" + body))); got != "INFO sip:a@b SIP/2.0\r\nCSeq: 5 INFO\r\n\r\n"+want {
			t.Errorf("INFO %q: %q", body, got)
		}
	}
}

func TestSecretsOfBodiesAreNotKept(t *testing.T) {
	for body, want := range map[string]string{
		`{"password":"a","n":1}`:                       `{"password":"-","n":1}`,
		`[{"Client-Secret" : {"a":[1,"]"]} }]`:         `[{"Client-Secret" : "-" }]`,
		`{"x_token":12,"b":["token"]}`:                 `{"x_token":"-","b":["token"]}`,
		`{"p\u0061ssword":"a\"b"}`:                     `{"p\u0061ssword":"-"}`,
		`{"api_key":"cut off`:                          `{"api_key":"-"`,
		`{"keyboard":"k","sec":"r"}`:                   `{"keyboard":"k","sec":"r"}`,
		`<Sip username="u" password="a>b">sip:x</Sip>`: `<Sip username="u" password="-">sip:x</Sip>`,
		`<Parameter value = 'a' name="access_token"/><Parameter name="x" value="y"/>`: `<Parameter value = '-' name="access_token"/><Parameter name="x" value="y"/>`,
		`<Say PassWord='cut off`:            `<Say PassWord='-`,
		`a=1&client_secret=x&%74oken=y&b=2`: `a=1&client_secret=-&%74oken=-&b=2`,
		"hello":                             "hello", "": "",
	} {
		if got := string(withoutSecrets([]byte(body))); got != want {
			t.Errorf("%s: %s, want %s", body, got, want)
		}
	}
	for url, want := range map[string]string{
		"https://u:p@app.test/a?x=1&token=t#secret=s": "https://u:-@app.test/a?x=1&token=-#secret=-",
		"https://app.test/a@b":                        "https://app.test/a@b",
		"lambda:fn:live":                              "lambda:fn:live",
	} {
		if got := urlWithoutSecrets(url); got != want {
			t.Errorf("%s: %s", url, got)
		}
	}
}

func FuzzWithoutSecrets(f *testing.F) {
	f.Add([]byte(`{"password":"a","n":[1,{"token":{}}]}`))
	f.Add([]byte(`<a password="b" name='secret' value="c">`))
	f.Add([]byte("INFO sip:a:b@c SIP/2.0\r\nAuthorization: x\r\n y\r\n\r\nSignal=1\r\n"))
	f.Add([]byte("a=b&token=c"))
	f.Fuzz(func(t *testing.T, body []byte) {
		got := withoutSecrets(body)
		if json.Valid(body) && !json.Valid(got) {
			t.Errorf("%q became %q", body, got)
		}
		if again := withoutSecrets(got); !bytes.Equal(again, got) {
			t.Errorf("%q became %q, and that %q", body, got, again)
		}
		sipWithoutSecrets(body)
		urlWithoutSecrets(string(body))
		text := appendText(nil, "a", body, 100)
		if !json.Valid(append(append([]byte(`{"b":1`), text...), '}')) {
			t.Errorf("%q became %s", body, text)
		}
		h := &hiding{}
		h.hide("4711")
		h.hide("12#")
		if json.Valid(body) && !json.Valid(h.cleanJSON(bytes.Clone(body))) {
			t.Errorf("%q became %q", body, h.cleanJSON(body))
		}
	})
}

func TestWhatAMaskedGatherTookIsFoundWhereverItStands(t *testing.T) {
	h := &hiding{}
	h.hide("12") // says nothing
	h.hide("4711")
	h.hide("911")
	h.hide("12*#")
	for text, want := range map[string]string{
		"a 4711, 47110 12": "a ••••, ••••0 12", "911 9110 1911 x911": "••• 9110 1911 x•••", "pin=12%2A%23&12*#": "pin=••••••••&••••",
	} {
		if got := string(h.clean([]byte(text))); got != want {
			t.Errorf("%q: %q", text, got)
		}
	}
	if got := string(h.cleanJSON([]byte(`{"pin":4711,"a":["4711",1]}`))); got != `{"a":["••••",1],"pin":"••••"}` {
		t.Error(got)
	}
}

// noted is a session of which only the journal is used.
func noted(tb testing.TB) (*Session, *int) {
	tb.Helper()
	size := new(int)
	s := &Session{calls: &Calls{outbox: &outbox{}}, id: "call_01J00000000000000000000001", log: slog.New(slog.DiscardHandler)}
	s.journal.begin = beginning{s.id, "edge_1", 1}
	s.journal.hides = &hiding{}
	s.journal.ship = func(c control.JournalChunk) { *size += len(c.Text) }
	return s, size
}

const (
	benchSDP = "v=0\r\no=- 4611686018427387904 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 20000 RTP/AVP 0 8 101\r\n" +
		"a=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\na=sendrecv\r\n"
	benchHead = "Via: SIP/2.0/UDP 192.0.2.101:5060;branch=z9hG4bK-5f1a0a4f113b-1;rport=5060\r\nMax-Forwards: 70\r\nFrom: <sip:+8613800138000@192.0.2.101>;tag=0a4f113b5f1a\r\n" +
		"To: <sip:+862368925278@192.0.2.1>;tag=9c2d6a1e7f3b4c5d\r\nCall-ID: 5f1a0a4f113b5f1a0a4f113b5f1a0a4f\r\nCSeq: 1 INVITE\r\nContact: <sip:+8613800138000@192.0.2.101:5060>\r\n" +
		"Allow: INVITE, ACK, CANCEL, OPTIONS, BYE, REFER, NOTIFY, INFO, UPDATE, PRACK\r\nSupported: replaces, timer\r\nUser-Agent: Hookswitch\r\n"
)

// BenchmarkJournalOfAnIVRCall is all that the journal does in a call that is answered, asks for a menu's digit twice, plays
// and hangs up: SIP messages, questions, answers, instructions, keys, media and events.
func BenchmarkJournalOfAnIVRCall(b *testing.B) {
	var messages []sip.TraceEvent
	for i, start := range []string{"INVITE sip:+862368925278@192.0.2.1 SIP/2.0", "SIP/2.0 100 Trying", "SIP/2.0 180 Ringing", "SIP/2.0 200 OK", "ACK sip:a@192.0.2.1 SIP/2.0", "BYE sip:a@192.0.2.101 SIP/2.0", "SIP/2.0 200 OK"} {
		body := ""
		if i == 0 || i == 3 {
			body = benchSDP
		}
		messages = append(messages, sip.TraceEvent{
			Time: time.Now(), Out: i%2 == 1, Transport: "udp", Peer: netip.MustParseAddrPort("192.0.2.101:5060"), SIPCallID: "5f1a",
			Message: fmt.Appendf(nil, "%s\r\n%sContent-Length: %d\r\n\r\n%s", start, benchHead, len(body), body),
		})
	}
	gather, answer := &webhooks.Gather{}, webhooks.Reply{Status: 200, URL: "https://app.example.com/voice", ContentType: "application/json",
		Body: []byte(`{"instructions":[{"verb":"gather","id":"menu","num_digits":1,"prompt":[{"verb":"play","url":"https://app.example.com/menu.wav"}],"action":"/menu"}],"state":{"step":1}}`)}
	webhooks.Defaults(gather)
	gather.NumDigits, gather.ID = 1, "menu"
	gather.Prompt = &webhooks.Sub{Instructions: []webhooks.Instruction{&webhooks.Play{URL: "https://app.example.com/menu.wav", Loop: 1}}}
	play := &webhooks.Play{URL: "https://app.example.com/bye.wav", Loop: 1}
	trigger := &webhooks.Trigger{Outcome: webhooks.Digits, Digits: "4", FinishedBy: "num_digits"}
	call := webhooks.Call{From: "+8613800138000", To: "+862368925278", Dialed: "02368925278", Direction: webhooks.Inbound, Status: webhooks.StatusInProgress, Etag: "1",
		ConversationID: "conv_01J00000000000000000000001", StartedAt: time.Now(), SIP: webhooks.SIP{CallID: "5f1a0a4f113b", Source: "192.0.2.101"}}
	events := []webhooks.EventData{
		{From: call.From, To: call.To, Dialed: call.Dialed, Direction: call.Direction, SIPCallID: "5f1a0a4f113b", Source: "192.0.2.101"}, {}, {},
		{Verb: "gather", Outcome: webhooks.Digits, Digits: "4"}, {Verb: "gather", Outcome: webhooks.Digits, Digits: "4"},
		{CDR: &webhooks.CDR{Status: webhooks.StatusCompleted, Cause: webhooks.CauseProgramEnd, Reason: "The program came to its end.", ReasonZH: "程序已结束。", Media: &webhooks.Quality{Codec: "PCMA", PacketsSent: 500, MOS: 4.4}}},
	}
	total := 0
	b.ReportAllocs()
	for b.Loop() {
		s, size := noted(b)
		for _, m := range messages {
			s.journal.noteSIP(m)
		}
		for i, data := range events {
			s.noteEvent(webhooks.Event{Type: webhooks.EventCallRinging, Sequence: int64(i + 1), OccurredAt: time.Now(), Data: data})
		}
		for i := range 3 {
			ask := &webhooks.Ask{URL: "https://app.example.com/voice", Request: webhooks.CallRequest{
				Reason: webhooks.ReasonAction, RequestID: "req_01J00000000000000000000001", RequestSequence: i + 1, AccountID: "acc_01J00000000000000000000001",
				CallID: s.id, Call: call, Trigger: trigger, State: json.RawMessage(`{"step":1}`), Data: map[string]any{},
			}}
			s.noteRequest(ask)
			s.noteAnswer(ask, answer, nil)
			began := time.Now()
			if i < 2 {
				s.noteInstruction(gather)
				s.noteKey('4', "rtp")
				s.noteOutcome(gather, trigger, began)
			} else {
				s.noteInstruction(play)
				s.noteOutcome(play, &webhooks.Trigger{Outcome: webhooks.Completed, Played: 3}, began)
			}
			s.noteMedia(media.Event{Kind: media.PlayDone, Reason: media.Ended, Duration: 3 * time.Second})
		}
		s.journal.close()
		total += *size
	}
	b.ReportMetric(float64(total)/float64(b.N), "octets/call")
}

func TestAJournalOfManyGoroutinesHasWholeLines(t *testing.T) {
	s, _ := noted(t)
	var text []byte
	s.journal.ship = func(c control.JournalChunk) { text = append(text, c.Text...) } // under the journal's lock
	done := make(chan struct{})
	for range 4 {
		go func() {
			for range 300 {
				s.journal.noteSIP(sip.TraceEvent{Time: time.Now(), Message: []byte("OPTIONS x\r\n\r\n" + strings.Repeat("y", 200))})
			}
			done <- struct{}{}
		}()
	}
	for range 4 {
		<-done
	}
	s.journal.finishing()
	s.journal.close()
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	for _, line := range lines {
		if !json.Valid(line) {
			t.Fatalf("%s", line)
		}
	}
	var end struct{ Dropped int }
	if err := json.Unmarshal(lines[len(lines)-1], &end); err != nil || len(lines)-2+end.Dropped != 1200 || len(text) > control.MaxJournal {
		t.Errorf("%d lines of %d octets, and %d dropped: %v", len(lines), len(text), end.Dropped, err)
	}
}
