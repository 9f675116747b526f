package detect

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/hookswitch/hookswitch/edge/media/codec"
	"github.com/hookswitch/hookswitch/edge/media/tone"
	"github.com/hookswitch/hookswitch/edge/media/wav"
)

// The corpus is synthetic: espeak-ng speaks, a model of a telephone line spoils it. The defaults were
// chosen with one of its two sets and are measured with the other: they share no text, no voice and no random number. What
// the measurement has changed nevertheless is told in deploy/docs/detection.md.

// voice is one of espeak-ng's, with its speed in words a minute and its pitch from 0 to 99.
type voice struct {
	name         string
	speed, pitch int
}

// text is what is said, and in which language of espeak-ng.
type text struct{ language, words string }

// kindText is an announcement.
type kindText struct {
	kind Kind
	text
}

// set is one half of the corpus.
type set struct {
	name          string
	seed          uint64
	variants      []string // voices of people and machines
	short         []text   // people who say a word or two
	sentences     []text   // people who say more
	desks         []text   // people at work, whose greetings are as long as machines'
	machines      []text
	brief         []text     // machines that say no more than a person
	announcements []kindText // spoken by carrier, which no person's voice is
	others        []text     // what else the carrier's voice says
	carrier       string
	noises        []noise
}

var tuningSet = set{
	name: "tuning", seed: 1, variants: []string{"m1", "f1", "m2", "f2", "m3", "m4", "f3", "m5", "f4", "m6", "m7"}, carrier: "anika",
	short: []text{
		{"cmn", "喂？你好"}, {"cmn", "您好"}, {"cmn", "谁呀"}, {"cmn", "嗯，您说"}, {"cmn", "哪里"},
		{"en-us", "Hi"}, {"en-us", "Yeah?"}, {"en-us", "Hi there"}, {"en-us", "Hello hello"}, {"en-us", "Speaking"},
		{"cmn", "喂，您好"}, {"cmn", "喂喂"}, {"cmn", "哪位？"}, {"cmn", "喂？喂？"}, {"cmn", "什么事"},
		{"en-gb", "Yes?"}, {"en-gb", "Yes, hello"}, {"en-gb", "Good morning"},
		{"en-gb", "Who is it?"}, {"en-gb", "Anderson"},
	},
	sentences: []text{
		{"cmn", "喂，我在开会"}, {"cmn", "你好，找哪位"}, {"cmn", "您好，我是老陈，您请讲"}, {"cmn", "喂，听得见吗，喂"},
		{"en-us", "Hello, Tom speaking"}, {"en-us", "Yes, who am I talking to?"}, {"en-us", "Hi, this is Laura, who is calling please?"},
		{"cmn", "你好，请问哪位"}, {"cmn", "喂，你是谁呀，找我有事吗"}, {"cmn", "您好，财务部"}, {"cmn", "你好，我是小李，请讲"},
		{"cmn", "喂，你好，我现在在开车"}, {"cmn", "哎，你好，哪个单位的"},
		{"en-gb", "Hello, this is Martin"}, {"en-gb", "Hello, who is calling?"}, {"en-gb", "Hi, Susan here, how are you?"},
		{"en-gb", "Accounts department, Rachel"}, {"en-gb", "Sorry, I can't hear you, hello?"}, {"en-gb", "This is she, who is this?"},
	},
	desks: []text{
		{"cmn", "您好，这里是新华宾馆总机，很高兴为您服务"},
		{"en-us", "Good morning, city library, my name is Carol, what can I do for you?"},
		{"cmn", "您好，海天贸易公司，请问有什么可以帮您"},
		{"en-gb", "Good afternoon, Smith and Partners, Anna speaking, how may I help you?"},
	},
	machines: []text{
		{"cmn", "你好，我是王强，现在没法接电话，有事请留言，谢谢。"},
		{"cmn", "您好，机主正忙，请您稍后再拨，或者在听到嘀的一声后开始留言。"},
		{"en-us", "Hello, you have reached the Miller family. We can't come to the phone, so please leave your name and number."},
		{"en-us", "Your call has been forwarded to an automated voice message system. Please record your message after the tone."},
		{"cmn", "您好，我现在不方便接听电话，请在提示音后留言，我会尽快给您回复。"},
		{"cmn", "这里是李明的语音信箱。请留下您的姓名、电话号码和留言内容，我会尽快与您联系。"},
		{"cmn", "您所拨打的用户暂时无法接听，请在滴声后录音，录音结束后请挂机。"},
		{"cmn", "你好！我是张伟。我正在休假，下周一回来，急事请发短信。"},
		{"en-gb", "Hi, this is Peter Jones. I can't take your call right now. Leave your name and number and I'll call you back as soon as I can."},
		{"en-gb", "The person you are calling is not available. At the tone, please record your message. When you have finished recording, you may hang up."},
		{"en-gb", "Welcome to the voice mail of five five five, zero one nine nine. No one is available to take your call."},
		{"en-gb", "Hey! It's Kate. You know what to do. Wait for the tone, and talk."},
	},
	brief: []text{
		{"cmn", "请留言。"}, {"en-us", "Please leave a message."},
		{"cmn", "我不在，有事留言。"}, {"en-gb", "Leave a message after the beep."},
	},
	announcements: []kindText{
		{Invalid, text{"cmn", "您好，您拨打的号码是空号，请核对后再拨。"}},
		{Suspended, text{"cmn", "您好，您拨打的电话已停机。"}},
		{PowerOff, text{"cmn", "您好，您拨打的电话已关机，请稍后再拨。"}},
		{Busy, text{"cmn", "您好，您拨打的电话正在通话中，请稍后再拨。"}},
		{NoAnswer, text{"cmn", "您好，您拨打的电话暂时无人接听，请稍后再拨。"}},
		{Unreachable, text{"cmn", "您好，您拨打的电话暂时无法接通，请稍后再拨。"}},
		{Invalid, text{"en-gb", "Sorry, the number you dialled is not in service. Please check the number and dial again."}},
		{Suspended, text{"en-gb", "Sorry, the service of the number you dialled has been suspended."}},
		{PowerOff, text{"en-gb", "Sorry, the number you dialled is powered off. Please redial later."}},
		{Busy, text{"en-gb", "Sorry, the number you dialled is busy now. Please redial later."}},
		{NoAnswer, text{"en-gb", "Sorry, the number you dialled is not answered at the moment. Please redial later."}},
		{Unreachable, text{"en-gb", "Sorry, the number you dialled cannot be connected for the moment. Please redial later."}},
	},
	others: []text{
		{"cmn", "您好，您的话费余额不足，请及时充值。"}, {"cmn", "您好，您拨打的电话已启用来电提醒，请稍候。"},
		{"en-gb", "Sorry, your balance is low. Please top up your account soon."},
	},
	noises: []noise{{quiet, 0}, {white, 20}, {pink, 15}, {babble, 20}, {babble, 12}, {pink, 10}, {babble, 10}},
}

var evaluationSet = set{
	name: "evaluation", seed: 11, variants: []string{"Denis", "steph", "Hugo", "Alicia", "Marco", "Michael", "ed"}, carrier: "michel",
	short: []text{
		{"cmn", "喂"}, {"cmn", "你好"}, {"cmn", "喂，哪位"}, {"cmn", "喂，你好你好"}, {"cmn", "哎，您好"}, {"cmn", "请讲"}, {"cmn", "找谁"},
		{"en-us", "Hello"}, {"en-us", "Hello?"}, {"en-us", "Yes"}, {"en-us", "Hey"}, {"en-us", "Good evening"}, {"en-us", "Who's there?"},
		{"en-us", "Jackson"},
	},
	sentences: []text{
		{"cmn", "你好，请问是哪一位"}, {"cmn", "喂，您好，请问您找谁"}, {"cmn", "喂，我是老王，什么事啊"}, {"cmn", "您好，前台，请讲"},
		{"cmn", "喂，我现在不太方便"}, {"cmn", "喂？哪里啊？听不清"},
		{"en-us", "Hello, this is Jennifer"}, {"en-us", "Hello, may I ask who is calling?"}, {"en-us", "Hi, you're speaking to David"},
		{"en-us", "Sales, Nancy speaking"}, {"en-us", "Yeah, hi, I'm driving right now"}, {"en-us", "Good morning, Brown residence"},
	},
	desks: []text{
		{"cmn", "您好，这里是东方医院预约中心，请问您需要什么帮助"},
		{"en-us", "Thank you for calling Green Valley Dental, this is Monica, how can I help you?"},
	},
	machines: []text{
		{"cmn", "您好，这里是陈医生的电话，我现在无法接听，请您留下姓名和电话，我会给您回电话。"},
		{"cmn", "欢迎使用语音信箱。您呼叫的用户现在不能接听您的电话，请在听到提示音后开始录音。"},
		{"cmn", "你好，我在开会，不方便接电话。有要紧的事请发短信给我，谢谢。"},
		{"cmn", "主人不在家，请在嘟声之后留下您的口信，我们会尽快和您联络。"},
		{"en-us", "Hello, you've reached Karen's phone. I'm away from my desk at the moment, so please leave me a message and I'll get back to you."},
		{"en-us", "We're sorry, the customer you are trying to reach has not set up a voice mailbox yet. Goodbye."},
		{"en-us", "You have reached the voice mailbox of extension two zero four. To leave a message, wait for the tone."},
		{"en-us", "Hi, it's Steve. I can't get to the phone. You know the drill, so do your thing after the beep. Bye."},
	},
	brief: []text{{"cmn", "请在滴声后留言。"}, {"en-us", "Record your message now."}},
	announcements: []kindText{
		{Invalid, text{"cmn", "对不起，您所拨的号码是空号，请查证后再拨。"}},
		{Suspended, text{"cmn", "对不起，您拨叫的用户已停机。"}},
		{PowerOff, text{"cmn", "对不起，您拨叫的用户已关机。"}},
		{Busy, text{"cmn", "对不起，您拨叫的用户正在通话中，请不要挂机或稍后再拨。"}},
		{NoAnswer, text{"cmn", "对不起，您拨叫的用户暂时没有人接听。"}},
		{Unreachable, text{"cmn", "对不起，您拨叫的用户不在服务区，请稍后再拨。"}},
		{Invalid, text{"en-us", "We are sorry. The number you have reached is not a working number."}},
		{Suspended, text{"en-us", "We are sorry. The subscriber's service is temporarily suspended."}},
		{PowerOff, text{"en-us", "The mobile phone you are calling is turned off. Try again later."}},
		{Busy, text{"en-us", "The subscriber you are calling is on another line. Try again later."}},
		{NoAnswer, text{"en-us", "The subscriber you are calling does not answer. Try again later."}},
		{Unreachable, text{"en-us", "The mobile phone you are calling is out of the coverage area. Try again later."}},
	},
	others: []text{
		{"cmn", "对不起，您的可用余额已经用完，请您先缴费。"}, {"cmn", "您好，您拨叫的用户设置了漏话提醒服务，请挂机。"},
		{"en-us", "We are sorry. Your plan does not include international calls."},
	},
	noises: []noise{{quiet, 0}, {pink, 20}, {white, 15}, {babble, 18}, {babble, 12}, {pink, 10}, {babble, 10}},
}

// espeak keeps what was spoken for the whole test program: the same words are needed on several lines.
type espeak struct {
	mu     sync.Mutex
	spoken map[string][]int16
}

var speaker = espeak{spoken: map[string][]int16{}}

// say is 8 kHz PCM without the silence at its ends.
func (e *espeak) say(t testing.TB, words text, v voice) []int16 {
	name := words.language + "+" + v.name
	key := fmt.Sprint(words.words, name, v.speed, v.pitch)
	e.mu.Lock()
	defer e.mu.Unlock()
	if pcm, ok := e.spoken[key]; ok {
		return pcm
	}
	cmd := exec.Command("espeak-ng", "--stdout", "--stdin", "-b", "1", "-v", name, "-s", fmt.Sprint(v.speed), "-p", fmt.Sprint(v.pitch))
	cmd.Stdin = strings.NewReader(words.words)
	file, err := cmd.Output()
	if err != nil {
		t.Fatalf("espeak-ng (apt-get install espeak-ng): %v", err)
	}
	decoded, err := wav.Decode(file, wav.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	pcm := trim(codec.Resample(decoded.Samples, decoded.Rate, rate))
	e.spoken[key] = pcm
	return pcm
}

// trim takes what is under −50 dBFS off both ends.
func trim(pcm []int16) []int16 {
	loud := func(s int16) bool { return s > 100 || s < -100 }
	first, last := 0, len(pcm)
	for first < last && !loud(pcm[first]) {
		first++
	}
	for last > first && !loud(pcm[last-1]) {
		last--
	}
	return pcm[first:last]
}

type noiseKind int

const (
	quiet noiseKind = iota
	white
	pink
	babble // six voices at once
)

// noise is what is heard behind a voice, and how many dB under it.
type noise struct {
	kind noiseKind
	snr  float64
}

func (n noise) String() string {
	name := [...]string{"quiet", "white", "pink", "babble"}[n.kind]
	if n.kind == quiet {
		return name
	}
	return fmt.Sprintf("%s %g dB", name, n.snr)
}

// phone is a line with its own random numbers: level, tilt, law, noise.
type phone struct {
	random *rand.Rand
	level  float64 // of speech in dBFS
	tilt   float64 // what the line's frequency response does to the voice
	law    codec.ID
	noise  noise
	babble []int16
}

func newPhone(s *set, item int, n noise, crowd []int16) phone {
	random := rand.New(rand.NewPCG(s.seed, uint64(item)))
	return phone{
		random: random, level: -14 - 18*random.Float64(), tilt: random.Float64()*0.7 - 0.35,
		law: [...]codec.ID{codec.PCMU, codec.PCMA}[random.IntN(2)], noise: n, babble: crowd,
	}
}

// between is a random number of samples that last so many ms.
func (p *phone) between(from, to int) int { return rate / 1000 * (from + p.random.IntN(to-from+1)) }

// transmit brings speech, where voiced is true, to the line's level and adds its noise to all of sound, then codes it.
// The noise's level is told by that of the speech.
func (p *phone) transmit(sound []int16) []int16 {
	out := make([]float64, len(sound))
	rms := 32768 * math.Pow(10, p.level/20)
	gain := rms / activeRMS(sound)
	before := 0.0
	for i, s := range sound {
		x := float64(s) * gain
		out[i] = x + p.tilt*before
		before = x
	}
	p.addNoise(out, rms)
	pcm := make([]int16, len(out))
	for i, x := range out {
		pcm[i] = int16(max(-32768, min(32767, x)))
	}
	coded := make([]byte, len(pcm))
	p.law.Encode(coded, pcm)
	p.law.Decode(pcm, coded)
	return pcm
}

func (p *phone) addNoise(out []float64, rms float64) {
	level := rms * math.Pow(10, -p.noise.snr/20)
	var slow, middle, fast float64
	at := 0
	if len(p.babble) > 0 {
		at = p.random.IntN(len(p.babble))
	}
	for i := range out {
		switch p.noise.kind {
		case quiet: // −66 dBFS, as of an idle line
			out[i] += 16 * p.random.NormFloat64()
		case white:
			out[i] += level * p.random.NormFloat64()
		case pink: // three poles, Kellet's economical filter
			w := p.random.NormFloat64()
			slow = 0.99765*slow + w*0.0990460
			middle = 0.96300*middle + w*0.2965164
			fast = 0.57000*fast + w*1.0526913
			out[i] += level * 0.45 * (slow + middle + fast + w*0.1848)
		case babble:
			out[i] += level / babbleRMS * float64(p.babble[(at+i)%len(p.babble)])
		}
	}
}

// activeRMS is the root mean square of the frames that are not silent.
func activeRMS(pcm []int16) float64 {
	var sum float64
	frames := 1
	for rest := pcm; len(rest) >= frameLength; rest = rest[frameLength:] {
		if power := meanSquare(rest[:frameLength]); power > 10_000 {
			sum += float64(power)
			frames++
		}
	}
	return max(1, math.Sqrt(sum/float64(frames)))
}

const babbleRMS = 3000

// crowd is six of the set's voices saying its greetings of machines at once, at babbleRMS.
func crowd(t testing.TB, s *set) []int16 {
	const length = 12 * rate
	sum := make([]float64, length)
	for i := range 6 {
		said := speaker.say(t, s.machines[i%len(s.machines)], voice{s.variants[i%len(s.variants)], 165, 40 + 4*i})
		for j := range sum {
			sum[j] += float64(said[(j+i*rate*7/5)%len(said)])
		}
	}
	var power float64
	for _, x := range sum {
		power += x * x
	}
	gain := babbleRMS / math.Sqrt(power/length)
	pcm := make([]int16, length)
	for i, x := range sum {
		pcm[i] = int16(max(-32768, min(32767, x*gain)))
	}
	return pcm
}

func silence(samples int) []int16 { return make([]int16, samples) }

// tones is a cadence from edge/media/tone, repeated for so many seconds, with a peak of amplitude.
func tones(t testing.TB, notation string, seconds, amplitude float64) []int16 {
	spec, ok := tone.Named(notation)
	if !ok {
		var err error
		if spec, err = tone.Parse(notation); err != nil {
			t.Fatal(err)
		}
	}
	period := spec.PCM()
	length := int(seconds * rate)
	out := make([]int16, 0, length)
	peak := 1.0
	for _, s := range period {
		peak = max(peak, math.Abs(float64(s)))
	}
	for len(out) < length {
		for _, s := range period[:min(len(period), length-len(out))] {
			out = append(out, int16(float64(s)*amplitude/peak))
		}
	}
	return out
}

// beepTone is a beep of a voicemail with edges of 4 ms.
func beepTone(hz float64, samples int, amplitude float64) []int16 {
	out := make([]int16, samples)
	for i := range out {
		edge := min(1, float64(min(i, samples-i))/32)
		out[i] = int16(amplitude * edge * math.Sin(2*math.Pi*hz*float64(i)/rate))
	}
	return out
}

// melody is music for callers: notes of a pentatonic scale with harmonics that decay, or pure and held, over a bass.
func melody(random *rand.Rand, seconds float64, pure bool) []int16 {
	out := make([]float64, int(seconds*rate))
	scale := []float64{0, 2, 4, 7, 9, 12, 14}
	for at := 0; at < len(out); {
		length := rate * (150 + random.IntN(350)) / 1000
		hz := 330 * math.Pow(2, scale[random.IntN(len(scale))]/12)
		for i := range min(length, len(out)-at) {
			x := 2 * math.Pi * hz * float64(i) / rate
			v := math.Sin(x)
			if !pure {
				v = (v + 0.5*math.Sin(2*x) + 0.3*math.Sin(3*x)) * math.Exp(-3*float64(i)/rate)
				v += 0.4 * math.Sin(x/4)
			}
			out[at+i] += 5000 * v * min(1, float64(length-i)/80)
		}
		at += length
	}
	pcm := make([]int16, len(out))
	for i, x := range out {
		pcm[i] = int16(max(-32768, min(32767, x)))
	}
	return pcm
}

func join(parts ...[]int16) []int16 {
	var out []int16
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}
