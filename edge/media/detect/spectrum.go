package detect

import "math"

const (
	frameLength = 160 // samples in 20 ms at 8 kHz
	window      = 256 // samples analysed together, 32 ms: this frame and the end of the last one
	overlap     = window - frameLength
	half        = window / 2
	binHz       = float32(rate) / window
)

// spectrum is the power of the last 32 ms in bins of 31.25 Hz, under a Hann window. Powers are on the scale of mean
// squares of samples: the bins of a sine sum up to its mean square. The zero value has heard silence.
type spectrum struct {
	past  [overlap]int16
	power [half]float32
	total float32 // from lowestBin to highestBin
}

// What is under 190 Hz (hum, and the telephone band's edge) and over 3.9 kHz tells nothing of tones.
const (
	lowestBin  = 6
	highestBin = 124
)

// hear takes one frame of frameLength samples.
//
// Why one transform and no bank of Goertzel filters: a beep may have any frequency between 400 and 2500 Hz, and the same
// 128 powers serve the tones and the fingerprint, for the price of twenty filters.
func (s *spectrum) hear(samples *[frameLength]int16) {
	var re, im [half]float32
	for i := range half {
		re[bitReversed[i]] = s.windowed(samples, 2*i)
		im[bitReversed[i]] = s.windowed(samples, 2*i+1)
	}
	copy(s.past[:], samples[frameLength-overlap:])
	transform(&re, &im)
	s.untangle(&re, &im)
}

func (s *spectrum) windowed(samples *[frameLength]int16, i int) float32 {
	if i < overlap {
		return float32(s.past[i]) * hann[i]
	}
	return float32(samples[i-overlap]) * hann[i]
}

// untangle makes the powers of 256 real samples out of the transform of 128 pairs of them.
func (s *spectrum) untangle(re, im *[half]float32) {
	s.total = 0
	s.power[0] = 0
	for k := 1; k < half; k++ {
		mirror := half - k
		evenRe, evenIm := (re[k]+re[mirror])/2, (im[k]-im[mirror])/2
		oddRe, oddIm := (im[k]+im[mirror])/2, (re[mirror]-re[k])/2
		c, sn := unitCos[k], unitSin[k]
		x := evenRe + oddRe*c + oddIm*sn
		y := evenIm + oddIm*c - oddRe*sn
		s.power[k] = (x*x + y*y) * powerScale
		if k >= lowestBin && k <= highestBin {
			s.total += s.power[k]
		}
	}
}

// transform is the Fourier transform of 128 complex numbers in bit-reversed order, in place.
func transform(re, im *[half]float32) {
	for size := 2; size <= half; size *= 2 {
		step := window / size
		for start := 0; start < half; start += size {
			for k := range size / 2 {
				a, b := (start+k)&(half-1), (start+k+size/2)&(half-1)
				c, s := unitCos[k*step&(half-1)], unitSin[k*step&(half-1)]
				x, y := re[b]*c+im[b]*s, im[b]*c-re[b]*s
				re[b], im[b] = re[a]-x, im[a]-y
				re[a], im[a] = re[a]+x, im[a]+y
			}
		}
	}
}

var (
	hann             = hannWindow()
	unitCos, unitSin = unitCircle()
	bitReversed      = reversal()
	powerScale       = scale()
)

func hannWindow() (w [window]float32) {
	for i := range w {
		w[i] = float32(0.5 - 0.5*math.Cos(2*math.Pi*(float64(i)+0.5)/window))
	}
	return w
}

// unitCircle is cos and sin of 2πk/256.
func unitCircle() (c, s [half]float32) {
	for k := range half {
		sin, cos := math.Sincos(2 * math.Pi * float64(k) / window)
		c[k], s[k] = float32(cos), float32(sin)
	}
	return c, s
}

func reversal() (r [half]uint8) {
	for i := range r {
		for bit := range 7 {
			r[i] |= uint8(i>>bit&1) << (6 - bit)
		}
	}
	return r
}

// scale makes the bins' sum the mean square: Parseval, both halves of the spectrum, and what the window takes.
func scale() float32 {
	var sum float64
	for _, w := range hannWindow() {
		sum += float64(w) * float64(w)
	}
	return float32(2 / (window * sum))
}
