package customer

import (
	"context"
	"encoding/json"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/list"
)

// SearchQuery is the SQL of a search.
func (s *Service) SearchQuery(ctx context.Context, scope auth.Scope, filter string) (string, error) {
	q, err := s.table(ctx, scope).ParseSearch(list.Search{Filter: json.RawMessage(filter)})
	if err != nil {
		return "", err
	}
	return db.Select[Customer](s.DB, scope).Apply(q.Where(scope), q.Page).String(), nil
}
