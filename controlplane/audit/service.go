package audit

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/list"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest"
)

// Service is the operations on entries. Make it with New.
type Service struct {
	db     *db.DB
	fields fields
}

// New makes the operations. view is the specification of the whole API: it says which fields of the objects that entries
// tell of are telephone numbers.
func New(d *db.DB, view *openapi3.T) (*Service, error) {
	f, err := newFields(view)
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	return &Service{db: d, fields: f}, nil
}

// Operations are the functions of audit_entries.yaml.
func (s *Service) Operations() map[string]rest.Operation {
	return map[string]rest.Operation{
		"listAuditEntries":   rest.Op(s.list),
		"searchAuditEntries": rest.Op(s.search),
		"getAuditEntry":      rest.Op(s.get),
	}
}

func table() list.Table {
	return list.Table{Fields: map[string]list.Field{
		"id":         {},
		"created_at": {Type: list.Time, Sort: true},
		"actor_id":   {},
		"operation":  {},
		"object_id":  {},
		"status":     {Type: list.Int},
		"address":    {},
		"request_id": {},
		"batch":      {Type: list.Int, Column: "sealed_in"},
	}}
}

// listed is an Entry as list and db want a row. The columns of db.Row that the table does not have are not read.
type listed struct {
	bun.BaseModel `bun:"table:audit_entries"`
	db.Row

	ActorID   string          `bun:"actor_id"`
	Operation string          `bun:"operation"`
	ObjectID  string          `bun:"object_id"`
	Status    int             `bun:"status"`
	Address   string          `bun:"address"`
	RequestID string          `bun:"request_id"`
	Before    json.RawMessage `bun:"before,type:jsonb"`
	After     json.RawMessage `bun:"after,type:jsonb"`
	Batch     int64           `bun:"sealed_in,nullzero"`
}

func (l listed) entry() Entry {
	return Entry{
		ID: l.ID, AccountID: l.AccountID, CreatedAt: l.CreatedAt, ActorID: l.ActorID, Operation: l.Operation, ObjectID: l.ObjectID,
		Status: l.Status, Address: l.Address, RequestID: l.RequestID, Before: l.Before, After: l.After, Batch: l.Batch,
	}
}

func columns(q *bun.SelectQuery) *bun.SelectQuery {
	return q.ExcludeColumn("external_id", "metadata", "updated_at", "etag")
}

func (s *Service) list(ctx context.Context, who auth.Caller, in rest.ListIn) (list.Page[Entry], error) {
	q, err := table().Parse(in.Query)
	if err != nil {
		return list.Page[Entry]{}, err
	}
	return s.page(ctx, who, q)
}

func (s *Service) search(ctx context.Context, who auth.Caller, in rest.SearchIn) (list.Page[Entry], error) {
	q, err := table().ParseSearch(in.Body)
	if err != nil {
		return list.Page[Entry]{}, err
	}
	return s.page(ctx, who, q)
}

func (s *Service) page(ctx context.Context, who auth.Caller, q list.Query) (list.Page[Entry], error) {
	found, err := list.Run[listed](ctx, s.db, who.Scope, q, columns)
	if err != nil {
		return list.Page[Entry]{}, err
	}
	return list.Map(found, func(l listed) Entry { return s.shown(l, who) }), nil
}

func (s *Service) get(ctx context.Context, who auth.Caller, in rest.ByID) (Entry, error) {
	rows, err := db.List[listed](ctx, s.db, who.Scope, columns, func(q *bun.SelectQuery) *bun.SelectQuery {
		return q.Where("?TableAlias.id = ?", in.ID)
	})
	if err != nil {
		return Entry{}, err
	}
	if len(rows) == 0 {
		return Entry{}, problem.NoSuch(in.ID)
	}
	return s.shown(rows[0], who), nil
}

// shown is an entry as the caller may see it.
func (s *Service) shown(l listed, who auth.Caller) Entry {
	e := l.entry()
	if string(e.Before) == "null" {
		e.Before = nil
	}
	if string(e.After) == "null" {
		e.After = nil
	}
	if who.Mask != (auth.Mask{}) {
		s.fields.hide(&e, who.Mask)
	}
	return e
}
