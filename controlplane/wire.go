package controlplane

import (
	"context"
	"maps"

	"github.com/hookswitch/hookswitch/controlplane/account"
	"github.com/hookswitch/hookswitch/controlplane/app"
	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/call"
	"github.com/hookswitch/hookswitch/controlplane/credential"
	"github.com/hookswitch/hookswitch/controlplane/edges"
	"github.com/hookswitch/hookswitch/controlplane/media"
	"github.com/hookswitch/hookswitch/controlplane/number"
	"github.com/hookswitch/hookswitch/controlplane/recording"
	"github.com/hookswitch/hookswitch/controlplane/rest"
	"github.com/hookswitch/hookswitch/controlplane/trunk"
	"github.com/hookswitch/hookswitch/openapi"
	"github.com/hookswitch/hookswitch/webhooks"
)

// wire makes the resources and the handler of the REST API.
func (p *ControlPlane) wire(ctx context.Context) error {
	p.accounts = &account.Service{DB: p.db}
	p.apps = &app.Service{DB: p.db}
	p.numbers = &number.Service{DB: p.db, Accounts: p.accounts}
	p.credentials = &credential.Service{DB: p.db, Numbers: p.numbers}
	trunks := &trunk.Service{DB: p.db, Numbers: p.numbers}
	files := &media.Service{DB: p.db, Blobs: p.blobs, CheckAudio: p.cfg.CheckAudio}
	calls := &call.Service{DB: p.db}
	recordings := &recording.Service{DB: p.db, Blobs: p.blobs, Calls: calls}
	calls.Also = append(calls.Also, recordings.Apply)
	p.edges = &edges.Service{
		DB: p.db, Bus: p.bus, Accounts: p.accounts, Apps: p.apps, Numbers: p.numbers, Trunks: trunks, Credentials: p.credentials,
		Calls: calls, Recordings: recordings, Files: files, Log: p.cfg.Logger,
	}
	calls.Edges = p.edges
	if err := p.findDefault(ctx); err != nil {
		return err
	}
	spec, err := openapi.Load()
	if err != nil {
		return err
	}
	operations := map[string]rest.Operation{}
	for _, noun := range []interface {
		Operations() map[string]rest.Operation
	}{p.apps, p.numbers, p.credentials, trunks, files, calls, recordings} {
		maps.Copy(operations, noun.Operations())
	}
	api, err := rest.Mount(rest.Config{
		DB: p.db, Bus: p.bus, Log: p.cfg.Logger, Authenticate: func(ctx context.Context, c rest.Credential) (auth.Caller, error) {
			return p.accounts.Authenticate(ctx, c.Bearer, c.From)
		}, RatePerSecond: p.cfg.RatePerSecond,
	}, spec, operations)
	if err != nil {
		return err
	}
	p.handler = p.routes(api, spec)
	return nil
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
