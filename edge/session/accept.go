package session

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/edge/sip"
	"github.com/hookswitch/hookswitch/webhooks"
)

// routeTime bounds the wait for the control plane before an incoming call is refused or served from memory: well
// inside the 6 s after which a caller takes silence for a fault.
const routeTime = 3 * time.Second

// Accept serves an incoming INVITE until its call is over.
func (c *Calls) Accept(ctx context.Context, d *sip.Dialog) {
	if c.acceptLink(ctx, d) {
		return
	}
	if c.draining.Load() || c.overloaded() {
		c.refuse(d, 503, retryAfter)
		return
	}
	who, ok := c.caller(ctx, d)
	if !ok {
		return
	}
	in := incoming(d, c.cfg.EdgeID)
	in.CredentialID = who
	route, err := c.route(ctx, in)
	if err != nil {
		c.refuseRoute(d, in, err)
		return
	}
	switch r, ok, err := d.Replaces(); {
	case err != nil:
		c.refuse(d, 400)
	case ok:
		c.replace(d, in, route, r)
	default:
		c.serve(d, in, route)
	}
}

// overloaded reports that the media clock is too late to take another call, and says so once a second.
func (c *Calls) overloaded() bool {
	if !c.cfg.Media.Overloaded() {
		return false
	}
	now := time.Now().Unix()
	if c.toldOverload.Swap(now) != now {
		st := c.cfg.Media.Stats()
		c.cfg.Logger.Warn("edge.overloaded", "lateness_ms", float64(st.Lateness.Microseconds())/1000, "legs", st.Legs, "late_ticks", st.LateTicks, "real_time", st.RealTime)
	}
	return true
}

// serve runs the call of a routed INVITE.
func (c *Calls) serve(d *sip.Dialog, in control.Incoming, route control.Route) {
	s := c.newSession(c.ctx, in.CallID, route.AccountID, route.Application, route.Language)
	s.call.Direction = webhooks.Inbound
	s.call.From, s.call.To, s.call.Dialed = route.From, route.To, route.Dialed
	s.call.FromName, s.call.Diversion = in.FromName, in.Diversion
	s.call.NumberID, s.call.TrunkID, s.call.CredentialID = route.NumberID, route.TrunkID, route.CredentialID
	s.call.AgentID = route.AgentID
	s.call.CustomerID = route.CustomerID
	s.call.ConversationID = webhooks.NewConversationID()
	if !c.admit(s) {
		s.dismiss()
		c.refuse(d, 503, retryAfter)
		return
	}
	defer c.work.Done()
	s.conduct(func() {
		s.follow(d)
		s.emitInitiated()
		if err := s.offered(d.Body()); err != nil {
			s.cancel(mediaEnd(err))
			return
		}
		if d.Provisional(180, nil) == nil {
			s.emit(webhooks.EventCallRinging, webhooks.EventData{})
		}
		s.limit(route.TimeLimit)
		s.begin(webhooks.ReasonIncoming)
	})
}

// limit ends the call when it has lasted too long. 0 is the longest the contract allows without asking: 4 hours.
func (s *Session) limit(most webhooks.Seconds) {
	if most == 0 {
		most = 14400
	}
	timer := time.AfterFunc(most.Duration(), func() { s.noteTimer("time_limit"); s.cancel(ended{cause: webhooks.CauseTimeLimit}) })
	context.AfterFunc(s.ctx, func() { timer.Stop() })
}

// caller checks the digest of an INVITE that carries one. False: it has been answered.
func (c *Calls) caller(ctx context.Context, d *sip.Dialog) (webhooks.CredentialID, bool) {
	auth, ok := d.Authorization("")
	if !ok {
		return "", true
	}
	cred, err := c.credential(ctx, auth.Realm, auth.Username, d.RemoteAddr().Addr())
	if err != nil {
		c.refuseRoute(d, control.Incoming{}, err)
		return "", false
	}
	switch err := c.digest.Verify(d.RemoteAddr().Addr(), "INVITE", auth, ha1(cred)); {
	case err == nil && cred.Found:
		c.bans.Succeeded(d.RemoteAddr().Addr())
		return cred.CredentialID, true
	case errors.Is(err, sip.ErrStale):
		c.challenge(d, cred.Realm, true)
	default:
		c.bans.Failed(d.RemoteAddr().Addr())
		c.cfg.Observer.authFailed("INVITE")
		c.challenge(d, cred.Realm, false)
	}
	return "", false
}

// credential asks for a user's secrets, in bounded time.
func (c *Calls) credential(ctx context.Context, domain, user string, source netip.Addr) (control.Credential, error) {
	ctx, done := context.WithTimeout(ctx, routeTime)
	defer done()
	return c.cfg.Control.Credential(ctx, control.CredentialQuery{Domain: domain, Username: user, Source: source})
}

// ha1 gives the digest check the stored secret of an algorithm; "" for a user that does not exist, which the check
// takes as long to refuse.
func ha1(cred control.Credential) func(algorithm string) string {
	return func(algorithm string) string {
		if algorithm == sip.SHA256 {
			return cred.HA1SHA256
		}
		return cred.HA1MD5
	}
}

func (c *Calls) challenge(d *sip.Dialog, realm string, stale bool) {
	c.cfg.Observer.invited(In, 401)
	if err := d.Challenge(c.digest.Challenge(d.RemoteAddr().Addr(), realm, stale)); err != nil {
		c.cfg.Logger.Debug("sip.challenge", "error", err.Error())
	}
}

func (c *Calls) refuse(d *sip.Dialog, code int, headers ...sip.Header) {
	c.cfg.Observer.invited(In, code)
	if err := d.Reject(code, headers...); err != nil {
		c.cfg.Logger.Debug("sip.reject", "error", err.Error())
	}
}

// refuseRoute answers an INVITE that no call comes of.
func (c *Calls) refuseRoute(d *sip.Dialog, in control.Incoming, err error) {
	var refusal *control.Error
	if !errors.As(err, &refusal) {
		c.cfg.Logger.Warn("call.unrouted", "error", err.Error())
		c.refuse(d, 503, retryAfter)
		return
	}
	level := slog.LevelInfo
	if refusal.Code == control.CodeChallenge {
		level = slog.LevelDebug // every phone is asked for its password once
	}
	c.cfg.Logger.Log(c.ctx, level, "call.refused", "code", refusal.Code, "source", d.RemoteAddr().Addr().String(), "sip_call_id", in.SIPCallID)
	// The rule names the number.
	c.cfg.Logger.Debug("call.refused_by", "rule", refusal.Message, "sip_call_id", in.SIPCallID)
	switch refusal.Code {
	case control.CodeSilence:
		c.cfg.Observer.invited(In, 0)
		d.Drop()
	case control.CodeChallenge:
		c.challenge(d, refusal.Realm, false)
	case control.CodeNotFound:
		c.refuse(d, 404)
	case control.CodeNotAllowed:
		c.refuse(d, 403)
	case control.CodeBusy:
		c.refuse(d, 503, retryAfter)
	default:
		c.refuse(d, 500)
	}
}

// incoming is what the control plane needs to know of an INVITE.
func incoming(d *sip.Dialog, edge webhooks.EdgeID) control.Incoming {
	in := control.Incoming{
		CallID: webhooks.NewCallID(), EdgeID: edge, SIPCallID: d.SIPCallID(),
		Source: d.RemoteAddr(), Transport: d.Transport(),
		FromUser: d.From().User, FromHost: d.From().Host, FromName: d.From().Display,
		ToUser: d.RequestURI().User, ToHost: d.RequestURI().Host,
	}
	if pai, ok := d.PAI(); ok {
		in.PAI = pai.User
	}
	if diversion := d.Diversion(); len(diversion) > 0 {
		in.Diversion = diversion[0].User
	}
	return in
}
