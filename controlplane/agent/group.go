package agent

import (
	"context"
	"slices"
	"strconv"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/list"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest"
)

// WrittenGroup is what a caller writes of a group.
type WrittenGroup struct {
	rest.Keys
	GroupDraft
}

// Groups is how groups are made and changed, for whoever does so without a request.
func (s *Service) Groups() rest.Resource[Group, WrittenGroup] {
	return rest.Resource[Group, WrittenGroup]{
		DB: s.DB, One: "AgentGroup", Many: "AgentGroups", Prefix: "grp", Table: groupTable(),
		Draft: func(g *Group) WrittenGroup { return WrittenGroup{GroupDraft: g.GroupDraft} },
		Put: func(_ context.Context, _ *db.Tx, _ auth.Caller, g *Group, w WrittenGroup) error {
			g.GroupDraft = w.GroupDraft
			return g.settle()
		},
		Stored: func(ctx context.Context, tx *db.Tx, _ auth.Caller, g *Group) error { return enroll(ctx, tx, g) },
	}
}

func groupTable() list.Table {
	return list.Table{
		Fields: list.Common(map[string]list.Field{"name": {Sort: true}, "order": {}, "enabled": {Type: list.Bool}}),
		Search: []string{"name", "note"},
	}
}

// hasAgent is the parameter that leaves the groups of an agent.
const hasAgent = "agent_id"

func (s *Service) listGroups(ctx context.Context, who auth.Caller, in rest.ListIn) (list.Page[Group], error) {
	q, err := groupTable().Parse(in.Query, hasAgent)
	if err != nil {
		return list.Page[Group]{}, err
	}
	return list.Run[Group](ctx, s.DB, who.Scope, q, func(q *bun.SelectQuery) *bun.SelectQuery {
		if !in.Query.Has(hasAgent) {
			return q
		}
		return q.Where("?TableAlias.id IN (SELECT id FROM agent_group_members WHERE account_id = ? AND agent_id = ?)",
			who.Scope.AccountID(), in.Query.Get(hasAgent))
	})
}

// member is a row of the table of members.
type member struct {
	bun.BaseModel `bun:"table:agent_group_members"`

	ID        string `bun:"id,pk"` // the group's
	AccountID string `bun:"account_id"`
	AgentID   string `bun:"agent_id,pk"`
}

// enroll stores the members of a group; one that the account has not is a Refused problem.
func enroll(ctx context.Context, tx *db.Tx, g *Group) error {
	if _, err := tx.Write().NewDelete().Model((*member)(nil)).Where("id = ?", g.ID).Exec(ctx); err != nil {
		return db.Check(err)
	}
	if len(g.AgentIDs) == 0 {
		return nil
	}
	var known []string
	err := db.Select[Agent](tx, auth.Account(g.AccountID)).Column("id").Where("id IN (?)", bun.List(g.AgentIDs)).Scan(ctx, &known)
	if err != nil {
		return db.Check(err)
	}
	rows := make([]member, 0, len(g.AgentIDs))
	for i, id := range g.AgentIDs {
		if !slices.Contains(known, id) {
			return problem.RefusedField(pointerOf(i), "unknown", "there is no agent %s in this account", id)
		}
		rows = append(rows, member{ID: g.ID, AccountID: g.AccountID, AgentID: id})
	}
	_, err = tx.Write().NewInsert().Model(&rows).Exec(ctx)
	return db.Check(err)
}

func pointerOf(i int) string { return "/agent_ids/" + strconv.Itoa(i) }

type groupByID struct {
	ID string `path:"agent_group_id"`
}

// changeGroup has fn change a group, and stores it with its members.
func (s *Service) changeGroup(ctx context.Context, who auth.Caller, id, ifMatch string, fn func(g *Group) error) (*Group, error) {
	return db.ChangeTx(ctx, s.DB, who.Scope, id, ifMatch, func(ctx context.Context, tx *db.Tx, g *Group) error {
		if err := fn(g); err != nil {
			return err
		}
		if err := g.settle(); err != nil {
			return err
		}
		return enroll(ctx, tx, g)
	})
}

type putMemberIn struct {
	groupByID
	AgentID string `path:"agent_id"`
	IfMatch string `header:"If-Match"`
	Body    struct {
		Position int `json:"position,omitempty"`
	} `body:"json"`
}

// putMember puts an agent at a position of the group, from 1; without one a new member comes last, and one that is there
// already stays where it is. The others move up or down.
func (s *Service) putMember(ctx context.Context, who auth.Caller, in putMemberIn) (*Group, error) {
	return s.changeGroup(ctx, who, in.ID, in.IfMatch, func(g *Group) error {
		had := slices.Index(g.AgentIDs, in.AgentID)
		position := in.Body.Position
		if had >= 0 {
			if position == 0 {
				return nil
			}
			g.AgentIDs = slices.Delete(slices.Clone(g.AgentIDs), had, had+1)
		}
		at := len(g.AgentIDs)
		if position > 0 {
			at = min(position-1, at)
		}
		g.AgentIDs = slices.Insert(slices.Clone(g.AgentIDs), at, in.AgentID)
		return nil
	})
}

type removeMemberIn struct {
	groupByID
	AgentID string `path:"agent_id"`
	IfMatch string `header:"If-Match"`
}

// removeMember takes an agent out of a group; one who is not in it is NotFound.
func (s *Service) removeMember(ctx context.Context, who auth.Caller, in removeMemberIn) (rest.None, error) {
	_, err := s.changeGroup(ctx, who, in.ID, in.IfMatch, func(g *Group) error {
		at := slices.Index(g.AgentIDs, in.AgentID)
		if at < 0 {
			return problem.NoSuch(in.AgentID)
		}
		g.AgentIDs = slices.Delete(slices.Clone(g.AgentIDs), at, at+1)
		return nil
	})
	return rest.None{}, err
}
