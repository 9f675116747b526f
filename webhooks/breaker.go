package webhooks

import (
	"sync"
	"time"
)

// The circuit breaker's rule, per account and origin.
const (
	breakerInARow  = 10               // failures in a row open it,
	breakerSample  = 10               // or, of at least so many requests
	breakerWindow  = 30 * time.Second // within this time,
	breakerPercent = 70               // so many per cent failing.
	breakerOpenFor = 30 * time.Second // Then one request may try again.

	breakerSlots = 6 // parts of the window that are forgotten one after the other
	maxBreakers  = 10_000
)

// origin is what a breaker stands for. The account is in it, so that one account cannot close another's.
type origin struct {
	account AccountID
	base    string // scheme://host:port
}

// result is what a request says about its origin's health.
type result int

const (
	resultNone result = iota // nothing: the caller hung up, or it was never sent
	resultGood
	resultBad
)

// breakers holds a breaker for each origin that was asked lately. The zero value is ready.
type breakers struct {
	mu  sync.Mutex // guards all
	all map[origin]*breaker
}

type breaker struct {
	inARow    int
	slots     [breakerSlots]slot
	openUntil time.Time // zero while closed
	probing   bool      // half-open, and its one request is on the way
	used      time.Time
}

// slot counts the requests of one part of the window.
type slot struct {
	part      int64 // which part, counted from 1970
	good, bad int
}

// isOpen reports, without taking part, whether allow would refuse.
func (b *breakers) isOpen(o origin) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	one := b.all[o]
	return one != nil && one.refuses(time.Now())
}

// allow reports whether a request may go out, and whether it is the one that finds out if the origin is back. One
// that may must be followed by record.
func (b *breakers) allow(o origin) (probe, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	one := b.all[o]
	if one == nil {
		return false, true
	}
	if one.refuses(now) {
		return false, false
	}
	one.used = now
	one.probing = !one.openUntil.IsZero()
	return one.probing, true
}

// record counts a request that was allowed.
func (b *breakers) record(o origin, probe bool, r result) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	one := b.all[o]
	if one == nil {
		if r == resultNone {
			return
		}
		one = new(breaker)
		b.add(o, one, now)
	}
	one.used = now
	if probe {
		one.settle(r, now)
		return
	}
	one.count(r, now)
}

func (b *breakers) add(o origin, one *breaker, now time.Time) {
	if b.all == nil {
		b.all = map[origin]*breaker{}
	}
	if len(b.all) >= maxBreakers {
		b.shrink(now)
	}
	b.all[o] = one
}

// shrink forgets the breakers that say nothing any more and, where an account keeps naming new hosts, any one.
func (b *breakers) shrink(now time.Time) {
	for o, one := range b.all {
		if now.Sub(one.used) > breakerWindow+breakerOpenFor {
			delete(b.all, o)
		}
	}
	for o := range b.all {
		if len(b.all) < maxBreakers {
			return
		}
		delete(b.all, o)
	}
}

func (b *breaker) refuses(now time.Time) bool { return now.Before(b.openUntil) || b.probing }

// settle takes the result of a half-open breaker's one request: closed, open again, or the next one tries.
func (b *breaker) settle(r result, now time.Time) {
	b.probing = false
	switch r {
	case resultGood:
		*b = breaker{used: now}
	case resultBad:
		b.openUntil = now.Add(breakerOpenFor)
	case resultNone:
	}
}

func (b *breaker) count(r result, now time.Time) {
	s := b.slot(now)
	switch r {
	case resultGood:
		b.inARow = 0
		s.good++
	case resultBad:
		b.inARow++
		s.bad++
		// What was sent before it opened and fails now does not keep it open for longer.
		if b.openUntil.IsZero() && (b.inARow >= breakerInARow || b.failing(now)) {
			b.openUntil = now.Add(breakerOpenFor)
		}
	case resultNone:
	}
}

func (b *breaker) slot(now time.Time) *slot {
	part := now.UnixNano() / int64(breakerWindow/breakerSlots)
	s := &b.slots[part%breakerSlots]
	if s.part != part {
		*s = slot{part: part}
	}
	return s
}

func (b *breaker) failing(now time.Time) bool {
	part := now.UnixNano() / int64(breakerWindow/breakerSlots)
	good, bad := 0, 0
	for _, s := range b.slots {
		if s.part > part-breakerSlots {
			good, bad = good+s.good, bad+s.bad
		}
	}
	return good+bad >= breakerSample && bad*100 >= breakerPercent*(good+bad)
}
