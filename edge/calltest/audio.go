package calltest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/edge/media"
	"github.com/hookswitch/hookswitch/edge/media/codec"
	"github.com/hookswitch/hookswitch/edge/media/tone"
	"github.com/hookswitch/hookswitch/edge/media/wav"
)

const (
	frameSamples = 160 // 20 ms at 8 kHz
	dtmfPT       = 101
	perSecond    = media.SampleRate
)

// audio is the RTP side of a call at a phone. Bench.mu guards it.
type audio struct {
	c      *Call
	remote netip.AddrPort
	codec  codec.ID
	dtmf   bool // both sides know telephone-event

	running bool // a packet leaves every 20 ms
	mute    bool // though nothing does
	next    time.Time
	seq     uint16
	stamp   uint32
	say     []byte  // octets still to be said
	keys    []press // packets of keys still to be pressed

	heard   []byte // all that came, in the time it was meant for
	due     uint32 // timestamp of the next octet
	begun   bool
	taken   int    // of heard, by an expectation
	bad     bool   // it has complained
	pressed string // keys heard as telephone-event
	keyTime uint32 // timestamp of the key we press
	lastKey uint32 // timestamp of the newest key heard
}

// press is one telephone-event packet (RFC 4733 §2.3).
type press struct {
	key      byte
	end      bool
	duration uint16
	first    bool
}

func newAudio(c *Call) *audio {
	a := &audio{c: c, codec: codec.PCMU}
	if c.phone.ALaw {
		a.codec = codec.PCMA
	}
	return a
}

// describe is the phone's session description: its offer, or its answer to what agree was given.
func (a *audio) describe(direction string) string {
	p := a.c.phone
	formats := "0 8"
	switch {
	case p.ALaw:
		formats = "8"
	case p.MuLaw:
		formats = "0"
	case p.Opus:
		formats = "96"
	}
	if a.remote.IsValid() && !p.Opus {
		formats = strconv.Itoa(int(a.payloadType()))
	}
	if !p.NoDTMF {
		formats += " " + strconv.Itoa(dtmfPT)
	}
	at := a.c.host
	lines := []string{
		"v=0", fmt.Sprintf("o=- 1 1 IN IP4 %s", at), "s=-", fmt.Sprintf("c=IN IP4 %s", at), "t=0 0",
		fmt.Sprintf("m=audio %d RTP/AVP %s", a.c.port, formats),
	}
	for pt := range strings.FieldsSeq(formats) {
		lines = append(lines, "a=rtpmap:"+pt+" "+map[string]string{
			"0": "PCMU/8000", "8": "PCMA/8000", "96": "opus/48000/2", "101": "telephone-event/8000",
		}[pt])
	}
	if direction != "" {
		lines = append(lines, "a="+direction)
	}
	return strings.Join(lines, "\r\n") + "\r\n"
}

func (a *audio) payloadType() uint8 {
	if a.codec == codec.PCMA {
		return 8
	}
	return 0
}

// agree reads the edge's session description.
func (a *audio) agree(body string) {
	var at netip.Addr
	for line := range strings.Lines(body) {
		line = strings.TrimSpace(line)
		if after, ok := strings.CutPrefix(line, "c=IN IP4 "); ok {
			at, _ = netip.ParseAddr(after) // what is no address is not sent to
		}
		if !strings.HasPrefix(line, "m=audio ") {
			continue
		}
		fields := strings.Fields(line)
		port, _ := strconv.ParseUint(fields[1], 10, 16) // 0 is refused, and not sent to
		a.remote = netip.AddrPortFrom(at, uint16(port))
		a.dtmf = false
		chosen := false
		for _, pt := range fields[3:] {
			switch {
			case pt == strconv.Itoa(dtmfPT):
				a.dtmf = !a.c.phone.NoDTMF
			case !chosen && pt == "0" && !a.c.phone.ALaw:
				a.codec, chosen = codec.PCMU, true
			case !chosen && pt == "8" && !a.c.phone.MuLaw:
				a.codec, chosen = codec.PCMA, true
			}
		}
	}
}

func (a *audio) begin() {
	if !a.running {
		a.running, a.next = true, time.Now()
	}
}

// talk sends what is due: at a 20 ms boundary a packet of a key, of what is to be said, or of silence.
func (c *Call) talk(now time.Time) {
	a := c.audio
	if !a.running || now.Before(a.next) || !a.remote.IsValid() || a.remote.Port() == 0 {
		return
	}
	a.next = a.next.Add(media.Frame)
	stamp := a.stamp
	a.stamp += frameSamples
	if a.mute {
		return
	}
	if len(a.keys) > 0 {
		a.sendKey(stamp)
		return
	}
	frame := bytes.Repeat([]byte{a.codec.Silence()}, frameSamples)
	a.say = a.say[copy(frame, a.say):]
	a.send(a.payloadType(), false, stamp, frame)
}

// sendKey sends the next packet of the key that is down. Its timestamp is that of the key's first packet.
func (a *audio) sendKey(stamp uint32) {
	k := a.keys[0]
	a.keys = a.keys[1:]
	if k.first {
		a.keyTime = stamp
	}
	code := strings.IndexByte("0123456789*#ABCD", k.key)
	payload := []byte{byte(code), 10, byte(k.duration >> 8), byte(k.duration)}
	if k.end {
		payload[1] |= 0x80
	}
	a.send(dtmfPT, k.first, a.keyTime, payload)
}

func (a *audio) send(pt uint8, marker bool, stamp uint32, payload []byte) {
	a.seq++
	packet := []byte{0x80, pt, 0, 0, 0, 0, 0, 0, 0, 0, 0, byte(a.c.port)}
	if marker {
		packet[1] |= 0x80
	}
	binary.BigEndian.PutUint16(packet[2:], a.seq)
	binary.BigEndian.PutUint32(packet[4:], stamp)
	a.c.b().wire.send(a.c.rtpAddr(), a.remote, append(packet, payload...))
}

// receive takes a packet of the edge off the wire.
func (a *audio) receive(d Datagram) {
	a.c.b().mu.Lock()
	defer a.c.b().mu.Unlock()
	if a.c.phone.Patient && !a.remote.IsValid() {
		return
	}
	if len(d.Data) < 12 || d.Data[0]>>6 != 2 || d.From != a.remote {
		a.complain("%d octets from %s that are not the RTP agreed on", len(d.Data), d.From)
		return
	}
	pt, stamp, payload := d.Data[1]&0x7f, binary.BigEndian.Uint32(d.Data[4:]), d.Data[12:]
	switch {
	case pt == dtmfPT && len(payload) == 4:
		a.hearKey(payload, stamp)
	case pt == a.payloadType():
		a.hear(payload, stamp)
	default:
		a.complain("payload type %d", pt)
	}
}

// complain fails the test, once for a call: what is wrong with one packet is wrong with all that follow.
func (a *audio) complain(format string, args ...any) {
	if !a.bad {
		a.bad = true
		a.c.b().t.Errorf("phone %s received "+format, append([]any{a.c.phone.Name}, args...)...)
	}
}

func (a *audio) hearKey(payload []byte, stamp uint32) {

	if len(a.pressed) > 0 && stamp == a.lastKey {
		return
	}
	a.due = max(a.due, stamp)
	a.pressed += string("0123456789*#ABCD"[payload[0]&15])
	a.lastKey = stamp
}

// hear puts octets where their timestamp says; what is missing is silence.
func (a *audio) hear(payload []byte, stamp uint32) {
	if !a.begun {
		a.begun, a.due = true, stamp
	}
	gap := int32(stamp - a.due)
	if gap < 0 {
		return // again, or too late
	}
	const most = 60 * perSecond
	a.heard = append(a.heard, bytes.Repeat([]byte{a.codec.Silence()}, int(min(gap, most)))...)
	a.heard = append(a.heard, payload...)
	a.due = stamp + uint32(len(payload))
}

// Say says octets in the call's codec and returns when the last has left.
func (c *Call) Say(octets []byte) {
	c.b().t.Helper()
	c.Talk(octets)
	limit := time.Duration(len(octets))*time.Second/perSecond + patience
	c.b().until(limit, "phone "+c.phone.Name+" could not say it", func() bool { return len(c.audio.say) == 0 || c.final })
}

// Talk begins to say octets, after what is being said.
func (c *Call) Talk(octets []byte) {
	c.b().mu.Lock()
	defer c.b().mu.Unlock()
	c.audio.say = append(c.audio.say, octets...)
}

// Mute keeps the phone from sending anything, as one whose battery is empty.
func (c *Call) Mute(mute bool) {
	c.b().mu.Lock()
	defer c.b().mu.Unlock()
	c.audio.mute = mute
}

// Press presses keys by RFC 4733, each for 100 ms with 100 ms between them, and returns when the last packet has left.
func (c *Call) Press(keys string) { c.b().t.Helper(); c.PressFor(keys, 100*time.Millisecond) }

// PressFor holds each key down for so long.
func (c *Call) PressFor(keys string, hold time.Duration) {
	c.b().t.Helper()
	for i := range len(keys) {
		c.b().mu.Lock()
		if !c.audio.dtmf {
			c.b().t.Errorf("phone %s has no telephone-event to press %s with", c.phone.Name, keys)
		}
		c.audio.keys = append(c.audio.keys, presses(keys[i], hold)...)
		c.b().mu.Unlock()
		c.b().until(hold+patience, "keys stay pressed", func() bool { return len(c.audio.keys) == 0 || c.final })
		c.b().Pass(100 * time.Millisecond)
	}
}

// Tap begins to press keys and waits for nothing.
func (c *Call) Tap(keys string) {
	c.b().mu.Lock()
	defer c.b().mu.Unlock()
	for i := range len(keys) {
		c.audio.keys = append(c.audio.keys, presses(keys[i], 100*time.Millisecond)...)
	}
}

// Hush makes the phone forget what it was still to say.
func (c *Call) Hush() {
	c.b().mu.Lock()
	defer c.b().mu.Unlock()
	c.audio.say = nil
}

// Speak begins to send audio though nothing was acknowledged.
func (c *Call) Speak() {
	c.b().mu.Lock()
	defer c.b().mu.Unlock()
	c.audio.begin()
}

// presses are the packets of one key: updates while it is down, and the end three times (RFC 4733 §2.5.1.4).
func presses(key byte, hold time.Duration) []press {
	var out []press
	duration := uint16(0)
	for range hold / media.Frame {
		duration += frameSamples
		out = append(out, press{key: key, duration: duration, first: len(out) == 0})
	}
	end := press{key: key, end: true, duration: duration}
	return append(out, end, end, end)
}

// Pressed waits for keys that the edge sends by RFC 4733.
func (c *Call) Pressed(keys string) {
	c.b().t.Helper()
	c.b().until(patience, "phone "+c.phone.Name+" did not hear the keys "+keys, func() bool { return strings.HasSuffix(c.audio.pressed, keys) })
}

// Hears waits until exactly these octets have been heard, after silence only. What a prompt itself begins with may be
// silence as well.
func (c *Call) Hears(octets []byte) {
	c.b().t.Helper()
	a := c.audio
	want := octets
	for len(want) > 0 && want[0] == a.codec.Silence() {
		want = want[1:]
	}
	limit := time.Duration(len(octets))*time.Second/perSecond + patience
	wrong, heard := -1, 0
	c.b().within(limit, func() bool {
		for heard == 0 && a.taken < len(a.heard) && a.heard[a.taken] == a.codec.Silence() {
			a.taken++
		}
		for got := a.heard[a.taken:]; heard < min(len(got), len(want)); heard++ {
			if got[heard] != want[heard] {
				wrong = heard
				return true
			}
		}
		return heard == len(want)
	})
	c.b().mu.Lock()
	defer c.b().mu.Unlock()
	switch {
	case wrong >= 0:
		c.b().t.Fatalf("phone %s heard something else from sample %d of %d on: % x, expected % x", c.phone.Name, wrong, len(want),
			around(a.heard[a.taken:], wrong), around(want, wrong))
	case heard < len(want):
		c.b().t.Fatalf("phone %s heard %d samples of %d", c.phone.Name, heard, len(want))
	}
	a.taken += len(want)
}

// around is a few octets to be shown.
func around(octets []byte, at int) []byte { return octets[at:min(at+16, len(octets))] }

// HearsSilence waits for so much silence, with nothing before it.
func (c *Call) HearsSilence(d time.Duration) {
	c.b().t.Helper()
	a, n := c.audio, int(d*perSecond/time.Second)
	c.b().until(d+patience, "phone "+c.phone.Name+" heard too little", func() bool { return len(a.heard)-a.taken >= n })
	c.b().mu.Lock()
	defer c.b().mu.Unlock()
	for i, octet := range a.heard[a.taken : a.taken+n] {
		if octet != a.codec.Silence() {
			c.b().t.Fatalf("phone %s heard something after %d samples of silence", c.phone.Name, i)
		}
	}
	a.taken += n
}

// HearsTone waits for a tone of this frequency.
func (c *Call) HearsTone(hz float64) {
	c.b().t.Helper()
	const window, loud = perSecond / 10, -30
	a := c.audio
	c.b().until(patience, fmt.Sprintf("phone %s heard no tone of %v Hz", c.phone.Name, hz), func() bool {
		for ; a.taken+window <= len(a.heard); a.taken += frameSamples {
			pcm := make([]int16, window)
			a.codec.Decode(pcm, a.heard[a.taken:a.taken+window])
			if level := tone.Level(pcm, hz); level > loud && level > tone.Power(pcm)-6 {
				a.taken += window
				return true
			}
		}
		return false
	})
}

// Forget leaves out of account what has been heard so far.
func (c *Call) Forget() {
	c.b().mu.Lock()
	defer c.b().mu.Unlock()
	c.audio.taken = len(c.audio.heard)
}

// Heard is what has been heard since the last expectation.
func (c *Call) Heard() []byte {
	c.b().mu.Lock()
	defer c.b().mu.Unlock()
	return bytes.Clone(c.audio.heard[c.audio.taken:])
}

// Voice is d of something that no detector takes for silence and no two moments of which are alike, as µ-law. Another
// seed is another voice.
func Voice(seed uint32, d time.Duration) []byte { return VoiceIn(codec.PCMU, seed, d) }

// VoiceIn is Voice in a codec.
func VoiceIn(id codec.ID, seed uint32, d time.Duration) []byte {
	pcm := make([]int16, d*perSecond/time.Second)
	for i := range pcm {
		seed = seed*1664525 + 1013904223
		pcm[i] = 1024 + int16(seed>>20)
		if seed&(1<<16) != 0 {
			pcm[i] = -pcm[i]
		}
	}
	out := make([]byte, len(pcm))
	id.Encode(out, pcm)
	return out
}

// Silence is d of µ-law silence.
func Silence(d time.Duration) []byte {
	return bytes.Repeat([]byte{codec.PCMU.Silence()}, int(d*perSecond/time.Second))
}

// SystemPrompt is what a phone hears of one of the system's prompts in English, as µ-law.
func SystemPrompt(t testing.TB, id string) []byte {
	t.Helper()
	file, err := os.ReadFile(filepath.Join("..", "prompt", "sounds", "en", id+".wav"))
	if err != nil {
		t.Fatal(err)
	}
	decoded, err := wav.Decode(file, wav.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return Encoded(decoded.Samples)
}

// Tone is one period of a tone, as µ-law.
func Tone(t testing.TB, name string) []byte {
	t.Helper()
	spec, ok := tone.Named(name)
	if !ok {
		t.Fatalf("there is no tone %s", name)
	}
	return Encoded(spec.PCM())
}

// Encoded is PCM as µ-law.
func Encoded(pcm []int16) []byte {
	out := make([]byte, len(pcm))
	codec.PCMU.Encode(out, pcm)
	return out
}

// WAV is µ-law octets as a file that an application serves. Decoded and encoded again they are the same.
func WAV(octets []byte) string {
	pcm := make([]int16, len(octets))
	codec.PCMU.Decode(pcm, octets)
	return string(wav.Encode(wav.PCM{Rate: perSecond, Channels: 1, Samples: pcm}))
}
