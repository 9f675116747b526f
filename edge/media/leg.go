package media

import (
	"fmt"
	"io"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hookswitch/hookswitch/edge/media/codec"
	"github.com/hookswitch/hookswitch/edge/media/dtmf"
)

// Leg is one media direction pair: what one peer sends us and what we send it. Every method is safe for concurrent use
// and returns without waiting for the network; what it asks for happens at one of the next ticks, in the order asked.
// After Close, and after the engine ended, methods do nothing.
type Leg struct {
	engine *Engine
	id     uint64
	port   uint16
	events chan Event
	own    *leg // the shard's; never touched from here, only handed over in commands
	closed atomic.Bool

	// mu also keeps what is asked of the leg in order while it moves: it is held until a command is handed over. Who
	// needs two takes that of the smaller id first.
	mu     sync.Mutex
	shard  *shard // that takes its commands
	params Params // as last set

	statsMu sync.Mutex
	stats   Stats // the shard's newest copy
}

// Params is what the offer and answer agreed on for a leg.
type Params struct {
	// Remote is where the peer's SDP wants RTP. We send there until the first valid packet says where the peer really is
	// (symmetric RTP, RFC 4961); that source is then kept until Remote changes.
	Remote netip.AddrPort
	// RemoteRTCP is where RTCP goes; the zero value is Remote's port + 1 (RFC 3550 §11).
	RemoteRTCP netip.AddrPort
	// RTCPMux sends RTCP from and to the RTP ports (RFC 5761). It is understood on both ports either way.
	RTCPMux bool
	// Codec and PayloadType are the audio in both directions.
	Codec       codec.ID
	PayloadType uint8
	// DTMF says that telephone-event was negotiated, as DTMFPayloadType (RFC 4733, 8 kHz clock).
	DTMF            bool
	DTMFPayloadType uint8
	// Send keeps a packet going out every 20 ms, silence when there is nothing else. While it is off (hold) prompts and
	// bridged audio run on unheard.
	Send bool
	// Receive listens. While it is off (hold) what arrives is dropped.
	Receive bool
	// Timeout is how long Receive may be without a packet before a MediaTimeout event; 0 is never. DefaultTimeout is
	// what calls use.
	Timeout time.Duration
}

func (p Params) check() error {
	if !p.Send && !p.Receive {
		return nil
	}
	if !p.Codec.Valid() {
		return fmt.Errorf("media: no codec")
	}
	if p.PayloadType > maxPayloadType || p.DTMF && p.DTMFPayloadType > maxPayloadType {
		return fmt.Errorf("media: payload type must be 0–127")
	}
	if p.DTMF && p.DTMFPayloadType == p.PayloadType {
		return fmt.Errorf("media: payload type %d is both audio and telephone-event", p.PayloadType)
	}
	if p.Send && (!p.Remote.IsValid() || p.Remote.Port() == 0) {
		return fmt.Errorf("media: no remote address to send to")
	}
	return nil
}

// Port is our RTP port, even; RTCP is on the next one.
func (l *Leg) Port() uint16 { return l.port }

// Set starts the media, or changes it after a re-INVITE. Another Remote than before forgets the latched source. It
// returns an error, and changes nothing, when the parameters do not make sense together.
func (l *Leg) Set(p Params) error {
	if err := p.check(); err != nil {
		return err
	}
	p.Remote = unmapped(p.Remote)
	p.RemoteRTCP = unmapped(p.RemoteRTCP)
	l.mu.Lock()
	defer l.mu.Unlock()
	if !p.Codec.Valid() {
		p.Codec = l.params.Codec
	}
	if !l.hand(command{op: opSet, params: p}) {
		return ErrClosed
	}
	l.params = p
	return nil
}

func unmapped(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// Events is what happens on the leg. It is closed after Close, when everything that was started has ended. When nobody
// reads, events that answer no command are dropped and counted; of the others those still unread 2 s after Close.
func (l *Leg) Events() <-chan Event { return l.events }

// PlayConfig is one Play.
type PlayConfig struct {
	// Prompts play one after another without a gap, to the sample.
	Prompts []*Prompt
	// Loop is how often the whole list plays; 0 is for ever.
	Loop int
	// Start skips the beginning of the first round.
	Start time.Duration
	// Over leaves the Play that runs alone: it waits, and goes on when this one has ended. It replaces another such.
	// Rooms do not mind it.
	Over bool
}

// Play replaces what the leg's peer hears, from its next packet on: prompts, or the voices of a bridge or a room for as long
// as the prompts last. It ends with PlayDone. Before the first Set prompts wait. It returns 0 when the leg is closed.
func (l *Leg) Play(config PlayConfig) PlayID {
	id := PlayID(l.engine.ids.Add(1))
	if !l.send(command{op: opPlay, player: newPlayer(id, config)}) {
		return 0
	}
	return id
}

// StopPlay ends a Play; nothing happens when another one, or none, is playing.
func (l *Leg) StopPlay(id PlayID) {
	l.send(command{op: opStopPlay, id: uint64(id)})
}

// SendDigits presses keys (0-9 * # A-D; w and W pause for 0.5 and 1 s) as RFC 4733 events, each for duration and followed
// by gap. The peer hears nothing else meanwhile; a prompt waits. It ends with DigitsSent, at once and with ErrNoDTMF when
// telephone-event was not negotiated. Several SendDigits follow one another.
func (l *Leg) SendDigits(keys string, duration, gap time.Duration) {
	sender, err := dtmf.NewSender(keys, duration, gap)
	l.send(command{op: opDigits, digits: sending{sender: sender, err: err}})
}

// RecordConfig is one Record.
type RecordConfig struct {
	// Writer is given G.711 octets in the codec the leg had when Record was called: what was received, octet for octet
	// but for SetMute and SetGain, and silence where nothing was. It is called from one goroutine, never concurrently, never after RecordDone.
	Writer io.Writer
	// Channels is 1 for what the peer says; 2 for that and what it is sent, one octet of each in turn.
	Channels int
	// MaxLength ends the recording, pauses not counted; 0 is no limit.
	MaxLength time.Duration
	// Silence ends the recording when nobody has spoken for so long, also at its beginning; 0 is off.
	Silence time.Duration
	// Trim leaves out the silence before the first word, except for its last 200 ms. What comes after the last word is
	// written, and told as Event.Trailing for the owner to cut off.
	Trim bool
}

// Record starts a recording, which ends with RecordDone. Several may run at once. It returns 0 when the leg is closed.
func (l *Leg) Record(config RecordConfig) RecordID {
	l.mu.Lock()
	c := l.params.Codec
	l.mu.Unlock()
	id := RecordID(l.engine.ids.Add(1))
	r := newRecorder(id, c, config)
	l.engine.writers.add(r)
	if !l.send(command{op: opRecord, recorder: r}) {
		r.discard()
		return 0
	}
	return id
}

// StopRecord ends a recording; what it holds is still written.
func (l *Leg) StopRecord(id RecordID) {
	l.send(command{op: opStopRecord, id: uint64(id)})
}

// PauseRecord leaves out what happens until it is called again with paused false.
func (l *Leg) PauseRecord(id RecordID, paused bool) {
	l.send(command{op: opPauseRecord, id: uint64(id), paused: paused})
}

// Bridge lets two legs hear each other from the next tick on, instead of whomever they were bridged with before. Audio is
// transcoded when their codecs differ; keys are passed on as RFC 4733 where that was negotiated, and reported by the leg
// that received them either way. A room that one of them was in is left; b moves to where a is. It returns ErrClosed, and
// ErrOtherShard for legs of two engines.
func Bridge(a, b *Leg) error {
	if a.engine != b.engine {
		return ErrOtherShard
	}
	if a == b {
		return fmt.Errorf("media: a leg cannot be bridged with itself")
	}
	first, second := a, b
	if b.id < a.id {
		first, second = b, a
	}
	first.mu.Lock()
	defer first.mu.Unlock()
	second.mu.Lock()
	defer second.mu.Unlock()
	if a.closed.Load() || b.closed.Load() || !b.moveTo(a.shard) || !a.hand(command{op: opBridge, peer: b.own}) {
		return ErrClosed
	}
	return nil
}

// Unbridge ends the bridge on both sides.
func (l *Leg) Unbridge() {
	l.send(command{op: opUnbridge})
}

// SetMute silences a direction until it is called again: In, so that nobody hears what the peer says, neither a bridged
// leg nor a room nor a recording; Out, so that the peer hears neither of the first two, but what is played to it still. Keys
// and detectors do not mind. To hold a leg is to Play music to it and to mute In.
func (l *Leg) SetMute(d Direction, muted bool) {
	l.send(command{op: opMute, way: d, muted: muted})
}

// SetGain makes a direction louder by db decibels, −MaxGain to MaxGain, or softer; what would be over full scale is
// clipped. In is what the peer says, recordings included and detectors not; Out is all that it hears.
func (l *Leg) SetGain(d Direction, db float64) error {
	if err := checkGain(db); err != nil {
		return err
	}
	if !l.send(command{op: opGain, way: d, db: db}) {
		return ErrClosed
	}
	return nil
}

// Stats is what the leg has carried, as of its last frame; also after Close.
func (l *Leg) Stats() Stats {
	l.statsMu.Lock()
	defer l.statsMu.Unlock()
	stats := l.stats
	stats.MOS = stats.mos()
	return stats
}

// Close says BYE by RTCP, stops what runs and frees the port at the next tick. It may be called twice.
func (l *Leg) Close() {
	if l.closed.Swap(true) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.engine.send(l.shard, command{op: opClose, leg: l.own})
}

func (l *Leg) send(c command) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.hand(c)
}

// hand gives a command to the shard; false means that leg or engine is closed. The caller holds mu.
func (l *Leg) hand(c command) bool {
	if l.closed.Load() {
		return false
	}
	c.leg = l.own
	return l.engine.send(l.shard, c)
}
