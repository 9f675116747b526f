// Package notice owns telling people what happened: channels (a mail server, a webhook), rules that say which events are
// told to whom in which words, the digests that come of them, and the log of what was sent. Which events there are is
// left to package event, programs that want every event to package delivery.
package notice

import (
	"fmt"
	"net/mail"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/event"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest"
)

// Kind is how a channel reaches people.
type Kind string

// The kinds of channel.
const (
	Email   Kind = "email"
	Webhook Kind = "webhook"
)

// Channel is a way to reach people.
type Channel struct {
	bun.BaseModel `bun:"table:notification_channels" json:"-"`
	db.Row

	Name    string `bun:"name" json:"name"` // unique in the account
	Kind    Kind   `bun:"kind" json:"kind"`
	Enabled bool   `bun:"enabled" json:"enabled"`
	// SMTP is the mail server; nil for the installation's.
	SMTP *Server `bun:"smtp,type:jsonb,nullzero" json:"smtp,omitempty"`
	// Password is the mail server's.
	Password string `bun:"smtp_password,nullzero" json:"-"`
	URL      string `bun:"url,nullzero" json:"url,omitempty"`
	// Secret signs what is sent to URL (Standard Webhooks).
	Secret string `bun:"secret,nullzero" json:"secret,omitempty"`
}

// Security is how the connection to a mail server is protected.
type Security string

// The kinds of protection. Without any there is no signing in: the password would cross the network in the clear.
const (
	StartTLS Security = "starttls" // RFC 3207, and nothing is sent without it; usually port 587
	TLS      Security = "tls"      // from the first byte (RFC 8314 §3.3); usually port 465
	Clear    Security = "none"     // usually port 25
)

// Server is a mail server, and who writes by it.
type Server struct {
	Host        string   `json:"host"` // a name, or an IP address
	Port        int      `json:"port"`
	Security    Security `json:"security"`
	Username    string   `json:"username,omitempty"`
	FromAddress string   `json:"from_address"`
	FromName    string   `json:"from_name,omitempty"`
}

// written is what a caller writes of a channel.
type written struct {
	rest.Keys
	Name    string         `json:"name"`
	Kind    Kind           `json:"kind"`
	Enabled bool           `json:"enabled"`
	SMTP    *writtenServer `json:"smtp,omitempty"`
	URL     string         `json:"url,omitempty"`
}

type writtenServer struct {
	Server
	Password string `json:"password,omitempty"` // write-only; empty keeps the one there is
}

const (
	maxName       = 100
	maxRecipients = 20
	maxTypes      = 50
	maxSubject    = 200 // characters of a template
	maxLine       = 1000
)

// A host name (RFC 1123 §2.1).
var hostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*\.?$`)

// become makes the channel what is wanted, and checks it.
func (c *Channel) become(w written, installation bool) error {
	if c.Etag != "" && w.Kind != c.Kind {
		return problem.RefusedField("/kind", "immutable", "stays %s; add another channel", c.Kind)
	}
	if err := oneLine("/name", w.Name, maxName); err != nil {
		return err
	}
	c.Name, c.Kind, c.Enabled = w.Name, w.Kind, w.Enabled
	if w.Kind == Webhook {
		if w.SMTP != nil {
			return problem.InvalidField("/smtp", "conflict", "belongs to a channel of kind email")
		}
		c.URL = w.URL
		return checkURL(w.URL)
	}
	switch {
	case w.URL != "":
		return problem.InvalidField("/url", "conflict", "belongs to a channel of kind webhook")
	case w.SMTP == nil && !installation:
		return problem.RefusedField("/smtp", "required", "is needed: this installation has no mail server of its own")
	case w.SMTP == nil:
		c.SMTP, c.Password = nil, ""
		return nil
	}
	return c.use(*w.SMTP)
}

// use sets the mail server. A password that is kept must not go to another server than the one it was given for: whoever
// may change a channel could otherwise have it sent to their own.
func (c *Channel) use(w writtenServer) error {
	if err := w.check(); err != nil {
		return err
	}
	moved := c.SMTP == nil || !strings.EqualFold(c.SMTP.Host, w.Host) || c.SMTP.Port != w.Port || c.SMTP.Security != w.Security || c.SMTP.Username != w.Username
	password := w.Password
	if password == "" && !moved {
		password = c.Password
	}
	switch {
	case w.Username == "" && w.Password != "":
		return problem.InvalidField("/smtp/username", "required", "is missing beside the password")
	case w.Username != "" && password == "":
		return problem.InvalidField("/smtp/password", "required", "is needed with a username; after a change of server or username give it again")
	}
	server := w.Server
	c.SMTP, c.Password = &server, password
	return nil
}

func (s Server) check() error {
	_, err := netip.ParseAddr(s.Host)
	switch {
	case err != nil && (!hostName.MatchString(s.Host) || len(s.Host) > 253):
		return problem.InvalidField("/smtp/host", "format", "must be a host name such as smtp.example.com, or an IP address")
	case s.Port < 1 || s.Port > 65535:
		return problem.InvalidField("/smtp/port", "range", "must be 1–65535, is %d", s.Port)
	case s.Security != StartTLS && s.Security != TLS && s.Security != Clear:
		return problem.InvalidField("/smtp/security", "enum", "must be starttls, tls or none, is %q", s.Security)
	case s.Security == Clear && s.Username != "":
		return problem.InvalidField("/smtp/username", "conflict", "needs security starttls or tls: the password would cross the network in the clear")
	case strings.ContainsFunc(s.Username, isControl):
		return problem.InvalidField("/smtp/username", "control", "must not hold control characters")
	}
	if err := checkAddress("/smtp/from_address", s.FromAddress); err != nil {
		return err
	}
	if s.FromName == "" {
		return nil
	}
	return oneLine("/smtp/from_name", s.FromName, maxName)
}

func isControl(r rune) bool {
	return r < ' ' || (r >= 0x7f && r <= 0x9f) || r == '\u2028' || r == '\u2029'
}

// oneLine refuses what could begin another header of a mail, or a line that was not meant.
func oneLine(pointer, text string, most int) error {
	switch {
	case strings.TrimSpace(text) == "":
		return problem.InvalidField(pointer, "required", "must not be empty")
	case len([]rune(text)) > most:
		return problem.InvalidField(pointer, "maxLength", "may have at most %d characters", most)
	case strings.ContainsFunc(text, isControl):
		return problem.InvalidField(pointer, "control", "must be one line without control characters")
	}
	return nil
}

// checkAddress takes the address alone, in ASCII: no name beside it, no comment, no line break.
func checkAddress(pointer, text string) error {
	a, err := mail.ParseAddress(text)
	odd := func(r rune) bool { return r <= ' ' || r > '~' }
	if err != nil || a.Address != text || len(text) > 254 || strings.ContainsFunc(text, odd) {
		return problem.InvalidField(pointer, "email", "must be an e-mail address such as ops@example.com and nothing else")
	}
	return nil
}

// checkURL refuses what is no URL to be told. Which addresses may be reached is decided where they are dialled.
func checkURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case text == "":
		return problem.InvalidField("/url", "required", "is missing")
	case err != nil:
		return problem.InvalidField("/url", "url.malformed", "must be a URL such as https://example.com/alerts")
	case u.Scheme != "http" && u.Scheme != "https":
		return problem.InvalidField("/url", "url.scheme", "must begin with https:// or http://, is %q", u.Scheme)
	case u.Hostname() == "":
		return problem.InvalidField("/url", "url.host", "names no host")
	case u.User != nil:
		return problem.InvalidField("/url", "url.credentials", "must not carry a user name or password; requests are signed instead")
	}
	return nil
}

// Rule says which events are told to whom.
type Rule struct {
	bun.BaseModel `bun:"table:notification_rules" json:"-"`
	db.Row
	RuleDraft

	// Reader is what whoever last wrote the rule could see then: it tells of nothing else, and masks what was masked.
	Reader reader `bun:"reader,type:jsonb" json:"-"`
	// LastSentAt is when a digest was last begun to be sent.
	LastSentAt *time.Time `bun:"last_sent_at" json:"last_sent_at,omitempty"`
}

// RuleDraft is what a caller decides of a rule.
type RuleDraft struct {
	Name      string `bun:"name" json:"name"` // unique in the account
	Enabled   bool   `bun:"enabled" json:"enabled"`
	ChannelID string `bun:"channel_id" json:"channel_id"`
	// EventTypes are types of events, "call.*" for all that begin with "call.", or "*".
	EventTypes []string `bun:"event_types,type:jsonb" json:"event_types"`
	// Recipients are the addresses that a channel of kind email writes to.
	Recipients []string `bun:"recipients,type:jsonb" json:"recipients"`
	// Language is zh-CN or en; empty for that of the account's notifications.
	Language  string    `bun:"language,nullzero" json:"language,omitempty"`
	Templates Templates `bun:"templates,type:jsonb" json:"templates"`
	// DigestInterval is the least number of seconds between two messages. The first event is told at once, what happens
	// until then comes together in the next.
	DigestInterval int `bun:"digest_interval" json:"digest_interval"`
}

// Templates are the words of a rule in each language. What is empty is as in the defaults.
type Templates struct {
	Chinese Template `json:"zh,omitzero"`
	English Template `json:"en,omitzero"`
}

// Template has a subject, and a line for each event.
type Template struct {
	Subject string `json:"subject,omitempty"`
	Line    string `json:"line,omitempty"`
}

// reader is an auth.Caller as it is stored.
type reader struct {
	Permissions []string             `json:"permissions"`
	Reach       map[string]auth.Rows `json:"reach,omitempty"`
	Mask        auth.Mask            `json:"mask"`
}

func readerOf(who auth.Caller) reader {
	return reader{Permissions: who.Permissions, Reach: who.Reach, Mask: who.Mask}
}

func (r *Rule) sees() event.Reader {
	return event.ReaderOf(auth.Caller{
		AccountID: r.AccountID, Permissions: r.Reader.Permissions, Reach: r.Reader.Reach, Mask: r.Reader.Mask, Scope: auth.Account(r.AccountID),
	})
}

// Bounds of a digest's interval, in seconds.
const (
	minInterval = 60
	maxInterval = 86400
)

var eventType = regexp.MustCompile(`^(\*|[a-z][a-z_]*(\.[a-z][a-z_]*)*(\.\*)?)$`)

// check refuses what is no rule for a channel, and makes absent lists empty ones.
func (d *RuleDraft) check(c *Channel) error {
	if d.Recipients == nil {
		d.Recipients = []string{}
	}
	if err := oneLine("/name", d.Name, maxName); err != nil {
		return err
	}
	if len(d.EventTypes) == 0 || len(d.EventTypes) > maxTypes {
		return problem.InvalidField("/event_types", "count", "must be 1–%d types", maxTypes)
	}
	for i, t := range d.EventTypes {
		if !eventType.MatchString(t) || len(t) > maxName {
			return problem.InvalidField(fmt.Sprintf("/event_types/%d", i), "pattern", "must be a type such as job.failed, job.* or *, is %q", t)
		}
	}
	if d.Language != "" && d.Language != "zh-CN" && d.Language != "en" {
		return problem.InvalidField("/language", "enum", "must be zh-CN or en, is %q", d.Language)
	}
	if d.DigestInterval < minInterval || d.DigestInterval > maxInterval {
		return problem.InvalidField("/digest_interval", "range", "must be %d–%d seconds, is %d", minInterval, maxInterval, d.DigestInterval)
	}
	if err := d.checkRecipients(c.Kind); err != nil {
		return err
	}
	for pointer, t := range map[string]Template{"/templates/zh": d.Templates.Chinese, "/templates/en": d.Templates.English} {
		if err := t.check(pointer); err != nil {
			return err
		}
	}
	return nil
}

func (d *RuleDraft) checkRecipients(kind Kind) error {
	switch n := len(d.Recipients); {
	case kind == Webhook && n > 0:
		return problem.InvalidField("/recipients", "conflict", "belong to a channel of kind email; a webhook has its url")
	case kind == Email && (n == 0 || n > maxRecipients):
		return problem.InvalidField("/recipients", "count", "must be 1–%d addresses", maxRecipients)
	}
	for i, a := range d.Recipients {
		at := fmt.Sprintf("/recipients/%d", i)
		if err := checkAddress(at, a); err != nil {
			return err
		}
		if slices.Contains(d.Recipients[:i], a) {
			return problem.InvalidField(at, "duplicate", "is named twice")
		}
	}
	return nil
}

func (t Template) check(pointer string) error {
	for _, part := range []struct {
		name, text string
		most       int
	}{{"/subject", t.Subject, maxSubject}, {"/line", t.Line, maxLine}} {
		if part.text == "" {
			continue
		}
		if err := oneLine(pointer+part.name, part.text, part.most); err != nil {
			return err
		}
		if err := checkPlaceholders(pointer+part.name, part.text); err != nil {
			return err
		}
	}
	return nil
}

// Status is where a notification stands.
type Status string

// The statuses.
const (
	Pending  Status = "pending"  // events are still added
	Sending  Status = "sending"  // the first attempt
	Retrying Status = "retrying" // an attempt failed, and there will be another
	Sent     Status = "sent"     // to all of its recipients
	Failed   Status = "failed"   // given up, for at least one recipient
)

// Notification is a message that was sent, or is about to be.
type Notification struct {
	bun.BaseModel `bun:"table:notifications" json:"-"`
	db.Row

	RuleID      string `bun:"rule_id,nullzero" json:"rule_id,omitempty"` // empty for a test of the channel
	ChannelID   string `bun:"channel_id" json:"channel_id"`
	ChannelKind Kind   `bun:"channel_kind" json:"channel_kind"`
	Status      Status `bun:"status" json:"status"`
	// Events counts those it tells of; its text names the first of them.
	Events     int64       `bun:"events" json:"events"`
	Recipients []Recipient `bun:"recipients,type:jsonb" json:"recipients"`
	// Subject and Body are the text, from when it is sent on. They are not shown to whom anything is hidden.
	Subject  string     `bun:"subject" json:"subject,omitempty"`
	Body     string     `bun:"body" json:"body,omitempty"`
	Attempts int64      `bun:"attempts" json:"attempts"`
	Error    string     `bun:"error,nullzero" json:"error,omitempty"` // of the last attempt
	DueAt    time.Time  `bun:"due_at" json:"due_at"`                  // of the next attempt, or that it was sent for
	SentAt   *time.Time `bun:"sent_at" json:"sent_at,omitempty"`
}

// Recipient is one of those whom a notification goes to: an address, or the channel's URL.
type Recipient struct {
	Address string     `json:"address"`
	SentAt  *time.Time `json:"sent_at,omitempty"`
	Error   string     `json:"error,omitempty"` // why it has not been sent
	Refused bool       `json:"refused"`         // for good: it is not tried again
}

// open reports whether a recipient is still to be tried.
func (r Recipient) open() bool { return r.SentAt == nil && !r.Refused }

// told is an event that a notification tells of, as the rule's reader may see it.
type told struct {
	bun.BaseModel `bun:"table:notification_events" json:"-"`

	RuleID         string         `bun:"rule_id,pk" json:"-"`
	EventID        string         `bun:"event_id,pk" json:"id"`
	NotificationID string         `bun:"notification_id" json:"-"`
	AccountID      string         `bun:"account_id" json:"-"`
	Type           string         `bun:"type" json:"type"`
	ObjectID       string         `bun:"object_id" json:"object_id,omitempty"`
	OccurredAt     time.Time      `bun:"occurred_at" json:"occurred_at"`
	Data           map[string]any `bun:"data,type:jsonb" json:"data"`
}
