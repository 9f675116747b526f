package role

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
)

// The codes of the built-in roles.
const (
	Owner      = "owner"
	Admin      = "admin"
	Supervisor = "supervisor"
	Agent      = "agent"
	Quality    = "quality"
	Developer  = "developer"
	ReadOnly   = "read_only"
)

// builtIns are the roles that every account has, as they are with the permissions that there are now.
func builtIns(known Permissions) []Draft {
	over := func(rows Rows) map[string]DataScope { return map[string]DataScope{everything: {Rows: rows}} }
	return []Draft{
		{Name: "Owner", Code: Owner, Permissions: []string{everything}, DataScopes: over(All)},
		{Name: "Administrator", Code: Admin, Permissions: administering(known), DataScopes: over(All)},
		{Name: "Supervisor", Code: Supervisor, DataScopes: over(DepartmentTree), Permissions: []string{
			"agent_groups.*", "agents.*", "applications.read", "blocklist_entries.*", "calendars.read", "calls.*", "credentials.read", "customers.*",
			"departments.read", "dictionaries.read", "events.read", "exports.*", "jobs.read", "message_templates.read", "messages.*",
			"numbers.read", "recordings.read", "registrations.read", "roles.read", "tokens.*", "users.read",
		}},
		{Name: "Agent", Code: Agent, DataScopes: over(Own), Permissions: []string{
			"agent_groups.read", "agents.read", "calendars.read", "calls.*", "customers.*", "departments.read", "dictionaries.read",
			"events.read", "message_templates.read", "messages.*", "recordings.read", "tokens.*",
		}},
		{Name: "Quality", Code: Quality, DataScopes: over(All), Permissions: []string{
			"agent_groups.read", "agents.read", "calls.read", "customers.read", "departments.read", "dictionaries.read", "events.read", "exports.*", "jobs.read",
			"recordings.read", "users.read",
		}},
		{Name: "Developer", Code: Developer, DataScopes: over(All), Permissions: []string{
			"api_keys.*", "applications.*", "calendars.*", "calls.*", "credentials.*", "customers.*", "dictionaries.*", "event_endpoints.*", "events.read",
			"jobs.*", "media.*", "message_providers.*", "message_templates.*", "messages.*", "numbers.*", "registrations.read", "settings.read", "tokens.*", "trunks.*",
		}},
		{Name: "Read only", Code: ReadOnly, Permissions: reading(known), DataScopes: over(All)},
	}
}

// administering is all of every resource, but of the account itself only to read it. Without "*" nobody makes an owner:
// see mayGrant.
func administering(known Permissions) []string {
	var all []string
	for _, resource := range known.Resources() {
		if resource == "accounts" {
			all = append(all, "accounts.read")
			continue
		}
		all = append(all, resource+".*")
	}
	return all
}

func reading(known Permissions) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(known)), func(name string) bool { return !strings.HasSuffix(name, ".read") })
}

// Install gives every account its built-in roles, and brings those up to date that an earlier release has made. It is
// called at start; several processes may do so at once.
func (s *Service) Install(ctx context.Context) error {
	var accounts []string
	if err := s.DB.Read().NewSelect().Table("accounts").Column("id").Scan(ctx, &accounts); err != nil {
		return db.Check(err)
	}
	for _, account := range accounts {
		if err := s.InstallIn(ctx, s.DB, account); err != nil {
			return err
		}
	}
	return nil
}

// InstallIn is Install for one account, as when it is made.
func (s *Service) InstallIn(ctx context.Context, conn db.Conn, account string) error {
	had, err := db.List[Role](ctx, conn, auth.Account(account))
	if err != nil {
		return err
	}
	byCode := map[string]Role{}
	for _, r := range had {
		byCode[r.Code] = r
	}
	for _, draft := range builtIns(s.Permissions) {
		if r, ok := byCode[draft.Code]; ok {
			err = s.refresh(ctx, conn, r, draft)
		} else {
			err = s.install(ctx, conn, account, draft)
		}
		if err != nil {
			return err
		}
	}
	s.forget()
	return nil
}

func (s *Service) install(ctx context.Context, conn db.Conn, account string, draft Draft) error {
	now := db.Now()
	r := &Role{Row: db.Row{ID: db.NewID("role"), AccountID: account, Metadata: map[string]any{}, CreatedAt: now, UpdatedAt: now, Etag: "1"}, Draft: draft, BuiltIn: true}
	_, err := conn.Write().NewInsert().Model(r).On("CONFLICT (account_id, code) DO NOTHING").Exec(ctx)
	return db.Check(err)
}

// refresh changes nothing of a role that an account has made under the same code before that was a built-in one.
func (s *Service) refresh(ctx context.Context, conn db.Conn, had Role, draft Draft) error {
	if !had.BuiltIn || equal(had.Draft, draft) {
		return nil
	}
	_, err := db.Change(ctx, conn, auth.Account(had.AccountID), had.ID, "", func(r *Role) error {
		r.Draft = draft
		return nil
	})
	return err
}

func equal(a, b Draft) bool {
	return a.Name == b.Name && a.Masks == b.Masks && slices.Equal(a.Permissions, b.Permissions) &&
		maps.EqualFunc(a.DataScopes, b.DataScopes, func(a, b DataScope) bool {
			return a.Rows == b.Rows && slices.Equal(a.DepartmentIDs, b.DepartmentIDs)
		})
}
