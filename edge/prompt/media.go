package prompt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/edge/media"
	"github.com/hookswitch/hookswitch/webhooks"
)

// Media returns an account's uploaded file, or one of the system's for an id that begins with sys_, in the language as
// System does. The control plane is asked each time where the file is; its bytes are fetched when their ETag is new.
// While the control plane or the storage is away, the last version that was played serves.
func (s *Store) Media(ctx context.Context, account webhooks.AccountID, id, language string) (*media.Prompt, error) {
	if strings.HasPrefix(id, "sys_") {
		if p, ok := s.System(webhooks.MediaID(id), language); ok {
			return p, nil
		}
		return nil, failure(CodeNotFound, nil, "there is no system prompt named %.64q", id)
	}
	if s.config.Media == nil {
		return nil, failure(CodeUnreachable, nil, "this edge has no uploaded media")
	}
	key := fmt.Sprintf("media %s %s", account, id)
	query := control.MediaQuery{AccountID: account, ID: id}
	p, err := s.flights.do(ctx, key, func(ctx context.Context) (*media.Prompt, error) {
		return s.granted(ctx, key, query)
	})
	if failed := asError(err); failed != nil {
		return nil, failed.about(id)
	}
	return p, err
}

// granted asks where the file is and fetches it, unless the bytes are here already.
func (s *Store) granted(ctx context.Context, key string, query control.MediaQuery) (*media.Prompt, error) {
	known, have := s.cache.lookup(key)
	grant, err := s.grant(ctx, query)
	if err == nil && have && grant.ETag != "" && known.etag == grant.ETag {
		return known.prompt, nil
	}
	var p *media.Prompt
	if err == nil {
		p, err = s.fetchBlob(ctx, grant.URL)
	}
	if err == nil {
		s.cache.put(key, entry{prompt: p, etag: grant.ETag})
		return p, nil
	}
	failed := asError(err)
	if failed == nil {
		return nil, err
	}
	if failed.Code != CodeUnreachable {
		s.cache.remove(key)
		return nil, failed
	}
	if have {
		s.config.Logger.Warn("prompt.stale", "media_id", query.ID, "account_id", query.AccountID, "error", err, "reason", reason(err))
		return known.prompt, nil
	}
	return nil, failed
}

// grantCodes are the refusals whose sentence is for the application; any other is between the edge and its control plane.
var grantCodes = map[control.Code]Code{
	control.CodeNotFound:   CodeNotFound,
	control.CodeNotAllowed: CodeNotAllowed,
	control.CodeInvalid:    CodeInvalid,
}

func (s *Store) grant(ctx context.Context, query control.MediaQuery) (control.MediaGrant, error) {
	ctx, cancel := context.WithTimeout(ctx, grantTimeout)
	defer cancel()
	grant, err := s.config.Media(ctx, query)
	if err == nil {
		return grant, nil
	}
	refusal, ok := errors.AsType[*control.Error](err)
	if code := grantCodes[control.CodeOf(err)]; ok && code != "" {
		return grant, failure(code, err, "%s", refusal.Message)
	}
	return grant, failure(CodeUnreachable, err, "nobody could say where its file is; try again")
}

// fetchBlob gets a file from the operator's storage. Its address is signed, so no error shows it.
func (s *Store) fetchBlob(ctx context.Context, address string) (*media.Prompt, error) {
	if err := s.downloads.acquire(ctx); err != nil {
		return nil, err
	}
	file, err := s.getBlob(ctx, address)
	s.downloads.release()
	if err != nil {
		return nil, err
	}
	return s.convert(ctx, file, s.config.MaxFile)
}

func (s *Store) getBlob(ctx context.Context, address string) ([]byte, error) {
	start := time.Now()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, unstored(err)
	}
	resp, err := s.config.Blobs.Do(req)
	if err != nil {
		return nil, unstored(err)
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotFound:
		return nil, failure(CodeNotFound, nil, "its file is no longer in the storage")
	case resp.StatusCode != http.StatusOK:
		return nil, unstored(fmt.Errorf("storage answered %d", resp.StatusCode))
	}
	file, err := io.ReadAll(io.LimitReader(resp.Body, s.config.MaxFile+1))
	if err != nil {
		return nil, unstored(err)
	}
	s.config.Logger.Debug("prompt.fetched", "source", "storage", "size", len(file), "duration_ms", time.Since(start).Milliseconds())
	return file, nil
}

func unstored(err error) *Error {
	return failure(CodeUnreachable, err, "the storage did not give its file; try again")
}

// asError is err as an *Error, nil when it is none.
func asError(err error) *Error {
	ours, _ := errors.AsType[*Error](err)
	return ours
}

// reason is what lies beneath a failure, for the operator's log.
func reason(err error) error {
	if beneath := errors.Unwrap(err); beneath != nil {
		return beneath
	}
	return err
}
