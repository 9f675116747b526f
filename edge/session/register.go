package session

import (
	"context"
	"errors"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/edge/sip"
	"github.com/hookswitch/hookswitch/webhooks"
)

// How long a binding lasts when the phone does not say (RFC 3261 §10.2), and at most.
const (
	defaultExpires = 3600
	maxExpires     = 86400
)

// Register serves a REGISTER: digest first, then the bindings go to the control plane and come back as they stand.
func (c *Calls) Register(ctx context.Context, r *sip.Request) {
	source := r.RemoteAddr().Addr()
	auth, given := r.Authorization("")
	domain, user := r.To().Host, r.To().User
	if given {
		domain = auth.Realm
	}
	cred, err := c.credential(ctx, domain, user, source)
	switch {
	case control.CodeOf(err) == control.CodeSilence:
		r.Drop()
		return
	case err != nil:
		c.respond(r, 503, retryAfter)
		return
	case !given:
		c.rechallenge(r, cred.Realm, false)
		return
	}
	// The user who proves a password may bind only its own address of record (RFC 3261 §10.3 step 3).
	err = c.digest.Verify(source, "REGISTER", auth, ha1(cred))
	switch {
	case errors.Is(err, sip.ErrStale):
		c.rechallenge(r, cred.Realm, true)
		return
	case err != nil || !cred.Found || auth.Username != user:
		c.bans.Failed(source)
		c.cfg.Observer.authFailed("REGISTER")
		c.rechallenge(r, cred.Realm, false)
		return
	}
	c.bans.Succeeded(source)
	c.bind(ctx, r, cred)
}

// bind hands the contacts of a proven phone on.
func (c *Calls) bind(ctx context.Context, r *sip.Request, cred control.Credential) {
	asked, err := r.Register()
	if err != nil {
		c.respond(r, 400)
		return
	}
	reg := control.Registration{
		EdgeID: c.cfg.EdgeID, AccountID: cred.AccountID, CredentialID: cred.CredentialID,
		SIPCallID: asked.SIPCallID, CSeq: asked.CSeq, Source: r.RemoteAddr(), Transport: r.Transport(),
		UserAgent: r.Header("User-Agent"), Star: asked.Star,
	}
	longest := 0
	for _, contact := range asked.Contacts {
		expires := contact.Expires
		if expires < 0 {
			expires = defaultExpires
		}
		expires = min(expires, maxExpires)
		reg.Contacts = append(reg.Contacts, control.Contact{URI: contact.URI, Expires: webhooks.Seconds(expires), Q: contact.Q})
		longest = max(longest, expires)
	}
	ctx, done := context.WithTimeout(ctx, routeTime)
	defer done()
	stands, err := c.cfg.Control.Register(ctx, reg)
	switch {
	case control.CodeOf(err) == control.CodeInvalid:
		c.respond(r, 400)
		return
	case control.CodeOf(err) != "":
		c.respond(r, 403)
		return
	case err != nil:
		c.respond(r, 503, retryAfter)
		return
	}
	if longest > 0 {
		c.know(r.RemoteAddr().Addr(), time.Now().Add(time.Duration(longest)*time.Second))
	}
	contacts := make([]sip.Contact, len(stands.Contacts))
	for i, contact := range stands.Contacts {
		contacts[i] = sip.Contact{URI: contact.URI, Expires: int(contact.Expires), Q: contact.Q}
	}
	if err := r.RespondContacts(contacts); err != nil {
		c.cfg.Logger.Warn("sip.respond", "error", err.Error())
	}
}

func (c *Calls) rechallenge(r *sip.Request, realm string, stale bool) {
	if err := r.Challenge(c.digest.Challenge(r.RemoteAddr().Addr(), realm, stale)); err != nil {
		c.cfg.Logger.Debug("sip.challenge", "error", err.Error())
	}
}

func (c *Calls) respond(r *sip.Request, code int, headers ...sip.Header) {
	if err := r.Respond(code, headers...); err != nil {
		c.cfg.Logger.Debug("sip.respond", "error", err.Error())
	}
}
