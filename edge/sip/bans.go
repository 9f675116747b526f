package sip

import (
	"net/netip"
	"sync"
	"time"
)

// What earns a ban, and how long it lasts.
const (
	BanFailures = 5
	BanWindow   = 60 * time.Second
	BanTime     = 10 * time.Minute
)

// banTable bounds the addresses remembered. When it is full and nothing has expired, new addresses are not counted: a
// flood of forged sources cannot free those already banned.
const banTable = 1 << 16

// Bans counts wrong passwords per source address: BanFailures within BanWindow silence the address for BanTime. IPv6
// sources are counted by their /64. The zero value is ready; it is safe for concurrent use.
type Bans struct {
	mu   sync.Mutex // guards from
	from map[netip.Addr]*offender
}

type offender struct {
	first    time.Time // of the failures counted
	failures int
	until    time.Time // banned
}

// Failed counts a wrong password and says whether the source is banned now.
func (b *Bans) Failed(source netip.Addr) bool {
	now := time.Now()
	source = banKey(source)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.from == nil {
		b.from = map[netip.Addr]*offender{}
	}
	o := b.from[source]
	if o == nil {
		if len(b.from) >= banTable && !b.expire(now) {
			return false
		}
		o = &offender{first: now}
		b.from[source] = o
	}
	if now.Before(o.until) {
		return true
	}
	if now.Sub(o.first) > BanWindow {
		o.first, o.failures = now, 0
	}
	if o.failures++; o.failures >= BanFailures {
		o.until, o.failures = now.Add(BanTime), 0
		return true
	}
	return false
}

// Succeeded forgets the failures of a source. It does not lift a ban.
func (b *Bans) Succeeded(source netip.Addr) {
	source = banKey(source)
	b.mu.Lock()
	defer b.mu.Unlock()
	if o := b.from[source]; o != nil && !time.Now().Before(o.until) {
		delete(b.from, source)
	}
}

// Banned says whether a source is banned. It is quick enough for every datagram.
func (b *Bans) Banned(source netip.Addr) bool {
	source = banKey(source)
	b.mu.Lock()
	defer b.mu.Unlock()
	o := b.from[source]
	return o != nil && time.Now().Before(o.until)
}

// expire drops what no longer matters and says whether there is room now.
func (b *Bans) expire(now time.Time) bool {
	for a, o := range b.from {
		if !now.Before(o.until) && now.Sub(o.first) > BanWindow {
			delete(b.from, a)
		}
	}
	return len(b.from) < banTable
}

func banKey(a netip.Addr) netip.Addr {
	a = a.Unmap()
	if a.Is4() {
		return a
	}
	p, err := a.Prefix(64)
	if err != nil {
		return a
	}
	return p.Addr()
}
