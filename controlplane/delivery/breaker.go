package delivery

import "time"

// The rule of the breaker that each lane has.
const (
	breakerInARow  = 10               // failures in a row open it,
	breakerSample  = 10               // or, of at least so many requests
	breakerWindow  = 30 * time.Second // within this time,
	breakerPercent = 70               // so many per cent failing.
	breakerOpenFor = 30 * time.Second // Then one request tries again.
)

// breaker spares an endpoint that does not answer, and us the waiting for it: while it is open nothing is sent, and no
// attempt is counted. The zero value is closed. It is one goroutine's.
type breaker struct {
	inARow    int
	good, bad int // since began
	began     time.Time
	openUntil time.Time // zero while closed
	probing   bool
}

// room is how many of the requests that could go out may.
func (b *breaker) room(wanted int, now time.Time) int {
	switch {
	case b.openUntil.IsZero():
		return wanted
	case b.probing || now.Before(b.openUntil):
		return 0
	}
	return min(wanted, 1)
}

// sent is told of requests that go out.
func (b *breaker) sent() { b.probing = !b.openUntil.IsZero() }

// answered is told of each that came back. What went out before it opened and fails now does not keep it open longer.
func (b *breaker) answered(ok bool, now time.Time) {
	probe := b.probing
	if now.Sub(b.began) > breakerWindow {
		b.good, b.bad, b.began = 0, 0, now
	}
	switch {
	case ok && probe:
		*b = breaker{began: now}
	case ok:
		b.inARow = 0
		b.good++
	case probe:
		b.probing, b.openUntil = false, now.Add(breakerOpenFor)
	default:
		b.inARow++
		b.bad++
		if b.openUntil.IsZero() && (b.inARow >= breakerInARow || b.failing()) {
			b.openUntil = now.Add(breakerOpenFor)
		}
	}
}

// returned is told of a request that went out and says nothing about the endpoint.
func (b *breaker) returned() { b.probing = false }

func (b *breaker) failing() bool {
	return b.good+b.bad >= breakerSample && b.bad*100 >= breakerPercent*(b.good+b.bad)
}
