package prompt

import (
	"testing"
)

func TestOtherFormatsAreNamed(t *testing.T) {
	ogg := "OggS" + string(make([]byte, 24))
	for beginning, name := range map[string]string{
		"ID3\x04":                          "MP3",
		"\xff\xfb\x90\x00":                 "MP3",
		"\xff\xf3\x18\xc4":                 "MP3",
		"\xff\xf1\x50\x80":                 "AAC",
		"\xff\xf9\x50\x80":                 "AAC",
		ogg + "OpusHead":                   "Ogg Opus",
		ogg + "\x01vorbis":                 "Ogg Vorbis",
		ogg + "Speex":                      "Ogg",
		"OggS":                             "Ogg",
		"fLaC":                             "FLAC",
		"\x00\x00\x00\x20ftypM4A ":         "MP4 (M4A, AAC)",
		"#!AMR\n":                          "AMR",
		"\x1aE\xdf\xa3":                    "WebM",
		"FORM\x00\x00\x00\x00AIFF":         "AIFF",
		"\xef\xbb\xbf <HTML><body>":        "a web page",
		"<?xml version='1.0'?><Error/>":    "XML",
		`{"error":"not found"}`:            "JSON",
		"":                                 "",
		"hello":                            "",
		"\xff":                             "",
		"RIFF\x00\x00\x00\x00WAVEfmt \x10": "",
	} {
		if got := otherFormat([]byte(beginning)); got != name {
			t.Errorf("%q is %q, want %q", beginning, got, name)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(file(440)[:200])
	f.Add(g711File(7, 2, []byte{1, 2, 3, 4}))
	for _, format := range formats {
		f.Add([]byte(string(make([]byte, format.offset)) + format.magic))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		p, err := decode(body, 1<<20)
		if (p == nil) == (err == nil) {
			t.Fatalf("%v, %v", p, err)
		}
		if err != nil && asError(err) == nil {
			t.Fatalf("%T: %v", err, err)
		}
		if p != nil && p.Size() == 0 {
			t.Fatal("a prompt without audio")
		}
	})
}
