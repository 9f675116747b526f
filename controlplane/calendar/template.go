package calendar

import "time"

// Template is a ready holiday set.
type Template struct {
	Key    string `json:"key"`
	Source string `json:"source"` // who published the dates, and when
	HolidayDraft
}

// Templates are the holiday sets that can be taken over as they are.
//
// Why make-up days are worked as these weekdays: a notice of the State Council names the days that are worked, not whose
// plan they are worked by. Each has the plan of a day that was given free for it, in order.
func Templates() []Template {
	on := func(name string, date Date, as time.Weekday) MakeUpDay {
		return MakeUpDay{Name: name, Date: date, WorkAs: Weekday(as)}
	}
	return []Template{{
		Key:    "cn-2026",
		Source: "国务院办公厅关于2026年部分节假日安排的通知，2025年11月4日",
		HolidayDraft: HolidayDraft{
			Name: "中国 2026 年节假日",
			DaysOff: []DaysOff{
				{Name: "元旦", From: "2026-01-01", To: "2026-01-03"},
				{Name: "春节", From: "2026-02-15", To: "2026-02-23"},
				{Name: "清明节", From: "2026-04-04", To: "2026-04-06"},
				{Name: "劳动节", From: "2026-05-01", To: "2026-05-05"},
				{Name: "端午节", From: "2026-06-19", To: "2026-06-21"},
				{Name: "中秋节", From: "2026-09-25", To: "2026-09-27"},
				{Name: "国庆节", From: "2026-10-01", To: "2026-10-07"},
			},
			MakeUpDays: []MakeUpDay{
				on("元旦", "2026-01-04", time.Friday),
				on("春节", "2026-02-14", time.Friday), on("春节", "2026-02-28", time.Monday),
				on("劳动节", "2026-05-09", time.Tuesday),
				on("国庆节", "2026-09-20", time.Tuesday), on("国庆节", "2026-10-10", time.Wednesday),
			},
		},
	}}
}
