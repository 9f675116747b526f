package prompt

import (
	"io/fs"
	"math"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/edge/media"
	"github.com/hookswitch/hookswitch/edge/media/detect"
	"github.com/hookswitch/hookswitch/edge/media/wav"
	"github.com/hookswitch/hookswitch/webhooks"
)

// Every prompt is there in both languages, is speech from end to end, short, and as loud as the others.
func TestSystemPromptsAreSpoken(t *testing.T) {
	s := open(t, Config{})
	files := map[string]bool{}
	for _, p := range SystemPrompts() {
		for _, language := range []string{Chinese, English} {
			if p.Text[language] == "" {
				t.Errorf("%s has no text in %s", p.ID, language)
			}
			name := p.File(language)
			files[name] = true
			file, err := sounds.ReadFile("sounds/" + name)
			if err != nil {
				t.Fatal(err)
			}
			pcm, err := wav.Decode(file, wav.Limits{})
			if err != nil || pcm.Rate != media.SampleRate || pcm.Channels != 1 || len(file) > 100+pcm.Frames() {
				t.Fatalf("%s is not 8 kHz µ-law: %v", name, err)
			}
			prompt, ok := s.System(p.ID, language)
			if !ok || prompt.Duration() != pcm.Duration() || prompt.Duration() >= 8*time.Second {
				t.Errorf("%s: %v, %s", name, ok, pcm.Duration())
			}
			voiced, level := listen(pcm.Samples)
			if voiced < 100*time.Millisecond || 2*voiced < pcm.Duration() {
				t.Errorf("%s: %s of speech in %s", name, voiced, pcm.Duration())
			}
			if level < -26 || level > -18 {
				t.Errorf("%s: %.1f dBFS", name, level)
			}
		}
	}
	total := int64(0)
	err := fs.WalkDir(sounds, "sounds", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if !files[path[len("sounds/"):]] {
			t.Errorf("%s is of no prompt in the table; run make generate", path)
		}
		info, err := d.Info()
		total += info.Size()
		return err
	})
	if err != nil || total > 1_500_000 {
		t.Errorf("%d bytes of files in the binary, %v", total, err)
	}
}

// listen is how much of the samples is speech, and the level of the frames that are not silent.
func listen(samples []int16) (voiced time.Duration, dBFS float64) {
	var vad detect.VAD
	sum, frames := 0.0, 0
	for ; len(samples) >= 160; samples = samples[160:] {
		power := 0.0
		for _, s := range samples[:160] {
			power += float64(s) * float64(s)
		}
		if vad.Frame(samples[:160]) {
			voiced += 20 * time.Millisecond
		}
		if power/160 > 164*164 {
			sum += power / 160
			frames++
		}
	}
	return voiced, 10 * math.Log10(sum/float64(frames)/32768/32768)
}

func TestSystemLanguage(t *testing.T) {
	s := open(t, Config{})
	chinese, _ := s.System(Apology, Chinese)
	english, _ := s.System(Apology, English)
	if chinese == nil || english == nil || chinese == english {
		t.Fatal("the apology is not there in two languages")
	}
	for language, want := range map[string]*media.Prompt{
		"zh": chinese, "zh-CN": chinese, "ZH-hk": chinese, "zh_TW": chinese, "cmn-Hans": chinese,
		"en": english, "en-GB": english, "fr": english, "": english, "zhx": english,
	} {
		if got, ok := s.System(Apology, language); !ok || got != want {
			t.Errorf("%q: the wrong language", language)
		}
	}
}

func TestSystemNames(t *testing.T) {
	s := open(t, Config{})
	for _, id := range []webhooks.MediaID{
		Apology, Goodbye, Hold, Position, Agent, NoSpeech, Unavailable, Busy, NotAllowed, Welcome, YouPressed, LeaveMessage, Beep,
		"sys_digits_0", "sys_digits_1", "sys_digits_2", "sys_digits_3", "sys_digits_4",
		"sys_digits_5", "sys_digits_6", "sys_digits_7", "sys_digits_8", "sys_digits_9",
	} {
		if p, ok := s.System(id, English); !ok || p.Duration() == 0 {
			t.Errorf("%s is missing", id)
		}
	}
	if _, ok := s.System("sys_other", English); ok {
		t.Error("sys_other is known")
	}
	if p, _ := s.System(Beep, Chinese); p.Duration() != 300*time.Millisecond {
		t.Errorf("beep of %s", p.Duration())
	}
}
