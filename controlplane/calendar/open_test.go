package calendar

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

func compile(t testing.TB, text string, sets ...HolidaySet) *Schedule {
	t.Helper()
	var d Draft
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		t.Fatal(err)
	}
	for i := range sets {
		d.HolidaySetIDs = append(d.HolidaySetIDs, sets[i].ID)
		if err := sets[i].Check(); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Check(); err != nil {
		t.Fatal(err)
	}
	s, err := Compile(&d, sets)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const office = `{"name":"office","time_zone":"Asia/Shanghai","shifts":[
	{"days":["monday","tuesday","wednesday","thursday","friday"],"start":"09:00","end":"12:00"},
	{"days":["monday","tuesday","wednesday","thursday","friday"],"start":"13:30","end":"18:00"}]}`

// said is an answer in one line: open or closed, the rule with its date and name, the shift, and the next change.
func said(s *Schedule, local string) string {
	t, err := time.ParseInLocation("2006-01-02 15:04", local, s.zone)
	if err != nil {
		return err.Error()
	}
	return saidAt(s, t)
}

func saidAt(s *Schedule, t time.Time) string {
	open, r, until := s.Open(t)
	words := []string{map[bool]string{true: "open", false: "closed"}[open], string(r.Rule), string(r.Date), r.Name, r.WorkAs}
	if r.Start != "" {
		words = append(words, r.Start+"–"+r.End)
	}
	if !until.IsZero() {
		words = append(words, "until", until.In(s.zone).Format("2006-01-02 15:04"))
	}
	return strings.Join(strings.Fields(strings.Join(words, " ")), " ")
}

func chinese2026(t *testing.T) HolidaySet {
	t.Helper()
	for _, template := range Templates() {
		if template.Key == "cn-2026" {
			set := HolidaySet{HolidayDraft: template.HolidayDraft}
			set.ID = "hol_cn"
			return set
		}
	}
	t.Fatal("there is no template cn-2026")
	return HolidaySet{}
}

func TestWhichRuleDecides(t *testing.T) {
	s := compile(t, strings.TrimSuffix(office, "}")+`,"exceptions":[
		{"date":"2026-10-05","name":"on call","hours":[{"start":"10:00","end":"12:00"}]},
		{"date":"2026-11-23","name":"moving house","hours":[]},
		{"date":"2026-10-10","name":"inventory","hours":[]}]}`, chinese2026(t))
	for local, want := range map[string]string{
		"2026-11-20 08:59": "closed shift 2026-11-20 until 2026-11-20 09:00",
		"2026-11-20 09:00": "open shift 2026-11-20 09:00–12:00 until 2026-11-20 12:00",
		"2026-11-20 12:00": "closed shift 2026-11-20 until 2026-11-20 13:30",
		"2026-11-20 17:59": "open shift 2026-11-20 13:30–18:00 until 2026-11-20 18:00",
		// A closed exception is passed over on the way to Tuesday.
		"2026-11-20 18:00": "closed shift 2026-11-20 until 2026-11-24 09:00",
		"2026-11-21 10:00": "closed shift 2026-11-21 until 2026-11-24 09:00",
		"2026-11-23 10:00": "closed exception 2026-11-23 moving house until 2026-11-24 09:00",
		// National Day is a Thursday; Sunday the 20th of September is worked as a Tuesday.
		"2026-09-20 10:00": "open make_up_day 2026-09-20 国庆节 tuesday 09:00–12:00 until 2026-09-20 12:00",
		"2026-10-01 10:00": "closed holiday 2026-10-01 国庆节 until 2026-10-05 10:00",
		// An exception goes before a holiday, and before a make-up day.
		"2026-10-05 11:00": "open exception 2026-10-05 on call 10:00–12:00 until 2026-10-05 12:00",
		"2026-10-05 12:00": "closed exception 2026-10-05 on call until 2026-10-08 09:00",
		"2026-10-10 10:00": "closed exception 2026-10-10 inventory until 2026-10-12 09:00",
		// Nine days of Spring Festival, between two worked Saturdays.
		"2026-02-14 18:00": "closed make_up_day 2026-02-14 春节 friday until 2026-02-24 09:00",
		"2026-02-27 18:00": "closed shift 2026-02-27 until 2026-02-28 09:00",
	} {
		if got := said(s, local); got != want {
			t.Errorf("%s: %s; want %s", local, got, want)
		}
	}
}

func TestTheFirstHolidaySetThatNamesADayCounts(t *testing.T) {
	company := HolidaySet{HolidayDraft: HolidayDraft{Name: "company", MakeUpDays: []MakeUpDay{{Date: "2026-10-02", Name: "stocktaking", WorkAs: Weekday(time.Monday)}}}}
	company.ID = "hol_company"
	if got, want := said(compile(t, office, company, chinese2026(t)), "2026-10-02 10:00"), "open make_up_day 2026-10-02 stocktaking monday 09:00–12:00 until 2026-10-02 12:00"; got != want {
		t.Errorf("company first: %s; want %s", got, want)
	}
	if got, want := said(compile(t, office, chinese2026(t), company), "2026-10-02 10:00"), "closed holiday 2026-10-02 国庆节 until 2026-10-08 09:00"; got != want {
		t.Errorf("country first: %s; want %s", got, want)
	}
}

func TestShiftsCrossMidnight(t *testing.T) {
	s := compile(t, `{"name":"nights","time_zone":"Asia/Shanghai","shifts":[
		{"days":["monday","wednesday"],"start":"22:00","end":"06:00"},{"days":["tuesday"],"start":"06:00","end":"24:00"},{"days":["saturday"],"start":"08:00","end":"08:00"}],
		"exceptions":[{"date":"2026-11-26","name":"thanksgiving","hours":[]}]}`)
	for local, want := range map[string]string{
		"2026-11-23 21:59": "closed shift 2026-11-23 until 2026-11-23 22:00",
		// Monday's night and Tuesday's day touch: there is no change between.
		"2026-11-23 23:00": "open shift 2026-11-23 22:00–06:00 until 2026-11-25 00:00",
		"2026-11-24 05:59": "open shift 2026-11-23 22:00–06:00 until 2026-11-25 00:00",
		"2026-11-24 06:00": "open shift 2026-11-24 06:00–24:00 until 2026-11-25 00:00",
		"2026-11-25 00:00": "closed shift 2026-11-25 until 2026-11-25 22:00",
		// The night shift of the eve runs into the day off.
		"2026-11-26 05:00": "open shift 2026-11-25 22:00–06:00 until 2026-11-26 06:00",
		"2026-11-26 06:00": "closed exception 2026-11-26 thanksgiving until 2026-11-28 08:00",
		"2026-11-29 07:59": "open shift 2026-11-28 08:00–08:00 until 2026-11-29 08:00",
	} {
		if got := said(s, local); got != want {
			t.Errorf("%s: %s; want %s", local, got, want)
		}
	}
}

func TestSummerTimeBeginsAndEnds(t *testing.T) {
	every := `"days":["monday","tuesday","wednesday","thursday","friday","saturday","sunday"]`
	s := compile(t, `{"name":"x","time_zone":"America/New_York","shifts":[{`+every+`,"start":"01:30","end":"02:30"}]}`)
	for _, c := range []struct{ utc, want string }{
		// 8 March 2026: 02:00 EST is 03:00 EDT. The shift ends with the jump.
		{"2026-03-08T06:29:59Z", "closed shift 2026-03-08 until 2026-03-08 01:30"},
		{"2026-03-08T06:30:00Z", "open shift 2026-03-08 01:30–02:30 until 2026-03-08 03:00"},
		{"2026-03-08T07:00:00Z", "closed shift 2026-03-08 until 2026-03-09 01:30"},
		// 1 November 2026: 02:00 EDT is 01:00 EST. The shift begins at the first 01:30, and 02:30 comes once.
		{"2026-11-01T05:30:00Z", "open shift 2026-11-01 01:30–02:30 until 2026-11-01 02:30"},
		{"2026-11-01T06:15:00Z", "open shift 2026-11-01 01:30–02:30 until 2026-11-01 02:30"}, // 01:15 EST
		{"2026-11-01T07:30:00Z", "closed shift 2026-11-01 until 2026-11-02 01:30"},
	} {
		at, err := time.Parse(time.RFC3339, c.utc)
		if err != nil {
			t.Fatal(err)
		}
		if got := saidAt(s, at); got != c.want {
			t.Errorf("%s: %s; want %s", c.utc, got, c.want)
		}
	}
	swallowed := compile(t, `{"name":"x","time_zone":"America/New_York","shifts":[{"days":["sunday"],"start":"02:10","end":"02:50"}]}`)
	if got, want := said(swallowed, "2026-03-08 01:00"), "closed shift 2026-03-08 until 2026-03-15 02:10"; got != want {
		t.Errorf("a shift within the gap: %s; want %s", got, want)
	}
	// Samoa had no 30 December 2011.
	apia := compile(t, `{"name":"x","time_zone":"Pacific/Apia","shifts":[{"days":["friday","saturday"],"start":"09:00","end":"17:00"}]}`)
	if got, want := said(apia, "2011-12-29 12:00"), "closed shift 2011-12-29 until 2011-12-31 09:00"; got != want {
		t.Errorf("a day that never was: %s; want %s", got, want)
	}
}

func TestNoChangeWithinAYear(t *testing.T) {
	always := compile(t, `{"name":"x","time_zone":"UTC","shifts":[{"days":["monday","tuesday","wednesday","thursday","friday","saturday","sunday"],"start":"00:00","end":"24:00"}]}`)
	if got, want := said(always, "2026-11-21 12:00"), "open shift 2026-11-21 00:00–24:00"; got != want {
		t.Errorf("always: %s; want %s", got, want)
	}
	never := compile(t, `{"name":"x","time_zone":"UTC"}`)
	if got, want := said(never, "2026-11-21 12:00"), "closed shift 2026-11-21"; got != want {
		t.Errorf("never: %s; want %s", got, want)
	}
}

// walk says by brute force, minute by minute and with nothing but the wall clock, what is open: a shift is on from the
// first minute at which the clock shows its start or later until the last at which it shows less than its end.
func walk(s *Schedule, from time.Time, minutes int) []bool {
	walls := make([]string, minutes)
	for i := range walls {
		walls[i] = from.Add(time.Duration(i) * time.Minute).In(s.zone).Format("2006-01-02 15:04")
	}
	open := make([]bool, minutes)
	first := dateOf(from.In(s.zone)).midnight().AddDate(0, 0, -3)
	for d := first; d.Before(first.AddDate(0, 0, minutes/1440+7)); d = d.AddDate(0, 0, 1) {
		_, hours := s.rule(dateOf(d))
		for _, h := range hours {
			start := d.Add(time.Duration(h.Start) * time.Minute).Format("2006-01-02 15:04")
			length := (h.End - h.Start + day) % day
			if length == 0 {
				length = day
			}
			end := d.Add(time.Duration(h.Start+length) * time.Minute).Format("2006-01-02 15:04")
			begun, last := -1, -1
			for i, wall := range walls {
				if begun < 0 && wall >= start {
					begun = i
				}
				if wall < end {
					last = i
				}
			}
			for i := max(begun, 0); begun >= 0 && i <= last; i++ {
				open[i] = true
			}
		}
	}
	return open
}

// zones are such whose clocks do something unusual at the dates of moments: an ordinary change, a change at midnight, one
// that shows a new day for a minute and takes it back, half an hour, and a day left out.
var moments = []struct{ zone, utc string }{
	{"Asia/Shanghai", "2026-10-01T00:00:00Z"}, {"America/New_York", "2026-03-08T07:00:00Z"}, {"America/New_York", "2026-11-01T06:00:00Z"},
	{"Europe/Berlin", "2026-10-25T01:00:00Z"}, {"America/Sao_Paulo", "2018-11-04T03:00:00Z"}, {"America/Sao_Paulo", "2018-02-18T02:00:00Z"},
	{"America/St_Johns", "2005-10-30T02:31:00Z"}, {"America/St_Johns", "2005-04-03T03:31:00Z"}, {"Australia/Lord_Howe", "2026-04-04T15:00:00Z"},
	{"Australia/Lord_Howe", "2026-10-03T15:30:00Z"}, {"Pacific/Apia", "2011-12-30T10:00:00Z"}, {"Pacific/Kiritimati", "1994-12-31T10:00:00Z"},
	{"Asia/Kathmandu", "1985-12-31T18:30:00Z"}, {"Africa/Casablanca", "2026-02-15T02:00:00Z"},
}

// agree compares a schedule with the walk over two days on either side of a moment.
func agree(t *testing.T, d *Draft, around time.Time) {
	t.Helper()
	if err := d.Check(); err != nil {
		t.Fatal(err)
	}
	s, err := Compile(d, nil)
	if err != nil {
		t.Fatal(err)
	}
	const margin, minutes = 4 * 1440, 4 * 1440
	from := around.Truncate(time.Minute).Add(-minutes / 2 * time.Minute)
	truth := walk(s, from.Add(-margin*time.Minute), minutes+2*margin)[margin:]
	for i := 0; i < minutes; i += 7 {
		at := from.Add(time.Duration(i) * time.Minute)
		open, reason, until := s.Open(at)
		text, _ := json.Marshal(d)
		if open != truth[i] {
			t.Fatalf("%s (%s): open %t, want %t\n%s", at.Format(time.RFC3339), at.In(s.zone), open, truth[i], text)
		}
		if open != (reason.Start != "") {
			t.Fatalf("%s: open %t because of %+v\n%s", at.Format(time.RFC3339), open, reason, text)
		}
		change := i
		for change < len(truth) && truth[change] == open {
			change++
		}
		if want := from.Add(time.Duration(change) * time.Minute); change < minutes && !until.Equal(want) {
			t.Fatalf("%s: until %s, want %s\n%s", at.Format(time.RFC3339), until.Format(time.RFC3339), want.Format(time.RFC3339), text)
		}
	}
	for _, i := range s.Between(from, from.Add(minutes*time.Minute)) {
		for m := i.Start; m.Before(i.End); m = m.Add(time.Hour) {
			if !truth[int(m.Sub(from)/time.Minute)] {
				t.Fatalf("Between has %s–%s, but %s is closed", i.Start, i.End, m)
			}
		}
	}
}

func random(r *rand.Rand, zone string, around time.Time) *Draft {
	d := &Draft{Name: "x", TimeZone: zone}
	hours := func() Hours {
		return Hours{Start: Clock(r.IntN(96) * 15), End: Clock(r.IntN(97) * 15)}
	}
	for range 1 + r.IntN(4) {
		s := Shift{Hours: hours()}
		for w := range 7 {
			if r.IntN(2) == 0 {
				s.Days = append(s.Days, Weekday(w))
			}
		}
		if len(s.Days) > 0 {
			d.Shifts = append(d.Shifts, s)
		}
	}
	for i := range 3 {
		if r.IntN(3) == 0 {
			e := Exception{Date: dateOf(around.AddDate(0, 0, i-1))}
			for range r.IntN(3) {
				e.Hours = append(e.Hours, hours())
			}
			d.Exceptions = append(d.Exceptions, e)
		}
	}
	return d
}

func TestOpenIsWhatAWalkThroughTheMinutesFinds(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, m := range moments {
		around, err := time.Parse(time.RFC3339, m.utc)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 6 {
			t.Run(fmt.Sprintf("%s %s %d", m.zone, m.utc, i), func(t *testing.T) { agree(t, random(r, m.zone, around), around) })
		}
	}
}

func FuzzOpen(f *testing.F) {
	for i := range moments {
		f.Add(uint8(i), uint64(i), uint64(7))
	}
	f.Fuzz(func(t *testing.T, moment uint8, a, b uint64) {
		m := moments[int(moment)%len(moments)]
		around, err := time.Parse(time.RFC3339, m.utc)
		if err != nil {
			t.Fatal(err)
		}
		agree(t, random(rand.New(rand.NewPCG(a, b)), m.zone, around), around)
	})
}

func FuzzParseClock(f *testing.F) {
	for _, text := range []string{"09:00", "24:00", "24:01", "00:60", "9:00", "::::", "\xff1:00", "+1:00"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseClock(text)
		if err == nil && (c.String() != text || c < 0 || c > day) {
			t.Errorf("ParseClock(%q) = %d, which is %s", text, c, c)
		}
	})
}

func FuzzDraft(f *testing.F) {
	f.Add([]byte(office))
	f.Add([]byte(`{"time_zone":"UTC","exceptions":[{"date":"2026-02-30"}]}`))
	f.Add([]byte(`{"time_zone":"../etc/passwd","shifts":[{"days":["monday"],"start":"00:00","end":"00:00"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var d Draft
		if json.Unmarshal(text, &d) != nil || d.Check() != nil || len(d.HolidaySetIDs) > 0 {
			return
		}
		s, err := Compile(&d, nil)
		if err != nil {
			t.Fatal(err)
		}
		s.Open(time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC))
	})
}

func BenchmarkOpen(b *testing.B) {
	s := compile(b, office)
	at := time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)
	for b.Loop() {
		s.Open(at)
	}
}
