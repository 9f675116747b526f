package job

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/blob"
	"github.com/hookswitch/hookswitch/controlplane/bus"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/event"
	"github.com/hookswitch/hookswitch/controlplane/list"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest"
)

// Service is the operations on jobs, and the worker that runs them. DB, Bus, Blobs and Log are needed; Handle is called
// before Run.
type Service struct {
	DB    *db.DB
	Bus   *bus.Bus
	Blobs *blob.Store
	Log   *slog.Logger
	// Callers gives the rights that a caller has now; an error that is a Problem ends the job as failed. nil takes the
	// rights of the moment when the job was started.
	Callers func(ctx context.Context, who auth.Caller) (auth.Caller, error)
	// Parallel bounds the jobs that run at once in this process, and PerAccount those of one account in the installation;
	// the latter may be passed for a moment by processes that claim at the same instant. Zero means 4 and 2.
	Parallel   int
	PerAccount int
	// Lease is how long a worker that says nothing keeps its job: what a killed process delays its jobs by. Zero means
	// 15 s. It says something three times as often.
	Lease time.Duration
	// Poll is how often the worker looks by itself, should no wake-up come. Zero means 1 s.
	Poll time.Duration
	// Keep is how long ended jobs are kept. Zero means 30 days.
	Keep time.Duration
	// MaxFailures is after how many failed runs without a checkpoint between them a job has failed, and Backoff what the
	// second of them waits, each further one twice as long, up to 10 minutes. Zero means 8 and 5 s.
	MaxFailures int64
	Backoff     time.Duration

	handlers map[string]handler
}

// handler is what a kind does.
type handler struct {
	run   func(ctx context.Context, run *Run) error
	ended func(ctx context.Context, tx *db.Tx, j *Job) error
}

// Handle gives a kind its function. It is called until it returns nil; what it has written through Run.InTx in earlier
// calls, it finds in Run.Checkpoint. An error that is a Problem (other than Unavailable, TooMany and Internal) ends the
// job as failed with the problem's sentence; after any other it is called again, later each time. The context ends when
// the job is canceled, when its claim is lost, and when the process stops: return soon.
func (s *Service) Handle(kind string, fn func(ctx context.Context, run *Run) error) {
	s.change(kind, func(h *handler) { h.run = fn })
}

// Ended gives a kind a function that is called in the transaction in which one of its jobs ends, whichever way: so that
// what the job worked for can follow. Its error keeps the job from ending; it is tried again.
func (s *Service) Ended(kind string, fn func(ctx context.Context, tx *db.Tx, j *Job) error) {
	s.change(kind, func(h *handler) { h.ended = fn })
}

func (s *Service) change(kind string, fn func(*handler)) {
	if s.handlers == nil {
		s.handlers = map[string]handler{}
	}
	h := s.handlers[kind]
	fn(&h)
	s.handlers[kind] = h
}

func or[T comparable](value, otherwise T) T {
	var zero T
	if value == zero {
		return otherwise
	}
	return value
}

func (s *Service) lease() time.Duration { return or(s.Lease, 15*time.Second) }

// Start queues a job in the transaction of what it is for. input is what Run.Input reads, and must marshal to a JSON
// object. Call Wake after the commit, else the job waits for the next poll.
func (s *Service) Start(ctx context.Context, tx *db.Tx, who auth.Caller, kind string, input any) (*Job, error) {
	if s.handlers[kind].run == nil {
		return nil, fmt.Errorf("start job: nothing handles the kind %q", kind)
	}
	if who.AccountID == "" {
		return nil, problem.Forbidden("to start a job in an account")
	}
	text, err := json.Marshal(input)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", kind, err)
	}
	caller, err := keep(who)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", kind, err)
	}
	j := &Job{
		Row: db.Row{ID: db.NewID("job")}, Kind: kind, Status: Queued, CreatedBy: who.ActorID(), Owned: db.Owned{OwnerID: who.UserID},
		Input: text, Caller: caller, AvailableAt: db.Now(),
	}
	if err := db.Insert(ctx, tx, auth.Account(who.AccountID), j); err != nil {
		return nil, err
	}
	return j, s.tell(ctx, tx, *j)
}

// Wake makes the workers look for queued jobs now. A bus that is away only delays that.
func (s *Service) Wake(ctx context.Context) {
	if err := s.Bus.Publish(ctx, topic, nil); err != nil {
		s.Log.Debug("job.wake_lost", "error", err.Error())
	}
}

// tell emits job.updated.
func (s *Service) tell(ctx context.Context, tx *db.Tx, j Job) error {
	data, err := json.Marshal(shown(j))
	if err != nil {
		return fmt.Errorf("event of %s: %w", j.ID, err)
	}
	return event.Emit(ctx, tx, event.Event{
		AccountID: j.AccountID, Type: "job.updated", Resource: "jobs", ObjectID: j.ID, OwnerID: j.OwnerID, DepartmentID: j.DepartmentID, Data: data,
	})
}

// Operations are the functions of the specification's operations.
func (s *Service) Operations() map[string]rest.Operation {
	return map[string]rest.Operation{
		"listJobs":     rest.Op(s.list),
		"searchJobs":   rest.Op(s.search),
		"getJob":       rest.Op(s.get),
		"cancelJob":    rest.Op(s.cancel),
		"getJobErrors": rest.Op(s.errors),
	}
}

func table() list.Table {
	return list.Table{Fields: list.Common(map[string]list.Field{"kind": {}, "status": {}, "created_by": {}})}
}

func (s *Service) list(ctx context.Context, who auth.Caller, in rest.ListIn) (list.Page[Job], error) {
	q, err := table().Parse(in.Query)
	if err != nil {
		return list.Page[Job]{}, err
	}
	page, err := list.Run[Job](ctx, s.DB, who.Scope, q)
	return list.Map(page, shown), err
}

func (s *Service) search(ctx context.Context, who auth.Caller, in rest.SearchIn) (list.Page[Job], error) {
	q, err := table().ParseSearch(in.Body)
	if err != nil {
		return list.Page[Job]{}, err
	}
	page, err := list.Run[Job](ctx, s.DB, who.Scope, q)
	return list.Map(page, shown), err
}

func (s *Service) get(ctx context.Context, who auth.Caller, in rest.ByID) (Job, error) {
	j, err := db.Get[Job](ctx, s.DB, who.Scope, in.ID)
	if err != nil {
		return Job{}, err
	}
	return shown(*j), nil
}

// cancel ends a queued job at once; of a running one it asks the worker to.
func (s *Service) cancel(ctx context.Context, who auth.Caller, in rest.ByID) (Job, error) {
	var canceled Job
	err := s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		j, err := lock(ctx, tx, who.Scope, in.ID)
		if err != nil {
			return err
		}
		if j.Status.Ended() {
			return problem.Conflict("this job has ended already", problem.Field("/status", "ended", "is %s", j.Status))
		}
		j.CancelAsked = true
		if j.Status == Queued {
			j.Status = Canceled
			err = s.end(ctx, tx, j)
		} else {
			err = s.write(ctx, tx, j)
		}
		canceled = *j
		return err
	})
	if err != nil {
		return Job{}, err
	}
	if err := s.Bus.Publish(ctx, topic, []byte(canceled.ID)); err != nil {
		s.Log.Debug("job.wake_lost", "error", err.Error())
	}
	return shown(canceled), nil
}

type errorsIn struct {
	rest.ByID
	As string `query:"as"`
}

// SignedURL is the answer to ?as=json.
type SignedURL struct {
	URL       string    `json:"url"`
	ExpiresAt time.Time `json:"expires_at"`
}

// urlLife is how long the URL of an errors file works.
const urlLife = 5 * time.Minute

func (s *Service) errors(ctx context.Context, who auth.Caller, in errorsIn) (rest.Answer, error) {
	j, err := db.Get[Job](ctx, s.DB, who.Scope, in.ID)
	if err != nil {
		return rest.Answer{}, err
	}
	if j.ErrorsKey == "" {
		return rest.Answer{}, problem.NotFound("this job has no errors file")
	}
	// The file tells what its maker saw.
	if who.Mask != (auth.Mask{}) && who.ActorID() != j.CreatedBy {
		return rest.Answer{}, problem.Forbidden("to see numbers")
	}
	expires := db.Now().Add(urlLife)
	link, err := s.Blobs.SignedGet(ctx, j.ErrorsKey, urlLife, blob.Download{ContentType: "text/csv; charset=utf-8", FileName: j.ID + "-errors.csv"})
	switch {
	case err != nil:
		return rest.Answer{}, err
	case in.As == "json":
		return rest.Answer{Status: http.StatusOK, Body: SignedURL{URL: link, ExpiresAt: expires}}, nil
	}
	return rest.Redirect(link), nil
}
