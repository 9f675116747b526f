package auth_test

import (
	"strings"
	"testing"

	"github.com/hookswitch/hookswitch/controlplane/auth"
)

func TestCan(t *testing.T) {
	for _, c := range []struct {
		held []string
		ask  string
		want bool
	}{
		{nil, "calls.read", false}, {[]string{"calls.read"}, "calls.read", true}, {[]string{"calls.read"}, "calls.write", false},
		{[]string{"calls.*"}, "calls.write", true}, {[]string{"calls.*"}, "callers.read", false}, {[]string{"call*"}, "calls.read", false},
		{[]string{"*"}, "anything.at_all", true}, {[]string{""}, "calls.read", false}, {[]string{"users.read", "calls.read"}, "calls.read", true},
	} {
		if got := (auth.Caller{Permissions: c.held}).Can(c.ask); got != c.want {
			t.Errorf("%v may %s: got %t", c.held, c.ask, got)
		}
	}
}

func TestTheZeroScopeIsNobodys(t *testing.T) {
	var s auth.Scope
	if s.AccountID() != "" || s.IsEverywhere() || auth.Account("") != s {
		t.Errorf("got %+v", s)
	}
	if !auth.Everywhere().IsEverywhere() || auth.Account("acc_1").AccountID() != "acc_1" {
		t.Error("the scopes do not say what they are")
	}
}

func TestMask(t *testing.T) {
	for number, want := range map[string]string{"+8613800138000": "************00", "1001": "**01", "42": "**", "7": "*", "": ""} {
		if got := (auth.Mask{Numbers: true}).Number(number); got != want {
			t.Errorf("%q: got %q, want %q", number, got, want)
		}
		if got := (auth.Mask{}).Number(number); got != number {
			t.Errorf("unmasked %q became %q", number, got)
		}
	}
}

func TestAKeyIsParsedBack(t *testing.T) {
	for _, kind := range []auth.Kind{auth.APIKey, auth.EdgeToken} {
		text, made := auth.NewKey(kind, "01J0000000000000000000000")
		got, err := auth.ParseKey(text)
		if err != nil || got != made || !got.Matches(made.Hash) || strings.Contains(text, made.Hash) {
			t.Errorf("%s: got %+v %v, want %+v", text, got, err, made)
		}
		other, _ := auth.NewKey(kind, "01J0000000000000000000000")
		if other == text || got.Matches(strings.Repeat("0", 64)) || got.Matches("") || (auth.Key{}).Matches("") {
			t.Error("another key passes for this one")
		}
	}
}

func TestAMistypedKeyIsNoKey(t *testing.T) {
	text, _ := auth.NewKey(auth.APIKey, "01J")
	bad := []string{"", "sk", "sk__", "sk_01J_", text + "0", text[:len(text)-1], "xk" + text[2:], " " + text, strings.Repeat("a", 300), "sk_" + text}
	for i := range text {
		b := []byte(text)
		if b[i]++; b[i] == '_' || b[i] > 'z' {
			b[i] = '0'
		}
		bad = append(bad, string(b))
	}
	for _, k := range bad {
		if _, err := auth.ParseKey(k); err == nil {
			t.Errorf("%q was taken", k)
		}
	}
}

func FuzzParseKey(f *testing.F) {
	text, _ := auth.NewKey(auth.APIKey, "01J")
	f.Add(text)
	f.Add("edge_01J_x")
	f.Add("__")
	f.Fuzz(func(t *testing.T, text string) {
		k, err := auth.ParseKey(text)
		if err == nil && (k.ID == "" || k.Hash == "" || !strings.HasPrefix(text, string(k.Kind)+"_"+k.ID+"_")) {
			t.Errorf("%q became %+v", text, k)
		}
	})
}
