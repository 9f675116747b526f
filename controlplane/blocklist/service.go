package blocklist

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/nyaruka/phonenumbers"
	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/account"
	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/list"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest"
	"github.com/hookswitch/hookswitch/webhooks"
)

// Service is the operations on block lists, and decides about numbers. It is safe for concurrent use. Run writes the
// hits; without it they are lost.
type Service struct {
	DB       *db.DB
	Accounts *account.Service
	Log      *slog.Logger
	Now      func() time.Time // for expiries and hits; nil is db.Now

	mu   sync.Mutex // guards hits
	hits map[string]hit
}

// hit is what is still to be written of an entry.
type hit struct {
	calls int64
	last  time.Time
}

func (s *Service) now() time.Time {
	if s.Now == nil {
		return db.Now()
	}
	return s.Now()
}

// Operations are the functions of the specification's operations.
func (s *Service) Operations() map[string]rest.Operation {
	all := map[string]rest.Operation{"matchBlocklistEntries": rest.Op(s.match)}
	maps.Copy(all, rest.Operations(s.entries()))
	return all
}

// written is what a caller writes of an entry.
type written struct {
	rest.Keys
	Draft
}

func (s *Service) entries() rest.Resource[Entry, written] {
	return rest.Resource[Entry, written]{
		DB: s.DB, One: "BlocklistEntry", Many: "BlocklistEntries", Prefix: "blk",
		Table: list.Table{
			Fields: list.Common(map[string]list.Field{
				"number": {Sort: true, Mask: true}, "kind": {}, "direction": {}, "action": {},
				"expires_at": {Type: list.Time}, "last_hit_at": {Type: list.Time}, "hits": {Type: list.Int, Sort: true},
			}),
			Search: []string{"number", "reason"},
		},
		Draft: func(e *Entry) written { return written{Draft: e.Draft} },
		Put: func(ctx context.Context, tx *db.Tx, who auth.Caller, e *Entry, w written) error {
			country, err := s.country(ctx, who.Scope)
			if err != nil {
				return err
			}
			return e.become(ctx, tx, country, w.Draft)
		},
	}
}

// country is that by which an account's numbers are read.
func (s *Service) country(ctx context.Context, scope auth.Scope) (string, error) {
	a, err := s.Accounts.Get(ctx, webhooks.AccountID(scope.AccountID()))
	if err != nil {
		return "", err
	}
	return a.DefaultCountry, nil
}

// become makes the entry what is wanted, and checks it. Its account must be set.
func (e *Entry) become(ctx context.Context, tx *db.Tx, country string, to Draft) error {
	if err := to.settle(country); err != nil {
		return err
	}
	e.Draft, e.Prefix = to, to.prefixOf()
	if e.Kind != KindPattern {
		return nil
	}
	n, err := tx.Read().NewSelect().Model((*Entry)(nil)).Where("account_id = ?", e.AccountID).Where("prefix = ?", e.Prefix).
		Where("kind = ?", KindPattern).Where("id <> ?", e.ID).Count(ctx)
	if err != nil {
		return db.Check(err)
	}
	if n >= samePrefix {
		return problem.RefusedField("/number", "count", "at most %d patterns may begin with the same digits (%q); put them together into fewer", samePrefix, e.Prefix)
	}
	return nil
}

// Put stores a line of an import: the entry with this number or pattern, kind and direction is made, or becomes what the
// draft says. country reads national forms of numbers (account.Account.DefaultCountry). What is wrong with a line is a
// Problem, and changes nothing.
func Put(ctx context.Context, tx *db.Tx, scope auth.Scope, country string, d Draft) (created bool, err error) {
	if err := d.settle(country); err != nil {
		return false, err
	}
	found, err := db.Find[Entry](ctx, tx, scope, func(q *bun.SelectQuery) *bun.SelectQuery {
		return q.Where("?TableAlias.number = ?", d.Number).Where("?TableAlias.kind = ?", d.Kind).Where("?TableAlias.direction = ?", d.Direction)
	})
	if errors.Is(err, sql.ErrNoRows) {
		e := &Entry{Row: db.Row{ID: db.NewID("blk"), AccountID: scope.AccountID()}}
		if err := e.become(ctx, tx, country, d); err != nil {
			return false, err
		}
		return true, db.Insert(ctx, tx, scope, e)
	}
	if err != nil {
		return false, err
	}
	_, err = db.ChangeTx(ctx, tx, scope, found.ID, "", func(ctx context.Context, tx *db.Tx, e *Entry) error {
		return e.become(ctx, tx, country, d)
	})
	return false, err
}

// Match gives the entry that decides about a caller's (In) or a called (Out) number of an account, nil for none. Of an
// emergency number of the account's country nothing decides on the way out. Nothing is counted.
func (s *Service) Match(ctx context.Context, a *account.Account, direction Direction, text string) (*Entry, error) {
	anonymous := direction == In && IsAnonymous(text)
	if direction == Out && phonenumbers.IsEmergencyNumber(text, a.DefaultCountry) {
		return nil, nil
	}
	of := forms(text, a.DefaultCountry)
	entries, err := db.List[Entry](ctx, s.DB, auth.Account(a.ID), func(q *bun.SelectQuery) *bun.SelectQuery {
		q = q.Where("?TableAlias.direction IN (?, ?)", direction, Both).
			Where("(?TableAlias.expires_at IS NULL OR ?TableAlias.expires_at > ?)", s.now())
		if anonymous {
			return q.Where("?TableAlias.prefix = ''").Where("?TableAlias.kind = ?", KindAnonymous)
		}
		return q.Where("?TableAlias.prefix IN (?)", bun.List(prefixes(of)))
	})
	if err != nil {
		return nil, fmt.Errorf("block list: %w", err)
	}
	if anonymous && len(entries) > 0 {
		return &entries[0], nil // there is at most one
	}
	return decide(entries, of), nil
}

// Blocked is Match for a call that is about to be: the entry that blocks it, nil when nothing does. The entry that
// decided, either way, counts a hit.
func (s *Service) Blocked(ctx context.Context, a *account.Account, direction Direction, text string) (*Entry, error) {
	e, err := s.Match(ctx, a, direction, text)
	if err != nil || e == nil {
		return nil, err
	}
	s.count(e.ID)
	if e.Action == Allow {
		return nil, nil
	}
	return e, nil
}

// pendingHits bounds the entries with hits that are not written yet; those of further ones are dropped.
const pendingHits = 100_000

func (s *Service) count(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hits == nil {
		s.hits = map[string]hit{}
	}
	h, known := s.hits[id]
	if !known && len(s.hits) >= pendingHits {
		return
	}
	h.calls++
	h.last = s.now()
	s.hits[id] = h
}

const (
	flushEvery  = 5 * time.Second
	flushWithin = 5 * time.Second // after ctx ended
	flushRows   = 500             // of one transaction
)

// Run writes the hits that were counted, until ctx ends, and once more then.
func (s *Service) Run(ctx context.Context) error {
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushWithin)
			defer cancel()
			return s.Flush(last)
		case <-tick.C:
			if err := s.Flush(ctx); err != nil && ctx.Err() == nil {
				s.Log.Warn("blocklist.hits_unwritten", "error", err.Error())
			}
		}
	}
}

// Flush writes the hits that were counted. Those it cannot write are kept.
func (s *Service) Flush(ctx context.Context) error {
	s.mu.Lock()
	pending := s.hits
	s.hits = nil
	s.mu.Unlock()
	// In one order everywhere, so that two processes do not wait for each other.
	for ids := range slices.Chunk(slices.Sorted(maps.Keys(pending)), flushRows) {
		err := s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
			for _, id := range ids {
				h := pending[id]
				// Not a change that anyone's If-Match should notice.
				_, err := tx.Write().NewUpdate().Model((*Entry)(nil)).Set("hits = hits + ?", h.calls).
					Set("last_hit_at = CASE WHEN last_hit_at > ? THEN last_hit_at ELSE ? END", h.last, h.last).Where("id = ?", id).Exec(ctx)
				if err != nil {
					return db.Check(err)
				}
			}
			return nil
		})
		if err != nil {
			s.keep(pending)
			return fmt.Errorf("block list hits: %w", err)
		}
		for _, id := range ids {
			delete(pending, id)
		}
	}
	return nil
}

// keep puts back what could not be written.
func (s *Service) keep(pending map[string]hit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, h := range s.hits {
		was := pending[id]
		pending[id] = hit{was.calls + h.calls, h.last}
	}
	s.hits = pending
}

type question struct {
	Number    string    `json:"number"`
	Direction Direction `json:"direction"`
}

type matchIn struct {
	Body question `body:"json"`
}

// Answer is what the list says about a number.
type Answer struct {
	Blocked bool   `json:"blocked"`
	Entry   *Entry `json:"entry,omitempty"`
}

func (s *Service) match(ctx context.Context, who auth.Caller, in matchIn) (Answer, error) {
	if who.Mask.Numbers {
		// By asking often enough one would learn the number of an entry.
		return Answer{}, problem.New(problem.CodeForbidden, "/number: telephone numbers are hidden from you, and so you cannot ask by them",
			problem.Field("/number", "masked", "telephone numbers are hidden from you"))
	}
	a, err := s.Accounts.Get(ctx, webhooks.AccountID(who.Scope.AccountID()))
	if err != nil {
		return Answer{}, err
	}
	e, err := s.Match(ctx, a, in.Body.Direction, in.Body.Number)
	if err != nil || e == nil {
		return Answer{}, err
	}
	return Answer{Blocked: e.Action == Block, Entry: e}, nil
}
