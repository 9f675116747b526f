package session

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/edge/media"
	"github.com/hookswitch/hookswitch/edge/media/codec"
	"github.com/hookswitch/hookswitch/webhooks"
)

// spool is one recording on this edge: a file of raw G.711, Channels octets per sampling instant, beside a small
// file that says what it is, so that the next process can ship what this one could not.
type spool struct {
	spoolNote
	dir   string
	file  *os.File
	media media.RecordID // of the leg, while it records
	trim  bool           // the silence at the end is not part of it
	least int64          // with fewer samples per channel it is empty
	tell  func(webhooks.EventType, webhooks.EventData)

	size    atomic.Int64 // octets written
	release atomic.Bool  // the call is over: the file may go when it is shipped

	// Of the shipper, under its lock:
	shipped  int // segments
	busy     bool
	failures int
	gone     bool

	mu     sync.Mutex // guards the note once the recording has ended
	closed bool
}

// spoolNote is the small file.
type spoolNote struct {
	Owner       control.Owner        `json:"owner"`
	RecordingID webhooks.RecordingID `json:"recording_id"`
	Verb        string               `json:"verb,omitempty"` // that records; "" for the option of an originated call
	Codec       string               `json:"codec"`
	Channels    int                  `json:"channels"`
	Ended       bool                 `json:"ended"`
	Samples     int64                `json:"samples"` // once ended, trailing silence cut off
	Failure     string               `json:"failure,omitempty"`
	Empty       bool                 `json:"empty,omitempty"`
	// ConferenceID is the room that was recorded; "" for a leg.
	ConferenceID webhooks.ConferenceID `json:"conference_id,omitempty"`
}

// segmentSeconds is how much a segment holds: what is lost at most when the machine is.
const segmentSeconds = 30

func (n *spoolNote) segmentSize() int64 { return segmentSeconds * media.SampleRate * int64(n.Channels) }

func openSpool(dir string, note spoolNote) (*spool, error) {
	p := &spool{spoolNote: note, dir: dir}
	file, err := os.OpenFile(p.path(".g711"), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	p.file = file
	info, err := file.Stat()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	p.size.Store(info.Size())
	return p, nil
}

func (p *spool) path(suffix string) string {
	return filepath.Join(p.dir, string(p.RecordingID)+suffix)
}

// Write implements io.Writer for the media engine.
func (p *spool) Write(b []byte) (int, error) {
	n, err := p.file.Write(b)
	p.size.Add(int64(n))
	return n, err
}

// save writes the note in one piece: a half-written one would lose the recording to the next process.
func (p *spool) save() error {
	text, err := json.Marshal(p.spoolNote)
	if err != nil {
		return err
	}
	next := p.path(".json.new")
	if err := os.WriteFile(next, text, 0o600); err != nil {
		return err
	}
	return os.Rename(next, p.path(".json"))
}

// end closes the recording: so many samples per channel are of it.
func (p *spool) end(samples int64, failure string, empty bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.Ended, p.Samples, p.Failure, p.Empty = true, samples, failure, empty
	return p.save()
}

func (p *spool) note() spoolNote {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.spoolNote
}

// segment reads one segment, numbered from 1.
func (p *spool) segment(n int) ([]byte, error) {
	buf := make([]byte, p.segmentSize())
	got, err := p.file.ReadAt(buf, int64(n-1)*p.segmentSize())
	if got == 0 {
		return nil, err
	}
	return buf[:got], nil
}

// segments is how many there are: whole ones while it records, the last one too once it has ended.
func (p *spool) segments(ended bool) int {
	size, each := p.size.Load(), p.segmentSize()
	if ended {
		return int((size + each - 1) / each)
	}
	return int(size / each)
}

// prompt is the recording so far, or all of it, for playing it back to its own call.
func (p *spool) prompt(decode func(codec.ID, int, []byte) *media.Prompt) (*media.Prompt, error) {
	note := p.note()
	size := p.size.Load()
	if note.Ended {
		size = note.Samples * int64(note.Channels)
	}
	const most = 64 << 20 // 70 minutes of two channels
	if size > most {
		return nil, errors.New("the recording is too long to be played back")
	}
	raw := make([]byte, size)
	if _, err := p.file.ReadAt(raw, 0); err != nil {
		return nil, fmt.Errorf("reading the recording: %w", err)
	}
	id, _ := codec.ByName(note.Codec)
	return decode(id, note.Channels, raw), nil
}

// remove deletes the files.
func (p *spool) remove() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	return errors.Join(p.file.Close(), os.Remove(p.path(".g711")), os.Remove(p.path(".json")))
}
