package account

import (
	"context"
	"maps"
	"net/http"
	"slices"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/list"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest"
	"github.com/hookswitch/hookswitch/webhooks"
)

// The operator's operations on accounts. The permission alone does not open them: an account's "*" holds every permission
// there is, so the scope decides, which of a platform key alone is everywhere.

const (
	platform      = "platform"
	platformRead  = "platform.read"
	platformWrite = "platform.write"
)

// operator refuses whoever is not the operator.
func operator(who auth.Caller, permission string) error {
	if !who.Scope.IsEverywhere() {
		return problem.New(problem.CodeForbidden, "only a platform key (pk_…) has "+permission+"; ask the operator of the installation")
	}
	return nil
}

// named is operator for one account: to everyone else it is not there.
func named(who auth.Caller, id string) error {
	if !who.Scope.IsEverywhere() {
		return problem.NoSuch(id)
	}
	return nil
}

func accountTable() list.Table {
	return list.Table{
		Fields: list.Common(map[string]list.Field{"name": {Sort: true}, "status": {}, "default_country": {}}),
		Search: []string{"name"},
	}
}

func (s *Service) list(ctx context.Context, who auth.Caller, in listIn) (list.Page[Shown], error) {
	if err := operator(who, platformRead); err != nil {
		return list.Page[Shown]{}, err
	}
	q, err := accountTable().Parse(in.Query)
	if err != nil {
		return list.Page[Shown]{}, err
	}
	return s.page(ctx, who, q)
}

func (s *Service) search(ctx context.Context, who auth.Caller, in searchIn) (list.Page[Shown], error) {
	if err := operator(who, platformRead); err != nil {
		return list.Page[Shown]{}, err
	}
	q, err := accountTable().ParseSearch(in.Search)
	if err != nil {
		return list.Page[Shown]{}, err
	}
	return s.page(ctx, who, q)
}

func (s *Service) page(ctx context.Context, who auth.Caller, q list.Query) (list.Page[Shown], error) {
	page, err := list.Run[Account](ctx, s.DB, who.Scope, q)
	if err != nil {
		return list.Page[Shown]{}, err
	}
	ids := map[string]bool{}
	for _, a := range page.Data {
		ids[a.ID] = true
	}
	all, err := domains(ctx, s.DB, slices.Collect(maps.Keys(ids))...)
	if err != nil {
		return list.Page[Shown]{}, err
	}
	return list.Map(page, func(a Account) Shown { return Shown{Account: a, Domains: all[a.ID]} }), nil
}

// newAccount is the body of a create.
type newAccount struct {
	ExternalID *string        `json:"external_id,omitempty"`
	Metadata   map[string]any `json:"metadata,omitempty"`
	Domains    []string       `json:"domains"`
	Draft
}

type createIn struct {
	Body newAccount `body:"json"`
}

func (s *Service) create(ctx context.Context, who auth.Caller, in createIn) (*Shown, error) {
	if err := operator(who, platformWrite); err != nil {
		return nil, err
	}
	a := &Account{Row: db.Row{ExternalID: in.Body.ExternalID, Metadata: in.Body.Metadata}, Draft: in.Body.Draft}
	if err := s.insert(ctx, s.DB, a, in.Body.Domains); err != nil {
		return nil, err
	}
	return show(ctx, s.DB, a)
}

type byID struct {
	ID string `path:"account_id"`
}

func (s *Service) get(ctx context.Context, who auth.Caller, in byID) (*Shown, error) {
	if err := named(who, in.ID); err != nil {
		return nil, err
	}
	a, err := db.Get[Account](ctx, s.DB, who.Scope, in.ID)
	if err != nil {
		return nil, err
	}
	return show(ctx, s.DB, a)
}

// changed is what the operator's merge patch is applied to.
type changed struct {
	ExternalID *string        `json:"external_id,omitempty"`
	Metadata   map[string]any `json:"metadata,omitempty"`
	Status     Status         `json:"status"`
	Draft
}

type updateIn struct {
	byID
	IfMatch string     `header:"If-Match"`
	Patch   rest.Patch `body:"json"`
}

func (s *Service) update(ctx context.Context, who auth.Caller, in updateIn) (*Shown, error) {
	return s.change(ctx, who, in.ID, in.IfMatch, func(a *Account) error {
		wanted := changed{a.ExternalID, a.Metadata, a.Status, a.Draft}
		if err := in.Patch.Apply(&wanted); err != nil {
			return err
		}
		a.ExternalID, a.Metadata, a.Status, a.Draft = wanted.ExternalID, wanted.Metadata, wanted.Status, wanted.Draft
		return a.Check()
	})
}

func (s *Service) change(ctx context.Context, who auth.Caller, id, ifMatch string, fn func(a *Account) error) (*Shown, error) {
	if err := named(who, id); err != nil {
		return nil, err
	}
	defer s.statuses.Forget(id)
	a, err := db.Change(ctx, s.DB, who.Scope, id, ifMatch, fn)
	if err != nil {
		return nil, err
	}
	return show(ctx, s.DB, a)
}

type suspendIn struct {
	byID
	IfMatch string `header:"If-Match"`
}

// suspend is what deleting an account does: it can be made active again, and nothing it has is lost.
func (s *Service) suspend(ctx context.Context, who auth.Caller, in suspendIn) (rest.None, error) {
	_, err := s.change(ctx, who, in.ID, in.IfMatch, func(a *Account) error {
		a.Status = Suspended
		return nil
	})
	return rest.None{}, err
}

type limitsIn struct {
	byID
	IfMatch string `header:"If-Match"`
	Limits  Limits `body:"json"`
}

func (s *Service) setLimits(ctx context.Context, who auth.Caller, in limitsIn) (*Shown, error) {
	return s.change(ctx, who, in.ID, in.IfMatch, func(a *Account) error {
		a.Limits = in.Limits
		return a.Check()
	})
}

func (s *Service) usageOf(ctx context.Context, who auth.Caller, in byID) (*Usage, error) {
	if err := named(who, in.ID); err != nil {
		return nil, err
	}
	return s.Usage(ctx, webhooks.AccountID(in.ID))
}

type createKeyOfIn struct {
	byID
	Body keyBody `body:"json"`
}

// createKeyOf makes a key of an account, with whatever permissions: it is how a new account comes to its first.
func (s *Service) createKeyOf(ctx context.Context, who auth.Caller, in createKeyOfIn) (rest.Answer, error) {
	if err := named(who, in.ID); err != nil {
		return rest.Answer{}, err
	}
	if _, err := s.Get(ctx, webhooks.AccountID(in.ID)); err != nil {
		return rest.Answer{}, err
	}
	shown, err := s.makeKey(ctx, auth.Account(in.ID), in.Body)
	if err != nil {
		return rest.Answer{}, err
	}
	return rest.Answer{Status: http.StatusCreated, Header: http.Header{"Location": {"/v1/api_keys/" + shown.ID}}, Body: shown}, nil
}
