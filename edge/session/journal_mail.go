package session

import (
	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
)

// mail is what the outbox carries, and a line of its backlog: an event, or a chunk of a journal, whose event then says
// only which call it is of.
type mail struct {
	webhooks.Event
	Journal *control.JournalChunk `json:"journal,omitempty"`
}

// What there may be of journals in memory and in the backlog, in octets. Beyond, chunks are dropped and counted; the
// events, which the record is made of, are kept.
const (
	maxJournals        = 64 << 20
	maxJournalsBacklog = 1 << 30
)

// size is the octets of journal in it.
func (m mail) size() int {
	if m.Journal == nil {
		return 0
	}
	return len(m.Journal.Text)
}

// parted parts one call's mail.
func parted(mails []mail) (events []webhooks.Event, journal []control.JournalChunk) {
	for _, m := range mails {
		if m.Journal == nil {
			events = append(events, m.Event)
		} else {
			journal = append(journal, *m.Journal)
		}
	}
	return events, journal
}

// fitting is what may go to the end of the backlog: all, and of journals nothing when it is full.
func (o *outbox) fitting(mails []mail) []mail {
	if o.backlog == nil {
		return mails
	}
	info, err := o.backlog.Stat()
	if err != nil || info.Size() < maxJournalsBacklog {
		return mails
	}
	var kept []mail
	for _, m := range mails {
		if m.Journal == nil {
			kept = append(kept, m)
		}
	}
	o.log.Error("journals.lost", "chunks", len(mails)-len(kept), "backlog_bytes", info.Size())
	return kept
}
