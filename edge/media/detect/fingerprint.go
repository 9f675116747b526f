package detect

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"time"
)

// Announcement is a recording of a carrier's announcement and what it says.
type Announcement struct {
	Kind        Kind
	Fingerprint Fingerprint
}

// Fingerprint is what a recording sounds like, 100 bytes for each second. It recognises the same recording again, after
// another codec, at another level, in noise, from any point of it on; it does not recognise the same words from another
// voice. The zero value matches nothing. It is immutable and may be shared by any number of detectors.
//
// Why the signs of energy differences (Haitsma and Kalker, "A Highly Robust Audio Fingerprinting System", ISMIR 2002) and
// no cepstra with time warping: a carrier plays one file, every time at the same speed, so nothing has to be warped; and
// a sign survives every gain and filter, fits in a bit, and is compared 32 at a time, which lets each frame be held
// against every moment of every recording at a bounded price.
type Fingerprint struct{ words []uint32 }

// Limits of recordings: shorter ones are too like others, and their number bounds the work per frame.
const (
	MinAnnouncement  = 2 * time.Second // of sound in it
	MaxAnnouncement  = 30 * time.Second
	MaxAnnouncements = 100
)

const (
	// wordFrames is the grid of a fingerprint, 40 ms. What is heard has any phase to it, at most 20 ms away.
	wordFrames = 2
	// askFrames is how often what is heard is compared, 80 ms.
	askFrames = 2 * wordFrames
	fpVersion = 1
)

// NewFingerprint learns a recording: mono PCM at 8 kHz, as the line delivers it, without ringback or anything else that
// is not part of the announcement. Silence at both ends is left out. The error says that there is too little or too much.
func NewFingerprint(pcm []int16) (Fingerprint, error) {
	if length := time.Duration(len(pcm)) * time.Second / rate; length > MaxAnnouncement {
		return Fingerprint{}, fmt.Errorf("recording lasts %v, at most %v can be learnt", length.Round(time.Millisecond), MaxAnnouncement)
	}
	var (
		s               spectrum
		e               ear
		words           []uint32
		first, end      = -1, 0
		sound, position int
	)
	for ; len(pcm) >= frameLength; pcm = pcm[frameLength:] {
		s.hear((*[frameLength]int16)(pcm))
		e.hear(&s)
		if position++; position%wordFrames != 0 {
			continue
		}
		word, active := e.word()
		words = append(words, word)
		if !active {
			continue
		}
		sound, end = sound+1, len(words)
		if first < 0 {
			first = len(words) - 1
		}
	}
	if heard := time.Duration(sound) * wordFrames * frameTime; heard < MinAnnouncement {
		return Fingerprint{}, fmt.Errorf("recording has %v of sound, at least %v is needed", heard, MinAnnouncement)
	}
	return Fingerprint{words[first:end:end]}, nil
}

// Duration is how long the recording is, without the silence at its ends.
func (f Fingerprint) Duration() time.Duration {
	return time.Duration(len(f.words)) * wordFrames * frameTime
}

// MarshalText is the fingerprint in base64, 134 characters a second, to be kept where the recording is not.
func (f Fingerprint) MarshalText() ([]byte, error) {
	raw := []byte{fpVersion}
	for _, w := range f.words {
		raw = binary.LittleEndian.AppendUint32(raw, w)
	}
	return base64.StdEncoding.AppendEncode(nil, raw), nil
}

var errFingerprint = errors.New("not a fingerprint of this version")

// UnmarshalText reads what MarshalText wrote. The error says what is wrong with it, and f is as it was.
func (f *Fingerprint) UnmarshalText(text []byte) error {
	raw, err := base64.StdEncoding.AppendDecode(nil, text)
	if err != nil {
		return fmt.Errorf("fingerprint: %w", err)
	}
	if len(raw) == 0 || raw[0] != fpVersion || len(raw)%4 != 1 {
		return errFingerprint
	}
	raw = raw[1:]
	if length := time.Duration(len(raw)/4) * wordFrames * frameTime; length > MaxAnnouncement {
		return fmt.Errorf("fingerprint lasts %v, at most %v is allowed", length, MaxAnnouncement)
	}
	words := make([]uint32, 0, len(raw)/4)
	for ; len(raw) > 0; raw = raw[4:] {
		words = append(words, binary.LittleEndian.Uint32(raw))
	}
	f.words = words
	return nil
}

// ear turns spectra into words of a fingerprint: 17 bands from 300 to 3400 Hz, equally wide to the ear, and how the
// difference of each two neighbours changed over 80 and over 240 ms.
type ear struct {
	smooth, smoother [bands]float32            // energies, through two poles of about 60 ms
	logs             [earMemory][bands]float32 // of smoother, one each frame
	at               int                       // index of the newest
	loudest, energy  float32                   // of all bands
}

const (
	bands     = 17
	earMemory = 16
	shortAgo  = 4  // frames
	longAgo   = 12 // frames
	pole      = 0.33
	// faint (−30 dB of the frame's energy) hides what is under it: noise and the codec's steps.
	faint = 0.001
	// quietestVoice is −55 dBFS; and what is 26 dB under the loudest of late is a pause.
	quietestVoice, pauseUnder = 3400, 0.0025
	// earSinking is 2 dB in a second.
	earSinking = 0.991
)

var bandEdges = earBands()

// earBands are the bins where bands begin, equally far on the mel scale.
func earBands() (edges [bands + 1]int) {
	mel := func(hz float64) float64 { return 1127 * math.Log1p(hz/700) }
	low, high := mel(300), mel(3400)
	for i := range edges {
		m := low + (high-low)*float64(i)/bands
		edges[i] = int(math.Round(700 * math.Expm1(m/1127) / float64(binHz)))
	}
	return edges
}

func (e *ear) hear(s *spectrum) {
	e.at = (e.at + 1) % earMemory
	e.energy = 0
	for b := range bands {
		var sum float32
		for _, p := range s.power[bandEdges[b]:bandEdges[b+1]] {
			sum += p
		}
		e.smooth[b] += pole * (sum - e.smooth[b])
		e.smoother[b] += pole * (e.smooth[b] - e.smoother[b])
		e.energy += e.smoother[b]
	}
	e.loudest = max(e.loudest*earSinking, e.energy)
	logs, floor := &e.logs[e.at], faint*e.energy+1
	for b := range bands {
		logs[b] = log2(e.smoother[b] + floor)
	}
}

// word is what was heard last; active is false in pauses, where it means nothing.
func (e *ear) word() (word uint32, active bool) {
	now := &e.logs[e.at]
	short := &e.logs[(e.at+earMemory-shortAgo)%earMemory]
	long := &e.logs[(e.at+earMemory-longAgo)%earMemory]
	for b := range bands - 1 {
		change := now[b] - now[b+1]
		word |= sign(change-short[b]+short[b+1])<<b | sign(change-long[b]+long[b+1])<<(b+16)
	}
	return word, e.energy > quietestVoice && e.energy > pauseUnder*e.loudest
}

func sign(x float32) uint32 {
	if x > 0 {
		return 1
	}
	return 0
}

// log2 is the binary logarithm of a positive number, to 1 %: only its differences' signs matter here.
func log2(x float32) float32 {
	b := math.Float32bits(x)
	mantissa := math.Float32frombits(b&0x7FFFFF | 0x3F800000)
	return float32(int(b>>23)-128) + (-1.0/3*mantissa+2)*mantissa - 2.0/3
}

// matcher holds what is heard against every moment of the recordings: how much evidence there is that the line is there
// now. Evidence grows with each word that agrees in more than chance bits and sinks otherwise, never under zero (a
// cumulative sum test), so that an announcement is found from wherever it is heard on.
type matcher struct {
	known  []Announcement
	scores [][]int16 // of known, one each word
	frames int
	excess int16 // by which the most evidence was over mostEvidence last time
}

const (
	// agreeing is how many of 32 bits may differ for a word to count for the recording. By chance 16 do; of the same
	// recording through the line, 5 to 9.
	agreeing = 11
	// convinced is the evidence that decides: about 2 s.
	convinced = 100
	// mostEvidence bounds it, hardly over convinced, so that what an announcement has in common with another is forgotten soon: what the best one
	// has more is taken off all of them, which keeps them as far apart as they are.
	mostEvidence = 115
	// apart is how much less evidence there must be for every announcement of another kind. Carriers cut theirs from the
	// same sentences: 您拨打的电话 begins them all.
	apart = 25
	// lastWords, half a second, is the least that counts as a recording's end.
	lastWords = 12
)

func newMatcher(known []Announcement) matcher {
	if len(known) > MaxAnnouncements {
		known = known[:MaxAnnouncements]
	}
	total := 0
	for _, a := range known {
		total += len(a.Fingerprint.words)
	}
	all := make([]int16, total)
	m := matcher{known: known, scores: make([][]int16, len(known))}
	for i, a := range known {
		n := len(a.Fingerprint.words)
		m.scores[i], all = all[:n:n], all[n:]
	}
	return m
}

// hear takes the ear after a frame and says which recording is being played, when that is sure.
func (m *matcher) hear(e *ear) (index int, ok bool) {
	m.frames++
	if len(m.known) == 0 || m.frames%askFrames != 0 {
		return 0, false
	}
	word, active := e.word()
	best, bestScore, most := -1, int16(0), int16(0)
	var others [kinds]int16
	for i := range m.known {
		a := &m.known[i]
		score, late := advance(m.scores[i], a.Fingerprint.words, word, active, m.excess)
		others[a.Kind] = max(others[a.Kind], score)
		most = max(most, score)
		if late > bestScore {
			best, bestScore = i, late
		}
	}
	m.excess = max(0, most-mostEvidence)
	if bestScore < convinced {
		return 0, false
	}
	for kind, score := range others {
		if Kind(kind) != m.known[best].Kind && score > bestScore-apart {
			return 0, false
		}
	}
	return best, true
}

// advance moves the evidence on by askFrames, takes less off it and returns the most of it, anywhere and at the end of the
// recording, its last fifth. Only there it decides: what begins like an announcement may end as one nobody has learnt.
func advance(scores []int16, words []uint32, heard uint32, active bool, less int16) (most, late int16) {
	const step = askFrames / wordFrames
	words = words[:len(scores)]
	decisive := len(scores) - max(lastWords, len(scores)/5)
	for j := len(scores) - 1; j >= 0; j-- {
		var score int16
		if j >= step {
			score = scores[j-step]
		}
		if active {
			score += agreeing - int16(bits.OnesCount32(heard^words[j]))
		}
		score = max(score-less, 0)
		scores[j] = score
		most = max(most, score)
		if j == max(decisive, 0) {
			late = most
		}
	}
	return most, late
}
