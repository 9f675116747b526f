package webhooks

import (
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// TestSignMatchesThePublishedVector uses the example of the Standard Webhooks libraries.
func TestSignMatchesThePublishedVector(t *testing.T) {
	h := http.Header{}
	err := Sign(h, "msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := h.Get("webhook-signature"), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; got != want {
		t.Errorf("signature is %s, want %s", got, want)
	}
	if h.Get("webhook-id") != "msg_p5jXN8AQM9LWM0D4loKWxJek" || h.Get("webhook-timestamp") != "1614265330" {
		t.Errorf("headers are %v", h)
	}
}

func TestVerify(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	older, newer, other := NewSecret(), NewSecret(), NewSecret()
	body := []byte(`{"type":"program.request"}`)
	signed := func(secrets ...string) http.Header {
		h := http.Header{}
		if err := Sign(h, "req_1", now, body, secrets...); err != nil {
			t.Fatal(err)
		}
		return h
	}
	with := func(h http.Header, name, value string) http.Header { h.Set(name, value); return h }
	for _, c := range []struct {
		name    string
		h       http.Header
		body    string
		at      time.Duration
		secrets []string
		want    error
	}{
		{"as sent", signed(newer), string(body), 0, []string{newer}, nil},
		{"rotating, receiver knows the old", signed(newer, older), string(body), 0, []string{older}, nil},
		{"rotating, receiver knows the new", signed(newer, older), string(body), 0, []string{newer}, nil},
		{"receiver knows both, sender the old", signed(older), string(body), 0, []string{newer, older}, nil},
		{"without prefix", signed(newer), string(body), 0, []string{strings.TrimPrefix(newer, "whsec_")}, nil},
		{"another secret", signed(newer), string(body), 0, []string{other}, ErrBadSignature},
		{"no secret", signed(newer), string(body), 0, nil, ErrBadSignature},
		{"another body", signed(newer), string(body) + " ", 0, []string{newer}, ErrBadSignature},
		{"another id", with(signed(newer), HeaderID, "req_2"), string(body), 0, []string{newer}, ErrBadSignature},
		{"another time", with(signed(newer), HeaderTimestamp, "1700000001"), string(body), 0, []string{newer}, ErrBadSignature},
		{"other versions are passed over", with(signed(newer), HeaderSignature, "v1a,AAAA v2,x "+signed(newer).Get(HeaderSignature)), string(body), 0, []string{newer}, nil},
		{"another version alone", with(signed(newer), HeaderSignature, strings.Replace(signed(newer).Get(HeaderSignature), "v1,", "v1a,", 1)), string(body), 0, []string{newer}, ErrBadSignature},
		{"empty signature", with(signed(newer), HeaderSignature, "v1,"), string(body), 0, []string{newer}, ErrBadSignature},
		{"five minutes late", signed(newer), string(body), 5 * time.Minute, []string{newer}, nil},
		{"later", signed(newer), string(body), 5*time.Minute + time.Second, []string{newer}, ErrTimestamp},
		{"from the future", signed(newer), string(body), -5*time.Minute - time.Second, []string{newer}, ErrTimestamp},
		{"no number", with(signed(newer), HeaderTimestamp, "now"), string(body), 0, []string{newer}, ErrTimestamp},
		{"a number too large", with(signed(newer), HeaderTimestamp, "9223372036854775807"), string(body), 0, []string{newer}, ErrTimestamp},
		{"unsigned", signed(), string(body), 0, []string{newer}, ErrUnsigned},
	} {
		if err := Verify(c.h, []byte(c.body), now.Add(c.at), c.secrets...); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func TestCheckSecret(t *testing.T) {
	key := func(n int) string { return base64.StdEncoding.EncodeToString(make([]byte, n)) }
	for secret, ok := range map[string]bool{
		NewSecret(): true, "whsec_" + key(24): true, "whsec_" + key(64): true, key(32): true,
		"whsec_" + key(23): false, "whsec_" + key(65): false, "": false, "whsec_": false, "whsec_not base64 at all, but long enough": false,
	} {
		if err := CheckSecret(secret); (err == nil) != ok {
			t.Errorf("%q: %v", secret, err)
		}
	}
	if first, second := NewSecret(), NewSecret(); first == second {
		t.Error("secrets repeat")
	}
}

// TestTwilioSignature holds vectors made outside this program: the two of Twilio's security page and helper
// libraries, and others with: printf %s TEXT | openssl dgst -sha1 -hmac KEY -binary | base64.
func TestTwilioSignature(t *testing.T) {
	for _, c := range []struct {
		name, key, url string
		params         url.Values
		want           string
	}{
		{"Twilio's example", "12345", "https://mycompany.com/myapp.php?foo=1&bar=2", url.Values{
			"CallSid": {"CA1234567890ABCDE"}, "Caller": {"+14158675309"}, "Digits": {"1234"}, "From": {"+14158675309"}, "To": {"+18005551212"},
		}, "RSOYDt4T1cUTdK1PDd93/VVr8B8="},
		{"repeated parameters", "12345", "https://mycompany.com/myapp.php?foo=1&bar=2", url.Values{
			"Sid": {"CA123"}, "SidAccount": {"AC123"}, "Digits": {"5678", "1234", "1234"},
		}, "IK+Dwps556ElfBT0I3Rgjkr1wJU="},
		{"empty values, UTF-8, plus sign", "whsec_key", "https://example.com/语音?a=b+c", url.Values{
			"From": {"+8613800138000"}, "FromCity": {""}, "SpeechResult": {"你好 a+b"},
		}, "Q9dqmSj/c0pzPTAnbDb53LHIXIc="},
		{"GET signs the URL alone", "12345", "https://mycompany.com/myapp.php?CallSid=CA1&Digits=1", nil, "IH47GGg6at4BdQ/o4lsfN9cfiZ8="},
	} {
		if got := TwilioSignature(c.key, c.url, c.params); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func TestVerifyTwilioToleratesPorts(t *testing.T) {
	params := url.Values{"Digits": {"1"}}
	for _, c := range []struct {
		signed, seen string
		fits         bool
	}{
		{"https://example.com/a?b=c", "https://example.com/a?b=c", true},
		{"https://example.com/a", "https://example.com:443/a", true},
		{"https://example.com:443/a", "https://example.com/a", true},
		{"http://example.com:80/a", "http://example.com/a", true},
		{"https://example.com/a", "https://example.com:8443/a", true}, // behind a proxy on its own port
		{"https://example.com:8443/a", "https://example.com/a", false},
		{"https://example.com/a", "http://example.com/a", false},
		{"https://example.com/a", "https://example.com/b", false},
		{"https://example.com/a", "https://example.org/a", false},
	} {
		if VerifyTwilio("key", c.seen, params, TwilioSignature("key", c.signed, params)) != c.fits {
			t.Errorf("signed %s, seen %s: fits is %v", c.signed, c.seen, !c.fits)
		}
	}
	if VerifyTwilio("other", "https://example.com/", params, TwilioSignature("key", "https://example.com/", params)) {
		t.Error("another secret fits")
	}
}

// FuzzVerify feeds headers as a stranger may send them: nothing but the signed body is ever accepted.
func FuzzVerify(f *testing.F) {
	secret := NewSecret()
	now := time.Unix(1_700_000_000, 0)
	f.Add("req_1", "1700000000", "v1,AAAA", []byte("{}"))
	f.Add("", "-1", "v1, v1,= ,", []byte(nil))
	f.Add("a.b", "99999999999999999999", "v1a,x v1", []byte("\xff"))
	f.Fuzz(func(t *testing.T, id, stamp, given string, body []byte) {
		h := http.Header{HeaderID: {id}, HeaderTimestamp: {stamp}, HeaderSignature: {given}}
		if Verify(h, body, now, secret) == nil {
			t.Fatal("a signature without the secret was accepted")
		}
	})
}

// FuzzCutOverrides feeds fragments: what is read stays in Twilio's ranges.
func FuzzCutOverrides(f *testing.F) {
	for _, seed := range []string{"", "http://a/#ct=1&rt=99999&tt=100&rc=9&rp=all,ct,x", "#", "##rc=-1", "a#ct=%zz", "#rc=1;2"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		base, o := cutOverrides(raw)
		if strings.Contains(base, "#") || !strings.HasPrefix(raw, base) {
			t.Fatalf("%q became %q", raw, base)
		}
		for _, d := range []time.Duration{o.connect, o.read, o.total} {
			if d != 0 && (d < 100*time.Millisecond || d > 15*time.Second) {
				t.Fatalf("%v is out of range", d)
			}
		}
		if o.retries != nil && (*o.retries < 0 || *o.retries > 5) {
			t.Fatalf("%d retries", *o.retries)
		}
	})
}
