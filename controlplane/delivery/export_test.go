package delivery

import (
	"net/http"
	"time"
)

// Lease sets how long a process that says nothing is taken for alive.
func (s *Service) Lease(d time.Duration) { s.lease = d }

// Hurry makes what waits wait less: idle lanes, and the pauses between attempts, which become what pause says.
func (s *Service) Hurry(pause time.Duration) {
	s.look, s.linger, s.grace = 50*time.Millisecond, 100*time.Millisecond, time.Second
	s.next = func(failures int64, first, now time.Time, asked time.Duration, jitter float64) (time.Time, bool) {
		at, dead := next(failures, first, now, asked, jitter)
		if !dead && asked == 0 {
			at = now.Add(pause)
		}
		return at, dead
	}
}

// Next is when a delivery is tried again.
func Next(failures int64, first, now time.Time, asked time.Duration, jitter float64) (at time.Time, dead bool) {
	return next(failures, first, now, asked, jitter)
}

// Asked reads Retry-After.
func Asked(text string, now time.Time) time.Duration {
	return asked(http.Header{"Retry-After": {text}}, now)
}

// Breaker is a lane's breaker.
type Breaker struct{ b breaker }

// Room is how many of the requests that could go out may.
func (b *Breaker) Room(wanted int, now time.Time) int { return b.b.room(wanted, now) }

// Send lets one request go out.
func (b *Breaker) Send() { b.b.sent() }

// Answer tells of one that came back.
func (b *Breaker) Answer(ok bool, now time.Time) { b.b.answered(ok, now) }
