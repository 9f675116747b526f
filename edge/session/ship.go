package session

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
)

// shipper moves recordings off the machine, a segment every 30 s and the rest when they end, and has the control
// plane make the file. It keeps at it while the control plane or the store is away; the spool is deleted only when
// both have said yes.
type shipper struct {
	control control.Control
	log     *slog.Logger
	dir     string
	http    *http.Client
	outbox  func(webhooks.Event)
	wake    chan struct{}

	mu     sync.Mutex // guards spools and their fields that say so
	spools map[webhooks.RecordingID]*spool
}

const (
	shipAtOnce = 8
	shipTime   = 30 * time.Second
	syncEvery  = 2 * time.Second
)

// newShipper finds the recordings that a process before this one left in the spool.
func newShipper(cfg Config) (*shipper, error) {
	sh := &shipper{
		control: cfg.Control, log: cfg.Logger, dir: cfg.SpoolDir,
		http:   cfg.Blobs,
		wake:   make(chan struct{}, 1),
		spools: map[webhooks.RecordingID]*spool{},
	}
	notes, err := filepath.Glob(filepath.Join(sh.dir, "rec_*.json"))
	if err != nil {
		return nil, err
	}
	for _, path := range notes {
		if err := sh.recover(path); err != nil {
			sh.log.Error("recording.unreadable", "file", path, "error", err.Error())
		}
	}
	return sh, nil
}

// recover takes up a recording whose process has died. What was written counts, to the last octet.
func (sh *shipper) recover(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var note spoolNote
	if err := json.Unmarshal(text, &note); err != nil {
		return err
	}
	if note.Channels < 1 || strings.TrimSuffix(filepath.Base(path), ".json") != string(note.RecordingID) {
		return fmt.Errorf("not a recording's note")
	}
	p, err := openSpool(sh.dir, note)
	if err != nil {
		return err
	}
	p.release.Store(true)
	p.tell = func(kind webhooks.EventType, data webhooks.EventData) {
		sh.outbox(webhooks.Event{
			ID: webhooks.NewEventID(), Type: kind, AccountID: note.Owner.AccountID, CallID: note.Owner.CallID,
			OccurredAt: time.Now().UTC(), Data: data,
		})
	}
	if !note.Ended {
		if err := p.end(p.size.Load()/int64(note.Channels), "the edge stopped while recording", false); err != nil {
			return err
		}
	}
	sh.spools[note.RecordingID] = p
	return nil
}

func (sh *shipper) add(p *spool) {
	sh.mu.Lock()
	sh.spools[p.RecordingID] = p
	sh.mu.Unlock()
}

// nudge makes the shipper look again, because a recording has ended or its call has.
func (sh *shipper) nudge() {
	select {
	case sh.wake <- struct{}{}:
	default:
	}
}

// retry makes the shipper forget what has failed so far, because the control plane is back.
func (sh *shipper) retry() {
	sh.mu.Lock()
	for _, p := range sh.spools {
		p.failures = 0
	}
	sh.mu.Unlock()
	sh.nudge()
}

// run ships until ctx ends. Every two seconds it has the file system write down what has been recorded, with one
// system call for all recordings.
func (sh *shipper) run(ctx context.Context) {
	dir, err := os.Open(sh.dir)
	if err != nil {
		sh.log.Error("recording.spool", "error", err.Error())
		return
	}
	defer dir.Close()
	tick := time.NewTicker(syncEvery)
	defer tick.Stop()
	var work sync.WaitGroup
	defer work.Wait()
	limit := make(chan struct{}, shipAtOnce)
	for {
		select {
		case <-ctx.Done():
			return
		case <-sh.wake:
		case <-tick.C:
			if sh.recording() {
				if err := unix.Syncfs(int(dir.Fd())); err != nil {
					sh.log.Warn("recording.sync", "error", err.Error())
				}
			}
		}
		for _, p := range sh.due() {
			select {
			case limit <- struct{}{}:
			case <-ctx.Done():
				return
			}
			work.Go(func() {
				defer func() { <-limit }()
				sh.ship(ctx, p)
			})
		}
	}
}

func (sh *shipper) recording() bool {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return len(sh.spools) > 0
}

// due takes the recordings that have something to ship or to delete.
func (sh *shipper) due() []*spool {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	var out []*spool
	for _, p := range sh.spools {
		ended := p.note().Ended
		if p.busy || (!ended && p.segments(false) <= p.shipped) || (p.gone && !p.release.Load()) {
			continue
		}
		if p.failures > 0 { // every 2, 4, 8 … ticks, up to a minute
			p.failures++
			if p.failures&(p.failures-1) != 0 && p.failures%32 != 0 {
				continue
			}
		}
		p.busy = true
		out = append(out, p)
	}
	return out
}

// ship brings one recording as far as it can be.
func (sh *shipper) ship(ctx context.Context, p *spool) {
	err := sh.advance(ctx, p)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	p.busy = false
	switch {
	case err == nil:
		p.failures = 0
	case control.CodeOf(err) != "": // for good: the recording was deleted, or another process has the call
		p.failures, p.gone = 0, true
		sh.log.Warn("recording.refused", "recording_id", p.RecordingID, "error", err.Error())
	case ctx.Err() == nil:
		p.failures = max(1, p.failures)
		sh.log.Warn("recording.unshipped", "recording_id", p.RecordingID, "error", err.Error())
	}
	if !p.gone || !p.release.Load() {
		return
	}
	delete(sh.spools, p.RecordingID)
	if err := p.remove(); err != nil {
		sh.log.Warn("recording.spool", "recording_id", p.RecordingID, "error", err.Error())
	}
}

func (sh *shipper) advance(ctx context.Context, p *spool) error {
	if p.gone {
		return nil
	}
	note := p.note()
	if note.Ended && note.Empty {
		p.gone = true
		return nil
	}
	for n := p.shipped + 1; n <= p.segments(note.Ended); n++ {
		if err := sh.put(ctx, p, n); err != nil {
			return fmt.Errorf("segment %d: %w", n, err)
		}
		p.shipped = n
	}
	if !note.Ended {
		return nil
	}
	return sh.finish(ctx, p, note)
}

// put ships one segment.
func (sh *shipper) put(ctx context.Context, p *spool, n int) error {
	body, err := p.segment(n)
	if err != nil {
		return err
	}
	ctx, done := context.WithTimeout(ctx, shipTime)
	defer done()
	grant, err := sh.control.Upload(ctx, control.Upload{Owner: p.Owner, RecordingID: p.RecordingID, Segment: n, Size: int64(len(body))})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, grant.URL, bytes.NewReader(body))
	if err != nil {
		return err
	}
	for name, value := range grant.Headers {
		req.Header.Set(name, value)
	}
	res, err := sh.http.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(res.Body, 64<<10)); err != nil {
		return err
	}
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("the store answered %s", res.Status)
	}
	return nil
}

// finish has the file made and tells of it.
func (sh *shipper) finish(ctx context.Context, p *spool, note spoolNote) error {
	ctx, done := context.WithTimeout(ctx, shipTime)
	defer done()
	file, err := sh.control.Finish(ctx, control.Finish{
		Owner: note.Owner, RecordingID: note.RecordingID, Codec: note.Codec, Channels: note.Channels,
		Segments: p.shipped, Samples: note.Samples, Failure: note.Failure,
	})
	if err != nil {
		return err
	}
	p.gone = true
	p.tell(webhooks.EventRecordingCompleted, webhooks.EventData{
		Verb: note.Verb, RecordingID: note.RecordingID, Channels: note.Channels, Format: "wav", Duration: &file.Duration, Size: file.Size, Message: note.Failure,
		ConferenceID: note.ConferenceID,
	})
	return nil
}

// settle waits until every ended recording is shipped, or ctx ends.
func (sh *shipper) settle(ctx context.Context) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for sh.recording() {
		sh.nudge()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
