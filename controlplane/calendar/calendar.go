// Package calendar owns working time: the weekly shifts of an account in a time zone, its holiday sets with days off and
// make-up working days, and the question whether something is open at a moment. What is done with the answer, which
// calls go where in the evening, is left to whoever asks.
package calendar

import (
	"fmt"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // a server may have no time zones of its own

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/problem"
)

// Calendar is when something is open.
//
// What a day is worked by is decided by the first of these that names it:
//
//  1. an exception of the calendar for this date: closed, or its own hours;
//  2. a holiday set, in the order of HolidaySetIDs: a make-up working day, which is worked by the shifts of the weekday
//     it names, or a day off. Within one set a make-up day goes before a day off;
//  3. the shifts of its weekday.
//
// A shift belongs to the day it begins on. So a night shift that began on the eve of a holiday runs into it to its end,
// and one that would begin on the holiday does not take place. Shifts may overlap; where they do they count once.
type Calendar struct {
	bun.BaseModel `bun:"table:calendars" json:"-"`
	db.Row
	Draft
}

// Draft is what a caller decides of a calendar.
type Draft struct {
	Name string `bun:"name" json:"name"`
	// TimeZone is an IANA name, such as Asia/Shanghai.
	TimeZone   string      `bun:"time_zone" json:"time_zone"`
	Shifts     []Shift     `bun:"shifts,type:jsonb" json:"shifts"`
	Exceptions []Exception `bun:"exceptions,type:jsonb" json:"exceptions"`
	// HolidaySetIDs are looked through in this order.
	HolidaySetIDs []string `bun:"holiday_set_ids,type:jsonb" json:"holiday_set_ids"`
}

// Hours are from Start until before End on the clock of the calendar's zone. An End that is not after Start is on the
// next day; the same time for both is 24 hours. 24:00 is the end of the day.
//
// A clock time that a change to summer time leaves out stands for the moment of the change. Of one that comes twice when
// summer time ends, the first begins a shift and the second ends it.
type Hours struct {
	Start Clock `json:"start"` // 00:00–23:59
	End   Clock `json:"end"`   // 00:00–24:00
}

// Shift is hours on some days of each week.
type Shift struct {
	Days []Weekday `json:"days"`
	Hours
}

// Exception is a date that is worked otherwise than its weekday: by Hours, or not at all when there are none.
type Exception struct {
	Date  Date    `json:"date"`
	Name  string  `json:"name,omitempty"`
	Hours []Hours `json:"hours"`
}

// HolidaySet is the holidays of a country or a company, for any number of calendars.
type HolidaySet struct {
	bun.BaseModel `bun:"table:holiday_sets" json:"-"`
	db.Row
	HolidayDraft
}

// HolidayDraft is what a caller decides of a holiday set.
type HolidayDraft struct {
	Name       string      `bun:"name" json:"name"`
	DaysOff    []DaysOff   `bun:"days_off,type:jsonb" json:"days_off"`
	MakeUpDays []MakeUpDay `bun:"make_up_days,type:jsonb" json:"make_up_days"`
}

// DaysOff is a holiday of one or more days: From and To are both part of it.
type DaysOff struct {
	Name string `json:"name"`
	From Date   `json:"from"`
	To   Date   `json:"to"`
}

// MakeUpDay is a day at the weekend that is worked for one given free elsewhere (调休), by the shifts of a weekday.
type MakeUpDay struct {
	Name   string  `json:"name,omitempty"`
	Date   Date    `json:"date"`
	WorkAs Weekday `json:"work_as"`
}

// Limits of a calendar and of a holiday set.
const (
	maxShifts     = 50
	maxExceptions = 1000
	maxHours      = 10 // of one exception
	maxSets       = 20
	maxHolidays   = 500
	maxHoliday    = 366 // days of one holiday
)

// Zone loads the time zone of an IANA name. "Local", which is the server's, is none.
func Zone(name string) (*time.Location, error) {
	if name == "" || name == "Local" {
		return nil, fmt.Errorf("%q is no time zone", name)
	}
	return time.LoadLocation(name)
}

// Check refuses what the specification cannot say, and makes absent lists empty ones.
func (d *Draft) Check() error {
	d.settle()
	if _, err := Zone(d.TimeZone); err != nil {
		return problem.InvalidField("/time_zone", "time_zone", "must be an IANA time zone such as Asia/Shanghai, is %q", d.TimeZone)
	}
	for i, s := range d.Shifts {
		if len(s.Days) == 0 {
			return problem.InvalidField(fmt.Sprintf("/shifts/%d/days", i), "minItems", "must name at least one day")
		}
		if err := s.check(fmt.Sprintf("/shifts/%d", i)); err != nil {
			return err
		}
	}
	seen := map[Date]bool{}
	for i, e := range d.Exceptions {
		at := fmt.Sprintf("/exceptions/%d", i)
		if err := e.Date.check(at + "/date"); err != nil {
			return err
		}
		if seen[e.Date] {
			return problem.InvalidField(at+"/date", "duplicate", "%s has an exception already; give all its hours in one", e.Date)
		}
		seen[e.Date] = true
		for j, h := range e.Hours {
			if err := h.check(fmt.Sprintf("%s/hours/%d", at, j)); err != nil {
				return err
			}
		}
	}
	for i, id := range d.HolidaySetIDs {
		if slices.Contains(d.HolidaySetIDs[:i], id) {
			return problem.InvalidField(fmt.Sprintf("/holiday_set_ids/%d", i), "duplicate", "is named twice")
		}
	}
	return d.bounded()
}

func (d *Draft) settle() {
	if d.Shifts == nil {
		d.Shifts = []Shift{}
	}
	if d.Exceptions == nil {
		d.Exceptions = []Exception{}
	}
	for i := range d.Exceptions {
		if d.Exceptions[i].Hours == nil {
			d.Exceptions[i].Hours = []Hours{}
		}
	}
	if d.HolidaySetIDs == nil {
		d.HolidaySetIDs = []string{}
	}
}

// bounded holds the limits for drafts that did not come through the specification.
func (d *Draft) bounded() error {
	for _, l := range []struct {
		pointer  string
		has, may int
	}{
		{"/shifts", len(d.Shifts), maxShifts}, {"/exceptions", len(d.Exceptions), maxExceptions}, {"/holiday_set_ids", len(d.HolidaySetIDs), maxSets},
	} {
		if l.has > l.may {
			return problem.InvalidField(l.pointer, "maxItems", "may have at most %d, has %d", l.may, l.has)
		}
	}
	for i, e := range d.Exceptions {
		if len(e.Hours) > maxHours {
			return problem.InvalidField(fmt.Sprintf("/exceptions/%d/hours", i), "maxItems", "may have at most %d, has %d", maxHours, len(e.Hours))
		}
	}
	return nil
}

func (h Hours) check(at string) error {
	if h.Start >= day {
		return problem.InvalidField(at+"/start", "range", "must be 00:00–23:59, is %s", h.Start)
	}
	return nil
}

// Check refuses what the specification cannot say, and makes absent lists empty ones.
func (d *HolidayDraft) Check() error {
	if d.DaysOff == nil {
		d.DaysOff = []DaysOff{}
	}
	if d.MakeUpDays == nil {
		d.MakeUpDays = []MakeUpDay{}
	}
	if len(d.DaysOff) > maxHolidays || len(d.MakeUpDays) > maxHolidays {
		return problem.InvalidField("/days_off", "maxItems", "a set may have at most %d holidays and as many make-up days; divide it by years", maxHolidays)
	}
	for i, h := range d.DaysOff {
		at := fmt.Sprintf("/days_off/%d", i)
		if err := h.From.check(at + "/from"); err != nil {
			return err
		}
		if err := h.To.check(at + "/to"); err != nil {
			return err
		}
		switch days := int(h.To.midnight().Sub(h.From.midnight())/(24*time.Hour)) + 1; {
		case days < 1:
			return problem.InvalidField(at+"/to", "range", "must not be before from (%s), is %s", h.From, h.To)
		case days > maxHoliday:
			return problem.InvalidField(at+"/to", "range", "a holiday may last at most %d days, not %d", maxHoliday, days)
		}
	}
	seen := map[Date]bool{}
	for i, m := range d.MakeUpDays {
		at := fmt.Sprintf("/make_up_days/%d/date", i)
		if err := m.Date.check(at); err != nil {
			return err
		}
		if seen[m.Date] {
			return problem.InvalidField(at, "duplicate", "%s is a make-up day already", m.Date)
		}
		seen[m.Date] = true
	}
	return nil
}

// Clock is a time of day in minutes since midnight, written HH:MM; 24:00 is the end of the day.
type Clock int

const day Clock = 24 * 60

// ParseClock reads HH:MM, 00:00–24:00.
func ParseClock(text string) (Clock, error) {
	if len(text) != 5 || text[2] != ':' {
		return 0, fmt.Errorf("must be a time of day such as 09:30, is %q", text)
	}
	hours, ok := twoDigits(text[:2])
	minutes, also := twoDigits(text[3:])
	c := Clock(hours*60 + minutes)
	if !ok || !also || minutes > 59 || c > day {
		return 0, fmt.Errorf("must be a time of day such as 09:30, 00:00–24:00, is %q", text)
	}
	return c, nil
}

func twoDigits(text string) (int, bool) {
	high, low := int(text[0])-'0', int(text[1])-'0'
	return high*10 + low, high >= 0 && high <= 9 && low >= 0 && low <= 9
}

// String writes HH:MM.
func (c Clock) String() string { return fmt.Sprintf("%02d:%02d", int(c)/60, int(c)%60) }

// MarshalText writes HH:MM.
func (c Clock) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads HH:MM.
func (c *Clock) UnmarshalText(text []byte) error {
	read, err := ParseClock(string(text))
	if err != nil {
		return problem.Invalid("a time of day " + err.Error())
	}
	*c = read
	return nil
}

// Date is a day of the calendar's zone, written YYYY-MM-DD.
type Date string

// dateOf is the day that a time falls on, on its own clock.
func dateOf(t time.Time) Date { return Date(t.Format(time.DateOnly)) }

// midnight is the date's 00:00 in UTC, for counting days; the zero time for what is no date.
func (d Date) midnight() time.Time {
	t, err := time.Parse(time.DateOnly, string(d))
	if err != nil {
		return time.Time{}
	}
	return t
}

func (d Date) check(pointer string) error {
	if t := d.midnight(); t.Year() < 1970 || t.Year() > 2200 || dateOf(t) != d {
		return problem.InvalidField(pointer, "date", "must be a date such as 2026-10-01, 1970 to 2200, is %q", string(d))
	}
	return nil
}

// Weekday is a day of the week: monday … sunday.
type Weekday time.Weekday

// String is the English name in small letters.
func (w Weekday) String() string { return strings.ToLower(time.Weekday(w).String()) }

// MarshalText writes the name.
func (w Weekday) MarshalText() ([]byte, error) { return []byte(w.String()), nil }

// UnmarshalText reads the name.
func (w *Weekday) UnmarshalText(text []byte) error {
	for d := time.Sunday; d <= time.Saturday; d++ {
		if Weekday(d).String() == string(text) {
			*w = Weekday(d)
			return nil
		}
	}
	return problem.Invalid(fmt.Sprintf("a day of the week must be one of monday to sunday, is %q", text))
}
