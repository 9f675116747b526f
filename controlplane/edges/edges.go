// Package edges is the control plane as edges see it: it implements control.Control by asking the resources, knows which
// edge lives and which holds which call, sends commands to them, and ends the records of calls whose edge is gone. What
// a number, a trunk or an extension is, and how a call's record is kept, is left to their packages.
package edges

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/hookswitch/hookswitch/controlplane/account"
	"github.com/hookswitch/hookswitch/controlplane/agent"
	"github.com/hookswitch/hookswitch/controlplane/app"
	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/blocklist"
	"github.com/hookswitch/hookswitch/controlplane/bus"
	"github.com/hookswitch/hookswitch/controlplane/call"
	"github.com/hookswitch/hookswitch/controlplane/credential"
	"github.com/hookswitch/hookswitch/controlplane/customer"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/journal"
	"github.com/hookswitch/hookswitch/controlplane/media"
	"github.com/hookswitch/hookswitch/controlplane/message"
	"github.com/hookswitch/hookswitch/controlplane/number"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/queue"
	"github.com/hookswitch/hookswitch/controlplane/recording"
	"github.com/hookswitch/hookswitch/controlplane/setting"
	"github.com/hookswitch/hookswitch/controlplane/survey"
	"github.com/hookswitch/hookswitch/controlplane/trunk"
	"github.com/hookswitch/hookswitch/controlplane/voicemail"
	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
)

// Service is the control plane's side of the seam. It is safe for concurrent use.
type Service struct {
	DB          *db.DB
	Bus         *bus.Bus
	Accounts    *account.Service
	Apps        *app.Service
	Numbers     *number.Service
	Trunks      *trunk.Service
	Credentials *credential.Service
	Calls       *call.Service
	Recordings  *recording.Service
	Files       *media.Service
	Queues      *queue.Service
	// Agents are whose extensions call and are called; nil is nobody's.
	Agents *agent.Service
	// Customers are who may be calling; nil is nobody known.
	Customers *customer.Service
	// Blocklist decides which numbers may call and be called, and Settings how those that may not are answered; nil is
	// no list, and every default.
	Blocklist *blocklist.Service
	Settings  *setting.Service
	Journals  *journal.Service
	// Voicemails, Surveys and Messages are what the verbs of these names need; edges that run none need none.
	Voicemails *voicemail.Service
	Surveys    *survey.Service
	Messages   *message.Service
	// MaskOf is what the person at an extension may not see; nil hides nothing.
	MaskOf func(ctx context.Context, account webhooks.AccountID, id webhooks.CredentialID) (auth.Mask, error)
	// Suspended reports whether an account is not served: its calls are refused, its numbers answer nobody. nil is none.
	Suspended func(ctx context.Context, id webhooks.AccountID) (bool, error)
	Log       *slog.Logger
	// DefaultAccount is the one whose domain an edge's own address, and any IP address, stands for; "" for none.
	DefaultAccount webhooks.AccountID
	// Now is the time of beats and sweeps; nil is db.Now.
	Now func() time.Time

	mu       sync.Mutex // guards what follows
	attached map[webhooks.EdgeID][]*attachment
	peer     *bus.Peer               // how other processes reach the edges of this one, and it theirs; nil while Run does not run
	handed   map[webhooks.EdgeID]int // calls handed to an edge since its last beat
	booted   map[string]time.Time    // by boot id, on the edge's clock; see earlier
	routed   map[webhooks.CallID]reservation
	running  time.Time // since when Run runs
}

var (
	_ control.Control = (*Service)(nil)
	_ call.Edges      = (*Service)(nil)
)

func (s *Service) now() time.Time {
	if s.Now == nil {
		return db.Now()
	}
	return s.Now()
}

// Act implements call.Edges.
func (s *Service) Act(ctx context.Context, id webhooks.EdgeID, a call.Action) error {
	err := s.send(ctx, id, forwarded{Action: &control.Action{
		ActionID: a.ID, AccountID: a.AccountID, CallID: a.CallID, IfMatch: a.IfMatch, Change: a.Change,
	}})
	refused, _ := errors.AsType[*control.Error](err)
	if refused == nil {
		return err
	}
	switch refused.Code {
	case control.CodeNotFound:
		return call.ErrGone
	case control.CodePrecondition:
		return call.ErrChanged
	case control.CodeBusy:
		return call.ErrBusy
	}
	return fmt.Errorf("%w: %s", call.ErrUnknown, refused.Message)
}

// Prepare implements call.Edges: the live edge with the fewest calls that takes new ones, whichever process it is connected
// to.
func (s *Service) Prepare(ctx context.Context, o call.Origination) (call.Prepared, error) {
	a, err := s.Accounts.Get(ctx, o.AccountID)
	if err != nil {
		return call.Prepared{}, err
	}
	switch suspended, err := s.suspended(ctx, o.AccountID); {
	case err != nil:
		return call.Prepared{}, err
	case suspended:
		return call.Prepared{}, account.ErrSuspended()
	}
	application, err := s.originated(ctx, o)
	if err != nil {
		return call.Prepared{}, err
	}
	command := control.Originate{
		CallID: o.CallID, AccountID: o.AccountID, Application: application, Target: o.Target, From: o.From, CallerName: o.CallerName,
		Timeout: o.Timeout, TimeLimit: o.TimeLimit, Headers: o.Headers, SendDigits: o.SendDigits, Record: o.Record, Data: o.Data,
		ExternalID: o.ExternalID, CustomerID: o.CustomerID, Language: a.Language(), StartedAt: o.StartedAt,
		MachineDetection: o.MachineDetection, StatusURL: o.StatusURL,
	}
	if o.Connect != nil {
		if err := s.connect(ctx, a, o, &command); err != nil {
			return call.Prepared{}, err
		}
	}
	known := call.Prepared{ApplicationID: application.ID, From: command.From, To: command.Target.Name()}
	if o.Behind {
		return known, fmt.Errorf("%w: %w", call.ErrRate, problem.TooMany("calls of this account wait to be started; wait as long as Retry-After says", time.Second))
	}
	if err := s.mayOriginate(ctx, a); err != nil {
		return known, err
	}
	found, err := s.pick(ctx)
	if err != nil {
		return call.Prepared{}, err
	}
	send := func(ctx context.Context) error {
		err := s.send(ctx, found.ID, forwarded{Originate: &command})
		if control.CodeOf(err) != "" {
			return fmt.Errorf("%w: %w", call.ErrBusy, err)
		}
		return err
	}
	known.EdgeID, known.BootID, known.Send = found.ID, found.BootID, send
	return known, nil
}

// mayOriginate counts the account's limits.
func (s *Service) mayOriginate(ctx context.Context, a *account.Account) error {
	full, err := s.full(ctx, a)
	switch {
	case err != nil:
		return err
	case full:
		return problem.TooMany(fmt.Sprintf("the account has %d calls at once, which is its limit; wait until one has ended", a.Limits.Calls), 5*time.Second)
	}
	perSecond := a.Limits.CallsPerSecond
	if perSecond <= 0 {
		return nil
	}
	t, err := s.Bus.Take(ctx, "originate:"+a.ID, perSecond, max(1, int(math.Ceil(perSecond))))
	if err != nil {
		// A bus that is away must not stop calls.
		s.Log.Warn("originate.rate_unknown", "account_id", a.ID, "error", err.Error())
		return nil
	}
	if !t.OK {
		return fmt.Errorf("%w: %w", call.ErrRate, problem.TooMany(fmt.Sprintf("the account may start %g calls a second; wait as long as Retry-After says", perSecond), max(t.Wait, time.Millisecond)))
	}
	return nil
}

// full reports whether the account has as many legs as it may.
func (s *Service) full(ctx context.Context, a *account.Account) (bool, error) {
	if a.Limits.Calls == 0 {
		return false, nil
	}
	n, err := s.Calls.LiveOf(ctx, webhooks.AccountID(a.ID))
	return n >= a.Limits.Calls, err
}

// originated is the application of a call that the API starts. One that names none is signed for by the account's
// oldest, if there is any.
func (s *Service) originated(ctx context.Context, o call.Origination) (control.Application, error) {
	if o.ApplicationID != "" {
		a, err := s.application(ctx, o.AccountID, o.ApplicationID)
		if err != nil && problem.From(err).Code == problem.CodeNotFound {
			return a, problem.RefusedField("/application_id", "unknown", "there is no %q in this account", o.ApplicationID)
		}
		return a, err
	}
	a := control.Application{Format: control.FormatNative, VoiceURL: o.URL, Program: o.Program, FallbackInstructions: o.Fallback}
	signer, found, err := s.Apps.Default(ctx, o.AccountID)
	if found {
		a.Secrets = signer.Secrets(s.now())
	}
	return a, err
}

// application is an application as an edge needs it.
func (s *Service) application(ctx context.Context, account webhooks.AccountID, id webhooks.ApplicationID) (control.Application, error) {
	a, err := s.Apps.Get(ctx, account, id)
	if err != nil {
		return control.Application{}, err
	}
	program, fallback, err := a.Programs()
	if err != nil {
		return control.Application{}, fmt.Errorf("application %s: %w", id, err)
	}
	return control.Application{
		ID: id, Format: a.Format, VoiceURL: a.VoiceURL, Method: a.Method, Program: program,
		FallbackURL: a.FallbackURL, FallbackInstructions: fallback, StatusURL: a.StatusURL, Secrets: a.Secrets(s.now()),
		ConnectTimeoutMS: a.ConnectTimeoutMS, BudgetMS: a.BudgetMS, Retries: &a.Retries, FallbackTimeoutMS: a.FallbackTimeoutMS,
	}, nil
}
