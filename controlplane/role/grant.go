package role

import (
	"context"
	"slices"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/problem"
)

// MayGrant refuses a caller who would give to somebody, himself included, more than he has: one of the roles has a
// permission that he has not, or reaches rows or shows numbers that he may not see. It is asked with all the roles that
// a user or a key is to have from now on. An unknown role is a Refused problem.
func (s *Service) MayGrant(ctx context.Context, conn db.Conn, who auth.Caller, roleIDs []string) error {
	if len(roleIDs) == 0 {
		return nil
	}
	held, err := db.List[Role](ctx, conn, auth.Account(who.Scope.AccountID()), func(q *bun.SelectQuery) *bun.SelectQuery {
		return q.Where("?TableAlias.id IN (?)", bun.List(roleIDs))
	})
	if err != nil {
		return err
	}
	masked := slices.ContainsFunc(held, func(r Role) bool { return r.Masks.Numbers })
	for i, id := range roleIDs {
		at := slices.IndexFunc(held, func(r Role) bool { return r.ID == id })
		if at < 0 {
			return problem.RefusedField(pointerOf("/role_ids", i), "unknown", "there is no role %s in this account", id)
		}
		d := held[at].Draft
		// One role that hides numbers hides them whatever the others are.
		d.Masks.Numbers = masked
		if mayGrant(who, d) != nil {
			return problem.RefusedField(pointerOf("/role_ids", i), "beyond",
				"the role %s grants more than you have yourself; ask somebody who has it", held[at].Name)
		}
	}
	return nil
}

// mayGrant compares a role with what its maker has. A wildcard is compared as such: who has calls.read and calls.write
// cannot give calls.*, because that will hold permissions that come later.
//
// Why a narrowed caller grants only own: whom else he would make able to see what, depends on where that person
// stands, and a department's scope given to somebody of another department would reach beyond his.
func mayGrant(who auth.Caller, d Draft) error {
	for i, p := range d.Permissions {
		if !who.Can(p) {
			return problem.RefusedField(pointerOf("/permissions", i), "beyond", "you do not have %s yourself, and so cannot grant it", p)
		}
	}
	if who.Mask.Numbers && !d.Masks.Numbers {
		return problem.RefusedField("/masks/numbers", "beyond", "numbers are hidden from you, and so from whomever you grant something; set it to true")
	}
	for _, p := range d.Permissions {
		resource := auth.Resource(p)
		if _, narrowed := who.Over(resource).Rows(); narrowed && d.scopeOf(resource).Rows != Own {
			return problem.RefusedField("/data_scopes", "beyond", "you do not reach all %s of the account, and so can grant only own on them", resource)
		}
	}
	return nil
}

// stranger is the first department of the scopes that is not among those known, with its pointer; id is empty when
// there is none.
func (d Draft) stranger(known []string) (pointer, id string) {
	for resource, s := range d.DataScopes {
		for i, id := range s.DepartmentIDs {
			if !slices.Contains(known, id) {
				return pointerOf("/data_scopes/"+pointerEscape(resource)+"/department_ids", i), id
			}
		}
	}
	return "", ""
}
