package role

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/department"
)

// Grant is what a person's roles come to: Permissions, Reach and Mask of the auth.Caller. It is shared by all who
// ask: do not change it.
type Grant struct {
	Permissions []string
	Reach       map[string]auth.Rows
	Mask        auth.Mask
}

// Compile makes of a person's roles what the person may do. Roles that the account has not grant nothing, and neither do
// none. departmentID is empty for a person in no department.
//
// It is cheap enough for every request: what it reads is kept for Fresh, so that a change of a role, a department or a
// superior takes effect on every process within that time; a change of a role on the process that makes it at once.
func (s *Service) Compile(ctx context.Context, account string, roleIDs []string, userID, departmentID string) (Grant, error) {
	f, lead := s.board(account)
	if lead {
		s.land(ctx, account, f)
	}
	select {
	case <-f.landed:
	case <-ctx.Done():
		return Grant{}, context.Cause(ctx)
	}
	if f.err != nil {
		return Grant{}, f.err
	}
	return s.grant(ctx, f.rights, person{account, userID, departmentID, strings.Join(slices.Sorted(slices.Values(roleIDs)), " ")})
}

// Fresh is how long what was read of an account is used. It is a part of the second within which a change holds: what
// authentication keeps of a session comes on top of it.
const Fresh = time.Second / 4

// most bounds the accounts that are kept, and the people of each.
const most = 4096

// flight is one reading of an account's rights, which all who need it meanwhile wait for.
type flight struct {
	landed chan struct{} // closed when what follows is set
	rights *rights
	err    error
	until  time.Time
}

// board gives the flight to wait for; lead is true for the one who has to make it.
func (s *Service) board(account string) (f *flight, lead bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if f, ok := s.compiled[account]; ok && now.Before(f.until) {
		return f, false
	}
	if s.compiled == nil || len(s.compiled) >= most {
		s.compiled = map[string]*flight{}
	}
	// Its time counts from before it was read.
	f = &flight{landed: make(chan struct{}), until: now.Add(Fresh)}
	s.compiled[account] = f
	return f, true
}

// readWithin bounds one reading, which goes on when the one who leads it has gone: others wait for it too.
const readWithin = 5 * time.Second

// land reads what a flight is for. One that failed is not kept.
func (s *Service) land(ctx context.Context, account string, f *flight) {
	defer close(f.landed)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readWithin)
	defer cancel()
	if f.rights, f.err = s.read(ctx, account); f.err == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.compiled[account] == f {
		delete(s.compiled, account)
	}
}

// forget has everything read anew: some role has changed.
func (s *Service) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.compiled)
}

// rights are the roles and departments of one account at one moment.
type rights struct {
	roles map[string]Role
	tree  department.Tree

	mu     sync.Mutex // guards people
	people map[person]Grant
}

// person is whom a grant is for.
type person struct {
	account, userID, departmentID string
	roleIDs                       string // sorted, with spaces between
}

func (s *Service) read(ctx context.Context, account string) (*rights, error) {
	found, err := db.List[Role](ctx, s.DB, auth.Account(account))
	if err != nil {
		return nil, err
	}
	r := &rights{roles: map[string]Role{}, people: map[person]Grant{}}
	for _, each := range found {
		r.roles[each.ID] = each
	}
	r.tree, err = department.Read(ctx, s.DB, account)
	return r, err
}

// grant gives what a person may do, as far as it is known from before.
func (s *Service) grant(ctx context.Context, r *rights, p person) (Grant, error) {
	r.mu.Lock()
	g, ok := r.people[p]
	r.mu.Unlock()
	if ok {
		return g, nil
	}
	var held []Draft
	for _, id := range strings.Fields(p.roleIDs) {
		if each, ok := r.roles[id]; ok {
			held = append(held, each.Draft)
		}
	}
	v := view{person: p, tree: r.tree}
	if s.Reports != nil && v.asksForReports(held) {
		var err error
		if v.reports, err = s.Reports(ctx, p.account, p.userID); err != nil {
			return Grant{}, err
		}
	}
	g = v.unite(held, s.Permissions.Resources())
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.people) >= most {
		clear(r.people)
	}
	r.people[p] = g
	return g, nil
}

// view is what the sets of rows are seen from.
type view struct {
	person
	reports []string
	tree    department.Tree
}

func (view) asksForReports(held []Draft) bool {
	for _, d := range held {
		for _, s := range d.DataScopes {
			if s.Rows == OwnAndReports {
				return true
			}
		}
	}
	return false
}

// unite makes one grant of the roles a person holds, as the package comment says.
func (v view) unite(held []Draft, resources []string) Grant {
	g := Grant{Permissions: []string{}, Reach: map[string]auth.Rows{}}
	for _, d := range held {
		g.Permissions = append(g.Permissions, d.Permissions...)
		g.Mask.Numbers = g.Mask.Numbers || d.Masks.Numbers
	}
	slices.Sort(g.Permissions)
	g.Permissions = slices.Compact(g.Permissions)
	// "*" is for resources that this release does not know; those it knows are all named, because a scope that holds by
	// "*" holds only where its role grants something.
	for _, resource := range append([]string{everything}, resources...) {
		var rows auth.Rows
		for _, d := range held {
			if d.grants(resource) {
				rows = join(rows, v.rows(d.scopeOf(resource)))
			}
		}
		g.Reach[resource] = tidy(rows)
	}
	return g
}

func join(a, b auth.Rows) auth.Rows {
	return auth.Rows{All: a.All || b.All, Users: append(a.Users, b.Users...), Departments: append(a.Departments, b.Departments...)}
}

// tidy leaves each owner once, and none beside All.
func tidy(r auth.Rows) auth.Rows {
	if r.All {
		return auth.Rows{All: true}
	}
	slices.Sort(r.Users)
	slices.Sort(r.Departments)
	return auth.Rows{Users: slices.Compact(r.Users), Departments: slices.Compact(r.Departments)}
}

// rows is a data scope as the person sees it.
func (v view) rows(s DataScope) auth.Rows {
	var rows auth.Rows
	if v.userID != "" {
		rows.Users = []string{v.userID}
	}
	switch s.Rows {
	case All:
		rows.All = true
	case OwnAndReports:
		rows.Users = append(rows.Users, v.reports...)
	case Department:
		if v.departmentID != "" {
			rows.Departments = []string{v.departmentID}
		}
	case DepartmentTree:
		if v.departmentID != "" {
			rows.Departments = v.tree.Subtree(v.departmentID)
		}
	case Departments:
		rows.Departments = slices.Clone(s.DepartmentIDs)
	case Own:
	}
	return rows
}
