package edges

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/message"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/survey"
	"github.com/hookswitch/hookswitch/controlplane/voicemail"
	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
)

var _ control.Verbs = (*Service)(nil)

// Mailbox implements control.Control.
func (s *Service) Mailbox(ctx context.Context, q control.MailboxQuery) (control.Mailbox, error) {
	m, err := s.Voicemails.Take(ctx, q.AccountID, q.Mailbox)
	if err != nil {
		return control.Mailbox{}, unanswered(err)
	}
	return control.Mailbox{
		ID: m.ID, Greeting: m.Program, MinLength: m.MinLength, MaxLength: m.MaxLength, Silence: m.Silence, FinishOnKey: m.FinishOnKey,
	}, nil
}

// Survey implements control.Control.
func (s *Service) Survey(ctx context.Context, q control.SurveyQuery) (control.Survey, error) {
	a, err := s.Surveys.Ask(ctx, q.AccountID, q.Survey)
	if err != nil {
		return control.Survey{}, unanswered(err)
	}
	v := control.Survey{ID: a.ID, Version: a.Version, Invite: a.Invite, Thanks: a.Thanks}
	for i, asked := range a.Draft.Questions {
		v.Questions = append(v.Questions, control.SurveyQuestion{
			Name: asked.Name, Prompt: a.Programs.Questions[i].Prompt, InvalidPrompt: a.Programs.Questions[i].Invalid,
			Keys: a.Keys[i], Attempts: asked.Attempts, Timeout: webhooks.Seconds(asked.Timeout),
		})
	}
	return v, nil
}

// SendMessage implements control.Control.
func (s *Service) SendMessage(ctx context.Context, m control.TextMessage) (control.MessageTaken, error) {
	if m.Key == "" {
		return control.MessageTaken{}, &control.Error{Code: control.CodeInvalid, Message: "a message has a key"}
	}
	var made *message.Message
	err := s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		var err error
		made, err = s.Messages.Send(ctx, tx, m.AccountID, m.CallID, message.Draft{
			To: m.To, From: m.From, Body: m.Body, TemplateID: m.TemplateID, Data: plain(m.Data), Key: m.Key,
			StatusURL: m.StatusURL, ApplicationID: m.ApplicationID,
		})
		return err
	})
	if err != nil {
		return control.MessageTaken{}, unanswered(err)
	}
	s.Messages.Wake(ctx)
	return control.MessageTaken{MessageID: webhooks.MessageID(made.ID)}, nil
}

// maxText bounds the data of a call that a template may be filled in with: what is longer is no word of a message.
const maxText = 500

// plain is what a template can be filled in with of a call's data, which may hold anything.
func plain(data map[string]any) map[string]any {
	out := maps.Clone(data)
	maps.DeleteFunc(out, func(_ string, v any) bool {
		switch v := v.(type) {
		case string:
			return len([]rune(v)) > maxText
		case float64:
			return math.IsNaN(v) || math.IsInf(v, 0)
		case bool, int, int64:
			return false
		}
		return true
	})
	return out
}

// unanswered puts a failure that asking again would not change into the seam's terms.
func unanswered(err error) error {
	if errors.Is(err, voicemail.ErrDisabled) || errors.Is(err, survey.ErrDisabled) {
		return &control.Error{Code: control.CodeNotAllowed, Message: err.Error()}
	}
	p, ok := errors.AsType[*problem.Problem](err)
	if !ok {
		return err
	}
	text := p.Detail
	for _, field := range p.Errors {
		text = field.Pointer + ": " + field.Message
		break
	}
	switch p.Code {
	case problem.CodeNotFound:
		return &control.Error{Code: control.CodeNotFound, Message: text}
	case problem.CodeInvalid, problem.CodeRefused:
		return &control.Error{Code: control.CodeInvalid, Message: text}
	}
	return err
}

// parkedCall is a slot that has a call.
//
// Why a row is all there is to a stay, without a lease: every call has one end, which the control plane writes where its
// edge cannot, and a slot whose call has ended is free. A row is looked at when somebody wants its slot.
type parkedCall struct {
	bun.BaseModel `bun:"table:parked_calls"`

	AccountID webhooks.AccountID `bun:"account_id,pk"`
	Slot      string             `bun:"slot,pk"`
	ID        string             `bun:"id"`
	CallID    webhooks.CallID    `bun:"call_id"`
	EdgeID    webhooks.EdgeID    `bun:"edge_id"`
	ParkedAt  time.Time          `bun:"parked_at"`
}

const (
	// The slots that are given to those who name none.
	firstSlot, lastSlot = 701, 799
	maxSlot             = 32
	// unknownFor is how long a call may be parked before its first event is here.
	unknownFor = time.Minute
)

// over is the condition of a slot whose call has ended, or was never heard of.
const over = `(EXISTS (SELECT 1 FROM calls c WHERE c.id = ?TableAlias.call_id AND c.ended_at IS NOT NULL)
	OR (?TableAlias.parked_at < ? AND NOT EXISTS (SELECT 1 FROM calls c WHERE c.id = ?TableAlias.call_id)))`

// Park implements control.Control.
func (s *Service) Park(ctx context.Context, p control.Park) (control.Parked, error) {
	if p.ID == "" || p.AccountID == "" || p.CallID == "" || p.EdgeID == "" || len(p.Slot) > maxSlot {
		return control.Parked{}, &control.Error{Code: control.CodeInvalid, Message: "a stay names its call, its edge, and a slot of at most 32 characters"}
	}
	var given string
	err := s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		var err error
		given, err = s.takeSlot(ctx, tx, p)
		return err
	})
	if err != nil {
		return control.Parked{}, err
	}
	return control.Parked{Slot: given}, nil
}

func (s *Service) takeSlot(ctx context.Context, tx *db.Tx, p control.Park) (string, error) {
	var again parkedCall
	err := tx.Read().NewSelect().Model(&again).Where("id = ?", p.ID).Where("account_id = ?", p.AccountID).Scan(ctx)
	if err == nil || !errors.Is(err, sql.ErrNoRows) {
		return again.Slot, db.Check(err)
	}
	now := s.now()
	_, err = tx.Write().NewDelete().Model((*parkedCall)(nil)).Where("account_id = ?", p.AccountID).
		Where("call_id = ? OR "+over, p.CallID, now.Add(-unknownFor)).Exec(ctx)
	if err != nil {
		return "", db.Check(err)
	}
	wanted := []string{p.Slot}
	if p.Slot == "" {
		if wanted, err = free(ctx, tx, p.AccountID); err != nil {
			return "", err
		}
	}
	for _, slot := range wanted { // another may take one of them meanwhile
		row := parkedCall{AccountID: p.AccountID, Slot: slot, ID: p.ID, CallID: p.CallID, EdgeID: p.EdgeID, ParkedAt: now}
		done, err := tx.Write().NewInsert().Model(&row).On("CONFLICT (account_id, slot) DO NOTHING").Exec(ctx)
		if err != nil {
			return "", db.Check(err)
		}
		if n, err := done.RowsAffected(); err != nil || n == 1 {
			return slot, err
		}
	}
	if p.Slot != "" {
		return "", &control.Error{Code: control.CodeBusy, Message: "another call is parked in slot " + p.Slot}
	}
	return "", &control.Error{Code: control.CodeBusy, Message: fmt.Sprintf("the slots %d to %d are all taken", firstSlot, lastSlot)}
}

// free are the slots for those who name none that nobody has, in order.
func free(ctx context.Context, tx *db.Tx, account webhooks.AccountID) ([]string, error) {
	var taken []string
	err := tx.Read().NewSelect().Model((*parkedCall)(nil)).Column("slot").Where("account_id = ?", account).Scan(ctx, &taken)
	if err != nil {
		return nil, db.Check(err)
	}
	var out []string
	for n := firstSlot; n <= lastSlot; n++ {
		if slot := strconv.Itoa(n); !slices.Contains(taken, slot) {
			out = append(out, slot)
		}
	}
	return out, nil
}

// LeavePark implements control.Control.
func (s *Service) LeavePark(ctx context.Context, l control.ParkLeave) error {
	_, err := s.DB.Write().NewDelete().Model((*parkedCall)(nil)).Where("id = ?", l.ID).Where("account_id = ?", l.AccountID).Exec(ctx)
	return db.Check(err)
}

// FindParked implements control.Control.
func (s *Service) FindParked(ctx context.Context, q control.ParkedQuery) (control.ParkedCall, error) {
	var found parkedCall
	err := s.DB.Read().NewSelect().Model(&found).Where("?TableAlias.account_id = ?", q.AccountID).Where("?TableAlias.slot = ?", q.Slot).
		Where("NOT "+over, s.now().Add(-unknownFor)).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return control.ParkedCall{}, &control.Error{Code: control.CodeNotFound, Message: "nobody is parked in slot " + q.Slot}
	}
	if err != nil {
		return control.ParkedCall{}, db.Check(err)
	}
	parked := control.ParkedCall{CallID: found.CallID, EdgeID: found.EdgeID, Waited: webhooks.SecondsOf(max(0, s.now().Sub(found.ParkedAt)))}
	if found.EdgeID != q.EdgeID {
		parked.Way, err = s.way(ctx, found.EdgeID, control.Link{
			Kind: control.LinkPark, AccountID: q.AccountID, CallID: q.CallID, EdgeID: q.EdgeID, Name: q.Slot,
		})
	}
	return parked, err
}
