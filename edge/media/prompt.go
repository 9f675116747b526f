package media

import (
	"math"
	"time"

	"github.com/hookswitch/hookswitch/edge/media/codec"
)

// Prompt is audio to be played, encoded once in every codec a leg can speak and immutable after: any number of calls play
// the same one at the same time. It costs two octets per sample (Size).
type Prompt struct {
	pcmu, pcma []byte
}

// NewPrompt encodes mono 16-bit samples at SampleRate. The slice is not kept.
func NewPrompt(pcm []int16) *Prompt {
	p := &Prompt{pcmu: make([]byte, len(pcm)), pcma: make([]byte, len(pcm))}
	codec.PCMU.Encode(p.pcmu, pcm)
	codec.PCMA.Encode(p.pcma, pcm)
	return p
}

// WithGain is the same prompt louder or softer by db decibels; what would be over full scale is clipped.
//
// Why from the µ-law frames: keeping the samples for the rare changed volume would double the memory of every prompt, and
// the second quantisation is what any gateway on the way does too.
func (p *Prompt) WithGain(db float64) *Prompt {
	if db == 0 || math.IsNaN(db) {
		return p
	}
	factor := math.Pow(10, db/20)
	pcm := make([]int16, len(p.pcmu))
	codec.PCMU.Decode(pcm, p.pcmu)
	for i, s := range pcm {
		pcm[i] = int16(max(math.MinInt16, min(math.MaxInt16, math.Round(float64(s)*factor))))
	}
	return NewPrompt(pcm)
}

// Duration is how long the prompt plays.
func (p *Prompt) Duration() time.Duration { return duration(p.samples()) }

// Size is the memory the prompt holds, in octets.
func (p *Prompt) Size() int { return len(p.pcmu) + len(p.pcma) }

func (p *Prompt) samples() int64 { return int64(len(p.pcmu)) }

func (p *Prompt) octets(c codec.ID) []byte {
	if c == codec.PCMA {
		return p.pcma
	}
	return p.pcmu
}
