package wav

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/hookswitch/hookswitch/edge/media/codec"
)

// Format codes of the fmt chunk ("RIFF WAVE", RFC 2361 appendix A).
const (
	formatPCM        = 0x0001
	formatFloat      = 0x0003
	formatALaw       = 0x0006
	formatULaw       = 0x0007
	formatExtensible = 0xFFFE
)

// formatNames are what customers upload instead of what is read here.
var formatNames = map[uint16]string{
	0x0000:      "unknown",
	0x0002:      "MS ADPCM",
	formatFloat: "floating point",
	0x0011:      "IMA ADPCM",
	0x0031:      "GSM 6.10",
	0x0055:      "MP3",
	0x00FF:      "AAC",
	0x0161:      "WMA",
}

const (
	// unknownSize is what a writer that cannot seek puts for a length.
	unknownSize = 0xFFFFFFFF
	// streamSize is where lengths stop being believed: espeak-ng and sox put 0x7FFFF000 and more before a pipe.
	streamSize = 0x7FFFF000
)

// subformatTail is a WAVE_FORMAT_EXTENSIBLE GUID behind its format code (KSDATAFORMAT_SUBTYPE_*).
const subformatTail = "\x00\x00\x00\x00\x10\x00\x80\x00\x00\xaa\x00\x38\x9b\x71"

// format is a fmt chunk that has been checked.
type format struct {
	code     uint16
	channels int
	rate     int
	bits     int // per sample, stored in whole bytes
}

func (f format) frameBytes() int { return f.channels * f.bits / 8 }

// Decode reads a whole file: linear PCM of 8, 16, 24 or 32 bits (WAVE_FORMAT_EXTENSIBLE or not), G.711 A-law and µ-law,
// MinRate..MaxRate, one or two channels. It skips chunks it does not know, and takes data of length 0 or of 2 GiB and
// more, as streams carry, to reach to the end. The result does not refer to file.
//
// Errors wrap ErrMalformed, ErrUnsupported or ErrTooLarge; their text tells whoever made the file what is wrong with it.
func Decode(file []byte, limits Limits) (PCM, error) {
	if maxBytes := limits.maxBytes(); len(file) > maxBytes {
		return PCM{}, fmt.Errorf("%w: %s bytes, at most %s are allowed", ErrTooLarge, grouped(len(file)), grouped(maxBytes))
	}
	f, data, err := split(file)
	if err != nil {
		return PCM{}, err
	}
	data = data[:len(data)-len(data)%f.frameBytes()]
	frames := len(data) / f.frameBytes()
	if maxDuration := limits.maxDuration(); frames > int(maxDuration.Seconds()*float64(f.rate)) {
		length := time.Duration(frames) * time.Second / time.Duration(f.rate)
		return PCM{}, fmt.Errorf("%w: lasts %s, at most %s is allowed", ErrTooLarge, length.Round(time.Second), maxDuration)
	}
	samples := make([]int16, frames*f.channels)
	f.decode(samples, data)
	return PCM{Samples: samples, Rate: f.rate, Channels: f.channels}, nil
}

func (l Limits) maxBytes() int {
	if l.MaxBytes > 0 {
		return l.MaxBytes
	}
	return DefaultMaxBytes
}

func (l Limits) maxDuration() time.Duration {
	if l.MaxDuration > 0 {
		return l.MaxDuration
	}
	return DefaultMaxDuration
}

// split walks the chunks to the format and the audio bytes.
func split(file []byte) (f format, data []byte, err error) {
	if err := checkContainer(file); err != nil {
		return format{}, nil, err
	}
	// A header that tells the true length of the file means it when it says that there is no audio.
	finished := uint64(binary.LittleEndian.Uint32(file[4:]))+8 == uint64(len(file))
	haveFormat := false
	rest := file[12:]
	for len(rest) >= 8 {
		id, size := string(rest[:4]), binary.LittleEndian.Uint32(rest[4:])
		rest = rest[8:]
		if id == "data" {
			if !haveFormat {
				return format{}, nil, fmt.Errorf("%w: the data chunk comes before the fmt chunk", ErrMalformed)
			}
			data, err = audio(rest, size, finished)
			return f, data, err
		}
		if uint64(size) > uint64(len(rest)) {
			return format{}, nil, fmt.Errorf("%w: chunk %q says %s bytes, file holds %s more",
				ErrMalformed, id, grouped(int(size)), grouped(len(rest)))
		}
		if id == "fmt " {
			if f, err = parseFormat(rest[:size]); err != nil {
				return format{}, nil, err
			}
			haveFormat = true
		}
		// An odd chunk is followed by a pad byte that its size does not count.
		rest = rest[min(int(size)+int(size&1), len(rest)):]
	}
	if !haveFormat {
		return format{}, nil, fmt.Errorf("%w: no fmt chunk", ErrMalformed)
	}
	return format{}, nil, fmt.Errorf("%w: no data chunk", ErrMalformed)
}

// audio is the data chunk's body at the start of rest.
func audio(rest []byte, size uint32, finished bool) ([]byte, error) {
	if size == 0 && !finished || size >= streamSize {
		return rest, nil
	}
	if uint64(size) > uint64(len(rest)) {
		return nil, fmt.Errorf("%w: data chunk says %s bytes, file holds %s; it was cut short, upload it again",
			ErrMalformed, grouped(int(size)), grouped(len(rest)))
	}
	return rest[:size], nil
}

func checkContainer(file []byte) error {
	switch {
	case len(file) == 0:
		return fmt.Errorf("%w: it is empty", ErrMalformed)
	case len(file) >= 3 && string(file[:3]) == "ID3",
		len(file) >= 2 && file[0] == 0xFF && file[1]&0xE0 == 0xE0:
		return fmt.Errorf("%w: it is MP3; convert it to WAV (16-bit PCM)", ErrUnsupported)
	case len(file) >= 4 && string(file[:4]) == "OggS":
		return fmt.Errorf("%w: it is Ogg; convert it to WAV (16-bit PCM)", ErrUnsupported)
	case len(file) >= 4 && string(file[:4]) == "RF64":
		return fmt.Errorf("%w: it is RF64, made for files over 4 GiB; save it as plain WAV", ErrUnsupported)
	case len(file) < 12 || string(file[:4]) != "RIFF" || string(file[8:12]) != "WAVE":
		return fmt.Errorf("%w: it does not start with RIFF…WAVE", ErrMalformed)
	}
	return nil
}

// parseFormat checks a fmt chunk: 16 bytes of WAVEFORMAT, or 40 of WAVEFORMATEXTENSIBLE.
func parseFormat(chunk []byte) (format, error) {
	if len(chunk) < 16 {
		return format{}, fmt.Errorf("%w: fmt chunk of %d bytes, at least 16 are needed", ErrMalformed, len(chunk))
	}
	f := format{
		code:     binary.LittleEndian.Uint16(chunk),
		channels: int(binary.LittleEndian.Uint16(chunk[2:])),
		rate:     int(binary.LittleEndian.Uint32(chunk[4:])),
		bits:     int(binary.LittleEndian.Uint16(chunk[14:])),
	}
	blockAlign := int(binary.LittleEndian.Uint16(chunk[12:]))
	if f.code == formatExtensible {
		if len(chunk) < 40 {
			return format{}, fmt.Errorf("%w: extensible fmt chunk of %d bytes, 40 are needed", ErrMalformed, len(chunk))
		}
		if string(chunk[26:40]) != subformatTail {
			return format{}, fmt.Errorf("%w: subformat %x; convert it to 16-bit PCM", ErrUnsupported, chunk[24:40])
		}
		f.code = binary.LittleEndian.Uint16(chunk[24:])
	}
	if err := f.check(); err != nil {
		return format{}, err
	}
	if blockAlign != f.frameBytes() {
		return format{}, fmt.Errorf("%w: block align is %d bytes, %d channels of %d bits take %d",
			ErrMalformed, blockAlign, f.channels, f.bits, f.frameBytes())
	}
	return f, nil
}

func (f format) check() error {
	switch f.code {
	case formatPCM:
		if f.bits != 8 && f.bits != 16 && f.bits != 24 && f.bits != 32 {
			return fmt.Errorf("%w: PCM of %d bits; use 16", ErrUnsupported, f.bits)
		}
	case formatALaw, formatULaw:
		if f.bits != 8 {
			return fmt.Errorf("%w: G.711 of %d bits; it has 8", ErrMalformed, f.bits)
		}
	default:
		name := formatNames[f.code]
		if name == "" {
			name = "unknown"
		}
		return fmt.Errorf("%w: format 0x%04X (%s); convert it to 16-bit PCM, A-law or µ-law", ErrUnsupported, f.code, name)
	}
	if f.channels < 1 || f.channels > MaxChannels {
		return fmt.Errorf("%w: %d channels; use 1 or 2", ErrUnsupported, f.channels)
	}
	if f.rate < MinRate || f.rate > MaxRate {
		return fmt.Errorf("%w: %d Hz; use %d–%d", ErrUnsupported, f.rate, MinRate, MaxRate)
	}
	return nil
}

// decode fills samples, one for each f.bits of data.
func (f format) decode(samples []int16, data []byte) {
	switch {
	case f.code == formatALaw:
		codec.PCMA.Decode(samples, data)
	case f.code == formatULaw:
		codec.PCMU.Decode(samples, data)
	case f.bits == 8:
		// 8-bit PCM alone is unsigned, with its zero at 128.
		for i := range samples {
			samples[i] = int16(int(data[i])-128) << 8
		}
	default:
		// Wider samples keep their upper 16 bits, which little-endian puts last.
		width := f.bits / 8
		for i := range samples {
			samples[i] = int16(binary.LittleEndian.Uint16(data[(i+1)*width-2:]))
		}
	}
}

// grouped writes a count with commas between thousands.
func grouped(n int) string {
	digits := fmt.Sprint(n)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
