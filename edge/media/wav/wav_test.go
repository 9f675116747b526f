package wav

import (
	"encoding/binary"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/edge/media/codec"
)

// chunk is one RIFF chunk with its pad byte.
func chunk(id string, body []byte) []byte {
	b := append([]byte(id), binary.LittleEndian.AppendUint32(nil, uint32(len(body)))...)
	b = append(b, body...)
	if len(body)%2 == 1 {
		b = append(b, 0)
	}
	return b
}

func riff(chunks ...[]byte) []byte {
	body := append([]byte("WAVE"), slices.Concat(chunks...)...)
	return chunk("RIFF", body)
}

func fmtChunk(code, channels, rate, bits int, more ...byte) []byte {
	b := binary.LittleEndian.AppendUint16(nil, uint16(code))
	b = binary.LittleEndian.AppendUint16(b, uint16(channels))
	b = binary.LittleEndian.AppendUint32(b, uint32(rate))
	b = binary.LittleEndian.AppendUint32(b, uint32(rate*channels*bits/8))
	b = binary.LittleEndian.AppendUint16(b, uint16(channels*bits/8))
	b = binary.LittleEndian.AppendUint16(b, uint16(bits))
	return chunk("fmt ", append(b, more...))
}

// extensible is a WAVE_FORMAT_EXTENSIBLE fmt chunk around a format code.
func extensible(code, channels, rate, bits int) []byte {
	more := []byte{22, 0, byte(bits), 0, 3, 0, 0, 0, byte(code), byte(code >> 8)}
	return fmtChunk(formatExtensible, channels, rate, bits, append(more, subformatTail...)...)
}

// withDataSize overwrites the length of the data chunk and of the file.
func withDataSize(file []byte, riffSize, dataSize uint32) []byte {
	file = slices.Clone(file)
	binary.LittleEndian.PutUint32(file[4:], riffSize)
	at := strings.LastIndex(string(file), "data")
	binary.LittleEndian.PutUint32(file[at+4:], dataSize)
	return file
}

var (
	samples = []int16{0, 1, -1, 256, -256, 32767, -32768, 12345}
	bytes16 = AppendSamples(nil, samples)
	plain   = riff(fmtChunk(1, 1, 8000, 16), chunk("data", bytes16))
)

func g711(id codec.ID) []int16 {
	decoded := make([]int16, 4)
	id.Decode(decoded, []byte{0x00, 0x55, 0x80, 0xFF})
	return decoded
}

func TestDecodeReadsWhatProgramsWrite(t *testing.T) {
	for _, c := range []struct {
		name           string
		file           []byte
		rate, channels int
		want           []int16
	}{
		{"16 bits", plain, 8000, 1, samples},
		{"stereo", riff(fmtChunk(1, 2, 44100, 16), chunk("data", bytes16)), 44100, 2, samples},
		{"8 bits", riff(fmtChunk(1, 1, 16000, 8), chunk("data", []byte{128, 129, 127, 255, 0})), 16000, 1, []int16{0, 256, -256, 32512, -32768}},
		{"24 bits", riff(fmtChunk(1, 1, 48000, 24), chunk("data", []byte{9, 1, 0, 9, 0, 0x80})), 48000, 1, []int16{1, -32768}},
		{"32 bits", riff(fmtChunk(1, 1, 48000, 32), chunk("data", []byte{9, 9, 0xFF, 0xFF})), 48000, 1, []int16{-1}},
		{"A-law", riff(fmtChunk(6, 1, 8000, 8, 0, 0), chunk("fact", []byte{4, 0, 0, 0}), chunk("data", []byte{0x00, 0x55, 0x80, 0xFF})), 8000, 1, g711(codec.PCMA)},
		{"µ-law", riff(fmtChunk(7, 2, 8000, 8, 0, 0), chunk("data", []byte{0x00, 0x55, 0x80, 0xFF})), 8000, 2, g711(codec.PCMU)},
		{"extensible", riff(extensible(1, 1, 22050, 16), chunk("data", bytes16)), 22050, 1, samples},
		{"extensible A-law", riff(extensible(6, 1, 8000, 8), chunk("data", []byte{0x00, 0x55, 0x80, 0xFF})), 8000, 1, g711(codec.PCMA)},
		{"other chunks, odd ones too", riff(chunk("LIST", []byte("INFOx")), fmtChunk(1, 1, 8000, 16), chunk("junk", []byte{1}), chunk("data", bytes16), chunk("id3 ", []byte("abc"))), 8000, 1, samples},
		{"stream of unknown length", withDataSize(plain, unknownSize, unknownSize), 8000, 1, samples},
		{"stream of length 0", withDataSize(plain, 0, 0), 8000, 1, samples},
		{"espeak-ng to a pipe", withDataSize(plain, 0x7FFFF024, 0x7FFFF000), 8000, 1, samples},
		{"no audio", riff(fmtChunk(1, 1, 8000, 16), chunk("data", nil)), 8000, 1, nil},
		{"no audio but tags", riff(fmtChunk(1, 1, 8000, 16), chunk("data", nil), chunk("LIST", []byte("INFO"))), 8000, 1, nil},
		{"half a frame at the end", riff(fmtChunk(1, 2, 8000, 16), chunk("data", bytes16[:7])), 8000, 2, samples[:2]},
		{"pad byte of the last chunk missing", riff(fmtChunk(6, 1, 8000, 8), chunk("data", []byte{0x00, 0x55, 0x80}))[:12+24+8+3], 8000, 1, g711(codec.PCMA)[:3]},
	} {
		got, err := Decode(c.file, Limits{})
		if err != nil || !slices.Equal(got.Samples, c.want) || got.Rate != c.rate || got.Channels != c.channels {
			t.Errorf("%s: %+v %v", c.name, got, err)
		}
	}
}

func TestDecodeSaysWhatIsWrong(t *testing.T) {
	badSubformat := riff(extensible(1, 1, 8000, 16), chunk("data", bytes16))
	badSubformat[12+8+30] ^= 0xFF
	badAlign := slices.Clone(plain)
	badAlign[12+8+12] = 9
	long := riff(fmtChunk(1, 1, 8000, 16), chunk("data", make([]byte, 1200)))
	for _, c := range []struct {
		name   string
		file   []byte
		is     error
		saying string
	}{
		{"nothing", nil, ErrMalformed, "it is empty"},
		{"text", []byte("<html>404 not found</html>"), ErrMalformed, "does not start with RIFF"},
		{"AVI", append([]byte("RIFF\x00\x00\x00\x00AVI "), plain[12:]...), ErrMalformed, "does not start with RIFF"},
		{"MP3 with tags", []byte("ID3\x04\x00"), ErrUnsupported, "it is MP3"},
		{"MP3", []byte{0xFF, 0xFB, 0x90, 0x00}, ErrUnsupported, "it is MP3"},
		{"Ogg", []byte("OggS\x00"), ErrUnsupported, "it is Ogg"},
		{"RF64", []byte("RF64\xFF\xFF\xFF\xFFWAVE"), ErrUnsupported, "RF64"},
		{"cut short", withDataSize(long, 4036, 4000), ErrMalformed, "data chunk says 4,000 bytes, file holds 1,200"},
		{"cut in a chunk", riff(fmtChunk(1, 1, 8000, 16))[:30], ErrMalformed, `chunk "fmt " says 16 bytes, file holds 10 more`},
		{"no fmt", riff(chunk("LIST", nil)), ErrMalformed, "no fmt chunk"},
		{"no data", riff(fmtChunk(1, 1, 8000, 16)), ErrMalformed, "no data chunk"},
		{"data first", riff(chunk("data", bytes16), fmtChunk(1, 1, 8000, 16)), ErrMalformed, "before the fmt chunk"},
		{"short fmt", riff(chunk("fmt ", make([]byte, 14)), chunk("data", nil)), ErrMalformed, "fmt chunk of 14 bytes"},
		{"short extensible", riff(fmtChunk(formatExtensible, 1, 8000, 16), chunk("data", nil)), ErrMalformed, "extensible fmt chunk of 16 bytes"},
		{"other subformat", badSubformat, ErrUnsupported, "subformat"},
		{"float", riff(fmtChunk(3, 1, 8000, 32), chunk("data", nil)), ErrUnsupported, "0x0003 (floating point)"},
		{"ADPCM", riff(fmtChunk(0x11, 1, 8000, 4), chunk("data", nil)), ErrUnsupported, "IMA ADPCM"},
		{"unheard of", riff(fmtChunk(0x7777, 1, 8000, 8), chunk("data", nil)), ErrUnsupported, "0x7777 (unknown)"},
		{"12 bits", riff(fmtChunk(1, 1, 8000, 12), chunk("data", nil)), ErrUnsupported, "PCM of 12 bits"},
		{"16-bit µ-law", riff(fmtChunk(7, 1, 8000, 16), chunk("data", nil)), ErrMalformed, "G.711 of 16 bits"},
		{"six channels", riff(fmtChunk(1, 6, 48000, 16), chunk("data", nil)), ErrUnsupported, "6 channels; use 1 or 2"},
		{"no channels", riff(fmtChunk(1, 0, 8000, 16), chunk("data", nil)), ErrUnsupported, "0 channels"},
		{"96 kHz", riff(fmtChunk(1, 1, 96000, 16), chunk("data", nil)), ErrUnsupported, "96000 Hz; use 8000–48000"},
		{"0 Hz", riff(fmtChunk(1, 1, 0, 16), chunk("data", nil)), ErrUnsupported, "0 Hz"},
		{"block align", badAlign, ErrMalformed, "block align is 9 bytes"},
	} {
		_, err := Decode(c.file, Limits{})
		if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.saying) {
			t.Errorf("%s: %v, want it to say %q", c.name, err, c.saying)
		}
	}
}

func TestDecodeKeepsToItsLimits(t *testing.T) {
	second := riff(fmtChunk(1, 1, 8000, 16), chunk("data", make([]byte, 16000)))
	if _, err := Decode(second, Limits{MaxDuration: time.Second, MaxBytes: len(second)}); err != nil {
		t.Errorf("at the limit: %v", err)
	}
	_, err := Decode(second, Limits{MaxDuration: 900 * time.Millisecond})
	if !errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), "lasts 1s, at most 900ms") {
		t.Errorf("too long: %v", err)
	}
	_, err = Decode(second, Limits{MaxBytes: 1000})
	if !errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), "16,044 bytes, at most 1,000") {
		t.Errorf("too big: %v", err)
	}
}

func TestMonoIsTheMean(t *testing.T) {
	stereo := PCM{Samples: []int16{100, 300, -32768, -32768, 32767, 32767, 5}, Rate: 8000, Channels: 2}
	mono := stereo.Mono()
	if !slices.Equal(mono.Samples, []int16{200, -32768, 32767}) || mono.Channels != 1 || mono.Rate != 8000 {
		t.Errorf("got %+v", mono)
	}
	if again := mono.Mono(); &again.Samples[0] != &mono.Samples[0] {
		t.Error("mono was copied")
	}
	if (PCM{}).Duration() != 0 || (PCM{}).Frames() != 0 || len((PCM{}).Mono().Samples) != 0 {
		t.Error("the zero value has length")
	}
	if got := (PCM{Samples: make([]int16, 32000), Rate: 8000, Channels: 2}).Duration(); got != 2*time.Second {
		t.Errorf("lasts %s", got)
	}
}

func TestEncodeIsReadBack(t *testing.T) {
	for _, want := range []PCM{
		{Samples: samples, Rate: 8000, Channels: 1},
		{Samples: samples, Rate: 48000, Channels: 2},
		{Rate: 8000, Channels: 1},
	} {
		file := Encode(want)
		got, err := Decode(file, Limits{})
		if err != nil || !slices.Equal(got.Samples, want.Samples) || got.Rate != want.Rate || got.Channels != want.Channels {
			t.Errorf("got %+v %v", got, err)
		}
		if int(binary.LittleEndian.Uint32(file[4:]))+8 != len(file) {
			t.Error("the RIFF length is not the file's")
		}
	}
}

func TestHeaderOfUnknownOrImpossibleLengthReadsToTheEnd(t *testing.T) {
	for _, frames := range []int{-1, MaxFrames(1) + 1} {
		header := Header(1, 8000, frames)
		got, err := Decode(append(header[:], bytes16...), Limits{})
		if err != nil || !slices.Equal(got.Samples, samples) {
			t.Errorf("%d frames: %+v %v", frames, got, err)
		}
	}
	header := Header(2, 8000, MaxFrames(2))
	if size := binary.LittleEndian.Uint32(header[40:]); size > math.MaxUint32-HeaderSize || size < math.MaxUint32-HeaderSize-4 {
		t.Errorf("largest data length is %d", size)
	}
}

func TestWriterFileIsPlayableBeforeAndAfterClose(t *testing.T) {
	path := filepath.Join(t.TempDir(), "recording.wav")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	w, err := NewWriter(file, 2, 8000)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := w.Write(samples); err != nil {
			t.Fatal(err)
		}
	}
	want := slices.Repeat(samples, 3)
	check := func(when string) []byte {
		t.Helper()
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Decode(content, Limits{})
		if err != nil || !slices.Equal(got.Samples, want) {
			t.Errorf("%s: %+v %v", when, got, err)
		}
		return content
	}
	check("before Close")
	for range 2 {
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if content := check("after Close"); !slices.Equal(content, Encode(PCM{Samples: want, Rate: 8000, Channels: 2})) {
		t.Error("the closed file differs from Encode's")
	}
	if err := w.Write(samples); !errors.Is(err, ErrClosed) {
		t.Errorf("write after Close: %v", err)
	}
	if w.Frames() != 12 {
		t.Errorf("%d frames", w.Frames())
	}
}

// fullDisk takes a number of bytes and then no more.
type fullDisk struct{ room int }

var errNoSpace = errors.New("no space left on device")

func (d *fullDisk) Write(b []byte) (int, error) {
	if len(b) > d.room {
		return 0, errNoSpace
	}
	d.room -= len(b)
	return len(b), nil
}

func (d *fullDisk) Seek(int64, int) (int64, error) { return 0, nil }

var _ io.WriteSeeker = (*fullDisk)(nil)

func TestWriterKeepsTheFirstError(t *testing.T) {
	if _, err := NewWriter(&fullDisk{}, 1, 8000); !errors.Is(err, errNoSpace) {
		t.Errorf("header: %v", err)
	}
	w, err := NewWriter(&fullDisk{room: HeaderSize + 10}, 1, 8000)
	if err != nil {
		t.Fatal(err)
	}
	for _, batch := range [][]int16{samples, {1}} {
		if err := w.Write(batch); !errors.Is(err, errNoSpace) {
			t.Errorf("samples: %v", err)
		}
	}
	if err := w.Close(); !errors.Is(err, errNoSpace) || w.Frames() != 0 {
		t.Errorf("close: %v after %d frames", err, w.Frames())
	}
}

func TestHeaderAndSamplesDoNotAllocate(t *testing.T) {
	frame, buffer := make([]int16, 160), make([]byte, 0, 320)
	if allocs := testing.AllocsPerRun(100, func() {
		Header(1, 8000, 160)
		AppendSamples(buffer, frame)
	}); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(plain)
	f.Add(riff(extensible(7, 2, 48000, 8), chunk("LIST", []byte("abc")), chunk("data", []byte{1, 2, 3, 4})))
	f.Add(riff(fmtChunk(1, 2, 8000, 24), chunk("data", make([]byte, 13))))
	f.Add(withDataSize(plain, unknownSize, unknownSize))
	f.Add(plain[:40])
	f.Fuzz(func(t *testing.T, file []byte) {
		got, err := Decode(file, Limits{MaxDuration: time.Minute, MaxBytes: 1 << 20})
		if err != nil {
			known := errors.Is(err, ErrMalformed) || errors.Is(err, ErrUnsupported) || errors.Is(err, ErrTooLarge)
			if !known || len(err.Error()) > 300 {
				t.Fatalf("error %q", err)
			}
			return
		}
		if got.Duration() > time.Minute || len(got.Samples)%got.Channels != 0 {
			t.Fatalf("%d samples of %d channels at %d Hz", len(got.Samples), got.Channels, got.Rate)
		}
		again, err := Decode(Encode(got), Limits{})
		if err != nil || !slices.Equal(again.Samples, got.Samples) {
			t.Fatalf("does not survive Encode: %v", err)
		}
		got.Mono()
	})
}

func BenchmarkDecodeSecond(b *testing.B) {
	file := Encode(PCM{Samples: make([]int16, 8000), Rate: 8000, Channels: 1})
	for b.Loop() {
		if _, err := Decode(file, Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}
