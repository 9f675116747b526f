// Package wav owns RIFF/WAVE files: reading what customers upload and speech services return, and writing recordings. It
// leaves sample rate conversion to codec and storage to its callers.
package wav

import (
	"errors"
	"time"
)

// What Decode accepts, and its limits where the caller sets none.
const (
	MinRate     = 8000
	MaxRate     = 48000
	MaxChannels = 2

	DefaultMaxBytes    = 256 << 20
	DefaultMaxDuration = 2 * time.Hour
)

var (
	// ErrMalformed: the bytes are not a whole WAVE file.
	ErrMalformed = errors.New("not a valid WAV file")
	// ErrUnsupported: a WAVE file with samples this package does not read.
	ErrUnsupported = errors.New("unsupported WAV file")
	// ErrTooLarge: more bytes or seconds than the limits allow.
	ErrTooLarge = errors.New("WAV file too large")
)

// Limits bound what Decode takes. Zero fields mean the defaults.
type Limits struct {
	MaxBytes    int           // of the file
	MaxDuration time.Duration // of the audio
}

// PCM is decoded audio.
type PCM struct {
	Samples  []int16 // interleaved: left, right, left, … when there are two channels
	Rate     int     // frames a second
	Channels int
}

// Frames is the number of samples per channel.
func (p PCM) Frames() int {
	if p.Channels < 1 {
		return 0
	}
	return len(p.Samples) / p.Channels
}

// Duration is the length of the audio.
func (p PCM) Duration() time.Duration {
	if p.Rate < 1 {
		return 0
	}
	return time.Duration(p.Frames()) * time.Second / time.Duration(p.Rate)
}

// Mono mixes the channels into one by their mean. Mono audio is returned as it is, sharing its samples.
func (p PCM) Mono() PCM {
	if p.Channels <= 1 {
		return p
	}
	mono := make([]int16, p.Frames())
	for i := range mono {
		sum := 0
		for _, s := range p.Samples[i*p.Channels : (i+1)*p.Channels] {
			sum += int(s)
		}
		mono[i] = int16(sum / p.Channels)
	}
	return PCM{Samples: mono, Rate: p.Rate, Channels: 1}
}
