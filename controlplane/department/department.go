// Package department owns the departments of an account: the tree they form, their heads, and which departments lie
// below another. Who belongs to a department is left to the users, what its members may see to roles.
package department

import (
	"regexp"
	"slices"
	"strings"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/problem"
)

// Department is one part of an account's organisation.
type Department struct {
	bun.BaseModel `bun:"table:departments" json:"-"`
	db.Row
	Draft
	// Where it stands in the tree; these are filled in for answers.
	Path  []Step `bun:"-" json:"path"`  // from the top to the department itself
	Depth int    `bun:"-" json:"depth"` // 0 at the top
}

// Draft is what a caller may write.
type Draft struct {
	Name string `bun:"name" json:"name"` // 1–100 characters; two departments may share one
	// Code is the account's own short name for it, unique in the account.
	Code       string `bun:"code,nullzero" json:"code,omitempty"`
	ParentID   string `bun:"parent_id,nullzero" json:"parent_id,omitempty"`       // empty at the top
	HeadUserID string `bun:"head_user_id,nullzero" json:"head_user_id,omitempty"` // who leads it; need not be a member
}

const maxName = 100

var code = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z_.-]{0,63}$`)

// Check refuses what no department can be. That parent and head exist is not known here.
func (d Draft) Check() error {
	switch {
	case strings.TrimSpace(d.Name) == "":
		return problem.InvalidField("/name", "required", "must not be empty")
	case len([]rune(d.Name)) > maxName:
		return problem.InvalidField("/name", "maxLength", "may have at most %d characters", maxName)
	case d.Code != "" && !code.MatchString(d.Code):
		return problem.InvalidField("/code", "pattern", "must be 1–64 letters, digits, _, . or -, beginning with a letter or digit")
	}
	return nil
}

// Step is one department on the way from the top to another.
type Step struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// MaxDepth bounds the depth of a department: what is below 0 … 15 are reporting lines nobody can follow.
const MaxDepth = 15

// Tree is the departments of one account at one moment. The zero value has none. It is not changed after it was read,
// and safe for concurrent use.
type Tree struct {
	nodes    map[string]node
	children map[string][]string
}

type node struct {
	name   string
	parent string
}

// Path is the way from the top to a department, which is the last step; nil when there is no such department.
func (t Tree) Path(id string) []Step {
	var path []Step
	for n, ok := t.nodes[id]; ok && len(path) <= len(t.nodes); n, ok = t.nodes[id] {
		path = append(path, Step{ID: id, Name: n.name})
		id = n.parent
	}
	slices.Reverse(path)
	return path
}

// Subtree is a department's id and the ids of all departments below it, parents first; nil when there is no such
// department.
func (t Tree) Subtree(id string) []string {
	if _, ok := t.nodes[id]; !ok {
		return nil
	}
	all := []string{id}
	// What stands in all is followed once: were there a cycle, it would end.
	for i := 0; i < len(all) && len(all) <= len(t.nodes); i++ {
		all = append(all, t.children[all[i]]...)
	}
	return all
}

// Has reports whether there is such a department.
func (t Tree) Has(id string) bool {
	_, ok := t.nodes[id]
	return ok
}

// height is how many levels are below a department.
func (t Tree) height(id string) int {
	base, highest := len(t.Path(id)), 0
	for _, below := range t.Subtree(id) {
		highest = max(highest, len(t.Path(below))-base)
	}
	return highest
}
