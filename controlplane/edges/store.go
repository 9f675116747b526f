package edges

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hookswitch/hookswitch/controlplane/call"
	"github.com/hookswitch/hookswitch/controlplane/journal"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/recording"
	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
)

// refusal puts an error into the seam's terms; what is no refusal stays as it is, and the edge tries again.
func refusal(err error) error {
	switch {
	case errors.Is(err, call.ErrFenced):
		return &control.Error{Code: control.CodeFenced, Message: err.Error()}
	case errors.Is(err, call.ErrRefused):
		return &control.Error{Code: control.CodeInvalid, Message: err.Error()}
	}
	return err
}

func owner(o control.Owner) call.Owner {
	return call.Owner{EdgeID: o.EdgeID, BootID: o.BootID, Epoch: o.Epoch, AccountID: o.AccountID, CallID: o.CallID}
}

// Publish implements control.Control.
func (s *Service) Publish(ctx context.Context, b control.Batch) (control.Published, error) {
	o := owner(b.Owner)
	if len(b.Events) > 0 && b.Events[0].Type == webhooks.EventCallInitiated {
		if s.earlier(ctx, o, b.Events[0].OccurredAt) {
			o.BootID = ""
		}
		defer s.settle(b.CallID)
	}
	var published control.Published
	if len(b.Events) > 0 {
		expect, err := s.Calls.Publish(ctx, call.Batch{Owner: o, Events: b.Events})
		published.Expect = expect
		if err != nil {
			return published, refusal(err)
		}
	}
	return published, s.keepJournal(ctx, o, b.Journal)
}

// keepJournal stores what a batch tells of the call's journal. What the store will never take is left out: the events that
// came with it must not be refused for it.
func (s *Service) keepJournal(ctx context.Context, o call.Owner, sent []control.JournalChunk) error {
	if len(sent) == 0 || s.Journals == nil {
		return nil
	}
	chunks := make([]journal.Chunk, len(sent))
	for i, c := range sent {
		chunks[i] = journal.Chunk(c)
	}
	err := s.Journals.Append(ctx, o, chunks)
	if errors.Is(err, call.ErrRefused) {
		s.Log.Warn("edges.journal_refused", "call_id", o.CallID, "error", err.Error())
		return nil
	}
	return refusal(err)
}

// clockSlack is how much sooner than its first beat an edge may have begun a call.
const clockSlack = 2 * time.Second

// earlier reports whether a call began in an earlier life of its edge, whose spooled events this life publishes: such a
// call is ended by the sweep should its end not be among them. Both times are the edge's own.
func (s *Service) earlier(ctx context.Context, o call.Owner, at time.Time) bool {
	s.mu.Lock()
	booted, ok := s.booted[o.BootID]
	s.mu.Unlock()
	if !ok {
		var r row
		err := s.DB.Read().NewSelect().Model(&r).Where("id = ?", o.EdgeID).Where("boot_id = ?", o.BootID).Scan(ctx)
		if err != nil {
			if !errors.Is(err, sql.ErrNoRows) {
				s.Log.Warn("edges.boot_unknown", "edge_id", o.EdgeID, "error", err.Error())
			}
			return false
		}
		booted = r.BootedAt
		s.mu.Lock()
		if s.booted == nil {
			s.booted = map[string]time.Time{}
		}
		s.booted[o.BootID] = booted
		s.mu.Unlock()
	}
	return at.Before(booted.Add(-clockSlack))
}

// Upload implements control.Control.
func (s *Service) Upload(ctx context.Context, u control.Upload) (control.UploadGrant, error) {
	if u.Size > control.MaxSegment {
		return control.UploadGrant{}, &control.Error{Code: control.CodeInvalid, Message: fmt.Sprintf("a segment may have at most %d bytes, not %d", control.MaxSegment, u.Size)}
	}
	g, err := s.Recordings.Grant(ctx, owner(u.Owner), u.RecordingID, u.Segment, u.Size)
	return control.UploadGrant{URL: g.URL, Headers: g.Headers}, refusal(err)
}

// Finish implements control.Control.
func (s *Service) Finish(ctx context.Context, f control.Finish) (control.Finished, error) {
	done, err := s.Recordings.Finish(ctx, recording.Finish{
		Owner: owner(f.Owner), RecordingID: f.RecordingID, Codec: f.Codec, Channels: f.Channels,
		Segments: f.Segments, Samples: f.Samples, Failure: f.Failure,
	})
	return control.Finished{Size: done.Size, Duration: done.Duration}, refusal(err)
}

// Media implements control.Control.
func (s *Service) Media(ctx context.Context, q control.MediaQuery) (control.MediaGrant, error) {
	var g control.MediaGrant
	var err error
	switch {
	case strings.HasPrefix(q.ID, "rec_"):
		g.URL, g.ETag, err = s.Recordings.URL(ctx, q.AccountID, webhooks.RecordingID(q.ID))
	case strings.HasPrefix(q.ID, "med_"):
		g.URL, g.ETag, err = s.Files.URL(ctx, q.AccountID, webhooks.MediaID(q.ID))
	default:
		err = problem.NotFound("a media id begins with med_ or rec_")
	}
	if p, ok := errors.AsType[*problem.Problem](err); ok && (p.Code == problem.CodeNotFound || p.Code == problem.CodeConflict) {
		return g, &control.Error{Code: control.CodeNotFound, Message: p.Detail}
	}
	return g, err
}
