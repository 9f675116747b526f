package recording

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/blob"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/list"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest"
	"github.com/hookswitch/hookswitch/webhooks"
)

// Operations are the functions of recordings.yaml.
func (s *Service) Operations() map[string]rest.Operation {
	return map[string]rest.Operation{
		"listRecordings":    rest.Op(s.list),
		"getRecording":      rest.Op(s.get),
		"getRecordingMedia": rest.Op(s.media),
		"deleteRecording":   rest.Op(s.remove),
	}
}

func table() list.Table {
	return list.Table{Fields: list.Common(map[string]list.Field{"call_id": {}, "status": {}})}
}

type listIn struct {
	Query url.Values `query:"*"`
}

func (s *Service) list(ctx context.Context, who auth.Caller, in listIn) (list.Page[Recording], error) {
	q, err := table().Parse(in.Query)
	if err != nil {
		return list.Page[Recording]{}, err
	}
	return list.Run[Recording](ctx, s.DB, who.Scope, q)
}

type byID struct {
	ID string `path:"recording_id"`
}

func (s *Service) get(ctx context.Context, who auth.Caller, in byID) (*Recording, error) {
	return db.Get[Recording](ctx, s.DB, who.Scope, in.ID)
}

type mediaIn struct {
	byID
	As string `query:"as"`
}

// SignedURL is where bytes can be fetched by anyone until it expires.
type SignedURL struct {
	URL       string    `json:"url"`
	ExpiresAt time.Time `json:"expires_at"`
}

// urlLife is how long the URL of a recording works.
const urlLife = 15 * time.Minute

func (s *Service) media(ctx context.Context, who auth.Caller, in mediaIn) (rest.Answer, error) {
	r, err := db.Get[Recording](ctx, s.DB, who.Scope, in.ID)
	if err != nil {
		return rest.Answer{}, err
	}
	expires := db.Now().Add(urlLife)
	link, err := s.link(ctx, r)
	switch {
	case err != nil:
		return rest.Answer{}, err
	case in.As == "json":
		return rest.Answer{Status: http.StatusOK, Body: SignedURL{URL: link, ExpiresAt: expires}}, nil
	}
	return rest.Redirect(link), nil
}

// link signs a URL of the file, or says why there is none.
func (s *Service) link(ctx context.Context, r *Recording) (string, error) {
	switch r.Status {
	case StatusRecording:
		return "", problem.Conflict("the recording is not finished; wait for the event recording.completed",
			problem.Field("/status", string(r.Status), "it is still being recorded"))
	case StatusDeleted:
		return "", problem.NotFound("the audio of this recording was deleted")
	case StatusFailed:
		return "", problem.NotFound("this recording has no audio: " + r.Failure)
	}
	return s.Blobs.SignedGet(ctx, fileKey(r.AccountID, webhooks.RecordingID(r.ID)), urlLife,
		blob.Download{ContentType: "audio/wav", FileName: r.ID + ".wav"})
}

// URL is where an edge fetches the audio of a recording of an account, and its etag: the same etag means the same
// bytes. Problems as of the operation getRecordingMedia.
func (s *Service) URL(ctx context.Context, account webhooks.AccountID, id webhooks.RecordingID) (link, etag string, err error) {
	r, err := db.Get[Recording](ctx, s.DB, auth.Account(string(account)), string(id))
	if err != nil {
		return "", "", err
	}
	link, err = s.link(ctx, r)
	return link, r.Etag, err
}

type removeIn struct {
	byID
	IfMatch string `header:"If-Match"`
}

// remove marks the row first: should the bytes not go, the caller hears so, and repeats it.
func (s *Service) remove(ctx context.Context, who auth.Caller, in removeIn) (rest.None, error) {
	r, err := db.Change(ctx, s.DB, who.Scope, in.ID, in.IfMatch, func(r *Recording) error {
		r.Status, r.Size = StatusDeleted, 0
		return nil
	})
	if err != nil {
		return rest.None{}, err
	}
	id := webhooks.RecordingID(r.ID)
	if err := s.Blobs.Delete(ctx, fileKey(r.AccountID, id)); err != nil {
		return rest.None{}, err
	}
	segments, _, err := s.measure(ctx, r.AccountID, id, maxSegments)
	if err != nil {
		return rest.None{}, err
	}
	return rest.None{}, s.removeSegments(ctx, r.AccountID, id, segments)
}
