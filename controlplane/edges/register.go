package edges

import (
	"context"
	"errors"
	"math"

	"github.com/hookswitch/hookswitch/controlplane/credential"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
)

// Register implements control.Control.
func (s *Service) Register(ctx context.Context, r control.Registration) (control.Registered, error) {
	c, err := s.Credentials.Get(ctx, r.AccountID, r.CredentialID)
	if err != nil {
		if problem.From(err).Code == problem.CodeNotFound {
			return control.Registered{}, notFound("extension %s no longer exists", r.CredentialID)
		}
		return control.Registered{}, err
	}
	wanted := credential.Register{
		EdgeID: r.EdgeID, SIPCallID: r.SIPCallID, CSeq: r.CSeq, Source: r.Source.String(), Transport: r.Transport,
		UserAgent: r.UserAgent, Star: r.Star,
	}
	for _, contact := range r.Contacts {
		wanted.Contacts = append(wanted.Contacts, credential.Contact{URI: contact.URI, Expires: contact.Expires.Duration(), Q: contact.Q})
	}
	stands, err := s.Credentials.Register(ctx, c, wanted)
	if errors.Is(err, credential.ErrOutOfOrder) {
		return control.Registered{}, &control.Error{Code: control.CodeInvalid, Message: err.Error()}
	}
	if err != nil {
		return control.Registered{}, err
	}
	out := control.Registered{Contacts: []control.Contact{}}
	now := s.now()
	for _, contact := range stands {
		left := math.Ceil(contact.ExpiresAt.Sub(now).Seconds())
		out.Contacts = append(out.Contacts, control.Contact{URI: contact.Contact, Expires: webhooks.Seconds(left), Q: contact.Q})
	}
	return out, nil
}
