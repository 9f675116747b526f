package media

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"time"
	"unicode/utf8"

	"github.com/hookswitch/hookswitch/controlplane/account"
	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/blob"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/list"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest"
	"github.com/hookswitch/hookswitch/webhooks"
)

// Service is the operations on media files.
type Service struct {
	DB    *db.DB
	Blobs *blob.Store
	// CheckAudio says in a sentence why an edge could not play a file; nil means that it can.
	CheckAudio func(file []byte) error
}

// Operations are the functions of the specification's operations.
func (s *Service) Operations() map[string]rest.Operation {
	return map[string]rest.Operation{
		"listMedia":   rest.List[File](s.DB, table()),
		"searchMedia": rest.Search[File](s.DB, table()),
		"uploadMedia": rest.Op(s.upload),
		"getMedia":    rest.Get[File](s.DB),
		"updateMedia": rest.Op(s.update),
		"deleteMedia": rest.Op(s.remove),
		"upsertMedia": rest.Op(s.upsert),
	}
}

func table() list.Table {
	return list.Table{Fields: list.Common(map[string]list.Field{"name": {Sort: true}}), Search: []string{"name"}}
}

type uploadIn struct {
	Name       string      `query:"name"`
	ExternalID string      `query:"external_id"`
	Upload     rest.Upload `body:"stream"`
}

func (s *Service) upload(ctx context.Context, who auth.Caller, in uploadIn) (*File, error) {
	f, err := s.take(ctx, who, in)
	if err != nil {
		return nil, err
	}
	if err := db.Insert(ctx, s.DB, who.Scope, f); err != nil {
		return nil, s.drop(ctx, f, err)
	}
	return f, nil
}

// take checks an upload and stores the bytes, so that a row always has its bytes. Those whose row could not be written
// are to be dropped. Bytes that replace others must fit beside them, for these are kept for a while.
func (s *Service) take(ctx context.Context, who auth.Caller, in uploadIn) (*File, error) {
	got, err := read(in)
	if err != nil {
		return nil, err
	}
	switch n := utf8.RuneCountInString(got.name); {
	case n == 0:
		return nil, problem.InvalidField("name", "required", "is missing: send it as a part before the file, or as the parameter name")
	case n > maxName || utf8.RuneCountInString(got.externalID) > 200:
		return nil, problem.InvalidField("name", "maxLength", "may have at most %d characters, and external_id 200", maxName)
	case len(got.body) == 0:
		return nil, problem.InvalidField("file", "required", "is missing or empty")
	}
	if err := s.CheckAudio(got.body); err != nil {
		return nil, problem.RefusedField("file", "audio", "%s", err.Error())
	}
	if err := account.Room(ctx, s.DB, webhooks.AccountID(who.AccountID), int64(len(got.body))); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(got.body)
	f := &File{
		Row:  db.Row{ID: db.NewID("med"), AccountID: who.AccountID},
		Name: got.name, ContentType: "audio/wav", Size: int64(len(got.body)), SHA256: hex.EncodeToString(sum[:]),
	}
	if got.externalID != "" {
		f.ExternalID = &got.externalID
	}
	if err := s.Blobs.Put(ctx, f.key(), bytes.NewReader(got.body), f.Size); err != nil {
		return nil, fmt.Errorf("media %s: %w", f.ID, err)
	}
	return f, nil
}

// drop removes the bytes of a file that did not come to be, for a cause.
func (s *Service) drop(ctx context.Context, f *File, cause error) error {
	return errors.Join(cause, s.Blobs.Delete(context.WithoutCancel(ctx), f.key()))
}

type upsertIn struct {
	ExternalID string      `path:"external_id"`
	IfMatch    string      `header:"If-Match"`
	Name       string      `query:"name"`
	Upload     rest.Upload `body:"stream"`
}

// upsert stores a new file, or other bytes and another name for the one there is. The old bytes stay for as long as an
// edge may be fetching them.
func (s *Service) upsert(ctx context.Context, who auth.Caller, in upsertIn) (rest.Answer, error) {
	f, err := s.take(ctx, who, uploadIn{Name: in.Name, Upload: in.Upload})
	if err != nil {
		return rest.Answer{}, err
	}
	if f.ExternalID != nil && *f.ExternalID != in.ExternalID {
		return rest.Answer{}, s.drop(ctx, f, problem.InvalidField("external_id", "path", "must be the one in the path, or be left out"))
	}
	f.ExternalID = &in.ExternalID
	answer, err := rest.Upsert(ctx, s.DB, who, in.ExternalID, in.IfMatch, func(ctx context.Context, tx *db.Tx) (*File, error) {
		return f, db.Insert(ctx, tx, who.Scope, f)
	}, func(ctx context.Context, tx *db.Tx, old *File) error {
		replaced := replacedBlob{Key: old.key()}
		old.Name, old.ContentType, old.Size, old.SHA256, old.Blob, old.Metadata = f.Name, f.ContentType, f.Size, f.SHA256, f.key(), nil
		return db.Enqueue(ctx, tx, who.AccountID, replacedTopic, replaced, db.Now().Add(grantFor))
	})
	if err != nil {
		return rest.Answer{}, s.drop(ctx, f, err)
	}
	return answer, nil
}

// replacedBlob is the outbox message of bytes that no row has any more.
type replacedBlob struct {
	Key string `json:"key"`
}

const (
	replacedTopic = "media.replaced"
	sweepAtOnce   = 100
	sweepLease    = time.Minute
)

// Sweep removes the bytes of files that were replaced and that no edge can be fetching any more. Call it every few
// minutes.
func (s *Service) Sweep(ctx context.Context) error {
	messages, err := s.DB.Claim(ctx, replacedTopic, sweepAtOnce, sweepLease)
	if err != nil {
		return err
	}
	for _, m := range messages {
		var replaced replacedBlob
		if err := json.Unmarshal(m.Payload, &replaced); err != nil {
			return fmt.Errorf("%s %s: %w", replacedTopic, m.ID, err)
		}
		if err := s.Blobs.Delete(ctx, replaced.Key); err != nil {
			return err
		}
	}
	return s.DB.Done(ctx, messages...)
}

// draft is what a merge patch of a file is applied to.
type draft struct {
	rest.Keys
	Name string `json:"name"`
}

func (s *Service) update(ctx context.Context, who auth.Caller, in rest.PatchIn) (*File, error) {
	return db.Change(ctx, s.DB, who.Scope, in.ID, in.IfMatch, func(f *File) error {
		d := draft{Keys: rest.Keys{ExternalID: f.ExternalID, Metadata: f.Metadata}, Name: f.Name}
		err := in.Patch.Apply(&d)
		f.ExternalID, f.Metadata, f.Name = d.ExternalID, d.Metadata, d.Name
		return err
	})
}

// uploaded is what was sent, in whichever form.
type uploaded struct {
	name       string
	externalID string
	body       []byte
}

func read(in uploadIn) (uploaded, error) {
	kind, parameters, err := mime.ParseMediaType(in.Upload.ContentType)
	if err != nil {
		return uploaded{}, unsupported()
	}
	switch kind {
	case "multipart/form-data":
		return readParts(multipart.NewReader(in.Upload.Body, parameters["boundary"]), in)
	case "audio/wav", "audio/x-wav", "audio/wave", "audio/vnd.wave":
		body, err := readFile(in.Upload.Body)
		return uploaded{name: in.Name, externalID: in.ExternalID, body: body}, err
	}
	return uploaded{}, unsupported()
}

func unsupported() error {
	return problem.New(problem.CodeUnsupportedMedia, "send the file as audio/wav, or as the part file of multipart/form-data")
}

func readParts(parts *multipart.Reader, in uploadIn) (uploaded, error) {
	got := uploaded{name: in.Name, externalID: in.ExternalID}
	for {
		part, err := parts.NextPart()
		if errors.Is(err, io.EOF) {
			return got, nil
		}
		if err != nil {
			return got, broken(err)
		}
		switch part.FormName() {
		case "file":
			got.body, err = readFile(part)
		case "name":
			got.name, err = readText(part)
		case "external_id":
			got.externalID, err = readText(part)
		default:
			err = problem.InvalidField(part.FormName(), "unknown", "is no part of an upload; there are name, external_id and file")
		}
		if err != nil {
			return got, err
		}
	}
}

func readFile(from io.Reader) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(from, MaxBytes+1))
	if err != nil {
		return nil, broken(err)
	}
	if len(body) > MaxBytes {
		return nil, problem.TooLarge(MaxBytes)
	}
	return body, nil
}

func readText(from io.Reader) (string, error) {
	const most = 4 * 200 // 200 characters of UTF-8
	text, err := io.ReadAll(io.LimitReader(from, most+1))
	switch {
	case err != nil:
		return "", broken(err)
	case len(text) > most:
		return "", problem.Invalid("a part is longer than 200 characters")
	case !utf8.Valid(text) || bytes.IndexByte(text, 0) >= 0:
		return "", problem.Invalid("a part is not UTF-8 without NUL")
	}
	return string(text), nil
}

// broken tells a body that is too large from one that ended early.
func broken(err error) error {
	if _, ok := errors.AsType[*problem.Problem](err); ok {
		return err
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return err
	}
	return problem.Invalid("the body ended early, or is not well-formed multipart/form-data; send it again")
}

// remove deletes the row first: bytes without a row are found by nobody.
func (s *Service) remove(ctx context.Context, who auth.Caller, in rest.ChangeIn) (rest.None, error) {
	f, err := db.Get[File](ctx, s.DB, who.Scope, in.ID)
	if err != nil {
		return rest.None{}, err
	}
	if err := db.Delete[File](ctx, s.DB, who.Scope, in.ID, in.IfMatch); err != nil {
		return rest.None{}, err
	}
	return rest.None{}, s.Blobs.Delete(ctx, f.key())
}

// grantFor is how long an edge has to fetch a file.
const grantFor = 15 * time.Minute

// URL gives where an edge fetches a file's bytes, and their etag: the same etag means the same bytes. It is a NotFound
// problem when the account has no such file.
func (s *Service) URL(ctx context.Context, account webhooks.AccountID, id webhooks.MediaID) (link, etag string, err error) {
	f, err := db.Get[File](ctx, s.DB, auth.Account(string(account)), string(id))
	if err != nil {
		return "", "", err
	}
	link, err = s.Blobs.SignedGet(ctx, f.key(), grantFor, blob.Download{ContentType: f.ContentType})
	return link, f.SHA256, err
}
