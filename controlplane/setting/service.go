package setting

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"sync"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/list"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest"
	"github.com/hookswitch/hookswitch/webhooks"
)

// Service is the operations on settings, and reads them for others. It is safe for concurrent use.
type Service struct {
	DB  *db.DB
	Now func() time.Time // for the age of what is remembered; nil is time.Now

	mu    sync.Mutex // guards known
	known map[webhooks.AccountID]remembered
}

// remembered is an account's settings as they were read.
type remembered struct {
	values Values
	at     time.Time
}

const (
	// rememberFor is how old a value may be that Values gives.
	rememberFor = time.Second
	// rememberMost bounds the accounts that are remembered; above it all are forgotten.
	rememberMost = 10_000
)

func (s *Service) now() time.Time {
	if s.Now == nil {
		return time.Now()
	}
	return s.Now()
}

// stored is a setting that an account has given a value.
type stored struct {
	bun.BaseModel `bun:"table:settings" json:"-"`
	db.Row

	Key   Key   `bun:"key" json:"key"`
	Value boxed `bun:"value,type:jsonb" json:"value"`
}

// boxed is a value in a column that holds objects. Without a value it is the default.
type boxed struct {
	Value json.RawMessage `json:"value,omitempty"`
}

// change is an entry of a setting's history.
type change struct {
	bun.BaseModel `bun:"table:setting_changes" json:"-"`
	db.Row

	Key     Key    `bun:"key"`
	ActorID string `bun:"actor_id"`
	Old     boxed  `bun:"old,type:jsonb"`
	New     boxed  `bun:"new,type:jsonb"`
}

// Values gives an account's settings, which may be up to a second old.
func (s *Service) Values(ctx context.Context, id webhooks.AccountID) (Values, error) {
	now := s.now()
	s.mu.Lock()
	r, ok := s.known[id]
	s.mu.Unlock()
	if ok && now.Sub(r.at) < rememberFor {
		return r.values, nil
	}
	rows, err := db.List[stored](ctx, s.DB, auth.Account(string(id)))
	if err != nil {
		return Values{}, fmt.Errorf("settings of %s: %w", id, err)
	}
	v := Values{own: map[Key]any{}}
	for _, row := range rows {
		// A row of a setting that is no more, or whose range has become narrower, counts as the default.
		if known, ok := Find(row.Key); ok {
			if value, err := known.Parse(row.Value.Value); err == nil {
				v.own[row.Key] = value
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil || len(s.known) >= rememberMost {
		s.known = map[webhooks.AccountID]remembered{}
	}
	s.known[id] = remembered{v, now}
	return v, nil
}

func (s *Service) forget(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.known, webhooks.AccountID(id))
}

// Operations are the functions of the specification's operations.
func (s *Service) Operations() map[string]rest.Operation {
	return map[string]rest.Operation{
		"getSettings":        rest.Op(s.all),
		"getSetting":         rest.Op(s.get),
		"setSetting":         rest.Op(s.set),
		"resetSetting":       rest.Op(s.reset),
		"listSettingHistory": rest.Op(s.history),
	}
}

// Shown is a setting as it is answered: what it is, and what it is set to.
type Shown struct {
	Key         Key             `json:"key"`
	Kind        Kind            `json:"kind"`
	Value       json.RawMessage `json:"value"`
	Default     json.RawMessage `json:"default"`
	IsDefault   bool            `json:"is_default"`
	Min         *int64          `json:"min,omitempty"`
	Max         *int64          `json:"max,omitempty"`
	Unit        string          `json:"unit,omitempty"`
	Choices     []string        `json:"choices,omitempty"`
	Description Texts           `json:"description"`
	UpdatedAt   *time.Time      `json:"updated_at,omitempty"`
	Etag        string          `json:"etag"`
}

// Texts is a text in two languages.
type Texts struct {
	Chinese string `json:"zh"`
	English string `json:"en"`
}

// Identity gives what an answer's ETag header needs.
func (s Shown) Identity() (id, etag string) { return string(s.Key), s.Etag }

// untouched is the etag of a setting that has its default.
const untouched = "0"

// show puts a setting and what an account has stored for it together; row may be nil.
func show(s Setting, row *stored) (Shown, error) {
	text, err := json.Marshal(s.Default)
	if err != nil {
		return Shown{}, err
	}
	out := Shown{
		Key: s.Key, Kind: s.Kind, Value: text, Default: text, IsDefault: true, Unit: s.Unit, Choices: s.Choices,
		Description: Texts{s.Chinese, s.English}, Etag: untouched,
	}
	if s.Kind == KindInteger {
		out.Min, out.Max = &s.Min, &s.Max
	}
	if row == nil {
		return out, nil
	}
	out.Etag, out.UpdatedAt = row.Etag, &row.UpdatedAt
	if value, err := s.Parse(row.Value.Value); err == nil {
		if out.Value, err = json.Marshal(value); err != nil {
			return Shown{}, err
		}
		out.IsDefault = false
	}
	return out, nil
}

type nothing struct{}

type shownList struct {
	Data []Shown `json:"data"`
}

func (s *Service) all(ctx context.Context, who auth.Caller, _ nothing) (shownList, error) {
	rows, err := db.List[stored](ctx, s.DB, who.Scope)
	if err != nil {
		return shownList{}, err
	}
	own := map[Key]*stored{}
	for i := range rows {
		own[rows[i].Key] = &rows[i]
	}
	out := shownList{Data: []Shown{}}
	for _, each := range Registry() {
		shown, err := show(each, own[each.Key])
		if err != nil {
			return shownList{}, err
		}
		out.Data = append(out.Data, shown)
	}
	return out, nil
}

type byKey struct {
	Key string `path:"key"`
}

// setting is the row of the registry that a path names.
func (in byKey) setting() (Setting, error) {
	s, ok := Find(Key(in.Key))
	if !ok {
		return s, problem.NotFound(fmt.Sprintf("there is no setting %q; GET /v1/settings lists them", in.Key))
	}
	return s, nil
}

// row is what an account has stored for a key, nil for nothing.
func row(ctx context.Context, conn db.Conn, scope auth.Scope, key Key) (*stored, error) {
	found, err := db.Find[stored](ctx, conn, scope, func(q *bun.SelectQuery) *bun.SelectQuery { return q.Where("?TableAlias.key = ?", key) })
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return found, err
}

func (s *Service) get(ctx context.Context, who auth.Caller, in byKey) (Shown, error) {
	known, err := in.setting()
	if err != nil {
		return Shown{}, err
	}
	found, err := row(ctx, s.DB, who.Scope, known.Key)
	if err != nil {
		return Shown{}, err
	}
	return show(known, found)
}

type given struct {
	Value json.RawMessage `json:"value"`
}

type setIn struct {
	byKey
	IfMatch string `header:"If-Match"`
	Body    given  `body:"json"`
}

func (s *Service) set(ctx context.Context, who auth.Caller, in setIn) (Shown, error) {
	known, err := in.setting()
	if err != nil {
		return Shown{}, err
	}
	value, err := known.Parse(in.Body.Value)
	if err != nil {
		return Shown{}, err
	}
	text, err := json.Marshal(value)
	if err != nil {
		return Shown{}, err
	}
	now, err := s.write(ctx, who, known, in.IfMatch, boxed{text})
	if problem.From(err).Code == problem.CodeConflict {
		// Another was the first to set it, at the same moment.
		now, err = s.write(ctx, who, known, in.IfMatch, boxed{text})
	}
	if err != nil {
		return Shown{}, err
	}
	return show(known, now)
}

type resetIn struct {
	byKey
	IfMatch string `header:"If-Match"`
}

func (s *Service) reset(ctx context.Context, who auth.Caller, in resetIn) (rest.None, error) {
	known, err := in.setting()
	if err != nil {
		return rest.None{}, err
	}
	_, err = s.write(ctx, who, known, in.IfMatch, boxed{})
	return rest.None{}, err
}

// write stores a value, or removes the one there is for a box without, and keeps the change in the history. The row is
// nil when there is none any more.
func (s *Service) write(ctx context.Context, who auth.Caller, known Setting, ifMatch string, to boxed) (now *stored, err error) {
	err = s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		was, err := row(ctx, tx, who.Scope, known.Key)
		if err != nil {
			return err
		}
		old := boxed{}
		switch {
		case was == nil && to.Value == nil:
			return missed(ifMatch)
		case was == nil:
			if err := missed(ifMatch); err != nil {
				return err
			}
			now = &stored{Row: db.Row{ID: db.NewID("set")}, Key: known.Key, Value: to}
			err = db.Insert(ctx, tx, who.Scope, now)
		case to.Value == nil:
			old = was.Value
			err = db.Delete[stored](ctx, tx, who.Scope, was.ID, ifMatch)
		default:
			// The row may have changed since it was read.
			now, err = db.Change(ctx, tx, who.Scope, was.ID, ifMatch, func(r *stored) error {
				old, r.Value = r.Value, to
				return nil
			})
		}
		if err != nil || reflect.DeepEqual(old, to) {
			return err
		}
		entry := &change{Row: db.Row{ID: db.NewID("setc")}, Key: known.Key, ActorID: who.ActorID(), Old: old, New: to}
		entry.AccountID, entry.Metadata, entry.Etag = who.Scope.AccountID(), map[string]any{}, "1"
		entry.CreatedAt = db.Now()
		entry.UpdatedAt = entry.CreatedAt
		_, err = tx.Write().NewInsert().Model(entry).Exec(ctx) // not db.Insert: the audit has the change itself
		return db.Check(err)
	})
	s.forget(who.Scope.AccountID())
	return now, err
}

// missed refuses a change that is based on a value where there is none.
func missed(ifMatch string) error {
	if ifMatch == "" || ifMatch == "*" || ifMatch == untouched || ifMatch == `"`+untouched+`"` {
		return nil
	}
	return problem.Precondition()
}

// Change is an entry of a setting's history as it is answered. A value that is absent was, or became, the default.
type Change struct {
	ID        string          `json:"id"`
	Key       Key             `json:"key"`
	ActorID   string          `json:"actor_id"`
	Old       json.RawMessage `json:"old,omitempty"`
	New       json.RawMessage `json:"new,omitempty"`
	CreatedAt time.Time       `json:"created_at"`
}

type historyIn struct {
	byKey
	Query url.Values `query:"*"`
}

func historyTable() list.Table {
	return list.Table{Fields: map[string]list.Field{"id": {}, "actor_id": {}, "created_at": {Type: list.Time, Sort: true}}}
}

func (s *Service) history(ctx context.Context, who auth.Caller, in historyIn) (list.Page[Change], error) {
	known, err := in.setting()
	if err != nil {
		return list.Page[Change]{}, err
	}
	q, err := historyTable().Parse(in.Query)
	if err != nil {
		return list.Page[Change]{}, err
	}
	page, err := list.Run[change](ctx, s.DB, who.Scope, q, func(q *bun.SelectQuery) *bun.SelectQuery {
		return q.Where("?TableAlias.key = ?", known.Key)
	})
	return list.Map(page, func(c change) Change {
		return Change{ID: c.ID, Key: c.Key, ActorID: c.ActorID, Old: c.Old.Value, New: c.New.Value, CreatedAt: c.CreatedAt}
	}), err
}
