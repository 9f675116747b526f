package e2e

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/deploy/phone"
	"github.com/hookswitch/hookswitch/edge/media/codec"
	"github.com/hookswitch/hookswitch/edge/media/wav"
)

// place makes a call with the telephone of extension 1001. It is part of a call that the deployment must take.
func (d *deployment) place(t *testing.T, c phone.Call) phone.Report {
	t.Helper()
	r := d.tries(t, c)
	if r.Err != nil {
		t.Fatalf("the call to %s: %v\n%v", c.To, r.Err, r.Ladder)
	}
	return r
}

// tries makes a call that may fail.
func (d *deployment) tries(t *testing.T, c phone.Call) phone.Report {
	t.Helper()
	if !c.Server.IsValid() {
		c.Server = d.sip
	}
	c.Domain, c.From = d.domain, "1001"
	c.Username, c.Password = "1001", d.phones["1001"]
	if c.Timeout == 0 {
		c.Timeout = 20 * time.Second
	}
	if c.HangUp == 0 {
		c.HangUp = time.Minute // longer than any call of the suite
	}
	return phone.Place(t.Context(), c, slog.New(slog.DiscardHandler))
}

// live makes a call that goes on while the test does something to it. The report comes when it is over.
func (d *deployment) live(t *testing.T, c phone.Call) <-chan phone.Report {
	t.Helper()
	over := make(chan phone.Report, 1)
	var calling sync.WaitGroup
	calling.Go(func() { over <- d.tries(t, c) })
	t.Cleanup(calling.Wait) // the context of the test has ended, and with it the call
	return over
}

// hears fails the test unless so many seconds of a tone were heard.
func hears(t *testing.T, samples []int16, hz int, atLeast time.Duration) {
	t.Helper()
	sounds := phone.Sounds(samples)
	var heard time.Duration
	for _, s := range sounds {
		if s.Kind == "tone" && s.Hz > hz-15 && s.Hz < hz+15 {
			heard += s.Duration
		}
	}
	if heard < atLeast {
		t.Errorf("%s of %d Hz were heard, want %s: %s", heard, hz, atLeast, phone.Describe(sounds))
	}
}

// noise is audio that is like nothing else, loud and soft, and survives G.711 µ-law as it is.
func noise(length time.Duration) []int16 {
	octets := make([]byte, count(length))
	for i := range octets {
		octets[i] = byte(rand.Uint32())
	}
	return decodeMuLaw(octets)
}

func decodeMuLaw(octets []byte) []int16 {
	samples := make([]int16, len(octets))
	codec.PCMU.Decode(samples, octets)
	return samples
}

func encodeMuLaw(samples []int16) []byte {
	octets := make([]byte, len(samples))
	codec.PCMU.Encode(octets, samples)
	return octets
}

// sine is a tone of half the full scale.
func sine(hz float64, length time.Duration) []int16 {
	samples := make([]int16, count(length))
	for i := range samples {
		samples[i] = int16(math.MaxInt16 / 2 * math.Sin(2*math.Pi*hz*float64(i)/8000))
	}
	return samples
}

// silence is nothing to be heard.
func silence(length time.Duration) []int16 { return make([]int16, count(length)) }

// count is how many samples there are in a span of time.
func count(length time.Duration) int { return int(length * 8000 / time.Second) }

// contains reports where the samples occur as they are, each of them; -1 when they do not.
func contains(all, samples []int16) int {
	at := bytes.Index(octetsOf(all), octetsOf(samples))
	if at < 0 {
		return -1
	}
	return at / 2
}

func octetsOf(samples []int16) []byte {
	out := make([]byte, 0, 2*len(samples))
	for _, s := range samples {
		out = binary.LittleEndian.AppendUint16(out, uint16(s))
	}
	return out
}

// missing says what is wrong when the samples do not occur as they are.
func missing(all, samples []int16) string {
	if contains(all, samples) >= 0 {
		return ""
	}
	const least = 40
	longest, end := 0, 0
	for from := 0; from+least <= len(samples); from += least {
		at := contains(all, samples[from:from+least])
		if at < 0 {
			continue
		}
		n := 0
		for from+n < len(samples) && at+n < len(all) && all[at+n] == samples[from+n] {
			n++
		}
		if n > longest {
			longest, end = n, from+n
		}
	}
	return fmt.Sprintf("of %d samples at most %d came in a row, up to %d, among %d", len(samples), longest, end, len(all))
}

// exactly makes a call until it carried its audio undisturbed, three times at most: a busy machine delays packets, and
// then silence stands in for them. The call says what was wrong.
func exactly(t *testing.T, call func() string) {
	t.Helper()
	for range 3 {
		wrong := call()
		if wrong == "" {
			return
		}
		t.Log(wrong)
	}
	t.Error("none of three calls carried its audio sample by sample")
}

// decodeWAV reads a file and checks what it is.
func decodeWAV(t *testing.T, file []byte, channels int) wav.PCM {
	t.Helper()
	pcm, err := wav.Decode(file, wav.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if pcm.Rate != 8000 || pcm.Channels != channels {
		t.Fatalf("the file has %d Hz and %d channels, want 8000 and %d", pcm.Rate, pcm.Channels, channels)
	}
	return pcm
}

// channel is one of the channels of a file, from 0.
func channel(pcm wav.PCM, n int) []int16 {
	out := make([]int16, 0, len(pcm.Samples)/pcm.Channels)
	for i := n; i < len(pcm.Samples); i += pcm.Channels {
		out = append(out, pcm.Samples[i])
	}
	return out
}
