package edges

import (
	"context"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/conference"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
)

var _ control.Conferences = (*Service)(nil)

// conferencePlace is which edge has the conference of a name.
//
// Why a row without a lease of its own: its edge has one, and the end of the conference is in the events of its legs, which
// come however long the control plane was away. An edge that is asked in between says itself that the conference is over.
type conferencePlace struct {
	bun.BaseModel `bun:"table:conference_places"`

	AccountID    webhooks.AccountID    `bun:"account_id,pk"`
	Name         string                `bun:"name,pk"`
	ConferenceID webhooks.ConferenceID `bun:"conference_id"`
	EdgeID       webhooks.EdgeID       `bun:"edge_id"`
	BootID       string                `bun:"boot_id"`
	TakenAt      time.Time             `bun:"taken_at"`
}

// maxConferenceName bounds the name of a conference once it is filled in, in octets: the contract allows 128 characters.
const maxConferenceName = 4 * 128

// placeUnheard is how long a place is kept whose conference nobody has heard of.
const placeUnheard = time.Hour

// PlaceConference implements control.Control.
func (s *Service) PlaceConference(ctx context.Context, q control.ConferenceQuery) (control.ConferencePlace, error) {
	if q.AccountID == "" || q.CallID == "" || q.EdgeID == "" || q.BootID == "" || q.ID == "" || q.Name == "" || len(q.Name) > maxConferenceName {
		return control.ConferencePlace{}, &control.Error{Code: control.CodeInvalid, Message: "a leg that is to be in a conference names its call, its edge, and the conference"}
	}
	at, err := s.takePlace(ctx, q)
	if err != nil {
		return control.ConferencePlace{}, err
	}
	place := control.ConferencePlace{ConferenceID: at.ConferenceID, EdgeID: at.EdgeID}
	if at.EdgeID != q.EdgeID {
		place.Way, err = s.way(ctx, at.EdgeID, control.Link{
			Kind: control.LinkConference, AccountID: q.AccountID, CallID: q.CallID, EdgeID: q.EdgeID, Name: q.Name,
		})
	}
	return place, err
}

// takePlace takes the name of a conference for an edge unless another has it, and says who has it then.
func (s *Service) takePlace(ctx context.Context, q control.ConferenceQuery) (at conferencePlace, err error) {
	now := s.now()
	err = s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		row := conferencePlace{AccountID: q.AccountID, Name: q.Name, ConferenceID: q.ID, EdgeID: q.EdgeID, BootID: q.BootID, TakenAt: now}
		_, err := tx.Write().NewInsert().Model(&row).On("CONFLICT (account_id, name) DO UPDATE").
			Set("conference_id = EXCLUDED.conference_id").Set("edge_id = EXCLUDED.edge_id").
			Set("boot_id = EXCLUDED.boot_id").Set("taken_at = EXCLUDED.taken_at").
			Where("?TableAlias.edge_id = EXCLUDED.edge_id OR ?TableAlias.conference_id = ?"+
				" OR NOT EXISTS (SELECT 1 FROM edges AS e WHERE e.id = ?TableAlias.edge_id AND e.boot_id = ?TableAlias.boot_id AND e.beat_at >= ?)"+
				" OR EXISTS (SELECT 1 FROM conferences AS c WHERE c.id = ?TableAlias.conference_id AND c.status = ?)",
				q.Not, s.aliveSince(now), conference.StatusCompleted).Exec(ctx)
		if err != nil {
			return err
		}
		return tx.Write().NewSelect().Model(&at).Where("account_id = ?", q.AccountID).Where("name = ?", q.Name).Scan(ctx)
	})
	return at, db.Check(err)
}

// aliveSince is when an edge must have beaten last that is not taken for gone: ever, while this process has not listened for
// long enough.
func (s *Service) aliveSince(now time.Time) time.Time {
	if s.silentFor(now, time.Time{}) <= deadAfter {
		return time.Time{}
	}
	return now.Add(-deadAfter)
}

// sweepPlaces forgets the places of conferences that are over.
func (s *Service) sweepPlaces(ctx context.Context, now time.Time) error {
	_, err := s.DB.Write().NewDelete().Model((*conferencePlace)(nil)).Where("taken_at < ?", now.Add(-placeUnheard)).
		Where("NOT EXISTS (SELECT 1 FROM conferences AS c WHERE c.id = ?TableAlias.conference_id AND c.status <> ?)", conference.StatusCompleted).
		Exec(ctx)
	return db.Check(err)
}
