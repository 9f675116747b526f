package media

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"time"
	"unicode/utf8"

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
		"listMedia":   rest.Op(s.list),
		"uploadMedia": rest.Op(s.upload),
		"getMedia":    rest.Op(s.get),
		"deleteMedia": rest.Op(s.remove),
	}
}

func table() list.Table {
	return list.Table{Fields: list.Common(map[string]list.Field{"name": {Sort: true}}), Search: []string{"name"}}
}

type listIn struct {
	Query url.Values `query:"*"`
}

func (s *Service) list(ctx context.Context, who auth.Caller, in listIn) (list.Page[File], error) {
	q, err := table().Parse(in.Query)
	if err != nil {
		return list.Page[File]{}, err
	}
	return list.Run[File](ctx, s.DB, who.Scope, q)
}

type uploadIn struct {
	Name       string      `query:"name"`
	ExternalID string      `query:"external_id"`
	Upload     rest.Upload `body:"stream"`
}

// upload stores the bytes before the row, so that a row always has its bytes. Bytes whose row could not be written are
// removed again.
func (s *Service) upload(ctx context.Context, who auth.Caller, in uploadIn) (*File, error) {
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
	if err := db.Insert(ctx, s.DB, who.Scope, f); err != nil {
		return nil, errors.Join(err, s.Blobs.Delete(context.WithoutCancel(ctx), f.key()))
	}
	return f, nil
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

type byID struct {
	ID string `path:"media_id"`
}

func (s *Service) get(ctx context.Context, who auth.Caller, in byID) (*File, error) {
	return db.Get[File](ctx, s.DB, who.Scope, in.ID)
}

type removeIn struct {
	byID
	IfMatch string `header:"If-Match"`
}

// remove deletes the row first: bytes without a row are found by nobody.
func (s *Service) remove(ctx context.Context, who auth.Caller, in removeIn) (rest.None, error) {
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
