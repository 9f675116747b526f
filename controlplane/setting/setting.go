// Package setting owns what an account may decide about the system's behaviour: the registry of settings with their
// defaults, ranges and explanations, the values that accounts have given, and their history. Acting on a value is left to
// its reader, which asks the Service for it.
package setting

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/hookswitch/hookswitch/controlplane/problem"
)

// Key names a setting.
type Key string

// The settings. Each has a row in Registry and a function of Values.
const (
	SessionLifetime       Key = "session_lifetime"
	SessionIdle           Key = "session_idle"
	RecordingRetention    Key = "recording_retention_days"
	NotificationRetention Key = "notification_retention_days"
	NotificationLanguage  Key = "notification_language"
	BlocklistAnswer       Key = "blocklist_answer"
)

// Kind is the type of a setting's value.
type Kind string

// The kinds of value.
const (
	KindInteger Kind = "integer"
	KindBoolean Kind = "boolean"
	KindChoice  Kind = "choice"
)

// Setting is one row of the registry.
type Setting struct {
	Key     Key
	Kind    Kind
	Default any // int64, bool or string, as of Kind
	// Min and Max bound an integer, both included.
	Min, Max int64
	Unit     string // of an integer: "seconds", "days"
	Choices  []string
	// Chinese and English say in one or two sentences what it does.
	Chinese, English string
}

// Registry are all settings there are, in the order in which they are shown.
func Registry() []Setting {
	return []Setting{
		{
			Key: SessionLifetime, Kind: KindInteger, Default: int64(7 * 86400), Min: 900, Max: 30 * 86400, Unit: "seconds",
			Chinese: "登录后会话的最长时间，到期须重新登录；修改后对新的登录生效。",
			English: "How long a person stays signed in at most. A change holds for those who sign in after it.",
		},
		{
			Key: SessionIdle, Kind: KindInteger, Default: int64(12 * 3600), Min: 300, Max: 7 * 86400, Unit: "seconds",
			Chinese: "无操作多久之后自动退出登录（精确到一分钟）；修改后对已登录的会话也生效。",
			English: "After how long without a request, to a minute, a person is signed out. A change holds for those who are signed in too.",
		},
		{
			Key: RecordingRetention, Kind: KindInteger, Default: int64(0), Min: 0, Max: 3650, Unit: "days",
			Chinese: "录音保留的天数，超过后删除录音文件。0 表示永久保留；运营方为账户设定的保留天数更短时，以更短者为准。",
			English: "For how many days recordings are kept before their files are deleted. 0 keeps them for ever. Where the operator's retention_days of the account is shorter, that holds.",
		},
		{
			Key: NotificationRetention, Kind: KindInteger, Default: int64(90), Min: 1, Max: 3650, Unit: "days",
			Chinese: "通知发送记录保留的天数。", English: "For how many days the log of sent notifications is kept.",
		},
		{
			Key: NotificationLanguage, Kind: KindChoice, Default: "account", Choices: []string{"account", "zh-CN", "en"},
			Chinese: "通知使用的语言；account 表示跟随账户所在国家或地区。", English: "The language of notifications; account follows the account's country.",
		},
		{
			Key: BlocklistAnswer, Kind: KindChoice, Default: "decline", Choices: []string{"decline", "busy", "not_found", "unavailable"},
			Chinese: "黑名单来电得到的应答：decline 拒接（603），busy 忙（486），not_found 空号（404），unavailable 暂时无法接通（480）。",
			English: "How a blocked caller is answered: decline (603), busy (486), not_found (404) or unavailable (480).",
		},
	}
}

// Find gives the row of a key.
func Find(key Key) (Setting, bool) {
	all := Registry()
	at := slices.IndexFunc(all, func(s Setting) bool { return s.Key == key })
	if at < 0 {
		return Setting{}, false
	}
	return all[at], true
}

// Parse reads a value of the setting from JSON and checks its range: an int64, a bool or a string.
func (s Setting) Parse(text json.RawMessage) (any, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var value any
	if err := d.Decode(&value); err != nil {
		return nil, problem.InvalidField("/value", "type", "must be a JSON value")
	}
	return s.check(value)
}

func (s Setting) check(value any) (any, error) {
	switch s.Kind {
	case KindBoolean:
		if b, ok := value.(bool); ok {
			return b, nil
		}
		return nil, problem.InvalidField("/value", "type", "must be true or false")
	case KindChoice:
		if text, ok := value.(string); ok && slices.Contains(s.Choices, text) {
			return text, nil
		}
		return nil, problem.InvalidField("/value", "enum", "must be one of %s", strings.Join(s.Choices, ", "))
	}
	if n, ok := whole(value); ok && n >= s.Min && n <= s.Max {
		return n, nil
	}
	return nil, problem.InvalidField("/value", "range", "must be a whole number of %s, %d–%d", s.Unit, s.Min, s.Max)
}

// whole reads a number that has no fraction, in any of JSON's ways of writing it.
func whole(value any) (int64, bool) {
	number, ok := value.(json.Number)
	if !ok {
		return 0, false
	}
	if n, err := number.Int64(); err == nil {
		return n, true
	}
	f, err := number.Float64()
	if err != nil || f != math.Trunc(f) || math.Abs(f) > 1<<53 {
		return 0, false
	}
	return int64(f), true
}

// Values are the settings of one account as they are now. The zero value has every default.
type Values struct {
	own map[Key]any
}

// Get is a value as the registry has its type: the account's own, else the default. An unknown key is a fault of ours.
func (v Values) Get(key Key) any {
	if own, ok := v.own[key]; ok {
		return own
	}
	s, ok := Find(key)
	if !ok {
		panic(fmt.Sprintf("setting: there is no %q", key))
	}
	return s.Default
}

func (v Values) integer(key Key) int64 { return v.Get(key).(int64) }
func (v Values) choice(key Key) string { return v.Get(key).(string) }

func (v Values) days(key Key) time.Duration {
	return time.Duration(v.integer(key)) * 24 * time.Hour
}

// SessionLifetime is how long a session lasts at most.
func (v Values) SessionLifetime() time.Duration {
	return time.Duration(v.integer(SessionLifetime)) * time.Second
}

// SessionIdle is how long a session lasts without a request.
func (v Values) SessionIdle() time.Duration {
	return time.Duration(v.integer(SessionIdle)) * time.Second
}

// RecordingRetention is how long recordings are kept; 0 is for ever.
func (v Values) RecordingRetention() time.Duration { return v.days(RecordingRetention) }

// NotificationRetention is how long the log of notifications is kept.
func (v Values) NotificationRetention() time.Duration { return v.days(NotificationRetention) }

// NotificationLanguage is zh-CN or en; "" follows the account.
func (v Values) NotificationLanguage() string {
	if language := v.choice(NotificationLanguage); language != "account" {
		return language
	}
	return ""
}

// BlocklistAnswer is decline, busy, not_found or unavailable.
func (v Values) BlocklistAnswer() string { return v.choice(BlocklistAnswer) }
