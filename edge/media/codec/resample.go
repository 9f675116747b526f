package codec

import "math"

// Rates that Resample works between, in Hz.
const (
	MinRate = 8000
	MaxRate = 48000
)

// Resample converts mono PCM between sample rates in Hz, each MinRate..MaxRate, and returns a new slice of
// ⌈len(src)·to/from⌉ samples that starts at the same moment as src. It panics on a rate outside that range: whoever
// reads a file or an answer checks the rate there. Equal rates give a copy. It is for whole prompts off the 20 ms path.
//
// The filter is a Kaiser-windowed sinc with its pass band up to 85 % of the lower rate's Nyquist frequency and its stop
// band, 70 dB down, from that frequency on: going to 8 kHz everything to 3.4 kHz stays and nothing above 4 kHz aliases.
func Resample(src []int16, from, to int) []int16 {
	if from < MinRate || from > MaxRate || to < MinRate || to > MaxRate {
		panic("codec: sample rate out of range")
	}
	if from == to {
		return append([]int16(nil), src...)
	}
	divisor := gcd(from, to)
	up, down := to/divisor, from/divisor
	bank := newFilterBank(from, to, up)

	dst := make([]int16, (len(src)*up+down-1)/down)
	// The position in src is whole + fraction/up, kept in integers so that an hour of audio does not drift.
	whole, fraction := 0, 0
	for i := range dst {
		dst[i] = bank.sample(src, whole, fraction)
		fraction += down
		whole += fraction / up
		fraction %= up
	}
	return dst
}

// filterBank holds the low-pass filter once per sub-sample position, each branch normalised to unity gain at 0 Hz.
// Branch p serves positions p/len(branches) of a sample after src[whole]; tap k of a branch weighs src[whole-half+1+k].
type filterBank struct {
	branches [][]float32
	half     int
	up       int
}

// maxBranches bounds the table for rates with hardly a common divisor (44,099 Hz to 8,000 needs 8,000 branches).
// Rounding the position to 1/1024 of a sample leaves an error 70 dB under the signal.
const maxBranches = 1024

func newFilterBank(from, to, up int) filterBank {
	const (
		stopBandDB = 70
		passBand   = 0.85
	)
	nyquist := float64(min(from, to)) / 2
	cutoff := nyquist * (1 + passBand) / 2 / float64(from)
	transition := nyquist * (1 - passBand) / float64(from)
	// Kaiser (1974): length and window shape for a wanted attenuation and transition width.
	half := int(math.Ceil((stopBandDB - 7.95) / (2.285 * 2 * math.Pi * transition) / 2))
	beta := 0.1102 * (stopBandDB - 8.7)

	bank := filterBank{branches: make([][]float32, min(up, maxBranches)), half: half, up: up}
	weights := make([]float64, 2*half)
	for p := range bank.branches {
		position := float64(p) / float64(len(bank.branches))
		sum := 0.0
		for k := range weights {
			x := float64(k-half+1) - position
			weights[k] = sinc(2*cutoff*x) * kaiser(x/float64(half), beta)
			sum += weights[k]
		}
		branch := make([]float32, len(weights))
		for k, w := range weights {
			branch[k] = float32(w / sum)
		}
		bank.branches[p] = branch
	}
	return bank
}

// sample is the signal at whole + fraction/up samples into src, taking silence before and after it.
func (b *filterBank) sample(src []int16, whole, fraction int) int16 {
	branch := b.branches[fraction*len(b.branches)/b.up]
	first := whole - b.half + 1
	if first < 0 {
		branch = branch[-first:]
		first = 0
	}
	if first >= len(src) {
		return 0
	}
	window := src[first:]
	n := min(len(window), len(branch))
	var sum float32
	for k := range n {
		sum += branch[k] * float32(window[k])
	}
	return int16(math.Round(max(math.MinInt16, min(math.MaxInt16, float64(sum)))))
}

func sinc(x float64) float64 {
	if x == 0 {
		return 1
	}
	return math.Sin(math.Pi*x) / (math.Pi * x)
}

// kaiser is the Kaiser window at x in -1..1, zero outside.
func kaiser(x, beta float64) float64 {
	if x <= -1 || x >= 1 {
		return 0
	}
	return besselI0(beta*math.Sqrt(1-x*x)) / besselI0(beta)
}

// besselI0 sums the power series of the modified Bessel function until a term no longer counts.
func besselI0(x float64) float64 {
	sum, term := 1.0, 1.0
	for k := 1.0; term > 1e-12*sum; k++ {
		term *= x * x / (4 * k * k)
		sum += term
	}
	return sum
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
