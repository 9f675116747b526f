// Package media owns the audio of live calls: UDP ports, RTP and RTCP, the 20 ms clock, jitter buffers, prompts, digits,
// recordings, bridges and rooms, and what detectors hear. It leaves negotiation to edge/sdp, samples to the packages below
// it (codec, dtmf, detect, tone, wav), and what a call means to edge/session.
//
// An Engine runs a few shards. A shard is one operating-system thread and every leg it carries: it cuts each 20 ms frame
// into ten slots of 2 ms, and when a leg's slot fires it drains the leg's socket, takes one frame from its jitter buffer,
// feeds recorders, detectors, the bridged leg or the room it is in, and sends the next packet. A room has a slot too, in
// which it mixes what its legs have said since the last time: once for all, and for the few who are heard without
// themselves. Nothing in a tick allocates, logs, sleeps, reads a clock or takes a lock that a call could hold. Everything
// else talks to a shard by values: commands in over a bounded channel, events out over one bounded channel per leg or room.
//
// Legs that meet are in one shard, so there is no lock between them. One that is elsewhere moves there, sockets and all,
// between two of its frames (move.go).
//
// Why a thread that polls rather than a goroutine and a ticker per call: measured on two cores, it carries twice the calls
// with a twentieth of the jitter (a socket read costs 1 µs whether or not anyone waits for it, a wake-up costs several).
package media

import (
	"errors"
	"time"
)

const (
	// Frame is how much audio one RTP packet of ours carries.
	Frame = 20 * time.Millisecond
	// Slot is the distance between two ticks; a leg fires in one slot of each frame.
	Slot = 2 * time.Millisecond

	// SampleRate is the rate of every prompt, recording and RTP clock here, in Hz.
	SampleRate = 8000

	// DefaultTimeout is how long a leg that should receive may be without RTP before it counts as dead (Params.Timeout).
	DefaultTimeout = 30 * time.Second

	slotsPerFrame   = int64(Frame / Slot)
	samplesPerFrame = int(SampleRate * Frame / time.Second)
)

var (
	// ErrNoPorts means that every port of the range is in use or in quarantine: answer 503.
	ErrNoPorts = errors.New("media: no free port in the RTP range")
	// ErrClosed means that the leg or the engine is closed.
	ErrClosed = errors.New("media: closed")
	// ErrOtherShard means that two legs, or a leg and a room, cannot meet because they are of different engines.
	ErrOtherShard = errors.New("media: legs are of different engines")
	// ErrRoomFull means that a room holds RoomConfig.MaxLegs.
	ErrRoomFull = errors.New("media: room is full")
	// ErrNoDTMF means that the peer negotiated no telephone-event: send the digits by SIP INFO instead.
	ErrNoDTMF = errors.New("media: telephone-event not negotiated")
)

// samples converts a duration into samples at SampleRate, rounding down.
func samples(d time.Duration) int64 {
	return int64(d/time.Second)*SampleRate + int64(d%time.Second)*SampleRate/int64(time.Second)
}

// duration converts samples at SampleRate into a duration.
func duration(samples int64) time.Duration {
	return time.Duration(samples) * (time.Second / SampleRate)
}
