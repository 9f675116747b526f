package db

import (
	"slices"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/schema"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/problem"
)

// Owned is embedded beside Row by resources whose rows are a person's or a department's:
//
//	type Customer struct {
//		bun.BaseModel `bun:"table:customers" json:"-"`
//		db.Row
//		db.Owned
//		Draft
//	}
//
// Every generic query narrows such a table by the rows of the scope (auth.Scope.Rows): a row is within it when its
// owner is one of its users, or its department one of its departments. A row of nobody is seen by those alone who see
// the whole account.
type Owned struct {
	OwnerID      string `bun:"owner_id,nullzero" json:"owner_id,omitempty"`           // a user
	DepartmentID string `bun:"department_id,nullzero" json:"department_id,omitempty"` // a department
}

func (o *Owned) owned() *Owned { return o }

// Owner gives the ownership of an object that embeds Owned, to read or to write, and nil for any other.
func Owner(object any) *Owned {
	if o, ok := object.(interface{ owned() *Owned }); ok {
		return o.owned()
	}
	return nil
}

// condition is one term of a WHERE, in which the table goes by ?TableAlias.
type condition struct {
	text string
	args []any
}

// within is the predicate of a scope: the one place where it becomes SQL. owned is whether the table has the columns of
// Owned.
func within(scope auth.Scope, owned bool) []condition {
	switch {
	case scope.IsEverywhere():
		return nil
	case scope.AccountID() == "":
		return []condition{{text: "1 = 0"}}
	}
	terms := []condition{{"?TableAlias.account_id = ?", []any{scope.AccountID()}}}
	rows, narrowed := scope.Rows()
	if !narrowed || !owned {
		return terms
	}
	switch users, departments := bun.List(rows.Users), bun.List(rows.Departments); {
	case len(rows.Users) > 0 && len(rows.Departments) > 0:
		terms = append(terms, condition{"(?TableAlias.owner_id IN (?) OR ?TableAlias.department_id IN (?))", []any{users, departments}})
	case len(rows.Users) > 0:
		terms = append(terms, condition{"?TableAlias.owner_id IN (?)", []any{users}})
	case len(rows.Departments) > 0:
		terms = append(terms, condition{"?TableAlias.department_id IN (?)", []any{departments}})
	default:
		terms = append(terms, condition{text: "1 = 0"})
	}
	return terms
}

// hasOwner reports whether a model's table has the columns of Owned.
func hasOwner(model bun.Model) bool {
	m, ok := model.(interface{ Table() *schema.Table })
	return ok && m.Table().HasField("owner_id") && m.Table().HasField("department_id")
}

// Scoped narrows a query to the rows of a scope. The zero scope matches nothing. The query must have a model whose table
// has account_id; it is narrowed by owner where that has owner_id and department_id.
func Scoped(q *bun.SelectQuery, scope auth.Scope) *bun.SelectQuery {
	for _, term := range within(scope, hasOwner(q.GetModel())) {
		q = q.Where(term.text, term.args...)
	}
	return q
}

// MayHold refuses an object that would not be within the scope once it is written, so that nobody makes or pushes rows
// where they cannot see them. Insert and Update ask it themselves.
func MayHold(scope auth.Scope, object any) error {
	rows, narrowed := scope.Rows()
	o := Owner(object)
	if !narrowed || o == nil {
		return nil
	}
	if slices.Contains(rows.Users, o.OwnerID) || slices.Contains(rows.Departments, o.DepartmentID) {
		return nil
	}
	const why = "must be a user or department whose objects you may see"
	return problem.New(problem.CodeForbidden, "/owner_id: "+why, problem.Field("/owner_id", "scope", why))
}
