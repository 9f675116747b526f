package dtmf

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// ladder writes one word per tick: "5@0+160M" is digit 5, offset 0, duration 160, marker; E is the end bit; "-" a gap.
func ladder(t *testing.T, keys string, duration, gap time.Duration) string {
	t.Helper()
	s, err := NewSender(keys, duration, gap)
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for {
		p, state := s.Next()
		switch state {
		case Done:
			return strings.Join(words, " ")
		case Gap:
			words = append(words, "-")
			continue
		}
		word := fmt.Sprintf("%c@%d+%d", p.Digit, p.Offset, int(p.Payload[2])<<8|int(p.Payload[3]))
		if code, _ := Event(p.Digit); code != p.Payload[0] {
			t.Errorf("digit %c as event %d", p.Digit, p.Payload[0])
		}
		if p.Marker {
			word += "M"
		}
		if p.Payload[1]&endBit != 0 {
			word += "E"
		}
		words = append(words, word)
	}
}

func TestSenderFollowsTheRFC(t *testing.T) {
	for _, c := range []struct {
		keys          string
		duration, gap time.Duration
		want          string
	}{
		{"5", 100 * time.Millisecond, 100 * time.Millisecond,
			"5@0+160M 5@0+320 5@0+480 5@0+640 5@0+800E 5@0+800E 5@0+800E - - -"},
		{"1#", MinDuration, MinGap,
			"1@0+160M 1@0+320E 1@0+320E 1@0+320E #@640+160M #@640+320E #@640+320E #@640+320E"},
		{"1", 45 * time.Millisecond, 61 * time.Millisecond,
			"1@0+160M 1@0+320 1@0+480E 1@0+480E 1@0+480E - -"},
	} {
		if got := ladder(t, c.keys, c.duration, c.gap); got != c.want {
			t.Errorf("%q\n got %s\nwant %s", c.keys, got, c.want)
		}
	}
}

func TestSenderPauses(t *testing.T) {
	got := strings.Fields(ladder(t, "w1W2", MinDuration, MinGap))
	want := slices.Concat(
		slices.Repeat([]string{"-"}, 25),
		[]string{"1@4000+160M", "1@4000+320E", "1@4000+320E", "1@4000+320E"},
		slices.Repeat([]string{"-"}, 50),
		[]string{"2@12640+160M", "2@12640+320E", "2@12640+320E", "2@12640+320E"},
	)
	if !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
}

func TestSenderLongestPressFitsTheDurationField(t *testing.T) {
	got := ladder(t, "9", MaxDuration, MaxGap)
	if !strings.Contains(got, "9@0+64000E") || strings.Contains(got, "+0") {
		t.Error("the duration does not grow to 64000")
	}
}

func TestSenderRefusesLengthsAndKeys(t *testing.T) {
	for _, c := range []struct {
		keys          string
		duration, gap time.Duration
		saying        string
	}{
		{"1x", MinDuration, MinGap, "position 2"},
		{"1", 39 * time.Millisecond, MinGap, "duration_ms must be 40–8000, is 39"},
		{"1", 9 * time.Second, MinGap, "duration_ms"},
		{"1", MinDuration, 0, "gap_ms must be 40–8000, is 0"},
		{"1", MinDuration, time.Minute, "gap_ms"},
	} {
		if _, err := NewSender(c.keys, c.duration, c.gap); err == nil || !strings.Contains(err.Error(), c.saying) {
			t.Errorf("%q %s %s: %v", c.keys, c.duration, c.gap, err)
		}
	}
}

func TestZeroSenderIsDone(t *testing.T) {
	var s Sender
	if _, state := s.Next(); state != Done {
		t.Errorf("state %d", state)
	}
}
