package controlplane

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/hookswitch/hookswitch/controlplane/account"
	"github.com/hookswitch/hookswitch/controlplane/agent"
	"github.com/hookswitch/hookswitch/controlplane/app"
	"github.com/hookswitch/hookswitch/controlplane/audit"
	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/blocklist"
	"github.com/hookswitch/hookswitch/controlplane/calendar"
	"github.com/hookswitch/hookswitch/controlplane/call"
	"github.com/hookswitch/hookswitch/controlplane/conference"
	"github.com/hookswitch/hookswitch/controlplane/credential"
	"github.com/hookswitch/hookswitch/controlplane/customer"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/delivery"
	"github.com/hookswitch/hookswitch/controlplane/department"
	"github.com/hookswitch/hookswitch/controlplane/dictionary"
	"github.com/hookswitch/hookswitch/controlplane/edges"
	"github.com/hookswitch/hookswitch/controlplane/endpoint"
	"github.com/hookswitch/hookswitch/controlplane/event"
	"github.com/hookswitch/hookswitch/controlplane/job"
	"github.com/hookswitch/hookswitch/controlplane/journal"
	"github.com/hookswitch/hookswitch/controlplane/live"
	"github.com/hookswitch/hookswitch/controlplane/media"
	"github.com/hookswitch/hookswitch/controlplane/message"
	"github.com/hookswitch/hookswitch/controlplane/notice"
	"github.com/hookswitch/hookswitch/controlplane/number"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/queue"
	"github.com/hookswitch/hookswitch/controlplane/recording"
	"github.com/hookswitch/hookswitch/controlplane/rest"
	"github.com/hookswitch/hookswitch/controlplane/role"
	"github.com/hookswitch/hookswitch/controlplane/setting"
	"github.com/hookswitch/hookswitch/controlplane/survey"
	"github.com/hookswitch/hookswitch/controlplane/transfer"
	"github.com/hookswitch/hookswitch/controlplane/trunk"
	"github.com/hookswitch/hookswitch/controlplane/user"
	"github.com/hookswitch/hookswitch/controlplane/voicemail"
	"github.com/hookswitch/hookswitch/openapi"
	"github.com/hookswitch/hookswitch/webhooks"
	"github.com/hookswitch/hookswitch/webhooks/guard"
)

// wire makes the resources and the handler of the REST API, and the workers that run beside it.
func (p *ControlPlane) wire(ctx context.Context) error {
	spec, err := openapi.Load()
	if err != nil {
		return err
	}
	secret, err := secretNamed(ctx, p.db, "tokens")
	if err != nil {
		return err
	}
	masks := event.NewMasks(spec.View.Components.Schemas)
	feed := event.NewFeed(p.db, p.bus, p.cfg.Logger)
	settings := &setting.Service{DB: p.db}

	roles := p.people(spec, secret)
	departments, agents := &department.Service{DB: p.db, HasUser: p.users.HasUser}, &agent.Service{DB: p.db}
	roles.Reports, p.accounts.Agents, p.users.Moved = agents.Reports, agents.Count, agents.Moved
	p.users.Uses = []db.Use{{Table: "agents", Column: "user_id", Name: "agent"}}
	if err := roles.Install(ctx); err != nil {
		return err
	}

	p.apps = &app.Service{DB: p.db}
	p.numbers = &number.Service{DB: p.db, Accounts: p.accounts}
	p.credentials = &credential.Service{DB: p.db, Numbers: p.numbers}
	trunks := &trunk.Service{DB: p.db, Numbers: p.numbers}
	files := &media.Service{DB: p.db, Blobs: p.blobs, CheckAudio: p.cfg.CheckAudio}
	customers := &customer.Service{DB: p.db}
	calls := &call.Service{DB: p.db, Customers: customers, Wake: feed.Wake, OwnerOf: agents.OwnerOf, DepartmentOf: agents.DepartmentOf}
	recordings := &recording.Service{DB: p.db, Blobs: p.blobs, Calls: calls}
	journals := &journal.Service{DB: p.db, Blobs: p.blobs, Calls: calls}
	conferences, surveys := &conference.Service{DB: p.db, Calls: calls}, &survey.Service{DB: p.db}
	voicemails := &voicemail.Service{DB: p.db, URL: recordings.URL, Erase: recordings.Delete, Wake: feed.Wake}
	calls.Also = append(calls.Also, recordings.Apply, conferences.Apply, voicemails.Apply, surveys.Apply)
	calls.Release = func(ctx context.Context, tx *db.Tx, account webhooks.AccountID, ids []webhooks.CallID) ([]webhooks.CallID, error) {
		stay, err := recordings.Release(ctx, tx, account, ids)
		if err != nil {
			return nil, err
		}
		gone := slices.DeleteFunc(slices.Clone(ids), func(id webhooks.CallID) bool { return slices.Contains(stay, id) })
		return stay, journals.Release(ctx, tx, account, gone)
	}
	p.heed(settings, recordings)
	blocked := &blocklist.Service{DB: p.db, Accounts: p.accounts, Log: p.cfg.Logger}
	queues := &queue.Service{DB: p.db, Calls: calls, Bus: p.bus, Log: p.cfg.Logger, Wake: feed.Wake}
	messages := &message.Service{
		DB: p.db, Bus: p.bus, Guard: p.guard(), RootCAs: p.cfg.RootCAs, Log: p.cfg.Logger,
		Status: webhooks.NewClient(webhooks.ClientConfig{Guard: p.guard()}), Apps: p.apps,
	}
	p.edges = &edges.Service{
		DB: p.db, Bus: p.bus, Accounts: p.accounts, Apps: p.apps, Numbers: p.numbers, Trunks: trunks, Credentials: p.credentials,
		Calls: calls, Agents: agents, Customers: customers, Recordings: recordings, Files: files, Blocklist: blocked, Settings: settings, Journals: journals,
		Queues: queues, Voicemails: voicemails, Surveys: surveys, Messages: messages,
		Suspended: p.suspended, Log: p.cfg.Logger,
	}
	calls.Edges = p.edges
	p.edges.MaskOf = func(ctx context.Context, account webhooks.AccountID, id webhooks.CredentialID) (auth.Mask, error) {
		user, found, err := agents.UserOf(ctx, string(account), string(id))
		if err != nil || !found {
			return auth.Mask{}, err
		}
		who, err := p.users.Check(ctx, auth.Caller{AccountID: string(account), UserID: user})
		if _, refused := errors.AsType[*problem.Problem](err); refused {
			return auth.Mask{Numbers: true}, nil // disabled: the phone rings on, and shows nobody's number
		}
		return who.Mask, err
	}
	if err := p.findDefault(ctx); err != nil {
		return err
	}

	audited, err := audit.New(p.db, spec.View)
	if err != nil {
		return err
	}
	endpoints := &endpoint.Service{DB: p.db, Masks: masks, Wake: feed.Tell, Plain: p.cfg.AllowNetworks}
	notices := &notice.Service{
		DB: p.db, Bus: p.bus, Accounts: p.accounts, Settings: settings, Masks: masks, Guard: p.guard(), Mail: p.cfg.Mail, Log: p.cfg.Logger,
	}
	feed.Also = append(feed.Also, notices.Placed)
	p.workers = append(p.workers, p.regularly(250*time.Millisecond, "calls.dispatch", calls.Dispatch), p.regularly(5*time.Second, "journals.seal", journals.Seal), worker{"messages", messages.Run}, worker{"queues", queues.Run})
	streams, err := live.New(live.Config{Feed: feed, Masks: masks, Check: p.users.Check, Log: p.cfg.Logger})
	if err != nil {
		return err
	}
	p.onStop = append(p.onStop, streams.End)
	p.gauges = append(p.gauges, Gauge{"event_streams_active", "Event streams that are open.", "", func(context.Context) (map[string]float64, error) {
		return map[string]float64{"": float64(streams.Readers())}, nil
	}})
	jobs := &job.Service{DB: p.db, Bus: p.bus, Blobs: p.blobs, Log: p.cfg.Logger, Callers: p.callerOfJob}
	transfers := transfer.New(p.db, p.blobs, jobs)

	operations := map[string]rest.Operation{}
	for _, noun := range []interface {
		Operations() map[string]rest.Operation
	}{
		p.accounts, p.users, roles, departments, agents, p.apps, p.numbers, p.credentials, trunks, files, customers, calls, recordings, journals, conferences, queues,
		voicemails, surveys, &calendar.Service{DB: p.db}, &dictionary.Service{DB: p.db}, settings, blocked, notices, messages, audited,
		&event.Service{DB: p.db, Masks: masks}, endpoints, streams, jobs, transfers,
	} {
		maps.Copy(operations, noun.Operations())
	}
	if transfers.Direct, err = rest.NewDirect(spec, operations); err != nil {
		return err
	}
	direct := func() *rest.Direct { return transfers.Direct }
	transfers.Register(
		transfer.Numbers(direct, p.numbers.Resource()), transfer.Credentials(direct, p.credentials.Resource()),
		transfer.BlocklistEntries(direct, blocked.Resource()), transfer.Customers(direct, customers.Resource()),
	)
	api, err := rest.Mount(rest.Config{
		DB: p.db, Bus: p.bus, Log: p.cfg.Logger, Authenticate: p.users.Authenticate, RatePerSecond: p.cfg.RatePerSecond, Observe: p.observe,
	}, spec, operations)
	if err != nil {
		return err
	}
	p.handler = p.routes(api, spec)
	p.hourly(map[string]func(context.Context) error{
		"events.purge": feed.Purge, "jobs.purge": jobs.Purge, "transfers.purge": transfers.Purge, "notifications.purge": notices.Purge,
		"sessions.purge": p.users.Purge, "recordings.purge": recordings.Purge, "calls.purge": calls.Purge,
		"messages.purge": messages.Purge, "voicemails.purge": voicemails.Purge, "surveys.purge": surveys.Purge,
	})
	return p.work(feed, streams, jobs, notices, blocked, files)
}

// people makes accounts, users and roles, which need each other.
func (p *ControlPlane) people(spec *openapi.Spec, secret []byte) *role.Service {
	permissions := role.NewPermissions(permissionsOf(spec)...)
	roles := &role.Service{DB: p.db, Permissions: permissions}
	p.accounts = &account.Service{
		DB: p.db, Knows: permissions.Knows,
		OnCreate: []func(context.Context, *db.Tx, string) error{
			func(ctx context.Context, tx *db.Tx, account string) error { return roles.InstallIn(ctx, tx, account) },
		},
	}
	p.users = &user.Service{
		DB: p.db, Bus: p.bus, Accounts: p.accounts, Log: p.cfg.Logger, Secret: secret, PublicURL: p.URL(), DefaultAccount: p.cfg.DefaultAccount,
		OIDC: p.cfg.OIDC, HTTP: p.guard(), MayGrant: roles.MayGrant,
		Compile: func(ctx context.Context, account string, roleIDs []string, userID, departmentID string) ([]string, map[string]auth.Rows, auth.Mask, error) {
			g, err := roles.Compile(ctx, account, roleIDs, userID, departmentID)
			return g.Permissions, g.Reach, g.Mask, err
		},
	}
	return roles
}

// permissionsOf are those that the operations of a specification ask for.
func permissionsOf(spec *openapi.Spec) []string {
	var all []string
	for _, item := range spec.View.Paths.Map() {
		for _, o := range item.Operations() {
			permission, _ := o.Extensions["x-permission"].(string)
			all = append(all, permission)
		}
	}
	return all
}

// heed has the settings of accounts take effect on what comes before settings in the order of nouns.
func (p *ControlPlane) heed(settings *setting.Service, recordings *recording.Service) {
	p.users.Lifetimes = func(ctx context.Context, account string) (idle, whole time.Duration, err error) {
		v, err := settings.Values(ctx, webhooks.AccountID(account))
		return v.SessionIdle(), v.SessionLifetime(), err
	}
	recordings.Keep = func(ctx context.Context, account webhooks.AccountID) (time.Duration, error) {
		v, err := settings.Values(ctx, account)
		return v.RecordingRetention(), err
	}
}

// guard makes a client for URLs that accounts give. Each who needs one has its own, so that one's connections are no
// other's.
func (p *ControlPlane) guard() *guard.Client {
	return guard.New(guard.Config{AllowNetworks: p.cfg.AllowNetworks, RootCAs: p.cfg.RootCAs})
}

func (p *ControlPlane) suspended(ctx context.Context, id webhooks.AccountID) (bool, error) {
	active, err := p.accounts.IsActive(ctx, id)
	return !active, err
}

// callerOfJob gives a job the rights that its starter has now. It goes on when the session it was started in is over.
func (p *ControlPlane) callerOfJob(ctx context.Context, who auth.Caller) (auth.Caller, error) {
	who.SessionID = ""
	return p.users.Check(ctx, who)
}

// work lists what runs beside the servers.
func (p *ControlPlane) work(feed *event.Feed, streams *live.Service, jobs *job.Service, notices *notice.Service, blocked *blocklist.Service, files *media.Service) error {
	deliveries, err := delivery.New(delivery.Config{
		DB: p.db, Feed: feed, Guard: p.guard(), Log: p.cfg.Logger, Observe: p.cfg.ObserveDelivery,
	})
	if err != nil {
		return err
	}
	feed.Also, feed.Placed = append(feed.Also, deliveries.FanOut), append(feed.Placed, deliveries.Placed)
	seal, err := secretNamed(context.Background(), p.db, "audit")
	if err != nil {
		return err
	}
	sealer := &audit.Sealer{DB: p.db, Blobs: p.blobs, Log: p.cfg.Logger, Secret: seal}
	p.workers = append(p.workers,
		worker{"events", feed.Run}, worker{"streams", streams.Run}, worker{"deliveries", deliveries.Run}, worker{"jobs", jobs.Run},
		worker{"notifications", notices.Run}, worker{"blocklist", blocked.Run},
		p.regularly(time.Minute, "audit.seal", sealer.Seal), p.regularly(5*time.Minute, "media.sweep", files.Sweep),
		p.regularly(5*time.Minute, "storage.watch", p.accounts.WatchStorage),
	)
	p.hourly(map[string]func(context.Context) error{"deliveries.purge": deliveries.Purge})
	return nil
}

// hourly lists what removes what is kept no longer.
func (p *ControlPlane) hourly(purges map[string]func(context.Context) error) {
	for name, purge := range purges {
		p.workers = append(p.workers, p.regularly(time.Hour, name, purge))
	}
}

// regularly is a worker that does a task once and then at an interval.
func (p *ControlPlane) regularly(interval time.Duration, name string, task func(context.Context) error) worker {
	return worker{name, func(ctx context.Context) error {
		p.every(ctx, interval, name, task)
		return nil
	}}
}

// findDefault looks the default account up by its name. Before the first start's Seed there is none.
func (p *ControlPlane) findDefault(ctx context.Context) error {
	if p.cfg.DefaultAccount == "" {
		return nil
	}
	a, found, err := p.accounts.Named(ctx, p.cfg.DefaultAccount)
	if err != nil || !found {
		return err
	}
	p.edges.DefaultAccount = webhooks.AccountID(a.ID)
	return nil
}
