package department

import (
	"context"
	"maps"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/list"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest"
)

// Service is the operations on departments.
type Service struct {
	DB *db.DB
	// HasUser reports whether an account has a user of this id; it is asked before a user becomes a head.
	HasUser func(ctx context.Context, conn db.Conn, account, userID string) (bool, error)
}

// Operations are the functions of departments.yaml.
func (s *Service) Operations() map[string]rest.Operation {
	all := rest.Operations(s.Resource())
	maps.Copy(all, map[string]rest.Operation{
		"listDepartments":   rest.Op(s.list),
		"searchDepartments": rest.Op(s.search),
		"getDepartment":     rest.Op(s.get),
	})
	return all
}

// Written is what a caller writes of a department.
type Written struct {
	rest.Keys
	Draft
}

// Resource is how departments are made and changed, for whoever does so without a request.
func (s *Service) Resource() rest.Resource[Department, Written] {
	return rest.Resource[Department, Written]{
		DB: s.DB, One: "Department", Many: "Departments", Prefix: "dep", Table: table(),
		Uses: []db.Use{
			{Table: "departments", Column: "parent_id", Name: "department"},
			{Table: "users", Column: "department_id", Name: "user"},
			{Table: "role_departments", Column: "department_id", Name: "role"},
		},
		Draft: func(d *Department) Written { return Written{Draft: d.Draft} },
		Put:   s.put,
		Stored: func(ctx context.Context, tx *db.Tx, _ auth.Caller, d *Department) error {
			tree, err := Read(ctx, tx, d.AccountID)
			tree.place(d)
			return err
		},
	}
}

func table() list.Table {
	return list.Table{
		Fields: list.Common(map[string]list.Field{"name": {Sort: true}, "code": {}, "parent_id": {}, "head_user_id": {}}),
		Search: []string{"name", "code"},
	}
}

// within is the parameter that leaves a department and what is below it.
const within = "within"

func (s *Service) list(ctx context.Context, who auth.Caller, in rest.ListIn) (list.Page[Department], error) {
	q, err := table().Parse(in.Query, within)
	if err != nil {
		return list.Page[Department]{}, err
	}
	return s.page(ctx, who, q, in.Query.Get(within))
}

func (s *Service) search(ctx context.Context, who auth.Caller, in rest.SearchIn) (list.Page[Department], error) {
	q, err := table().ParseSearch(in.Body)
	if err != nil {
		return list.Page[Department]{}, err
	}
	return s.page(ctx, who, q, "")
}

// page reads a page, of all departments or of those within one, and the place of each.
func (s *Service) page(ctx context.Context, who auth.Caller, q list.Query, top string) (list.Page[Department], error) {
	tree, err := Read(ctx, s.DB, who.Scope.AccountID())
	if err != nil {
		return list.Page[Department]{}, err
	}
	page, err := list.Run[Department](ctx, s.DB, who.Scope, q, func(q *bun.SelectQuery) *bun.SelectQuery {
		if top == "" {
			return q
		}
		// With the department itself even where there is none: IN takes no empty list.
		return q.Where("?TableAlias.id IN (?)", bun.List(append(tree.Subtree(top), top)))
	})
	for i := range page.Data {
		tree.place(&page.Data[i])
	}
	return page, err
}

func (s *Service) get(ctx context.Context, who auth.Caller, in rest.ByID) (*Department, error) {
	d, err := db.Get[Department](ctx, s.DB, who.Scope, in.ID)
	if err != nil {
		return nil, err
	}
	tree, err := Read(ctx, s.DB, d.AccountID)
	tree.place(d)
	return d, err
}

// place says where in the tree a department stands; at its top for one that was made after the tree was read.
func (t Tree) place(d *Department) {
	d.Path = t.Path(d.ID)
	if d.Path == nil {
		d.Path = []Step{{ID: d.ID, Name: d.Name}}
	}
	d.Depth = len(d.Path) - 1
}

// put refuses a parent that would close a circle or go too deep, and a head who is nobody.
func (s *Service) put(ctx context.Context, tx *db.Tx, _ auth.Caller, d *Department, w Written) error {
	before := d.Draft
	d.Draft = w.Draft
	if err := d.Check(); err != nil {
		return err
	}
	if d.ParentID != "" && d.ParentID != before.ParentID {
		if err := lock(ctx, tx, d.AccountID); err != nil {
			return err
		}
		tree, err := Read(ctx, tx, d.AccountID)
		if err != nil {
			return err
		}
		if err := tree.under(d.ID, d.ParentID); err != nil {
			return err
		}
	}
	if d.HeadUserID == "" || d.HeadUserID == before.HeadUserID {
		return nil
	}
	known, err := s.HasUser(ctx, tx, d.AccountID, d.HeadUserID)
	if err == nil && !known {
		err = problem.RefusedField("/head_user_id", "unknown", "there is no user %s in this account", d.HeadUserID)
	}
	return err
}

// under refuses to put a department, which may be new, under a parent.
func (t Tree) under(id, parent string) error {
	path := t.Path(parent)
	if path == nil {
		return problem.RefusedField("/parent_id", "unknown", "there is no department %s in this account", parent)
	}
	for _, step := range path {
		if step.ID == id {
			return problem.RefusedField("/parent_id", "cycle", "%s is this department itself or below it; choose one outside of it", parent)
		}
	}
	if len(path)+t.height(id) > MaxDepth {
		return problem.RefusedField("/parent_id", "depth", "would put departments more than %d levels below the top", MaxDepth)
	}
	return nil
}

// lock lets one transaction at a time move departments of an account, until it ends: two moves that are each right could
// close a circle together. The account's row stands for its tree, and is written to be locked. Of two moves that each
// put a department under the other's, PostgreSQL ends one as a deadlock, which is an Unavailable problem.
func lock(ctx context.Context, tx *db.Tx, account string) error {
	_, err := tx.Write().NewUpdate().Table("accounts").Set("name = name").Where("id = ?", account).Exec(ctx)
	return db.Check(err)
}

// Read reads the departments of an account.
func Read(ctx context.Context, conn db.Conn, account string) (Tree, error) {
	var rows []Department
	err := db.Select[Department](conn, auth.Account(account)).Column("id", "parent_id", "name").OrderBy("id", bun.OrderAsc).Scan(ctx, &rows)
	if err != nil {
		return Tree{}, db.Check(err)
	}
	t := Tree{nodes: make(map[string]node, len(rows)), children: map[string][]string{}}
	for _, d := range rows {
		t.nodes[d.ID] = node{name: d.Name, parent: d.ParentID}
		if d.ParentID != "" {
			t.children[d.ParentID] = append(t.children[d.ParentID], d.ID)
		}
	}
	return t, nil
}

// Subtree is a department's id and the ids of all departments below it; nil when the account has no such department.
func (s *Service) Subtree(ctx context.Context, account, id string) ([]string, error) {
	tree, err := Read(ctx, s.DB, account)
	return tree.Subtree(id), err
}
