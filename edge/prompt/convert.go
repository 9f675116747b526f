package prompt

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/hookswitch/hookswitch/edge/media"
	"github.com/hookswitch/hookswitch/edge/media/codec"
	"github.com/hookswitch/hookswitch/edge/media/wav"
)

// convert is decode when its turn has come.
func (s *Store) convert(ctx context.Context, file []byte, maxFile int64) (*media.Prompt, error) {
	if err := s.conversions.acquire(ctx); err != nil {
		return nil, err
	}
	defer s.conversions.release()
	return decode(file, maxFile)
}

// decode turns a WAV file into a prompt: mixed to one channel, resampled to 8 kHz, encoded. The error is an *Error.
func decode(file []byte, maxFile int64) (*media.Prompt, error) {
	if int64(len(file)) > maxFile {
		return nil, tooLarge(maxFile)
	}
	if name := otherFormat(file); name != "" {
		return nil, failure(CodeInvalid, nil, "it is %s; send a WAV file (16-bit PCM or G.711)", name)
	}
	pcm, err := wav.Decode(file, wav.Limits{MaxBytes: int(maxFile), MaxDuration: MaxDuration})
	switch {
	case errors.Is(err, wav.ErrTooLarge):
		return nil, failure(CodeTooLarge, err, "%s", err.Error())
	case err != nil:
		return nil, failure(CodeInvalid, err, "%s", err.Error())
	case pcm.Frames() == 0:
		return nil, failure(CodeInvalid, nil, "the WAV file holds no audio")
	}
	samples := pcm.Mono().Samples
	if pcm.Rate != media.SampleRate {
		samples = codec.Resample(samples, pcm.Rate, media.SampleRate)
	}
	return media.NewPrompt(samples), nil
}

func tooLarge(maxFile int64) *Error {
	return failure(CodeTooLarge, nil, "the file has more than %d bytes; send a shorter one, or one at 8 kHz", maxFile)
}

// formats are what is sent instead of WAV, by how it begins at an offset.
var formats = []struct {
	offset int
	magic  string
	name   string
}{
	{0, "ID3", "MP3"},
	{28, "OpusHead", "Ogg Opus"},
	{28, "\x01vorbis", "Ogg Vorbis"},
	{0, "OggS", "Ogg"},
	{0, "fLaC", "FLAC"},
	{4, "ftyp", "MP4 (M4A, AAC)"},
	{0, "#!AMR", "AMR"},
	{0, "\x1aE\xdf\xa3", "WebM"},
	{8, "AIFF", "AIFF"},
	{8, "AIFC", "AIFF"},
	{0, ".snd", "a Sun .au file"},
	{0, "\x30\x26\xb2\x75\x8e\x66\xcf\x11", "WMA"},
	{0, "%PDF", "a PDF document"},
	{0, "PK\x03\x04", "a ZIP archive"},
	{0, "\x1f\x8b", "gzip"},
}

// otherFormat names a file that is not WAV and that we know by its beginning; "" for anything else. It also finds the
// text of an error page that came with status 200.
func otherFormat(file []byte) string {
	for _, f := range formats {
		if len(file) >= f.offset && bytes.HasPrefix(file[f.offset:], []byte(f.magic)) {
			return f.name
		}
	}
	if len(file) >= 2 && file[0] == 0xFF {
		// An MPEG audio frame: eleven bits of sync; layer 0 is AAC's ADTS (ISO 13818-7 §6.2).
		switch {
		case file[1]&0xF6 == 0xF0:
			return "AAC"
		case file[1]&0xE0 == 0xE0:
			return "MP3"
		}
	}
	text := bytes.ToLower(bytes.TrimLeft(file[:min(len(file), 256)], " \t\r\n\xef\xbb\xbf"))
	switch {
	case bytes.HasPrefix(text, []byte("<!doctype html")), bytes.HasPrefix(text, []byte("<html")):
		return "a web page"
	case bytes.HasPrefix(text, []byte("<")):
		return "XML"
	case bytes.HasPrefix(text, []byte("{")), bytes.HasPrefix(text, []byte("[")):
		return "JSON"
	}
	return ""
}

func fromG711(id codec.ID, channels int, raw []byte) *media.Prompt {
	if !id.Valid() || channels < 1 || channels > wav.MaxChannels || len(raw) < channels {
		return nil
	}
	longest := int(MaxDuration/time.Second) * media.SampleRate * channels
	raw = raw[:min(len(raw)-len(raw)%channels, longest)]
	samples := make([]int16, len(raw))
	id.Decode(samples, raw)
	pcm := wav.PCM{Samples: samples, Rate: media.SampleRate, Channels: channels}
	return media.NewPrompt(pcm.Mono().Samples)
}
