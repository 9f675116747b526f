package conference

import (
	"context"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/call"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/list"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest"
	"github.com/hookswitch/hookswitch/webhooks"
)

// Service is the operations on conferences. Its Apply belongs into call.Service.Also. It is safe for concurrent use.
type Service struct {
	DB *db.DB
	// Calls changes the calls in a conference.
	Calls *call.Service
}

// Operations are the functions of conferences.yaml.
func (s *Service) Operations() map[string]rest.Operation {
	return map[string]rest.Operation{
		"listConferences":            rest.List[Conference](s.DB, conferences()),
		"searchConferences":          rest.Search[Conference](s.DB, conferences()),
		"getConference":              rest.Get[Conference](s.DB),
		"listConferenceParticipants": rest.Op(s.participants),
		"createConferenceAction":     rest.Op(s.act),
	}
}

func conferences() list.Table {
	return list.Table{
		Fields: list.Common(map[string]list.Field{
			"name": {Sort: true}, "status": {}, "owner_id": {}, "department_id": {},
			"started_at": {Type: list.Time}, "ended_at": {Type: list.Time},
		}),
		Search: []string{"name"},
	}
}

func participants() list.Table {
	return list.Table{
		Fields: list.Common(map[string]list.Field{
			"call_id": {}, "label": {}, "mode": {}, "muted": {Type: list.Bool}, "held": {Type: list.Bool},
			"joined_at": {Type: list.Time, Sort: true},
		}),
	}
}

type participantsIn struct {
	rest.ListIn
	ConferenceID string `path:"conference_id"`
}

// participants lists who is, or was, in a conference: with present, only one of the two.
func (s *Service) participants(ctx context.Context, who auth.Caller, in participantsIn) (list.Page[Participant], error) {
	if _, err := db.Get[Conference](ctx, s.DB, who.Scope, in.ConferenceID); err != nil {
		return list.Page[Participant]{}, err
	}
	q, err := participants().Parse(in.Query, "present")
	if err != nil {
		return list.Page[Participant]{}, err
	}
	return list.Run[Participant](ctx, s.DB, who.Scope, q, func(q *bun.SelectQuery) *bun.SelectQuery {
		q = q.Where("?TableAlias.conference_id = ?", in.ConferenceID)
		switch in.Query.Get("present") {
		case "true":
			q = q.Where("?TableAlias.left_at IS NULL")
		case "false":
			q = q.Where("?TableAlias.left_at IS NOT NULL")
		}
		return q
	})
}

type actIn struct {
	ConferenceID string           `path:"conference_id"`
	Key          string           `header:"Idempotency-Key"`
	Body         call.ActionDraft `body:"json"`
}

// act changes every call that is in a conference.
func (s *Service) act(ctx context.Context, who auth.Caller, in actIn) (call.ActionsTaken, error) {
	none, err := call.ActionsTaken{}, error(nil)
	const permission = "conferences.read"
	if !who.Can(permission) {
		return none, problem.Forbidden(permission)
	}
	if _, err = db.Get[Conference](ctx, s.DB, who.Over(auth.Resource(permission)), in.ConferenceID); err != nil {
		return none, err
	}
	var ids []webhooks.CallID
	err = s.DB.Read().NewSelect().Model((*Participant)(nil)).ColumnExpr("DISTINCT call_id").Where("account_id = ?", who.Scope.AccountID()).
		Where("conference_id = ?", in.ConferenceID).Where("left_at IS NULL").OrderBy("call_id", bun.OrderAsc).Limit(call.MaxActAll).Scan(ctx, &ids)
	if err != nil {
		return none, db.Check(err)
	}
	return s.Calls.ActAll(ctx, who, in.Key, ids, in.Body)
}
