package prompt

import (
	"embed"
	"fmt"
	"strings"
	"sync"

	"github.com/hookswitch/hookswitch/edge/media"
	"github.com/hookswitch/hookswitch/edge/media/tone"
	"github.com/hookswitch/hookswitch/webhooks"
)

//go:generate go run generate.go

// The system's own prompts. Programs name them as media_id; the edge plays those marked so by itself. The ten digits are
// sys_digits_0 to sys_digits_9: an id may be made of what was dialled, "sys_digits_{{trigger.digits}}".
const (
	Apology      webhooks.MediaID = "sys_apology"       // the edge: the end of the failure path
	Goodbye      webhooks.MediaID = "sys_goodbye"       // programs, before they hang up
	Hold         webhooks.MediaID = "sys_hold"          // the edge: waiting without a program of one's own
	Position     webhooks.MediaID = "sys_position"      // the edge: a queue's position, followed by its digits
	Agent        webhooks.MediaID = "sys_agent"         // the edge: an agent's number, followed by its digits
	NoSpeech     webhooks.MediaID = "sys_no_speech"     // the edge: say without a speech engine
	Unavailable  webhooks.MediaID = "sys_unavailable"   // the edge and programs: dial got no answer, or nobody is there
	Busy         webhooks.MediaID = "sys_busy"          // the edge and programs: dial found the line busy
	NotAllowed   webhooks.MediaID = "sys_not_allowed"   // the edge and programs: a rule refused the dial
	Welcome      webhooks.MediaID = "sys_welcome"       // the program welcome, where there is no speech engine
	YouPressed   webhooks.MediaID = "sys_you_pressed"   // programs, followed by a digit
	LeaveMessage webhooks.MediaID = "sys_leave_message" // programs, before record
	Beep         webhooks.MediaID = "sys_beep"          // the edge: before record; a tone, the same in every language
)

// The languages that the system speaks, as BCP 47 tags.
const (
	Chinese = "zh-CN"
	English = "en"
)

// SystemPrompt is one row of the table of what the system says.
type SystemPrompt struct {
	ID   webhooks.MediaID
	Text map[string]string // by language
}

// SystemPrompts is the table that the files under sounds are made from; Beep, a tone, is not in it. After a change run
// make generate.
func SystemPrompts() []SystemPrompt {
	say := func(id webhooks.MediaID, chinese, english string) SystemPrompt {
		return SystemPrompt{ID: id, Text: map[string]string{Chinese: chinese, English: english}}
	}
	return []SystemPrompt{
		say(Apology, "很抱歉，系统出现故障，请稍后再拨。", "We are sorry. Something went wrong. Please call again later."),
		say(Goodbye, "感谢您的来电，再见。", "Thank you for calling. Goodbye."),
		say(Hold, "请不要挂机，稍等片刻。", "Please hold the line."),
		say(Position, "您当前的排队位置是", "Your position in the queue is"),
		say(Agent, "为您服务的坐席工号是", "You are speaking with agent number"),
		say(NoSpeech, "语音合成尚未启用，无法播报文字。", "Text to speech is not available on this system."),
		say(Unavailable, "您拨打的用户暂时无法接通，请稍后再拨。", "The party you called is not available. Please try again later."),
		say(Busy, "您拨打的用户正忙，请稍后再拨。", "The line is busy. Please try again later."),
		say(NotAllowed, "您没有拨打该号码的权限。", "You are not allowed to call this number."),
		say(Welcome, "您好，欢迎致电。请按一个数字键。", "Hello, and welcome. Please press a digit."),
		say(YouPressed, "您按的是", "You pressed"),
		say(LeaveMessage, "请在提示音后留言，按井号键结束。", "Please leave a message after the tone. Press the pound key to finish."),
		say("sys_digits_0", "零", "zero"),
		say("sys_digits_1", "一", "one"),
		say("sys_digits_2", "二", "two"),
		say("sys_digits_3", "三", "three"),
		say("sys_digits_4", "四", "four"),
		say("sys_digits_5", "五", "five"),
		say("sys_digits_6", "六", "six"),
		say("sys_digits_7", "七", "seven"),
		say("sys_digits_8", "八", "eight"),
		say("sys_digits_9", "九", "nine"),
	}
}

// File is the name of the prompt's file under sounds: 8 kHz µ-law WAV.
func (p SystemPrompt) File(language string) string {
	return strings.ToLower(language) + "/" + string(p.ID) + ".wav"
}

//go:embed sounds
var sounds embed.FS

// systemKey finds a prompt; language is one of the two.
type systemKey struct {
	id       webhooks.MediaID
	language string
}

// System returns one of the system's prompts, in Chinese for any tag of that language ("zh", "zh-HK"), else in English.
// It needs nothing outside the binary and never blocks. ok is false when there is none of that name.
func (s *Store) System(id webhooks.MediaID, language string) (p *media.Prompt, ok bool) {
	p, ok = s.system[systemKey{id, systemLanguage(language)}]
	return p, ok
}

func systemLanguage(tag string) string {
	base, _, _ := strings.Cut(strings.ReplaceAll(tag, "_", "-"), "-")
	if strings.EqualFold(base, "zh") || strings.EqualFold(base, "cmn") || strings.EqualFold(base, "yue") {
		return Chinese
	}
	return English
}

// loadSystem converts the files in the binary, which takes some milliseconds, once for all stores. What it returns is
// only read.
var loadSystem = sync.OnceValue(func() map[systemKey]*media.Prompt {
	prompts := make(map[systemKey]*media.Prompt)
	for _, p := range SystemPrompts() {
		for language := range p.Text {
			prompts[systemKey{p.ID, language}] = mustDecode(p.File(language))
		}
	}
	spec, ok := tone.Named("beep")
	if !ok {
		panic("prompt: no tone is named beep")
	}
	beep := media.NewPrompt(spec.PCM())
	prompts[systemKey{Beep, Chinese}] = beep
	prompts[systemKey{Beep, English}] = beep
	return prompts
})

// mustDecode reads a file of the binary: that it is there and whole is tested.
func mustDecode(name string) *media.Prompt {
	file, err := sounds.ReadFile("sounds/" + name)
	if err != nil {
		panic(fmt.Sprintf("prompt: %s is not in the binary; run make generate", name))
	}
	p, err := decode(file, DefaultMaxFile)
	if err != nil {
		panic(fmt.Sprintf("prompt: %s: %s", name, err))
	}
	return p
}
