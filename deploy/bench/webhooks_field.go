package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// How late the audio's clock may be before new calls are refused. What it is matters to the phase of the calls; here a
// refused call would say nothing of webhooks.
const lateness = "100ms"

// audioPorts are the server's.
const audioPorts = "10000-29999"

// startTogether starts both halves in one process.
func startTogether(ctx context.Context, binary string) (*server, error) {
	s, err := newServer(ctx)
	if err != nil {
		return nil, err
	}
	if s.sip, err = freeSIP(ctx); err != nil {
		return nil, err
	}
	return s, s.start(ctx, binary, "up", "--sip", s.sip.String(), "--rtp", audioPorts, "--max-lateness", lateness)
}

func freeSIP(ctx context.Context) (netip.AddrPort, error) {
	port, err := freePort(ctx)
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(port)), err
}

// startApart starts the control plane, and an edge that may reach 127.0.0.1 alone of what is not public: both halves in one
// process would allow all of loopback. stop ends both.
func startApart(ctx context.Context, binary string) (s *server, stop func(), err error) {
	if s, err = newServer(ctx); err != nil {
		return nil, nil, err
	}
	arguments, err := s.controlPlane(ctx, "")
	if err != nil {
		return nil, nil, err
	}
	if err := s.start(ctx, binary, arguments...); err != nil {
		return nil, nil, err
	}
	edge, err := s.startEdge(ctx, binary)
	if err != nil {
		s.stop()
		return nil, nil, err
	}
	return s, func() {
		if err := errors.Join(edge.Process.Signal(syscall.SIGTERM), edge.Wait()); err != nil {
			fmt.Fprintln(os.Stderr, "bench: the edge's end:", err)
		}
		s.stop()
	}, nil
}

// startEdge starts an edge of a control plane, and waits until it takes calls.
func (s *server) startEdge(ctx context.Context, binary string) (*exec.Cmd, error) {
	token, err := s.edgeToken(ctx, binary, "")
	if err != nil {
		return nil, err
	}
	port, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	if s.sip, err = freeSIP(ctx); err != nil {
		return nil, err
	}
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	ops := fmt.Sprintf("127.0.0.1:%d", port)
	cmd := exec.CommandContext(ctx, binary, "edge", "--control", s.edges, "--token", token, "--sip", s.sip.String(), "--rtp", audioPorts,
		"--max-lateness", lateness, "--allow-network", "127.0.0.1/32", "--data", filepath.Join(s.dir, "edge"), "--ops", ops,
		"--drain", "10s", "--log-level", "warn")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	if err := ready(ctx, "http://"+ops); err != nil {
		text, _ := os.ReadFile(filepath.Join(s.dir, "log"))
		return nil, errors.Join(fmt.Errorf("the edge did not come up: %w\n%s", err, text), cmd.Process.Signal(syscall.SIGTERM), cmd.Wait())
	}
	return cmd, nil
}

// ready waits until a process says that it takes work.
func ready(ctx context.Context, ops string) error {
	err := errors.New("it never answered")
	for range 200 {
		var req *http.Request
		var res *http.Response
		if req, err = http.NewRequestWithContext(ctx, http.MethodGet, ops+"/readyz", nil); err != nil {
			return err
		}
		if res, err = http.DefaultTransport.RoundTrip(req); err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
			err = errors.New(res.Status)
		}
		time.Sleep(50 * time.Millisecond)
	}
	return err
}

// field is a server with its tenants, and the callers of the generator that call them.
type field struct {
	server  *server
	tenants []*tenant
	hear    *hearing
	dialled atomic.Uint32 // calls so far; no two of them send the same

	stop  context.CancelFunc
	parts sync.WaitGroup // of the generator
}

// tenant is an account with a trunk, whose calls come from an address of its own.
type tenant struct {
	api    *server // with a key of the account
	caller *agent
	field  *field
}

// newField makes accounts with the platform's key, and starts a caller for each. close must be called.
func newField(ctx context.Context, s *server, binary string, tenants int) (*field, error) {
	platform, err := s.platformKey(ctx, binary)
	if err != nil {
		return nil, err
	}
	f := &field{server: s, hear: newHearing()}
	running, stop := context.WithCancel(ctx)
	f.stop = stop
	f.parts.Go(func() { f.hear.run(running) })
	for i := range tenants {
		t, err := f.tenant(ctx, platform, i)
		if err != nil {
			return nil, errors.Join(err, f.close())
		}
		f.tenants = append(f.tenants, t)
		f.parts.Add(1)
		go t.caller.run(running, &f.parts)
	}
	return f, nil
}

func (f *field) close() error {
	f.stop()
	f.parts.Wait()
	return f.hear.failed
}

// platformKey makes an operator's key, as an operator does.
func (s *server) platformKey(ctx context.Context, binary string) (*server, error) {
	text, err := exec.CommandContext(ctx, binary, "key", "create", "--platform", "--data", s.dir).Output()
	if err != nil {
		return nil, fmt.Errorf("key create --platform: %w", err)
	}
	return &server{http: s.http, key: strings.TrimSpace(string(text))}, nil
}

func (f *field) tenant(ctx context.Context, platform *server, i int) (*tenant, error) {
	var account struct{ ID string }
	err := platform.post(ctx, "/v1/accounts", map[string]any{
		"name": fmt.Sprintf("bench-%d", i), "default_country": "CN", "domains": []string{fmt.Sprintf("bench-%d.invalid", i)},
	}, &account)
	if err != nil {
		return nil, err
	}
	var key struct{ Key string }
	err = platform.post(ctx, "/v1/accounts/"+account.ID+"/api_keys", map[string]any{
		"name": "bench", "permissions": []string{"*"}, "rate_per_second": 10_000,
	}, &key)
	if err != nil {
		return nil, err
	}
	t := &tenant{api: &server{http: f.server.http, key: key.Key}, field: f}
	address := netip.AddrFrom4([4]byte{127, 0, 1, byte(i + 1)})
	if t.caller, err = newCaller(address, f.server.sip, f.hear.streams); err != nil {
		return nil, err
	}
	return t, t.api.post(ctx, "/v1/trunks", map[string]any{
		"name": "generator", "address": address.String(), "networks": []string{address.String() + "/32"},
	}, nil)
}

// newCaller is an agent at an address, by which its account is known.
func newCaller(at netip.Addr, server netip.AddrPort, streams *generator) (*agent, error) {
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(at, 0)))
	if err != nil {
		return nil, err
	}
	if err := conn.SetReadBuffer(8 << 20); err != nil {
		return nil, err
	}
	return &agent{conn: conn, server: net.UDPAddrFromAddrPort(server), gen: streams, calls: map[string]*call{}}, nil
}

// answers gives the account an application and its number: voice_url or program, and the limits that differ from the
// defaults.
func (t *tenant) answers(ctx context.Context, number string, application map[string]any) (id string, err error) {
	var app struct{ ID string }
	application["name"] = "bench " + number
	if err := t.api.post(ctx, "/v1/applications", application, &app); err != nil {
		return "", err
	}
	return app.ID, t.api.post(ctx, "/v1/numbers", map[string]any{"number": number, "application_id": app.ID}, nil)
}

// outgoing is a call and who has placed it.
type outgoing struct {
	*call
	by *agent
}

// dial calls a number of the tenant.
func (t *tenant) dial(number string) (outgoing, error) {
	c, err := t.caller.dial(number, t.field.dialled.Add(1)*104729)
	return outgoing{c, t.caller}, err
}

// longest is how long a call may last before the generator ends it, which shows in what is counted.
const longest = 40 * time.Second

// place calls n times, rate a second by the clock, and returns when all those calls are over.
func (f *field) place(ctx context.Context, n, rate int, dial func(i int) (outgoing, error)) ([]outgoing, error) {
	all, err := pace(ctx, n, rate, dial)
	late := time.Now().Add(longest)
	for _, c := range all {
		select {
		case <-c.done:
		case <-time.After(time.Until(late)):
			c.giveUp()
		case <-ctx.Done():
			return all, ctx.Err()
		}
	}
	f.hear.await(ctx, all)
	return all, err
}

// pace calls n times, rate a second by the clock.
func pace(ctx context.Context, n, rate int, dial func(i int) (outgoing, error)) ([]outgoing, error) {
	all := make([]outgoing, 0, n)
	began := time.Now()
	for i := 0; i < n && ctx.Err() == nil; i++ {
		if wait := time.Until(began.Add(time.Duration(i) * time.Second / time.Duration(rate))); wait > 0 {
			time.Sleep(wait)
		}
		c, err := dial(i)
		if err != nil {
			return all, err
		}
		all = append(all, c)
	}
	return all, ctx.Err()
}

// giveUp ends a call that is not over, and returns when it is.
func (o outgoing) giveUp() {
	for range 4 { // as an INVITE, a CANCEL may be lost where thousands leave at once
		select {
		case <-o.answered:
			o.by.hangUp(o.call)
			return
		default:
		}
		o.requestAsInvite("CANCEL", "")
		select {
		case <-o.answered:
		case <-o.done:
			o.requestAsInvite("ACK", ";tag="+o.toTag)
			return
		case <-time.After(500 * time.Millisecond):
		}
	}
	o.by.end(o.call)
}

// requestAsInvite sends what has the branch of the INVITE: CANCEL (RFC 3261 §9.1) and the ACK of a refusal (§17.1.1.3).
func (o outgoing) requestAsInvite(method, tag string) {
	uri := "sip:" + o.number + "@" + o.by.server.String()
	o.by.write(fmt.Sprintf("%s %s SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bK%sINVITE1;rport\r\nFrom: <sip:+8613800000000@bench.invalid>;tag=b%s\r\n"+
		"To: <%s>%s\r\nCall-ID: %s\r\nCSeq: 1 %s\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n",
		method, uri, o.by.addr(), o.id, o.id, uri, tag, o.id, method))
}

// times are those from INVITE to 200, sorted. A call that was not answered is an error.
func times(all []outgoing) ([]time.Duration, error) {
	var took []time.Duration
	refused := map[int]int{}
	for _, c := range all {
		if c.code != http.StatusOK { // as in SIP
			refused[c.code]++
			continue
		}
		took = append(took, c.setup)
	}
	slices.Sort(took)
	if len(refused) > 0 {
		return took, fmt.Errorf("%d of %d calls were not answered; by SIP code (0: no response): %v", len(all)-len(took), len(all), refused)
	}
	return took, nil
}
