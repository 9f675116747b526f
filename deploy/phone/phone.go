// Package phone is a telephone made of the edge's own SIP and media: it places one real call, presses keys, speaks a
// file, listens, and tells what happened on the wire and what it heard. The call command and the end-to-end tests
// use it; it knows nothing of the control plane.
package phone

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hookswitch/hookswitch/edge/media"
	"github.com/hookswitch/hookswitch/edge/media/codec"
	"github.com/hookswitch/hookswitch/edge/media/wav"
	"github.com/hookswitch/hookswitch/edge/sdp"
	"github.com/hookswitch/hookswitch/edge/sip"
)

// Press is a run of keys at a time after the answer.
type Press struct {
	Keys string
	At   time.Duration
}

// ParsePresses reads "1@2s,5#@6s".
func ParsePresses(text string) ([]Press, error) {
	var out []Press
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		keys, at, ok := strings.Cut(part, "@")
		when, err := time.ParseDuration(at)
		if !ok || err != nil || keys == "" {
			return nil, fmt.Errorf("digits are KEYS@TIME, such as 1@2s or 5#@6s; %q is not", part)
		}
		out = append(out, Press{keys, when})
	}
	return out, nil
}

// Call is what to do.
type Call struct {
	Server   netip.AddrPort // where SIP is
	To       string         // user part of the called URI
	From     string         // user part of From
	Domain   string         // host of From and of the called URI; "" the server's address
	Username string         // for a challenge
	Password string
	Network  string        // udp (default) or tcp
	Digits   []Press       // in order of time
	Speak    []int16       // mono at 8 kHz, from the answer on; nil is silence
	HangUp   time.Duration // after the answer; 0 waits for the other side, at most MaxTalk
	Timeout  time.Duration // for an answer; 0 is 60 s
}

// MaxTalk ends a call that nobody else ends.
const MaxTalk = 10 * time.Minute

// Message is one line of the ladder.
type Message struct {
	At   time.Duration // since the call began
	Sent bool
	Line string // "INVITE", "183 Session Progress" …
}

// Report is what happened.
type Report struct {
	SIPCallID  string
	Ladder     []Message
	Answered   bool
	Code       int // final response of the INVITE
	Reason     string
	RingTime   time.Duration
	FirstAudio time.Duration // from the INVITE; 0 when nothing was heard
	TalkTime   time.Duration
	EndedByUs  bool
	Heard      []int16 // mono at 8 kHz, from the answer on
	Stats      media.Stats
	Err        error // why the call failed; nil when it was answered and ended as calls do
}

// phone is one call in progress.
type phone struct {
	call   Call
	began  time.Time
	engine *media.Engine
	server *sip.Server
	addr   netip.Addr
	leg    *media.Leg
	local  sdp.Local
	heard  bytes.Buffer
	codec  codec.ID

	mu     sync.Mutex // guards report
	report Report
}

// Place makes the call and returns when it is over, or ctx is.
func Place(ctx context.Context, call Call, log *slog.Logger) Report {
	p := &phone{call: call, began: time.Now()}
	if err := p.open(log); err != nil {
		return Report{Err: err}
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	var parts sync.WaitGroup
	parts.Go(func() { p.fail(p.engine.Run(running)) })
	parts.Go(func() { p.fail(p.server.Run(running)) })
	p.fail(p.talk(ctx))
	stop()
	parts.Wait()
	p.report.Heard = make([]int16, p.heard.Len())
	p.codec.Decode(p.report.Heard, p.heard.Bytes())
	return p.report
}

// fail keeps the first reason why the call failed.
func (p *phone) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.report.Err == nil {
		p.report.Err = err
	}
}

// open takes the sockets.
func (p *phone) open(log *slog.Logger) error {
	probe, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(p.call.Server))
	if err != nil {
		return fmt.Errorf("no route to %s: %w", p.call.Server, err)
	}
	p.addr = probe.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
	if err := probe.Close(); err != nil {
		return err
	}
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(p.addr, 0)))
	if err != nil {
		return err
	}
	port := conn.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	p.server, err = sip.New(sip.Config{
		Listen:    []sip.Listener{{Network: "udp", PacketConn: conn}},
		Contact:   func(netip.Addr) netip.AddrPort { return netip.AddrPortFrom(p.addr, port) },
		UserAgent: "hookswitch-call", Logger: log, Trace: p.trace,
	})
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	p.engine, err = media.New(media.Config{Shards: 1, IP: p.addr, PortMin: 30000, PortMax: 49999, RealTime: true, Logger: log})
	return err
}

func (p *phone) talk(ctx context.Context) error {
	var err error
	if p.leg, err = p.engine.NewLeg(media.LegConfig{}); err != nil {
		return err
	}
	defer p.drain()
	p.local = sdp.Local{Addr: p.addr, Port: p.leg.Port(), SessionID: rand.Uint64() >> 1, Version: 1}
	d, err := p.ring(ctx)
	if err != nil {
		return p.unanswered(err)
	}
	p.report.SIPCallID = d.SIPCallID()
	p.report.Answered, p.report.Code, p.report.RingTime = true, 200, time.Since(p.began)
	if err := p.listen(d.Body()); err != nil {
		return errors.Join(err, p.bye(d))
	}
	answered := time.Now()
	err = p.converse(ctx, d)
	p.report.TalkTime = time.Since(answered)
	return err
}

func (p *phone) ring(ctx context.Context) (*sip.Dialog, error) {
	timeout := p.call.Timeout
	if timeout == 0 {
		timeout = time.Minute
	}
	ctx, done := context.WithTimeout(ctx, timeout)
	defer done()
	domain := p.call.Domain
	if domain == "" {
		domain = p.call.Server.String()
	}
	config := sip.InviteConfig{
		URI: "sip:" + p.call.To + "@" + domain, Transport: p.call.Network, Destination: p.call.Server,
		From: sip.Party{User: p.call.From, Host: hostOf(domain)},
		Body: sdp.Offer(p.local),
		OnProvisional: func(r *sip.Response) {
			if len(r.Body()) > 0 {
				p.fail(p.listen(r.Body()))
			}
		},
	}
	if p.call.Username != "" {
		config.Auth = &sip.Credentials{Username: p.call.Username, Password: p.call.Password}
	}
	return p.server.Invite(ctx, config)
}

func hostOf(domain string) string {
	if host, _, err := net.SplitHostPort(domain); err == nil {
		return host
	}
	return domain
}

// unanswered notes a call that nobody took.
func (p *phone) unanswered(err error) error {
	var rejected *sip.RejectedError
	if errors.As(err, &rejected) {
		p.report.Code, p.report.Reason = rejected.Code, rejected.Reason
		return fmt.Errorf("the call was refused: %d %s", rejected.Code, rejected.Reason)
	}
	return fmt.Errorf("the call was not answered: %w", err)
}

// listen puts the answer into force and keeps what is heard from then on.
func (p *phone) listen(body []byte) error {
	answer, err := sdp.Parse(body)
	if err != nil {
		return err
	}
	agreed, err := sdp.Accept(answer, p.local)
	if err != nil {
		return err
	}
	first := p.codec == 0
	p.codec = agreed.Codec
	err = p.leg.Set(media.Params{
		Remote: agreed.Remote, RemoteRTCP: agreed.RTCP, RTCPMux: agreed.RTCPMux, Codec: agreed.Codec, PayloadType: agreed.PayloadType,
		DTMF: agreed.DTMF, DTMFPayloadType: agreed.DTMFPayloadType, Send: agreed.Direction.Sends(), Receive: agreed.Direction.Receives(),
		Timeout: media.DefaultTimeout,
	})
	if err != nil || !first {
		return err
	}
	p.leg.Record(media.RecordConfig{Writer: &p.heard, Channels: 1})
	return nil
}

// converse does what was asked until the call ends.
func (p *phone) converse(ctx context.Context, d *sip.Dialog) error {
	began := time.Now()
	if len(p.call.Speak) > 0 {
		p.leg.Play(media.PlayConfig{Prompts: []*media.Prompt{media.NewPrompt(p.call.Speak)}, Loop: 1})
	}
	most := MaxTalk
	if p.call.HangUp > 0 {
		most = p.call.HangUp
	}
	end := time.NewTimer(most)
	defer end.Stop()
	left := p.call.Digits
	for {
		var press <-chan time.Time
		if len(left) > 0 {
			timer := time.NewTimer(time.Until(began.Add(left[0].At)))
			defer timer.Stop() // few, and gone with the call
			press = timer.C
		}
		select {
		case <-press:
			p.leg.SendDigits(left[0].Keys, 100*time.Millisecond, 100*time.Millisecond)
			left = left[1:]
		case e, open := <-p.leg.Events():
			switch {
			case open && e.Kind == media.FirstPacket && p.report.FirstAudio == 0:
				p.report.FirstAudio = time.Since(p.began)
			case open && e.Kind == media.MediaTimeout: // the server is gone without a word
				return errors.Join(fmt.Errorf("no audio for %s", e.Duration), p.bye(d))
			}
		case <-d.Context().Done():
			if cause := context.Cause(d.Context()); !errors.Is(cause, sip.ErrRemoteBye) {
				return cause
			}
			return nil
		case <-end.C:
			return p.bye(d)
		case <-ctx.Done():
			return p.bye(d)
		}
	}
}

func (p *phone) bye(d *sip.Dialog) error {
	p.report.EndedByUs = true
	ctx, done := context.WithTimeout(context.Background(), 5*time.Second)
	defer done()
	return d.Bye(ctx)
}

// drain closes the leg and reads its events to the end, by when everything heard has been written.
func (p *phone) drain() {
	p.leg.Close()
	for e := range p.leg.Events() {
		if e.Kind == media.FirstPacket && p.report.FirstAudio == 0 {
			p.report.FirstAudio = time.Since(p.began)
		}
	}
	p.report.Stats = p.leg.Stats()
}

// trace keeps the ladder.
func (p *phone) trace(e sip.TraceEvent) {
	line, _, _ := bytes.Cut(e.Message, []byte("\r\n"))
	text := string(line)
	if rest, ok := strings.CutPrefix(text, "SIP/2.0 "); ok {
		text = rest
	} else {
		text, _, _ = strings.Cut(text, " ")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.report.Ladder = append(p.report.Ladder, Message{At: e.Time.Sub(p.began), Sent: e.Out, Line: text})
}

// ReadWAV reads a file for Call.Speak.
func ReadWAV(file []byte) ([]int16, error) {
	pcm, err := wav.Decode(file, wav.Limits{})
	if err != nil {
		return nil, err
	}
	mono := pcm.Mono()
	return codec.Resample(mono.Samples, mono.Rate, media.SampleRate), nil
}

// Server reads host:port, the port being 5060 when absent.
func Server(text string) (netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		host, port = text, "5060"
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%q is not host:port", text)
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		found, lookupErr := net.DefaultResolver.LookupNetIP(context.Background(), "ip4", host)
		if lookupErr != nil || len(found) == 0 {
			return netip.AddrPort{}, fmt.Errorf("%s was not found", host)
		}
		addr = found[0]
	}
	return netip.AddrPortFrom(addr.Unmap(), uint16(number)), nil
}
