package media

import (
	"time"

	"github.com/hookswitch/hookswitch/edge/media/detect"
)

// EventKind says what an Event reports.
type EventKind uint8

// The kinds of Event. Those that answer a command (PlayDone, RecordDone, DigitsSent, Detected) are never lost while the
// events are read; the others are dropped and counted when nobody reads.
const (
	// FirstPacket is the first valid RTP packet of the leg's life.
	FirstPacket EventKind = iota + 1
	// Digit is a key press, reported once, at its start: Digit, Source.
	Digit
	// DigitEnd is the end of that key press: Digit, Source, Duration.
	DigitEnd
	// PlayDone ends a Play: Play, Reason, Duration (how much was sent).
	PlayDone
	// RecordDone ends a Record, after its last octet was handed to the Writer: Record, Reason, Duration (of what was
	// written), Trailing, Err.
	RecordDone
	// DigitsSent ends a SendDigits; Err says why nothing, or not everything, was sent: ErrNoDTMF, ErrClosed, or what
	// dtmf.NewSender found wrong with the digits or their lengths.
	DigitsSent
	// Detected is a verdict of a Detect: Detect, Verdict. The questions it answers are Verdict.Closes.
	Detected
	// MediaTimeout says that nothing was received for Params.Timeout (Duration). It comes once per silence.
	MediaTimeout
)

func (k EventKind) String() string {
	switch k {
	case FirstPacket:
		return "first_packet"
	case Digit:
		return "digit"
	case DigitEnd:
		return "digit_end"
	case PlayDone:
		return "play_done"
	case RecordDone:
		return "record_done"
	case DigitsSent:
		return "digits_sent"
	case Detected:
		return "detected"
	case MediaTimeout:
		return "media_timeout"
	}
	return "unknown"
}

// mustArrive reports whether a caller waits for this event.
func (k EventKind) mustArrive() bool {
	return k == PlayDone || k == RecordDone || k == DigitsSent || k == Detected
}

// Reason says why a Play or a Record ended.
type Reason uint8

// The reasons of PlayDone and RecordDone.
const (
	Ended    Reason = iota + 1 // played to its end
	Stopped                    // StopPlay, StopRecord or Close
	Replaced                   // another Play took its place
	Max                        // RecordConfig.MaxLength
	Silence                    // RecordConfig.Silence
	Failed                     // RecordConfig.Writer returned an error: Event.Err
)

func (r Reason) String() string {
	switch r {
	case Ended:
		return "ended"
	case Stopped:
		return "stopped"
	case Replaced:
		return "replaced"
	case Max:
		return "max"
	case Silence:
		return "silence"
	case Failed:
		return "failed"
	}
	return "unknown"
}

// DigitSource says how a digit reached us.
type DigitSource uint8

// SourceRTP is a digit received as RFC 4733 telephone-event. Digits by SIP INFO never pass through this package.
const SourceRTP DigitSource = 1

func (s DigitSource) String() string {
	if s == SourceRTP {
		return "rtp"
	}
	return "unknown"
}

// PlayID names one Play of a leg; 0 is none.
type PlayID uint64

// RecordID names one Record of a leg; 0 is none.
type RecordID uint64

// Event is something that happened to the media of a leg or in a room; the kind says which fields are set.
type Event struct {
	Kind     EventKind
	At       time.Time // when the tick noticed, by the engine's clock
	Play     PlayID
	Record   RecordID
	Detect   DetectID
	Digit    byte // '0'-'9', '*', '#', 'A'-'D'
	Source   DigitSource
	Reason   Reason
	Duration time.Duration
	// Trailing is how much of Duration, at its end, the voice detector heard nothing in; only when RecordConfig.Trim or
	// Silence asked for the detector. A two-channel recording counts as silent where both are.
	Trailing time.Duration
	Err      error
	Verdict  detect.Verdict
}
