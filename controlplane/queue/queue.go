// Package queue owns the queues of an account and the calls that wait in them: who is served next, that nobody is served
// twice, and what becomes of those whose edge is gone. What a caller hears while waiting, and connecting the two legs, is
// left to the edges; which agent is to take whom to those who will distribute the calls.
package queue

import (
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/app"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/webhooks"
)

// Queue is a place where calls wait.
type Queue struct {
	bun.BaseModel `bun:"table:queues" json:"-"`
	db.Row
	Draft
}

// Draft is what a caller may write and change.
type Draft struct {
	Name        string `bun:"name" json:"name"` // 1–64 characters, unique in the account
	Description string `bun:"description,nullzero" json:"description,omitempty"`
	// Enabled lets calls join. Those that wait already are served either way.
	Enabled bool `bun:"enabled" json:"enabled"`
	// MaxWaiting and MaxWait hold where the instruction says nothing else: how many may wait, and how long each. 0 is
	// without limit.
	MaxWaiting int              `bun:"max_waiting" json:"max_waiting"`
	MaxWait    webhooks.Seconds `bun:"max_wait" json:"max_wait"`
	// OfferTimeout is how long a caller who was offered to a leg may remain unconnected before others get the chance.
	OfferTimeout webhooks.Seconds `bun:"offer_timeout" json:"offer_timeout"`
	// Wait is a program that callers hear, and Screen one that the leg which takes a caller hears before; both where the
	// instruction brings none. They are kept as they were given.
	Wait   json.RawMessage `bun:"wait,type:jsonb,nullzero" json:"wait,omitempty"`
	Screen json.RawMessage `bun:"screen,type:jsonb,nullzero" json:"screen,omitempty"`
	// MusicID is what callers hear when there is no program; empty is the system's own.
	MusicID          webhooks.MediaID `bun:"music_id,nullzero" json:"music_id,omitempty"`
	AnnouncePosition bool             `bun:"announce_position" json:"announce_position"`
	// AnnounceInterval is the time from one announcement of the position to the next.
	AnnounceInterval webhooks.Seconds `bun:"announce_interval" json:"announce_interval"`
}

// Defaults are the values that the specification gives absent fields, for queues made in Go.
func Defaults() Draft {
	return Draft{Enabled: true, MaxWaiting: 1000, OfferTimeout: 30, AnnounceInterval: 60}
}

// Bounds of a queue. Durations are seconds.
const (
	maxName             = 64 // that of the verb enqueue
	maxDescription      = 1000
	maxMaxWaiting       = 100_000
	maxMaxWait          = 86_400
	minOfferTimeout     = 5
	maxOfferTimeout     = 300
	minAnnounceInterval = 10
	maxAnnounceInterval = 3600
	// maxPriority bounds the head start to 16 hours and 40 minutes.
	maxPriority = 1000
)

// idPrefix begins an id, and so no name: either is given where a queue is wanted.
const idPrefix = "que_"

// Check refuses what no queue can be. That its music exists is not known here.
func (d *Draft) Check() error {
	switch {
	case strings.TrimSpace(d.Name) == "":
		return problem.InvalidField("/name", "required", "must not be empty")
	case len([]rune(d.Name)) > maxName:
		return problem.InvalidField("/name", "maxLength", "may have at most %d characters", maxName)
	case strings.HasPrefix(d.Name, idPrefix):
		return problem.InvalidField("/name", "pattern", "must not begin with %s, as ids do", idPrefix)
	case len([]rune(d.Description)) > maxDescription:
		return problem.InvalidField("/description", "maxLength", "may have at most %d characters", maxDescription)
	}
	for _, n := range []struct {
		pointer         string
		value, low, top float64
		unit            string
	}{
		{"/max_waiting", float64(d.MaxWaiting), 0, maxMaxWaiting, "calls"},
		{"/max_wait", float64(d.MaxWait), 0, maxMaxWait, "seconds"},
		{"/offer_timeout", float64(d.OfferTimeout), minOfferTimeout, maxOfferTimeout, "seconds"},
		{"/announce_interval", float64(d.AnnounceInterval), minAnnounceInterval, maxAnnounceInterval, "seconds"},
	} {
		if !(n.value >= n.low && n.value <= n.top) { // so that NaN is none
			return problem.InvalidField(n.pointer, "range", "must be %g–%g %s, is %g", n.low, n.top, n.unit, n.value)
		}
	}
	_, _, err := d.programs()
	return err
}

// programs reads the stored programs, nil where there is none.
func (d *Draft) programs() (wait, screen *webhooks.Program, err error) {
	if wait, err = program("/wait", &d.Wait, webhooks.SubWait); err != nil {
		return nil, nil, err
	}
	screen, err = program("/screen", &d.Screen, webhooks.SubScreen)
	return wait, screen, err
}

// program reads a program that holds only what may stand in a sub-program of the kind. The text of null becomes nil.
func program(pointer string, text *json.RawMessage, kind webhooks.SubKind) (*webhooks.Program, error) {
	p, err := app.ParseProgram(pointer, *text)
	if err != nil {
		return nil, err
	}
	if p == nil {
		*text = nil
		return nil, nil
	}
	err = p.Fits(kind)
	if refused, ok := errors.AsType[*webhooks.ProgramError](err); ok {
		return nil, problem.InvalidField(pointer+refused.Pointer, "program", "%s", refused.Message)
	}
	return p, err
}

// Status is how far a call in a queue has come.
type Status string

// The statuses. A call is in the queue, and has a position, while it is Waiting or Offered.
const (
	Waiting   Status = "waiting"
	Offered   Status = "offered"   // a leg has claimed it, and is not connected yet
	Connected Status = "connected" // the two legs speak
	Left      Status = "left"
)

// inQueue and live are the statuses in SQL as they stand in the indexes' conditions, which SQLite takes literally.
const (
	inQueue = "?TableAlias.status IN ('waiting', 'offered')"
	live    = "?TableAlias.status IN ('waiting', 'offered', 'connected')"
)

// waiting is a call in a queue. Its JSON is what the journal of a change shows, in which no number is.
type waiting struct {
	bun.BaseModel `bun:"table:waiting_calls" json:"-"`
	db.Row

	QueueID webhooks.QueueID `bun:"queue_id" json:"queue_id"`
	CallID  webhooks.CallID  `bun:"call_id" json:"call_id"`
	Status  Status           `bun:"status" json:"status"`
	Owner   `json:"-"`
	Token   int64 `bun:"token" json:"-"` // raised by another edge's taking the call over

	Rank      int64      `bun:"rank" json:"-"` // see rankOf
	Priority  int        `bun:"priority" json:"priority"`
	Ahead     bool       `bun:"ahead" json:"ahead"`
	QueuedAt  time.Time  `bun:"queued_at" json:"queued_at"` // since when it waits, in this queue and those it was moved from
	JoinedAt  time.Time  `bun:"joined_at" json:"joined_at"` // this queue
	ExpiresAt *time.Time `bun:"expires_at" json:"expires_at,omitempty"`

	From     string         `bun:"from,nullzero" json:"-"`
	To       string         `bun:"to,nullzero" json:"-"`
	FromName string         `bun:"from_name,nullzero" json:"-"`
	Data     map[string]any `bun:"data,type:jsonb,nullzero" json:"-"`

	AssignedAgentID webhooks.AgentID `bun:"assigned_agent_id,nullzero" json:"assigned_agent_id,omitempty"`
	AssignedUntil   *time.Time       `bun:"assigned_until" json:"assigned_until,omitempty"`

	Claim       int64            `bun:"claim" json:"-"`
	TakenBy     webhooks.CallID  `bun:"taken_by_call_id,nullzero" json:"taken_by_call_id,omitempty"` // the leg
	TakenEdgeID webhooks.EdgeID  `bun:"taken_edge_id,nullzero" json:"-"`
	TakenBootID string           `bun:"taken_boot_id,nullzero" json:"-"`
	AgentID     webhooks.AgentID `bun:"agent_id,nullzero" json:"agent_id,omitempty"`
	TakenAt     *time.Time       `bun:"taken_at" json:"-"`
	OfferUntil  *time.Time       `bun:"offer_until" json:"-"`
	ConnectedAt *time.Time       `bun:"connected_at" json:"-"`
	LeftAt      *time.Time       `bun:"left_at" json:"-"`
	Reason      string           `bun:"reason,nullzero" json:"-"`
}

// Owner is the edge that carries a call, in one of its lives, and the epoch that it holds the call with: only who takes a
// call over raises that.
type Owner struct {
	EdgeID webhooks.EdgeID `bun:"edge_id"`
	BootID string          `bun:"boot_id"`
	Epoch  int64           `bun:"epoch"`
}

// The order of those who wait.
const (
	// perPriority is the waiting that one step of the priority is worth, in microseconds.
	perPriority = int64(time.Minute / time.Microsecond)
	// headStart is more than all waiting and all priority together, in microseconds: 35 years.
	headStart = int64(1) << 50
)

// rankOf is a waiting call's place in the order: the lowest is served first, and of equals the one with the lower id,
// which came first.
//
// Why a number that stands still: whoever has waited for t seconds scores t + 60 × priority, and every score grows by one
// a second; so the order of two never changes by itself, and can be indexed. An offer that nobody answered puts the
// caller ahead of everyone, those with a priority among them: it was next once, and has lost time since.
func rankOf(queuedAt time.Time, priority int, ahead bool) int64 {
	rank := queuedAt.UnixMicro() - int64(priority)*perPriority
	if ahead {
		rank -= headStart
	}
	return rank
}

func (w *waiting) sort() { w.Rank = rankOf(w.QueuedAt, w.Priority, w.Ahead) }

// waited is how long a call waited until now, or until it was connected or left.
func (w *waiting) waited(now time.Time) webhooks.Seconds {
	for _, until := range []*time.Time{w.ConnectedAt, w.LeftAt} {
		if until != nil {
			now = *until
			break
		}
	}
	return seconds(now.Sub(w.QueuedAt))
}

// seconds is a span in the contract, to the millisecond and never negative.
func seconds(d time.Duration) webhooks.Seconds {
	return webhooks.Seconds(max(0, d).Round(time.Millisecond).Seconds())
}

func span(s webhooks.Seconds) time.Duration { return time.Duration(float64(s) * float64(time.Second)) }
