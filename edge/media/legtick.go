package media

import (
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/hookswitch/hookswitch/edge/media/codec"
	"github.com/hookswitch/hookswitch/edge/media/dtmf"
)

// leg is a Leg's state in its shard; only a tick touches it.
type leg struct {
	shard    *shard
	home     atomic.Pointer[shard] // the same, for other shards to see; nil on the way
	api      *Leg                  // its published statistics
	told     outbox
	rtp      PacketPort
	rtcp     PacketPort
	arrivals arrivalPort // rtp, when it knows
	slot     int
	firedAt  time.Time // nominal time of the last frame
	closed   bool
	closedAt time.Time

	configured bool
	params     Params
	silent     [samplesPerFrame]byte // a frame of silence in our codec

	// What we send.
	ssrc      uint32
	cname     [cnameSize]byte
	sequence  uint16
	stamp     uint32 // timestamp of the next frame
	mark      bool   // the next packet begins a spurt
	packet    [rtpHeaderSize + samplesPerFrame]byte
	player    *player
	over      *player // heard before player, which waits
	sendings  []sending
	relay     relay
	out       level
	peer      *leg  // whom we are bridged with
	seat      *seat // in the room we are in
	watching  *watch
	watchers  []*watch // others' of us
	report    [maxReportSize]byte
	reportAt  time.Time // of the next RTCP report
	sinceLast uint8     // bits: RTP was sent before the last report, before the one before

	// What we receive.
	latch      latch
	source     source
	jitter     jitterBuffer
	keys       dtmf.Receiver
	heardAt    time.Time // of the last packet
	heardEver  bool
	timedOut   bool
	in         level
	unpassed   bool                  // Passed is muted
	heard      [samplesPerFrame]byte // this frame
	forPeer    [samplesPerFrame]byte // the same for a bridged leg or a room, gaps concealed
	forPeerOK  bool
	good       [samplesPerFrame]byte // the last frame that came whole
	missed     int                   // frames since
	recordings recordings
	detectors  []detector
	answered   bool
	stats      Stats
	lostBefore uint64 // with earlier sources
}

const (
	maxRecv = 16
	// maxLateRecv keeps a backlog from outrunning the jitter buffer while frames are taken from it in the same tick.
	maxLateRecv = 3
	// maxRTCPRecv bounds the reports read per frame; two peers' worth is plenty.
	maxRTCPRecv = 2
	// concealedFrames is how many missing frames are covered up by fading repetition; more would hum.
	concealedFrames = 3
	// unreadLimit is how long after Close events wait for a reader.
	unreadLimit = 2 * time.Second
)

func newLeg(s *shard, api *Leg, rtp, rtcp PacketPort) *leg {
	l := &leg{
		shard:    s,
		api:      api,
		rtp:      rtp,
		rtcp:     rtcp,
		ssrc:     rand.Uint32(),
		sequence: uint16(rand.Uint32()),
		stamp:    rand.Uint32(),
		missed:   concealedFrames,
	}
	l.arrivals, _ = rtp.(arrivalPort)
	l.home.Store(s)
	l.firedAt = api.engine.config.Now()
	l.told.events = api.events
	l.stats.Port = api.port
	// RFC 7022 §4.2: a name that is unique to this session and tells nothing about the host.
	const letters = "abcdefghijklmnopqrstuvwxyz234567"
	for i, bits := 0, rand.Uint64(); i < cnameSize; i++ {
		if i == cnameSize/2 {
			bits = rand.Uint64()
		}
		l.cname[i] = letters[bits>>(5*(i%(cnameSize/2)))%32]
	}
	return l
}

// configure takes new parameters.
func (l *leg) configure(p Params, now time.Time) {
	was, first := l.params, !l.configured
	if !p.Codec.Valid() {
		p.Codec = codec.PCMU // neither sends nor receives; recordings of it still need one
	}
	l.params, l.configured = p, true
	l.stats.Codec = p.Codec
	fill(l.silent[:], p.Codec.Silence())
	if first || p.Remote != was.Remote {
		l.latch.open(p.Remote)
		l.stats.Source = netip.AddrPort{}
	}
	if first || p.RemoteRTCP != was.RemoteRTCP {
		l.latch.reports = netip.AddrPort{}
	}
	if p.Codec != was.Codec {
		l.jitter.reset()
		l.missed = concealedFrames
		l.transcodeHeld(was.Codec)
		l.in.tune(l.in.db, p.Codec)
		l.out.tune(l.out.db, p.Codec)
	}
	if p.Receive && !was.Receive {
		l.jitter.reset()
	}
	if p.Receive && (!was.Receive || (was.Timeout == 0 && p.Timeout > 0)) {
		l.heardAt, l.timedOut = now, false // the wait for audio begins when it is first expected
	}
	if p.Send && !was.Send {
		l.mark = true
	}
	if first {
		l.scheduleReport(now, rtcpInterval/2)
	}
}

// transcodeHeld keeps the frame a bridged leg is about to fetch in the codec it will be read as.
func (l *leg) transcodeHeld(was codec.ID) {
	if l.forPeerOK = l.forPeerOK && was.Valid() && l.params.Codec.Valid(); l.forPeerOK {
		codec.Transcode(l.forPeer[:], l.forPeer[:], was, l.params.Codec)
	}
}

// fire is one frame of the leg's life; later is how many more are due in the same tick.
func (l *leg) fire(now time.Time, later int64) {
	l.drain(now, later > 0)
	said := &l.silent
	if l.configured {
		l.listen(now)
		said = l.speak(now, later >= maxLateSends)
		l.reportIfDue(now)
	}
	if l.configured {
		l.recordings.frame(&l.heard, said, l.params.Codec)
	}
	l.recordings.sweep(&l.told, now)
	l.told.flush()
	l.publish()
}

// skip leaves out frames: time passes, nothing is sent or taken.
func (l *leg) skip(frames int64) {
	if !l.configured {
		return
	}
	l.stamp += uint32(frames) * uint32(samplesPerFrame)
	l.stats.LateTicks += uint64(frames)
	l.recordings.lose(frames)
}

// listen takes the next frame that was received and prepares what a bridged leg or a room will hear of it.
func (l *leg) listen(now time.Time) {
	octets := 0
	if l.params.Receive {
		octets = l.jitter.take(&l.heard, l.params.Codec)
		l.keys.Tick()
		l.releaseKey(now)
		l.checkTimeout(now)
	} else {
		l.heard = l.silent
	}
	l.stats.Inserted, l.stats.Skipped = l.jitter.inserted, l.jitter.skipped
	l.detect(now)
	l.in.amplify(&l.heard)
	l.conceal(octets)
	if l.in.muted {
		l.heard, l.forPeerOK = l.silent, false
	}
	l.forPeerOK = l.forPeerOK && !l.unpassed
	l.tell()
	if l.seat != nil && l.forPeerOK {
		l.seat.ready, l.forPeerOK = true, false
		l.params.Codec.Decode(l.seat.said[:], l.forPeer[:])
	}
}

// carried reports whether somebody else may hear what is received.
func (l *leg) carried() bool {
	return l.peer != nil || l.seat != nil && l.seat.role != Listen || len(l.watchers) > 0 || l.watching != nil && l.watching.role != Listen
}

func (l *leg) mute(d Direction, muted bool) {
	if d&In != 0 {
		l.in.muted = muted
	}
	if d&Out != 0 {
		l.out.muted = muted
	}
	if d&Passed != 0 {
		l.unpassed = muted
	}
}

func (l *leg) gain(d Direction, db float64) {
	if d&In != 0 {
		l.in.tune(db, l.params.Codec)
	}
	if d&Out != 0 {
		l.out.tune(db, l.params.Codec)
	}
}

// conceal fills forPeer: what was heard or, for the first frames of a gap, a fading repetition of what came before it.
// Recordings get the gap itself.
func (l *leg) conceal(octets int) {
	if octets > 0 {
		l.missed = 0
		l.forPeerOK = l.carried()
		if l.forPeerOK {
			l.good, l.forPeer = l.heard, l.heard
		}
		return
	}
	l.forPeerOK = false
	if l.missed >= concealedFrames {
		return
	}
	l.missed++
	if !l.jitter.running || l.keys.Down() {
		return
	}
	l.stats.Concealed++
	if !l.carried() {
		return
	}
	l.forPeerOK = true
	var pcm [samplesPerFrame]int16
	l.params.Codec.Decode(pcm[:], l.good[:])
	for i := range pcm {
		// Down to nothing over the whole of the concealment.
		left := (concealedFrames-l.missed+1)*samplesPerFrame - i
		pcm[i] = int16(int(pcm[i]) * left / (concealedFrames * samplesPerFrame))
	}
	l.params.Codec.Encode(l.forPeer[:], pcm[:])
}

func (l *leg) checkTimeout(now time.Time) {
	if l.params.Timeout <= 0 || l.timedOut || now.Sub(l.heardAt) < l.params.Timeout {
		return
	}
	l.timedOut = true
	l.told.emit(Event{Kind: MediaTimeout, At: now, Duration: now.Sub(l.heardAt)})
}

func (l *leg) play(p *player, now time.Time) {
	into := &l.player
	if p.over {
		into = &l.over
	}
	if *into != nil {
		l.endPlay(into, Replaced, now)
	}
	*into = p
	if p.done() {
		l.endPlay(into, Ended, now)
	}
}

// stopPlay ends the Play of an id, if it is one that plays or waits.
func (l *leg) stopPlay(id PlayID, now time.Time) {
	for _, p := range [2]**player{&l.over, &l.player} {
		if *p != nil && (*p).id == id {
			l.endPlay(p, Stopped, now)
		}
	}
}

func (l *leg) endPlay(p **player, reason Reason, now time.Time) {
	l.told.emit((*p).event(reason, now))
	*p = nil
}

// bridge joins two legs of one shard, after taking each out of the bridge it was in.
func bridge(a, b *leg) {
	if a.peer == b {
		return
	}
	a.unbridge()
	b.unbridge()
	a.leave()
	b.leave()
	a.unwatch()
	b.unwatch()
	a.peer, b.peer = b, a
	a.good, b.good = a.silent, b.silent
}

func (l *leg) unbridge() {
	if l.peer == nil {
		return
	}
	for _, side := range [2]*leg{l, l.peer} {
		side.peer, side.forPeerOK = nil, false
		side.relay.drop()
	}
}

// publish copies the statistics to where Leg.Stats finds them, unless somebody is reading there: then the next frame
// will. It reports whether it did.
func (l *leg) publish() bool {
	l.stats.RecordDropped, l.stats.DroppedEvents = l.recordings.dropped, l.told.dropped
	l.stats.Lost = l.lostBefore + l.source.lost()
	l.stats.Jitter = l.source.interarrivalJitter()
	if !l.api.statsMu.TryLock() {
		return false
	}
	l.api.stats = l.stats
	l.api.statsMu.Unlock()
	return true
}

// close stops everything and frees the ports. What is left is told by finish.
func (l *leg) close(now time.Time) {
	l.closed, l.closedAt = true, now
	l.unbridge()
	l.leave()
	l.unwatched()
	l.detectors = nil
	for _, p := range [2]**player{&l.over, &l.player} {
		if *p != nil {
			l.endPlay(p, Stopped, now)
		}
	}
	for range l.sendings {
		l.told.emit(Event{Kind: DigitsSent, At: now, Err: ErrClosed})
	}
	l.sendings = nil
	l.recordings.stopAll()
	if l.configured && l.stats.PacketsSent > 0 {
		l.sendReport(now, true)
	}
	l.shard.spent <- l
}

// finish reports whether a closed leg is over: its recordings written, its events told or given up, its channel closed.
func (l *leg) finish(now time.Time) bool {
	if l.recordings.sweep(&l.told, now) {
		l.closedAt = now // the reader has had no time to read this one
	}
	if len(l.recordings.list) > 0 || !l.told.done(now, l.closedAt) || !l.publish() {
		return false
	}
	close(l.api.events)
	return true
}

// discard ends a leg that no shard has seen.
func (l *leg) discard() {
	l.closePorts(l.api.engine.config.Now())
	close(l.api.events)
}

// closePorts closes a leg's sockets, which may take a while: no tick does.
func (l *leg) closePorts(now time.Time) {
	// Nothing can be done about a socket that does not close, and nothing was buffered in it.
	_ = l.rtp.Close()
	_ = l.rtcp.Close()
	l.api.engine.ports.giveBack(l.api.port, now)
}
