package media

import (
	"time"

	"github.com/hookswitch/hookswitch/edge/media/codec"
)

// player walks through the prompts of one Play.
type player struct {
	id      PlayID
	over    bool // PlayConfig.Over
	prompts []*Prompt
	forever bool
	rounds  int // left, the current one included
	index   int // of the prompt playing
	offset  int64
	played  int64 // samples taken
}

func newPlayer(id PlayID, config PlayConfig) *player {
	p := &player{id: id, over: config.Over, forever: config.Loop <= 0, rounds: config.Loop}
	total := int64(0)
	for _, prompt := range config.Prompts {
		if prompt != nil && prompt.samples() > 0 {
			p.prompts = append(p.prompts, prompt)
			total += prompt.samples()
		}
	}
	if total == 0 {
		p.forever, p.rounds = false, 0
		return p
	}
	start := samples(max(0, config.Start))
	if start >= total {
		// The first round is over before it begins; a loop goes on with the second.
		start = 0
		p.rounds--
	}
	for p.offset = start; p.offset >= p.prompts[p.index].samples(); p.index++ {
		p.offset -= p.prompts[p.index].samples()
	}
	return p
}

func (p *player) done() bool { return !p.forever && p.rounds <= 0 }

// take fills frame with the next samples, and with silence after the last one.
func (p *player) take(frame []byte, c codec.ID) {
	for len(frame) > 0 && !p.done() {
		prompt := p.prompts[p.index]
		n := copy(frame, prompt.octets(c)[p.offset:])
		frame = frame[n:]
		p.offset += int64(n)
		p.played += int64(n)
		if p.offset == prompt.samples() {
			p.next()
		}
	}
	fill(frame, c.Silence())
}

func (p *player) next() {
	p.offset = 0
	if p.index++; p.index < len(p.prompts) {
		return
	}
	p.index = 0
	p.rounds--
}

func (p *player) event(reason Reason, now time.Time) Event {
	return Event{Kind: PlayDone, At: now, Play: p.id, Reason: reason, Duration: duration(p.played)}
}
