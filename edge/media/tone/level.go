package tone

import "math"

// FloorDBFS is what Level says of digital silence.
const FloorDBFS = -120

// Level is how strong one frequency in Hz is in samples at Rate, in dB relative to a full-scale sine (dBFS; a tone of
// this package is at −16), never under FloorDBFS. Goertzel's algorithm: its bandwidth is about 1/(length of samples),
// 50 Hz for 20 ms, 5 Hz for 200 ms. It allocates nothing.
func Level(samples []int16, hz float64) float64 {
	if len(samples) == 0 {
		return FloorDBFS
	}
	w := 2 * math.Pi * hz / Rate
	coefficient := 2 * math.Cos(w)
	var s1, s2 float64
	for _, x := range samples {
		s1, s2 = float64(x)+coefficient*s1-s2, s1
	}
	power := s1*s1 + s2*s2 - coefficient*s1*s2
	return dBFS(4 * power / float64(len(samples)) / float64(len(samples)))
}

// Power is the level of everything in samples together, on the scale of Level: a sine alone has Level equal to Power.
func Power(samples []int16) float64 {
	if len(samples) == 0 {
		return FloorDBFS
	}
	var sum int64
	for _, x := range samples {
		sum += int64(x) * int64(x)
	}
	return dBFS(2 * float64(sum) / float64(len(samples)))
}

func dBFS(squaredAmplitude float64) float64 {
	const fullScale = 32768.0 * 32768.0
	if squaredAmplitude <= 0 {
		return FloorDBFS
	}
	return max(FloorDBFS, 10*math.Log10(squaredAmplitude/fullScale))
}
