package detect

import (
	"math/rand/v2"
	"strings"
	"testing"
)

func TestRecordingIsRecognisedFromItsMiddleAtAnotherLevel(t *testing.T) {
	known := noiseAnnouncements(t, 6)
	for i := range known {
		l := line{rand.New(rand.NewPCG(9, uint64(i)))}
		recording := l.noise(250, -20)[seconds(1.3)+57:]
		for j := range recording {
			recording[j] /= 3
		}
		d := New(Tuning{}, WantAnnouncement, known)
		var got []Verdict
		for rest := join(idle(.5), recording, idle(1)); len(rest) >= frameLength; rest = rest[frameLength:] {
			if v, ok := d.Frame(rest[:frameLength]); ok {
				got = append(got, v)
			}
		}
		if len(got) != 1 || got[0].Announcement != i || got[0].Kind != known[i].Kind || got[0].Reason != ReasonFingerprint {
			t.Errorf("recording %d: %+v", i, got)
		}
	}
}

func TestFingerprintNeedsSoundAndABound(t *testing.T) {
	for _, c := range []struct {
		pcm  []int16
		want string
	}{
		{nil, "at least 2s"},
		{idle(20)[:seconds(10)], ""},
		{join(silence(seconds(5)), voiced(1), silence(seconds(5))), "at least 2s"},
		{silence(seconds(31)), "at most 30s"},
		{voiced(3), ""},
	} {
		f, err := NewFingerprint(c.pcm)
		if c.want == "" {
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || f.Duration() != 0 {
			t.Errorf("%d samples: %v", len(c.pcm), err)
		}
	}
	f, err := NewFingerprint(join(silence(seconds(2)), voiced(3), silence(seconds(2))))
	if err != nil || f.Duration().Seconds() < 2.5 || f.Duration().Seconds() > 3.5 {
		t.Errorf("silence is not left out: %v %v", f.Duration(), err)
	}
}

func TestFingerprintIsKeptAsText(t *testing.T) {
	want := noiseAnnouncements(t, 1)[0].Fingerprint
	text, err := want.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	var got Fingerprint
	if err := got.UnmarshalText(text); err != nil || got.Duration() != want.Duration() {
		t.Fatalf("%v %v", got.Duration(), err)
	}
	for i, w := range want.words {
		if got.words[i] != w {
			t.Fatalf("word %d differs", i)
		}
	}
	for _, bad := range []string{"", "AA==", "AQ", "AgAAAAA=", "AQAA", "!", strings.Repeat("AQAAAAAA", 2000)} {
		if err := got.UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%.10q is taken", bad)
		}
		if got.Duration() != want.Duration() {
			t.Errorf("%.10q spoiled it", bad)
		}
	}
}

func FuzzFingerprintText(f *testing.F) {
	text, err := noiseAnnouncements(f, 1)[0].Fingerprint.MarshalText()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte("AQ=="))
	f.Fuzz(func(t *testing.T, text []byte) {
		var p Fingerprint
		if p.UnmarshalText(text) != nil {
			return
		}
		if p.Duration() > MaxAnnouncement {
			t.Fatalf("lasts %v", p.Duration())
		}
		d := New(Tuning{}, WantAnnouncement, []Announcement{{Busy, p}})
		hear(d, newLine().noise(20, -20))
	})
}
