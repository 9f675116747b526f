package endpoint

import (
	"context"
	"maps"
	"net/netip"
	"time"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/event"
	"github.com/hookswitch/hookswitch/controlplane/list"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest"
)

// Service is the operations on event endpoints and their deliveries.
type Service struct {
	DB    *db.DB
	Masks event.Masks
	// Wake tells the deliverers that there is something to do, after a commit (event.Feed.Tell). nil leaves them to look.
	Wake func()
	// Plain are the networks within which a URL need not be https: those that the operator has allowed the guard.
	Plain []netip.Prefix
	Now   func() time.Time // for expiries; nil is db.Now
}

func (s *Service) now() time.Time {
	if s.Now == nil {
		return db.Now()
	}
	return s.Now()
}

func (s *Service) wake() {
	if s.Wake != nil {
		s.Wake()
	}
}

// maxEndpoints bounds those of an account: each event is looked at for every one of them.
const maxEndpoints = 50

// Operations are the functions of event_endpoints.yaml.
func (s *Service) Operations() map[string]rest.Operation {
	all := rest.Operations(s.resource())
	maps.Copy(all, map[string]rest.Operation{
		"rotateEventEndpointSecret": rest.Op(s.rotate),
		"testEventEndpoint":         rest.Op(s.test),
		"replayEvents":              rest.Op(s.replay),
		"listDeliveries":            rest.Op(s.deliveries),
		"getDelivery":               rest.Op(s.delivery),
		"retryDelivery":             rest.Op(s.retry),
	})
	return all
}

func (s *Service) resource() rest.Resource[Endpoint, Draft] {
	return rest.Resource[Endpoint, Draft]{
		DB: s.DB, One: "EventEndpoint", Many: "EventEndpoints", Prefix: "evp",
		Table: list.Table{
			Fields: list.Common(map[string]list.Field{"url": {}, "enabled": {Type: list.Bool}, "disabled_reason": {}}),
			Search: []string{"url", "description"},
		},
		Draft:  draft,
		Put:    s.put,
		Stored: s.stored,
	}
}

func draft(e *Endpoint) Draft {
	return Draft{URL: e.URL, Description: e.Description, Types: e.Types, Enabled: e.Enabled, Headers: e.Headers}
}

func (s *Service) put(ctx context.Context, tx *db.Tx, who auth.Caller, e *Endpoint, d Draft) error {
	if err := d.Check(); err != nil {
		return err
	}
	if !whole(who) {
		return problem.New(problem.CodeForbidden, "an event endpoint gets the events of the whole account with all their numbers; only who may see all of these can make or change one")
	}
	if d.URL != e.URL {
		if err := checkURL(ctx, d.URL, s.Plain); err != nil {
			return err
		}
	}
	if e.Etag == "" {
		n, err := db.Count[Endpoint](ctx, tx, who.Scope)
		if err != nil {
			return err
		}
		if n >= maxEndpoints {
			return problem.Conflict("the account has its most event endpoints already; delete one that is no longer used")
		}
		e.rotate(s.now(), 0)
	}
	e.URL, e.Description, e.Types, e.Headers = d.URL, d.Description, d.Types, d.Headers
	e.name()
	switch {
	case d.Enabled:
		e.Enabled, e.DisabledReason, e.DisabledAt = true, "", nil
	case e.Enabled || e.Etag == "":
		e.disable(Manual, s.now())
	}
	return nil
}

// whole reports whether nothing of the account is hidden from a caller: an endpoint must not show what its maker may not
// see.
func whole(who auth.Caller) bool {
	for _, rows := range who.Reach {
		if !rows.All {
			return false
		}
	}
	return who.Mask == auth.Mask{}
}

func (e *Endpoint) disable(why Reason, now time.Time) {
	e.Enabled, e.DisabledReason, e.DisabledAt = false, why, &now
}

// stored makes the lane of a new endpoint, and has that of one which is on looked at: what waits goes on.
func (s *Service) stored(ctx context.Context, tx *db.Tx, _ auth.Caller, e *Endpoint) error {
	_, err := tx.Write().NewRaw("INSERT INTO delivery_lanes (endpoint_id, account_id) VALUES (?, ?) ON CONFLICT (endpoint_id) DO NOTHING", e.ID, e.AccountID).Exec(ctx)
	if err != nil || !e.Enabled || e.Etag == "1" {
		return db.Check(err)
	}
	_, err = tx.Write().NewRaw("UPDATE delivery_lanes SET due_at = ?, failing_since = NULL WHERE endpoint_id = ?", db.Now(), e.ID).Exec(ctx)
	return db.Check(err)
}

// Disabled is the type of the event that tells of an endpoint which was switched off because of its answers.
const Disabled = "endpoint.disabled"

// Disable switches an endpoint off, unless it is, and emits the event that says so.
func Disable(ctx context.Context, tx *db.Tx, accountID, id string, why Reason, now time.Time) error {
	_, err := db.ChangeTx(ctx, tx, auth.Account(accountID), id, "", func(ctx context.Context, tx *db.Tx, e *Endpoint) error {
		if !e.Enabled {
			return nil
		}
		e.disable(why, now)
		return event.Emit(ctx, tx, about(e, Disabled, map[string]any{"endpoint_id": e.ID, "url": e.URL, "reason": why}))
	})
	return err
}

type rotateIn struct {
	ID      string `path:"endpoint_id"`
	IfMatch string `header:"If-Match"`
	Body    struct {
		OverlapSeconds int64 `json:"overlap_seconds"`
	} `body:"json"`
}

// rotate makes a new secret. Until the overlap ends deliveries carry the signatures of both.
func (s *Service) rotate(ctx context.Context, who auth.Caller, in rotateIn) (*Endpoint, error) {
	return db.Change(ctx, s.DB, who.Scope, in.ID, in.IfMatch, func(e *Endpoint) error {
		e.rotate(s.now(), time.Duration(in.Body.OverlapSeconds)*time.Second)
		return nil
	})
}
