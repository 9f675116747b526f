package calendar

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/list"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest"
	"github.com/hookswitch/hookswitch/webhooks"
)

// Service is the operations on calendars and holiday sets.
type Service struct {
	DB *db.DB
	// Uses are the columns of other resources that refer to a calendar.
	Uses []db.Use
	Now  func() time.Time // for questions without a time; nil is db.Now
}

func (s *Service) now() time.Time {
	if s.Now == nil {
		return db.Now()
	}
	return s.Now()
}

// Operations are the functions of the specification's operations.
func (s *Service) Operations() map[string]rest.Operation {
	all := map[string]rest.Operation{
		"getCalendarOpen":     rest.Op(s.open),
		"previewCalendar":     rest.Op(s.preview),
		"getHolidayTemplates": rest.Op(s.templates),
	}
	maps.Copy(all, rest.Operations(s.calendars()))
	maps.Copy(all, rest.Operations(s.holidaySets()))
	return all
}

// written is what a caller writes of a calendar.
type written struct {
	rest.Keys
	Draft
}

func (s *Service) calendars() rest.Resource[Calendar, written] {
	return rest.Resource[Calendar, written]{
		DB: s.DB, One: "Calendar", Many: "Calendars", Prefix: "cal", Uses: s.Uses,
		Table: list.Table{
			Fields: list.Common(map[string]list.Field{"name": {Sort: true}, "time_zone": {}}),
			Search: []string{"name"},
		},
		Draft: func(c *Calendar) written { return written{Draft: c.Draft} },
		Put: func(_ context.Context, _ *db.Tx, _ auth.Caller, c *Calendar, w written) error {
			c.Draft = w.Draft
			return c.Check()
		},
		Stored: func(ctx context.Context, tx *db.Tx, _ auth.Caller, c *Calendar) error { return link(ctx, tx, c) },
	}
}

// writtenSet is what a caller writes of a holiday set.
type writtenSet struct {
	rest.Keys
	HolidayDraft
}

func (s *Service) holidaySets() rest.Resource[HolidaySet, writtenSet] {
	return rest.Resource[HolidaySet, writtenSet]{
		DB: s.DB, One: "HolidaySet", Many: "HolidaySets", Prefix: "hol",
		Table: list.Table{Fields: list.Common(map[string]list.Field{"name": {Sort: true}}), Search: []string{"name"}},
		Draft: func(h *HolidaySet) writtenSet { return writtenSet{HolidayDraft: h.HolidayDraft} },
		Put: func(_ context.Context, _ *db.Tx, _ auth.Caller, h *HolidaySet, w writtenSet) error {
			h.HolidayDraft = w.HolidayDraft
			return h.Check()
		},
		Removing: func(ctx context.Context, tx *db.Tx, _ auth.Caller, h *HolidaySet) error {
			return unobserved(ctx, tx, h)
		},
	}
}

// observed is a row that says which holiday set a calendar observes.
type observed struct {
	bun.BaseModel `bun:"table:calendar_holiday_sets"`

	AccountID    string `bun:"account_id"`
	CalendarID   string `bun:"calendar_id"`
	HolidaySetID string `bun:"holiday_set_id"`
}

// link writes the holiday sets of a calendar as rows, so that each exists and stays for as long as it is observed.
func link(ctx context.Context, tx *db.Tx, c *Calendar) error {
	if _, err := tx.Write().NewDelete().Model((*observed)(nil)).Where("calendar_id = ?", c.ID).Exec(ctx); err != nil {
		return db.Check(err)
	}
	for i, id := range c.HolidaySetIDs {
		// Looked up rather than left to the foreign key, which could not say which of them is missing.
		n, err := db.Count[HolidaySet](ctx, tx, auth.Account(c.AccountID), func(q *bun.SelectQuery) *bun.SelectQuery { return q.Where("id = ?", id) })
		if err != nil {
			return err
		}
		if n == 0 {
			return problem.RefusedField(fmt.Sprintf("/holiday_set_ids/%d", i), "unknown", "there is no holiday set %q in this account", id)
		}
		row := &observed{AccountID: c.AccountID, CalendarID: c.ID, HolidaySetID: id}
		if _, err := tx.Write().NewInsert().Model(row).Exec(ctx); err != nil {
			return db.Check(err)
		}
	}
	return nil
}

type byID struct {
	ID string `path:"calendar_id"`
}

// State is the answer to the question whether a calendar is open.
type State struct {
	At     time.Time `json:"at"`
	Open   bool      `json:"open"`
	Reason Reason    `json:"reason"`
	// ChangesAt is the next opening or closing, absent when there is none within 366 days.
	ChangesAt *time.Time `json:"changes_at,omitempty"`
}

func (s *Schedule) state(at time.Time) State {
	open, reason, until := s.Open(at)
	state := State{At: at.UTC(), Open: open, Reason: reason}
	if !until.IsZero() {
		state.ChangesAt = &until
	}
	return state
}

type openIn struct {
	byID
	At *time.Time `query:"at"`
}

func (s *Service) open(ctx context.Context, who auth.Caller, in openIn) (State, error) {
	c, err := db.Get[Calendar](ctx, s.DB, who.Scope, in.ID)
	if err != nil {
		return State{}, err
	}
	schedule, err := s.schedule(ctx, who.Scope, &c.Draft)
	if err != nil {
		return State{}, err
	}
	return schedule.state(s.at(in.At)), nil
}

// at is a time that was given, or now.
func (s *Service) at(given *time.Time) time.Time {
	if given == nil {
		return s.now()
	}
	return *given
}

// schedule prepares a draft that was checked with the holiday sets it names.
func (s *Service) schedule(ctx context.Context, scope auth.Scope, d *Draft) (*Schedule, error) {
	var sets []HolidaySet
	if len(d.HolidaySetIDs) > 0 {
		var err error
		sets, err = db.List[HolidaySet](ctx, s.DB, scope, func(q *bun.SelectQuery) *bun.SelectQuery {
			return q.Where("id IN (?)", bun.List(d.HolidaySetIDs))
		})
		if err != nil {
			return nil, err
		}
	}
	for i, id := range d.HolidaySetIDs {
		found := false
		for _, set := range sets {
			found = found || set.ID == id
		}
		if !found {
			return nil, problem.RefusedField(fmt.Sprintf("/holiday_set_ids/%d", i), "unknown", "there is no holiday set %q in this account", id)
		}
	}
	return Compile(d, sets)
}

// Schedule prepares a calendar of an account to be asked. It is a NotFound problem when there is none.
func (s *Service) Schedule(ctx context.Context, account webhooks.AccountID, id string) (*Schedule, error) {
	scope := auth.Account(string(account))
	c, err := db.Get[Calendar](ctx, s.DB, scope, id)
	if err != nil {
		return nil, err
	}
	return s.schedule(ctx, scope, &c.Draft)
}

// defaultDays is how many days a preview shows.
const defaultDays = 7

type preview struct {
	At   *time.Time `json:"at,omitempty"`
	Days int        `json:"days,omitempty"`
	// Change is a rest.Patch.
	Change json.RawMessage `json:"change,omitempty"`
}

type previewIn struct {
	byID
	Body preview `body:"json"`
}

// Preview is what a calendar would say, and when it would be open.
type Preview struct {
	State
	Intervals []OpenInterval `json:"intervals"`
}

// OpenInterval is a time of being open.
type OpenInterval struct {
	Start  time.Time `json:"start"`
	End    time.Time `json:"end"`
	Reason Reason    `json:"reason"`
}

// preview answers as open does, for the calendar with a change that is not made.
func (s *Service) preview(ctx context.Context, who auth.Caller, in previewIn) (Preview, error) {
	c, err := db.Get[Calendar](ctx, s.DB, who.Scope, in.ID)
	if err != nil {
		return Preview{}, err
	}
	wanted := written{Keys: rest.Keys{ExternalID: c.ExternalID, Metadata: c.Metadata}, Draft: c.Draft}
	if in.Body.Change != nil {
		if err := rest.Patch(in.Body.Change).Apply(&wanted); err != nil {
			return Preview{}, err
		}
	}
	if err := wanted.Check(); err != nil {
		return Preview{}, err
	}
	schedule, err := s.schedule(ctx, who.Scope, &wanted.Draft)
	if err != nil {
		return Preview{}, err
	}
	days := in.Body.Days
	if days == 0 {
		days = defaultDays
	}
	at := s.at(in.Body.At)
	p := Preview{State: schedule.state(at), Intervals: []OpenInterval{}}
	for _, i := range schedule.Between(at, at.In(schedule.zone).AddDate(0, 0, days)) {
		p.Intervals = append(p.Intervals, OpenInterval(i))
	}
	return p, nil
}

// unobserved is a Conflict that names the calendars which observe a holiday set.
func unobserved(ctx context.Context, tx *db.Tx, h *HolidaySet) error {
	const most = 10
	var ids []string
	err := tx.Read().NewSelect().Model((*observed)(nil)).Column("calendar_id").Where("account_id = ?", h.AccountID).
		Where("holiday_set_id = ?", h.ID).OrderBy("calendar_id", bun.OrderAsc).Limit(most).Scan(ctx, &ids)
	if err != nil {
		return db.Check(err)
	}
	if len(ids) == 0 {
		return nil
	}
	errs := make([]problem.FieldError, 0, len(ids))
	for _, calendar := range ids {
		errs = append(errs, problem.Field("", "in_use", "calendar %s refers to it in holiday_set_ids", calendar))
	}
	return problem.Conflict("this is still used by calendar "+strings.Join(ids, ", ")+"; change or delete these first", errs...)
}

type templateList struct {
	Data []Template `json:"data"`
}

type nothing struct{}

func (s *Service) templates(context.Context, auth.Caller, nothing) (templateList, error) {
	all := templateList{Data: Templates()}
	for i := range all.Data {
		if err := all.Data[i].Check(); err != nil {
			return templateList{}, err
		}
	}
	return all, nil
}
