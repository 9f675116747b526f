package call

import (
	"context"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/webhooks"
)

// OwnerOf finds the user whose extension a credential is, and the department that the user is in.
type OwnerOf func(ctx context.Context, tx *db.Tx, account, credentialID string) (userID, departmentID string, found bool, err error)

// own gives the legs that begin in this transaction to the users whose extensions they are, and all events to the owners
// of their calls. A leg that somebody has started through the API is that person's already. Who has the extension later
// changes nothing.
func (w *writing) own(ctx context.Context) error {
	for _, e := range w.events {
		r := w.rows[webhooks.CallID(e.CallID)]
		if webhooks.EventType(e.Type) != webhooks.EventCallInitiated || w.ownerOf == nil || r.OwnerID != "" || r.CredentialID == "" {
			continue
		}
		user, department, found, err := w.ownerOf(ctx, w.tx, r.AccountID, string(r.CredentialID))
		if err != nil {
			return err
		}
		if found {
			r.Owned = db.Owned{OwnerID: user, DepartmentID: department}
		}
	}
	for i := range w.events {
		owned := w.rows[webhooks.CallID(w.events[i].CallID)].Owned
		w.events[i].OwnerID, w.events[i].DepartmentID = owned.OwnerID, owned.DepartmentID
	}
	return nil
}

// give makes a call the one's who starts it. What a program starts is nobody's.
func (s *Service) give(ctx context.Context, c *Call, who auth.Caller) error {
	c.OwnerID = who.UserID
	if who.UserID == "" || s.DepartmentOf == nil {
		return nil
	}
	var err error
	c.DepartmentID, err = s.DepartmentOf(ctx, s.DB, c.AccountID, who.UserID)
	return err
}
