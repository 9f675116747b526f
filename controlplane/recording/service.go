package recording

import (
	"context"
	"net/http"
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
		"listRecordings":    rest.List[Recording](s.DB, table()),
		"searchRecordings":  rest.Search[Recording](s.DB, table()),
		"getRecording":      rest.Get[Recording](s.DB),
		"getRecordingMedia": rest.Op(s.media),
		"deleteRecording":   rest.Op(s.remove),
	}
}

func table() list.Table {
	return list.Table{Fields: list.Common(map[string]list.Field{
		"call_id": {}, "status": {}, "owner_id": {}, "department_id": {},
		"started_at": {Type: list.Time}, "duration": {Type: list.Float}, "size": {Type: list.Int},
	})}
}

type mediaIn struct {
	rest.ByID
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

func (s *Service) remove(ctx context.Context, who auth.Caller, in rest.ChangeIn) (rest.None, error) {
	return rest.None{}, s.delete(ctx, who.Scope, in.ID, in.IfMatch)
}

// Delete removes the audio of a recording of an account, because what it was made for is deleted. Repeat it after a failure.
func (s *Service) Delete(ctx context.Context, account webhooks.AccountID, id webhooks.RecordingID) error {
	return s.delete(ctx, auth.Account(string(account)), string(id), "")
}

// delete marks the row first: should the bytes not go, the caller hears so, and repeats it.
func (s *Service) delete(ctx context.Context, scope auth.Scope, id, ifMatch string) error {
	r, err := db.Change(ctx, s.DB, scope, id, ifMatch, func(r *Recording) error {
		r.erased()
		return nil
	})
	if err != nil {
		return err
	}
	return s.erase(ctx, r)
}

// erase removes the bytes of a recording: the file, and the segments there are.
func (s *Service) erase(ctx context.Context, r *Recording) error {
	id := webhooks.RecordingID(r.ID)
	if err := s.Blobs.Delete(ctx, fileKey(r.AccountID, id)); err != nil {
		return err
	}
	segments, _, err := s.measure(ctx, r.AccountID, id, maxSegments)
	if err != nil {
		return err
	}
	return s.removeSegments(ctx, r.AccountID, id, segments)
}
