package role

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/list"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest"
)

// Service is the operations on roles, and what authentication asks of them.
type Service struct {
	DB *db.DB
	// Permissions are those of the loaded specification: those of its operations.
	Permissions Permissions
	// Reports gives the users whose superior a user is, directly or not. Without it nobody has reports.
	Reports func(ctx context.Context, account, userID string) ([]string, error)
	Now     func() time.Time // for how long a compiled role is kept; nil is time.Now

	mu       sync.Mutex // guards compiled
	compiled map[string]*flight
}

func (s *Service) now() time.Time {
	if s.Now == nil {
		return time.Now()
	}
	return s.Now()
}

// Operations are the functions of roles.yaml.
func (s *Service) Operations() map[string]rest.Operation {
	all := rest.Operations(s.Resource())
	all["copyRole"] = rest.Op(s.copy)
	return all
}

// Written is what a caller writes of a role.
type Written struct {
	rest.Keys
	Draft
}

// Resource is how roles are made and changed, for whoever does so without a request.
func (s *Service) Resource() rest.Resource[Role, Written] {
	return rest.Resource[Role, Written]{
		DB: s.DB, One: "Role", Many: "Roles", Prefix: "role",
		Table: list.Table{
			Fields: list.Common(map[string]list.Field{"name": {Sort: true}, "code": {}, "built_in": {Type: list.Bool}}),
			Search: []string{"name", "code"},
		},
		Uses:  []db.Use{{Table: "user_roles", Column: "role_id", Name: "user"}},
		Draft: func(r *Role) Written { return Written{Draft: r.Draft} },
		Put: func(_ context.Context, _ *db.Tx, who auth.Caller, r *Role, w Written) error {
			if err := mayChange(who, r); err != nil {
				return err
			}
			r.Draft = w.Draft
			if err := r.check(s.Permissions); err != nil {
				return err
			}
			return mayGrant(who, r.Draft)
		},
		Stored:   func(ctx context.Context, tx *db.Tx, _ auth.Caller, r *Role) error { return name(ctx, tx, r) },
		Removing: func(_ context.Context, _ *db.Tx, who auth.Caller, r *Role) error { return mayChange(who, r) },
		Exclusive: func(ctx context.Context, change func(context.Context) error) error {
			defer s.forget()
			return change(ctx)
		},
	}
}

// mayChange refuses to change a role that is built in, or that grants what the caller has not: he could take away from
// others what he could not give back. A new role is anybody's to make.
func mayChange(who auth.Caller, r *Role) error {
	switch {
	case r.Etag == "":
		return nil
	case r.BuiltIn:
		return problem.Conflict("the role "+r.Code+" is built in and stays as it is; change a copy of it (POST /v1/roles/"+r.ID+"/copies)",
			problem.Field("/built_in", "built_in", "this role cannot be changed or deleted"))
	}
	return mayGrant(who, r.Draft)
}

// name stores the departments that a role's scopes name; one that the account has not is a Refused problem.
func name(ctx context.Context, tx *db.Tx, r *Role) error {
	if _, err := tx.Write().NewRaw("DELETE FROM role_departments WHERE id = ?", r.ID).Exec(ctx); err != nil {
		return db.Check(err)
	}
	ids := r.chosen()
	if len(ids) == 0 {
		return nil
	}
	var known []string
	err := tx.Read().NewSelect().Table("departments").Column("id").Where("account_id = ?", r.AccountID).Where("id IN (?)", bun.List(ids)).Scan(ctx, &known)
	if err != nil {
		return db.Check(err)
	}
	rows := make([]chosen, 0, len(ids))
	for _, id := range ids {
		rows = append(rows, chosen{ID: r.ID, AccountID: r.AccountID, DepartmentID: id})
	}
	if pointer, id := r.stranger(known); id != "" {
		return problem.RefusedField(pointer, "unknown", "there is no department %s in this account", id)
	}
	_, err = tx.Write().NewInsert().Model(&rows).Exec(ctx)
	return db.Check(err)
}

// chosen is a row of the table of departments that roles name.
type chosen struct {
	bun.BaseModel `bun:"table:role_departments"`

	ID           string `bun:"id,pk"` // the role's
	AccountID    string `bun:"account_id"`
	DepartmentID string `bun:"department_id,pk"`
}

type copyIn struct {
	rest.ByID
	Body copyDraft `body:"json"`
}

// copyDraft is what differs in a copy.
type copyDraft struct {
	Name string `json:"name"`
	Code string `json:"code,omitempty"`
}

// copy makes a role of the account's own that grants what another does now.
func (s *Service) copy(ctx context.Context, who auth.Caller, in copyIn) (rest.Answer, error) {
	defer s.forget()
	from, err := db.Get[Role](ctx, s.DB, who.Scope, in.ID)
	if err != nil {
		return rest.Answer{}, err
	}
	w := Written{Draft: from.Draft}
	w.Name, w.Code = in.Body.Name, in.Body.Code
	r, err := rest.Insert(ctx, s.DB, s.Resource(), who, w)
	if err != nil {
		return rest.Answer{}, err
	}
	return rest.Answer{Status: http.StatusCreated, Header: http.Header{"Location": {"/v1/roles/" + r.ID}}, Body: r}, nil
}

func pointerOf(list string, i int) string { return list + "/" + strconv.Itoa(i) }

// pointerEscape writes a name as part of a JSON pointer (RFC 6901 §3).
func pointerEscape(name string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
}
