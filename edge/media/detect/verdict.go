package detect

import (
	"strings"
	"time"
)

// Set is a set of questions a Detector is asked. The zero value asks nothing.
type Set uint8

// The questions, as the instruction `detect` names them under `for`.
const (
	// WantMachine: is it a person or a machine that answered? Human, Machine or, after a silence or the time-out, Unknown.
	WantMachine Set = 1 << iota
	// WantAnnouncement: is the carrier saying why the call does not go through? Announced, also before the answer.
	WantAnnouncement
	// WantBeep: has a single tone followed speech? Beep.
	WantBeep
	// WantFax: is it a fax? Fax, also before the answer.
	WantFax
	// WantMessageEnd: when is a machine's greeting over, so that a message can be left (Twilio's DetectMessageEnd)? It
	// implies WantMachine and is answered after Machine, by a Verdict with an End.
	WantMessageEnd

	// WantAll is every question but WantMessageEnd.
	WantAll = WantMachine | WantAnnouncement | WantBeep | WantFax
)

// Has says whether every question of other is in s.
func (s Set) Has(other Set) bool { return s&other == other }

// String lists the questions by name, separated by commas.
func (s Set) String() string {
	var names []string
	for i, name := range questionNames {
		if s.Has(1 << i) {
			names = append(names, name)
		}
	}
	return strings.Join(names, ",")
}

// Question finds a question by its name: "machine", "announcement", "beep", "fax" or "message_end".
func Question(name string) (Set, bool) {
	for i, known := range questionNames {
		if name == known {
			return 1 << i, true
		}
	}
	return 0, false
}

var questionNames = [...]string{"machine", "announcement", "beep", "fax", "message_end"}

// Outcome is who or what is on the line.
type Outcome uint8

// The outcomes of the instruction `detect`.
const (
	Unknown Outcome = iota
	Human
	Machine
	Announced
	Beep
	Fax
)

var outcomeNames = [...]string{"unknown", "human", "machine", "announcement", "beep", "fax"}

// String is the outcome's name in the contract: "announcement" for Announced.
func (o Outcome) String() string { return outcomeNames[o] }

// Kind is what an announcement says of the called number.
type Kind uint8

// The kinds of announcement. KindUnknown is the special information tone of ITU-T E.180, which announces that something
// will be said and not what.
const (
	KindUnknown Kind = iota
	Invalid          // 空号: the number does not exist, or no longer
	Suspended        // 停机: its subscription is suspended
	PowerOff         // 关机: the phone is switched off
	Busy             // 正在通话中
	NoAnswer         // 无人接听
	Unreachable      // 无法接通, 不在服务区, or the network is congested
	kinds
)

var kindNames = [...]string{"", "invalid", "suspended", "power_off", "busy", "no_answer", "unreachable"}

// String is the kind's name in the contract, empty for KindUnknown.
func (k Kind) String() string { return kindNames[k] }

// KindNamed finds a kind by its name in the contract.
func KindNamed(name string) (Kind, bool) {
	for k := Invalid; k < kinds; k++ {
		if name == kindNames[k] {
			return k, true
		}
	}
	return KindUnknown, false
}

// End is how a machine's greeting ended; Twilio's machine_end_beep, machine_end_silence and machine_end_other.
type End uint8

// The ends of a greeting. EndOther: it went on until the time-out.
const (
	NoEnd End = iota
	EndBeep
	EndSilence
	EndOther
)

var endNames = [...]string{"", "beep", "silence", "other"}

// String is "beep", "silence", "other", or empty for NoEnd.
func (e End) String() string { return endNames[e] }

// Reason is what in the sound decided, for the log and for whoever tunes.
type Reason uint8

// The reasons of verdicts.
const (
	ReasonNone            Reason = iota
	ReasonShortGreeting          // Human: one or two words, then a pause
	ReasonGreeting               // Human: a greeting under SpeechThreshold, then a longer pause
	ReasonLongGreeting           // Machine: speech went on over SpeechThreshold
	ReasonBeep                   // Machine: a tone followed speech; also the reason of Beep and of EndBeep
	ReasonGreetingSilence        // EndSilence
	ReasonSilence                // Unknown: nobody spoke
	ReasonTimeout                // Unknown, EndOther: Tuning.Timeout, or Expire
	ReasonFingerprint            // Announced: the recording Verdict.Announcement
	ReasonSIT                    // Announced: a special information tone
	ReasonBusyTone               // Announced: a busy tone's cadence
	ReasonCongestionTone         // Announced: a congestion (reorder) tone's cadence
	ReasonCNG                    // Fax: the calling tone, 1100 Hz
	ReasonCED                    // Fax: the answering tone, 2100 Hz, ANSam included
)

var reasonNames = [...]string{
	"", "short_greeting", "greeting", "long_greeting", "beep", "greeting_silence", "silence", "timeout", "fingerprint",
	"sit", "busy_tone", "congestion_tone", "cng", "ced",
}

// String is the reason as logged, in snake case.
func (r Reason) String() string { return reasonNames[r] }

// Verdict is the answer to one question, or to several at once.
type Verdict struct {
	// Closes are the questions answered by it, never empty. No other verdict of the same Detector closes any of them.
	Closes  Set
	Outcome Outcome
	Reason  Reason
	// Kind is set with Announced.
	Kind Kind
	// Announcement is the index of the recording recognised, in the list given to New; −1 without one.
	Announcement int
	// End is set, with Outcome Machine, when WantMessageEnd is answered.
	End End
	// At is how much sound had been heard since the answer, before it since the first frame, in steps of 20 ms.
	At time.Duration
}
