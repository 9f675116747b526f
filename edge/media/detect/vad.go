// Package detect owns judgements about what is heard in 8 kHz PCM: voice activity (VAD), and who or what has answered a
// call (Detector): a person, a machine, a carrier's announcement, a beep, a fax. It leaves what to do about it (end a
// recording, trim silence, barge in, hang up, leave a message) to edge/media and edge/session.
package detect

// VAD decides whether somebody speaks: energy against a noise floor that follows the line, held for 200 ms so that the
// gaps inside words do not count. The zero value is ready. It is a plain value that allocates nothing and is not safe for
// concurrent use; keep one per direction of a call.
//
// Why the floor is the quietest frame of the last 1.6 s (minimum statistics, Martin 2001) and no running average: speech
// pauses between syllables but noise does not, so it needs no guess about which of the two it is looking at.
type VAD struct {
	quietest [floorBuckets]int64 // mean square of the quietest frame in each 200 ms
	filled   int                 // buckets that hold a whole 200 ms
	current  int                 // the bucket being filled
	inBucket int                 // samples in it
	hangover int                 // samples for which speech is still assumed
}

const (
	rate            = 8000
	bucketSamples   = rate / 5
	floorBuckets    = 8
	hangoverSamples = rate / 5

	// aboveFloor is how many times (8 dB) the floor's power a frame needs to be speech.
	aboveFloor = 6
	// silentMeanSquare (−55 dBFS) is never speech: line noise and comfort noise stay below.
	silentMeanSquare = 3400
	// loudestFloor (−35 dBFS) is the most the floor can rise to, so that music or a held vowel stays active.
	loudestFloor = 340_000
	// firstFloor (−50 dBFS) is assumed until the first 200 ms have been heard.
	firstFloor = 10_700
)

// Frame takes the next samples, 20 ms at 8 kHz as a rule, and reports whether there is speech in them or was within the
// last 200 ms. An empty frame changes nothing.
func (v *VAD) Frame(samples []int16) bool {
	if len(samples) == 0 {
		return v.hangover > 0
	}
	if v.active(meanSquare(samples), len(samples)) {
		v.hangover = hangoverSamples
		return true
	}
	held := v.hangover > 0
	v.hangover = max(0, v.hangover-len(samples))
	return held
}

// active says whether so many samples of this mean square are speech by themselves.
func (v *VAD) active(power int64, samples int) bool {
	speech := power > silentMeanSquare && power > aboveFloor*v.floor()
	v.learn(power, samples)
	return speech
}

// floor is the mean square of the noise.
func (v *VAD) floor() int64 {
	if v.filled == 0 {
		return firstFloor
	}
	quietest := int64(loudestFloor)
	for _, q := range v.quietest[:v.filled] {
		quietest = min(quietest, q)
	}
	return quietest
}

func (v *VAD) learn(power int64, samples int) {
	bucket := &v.quietest[v.current]
	if v.inBucket == 0 {
		*bucket = power
	}
	*bucket = min(*bucket, power)
	if v.inBucket += samples; v.inBucket < bucketSamples {
		return
	}
	v.inBucket = 0
	v.current = (v.current + 1) % floorBuckets
	v.filled = min(v.filled+1, floorBuckets)
}

func meanSquare(samples []int16) int64 {
	var sum int64
	for _, s := range samples {
		sum += int64(s) * int64(s)
	}
	return sum / int64(len(samples))
}
