package media

import (
	"fmt"
	"math"

	"github.com/hookswitch/hookswitch/edge/media/codec"
)

// Direction is one way through a leg, or both of them.
type Direction uint8

// In is what the peer says, Out what it hears.
const (
	In Direction = 1 << iota
	Out
	Both = In | Out
	// Passed is what the peer says as others hear it: those it is bridged or in a room with, and no recording of its own. It
	// can be muted, and has no gain.
	Passed Direction = 1 << 2
)

// MaxGain is the most that Leg.SetGain amplifies or, negated, attenuates, in decibels.
const MaxGain = 20.0

func checkGain(db float64) error {
	if math.IsNaN(db) || db < -MaxGain || db > MaxGain {
		return fmt.Errorf("media: gain must be %v to %v dB, is %v", -MaxGain, MaxGain, db)
	}
	return nil
}

// level is the mute and the gain of one direction.
//
// Why a table from octet to octet: G.711 has 256 values, so a gain costs what a conversion of codec does, and nothing has
// to be decoded for it.
type level struct {
	muted  bool
	db     float64
	octets [256]byte // for each octet, the one db louder
}

// tune makes the table for a gain in a codec.
func (v *level) tune(db float64, c codec.ID) {
	v.db = db
	if db == 0 {
		return
	}
	factor := math.Pow(10, db/20)
	var all [256]byte
	var pcm [256]int16
	for i := range all {
		all[i] = byte(i)
	}
	c.Decode(pcm[:], all[:])
	for i, s := range pcm {
		pcm[i] = clip(int32(math.Round(float64(s) * factor)))
	}
	c.Encode(v.octets[:], pcm[:])
}

// amplify applies the gain.
func (v *level) amplify(frame *[samplesPerFrame]byte) {
	if v.db == 0 {
		return
	}
	for i, b := range frame {
		frame[i] = v.octets[b]
	}
}
