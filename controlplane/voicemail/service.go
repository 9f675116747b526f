package voicemail

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/account"
	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/event"
	"github.com/hookswitch/hookswitch/controlplane/list"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/recording"
	"github.com/hookswitch/hookswitch/controlplane/rest"
	"github.com/hookswitch/hookswitch/webhooks"
)

// Service is the operations on mailboxes and their messages. Its Apply belongs into call.Service.Also, after that of the
// recordings, and Purge keeps the messages to their retention. It is safe for concurrent use.
type Service struct {
	DB *db.DB
	// URL is where the audio of a recording is fetched: recording.Service.URL.
	URL func(ctx context.Context, account webhooks.AccountID, id webhooks.RecordingID) (link, etag string, err error)
	// Erase, where set, removes the audio of a message that is deleted: recording.Service.Delete. Without it that stays for as
	// long as recordings do.
	Erase func(ctx context.Context, account webhooks.AccountID, id webhooks.RecordingID) error
	// Wake, where set, has the readers of events look sooner.
	Wake func()
	Now  func() time.Time // nil is db.Now
}

func (s *Service) now() time.Time {
	if s.Now == nil {
		return db.Now()
	}
	return s.Now()
}

func (s *Service) wake() {
	if s.Wake != nil {
		s.Wake()
	}
}

// Operations are the functions of voicemails.yaml.
func (s *Service) Operations() map[string]rest.Operation {
	all := rest.Operations(s.Mailboxes())
	maps.Copy(all, map[string]rest.Operation{
		"listVoicemails":    rest.List[Voicemail](s.DB, table()),
		"searchVoicemails":  rest.Search[Voicemail](s.DB, table()),
		"getVoicemail":      rest.Get[Voicemail](s.DB),
		"updateVoicemail":   rest.Op(s.update),
		"deleteVoicemail":   rest.Op(s.remove),
		"getVoicemailMedia": rest.Op(s.media),
	})
	return all
}

// WrittenMailbox is what a caller writes of a mailbox.
type WrittenMailbox struct {
	rest.Keys
	OwnerID      string `json:"owner_id,omitempty"`
	DepartmentID string `json:"department_id,omitempty"`
	Draft
}

// Mailboxes is how mailboxes are made and changed, for whoever does so without a request.
func (s *Service) Mailboxes() rest.Resource[Mailbox, WrittenMailbox] {
	return rest.Resource[Mailbox, WrittenMailbox]{
		DB: s.DB, One: "Mailbox", Many: "Mailboxes", Prefix: "mbx",
		Table: list.Table{
			Fields: list.Common(map[string]list.Field{
				"name": {Sort: true}, "enabled": {Type: list.Bool}, "credential_id": {}, "owner_id": {}, "department_id": {},
			}),
			Search: []string{"name"},
		},
		Uses: []db.Use{{Table: "voicemails", Column: "mailbox_id", Name: "voicemail"}},
		Draft: func(m *Mailbox) WrittenMailbox {
			return WrittenMailbox{OwnerID: m.OwnerID, DepartmentID: m.DepartmentID, Draft: m.Draft}
		},
		Put:    put,
		Stored: handOver,
	}
}

func put(ctx context.Context, tx *db.Tx, _ auth.Caller, m *Mailbox, w WrittenMailbox) error {
	if err := w.Check(); err != nil {
		return err
	}
	before := *m
	m.Draft, m.Owned = w.Draft, db.Owned{OwnerID: w.OwnerID, DepartmentID: w.DepartmentID}
	for _, ref := range []struct{ table, pointer, what, id, before string }{
		{"users", "/owner_id", "user", m.OwnerID, before.OwnerID},
		{"departments", "/department_id", "department", m.DepartmentID, before.DepartmentID},
		{"credentials", "/credential_id", "extension", m.CredentialID, before.CredentialID},
	} {
		if ref.id == "" || ref.id == ref.before {
			continue
		}
		n, err := tx.Read().NewSelect().Table(ref.table).Where("account_id = ?", m.AccountID).Where("id = ?", ref.id).Count(ctx)
		if err != nil {
			return db.Check(err)
		}
		if n == 0 {
			return problem.RefusedField(ref.pointer, "unknown", "there is no %s %s in this account", ref.what, ref.id)
		}
	}
	return m.settleDepartment(ctx, tx)
}

// settleDepartment gives a mailbox that names none the department of its owner.
func (m *Mailbox) settleDepartment(ctx context.Context, tx *db.Tx) error {
	if m.OwnerID == "" || m.DepartmentID != "" {
		return nil
	}
	var departments []string
	err := tx.Read().NewSelect().Table("users").ColumnExpr("COALESCE(department_id, '')").
		Where("account_id = ?", m.AccountID).Where("id = ?", m.OwnerID).Scan(ctx, &departments)
	if len(departments) > 0 {
		m.DepartmentID = departments[0]
	}
	return db.Check(err)
}

// handOver gives the messages in a mailbox to those whom it belongs to.
func handOver(ctx context.Context, tx *db.Tx, _ auth.Caller, m *Mailbox) error {
	_, err := tx.Write().NewUpdate().Model((*Voicemail)(nil)).
		Set("owner_id = ?", bun.NullZero(m.OwnerID)).Set("department_id = ?", bun.NullZero(m.DepartmentID)).
		Where("mailbox_id = ?", m.ID).
		Where("COALESCE(owner_id, '') <> ? OR COALESCE(department_id, '') <> ?", m.OwnerID, m.DepartmentID).Exec(ctx)
	return db.Check(err)
}

func table() list.Table {
	return list.Table{
		Fields: list.Common(map[string]list.Field{
			"mailbox_id": {}, "call_id": {}, "conversation_id": {}, "recording_id": {}, "owner_id": {}, "department_id": {},
			"from": {Mask: true}, "to": {Mask: true}, "read": {Type: list.Bool}, "left_at": {Type: list.Time, Sort: true},
			"duration": {Type: list.Float, Sort: true},
		}),
		Search: []string{"from", "note"},
	}
}

// written is what a caller writes of a message.
type written struct {
	rest.Keys
	Remarks
}

func (s *Service) update(ctx context.Context, who auth.Caller, in rest.PatchIn) (*Voicemail, error) {
	v, err := db.ChangeTx(ctx, s.DB, who.Scope, in.ID, in.IfMatch, func(ctx context.Context, tx *db.Tx, v *Voicemail) error {
		d := written{Keys: rest.Keys{ExternalID: v.ExternalID, Metadata: v.Metadata}, Remarks: v.Remarks}
		if err := in.Patch.Apply(&d); err != nil {
			return err
		}
		if len([]rune(d.Note)) > maxNote {
			return problem.InvalidField("/note", "maxLength", "may have at most %d characters", maxNote)
		}
		v.ExternalID, v.Metadata = d.ExternalID, d.Metadata
		v.remark(d.Remarks, who, s.now())
		return tell(ctx, tx, "voicemail.updated", v)
	})
	if err == nil {
		s.wake()
	}
	return v, err
}

// remark takes what somebody has written down.
func (v *Voicemail) remark(r Remarks, who auth.Caller, now time.Time) {
	if r.Read != v.Read {
		v.ReadAt, v.ReadBy = nil, ""
		if r.Read {
			v.ReadAt, v.ReadBy = &now, who.UserID
		}
	}
	v.Remarks = r
}

// remove deletes a message, and its audio: should that not go, the caller hears so.
func (s *Service) remove(ctx context.Context, who auth.Caller, in rest.ChangeIn) (rest.None, error) {
	var gone *Voicemail
	err := s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		v, err := db.Get[Voicemail](ctx, tx, who.Scope, in.ID)
		if err != nil {
			return err
		}
		gone = v
		if err := db.Delete[Voicemail](ctx, tx, who.Scope, in.ID, in.IfMatch); err != nil {
			return err
		}
		return tell(ctx, tx, "voicemail.deleted", v)
	})
	if err != nil {
		return rest.None{}, err
	}
	s.wake()
	if s.Erase == nil {
		return rest.None{}, nil
	}
	err = s.Erase(ctx, webhooks.AccountID(gone.AccountID), gone.RecordingID)
	if err != nil && problem.From(err).Code == problem.CodeNotFound {
		err = nil // somebody has deleted the recording
	}
	return rest.None{}, err
}

type mediaIn struct {
	rest.ByID
	As string `query:"as"`
}

// mediaLife is how long the URL of a recording works: that of recording.Service.URL.
const mediaLife = 15 * time.Minute

func (s *Service) media(ctx context.Context, who auth.Caller, in mediaIn) (rest.Answer, error) {
	v, err := db.Get[Voicemail](ctx, s.DB, who.Scope, in.ID)
	if err != nil {
		return rest.Answer{}, err
	}
	expires := s.now().Add(mediaLife)
	link, _, err := s.URL(ctx, webhooks.AccountID(v.AccountID), v.RecordingID)
	switch {
	case err != nil:
		return rest.Answer{}, err
	case in.As == "json":
		return rest.Answer{Status: http.StatusOK, Body: recording.SignedURL{URL: link, ExpiresAt: expires}}, nil
	}
	return rest.Redirect(link), nil
}

// tell emits an event about a message: to those who may see it.
func tell(ctx context.Context, tx *db.Tx, kind string, v *Voicemail) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("event of %s: %w", v.ID, err)
	}
	return event.Emit(ctx, tx, event.Event{
		AccountID: v.AccountID, Type: kind, Resource: "voicemails", ObjectID: v.ID, CallID: string(v.CallID),
		OwnerID: v.OwnerID, DepartmentID: v.DepartmentID, Data: data,
	})
}

const (
	// purgeRows bounds the rows of one DELETE.
	purgeRows = 1000
	// pendingFor is how long a recording may be on its way: an edge that was switched off has its spool when it comes back.
	pendingFor = 30 * 24 * time.Hour
)

// Purge removes messages that are older than their account's retention of records, and what is never going to be one.
func (s *Service) Purge(ctx context.Context) error {
	if _, err := s.DB.Write().NewDelete().Model((*pending)(nil)).Where("started_at < ?", s.now().Add(-pendingFor)).Exec(ctx); err != nil {
		return db.Check(err)
	}
	accounts, err := db.List[account.Account](ctx, s.DB, auth.Everywhere())
	if err != nil {
		return err
	}
	for _, a := range accounts {
		if a.Limits.RetentionDays == 0 {
			continue
		}
		if err := s.purge(ctx, a.ID, s.now().AddDate(0, 0, -a.Limits.RetentionDays)); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) purge(ctx context.Context, accountID string, before time.Time) error {
	for {
		old := s.DB.Write().NewSelect().Model((*Voicemail)(nil)).Column("id").Where("account_id = ?", accountID).
			Where("created_at < ?", before).OrderBy("created_at", bun.OrderAsc).Limit(purgeRows)
		done, err := s.DB.Write().NewDelete().Model((*Voicemail)(nil)).Where("id IN (?)", old).Exec(ctx)
		if err != nil {
			return db.Check(err)
		}
		if n, err := done.RowsAffected(); err != nil || n < purgeRows {
			return err
		}
	}
}
