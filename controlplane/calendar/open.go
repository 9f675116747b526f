package calendar

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Rule says what decided whether a calendar is open.
type Rule string

// The rules. A holiday is always closed; the others are open within their hours.
const (
	RuleException Rule = "exception"
	RuleHoliday   Rule = "holiday"
	RuleMakeUp    Rule = "make_up_day"
	RuleShift     Rule = "shift"
)

// Reason is the rule that decided, and the day it decided about.
type Reason struct {
	Rule Rule `json:"rule"`
	// Date is the day whose shifts count: while a night shift runs, the day it began on.
	Date Date `json:"date"`
	// Name is that of the exception, the holiday or the make-up day: each can be routed differently.
	Name         string `json:"name,omitempty"`
	HolidaySetID string `json:"holiday_set_id,omitempty"`
	// WorkAs is the weekday whose shifts a make-up day is worked by.
	WorkAs string `json:"work_as,omitempty"`
	// Start and End are the hours that are on. Closed, there are none.
	Start string `json:"start,omitempty"`
	End   string `json:"end,omitempty"`
}

// Schedule is a calendar with its holiday sets, ready to be asked. It is safe for concurrent use.
type Schedule struct {
	zone       *time.Location
	shifts     [7][]Hours
	exceptions map[Date]Exception
	holidays   map[Date]holiday
}

// holiday is what the first holiday set that names a date says about it.
type holiday struct {
	off    bool
	name   string
	set    string
	workAs time.Weekday
}

// Compile prepares a calendar that was checked. sets are its holiday sets; those it does not name are passed over, and
// one that it names and that is not among them is an error.
func Compile(c *Draft, sets []HolidaySet) (*Schedule, error) {
	zone, err := Zone(c.TimeZone)
	if err != nil {
		return nil, fmt.Errorf("calendar: %w", err)
	}
	s := &Schedule{zone: zone, exceptions: make(map[Date]Exception, len(c.Exceptions)), holidays: map[Date]holiday{}}
	for _, shift := range c.Shifts {
		for _, d := range shift.Days {
			s.shifts[d] = append(s.shifts[d], shift.Hours)
		}
	}
	for _, e := range c.Exceptions {
		s.exceptions[e.Date] = e
	}
	for _, id := range c.HolidaySetIDs {
		at := slices.IndexFunc(sets, func(h HolidaySet) bool { return h.ID == id })
		if at < 0 {
			return nil, fmt.Errorf("calendar: holiday set %s is missing", id)
		}
		s.observe(&sets[at])
	}
	return s, nil
}

// observe adds a holiday set, which says nothing about days that one before it names.
func (s *Schedule) observe(set *HolidaySet) {
	add := func(d Date, h holiday) {
		if _, named := s.holidays[d]; !named {
			h.set = set.ID
			s.holidays[d] = h
		}
	}
	for _, m := range set.MakeUpDays {
		add(m.Date, holiday{name: m.Name, workAs: time.Weekday(m.WorkAs)})
	}
	for _, o := range set.DaysOff {
		last := o.To.midnight()
		for d := o.From.midnight(); !d.After(last); d = d.AddDate(0, 0, 1) {
			add(dateOf(d), holiday{off: true, name: o.Name})
		}
	}
}

// rule is what a date is worked by.
func (s *Schedule) rule(d Date) (Reason, []Hours) {
	if e, ok := s.exceptions[d]; ok {
		return Reason{Rule: RuleException, Date: d, Name: e.Name}, e.Hours
	}
	h, ok := s.holidays[d]
	switch {
	case !ok:
		return Reason{Rule: RuleShift, Date: d}, s.shifts[d.midnight().Weekday()]
	case h.off:
		return Reason{Rule: RuleHoliday, Date: d, Name: h.name, HolidaySetID: h.set}, nil
	}
	return Reason{Rule: RuleMakeUp, Date: d, Name: h.name, HolidaySetID: h.set, WorkAs: Weekday(h.workAs).String()}, s.shifts[h.workAs]
}

// Interval is a time of being open, from Start until before End, and what opened it.
type Interval struct {
	Start  time.Time
	End    time.Time
	Reason Reason
}

// on gives the intervals of the shifts that begin on a date, in order. Those that a change of the clock has swallowed are
// left out.
func (s *Schedule) on(d Date) []Interval {
	reason, all := s.rule(d)
	var found []Interval
	for _, h := range all {
		end := h.End
		if end <= h.Start {
			end += day
		}
		i := Interval{Start: s.begin(d, h.Start), End: s.end(d, end), Reason: reason}
		i.Reason.Start, i.Reason.End = h.Start.String(), h.End.String()
		if i.Start.Before(i.End) {
			found = append(found, i)
		}
	}
	slices.SortStableFunc(found, func(a, b Interval) int { return a.Start.Compare(b.Start) })
	return found
}

// begin is the first moment at which the zone's clock shows c of the date or later.
func (s *Schedule) begin(d Date, c Clock) time.Time {
	wall := d.midnight().Add(time.Duration(c) * time.Minute)
	for _, p := range s.periods(wall) {
		// What the clock would show c at, by this period's offset.
		switch at := wall.Add(-p.offset); {
		case at.Before(p.start):
			return p.start // the clock jumped over c
		case at.Before(p.end):
			return at
		}
	}
	return wall // no zone's clock is more than a day and a half from UTC
}

// end is the moment from which on the zone's clock shows c of the date or later for good.
func (s *Schedule) end(d Date, c Clock) time.Time {
	wall := d.midnight().Add(time.Duration(c) * time.Minute)
	periods := s.periods(wall)
	for _, p := range slices.Backward(periods) {
		switch at := wall.Add(-p.offset); {
		case !at.Before(p.end):
			return p.end // the clock jumped over c
		case !at.Before(p.start):
			return at
		}
	}
	return wall
}

// period is a time with one offset from UTC.
type period struct {
	start, end time.Time
	offset     time.Duration
}

// around is more than any clock's distance from UTC.
const around = 36 * time.Hour

// periods are those in which the zone's clock may show a wall time, which is written as if it were UTC.
func (s *Schedule) periods(wall time.Time) []period {
	var all []period
	from, to := wall.Add(-around), wall.Add(around)
	for at := from; at.Before(to); {
		local := at.In(s.zone)
		_, offset := local.Zone()
		_, end := local.ZoneBounds()
		if end.IsZero() || end.After(to) {
			end = to
		}
		all = append(all, period{start: at, end: end.UTC(), offset: time.Duration(offset) * time.Second})
		at = end.UTC()
	}
	return all
}

// horizon is how many days ahead the next change is looked for.
const horizon = 366

// before is how many days back a shift may have begun that is still on: it lasts at most a day, and a clock may be set
// back by up to another (the date line).
const before = 2

// Open reports whether the calendar is open at t, by which rule, and until when that stays so: the moment of the next
// opening or closing, or the zero time when there is none within 366 days.
//
// Shifts are gone through in the order in which they begin, which is that of their days and clock times: neither a gap
// nor an overlap of the clock can turn it round (see begin).
func (s *Schedule) Open(t time.Time) (open bool, reason Reason, until time.Time) {
	today := dateOf(t.In(s.zone)).midnight()
	var on Interval
	until = t // to where it is open without a break
	for ahead := -before; ahead <= horizon; ahead++ {
		date := today.AddDate(0, 0, ahead)
		if open && until.Before(s.begin(dateOf(date), 0)) {
			return true, on.Reason, until.UTC()
		}
		for _, i := range s.on(dateOf(date)) {
			switch {
			case !i.End.After(t):
			case !i.Start.After(t):
				// Of several that are on, the one that began last says why.
				if !open || i.Start.After(on.Start) {
					on = i
				}
				open, until = true, latest(until, i.End)
			case !open:
				return false, s.closed(t), i.Start.UTC()
			case !i.Start.After(until):
				until = latest(until, i.End)
			}
		}
	}
	if open {
		return true, on.Reason, time.Time{}
	}
	return false, s.closed(t), time.Time{}
}

// closed says why the calendar is closed at t: what the day at t is worked by.
func (s *Schedule) closed(t time.Time) Reason {
	reason, _ := s.rule(dateOf(t.In(s.zone)))
	return reason
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// Between gives what is open from one moment until before another, in order, cut off at both. Times of different rules
// stay apart, so that they may touch and overlap.
func (s *Schedule) Between(from, to time.Time) []Interval {
	found := []Interval{}
	last := dateOf(to.In(s.zone)).midnight().AddDate(0, 0, 1)
	for d := dateOf(from.In(s.zone)).midnight().AddDate(0, 0, -before); !d.After(last); d = d.AddDate(0, 0, 1) {
		for _, i := range s.on(dateOf(d)) {
			if i.Start.Before(from) {
				i.Start = from
			}
			if i.End.After(to) {
				i.End = to
			}
			if i.Start.Before(i.End) {
				i.Start, i.End = i.Start.UTC(), i.End.UTC()
				found = append(found, i)
			}
		}
	}
	slices.SortStableFunc(found, func(a, b Interval) int {
		return cmp.Or(a.Start.Compare(b.Start), a.End.Compare(b.End))
	})
	return found
}
