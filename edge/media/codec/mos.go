package codec

// MOS estimates listening quality, 1 (bad) to about 4.4 (the best G.711 can do), from what RTCP tells of one direction of
// a call. lossRatio is 0..1 of the packets that were not played (lost or late), jitterMs the interarrival jitter of
// RFC 3550 §6.4.1 and rttMs the round trip, both in milliseconds; 0 where unknown.
//
// It is the E-model of ITU-T G.107 with every parameter at its default except delay and loss: the delay impairment in
// the approximation of Cole and Rosenbluth (2001), the loss impairment with G.711's values of ITU-T G.113 appendix I
// (Ie 0, Bpl 25.1: packet loss concealment, random loss), the rating turned into MOS by G.107 annex B.
func MOS(lossRatio, jitterMs, rttMs float64) float64 {
	const (
		defaultRating    = 93.2
		frameMs          = 20
		echoKneeMs       = 177.3
		lossRobustness   = 25.1
		maxLossImpairing = 95
	)
	lossPercent := 100 * atLeastZero(min(lossRatio, 1))
	// One way is half the round trip, one frame to fill a packet, and a jitter buffer about twice the jitter deep.
	delayMs := atLeastZero(rttMs)/2 + frameMs + 2*atLeastZero(jitterMs)
	delayImpairment := 0.024*delayMs + 0.11*atLeastZero(delayMs-echoKneeMs)
	lossImpairment := maxLossImpairing * lossPercent / (lossPercent + lossRobustness)
	return ratingToMOS(defaultRating - delayImpairment - lossImpairment)
}

// ratingToMOS is G.107 annex B; the cubic dips below 1 under a rating of 6.5, where the scale ends.
func ratingToMOS(r float64) float64 {
	if r <= 0 {
		return 1
	}
	return max(1, 1+0.035*r+r*(r-60)*(100-r)*7e-6)
}

// atLeastZero also turns NaN into 0: a ratio of no packets at all must not spoil a record.
func atLeastZero(x float64) float64 {
	if x > 0 {
		return x
	}
	return 0
}
