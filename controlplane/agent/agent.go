// Package agent owns the agents of an account, the users who take calls: the extension each is reached at, the superior
// each reports to, and the groups they are put into; and so whose a call is. Signing in is left to the users, what
// somebody may see of whom to roles, and giving calls to agents to the queues.
package agent

import (
	"strings"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/webhooks"
)

// Agent is a user who takes calls. Its owner is that user, its department the user's.
type Agent struct {
	bun.BaseModel `bun:"table:agents" json:"-"`
	db.Row
	db.Owned

	UserID string `bun:"user_id" json:"user_id"` // one agent per user; it stays
	Draft
	Presence Presence `bun:"presence" json:"presence"`
	Work     Work     `bun:"work" json:"work"`
}

// Draft is what a caller may write and change.
type Draft struct {
	// CredentialID is the extension that rings, which is no other agent's; empty for one who is not reached by phone.
	CredentialID string `bun:"credential_id,nullzero" json:"credential_id,omitempty"`
	// SuperiorID is the agent to whom this one reports; nobody reports to himself, however indirectly.
	SuperiorID string `bun:"superior_id,nullzero" json:"superior_id,omitempty"`
	// AutoAnswerDelay is after how many seconds of ringing the agent's phone answers by itself, 0–60; 0 is never.
	AutoAnswerDelay webhooks.Seconds `bun:"auto_answer_delay" json:"auto_answer_delay"`
}

const maxAutoAnswerDelay = 60

// Check refuses what no agent can be. That what it refers to exists is not known here.
func (d Draft) Check() error {
	if d.AutoAnswerDelay < 0 || d.AutoAnswerDelay > maxAutoAnswerDelay {
		return problem.InvalidField("/auto_answer_delay", "range", "must be 0–%d seconds, is %g", maxAutoAnswerDelay, float64(d.AutoAnswerDelay))
	}
	return nil
}

// Presence is what an agent, or a supervisor in the agent's place, has set.
type Presence string

// The presences. A new agent is Offline.
const (
	Offline   Presence = "offline"
	Available Presence = "available"
	Break     Presence = "break"
	Pending   Presence = "pending" // a break that begins after the call and its wrap-up
)

// Work is what an agent is doing, which nobody sets.
type Work string

// The kinds of work. A new agent is Idle.
const (
	Idle    Work = "idle"
	Offered Work = "offered" // the phone rings
	Busy    Work = "busy"
	WrapUp  Work = "acw" // after-call work
)

// Group is agents in an order, to be called in, supervised and counted together. An agent may be in several.
type Group struct {
	bun.BaseModel `bun:"table:agent_groups" json:"-"`
	db.Row
	GroupDraft
}

// GroupDraft is what a caller may write.
type GroupDraft struct {
	Name    string `bun:"name" json:"name"` // 1–100 characters, unique in the account
	Order   Order  `bun:"order" json:"order"`
	Note    string `bun:"note,nullzero" json:"note,omitempty"`
	Enabled bool   `bun:"enabled" json:"enabled"`
	// AgentIDs are the members in their order, at most MaxMembers, each once.
	AgentIDs []string `bun:"agent_ids,type:jsonb" json:"agent_ids"`
}

// Order is how the members of a group are tried.
type Order string

// The orders.
const (
	Sequential Order = "sequential"  // always from the first; the next when that one is busy
	RoundRobin Order = "round_robin" // from the one after the last who answered
	Random     Order = "random"
)

// MaxMembers is the most members of a group.
const MaxMembers = 1000

const (
	maxName = 100
	maxNote = 1000
)

// settle puts in what a caller may leave out, and refuses what no group can be. That the members exist is not known here.
func (d *GroupDraft) settle() error {
	if d.Order == "" {
		d.Order = Sequential
	}
	if d.AgentIDs == nil {
		d.AgentIDs = []string{}
	}
	switch {
	case strings.TrimSpace(d.Name) == "":
		return problem.InvalidField("/name", "required", "must not be empty")
	case len([]rune(d.Name)) > maxName:
		return problem.InvalidField("/name", "maxLength", "may have at most %d characters", maxName)
	case len([]rune(d.Note)) > maxNote:
		return problem.InvalidField("/note", "maxLength", "may have at most %d characters", maxNote)
	case d.Order != Sequential && d.Order != RoundRobin && d.Order != Random:
		return problem.InvalidField("/order", "enum", "must be sequential, round_robin or random, is %q", d.Order)
	case len(d.AgentIDs) > MaxMembers:
		return problem.InvalidField("/agent_ids", "maxItems", "may have at most %d members, has %d", MaxMembers, len(d.AgentIDs))
	}
	seen := map[string]bool{}
	for i, id := range d.AgentIDs {
		if seen[id] {
			return problem.InvalidField(pointerOf(i), "duplicate", "%s is in the list twice", id)
		}
		seen[id] = true
	}
	return nil
}
