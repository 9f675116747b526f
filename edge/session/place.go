package session

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/trace"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/edge/media"
	"github.com/hookswitch/hookswitch/edge/media/codec"
	"github.com/hookswitch/hookswitch/edge/sdp"
	"github.com/hookswitch/hookswitch/edge/sip"
	"github.com/hookswitch/hookswitch/webhooks"
)

// placing is how an outgoing leg is set up.
type placing struct {
	near       *media.Leg // of the leg it may be bridged with
	codecs     []codec.ID // in this order, so that nothing need be transcoded
	callerName string
	headers    map[string]string
	username   string // for a sip target's challenge
	password   string
	early      func() // audio from before the answer is there; may be nil
}

// place calls the hops of an outgoing leg, rank after rank, those of one rank at once with one offer, as a forking
// proxy would (RFC 3261 §16.7). True: the leg is answered and its audio flows. Otherwise the session has ended, with
// the cause that says most.
func (s *Session) place(ctx context.Context, hops []control.Hop, p placing) bool {
	if len(hops) == 0 {
		s.cancel(ended{cause: webhooks.CauseUnreachable, text: "nobody is registered"})
		return false
	}
	slices.SortStableFunc(hops, func(a, b control.Hop) int { return a.Rank - b.Rank })
	s.call.To, s.call.Dialed = hops[0].To, hops[0].To
	s.call.From = hops[0].CallerID
	s.call.TrunkID, s.call.CredentialID, s.call.NumberID = hops[0].TrunkID, hops[0].CredentialID, hops[0].NumberID
	s.call.AgentID = hops[0].AgentID
	s.emitInitiated()
	var worst ended
	for first := 0; first < len(hops); {
		last := first
		for last < len(hops) && hops[last].Rank == hops[first].Rank {
			last++
		}
		dialog, end := s.fork(ctx, hops[first:last], p)
		if dialog != nil {
			return s.connected(dialog)
		}
		worst = worse(worst, end)
		if decided(end) || ctx.Err() != nil || s.ctx.Err() != nil {
			break
		}
		first = last
	}
	if ctx.Err() != nil {
		worst = endOf(ctx)
	}
	s.cancel(worst)
	return false
}

// decided reports whether a refusal is the called party's own, which another way to it would not change.
func decided(e ended) bool {
	switch e.cause {
	case webhooks.CauseBusy, webhooks.CauseDeclined, webhooks.CauseNotFound, webhooks.CauseNotAllowed, webhooks.CauseNoAnswer:
		return true
	}
	return false
}

// telling is the order in which causes say something about a party that several ways were tried to.
var telling = []webhooks.Cause{
	webhooks.CauseDeclined, webhooks.CauseBusy, webhooks.CauseNoAnswer, webhooks.CauseNotAllowed,
	webhooks.CauseNoCodec, webhooks.CauseNotFound, webhooks.CauseUnreachable,
}

// worse returns the end that says more.
func worse(a, b ended) ended {
	rank := func(e ended) int {
		if i := slices.Index(telling, e.cause); i >= 0 {
			return i
		}
		return len(telling)
	}
	if a.cause == "" || (b.cause != "" && rank(b) < rank(a)) {
		return b
	}
	return a
}

// attempt is what became of one INVITE.
type attempt struct {
	dialog *sip.Dialog
	end    ended
}

// fork invites hops at once and keeps the first that answers.
func (s *Session) fork(ctx context.Context, hops []control.Hop, p placing) (*sip.Dialog, ended) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	results := make(chan attempt, len(hops))
	for _, hop := range hops {
		s.spawn(func() {
			got := attempt{end: ended{cause: webhooks.CauseError}}
			defer func() { results <- got }() // come what may: fork waits for all of them
			got = s.invite(ctx, hop, p, len(hops) == 1)
		})
	}
	var winner *sip.Dialog
	var worst ended
	for left := len(hops); left > 0; {
		var got attempt
		select {
		case a := <-s.actions:
			s.takeRinging(a)
			continue
		case then := <-s.besides:
			then()
			continue
		case got = <-results:
			left--
		}
		switch {
		case got.dialog == nil:
			worst = worse(worst, got.end)
		case winner == nil:
			winner = got.dialog
			cancel(elsewhere()) // the others are told by CANCEL
		default: // answered in the same moment
			s.spawn(func() { s.release(got.dialog) })
		}
	}
	return winner, worst
}

// takeRinging takes a live change to a leg that is not answered yet: it ends, or the change is what runs once it is
// answered.
func (s *Session) takeRinging(a control.Action) {
	if s.actRinging(a) {
		return
	}
	if s.pending != nil {
		s.settleAction(webhooks.EventActionFailed, webhooks.EventData{ActionID: s.pending.ActionID, Op: opName(*s.pending), Message: "another change came before the call was answered"})
	}
	s.pending = &a
}

// release ends a dialog that nobody needs.
func (s *Session) release(d *sip.Dialog) {
	ctx, done := context.WithTimeout(context.WithoutCancel(s.ctx), routeTime)
	defer done()
	if err := d.Bye(ctx); err != nil {
		s.log.Debug("call.release", "error", err.Error())
	}
}

// invite places one INVITE and waits for its final answer.
func (s *Session) invite(ctx context.Context, hop control.Hop, p placing, alone bool) attempt {
	dest, err := s.destination(ctx, hop)
	if err != nil {
		return attempt{end: ended{cause: webhooks.CauseNotAllowed, text: err.Error()}}
	}
	offer, err := s.offer(dest.Addr(), p)
	if err != nil {
		return attempt{end: mediaEnd(err)}
	}
	_, span := s.calls.start(ctx, "sip INVITE", trace.SpanKindClient)
	d, err := s.calls.cfg.Invite(ctx, s.inviteConfig(hop, p, dest, offer, alone))
	s.calls.cfg.Observer.invited(Out, inviteCode(err))
	endInvite(span, hop, err)
	if err == nil {
		return attempt{dialog: d}
	}
	var rejected *sip.RejectedError
	switch {
	case ctx.Err() != nil && s.ctx.Err() == nil && !errors.As(err, &rejected):
		return attempt{end: ended{cause: webhooks.CauseCanceled}}
	case s.ctx.Err() != nil && !errors.As(err, &rejected):
		return attempt{end: endOf(s.ctx)}
	}
	return attempt{end: s.dialogEnd(err)}
}

// offer prepares the leg, once for all hops, and writes our offer.
func (s *Session) offer(peer netip.Addr, p placing) ([]byte, error) {
	s.opening.Lock()
	defer s.opening.Unlock()
	if s.leg == nil {
		if err := s.openLeg(p.near, peer, p.codecs); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sdp.audible = true
	return sdp.Offer(s.sdp.local), nil
}

// shownTo is who calls, as a hop is shown it. Whoever may not see the caller's number is not shown it as a name either.
func (p placing) shownTo(hop control.Hop, host string) sip.Party {
	if hop.Shown == "" {
		return sip.Party{Display: p.callerName, User: hop.CallerID, Host: host}
	}
	name := p.callerName
	if strings.Contains(name, strings.TrimPrefix(hop.CallerID, "+")) {
		name = ""
	}
	return sip.Party{Display: name, User: hop.Shown, Host: host}
}

func (s *Session) inviteConfig(hop control.Hop, p placing, dest netip.AddrPort, offer []byte, alone bool) sip.InviteConfig {
	host := hop.CallerHost
	if host == "" {
		host = s.calls.cfg.MediaAddr(dest.Addr()).String()
	}
	c := sip.InviteConfig{
		URI: hop.URI, Transport: hop.Transport, Destination: dest,
		From:          p.shownTo(hop, host),
		To:            sip.Party{User: hop.To, Host: dest.Addr().String()},
		Headers:       sipHeaders(p.headers),
		Body:          offer,
		OnProvisional: func(r *sip.Response) { s.provisional(r, p, alone, dest.Addr()) },
	}
	if uri, err := sip.ParseURI(hop.URI); err == nil && uri.Host != "" {
		c.To.Host = uri.Host
	}
	if hop.PAI != "" {
		c.PAI = &sip.Party{User: hop.PAI, Host: host}
	}
	user, pass := hop.Username, hop.Password
	if user == "" {
		user, pass = p.username, p.password
	}
	if user != "" {
		c.Auth = &sip.Credentials{Username: user, Password: pass, Realm: hop.Realm}
	}
	return c
}

// provisional notes that the party rings, and lets its early audio through where it can only be its own.
func (s *Session) provisional(r *sip.Response, p placing, alone bool, peer netip.Addr) {
	body := r.Body()
	s.mu.Lock()
	early := false
	if alone && len(body) > 0 && !s.sdp.set {
		early = s.accept(body, peer) == nil
	}
	if s.cdr.RingingAt == nil {
		s.emitLocked(webhooks.EventCallRinging, webhooks.EventData{EarlyMedia: early})
	}
	s.mu.Unlock()
	if early && p.early != nil {
		p.early()
	}
}

// accept puts the answer to our offer into force. The caller holds mu.
func (s *Session) accept(body []byte, peer netip.Addr) error {
	answer, err := sdp.Parse(body)
	if err != nil {
		return err
	}
	agreed, err := sdp.Accept(answer, s.sdp.local)
	if err != nil {
		return err
	}
	return s.agree(agreed, peer)
}

// connected takes over the dialog of an answered INVITE.
func (s *Session) connected(d *sip.Dialog) bool {
	s.follow(d)
	close(s.confirmed)
	s.mu.Lock()
	s.sdp.answered = true
	err := s.accept(d.Body(), d.RemoteAddr().Addr())
	s.mu.Unlock()
	s.leg.Answered()
	s.emit(webhooks.EventCallAnswered, webhooks.EventData{})
	s.touch()
	if err != nil {
		s.cancel(mediaEnd(err))
		return false
	}
	return s.ctx.Err() == nil
}

// destination is where the INVITE for a hop goes. What an account names, a trunk's address or a SIP URI, may not
// lead to addresses that accounts may not reach; a registered phone is reached where it registered from.
func (s *Session) destination(ctx context.Context, hop control.Hop) (netip.AddrPort, error) {
	target := hop.Destination
	if target == "" {
		uri, err := sip.ParseURI(hop.URI)
		if err != nil {
			return netip.AddrPort{}, fmt.Errorf("%q is not a SIP URI", hop.URI)
		}
		port := uri.Port
		if port == 0 {
			port = 5060
		}
		target = net.JoinHostPort(uri.Host, strconv.Itoa(port))
	}
	host, port, err := net.SplitHostPort(target)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%q is not host:port", target)
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%q names no port", target)
	}
	addrs, err := lookup(ctx, host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	for _, addr := range addrs {
		if hop.Kind == control.KindPhone || s.calls.cfg.Guard.CheckAddr(addr) == nil {
			return netip.AddrPortFrom(addr, uint16(number)), nil
		}
	}
	return netip.AddrPort{}, fmt.Errorf("%s: %w", host, errDenied)
}

// lookup resolves a host name; an address is itself.
func lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{addr.Unmap()}, nil
	}
	ctx, done := context.WithTimeout(ctx, routeTime)
	defer done()
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip4", host)
	if err != nil {
		return nil, fmt.Errorf("%s was not found in DNS", host)
	}
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	return addrs, nil
}

// sipHeaders are an application's headers for a SIP message; programs are checked for what may be in them.
func sipHeaders(headers map[string]string) []sip.Header {
	out := make([]sip.Header, 0, len(headers))
	for name, value := range headers {
		out = append(out, sip.Header{Name: name, Value: value})
	}
	slices.SortFunc(out, func(a, b sip.Header) int { return strings.Compare(a.Name, b.Name) })
	return out
}
