package speech

import (
	"context"
	"errors"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type silent struct{ Provider }

func TestProvidersFind(t *testing.T) {
	one, two := &silent{}, &silent{}
	engines := Providers{ByName: map[string]Provider{"espeak": one, "cloud": two}, Default: "espeak"}
	for _, tc := range []struct {
		asked, name string
		want        Provider
	}{
		{"", "espeak", one},
		{"espeak", "espeak", one},
		{"cloud", "cloud", two},
	} {
		name, got, err := engines.Find(tc.asked)
		if err != nil || name != tc.name || got != tc.want {
			t.Errorf("Find(%q) = %q, %v, %v", tc.asked, name, got, err)
		}
	}
	if _, _, err := engines.Find("other"); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), `"other"`) {
		t.Errorf("unknown provider: %v", err)
	}
	if _, _, err := (Providers{}).Find(""); !errors.Is(err, ErrNone) {
		t.Errorf("no provider: %v", err)
	}
}

func TestRequestIsCheckedBeforeAnyEngineIsAsked(t *testing.T) {
	for _, tc := range []struct {
		name    string
		request Request
		says    string
	}{
		{"nothing", Request{}, "no text"},
		{"white space", Request{Text: " \n\t"}, "no text"},
		{"both", Request{Text: "a", SSML: "<speak>a</speak>"}, "not both"},
		{"long text", Request{Text: strings.Repeat("字", MaxText+1)}, "4,096"},
		{"long ssml", Request{SSML: strings.Repeat("字", MaxSSML+1)}, "8,192"},
	} {
		for name, engine := range map[string]Provider{"espeak": NewEspeak("/nonexistent"), "http": HTTP{URL: "http://127.0.0.1:1"}} {
			_, err := engine.Synthesize(context.Background(), tc.request)
			if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%s, %s: %v", tc.name, name, err)
			}
		}
	}
	if err := (Request{Text: strings.Repeat("字", MaxText)}).Check(); err != nil {
		t.Errorf("the longest text: %v", err)
	}
}
