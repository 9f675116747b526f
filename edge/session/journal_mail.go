package session

import (
	"bytes"
	"compress/gzip"

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

// packer compresses chunks. Its zero value is ready; it is one goroutine's alone.
type packer struct {
	z   *gzip.Writer
	out bytes.Buffer
}

// pack compresses what is not compressed yet: a journal's lines take an eighth of the room then, on the way and where they
// are stored. Lines begin with a brace, a gzip file with 0x1f (RFC 1952 2.3.1).
func (p *packer) pack(mails []mail) error {
	for i, m := range mails {
		if m.Journal == nil || len(m.Journal.Text) == 0 || m.Journal.Text[0] != '{' {
			continue
		}
		p.out.Reset()
		if p.z == nil {
			var err error
			if p.z, err = gzip.NewWriterLevel(&p.out, gzip.BestSpeed); err != nil {
				return err
			}
		} else {
			p.z.Reset(&p.out)
		}
		if _, err := p.z.Write(m.Journal.Text); err != nil {
			return err
		}
		if err := p.z.Close(); err != nil {
			return err
		}
		chunk := *m.Journal
		chunk.Text = bytes.Clone(p.out.Bytes())
		mails[i].Journal = &chunk
	}
	return nil
}

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
