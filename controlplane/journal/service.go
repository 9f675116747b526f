package journal

import (
	"context"
	"net/http"
	"slices"
	"strconv"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/call"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest"
)

// Operations are the functions of journal.yaml.
func (s *Service) Operations() map[string]rest.Operation {
	return map[string]rest.Operation{"getCallJournal": rest.Op(s.read)}
}

type readIn struct {
	ID     string   `path:"call_id"`
	Kind   []string `query:"kind"`
	Format string   `query:"format"`
	Limit  int      `query:"limit"`
	Cursor string   `query:"cursor"`
}

// Page is a part of a journal. A journal only grows at its end, so that a cursor stays good.
type Page struct {
	Data       []Entry `json:"data"`
	NextCursor string  `json:"next_cursor,omitempty"`
	// Whole: nothing more will come. Of a call that lives, or whose edge died, it is false.
	Whole bool `json:"whole"`
}

const formatText = "text"

// read answers with a Page, or a rest.Stream of text.
func (s *Service) read(ctx context.Context, who auth.Caller, in readIn) (any, error) {
	c, err := db.Get[call.Call](ctx, s.DB, who.Scope, in.ID)
	if err != nil {
		return nil, err
	}
	text, whole, err := s.text(ctx, c.AccountID, c.ID)
	if err != nil {
		return nil, err
	}
	entries := split(text)
	if len(in.Kind) > 0 {
		entries = slices.DeleteFunc(entries, func(e Entry) bool { return !slices.Contains(in.Kind, e.read().Kind) })
	}
	if in.Format == formatText {
		hidden := hide(entries, who.Mask)
		return rest.Stream(func(w http.ResponseWriter, _ *http.Request) error {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			w.Header().Set("X-Content-Type-Options", "nosniff")
			_, err := w.Write(ladder(hidden, whole))
			return err
		}), nil
	}
	from := 0
	if in.Cursor != "" {
		if from, err = strconv.Atoi(in.Cursor); err != nil || from < 0 {
			return nil, problem.InvalidField("cursor", "cursor", "is not one that this list gave out; start again without it")
		}
	}
	page := Page{Data: []Entry{}, Whole: whole}
	from = min(from, len(entries))
	to := min(from+in.Limit, len(entries))
	page.Data = hide(entries[from:to], who.Mask)
	if to < len(entries) {
		page.NextCursor = strconv.Itoa(to)
	}
	return page, nil
}
