package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// hearing takes what streams receive, and keeps of each when the first sound came and how it begins. It sends nothing: an
// edge needs no audio of its caller to speak.
type hearing struct {
	// streams are the channels by which an agent begins and ends a stream.
	streams *generator
	failed  error // of a socket's end; to be read when run is over

	mu   sync.Mutex // guards over
	over map[*stream]*sound
}

// sound is what a stream has received.
type sound struct {
	first  time.Duration // from the INVITE until the packet with the first sample that is not silence, by the kernel's clock
	frames []byte        // what came from that packet on, at most soundOctets
	behind uint16        // sequence number of the last packet of them
	gap    bool          // a packet of them is missing
}

// soundOctets are compared: a fifth of a second.
const soundOctets = 10 * frameOctets

// complete reports that no more needs to be heard.
func (s *sound) complete() bool { return len(s.frames) >= soundOctets }

// take hears one RTP packet of G.711, which arrived so long after the INVITE.
func (s *sound) take(packet []byte, after time.Duration) {
	payload, sequence := packet[12:], binary.BigEndian.Uint16(packet[2:])
	switch {
	case s.complete():
		return
	case len(s.frames) == 0 && silent(payload):
		return
	case len(s.frames) == 0:
		s.first = after
	case sequence != s.behind+1:
		s.gap = true
	}
	s.frames, s.behind = append(s.frames, payload...), sequence
}

// problem says why this is not the sound that was to be heard; nil when it is.
func (s *sound) problem(want []byte) error {
	switch {
	case s == nil || len(s.frames) == 0:
		return errors.New("nothing was heard")
	case s.gap:
		return errors.New("a packet was lost")
	case !bytes.HasPrefix(want, s.frames):
		return errors.New("something else was heard")
	case !s.complete():
		return fmt.Errorf("only %d ms were heard", len(s.frames)*1000/8000)
	}
	return nil
}

func newHearing() *hearing {
	return &hearing{streams: newGenerator(nil), over: map[*stream]*sound{}}
}

// await waits until the streams of calls that are over are, or ctx ends.
func (h *hearing) await(ctx context.Context, all []outgoing) {
	for _, c := range all {
		for ctx.Err() == nil && !h.isOver(c.stream) {
			time.Sleep(2 * time.Millisecond)
		}
	}
}

func (h *hearing) isOver(s *stream) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, over := h.over[s]
	return over
}

// collect gives what the stream of a call that is over has received, and forgets it. It is nil where the call was not
// answered.
func (h *hearing) collect(c outgoing) *sound {
	h.mu.Lock()
	defer h.mu.Unlock()
	heard := h.over[c.stream]
	delete(h.over, c.stream)
	return heard
}

// run polls the sockets until ctx ends. The time of arrival is the kernel's, so that it does not matter when they are.
func (h *hearing) run(ctx context.Context) {
	tick := time.NewTicker(frameTime / 2)
	defer tick.Stop()
	live := map[*stream]*sound{}
	buffer := make([]byte, 2048)
	oob := make([]byte, 128)
	for ctx.Err() == nil {
		h.take(live, buffer, oob)
		for s, heard := range live {
			s.hear(heard, buffer, oob)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	for s := range live {
		h.failed = errors.Join(h.failed, unix.Close(s.fd))
	}
}

// take begins and ends streams.
func (h *hearing) take(live map[*stream]*sound, buffer, oob []byte) {
	for {
		select {
		case s := <-h.streams.add:
			if !s.stopped { // the end of a call may be seen before its beginning
				live[s] = new(sound)
			}
		case s := <-h.streams.remove:
			heard := live[s]
			if heard != nil {
				s.hear(heard, buffer, oob)
			}
			delete(live, s)
			s.stopped = true
			h.failed = errors.Join(h.failed, unix.Close(s.fd))
			h.mu.Lock()
			h.over[s] = heard
			h.mu.Unlock()
		default:
			return
		}
	}
}

// hear reads what has arrived. What is not needed any more stays in the socket, which drops what is too much.
func (s *stream) hear(heard *sound, buffer, oob []byte) {
	for !heard.complete() {
		n, oobn, _, _, err := unix.Recvmsg(s.fd, buffer, oob, 0)
		if err != nil {
			return
		}
		if n == 12+frameOctets && buffer[1]&0x7F == 0 {
			heard.take(buffer[:n], time.Unix(0, arrival(oob[:oobn])).Sub(s.began))
		}
	}
}
