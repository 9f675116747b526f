package agent

import (
	"context"
	"database/sql"
	"errors"
	"maps"
	"strconv"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/account"
	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/list"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest"
)

// Service is the operations on agents and their groups, and what others ask of them.
type Service struct {
	DB *db.DB
}

// Operations are the functions of agents.yaml and agent_groups.yaml.
func (s *Service) Operations() map[string]rest.Operation {
	all := rest.Operations(s.Resource())
	maps.Copy(all, rest.Operations(s.Groups()))
	maps.Copy(all, map[string]rest.Operation{
		"listAgents":             rest.Op(s.list),
		"listAgentGroups":        rest.Op(s.listGroups),
		"putAgentGroupMember":    rest.Op(s.putMember),
		"deleteAgentGroupMember": rest.Op(s.removeMember),
	})
	return all
}

// Written is what a caller writes of an agent.
type Written struct {
	rest.Keys
	UserID string `json:"user_id"`
	Draft
}

// Resource is how agents are made and changed, for whoever does so without a request.
func (s *Service) Resource() rest.Resource[Agent, Written] {
	return rest.Resource[Agent, Written]{
		DB: s.DB, One: "Agent", Many: "Agents", Prefix: "agt", Table: table(),
		Uses: []db.Use{
			{Table: "agents", Column: "superior_id", Name: "agent"},
			{Table: "agent_group_members", Column: "agent_id", Name: "agent group"},
		},
		Draft: func(a *Agent) Written { return Written{UserID: a.UserID, Draft: a.Draft} },
		Put:   put,
	}
}

func table() list.Table {
	return list.Table{Fields: list.Common(map[string]list.Field{
		"user_id": {}, "credential_id": {}, "superior_id": {}, "department_id": {}, "presence": {}, "work": {},
	})}
}

// inGroup is the parameter that leaves the members of a group.
const inGroup = "agent_group_id"

func (s *Service) list(ctx context.Context, who auth.Caller, in rest.ListIn) (list.Page[Agent], error) {
	q, err := table().Parse(in.Query, inGroup)
	if err != nil {
		return list.Page[Agent]{}, err
	}
	return list.Run[Agent](ctx, s.DB, who.Scope, q, func(q *bun.SelectQuery) *bun.SelectQuery {
		if !in.Query.Has(inGroup) {
			return q
		}
		return q.Where("?TableAlias.id IN (SELECT agent_id FROM agent_group_members WHERE account_id = ? AND id = ?)",
			who.Scope.AccountID(), in.Query.Get(inGroup))
	})
}

func put(ctx context.Context, tx *db.Tx, _ auth.Caller, a *Agent, w Written) error {
	if err := w.Check(); err != nil {
		return err
	}
	before := a.Draft
	switch {
	case a.Etag == "":
		if err := begin(ctx, tx, a, w.UserID); err != nil {
			return err
		}
	case a.UserID != w.UserID:
		return problem.Conflict("this is the agent of another user; make a new agent for this one",
			problem.Field("/user_id", "fixed", "cannot be changed, is %s", a.UserID))
	}
	a.Draft = w.Draft
	if a.CredentialID != "" && a.CredentialID != before.CredentialID {
		if err := hasExtension(ctx, tx, a); err != nil {
			return err
		}
	}
	if a.SuperiorID != "" && a.SuperiorID != before.SuperiorID {
		return underSuperior(ctx, tx, a)
	}
	return nil
}

// begin makes a user an agent. An account with as many agents as its limit allows is Refused.
func begin(ctx context.Context, tx *db.Tx, a *Agent, userID string) error {
	if err := room(ctx, tx, a.AccountID); err != nil {
		return err
	}
	department, found, err := departmentOf(ctx, tx, a.AccountID, userID)
	if err != nil {
		return err
	}
	if !found {
		return problem.RefusedField("/user_id", "unknown", "there is no user %s in this account", userID)
	}
	a.UserID, a.Presence, a.Work = userID, Offline, Idle
	a.Owned = db.Owned{OwnerID: userID, DepartmentID: department}
	return nil
}

// room refuses one agent more than the account may have.
func room(ctx context.Context, tx *db.Tx, id string) error {
	if err := lock(ctx, tx, id); err != nil {
		return err
	}
	a, err := db.Get[account.Account](ctx, tx, auth.Account(id), id)
	if err != nil || a.Limits.Agents == 0 {
		return err
	}
	n, err := db.Count[Agent](ctx, tx, auth.Account(id))
	if err == nil && n >= int64(a.Limits.Agents) {
		err = problem.Refused("this account may have "+strconv.Itoa(a.Limits.Agents)+" agents, and has them; remove one, or ask the operator for more",
			problem.Field("", "limit", "the limit agents of this account is %d", a.Limits.Agents))
	}
	return err
}

// departmentOf is the department that a user is in, empty for none.
func departmentOf(ctx context.Context, conn db.Conn, account, userID string) (department string, found bool, err error) {
	var id sql.NullString
	err = conn.Read().NewSelect().Table("users").Column("department_id").Where("account_id = ?", account).Where("id = ?", userID).Scan(ctx, &id)
	if errors.Is(err, sql.ErrNoRows) {
		return "", false, nil
	}
	return id.String, err == nil, db.Check(err)
}

// DepartmentOf is the department that a user is in, agent or not; empty for none, and for nobody.
func (s *Service) DepartmentOf(ctx context.Context, conn db.Conn, account, userID string) (string, error) {
	department, _, err := departmentOf(ctx, conn, account, userID)
	return department, err
}

func hasExtension(ctx context.Context, tx *db.Tx, a *Agent) error {
	n, err := tx.Read().NewSelect().Table("credentials").Where("account_id = ?", a.AccountID).Where("id = ?", a.CredentialID).Count(ctx)
	if err != nil {
		return db.Check(err)
	}
	if n == 0 {
		return problem.RefusedField("/credential_id", "unknown", "there is no extension %s in this account", a.CredentialID)
	}
	return nil
}

// maxChain bounds how many superiors are above one another.
const maxChain = 50

// underSuperior refuses a superior who is not there, or who reports to this very agent.
func underSuperior(ctx context.Context, tx *db.Tx, a *Agent) error {
	if err := lock(ctx, tx, a.AccountID); err != nil {
		return err
	}
	for id, steps := a.SuperiorID, 0; id != ""; steps++ {
		if id == a.ID || steps > maxChain {
			return problem.RefusedField("/superior_id", "cycle", "%s is this agent or reports to it, however indirectly; choose another", a.SuperiorID)
		}
		above, err := db.Get[Agent](ctx, tx, auth.Account(a.AccountID), id)
		if err != nil && problem.From(err).Code == problem.CodeNotFound {
			return problem.RefusedField("/superior_id", "unknown", "there is no agent %s in this account", id)
		}
		if err != nil {
			return err
		}
		id = above.SuperiorID
	}
	return nil
}

// lock lets one transaction at a time, until it ends, add agents to an account and change who reports to whom: two changes
// that are each right could exceed the limit or close a circle together. The account's row stands for its agents, and is
// written to be locked. Of two changes that each put an agent under the other, PostgreSQL ends one as a deadlock, which is
// an Unavailable problem.
func lock(ctx context.Context, tx *db.Tx, account string) error {
	_, err := tx.Write().NewUpdate().Table("accounts").Set("name = name").Where("id = ?", account).Exec(ctx)
	return db.Check(err)
}

// OwnerOf finds the user whose extension a credential is, and that user's department; found is false when no agent has it.
func (s *Service) OwnerOf(ctx context.Context, tx *db.Tx, account, credentialID string) (userID, departmentID string, found bool, err error) {
	a, found, err := ofExtension(ctx, tx, account, credentialID)
	if err != nil || !found {
		return "", "", false, err
	}
	return a.UserID, a.DepartmentID, true, nil
}

// UserOf finds the user whose extension a credential is; found is false when no agent has it.
func (s *Service) UserOf(ctx context.Context, account, credentialID string) (userID string, found bool, err error) {
	a, found, err := ofExtension(ctx, s.DB, account, credentialID)
	if err != nil || !found {
		return "", false, err
	}
	return a.UserID, true, nil
}

// OfExtension finds the agent whose extension a credential is; found is false when it is no agent's.
func (s *Service) OfExtension(ctx context.Context, account, credentialID string) (a *Agent, found bool, err error) {
	return ofExtension(ctx, s.DB, account, credentialID)
}

// Named finds an agent by its id or its external_id.
func Named(ctx context.Context, conn db.Conn, account, name string) (a *Agent, found bool, err error) {
	a, err = db.Find[Agent](ctx, conn, auth.Account(account), func(q *bun.SelectQuery) *bun.SelectQuery {
		return q.Where("(?TableAlias.id = ? OR ?TableAlias.external_id = ?)", name, name)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return nil, false, nil
	}
	return a, err == nil, err
}

func ofExtension(ctx context.Context, conn db.Conn, account, credentialID string) (a *Agent, found bool, err error) {
	if credentialID == "" {
		return nil, false, nil
	}
	a, err = db.Find[Agent](ctx, conn, auth.Account(account), func(q *bun.SelectQuery) *bun.SelectQuery {
		return q.Where("?TableAlias.credential_id = ?", credentialID)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return nil, false, nil
	}
	return a, err == nil, err
}

// Reports gives the users whose agents report to a user's agent, directly or through others.
func (s *Service) Reports(ctx context.Context, account, userID string) ([]string, error) {
	users := []string{}
	// UNION leaves each agent once, so that it ends whatever is stored.
	err := s.DB.Read().NewRaw(`WITH RECURSIVE below (id) AS (
			SELECT a.id FROM agents a JOIN agents s ON s.id = a.superior_id WHERE s.account_id = ? AND s.user_id = ?
			UNION
			SELECT a.id FROM agents a JOIN below b ON b.id = a.superior_id
		) SELECT user_id FROM agents WHERE id IN (SELECT id FROM below) ORDER BY user_id`, account, userID).Scan(ctx, &users)
	return users, db.Check(err)
}

// Moved brings the agent of a user, if there is one, to the department that the user is in from now on. What the agent
// did before stays with the department of then. Asking it for a user who did not move changes nothing.
func (s *Service) Moved(ctx context.Context, tx *db.Tx, account, userID, departmentID string) error {
	_, err := tx.Write().NewUpdate().Model((*Agent)(nil)).Set("department_id = ?", bun.NullZero(departmentID)).Set("updated_at = ?", db.Now()).
		Set("etag = CAST(CAST(etag AS bigint) + 1 AS text)").
		Where("account_id = ?", account).Where("user_id = ?", userID).Where("COALESCE(department_id, '') <> ?", departmentID).Exec(ctx)
	return db.Check(err)
}

// Count is how many agents an account has.
func (s *Service) Count(ctx context.Context, account string) (int64, error) {
	return db.Count[Agent](ctx, s.DB, auth.Account(account))
}
