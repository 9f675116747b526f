package media

import "math"

// pcmFrame is one frame of linear samples.
type pcmFrame [samplesPerFrame]int16

// sum adds up frames; 32 bits hold more of them than a room has legs.
type sum [samplesPerFrame]int32

func (s *sum) add(f *pcmFrame) {
	for i, v := range f {
		s[i] += int32(v)
	}
}

func (s *sum) subtract(f *pcmFrame) {
	for i, v := range f {
		s[i] -= int32(v)
	}
}

// put writes the sum as samples; what is over full scale is clipped.
func (s *sum) put(f *pcmFrame) {
	for i, v := range s {
		f[i] = clip(v)
	}
}

func clip(v int32) int16 { return int16(max(math.MinInt16, min(math.MaxInt16, v))) }

// meanSquare is a frame's power.
func (f *pcmFrame) meanSquare() int64 {
	total := int64(0)
	for _, v := range f {
		total += int64(v) * int64(v)
	}
	return total / int64(samplesPerFrame)
}
