package delivery

import (
	"net/http"
	"strconv"
	"time"
)

// backoff are the pauses after the first, second, … failure; the last one repeats.
var backoff = [...]time.Duration{
	5 * time.Second, 30 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour, 10 * time.Hour,
}

// giveUpAfter is how long after its first attempt a delivery is tried for the last time.
const giveUpAfter = 72 * time.Hour

// schedule is what next is.
type schedule func(failures int64, first, now time.Time, asked time.Duration, jitter float64) (at time.Time, dead bool)

// next tells when a delivery is tried again after so many failures since first, or that it is dead. asked is what
// Retry-After said, jitter from [0, 1) spreads by a fifth in either direction what failed at the same time.
func next(failures int64, first, now time.Time, asked time.Duration, jitter float64) (at time.Time, dead bool) {
	end := first.Add(giveUpAfter)
	if !now.Before(end) {
		return now, true
	}
	wait := backoff[min(int(failures), len(backoff))-1]
	wait = time.Duration(float64(wait) * (0.8 + 0.4*jitter))
	at = now.Add(max(wait, asked))
	if at.After(end) {
		at = end
	}
	return at, false
}

// asked reads Retry-After (RFC 9110 §10.2.3): seconds, or a date. 0 for none.
func asked(h http.Header, now time.Time) time.Duration {
	text := h.Get("Retry-After")
	if seconds, err := strconv.ParseInt(text, 10, 64); err == nil && seconds > 0 {
		return time.Duration(min(seconds, int64(giveUpAfter/time.Second))) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, min(at.Sub(now), giveUpAfter))
	}
	return 0
}
