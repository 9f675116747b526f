// Package role owns roles: which permissions a person has, over which rows, and which fields are hidden; the roles that
// every account has from the start; and Compile, which makes of a person's roles what auth.Caller holds. Who has which
// roles is left to the users, who reports to whom to the agents, and applying the result to rest and db.
//
// # Several roles at once
//
// A person may have several roles, and the same rules hold however they are split:
//
//   - Permissions are united.
//   - Data scopes are united per resource, over those roles that grant something on that resource. What a role says of
//     resources that it grants nothing on, its "*" among it, counts for nothing: so a role that shows every recording
//     does not show every call to whoever may see his own.
//   - A mask holds as soon as one role has it. Why not only when every role has it: masks, unlike data scopes, hide a
//     kind of field wherever it stands, and a role that shows departments and nothing else would then bring the customer
//     numbers of all calls to light. To show numbers to somebody, take the masked role away; to hide them, add a role
//     that has the mask and no permission.
//
// # Data scopes
//
// Rows have an owner and the department that the owner was in. Every scope includes one's own rows:
//
//	own                 rows one owns
//	own_and_reports     and those of the agents whose superior one is, directly or not
//	department          and those of one's department
//	department_tree     and those of all departments below it
//	departments         and those of the departments that the role names (without those below)
//	all                 every row of the account
//
// A resource that a role grants something on, but gives no scope to, not even by "*", has own. Rows of resources that
// have no owner, such as applications, are seen by whoever has the permission.
//
// # Built-in roles
//
// Every account has them; they cannot be changed or deleted, only copied (see builtIns for their permissions):
//
//	owner       everything                                                           all
//	admin       everything but to change the account, and to make owners             all
//	supervisor  calls, customers and agents of a department and those below it      department_tree
//	agent       one's own calls and customers, and a phone in the browser            own
//	quality     reads calls, recordings, customers and who made them; exports        all
//	developer   applications, numbers, extensions, trunks, customers, calls, keys    all
//	read_only   reads everything                                                     all
package role

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/problem"
)

// Role is what its holders may do.
type Role struct {
	bun.BaseModel `bun:"table:roles" json:"-"`
	db.Row
	Draft
	BuiltIn bool `bun:"built_in" json:"built_in"`
}

// Draft is what a caller may write.
type Draft struct {
	Name string `bun:"name" json:"name"` // 1–100 characters
	// Code is the account's own short name for it, unique in the account; that of a built-in role is its English name.
	Code string `bun:"code,nullzero" json:"code,omitempty"`
	// Permissions are such as "calls.read"; "calls.*" is all of calls, and "*" is all.
	Permissions []string `bun:"permissions,type:jsonb" json:"permissions"`
	// DataScopes are by resource ("calls"), with "*" for those not named.
	DataScopes map[string]DataScope `bun:"data_scopes,type:jsonb" json:"data_scopes"`
	Masks      Masks                `bun:"masks,type:jsonb" json:"masks"`
}

// Masks are what is hidden from a role's holders.
type Masks struct {
	Numbers bool `json:"numbers"` // all but the last two digits of customers' numbers
}

// Rows names a set of rows, from the viewpoint of a person.
type Rows string

// The sets of rows, of which the package comment has the meaning.
const (
	Own            Rows = "own"
	OwnAndReports  Rows = "own_and_reports"
	Department     Rows = "department"
	DepartmentTree Rows = "department_tree"
	Departments    Rows = "departments"
	All            Rows = "all"
)

// DataScope is which rows of a resource a role reaches.
type DataScope struct {
	Rows Rows `json:"rows"`
	// DepartmentIDs goes with Departments, and with nothing else.
	DepartmentIDs []string `json:"department_ids,omitempty"`
}

// operator is the resource of permissions that only the operator's keys have.
const operator = "platform"

// everything is the resource and the permission that stand for all.
const everything = "*"

const (
	maxName        = 100
	maxPermissions = 500
	maxDepartments = 1000
)

var code = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z_.-]{0,63}$`)

// Permissions is the set of permissions that there are, such as "calls.read". The zero value has none.
type Permissions map[string]bool

// NewPermissions makes a set of a list. It leaves out "none", the permission of operations that are open to anyone, and
// those of the operator of the installation, which nobody has by a role.
func NewPermissions(names ...string) Permissions {
	all := Permissions{}
	for _, name := range names {
		if name != "" && name != "none" && auth.Resource(name) != operator {
			all[name] = true
		}
	}
	return all
}

// Knows reports whether a permission, which may be a wildcard, stands for any that there is.
func (p Permissions) Knows(name string) bool {
	if resource, wild := strings.CutSuffix(name, ".*"); wild {
		return p.HasResource(resource)
	}
	return name == everything || p[name]
}

// HasResource reports whether there is a permission on a resource.
func (p Permissions) HasResource(resource string) bool {
	for name := range p {
		if auth.Resource(name) == resource {
			return true
		}
	}
	return false
}

// Resources are those that there are permissions on, sorted.
func (p Permissions) Resources() []string {
	var all []string
	for name := range p {
		all = append(all, auth.Resource(name))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// check refuses what no role can be, and puts the permissions into order. That departments exist is not known here.
func (d *Draft) check(known Permissions) error {
	switch {
	case strings.TrimSpace(d.Name) == "":
		return problem.InvalidField("/name", "required", "must not be empty")
	case len([]rune(d.Name)) > maxName:
		return problem.InvalidField("/name", "maxLength", "may have at most %d characters", maxName)
	case d.Code != "" && !code.MatchString(d.Code):
		return problem.InvalidField("/code", "pattern", "must be 1–64 letters, digits, _, . or -, beginning with a letter or digit")
	case len(d.Permissions) > maxPermissions:
		return problem.InvalidField("/permissions", "maxItems", "may have at most %d members; use wildcards such as calls.*", maxPermissions)
	}
	if err := known.check(d.Permissions); err != nil {
		return err
	}
	d.Permissions = append([]string{}, d.Permissions...)
	slices.Sort(d.Permissions)
	d.Permissions = slices.Compact(d.Permissions)
	if d.DataScopes == nil {
		d.DataScopes = map[string]DataScope{}
	}
	for _, resource := range slices.Sorted(maps.Keys(d.DataScopes)) {
		pointer := "/data_scopes/" + pointerEscape(resource)
		if resource != everything && !known.HasResource(resource) {
			return problem.RefusedField(pointer, "unknown", "is no resource; there are %s, and * for all others", strings.Join(known.Resources(), ", "))
		}
		if err := d.DataScopes[resource].check(pointer); err != nil {
			return err
		}
	}
	return nil
}

// check refuses permissions that there are not, naming the first.
func (p Permissions) check(given []string) error {
	for i, name := range given {
		if !p.Knows(name) {
			return problem.RefusedField(pointerOf("/permissions", i), "unknown",
				"there is no permission %q; the permission of an operation stands in the API reference, and calls.* is all of calls", name)
		}
	}
	return nil
}

func (s DataScope) check(pointer string) error {
	switch s.Rows {
	case Own, OwnAndReports, Department, DepartmentTree, All:
		if len(s.DepartmentIDs) > 0 {
			return problem.InvalidField(pointer+"/department_ids", "conflict", "goes with rows: departments; leave it out, or choose that")
		}
		return nil
	case Departments:
		if len(s.DepartmentIDs) == 0 || len(s.DepartmentIDs) > maxDepartments {
			return problem.InvalidField(pointer+"/department_ids", "required", "must name 1–%d departments", maxDepartments)
		}
		return nil
	}
	return problem.InvalidField(pointer+"/rows", "enum", "must be own, own_and_reports, department, department_tree, departments or all, is %q", s.Rows)
}

// scopeOf is the scope that a role gives to a resource it grants something on.
func (d Draft) scopeOf(resource string) DataScope {
	for _, name := range []string{resource, everything} {
		if s, ok := d.DataScopes[name]; ok {
			return s
		}
	}
	return DataScope{Rows: Own}
}

// grants reports whether a role has any permission on a resource; everything stands for those that nobody knows yet.
func (d Draft) grants(resource string) bool {
	for _, p := range d.Permissions {
		if p == everything || auth.Resource(p) == resource {
			return true
		}
	}
	return false
}

// chosen are the departments that the scopes of a role name, each once.
func (d Draft) chosen() []string {
	var ids []string
	for _, s := range d.DataScopes {
		ids = append(ids, s.DepartmentIDs...)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}
