package session

import (
	"context"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
)

// journal is what a leg keeps of all that happens in it: entries as control.JournalChunk describes them, in their order.
// They leave for the control plane in chunks, so that a journal whose edge dies is there up to the last one.
//
// Why the JSON is put together by hand: a journal is kept of every call, and reflection would cost more than all else that
// is done for it. What has no fixed form (an instruction, an event's data) goes through encoding/json all the same.
//
// Any goroutine may write, also one that holds Session.mu; so nothing here may want that lock.
type journal struct {
	ship  func(control.JournalChunk) // takes the text over; it does not block
	begin beginning
	hides *hiding
	trail trail

	mu      sync.Mutex // guards what follows
	began   time.Time  // the first entry; zero before it
	last    int64      // microseconds after it: the newest entry
	text    []byte     // entries that are not shipped yet
	waiting time.Time  // since when there are any
	size    int        // octets so far, shipped or not
	dropped int        // entries there was no room for
	chunks  int
	ending  bool // the leg is at its end: its entries may use the room that was kept for them
	over    bool // nothing is taken any more
}

// beginning is what the first entry says.
type beginning struct {
	call  webhooks.CallID
	edge  webhooks.EdgeID
	epoch int64
}

const (
	// endRoom is the part of control.MaxJournal that is kept for the end of a call.
	endRoom = 24 << 10
	// chunkSize is when a chunk leaves, and chunkAge when one leaves that is smaller.
	chunkSize = 16 << 10
	chunkAge  = 10 * time.Second

	// What is kept of one text, in octets.
	mostMessage = 16 << 10
	mostRequest = 32 << 10
	mostAnswer  = 64 << 10
	mostEnding  = 2 << 10 // of any, at the end of a call
)

// open begins an entry that happened at a time. False: it is not taken. Otherwise the caller adds members, each with
// its comma before it, and calls shut.
func (j *journal) open(at time.Time, kind string) (b []byte, ok bool) {
	j.mu.Lock()
	if j.over || (j.size >= control.MaxJournal-endRoom && !j.ending) {
		if !j.over {
			j.dropped++
		}
		j.mu.Unlock()
		return nil, false
	}
	if j.began.IsZero() {
		j.start(at)
	}
	return j.head(at, kind), true
}

// head writes how every entry begins. The caller holds mu.
func (j *journal) head(at time.Time, kind string) []byte {
	t := max(j.last, at.Sub(j.began).Microseconds())
	b := j.text // shut decides whether what is added to it stays
	b = appendInt(append(b, `{"t":`...), t)
	b = append(b, `,"kind":"`...)
	b = append(b, kind...)
	return append(b, '"')
}

// start writes the first entry. The caller holds mu.
func (j *journal) start(at time.Time) {
	j.began, j.waiting = at, at
	j.text = make([]byte, 0, 8<<10)
	b := append(j.head(at, control.JournalBegin), `,"version":`...)
	b = appendInt(b, control.JournalVersion)
	b = append(b, `,"call_id":"`...)
	b = append(b, j.begin.call...)
	b = append(b, `","epoch":`...)
	b = appendInt(b, j.begin.epoch)
	b = append(b, `,"edge_id":`...)
	b = appendString(b, string(j.begin.edge))
	b = append(b, `,"began_at":"`...)
	b = at.UTC().AppendFormat(b, "2006-01-02T15:04:05.000000Z")
	j.take(append(b, "\"}\n"...), 0)
}

// shut ends the entry that open began, if there is room for it.
func (j *journal) shut(at time.Time, b []byte) {
	defer j.mu.Unlock()
	b = append(b, "}\n"...)
	room := control.MaxJournal - endRoom
	if j.ending {
		room = control.MaxJournal - endEntry
	}
	if j.size+len(b)-len(j.text) > room {
		j.dropped++
		j.text = b[:len(j.text)]
		return
	}
	j.take(b, max(j.last, at.Sub(j.began).Microseconds()))
	if len(j.text) >= chunkSize {
		j.cut(false)
	}
}

// endEntry is room for the last entry of all.
const endEntry = 128

// take makes b, which is text with an entry after it, the text. The caller holds mu.
func (j *journal) take(b []byte, t int64) {
	if len(j.text) == 0 {
		j.waiting = time.Now()
	}
	j.size += len(b) - len(j.text)
	j.text, j.last = b, t
}

// cut ships what there is. The caller holds mu.
func (j *journal) cut(last bool) {
	if len(j.text) == 0 {
		return
	}
	j.chunks++
	j.ship(control.JournalChunk{Number: j.chunks, Text: j.text, Last: last})
	j.text = nil
}

// age ships what has waited for long enough.
func (j *journal) age(now time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.over && now.Sub(j.waiting) >= chunkAge {
		j.cut(false)
	}
}

// finishing opens the room that was kept for the end of the call.
func (j *journal) finishing() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.ending = true
}

// close writes the last entry and ships the rest.
func (j *journal) close() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.over || j.began.IsZero() {
		return
	}
	j.over = true
	b := append(j.head(time.Now(), control.JournalEnd), `,"dropped":`...)
	b = appendInt(b, int64(j.dropped))
	j.take(append(b, "}\n"...), j.last)
	j.cut(true)
}

// stop forgets what is not shipped: another process has the call, and the journal that counts.
func (j *journal) stop() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.over, j.text = true, nil
}

// most is how much of a text with this bound is kept now. The caller is between open and shut.
func (j *journal) most(usual int) int {
	if j.ending {
		return mostEnding
	}
	return usual
}

// cutJournals ships, until ctx ends, what has waited for long enough in the journals of live calls.
func (c *Calls) cutJournals(ctx context.Context) {
	tick := time.NewTicker(chunkAge / 4)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			for _, j := range c.journals() {
				j.age(now)
			}
		}
	}
}

// journals are those of the live calls.
func (c *Calls) journals() []*journal {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make([]*journal, 0, len(c.live))
	for _, s := range c.live {
		all = append(all, &s.journal)
	}
	return all
}

// keepJournal makes the journal of a new session.
func (s *Session) keepJournal() {
	o := s.calls.outbox
	s.journal.begin = beginning{s.id, o.owner.EdgeID, o.owner.Epoch}
	s.journal.hides = &hiding{}
	s.journal.ship = func(chunk control.JournalChunk) {
		o.post(mail{Event: webhooks.Event{AccountID: s.account, CallID: s.id}, Journal: &chunk})
	}
}

// closeJournal ends the journal when everything of the session has ended.
func (s *Session) closeJournal() {
	s.calls.trails.forget(&s.journal)
	s.settleKeys(true)
	s.journal.close()
}

func appendInt(b []byte, n int64) []byte { return strconv.AppendInt(b, n, 10) }

// appendString appends a text as a JSON string. Octets that are no UTF-8 become U+FFFD: the text comes from the network,
// and what stores it takes UTF-8 only.
func appendString[T string | []byte](b []byte, s T) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		if c < utf8.RuneSelf {
			b = append(b, s[start:i]...)
			switch c {
			case '"', '\\':
				b = append(b, '\\', c)
			case '\n':
				b = append(b, '\\', 'n')
			case '\r':
				b = append(b, '\\', 'r')
			case '\t':
				b = append(b, '\\', 't')
			default:
				b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			}
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRuneInString(string(s[i:min(len(s), i+utf8.UTFMax)]))
		if r == utf8.RuneError && size == 1 {
			b = append(append(b, s[start:i]...), "\ufffd"...)
			i++
			start = i
			continue
		}
		i += size
	}
	return append(append(b, s[start:]...), '"')
}

// appendText appends ,"name":"text" with at most so many octets of the text, and its length where that is more.
func appendText[T string | []byte](b []byte, name string, text T, most int) []byte {
	b = append(append(append(b, `,"`...), name...), `":`...)
	if len(text) <= most {
		return appendString(b, text)
	}
	for most > 0 && !utf8.RuneStart(text[most]) {
		most--
	}
	b = appendString(b, text[:most])
	return appendInt(append(b, `,"length":`...), int64(len(text)))
}
