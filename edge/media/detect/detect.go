package detect

import "time"

// Detector listens to the called side of one call and says who or what answers: at most one Verdict for each question.
// It is fed with 8 kHz PCM from the first early media on and told of the answer. It is a plain value that allocates
// nothing after New, and is not safe for concurrent use. The zero value asks nothing; New makes one that does.
//
// Before the answer nothing is taken for a person or a machine: who speaks then is the carrier, or music that the
// subscriber chose for his callers (彩铃). An announcement that is in no recording, has no special information tone and
// ends in no busy tone stays unrecognised: without recognition of speech nothing tells it from an advertisement.
type Detector struct {
	tuning Tuning
	open   Set
	frames framed // the thresholds in frames

	spectrum spectrum
	tones    tracker
	beeps    beepWatch
	fax      faxWatch
	sit      sitWatch
	cadence  cadence
	ear      ear
	match    matcher

	greeting   greeting
	beforeTone greeting // the greeting when the tone that sounds began
	answered   bool
	machine    bool // the verdict was Machine: its greeting's end is awaited
	heard      int  // frames since the answer, before it since the first

	sitKind Kind // of a SIT that was heard and whose announcement is awaited
	sitLeft int  // frames until its own meaning is taken

	partial [frameLength]int16
	filled  int
	waiting [6]Verdict // as many as questions, and one
	queued  int
}

// framed is a Tuning's durations in frames.
type framed struct {
	timeout, speech, speechEnd, silence, short, shortEnd, minWord, messageEnd int
}

const (
	frameTime = 20 * time.Millisecond
	// forgottenTone is how many frames of a tone are no speech for sure; some vowels hold one frequency for 80 ms.
	forgottenTone = 6
	// sitWait is how many frames (4 s) an announcement has to be recognised behind a SIT, which tells less.
	sitWait = 200
)

// New makes a detector that answers wants. t is taken as checked (Tuning.Check). known are the recordings for
// WantAnnouncement, MaxAnnouncements at most, shared and never changed; their price is 1 µs a frame for each minute of
// them, and 50 bytes of memory for each second.
func New(t Tuning, wants Set, known []Announcement) *Detector {
	if wants.Has(WantMessageEnd) {
		wants |= WantMachine
	}
	t = t.whole()
	d := &Detector{tuning: t, open: wants & (WantAll | WantMessageEnd)}
	d.frames = framed{
		timeout: count(t.Timeout), speech: count(t.SpeechThreshold), speechEnd: count(t.SpeechEndThreshold),
		silence: count(t.SilenceTimeout), short: count(t.ShortGreeting), shortEnd: count(t.ShortGreetingEnd),
		minWord: min(count(t.MinWord), longestWord), messageEnd: count(t.MessageEndSilence),
	}
	if wants.Has(WantAnnouncement) {
		d.match = newMatcher(known)
	}
	return d
}

func count(d time.Duration) int { return int((d + frameTime - 1) / frameTime) }

// Answered says that the call was answered before the next frame: from here on a person or a machine may speak, and the
// time-outs run. A second call changes nothing.
func (d *Detector) Answered() {
	if d.answered {
		return
	}
	d.answered = true
	d.heard = 0
	d.greeting, d.beforeTone = greeting{}, greeting{}
	d.tones, d.beeps, d.fax = tracker{}, beepWatch{}, faxWatch{}
}

// Open are the questions without an answer yet. Frame has nothing more to say once it is empty, which costs nothing.
func (d *Detector) Open() Set { return d.open }

// Frame takes the next samples, 20 ms (160) as a rule, and returns a verdict when there is one. Two that are ready at
// once come with two calls; an empty frame is good enough for the second.
func (d *Detector) Frame(samples []int16) (Verdict, bool) {
	for len(samples) > 0 && d.open != 0 {
		n := copy(d.partial[d.filled:], samples)
		samples = samples[n:]
		if d.filled += n; d.filled == frameLength {
			d.filled = 0
			d.hear(&d.partial)
		}
	}
	return d.next()
}

// Expire answers everything still open with Unknown, or EndOther where a machine talks on, as Tuning.Timeout does. It is
// for whoever has a time-out of his own, before the answer above all. ok is false when nothing was open and no verdict
// waits.
func (d *Detector) Expire() (Verdict, bool) {
	d.expire()
	return d.next()
}

func (d *Detector) next() (Verdict, bool) {
	if d.queued == 0 {
		return Verdict{}, false
	}
	v := d.waiting[0]
	copy(d.waiting[:], d.waiting[1:d.queued])
	d.queued--
	return v, true
}

// say answers the questions of v that are still open, if any is.
func (d *Detector) say(v Verdict) {
	if v.Closes &= d.open; v.Closes == 0 {
		return
	}
	d.open &^= v.Closes
	v.At = time.Duration(d.heard) * frameTime
	if v.Reason != ReasonFingerprint {
		v.Announcement = -1
	}
	d.waiting[d.queued] = v
	d.queued++
}

func (d *Detector) hear(samples *[frameLength]int16) {
	d.heard++
	d.spectrum.hear(samples)
	power := d.spectrum.total
	s := d.spectrum.tone()
	ended, over := d.tones.hear(s)
	d.hearTones(s, ended, over, power)
	d.hearGreeting(power)
	d.hearAnnouncement(ended, over)
	d.judge()
}

// hearGreeting leaves tones out of the greeting: ringback behind an early answer, beeps, fax.
func (d *Detector) hearGreeting(power float32) {
	if !d.answered {
		return
	}
	if d.tones.now.frames <= 1 {
		d.beforeTone = d.greeting
	}
	if d.tones.now.frames < forgottenTone {
		d.greeting.hear(power, d.frames.minWord)
		return
	}
	d.greeting.now++
	d.greeting.forget(&d.beforeTone)
}

func (d *Detector) hearTones(s sound, ended burst, over bool, power float32) {
	// Before the tone that ended: it began like a word itself.
	spoke := d.beforeTone.began && d.beforeTone.over(&d.greeting.vad)
	if d.beeps.hear(&d.tuning, ended, over && spoke, d.tones.sounding(), power) {
		d.say(Verdict{Closes: WantMachine, Outcome: Machine, Reason: ReasonBeep})
		d.say(Verdict{Closes: WantMessageEnd, Outcome: Machine, Reason: ReasonBeep, End: EndBeep})
		d.say(Verdict{Closes: WantBeep, Outcome: Beep, Reason: ReasonBeep})
	}
	if reason := d.fax.hear(s, ended, over, d.answered && !spoke); reason != ReasonNone {
		d.settle(WantFax, Verdict{Outcome: Fax, Reason: reason})
	}
}

// hearAnnouncement knows a carrier's announcement by its recording, else by the SIT before it or the busy tone after it.
func (d *Detector) hearAnnouncement(ended burst, over bool) {
	if !d.open.Has(WantAnnouncement) {
		return
	}
	if len(d.match.known) > 0 {
		d.ear.hear(&d.spectrum)
		if i, ok := d.match.hear(&d.ear); ok {
			d.announce(Verdict{Kind: d.match.known[i].Kind, Reason: ReasonFingerprint, Announcement: i})
			return
		}
	}
	if over {
		if kind, ok := d.sit.hear(ended); ok {
			d.sitKind, d.sitLeft = kind, 1
			if len(d.match.known) > 0 {
				d.sitLeft = sitWait
			}
		}
		if kind, reason := d.cadence.hear(ended); reason != ReasonNone {
			d.announce(Verdict{Kind: kind, Reason: reason})
		}
	}
	if d.sitLeft > 0 {
		if d.sitLeft--; d.sitLeft == 0 {
			d.announce(Verdict{Kind: d.sitKind, Reason: ReasonSIT})
		}
	}
}

func (d *Detector) announce(v Verdict) {
	v.Outcome = Announced
	d.settle(WantAnnouncement, v)
}

// settle answers a question in a way that also says that neither a person nor an answering machine is there.
func (d *Detector) settle(question Set, v Verdict) {
	if d.open.Has(question) {
		v.Closes = question | WantMachine | WantMessageEnd
		d.say(v)
	}
}

// judge decides by the greeting's timing, and by the time-outs.
func (d *Detector) judge() {
	if !d.answered {
		return
	}
	if d.open.Has(WantMachine) {
		d.judgeGreeting()
	}
	if d.machine && d.greeting.pause() >= d.frames.messageEnd && !d.mayBeep() {
		d.say(Verdict{Closes: WantMessageEnd, Outcome: Machine, Reason: ReasonGreetingSilence, End: EndSilence})
	}
	if d.heard >= d.frames.timeout {
		d.expire()
	}
}

// judgeGreeting: people say a word or a sentence and wait; machines talk on.
func (d *Detector) judgeGreeting() {
	g := &d.greeting
	switch {
	case d.sitLeft > 0: // what is heard now is the announcement behind the SIT
	case d.mayBeep():
	case !g.began:
		if g.silence() >= d.frames.silence {
			d.say(Verdict{Closes: WantMachine | WantMessageEnd, Outcome: Unknown, Reason: ReasonSilence})
		}
	case g.length() >= d.frames.speech:
		d.say(Verdict{Closes: WantMachine, Outcome: Machine, Reason: ReasonLongGreeting})
		d.machine = true
	case g.length() <= d.frames.short && g.pause() >= d.frames.shortEnd:
		d.say(Verdict{Closes: WantMachine | WantMessageEnd, Outcome: Human, Reason: ReasonShortGreeting})
	case g.pause() >= d.frames.speechEnd:
		d.say(Verdict{Closes: WantMachine | WantMessageEnd, Outcome: Human, Reason: ReasonGreeting})
	}
}

// mayBeep says whether a tone sounds, or has just ended, that may prove to be the beep behind a greeting.
func (d *Detector) mayBeep() bool { return d.tones.sounding() || d.beeps.active }

func (d *Detector) expire() {
	if d.machine {
		d.say(Verdict{Closes: WantMessageEnd, Outcome: Machine, Reason: ReasonTimeout, End: EndOther})
	}
	d.say(Verdict{Closes: d.open, Outcome: Unknown, Reason: ReasonTimeout})
}
