package media

import (
	"net/netip"
	"time"

	"github.com/hookswitch/hookswitch/edge/media/codec"
)

// Stats is what a leg has carried so far. Counters cover the leg's whole life, over changes of source and codec.
type Stats struct {
	Codec  codec.ID
	Port   uint16         // ours
	Source netip.AddrPort // where audio comes from, once latched

	PacketsSent     uint64
	OctetsSent      uint64 // RTP payload
	SendErrors      uint64 // refused by the system: no route, buffer full
	PacketsReceived uint64 // valid, from the latched source; duplicates not included
	OctetsReceived  uint64 // RTP payload

	Lost      uint64 // expected by sequence number but never received (RFC 3550 A.3)
	Late      uint64 // received after their time to be played: dropped
	Duplicate uint64
	Reordered uint64
	Stranger  uint64 // from another address than the latched source: dropped
	UnknownPT uint64 // payload type not negotiated: dropped
	Malformed uint64 // not RTP: dropped
	Discarded uint64 // received while the leg was not to receive: dropped
	Resets    uint64 // the stream jumped (new SSRC, timestamp or sequence) and the jitter buffer began anew

	Concealed uint64 // frames of which the peer had sent nothing in time
	Inserted  uint64 // frames of silence put in because the sender's clock is slower, or the network slower than before
	Skipped   uint64 // frames left out because the sender's clock is faster
	LateTicks uint64 // frames that this machine was too late to send

	Jitter     time.Duration // interarrival jitter (RFC 3550 A.8)
	RTT        time.Duration // round trip by RTCP; 0 when the peer sends no reports
	RemoteLost uint64        // packets of ours the peer reports lost
	RemoteLoss float64       // the ratio lost in the peer's newest report, 0..1
	MOS        float64       // estimated listening quality, 1..4.4; 0 before anything was received

	RecordDropped uint64 // octets a recording could not keep because its Writer was too slow; written as silence
	DroppedEvents uint64
}

// LossRatio is how much of what the peer sent was not played, 0..1.
func (s Stats) LossRatio() float64 {
	expected := s.PacketsReceived + s.Lost
	if expected == 0 {
		return 0
	}
	return min(1, float64(s.Lost+s.Late)/float64(expected))
}

func (s Stats) mos() float64 {
	if s.PacketsReceived == 0 {
		return 0
	}
	const ms = float64(time.Millisecond)
	return codec.MOS(s.LossRatio(), float64(s.Jitter)/ms, float64(s.RTT)/ms)
}

// EngineStats is the state of the whole engine.
type EngineStats struct {
	Shards     int
	Legs       int           // alive, or closing
	PortsFree  int           // pairs that could be taken now
	PortsTaken int           // pairs in use or in quarantine
	LateTicks  uint64        // ticks that came more than a slot late
	Lateness   time.Duration // as Engine.Lateness
	Overloaded bool          // as Engine.Overloaded
	RealTime   bool          // every running shard has real-time priority
}
