package event

import (
	"maps"
	"slices"
	"strings"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/auth"
)

// Reader is what one caller may see of the feed: events of its account, of resources that it may read, about objects
// that its data scope of that resource has. The zero value sees nothing.
type Reader struct {
	account   string
	every     bool            // of whatever resource
	resources map[string]bool // else of these
	who       auth.Caller
}

// ReaderOf gives what a caller may see.
func ReaderOf(who auth.Caller) Reader {
	r := Reader{account: who.Scope.AccountID(), resources: map[string]bool{}, who: who}
	for _, p := range who.Permissions {
		resource, action, _ := strings.Cut(p, ".")
		switch {
		case p == "*":
			r.every = true
		case action == "read" || action == "*":
			r.resources[resource] = true
		}
	}
	return r
}

// AccountID is the account whose events the reader sees.
func (r Reader) AccountID() string { return r.account }

// Mask is what is hidden from the reader.
func (r Reader) Mask() auth.Mask { return r.who.Mask }

// Sees reports whether the reader may see an event.
func (r Reader) Sees(e *Event) bool {
	if r.account == "" || e.AccountID != r.account || (!r.every && !r.resources[e.Resource]) {
		return false
	}
	rows, narrowed := r.who.Over(e.Resource).Rows()
	return !narrowed || owns(rows, e)
}

func owns(rows auth.Rows, e *Event) bool {
	return (e.OwnerID != "" && slices.Contains(rows.Users, e.OwnerID)) || (e.DepartmentID != "" && slices.Contains(rows.Departments, e.DepartmentID))
}

// Where narrows a query for events to those that the reader may see: the same as Sees, in SQL.
func (r Reader) Where(q *bun.SelectQuery) *bun.SelectQuery {
	if r.account == "" {
		return q.Where("1 = 0")
	}
	q = q.Where("?TableAlias.account_id = ?", r.account)
	if !r.every {
		q = q.Where("?TableAlias.resource IN (?)", bun.List(slices.Sorted(maps.Keys(r.resources))))
	}
	named := slices.DeleteFunc(slices.Sorted(maps.Keys(r.who.Reach)), func(resource string) bool { return resource == "*" })
	return q.WhereGroup(" AND ", func(q *bun.SelectQuery) *bun.SelectQuery {
		for _, resource := range named {
			q = r.reach(q, resource, "?TableAlias.resource = ?", resource)
		}
		if len(named) == 0 {
			return r.reach(q, "*", "1 = 1")
		}
		return r.reach(q, "*", "?TableAlias.resource NOT IN (?)", bun.List(named))
	})
}

// reach adds, as an alternative, the rows of some resources that the data scope of one has.
func (r Reader) reach(q *bun.SelectQuery, resource, which string, args ...any) *bun.SelectQuery {
	return q.WhereGroup(" OR ", func(q *bun.SelectQuery) *bun.SelectQuery {
		q = q.Where(which, args...)
		rows, narrowed := r.who.Over(resource).Rows()
		if !narrowed {
			return q
		}
		return q.Where("(?TableAlias.owner_id IN (?) OR ?TableAlias.department_id IN (?))", bun.List(rows.Users), bun.List(rows.Departments))
	})
}

// Match reports whether an event's type is among patterns: a type, "call.*" for all that begin with "call.", "*" for
// all.
func Match(patterns []string, kind string) bool {
	for _, p := range patterns {
		if p == "*" || p == kind {
			return true
		}
		if prefix, ok := strings.CutSuffix(p, "*"); ok && strings.HasSuffix(prefix, ".") && strings.HasPrefix(kind, prefix) {
			return true
		}
	}
	return false
}

// OfTypes narrows a query to types that match patterns; without any it does not narrow.
func OfTypes(q *bun.SelectQuery, patterns []string) *bun.SelectQuery {
	if len(patterns) == 0 || slices.Contains(patterns, "*") {
		return q
	}
	return q.WhereGroup(" AND ", func(q *bun.SelectQuery) *bun.SelectQuery {
		for _, p := range patterns {
			if prefix, ok := strings.CutSuffix(p, "*"); ok && strings.HasSuffix(prefix, ".") {
				// No LIKE: on SQLite it is blind to case.
				q = q.WhereOr("substr(?TableAlias.type, 1, ?) = ?", len(prefix), prefix)
				continue
			}
			q = q.WhereOr("?TableAlias.type = ?", p)
		}
		return q
	})
}
