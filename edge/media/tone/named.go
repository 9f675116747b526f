package tone

import "strings"

// DefaultCountry is whose tones are meant when a name tells no country.
const DefaultCountry = "cn"

// network holds what one country's exchanges send, in the notation of Parse.
type network struct {
	dial, ringback, busy, reorder string
}

// networks are the tones of ITU-T E.180 supplement 2 ("Various tones used in national networks"), by ISO 3166 code, and
// for "eu" the harmonised ones of ETSI ES 201 970. Where the supplement modulates a carrier (400×25) the two side bands
// are given (375+425). reorder is the supplement's congestion tone.
var networks = map[string]network{
	"au": {"413+438", "413+438/400,0/200,413+438/400,0/2000", "425/375,0/375", "425/375,0/375"},
	"br": {"425", "425/1000,0/4000", "425/250,0/250", "425/250,0/250,425/750,0/250"},
	"cn": {"450", "450/1000,0/4000", "450/350,0/350", "450/700,0/700"},
	"de": {"425", "425/1000,0/4000", "425/480,0/480", "425/240,0/240"},
	"eu": {"425", "425/1000,0/4000", "425/500,0/500", "425/250,0/250"},
	"fr": {"440", "440/1500,0/3500", "440/500,0/500", "440/250,0/250"},
	"hk": {"350+440", "440+480/400,0/200,440+480/400,0/3000", "480+620/500,0/500", "480+620/250,0/250"},
	"in": {"375+425", "375+425/400,0/200,375+425/400,0/2000", "400/750,0/750", "400/250,0/250"},
	"jp": {"400", "384+416/1000,0/2000", "400/500,0/500", "400/500,0/500"},
	"kr": {"350+440", "440+480/1000,0/2000", "480+620/500,0/500", "480+620/300,0/200"},
	"sg": {"425", "401+449/400,0/200,401+449/400,0/2000", "425/750,0/750", "425/250,0/250"},
	"tw": {"350+440", "440+480/1000,0/2000", "480+620/500,0/500", "480+620/250,0/250"},
	"uk": {"350+440", "400+450/400,0/200,400+450/400,0/2000", "400/375,0/375", "400/400,0/350,400/225,0/525"},
	"us": {"350+440", "440+480/2000,0/4000", "480+620/500,0/500", "480+620/250,0/250"},
}

// Tones that are the same everywhere.
const (
	beep    = "1000/300"
	silence = "0"
)

// Named finds a tone by name: "ringback", "busy", "reorder" (also "congestion") or "dial", of DefaultCountry or with a
// country behind a hyphen as in "ringback-us"; "beep", 300 ms of 1 kHz; "silence". "gb" is "uk". Upper case is as good
// as lower. ok is false for any other name; Parse reads tones that have none.
func Named(name string) (spec Spec, ok bool) {
	kind, country, told := strings.Cut(strings.ToLower(name), "-")
	if !told {
		country = DefaultCountry
	}
	notation := ""
	switch {
	case kind == "beep" && !told:
		notation = beep
	case kind == "silence" && !told:
		notation = silence
	default:
		notation = networks[alias(country)].notation(kind)
	}
	spec, err := Parse(notation)
	return spec, err == nil
}

func alias(country string) string {
	if country == "gb" {
		return "uk"
	}
	return country
}

// notation is empty, which Parse refuses, for an unknown kind or country.
func (n network) notation(kind string) string {
	switch kind {
	case "dial":
		return n.dial
	case "ringback":
		return n.ringback
	case "busy":
		return n.busy
	case "reorder", "congestion":
		return n.reorder
	}
	return ""
}
