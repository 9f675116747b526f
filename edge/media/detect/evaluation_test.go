package detect

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// item is one call as it is heard, and what is true of it.
type item struct {
	class  string
	what   string // for the log of mistakes
	sound  []int16
	answer int // samples before the answer; −1: it never comes
	truth  Verdict
	beeps  bool // a beep ends the greeting
}

const never = -1

// result is what a detector said of an item.
type result struct {
	item
	first Verdict // Unknown of Expire when it said nothing
	end   Verdict // WantMessageEnd's
	beep  bool
}

// label is the column of the confusion matrix.
func (r *result) label() string {
	switch {
	case r.first.Outcome == Announced && r.truth.Outcome == Announced && r.first.Kind != r.truth.Kind:
		return "another kind"
	case r.first.Outcome == Unknown && r.first.Reason == ReasonTimeout:
		return "nothing"
	}
	return r.first.Outcome.String()
}

// right says whether the label is the true one.
func (r *result) right() bool {
	if r.truth.Outcome == Unknown {
		return r.label() == "nothing"
	}
	return r.label() == r.truth.Outcome.String()
}

// judge lets a detector hear an item with a library.
func judge(t Tuning, it item, library []Announcement) result {
	r := result{item: it}
	d := New(t, WantAll|WantMessageEnd, library)
	took := false
	take := func(v Verdict, ok bool) {
		for ; ok; v, ok = d.Frame(nil) {
			if !took {
				r.first, took = v, true
			}
			if v.Closes.Has(WantMessageEnd) {
				r.end = v
			}
			r.beep = r.beep || v.Outcome == Beep
		}
	}
	for at := 0; at+frameLength <= len(it.sound); at += frameLength {
		if it.answer != never && at >= it.answer {
			d.Answered()
		}
		take(d.Frame(it.sound[at : at+frameLength]))
	}
	take(d.Expire())
	return r
}

// corpus makes a set's items, one after the other; every nth only when thin is over 1.
type corpus struct {
	t     testing.TB
	set   *set
	thin  int
	crowd []int16
	count int
	take  func(item)
}

func newCorpus(t testing.TB, s *set, thin int, take func(item)) *corpus {
	return &corpus{t: t, set: s, thin: thin, crowd: crowd(t, s), take: take}
}

// next is the line for another item, or false when the item is left out.
func (c *corpus) next() (phone, bool) {
	return c.nextWith(c.set.noises)
}

// nextMachine is next for what has no microphone: the line's own noise, nobody else's voice.
func (c *corpus) nextMachine() (phone, bool) {
	return c.nextWith(slices.DeleteFunc(slices.Clone(c.set.noises), func(n noise) bool { return n.kind == babble }))
}

func (c *corpus) nextWith(noises []noise) (phone, bool) {
	c.count++
	n := noises[c.count%len(noises)]
	return newPhone(c.set, c.count, n, c.crowd), c.count%c.thin == 0
}

func (c *corpus) add(p *phone, it item, parts ...[]int16) {
	it.what = fmt.Sprintf("%s (%v, %.0f dBFS, item %d)", it.what, p.noise, p.level, c.count)
	it.sound = p.transmit(join(parts...))
	c.take(it)
}

// lead is what comes before the answer: nothing, silence, or ringback that is cut off.
func (c *corpus) lead(p *phone) []int16 {
	switch p.random.IntN(3) {
	case 0:
		return nil
	case 1:
		return silence(p.between(500, 2000))
	}
	country := [...]string{"cn", "us", "uk", "de"}[p.random.IntN(4)]
	return tones(c.t, "ringback-"+country, 2+4*p.random.Float64(), 4000)
}

// voiceOf is a voice of the set at a pitch and speed of this line. espeak-ng counts Mandarin's words so that 220–300 are
// four to six syllables a second, as people speak.
func (c *corpus) voiceOf(p *phone, words text, i int) voice {
	speed := 155 + 15*p.random.IntN(5)
	if words.language == "cmn" {
		speed = 220 + 20*p.random.IntN(5)
	}
	return voice{c.set.variants[i%len(c.set.variants)], speed, 35 + 10*p.random.IntN(4)}
}

func (c *corpus) people() {
	for _, group := range []struct {
		class string
		texts []text
		times int
	}{{"person: a word or two", c.set.short, 12}, {"person: a sentence", c.set.sentences, 8}, {"person: at a desk", c.set.desks, 8}} {
		for i, words := range group.texts {
			for j := range group.times {
				p, ok := c.next()
				if !ok {
					continue
				}
				lead, v := c.lead(&p), c.voiceOf(&p, words, i+j)
				said := speaker.say(c.t, words, v)
				wait := p.between(150, 1300)
				c.add(&p, item{class: group.class, what: fmt.Sprint(words.words, " ", v), truth: Verdict{Outcome: Human}, answer: len(lead)},
					lead, silence(wait), said, silence(5*rate))
			}
		}
	}
}

func (c *corpus) machines() {
	for _, group := range []struct {
		class string
		texts []text
		times int
	}{{"machine: a greeting", c.set.machines, 12}, {"machine: a few words", c.set.brief, 8}} {
		for i, words := range group.texts {
			for j := range group.times {
				if p, ok := c.next(); ok {
					c.machine(&p, group.class, words, i+j)
				}
			}
		}
	}
}

// machine greets, and three in four beep.
func (c *corpus) machine(p *phone, class string, words text, i int) {
	lead, v := c.lead(p), c.voiceOf(p, words, i)
	parts := [][]int16{lead, silence(p.between(100, 1500)), speaker.say(c.t, words, v)}
	beeps := p.random.IntN(4) > 0
	if beeps {
		hz, amplitude := 420+1600*p.random.Float64(), 3000+9000*p.random.Float64()
		parts = append(parts, silence(p.between(250, 1200)), beepTone(hz, p.between(140, 900), amplitude))
	}
	parts = append(parts, silence(4*rate))
	c.add(p, item{class: class, what: fmt.Sprint(words.words, " ", v), truth: Verdict{Outcome: Machine}, answer: len(lead), beeps: beeps}, parts...)
}

func (c *corpus) carrierVoice(words text) voice {
	if words.language == "cmn" {
		return voice{c.set.carrier, 230, 50}
	}
	return voice{c.set.carrier, 160, 50}
}

func (c *corpus) library() []Announcement {
	var known []Announcement
	for _, a := range c.set.announcements {
		f, err := NewFingerprint(speaker.say(c.t, a.text, c.carrierVoice(a.text)))
		if err != nil {
			c.t.Fatalf("%s: %v", a.words, err)
		}
		known = append(known, Announcement{a.kind, f})
	}
	return known
}

// announcements are the carrier's recordings, joined at any point; the same words from voices that were not learnt; and
// other words from the carrier's.
func (c *corpus) announcements() {
	for i, a := range c.set.announcements {
		recording := speaker.say(c.t, a.text, c.carrierVoice(a.text))
		truth := Verdict{Outcome: Announced, Kind: a.kind}
		for range 10 {
			if p, ok := c.nextMachine(); ok {
				cut := p.random.IntN(len(recording) / 3)
				c.add(&p, item{class: "announcement, learnt", what: a.words, truth: truth, answer: never},
					c.lead(&p), silence(p.between(20, 900)), recording[cut:], silence(p.between(300, 1200)), recording, silence(rate))
			}
		}
		for j := range 2 {
			if p, ok := c.nextMachine(); ok {
				c.repeated(&p, "announcement, another voice", a.text, c.voiceOf(&p, a.text, i+j))
			}
		}
	}
	for _, words := range c.set.others {
		for range 10 {
			if p, ok := c.nextMachine(); ok {
				c.repeated(&p, "announcement, not learnt", words, c.carrierVoice(words))
			}
		}
	}
}

// repeated is an announcement nobody has learnt, twice, before the answer.
func (c *corpus) repeated(p *phone, class string, words text, v voice) {
	said := speaker.say(c.t, words, v)
	c.add(p, item{class: class, what: words.words, answer: never}, c.lead(p), said, silence(p.between(300, 900)), said, silence(rate))
}

// early is what is heard before the answer and means nothing.
func (c *corpus) early() {
	for i := range 40 {
		if p, ok := c.nextMachine(); ok {
			c.add(&p, item{class: "ringback music", what: fmt.Sprint("melody ", i), answer: never}, melody(p.random, 15, i%2 == 0))
		}
	}
	for _, country := range []string{"cn", "us", "uk", "de", "fr", "jp", "au", "hk", "in", "sg"} {
		for range 3 {
			if p, ok := c.nextMachine(); ok {
				c.add(&p, item{class: "ringback", what: country, answer: never},
					silence(p.between(0, 900)), tones(c.t, "ringback-"+country, 20, 4000))
			}
		}
	}
}

// signals are the tones that mean something.
func (c *corpus) signals() {
	type signal struct {
		class, notation string
		truth           Verdict
	}
	var all []signal
	for _, country := range []string{"cn", "us", "uk", "de", "fr", "jp", "hk", "in", "sg"} {
		all = append(all, signal{"busy tone", "busy-" + country, Verdict{Outcome: Announced, Kind: Busy}})
	}
	for _, country := range []string{"cn", "us", "de", "fr", "hk", "sg"} {
		all = append(all, signal{"congestion tone", "reorder-" + country, Verdict{Outcome: Announced, Kind: Unreachable}})
	}
	for notation, kind := range map[string]Kind{
		"913/274,1371/274,1777/380,0/9000": Invalid, "985/380,1371/274,1777/380,0/9000": Invalid,
		"913/274,1428/380,1777/380,0/9000": Unreachable, "985/380,1428/380,1777/380,0/9000": Unreachable,
		"950/330,1400/330,1800/330,0/9000": KindUnknown,
	} {
		all = append(all, signal{"special information tone", notation, Verdict{Outcome: Announced, Kind: kind}})
	}
	all = append(all, signal{"fax", "1100/500,0/3000", Verdict{Outcome: Fax}}, signal{"fax", "2100/3000,0/6000", Verdict{Outcome: Fax}})
	slices.SortFunc(all, func(a, b signal) int { return strings.Compare(a.class+a.notation, b.class+b.notation) })
	for _, s := range all {
		times := 4
		if s.class == "fax" {
			times = 12
		}
		for range times {
			p, ok := c.nextMachine()
			if !ok {
				continue
			}
			lead, answer := silence(p.between(100, 1500)), never
			if s.class == "fax" {
				answer = 0
			}
			amplitude := 2000 + 6000*p.random.Float64()
			c.add(&p, item{class: s.class, what: s.notation, truth: s.truth, answer: answer}, lead, tones(c.t, s.notation, 10, amplitude))
		}
	}
}

// measured is what all items of a set came to.
type measured struct {
	results []result
	seconds float64
}

func measure(t testing.TB, s *set, thin int) *measured {
	var (
		m       measured
		library []Announcement
	)
	c := newCorpus(t, s, thin, func(it item) {
		m.results = append(m.results, judge(Tuning{}, it, library))
		m.seconds += float64(len(it.sound)) / rate
	})
	library = c.library()
	c.people()
	c.machines()
	c.announcements()
	c.early()
	c.signals()
	return &m
}

// of are the results of all classes that begin so.
func (m *measured) of(class string) []result {
	return slices.DeleteFunc(slices.Clone(m.results), func(r result) bool { return !strings.HasPrefix(r.class, class) })
}

func share(results []result, good func(*result) bool) float64 {
	n := 0
	for i := range results {
		if good(&results[i]) {
			n++
		}
	}
	return float64(n) / float64(max(1, len(results)))
}

// percentile is of the time from the answer to the first verdict.
func percentile(results []result, p float64) time.Duration {
	var all []time.Duration
	for _, r := range results {
		all = append(all, r.first.At)
	}
	slices.Sort(all)
	return all[int(p*float64(len(all)-1)+0.5)]
}

// beeps counts greetings that end in a beep, those whose beep was found, and beeps found where there is none.
func (m *measured) beeps() (all, found, invented int) {
	for _, r := range m.results {
		switch {
		case r.beeps && r.beep:
			all, found = all+1, found+1
		case r.beeps:
			all++
		case r.beep:
			invented++
		}
	}
	return all, found, invented
}

var classes = []string{
	"person: a word or two", "person: a sentence", "person: at a desk", "machine: a greeting", "machine: a few words",
	"announcement, learnt", "announcement, another voice", "announcement, not learnt", "special information tone",
	"busy tone", "congestion tone", "ringback", "ringback music", "fax",
}

var labels = []string{"human", "machine", "announcement", "another kind", "fax", "unknown", "nothing"}

// table is the confusion matrix as the page has it.
func (m *measured) table() string {
	var b strings.Builder
	b.WriteString("| what it is | calls | " + strings.Join(labels, " | ") + " | right | decided after the answer: median, 95 % |\n")
	b.WriteString("|---|---|" + strings.Repeat("---|", len(labels)) + "---|---|\n")
	for _, class := range classes {
		results := m.of(class)
		fmt.Fprintf(&b, "| %s | %d |", class, len(results))
		for _, label := range labels {
			n := share(results, func(r *result) bool { return r.label() == label }) * float64(len(results))
			b.WriteString(strings.TrimSuffix(fmt.Sprintf(" %.0f |", n), " 0 |"))
			if n == 0 {
				b.WriteString(" |")
			}
		}
		fmt.Fprintf(&b, " %.1f %% |", 100*share(results, (*result).right))
		if results[0].answer == never {
			b.WriteString(" |\n")
			continue
		}
		fmt.Fprintf(&b, " %.1f s, %.1f s |\n", percentile(results, 0.5).Seconds(), percentile(results, 0.95).Seconds())
	}
	people, machines := m.of("person"), m.of("machine")
	all, found, invented := m.beeps()
	ends := 0
	for _, r := range machines {
		if r.beeps && r.end.End == EndBeep {
			ends++
		}
	}
	fmt.Fprintf(&b, "\nOf all people %.1f %% are connected, of all machines %.1f %% recognised. Of %d beeps %d were found, %d were heard where none was,\n",
		100*share(people, (*result).right), 100*share(machines, (*result).right), all, found, invented)
	fmt.Fprintf(&b, "in %.0f calls of %.1f hours; %d greetings were known to have ended with their beep.\n", float64(len(m.results)), m.seconds/3600, ends)
	return b.String()
}

// tradeOff is what SpeechThreshold does, on the set that the defaults were chosen with.
func tradeOff(t testing.TB, thin int) string {
	thresholds := []time.Duration{2400, 3000, 3500, 4000, 4500, 5000}
	measures := make([]measured, len(thresholds))
	c := newCorpus(t, &tuningSet, thin, func(it item) {
		for i, threshold := range thresholds {
			r := judge(Tuning{SpeechThreshold: threshold * time.Millisecond}, it, nil)
			r.sound = nil
			measures[i].results = append(measures[i].results, r)
		}
	})
	c.people()
	c.machines()
	var b strings.Builder
	b.WriteString("| `SpeechThreshold` | a word or two | a sentence | at a desk | machines | of few words | machines decided: median |\n|---|---|---|---|---|---|---|\n")
	for i, threshold := range thresholds {
		fmt.Fprintf(&b, "| %.1f s |", (threshold * time.Millisecond).Seconds())
		for _, class := range classes[:5] {
			fmt.Fprintf(&b, " %.1f %% |", 100*share(measures[i].of(class), (*result).right))
		}
		fmt.Fprintf(&b, " %.1f s |\n", percentile(measures[i].of("machine: a greeting"), 0.5).Seconds())
	}
	return b.String()
}

// thin is how many items share one: the race detector makes everything ten times slower.
func thin() int {
	if raceDetector {
		return 16
	}
	return 1
}

// floors are what the page promises, of all results of classes that begin so. Those of the few calls that run under the
// race detector say nothing.
var floors = []struct {
	class string
	least float64
}{
	{"person", 0.95},
	{"person: a word or two", 0.97},
	{"person: a sentence", 0.95},
	{"machine: a greeting", 0.95},
	{"machine: a few words", 0.3},
	{"announcement, learnt", 0.95},
	{"announcement, another voice", 0.9},
	{"announcement, not learnt", 0.85},
	{"special information tone", 0.95},
	{"busy tone", 0.95},
	{"congestion tone", 0.95},
	{"ringback", 1}, // and ringback music
	{"fax", 0.9},
}

func TestEvaluationKeepsWhatThePagePromises(t *testing.T) {
	t.Parallel()
	m := measure(t, &evaluationSet, thin())
	for _, r := range m.results {
		if !r.right() {
			t.Logf("%s: %s: %s (%v, %v %v %d)", r.class, r.what, r.label(), r.first.Reason, r.first.At, r.first.Kind, r.first.Announcement)
		}
	}
	if !raceDetector {
		for _, f := range floors {
			if got := share(m.of(f.class), (*result).right); got < f.least {
				t.Errorf("%s: %.1f %% are right, %.0f %% are promised", f.class, 100*got, 100*f.least)
			}
		}
		if all, found, invented := m.beeps(); float64(found) < 0.95*float64(all) || invented > 3 {
			t.Errorf("of %d beeps %d were found, and %d where none was", all, found, invented)
		}
		if median := percentile(m.of("person: a word or two"), 0.5); median > 2500*time.Millisecond {
			t.Errorf("half of the people who say a word wait longer than %v", median)
		}
		onPage(t, "evaluation", m.table())
	}
}

func TestTuningTableIsOnThePage(t *testing.T) {
	t.Parallel()
	table := tradeOff(t, thin())
	if !raceDetector {
		onPage(t, "tuning", table)
	}
}
