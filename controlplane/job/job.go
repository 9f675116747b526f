// Package job owns long work: its rows, who runs which (claim, lease, fencing), how far it is, trying again, cancelling
// and the jobs operations of the REST API. What a kind of job does is left to the noun that handles it.
package job

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
)

// Job is one piece of long work.
type Job struct {
	bun.BaseModel `bun:"table:jobs" json:"-"`
	db.Row
	// The owner is the user who started it; jobs that a program started are seen by those who see the whole account.
	db.Owned

	Kind     string   `bun:"kind" json:"kind"` // "import.commit": which handler
	Status   Status   `bun:"status" json:"status"`
	Progress Progress `bun:"embed:progress_" json:"progress"`
	// Result is what the kind says of a job that succeeded, or of what a canceled one did before: counts and ids.
	Result map[string]any `bun:"result,type:jsonb,nullzero" json:"result,omitempty"`
	// Failure is a sentence for people, of a job that failed.
	Failure    string     `bun:"failure,nullzero" json:"failure,omitempty"`
	CreatedBy  string     `bun:"created_by" json:"created_by"` // user or key
	StartedAt  *time.Time `bun:"started_at" json:"started_at,omitempty"`
	FinishedAt *time.Time `bun:"finished_at" json:"finished_at,omitempty"`
	// ErrorsURL is where the errors file is read, for a job that has one.
	ErrorsURL string `bun:"-" json:"errors_url,omitempty"`

	ErrorsKey   string          `bun:"errors_key,nullzero" json:"-"`
	Input       json.RawMessage `bun:"input,type:jsonb" json:"-"`
	Caller      json.RawMessage `bun:"caller,type:jsonb" json:"-"`
	Checkpoint  json.RawMessage `bun:"checkpoint,type:jsonb,nullzero" json:"-"`
	Attempts    int64           `bun:"attempts" json:"-"`
	Failures    int64           `bun:"failures" json:"-"`
	Token       int64           `bun:"token" json:"-"`
	AvailableAt time.Time       `bun:"available_at" json:"-"`
	CancelAsked bool            `bun:"cancel_asked" json:"-"`
}

// Status is where a job stands. Queued ones wait for a worker, or for their next try.
type Status string

// The statuses. The last three are ends.
const (
	Queued    Status = "queued"
	Running   Status = "running"
	Succeeded Status = "succeeded"
	Failed    Status = "failed"
	Canceled  Status = "canceled"
)

// Ended reports whether a job will never run again.
func (s Status) Ended() bool { return s == Succeeded || s == Failed || s == Canceled }

// Progress is how far a job is, in units of its kind (rows, files). Total is 0 while unknown.
type Progress struct {
	Done  int64 `bun:"done" json:"done"`
	Total int64 `bun:"total" json:"total"`
}

// Why a run stops before its work is done. They are the cause of the context that the handler was given, and what
// InTx returns.
var (
	// ErrLost: another worker has claimed the job, or it was deleted. Nothing more can be written.
	ErrLost = errors.New("job: the claim was lost")
	// ErrCanceled: somebody has asked to cancel the job.
	ErrCanceled = errors.New("job: canceled")
)

// shown completes a job for an answer.
func shown(j Job) Job {
	if j.ErrorsKey != "" {
		j.ErrorsURL = "/v1/jobs/" + j.ID + "/errors"
	}
	return j
}

// rights are what is kept of the caller who started a job.
type rights struct {
	KeyID       string               `json:"key_id,omitempty"`
	UserID      string               `json:"user_id,omitempty"`
	SessionID   string               `json:"session_id,omitempty"`
	Permissions []string             `json:"permissions,omitempty"`
	Reach       map[string]auth.Rows `json:"reach"`
	Mask        auth.Mask            `json:"mask"`
}

func keep(who auth.Caller) (json.RawMessage, error) {
	return json.Marshal(rights{who.KeyID, who.UserID, who.SessionID, who.Permissions, who.Reach, who.Mask})
}

// caller is who started the job, with the rights of that moment, whose scope is the account.
func (j *Job) caller() (auth.Caller, error) {
	var r rights
	if err := json.Unmarshal(j.Caller, &r); err != nil {
		return auth.Caller{}, err
	}
	return auth.Caller{
		AccountID: j.AccountID, KeyID: r.KeyID, UserID: r.UserID, SessionID: r.SessionID, Permissions: r.Permissions,
		Scope: auth.Account(j.AccountID), Reach: r.Reach, Mask: r.Mask,
	}, nil
}
