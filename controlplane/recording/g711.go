package recording

import (
	"context"
	"encoding/binary"
	"errors"
	"io"

	"github.com/hookswitch/hookswitch/controlplane/blob"
)

// Names of the codecs that segments come in (RFC 3551 §6).
const (
	codecPCMU = "PCMU"
	codecPCMA = "PCMA"
)

// decoding is 16-bit PCM for each octet of G.711.
type decoding [256]int16

var muLaw, aLaw = muLawTable(), aLawTable()

// muLawTable is ITU-T G.711 table 2a/2b: inverted octets of sign, three bits of segment and four of step, biased by 33
// (of 14 bits, hence 132 of 16).
func muLawTable() *decoding {
	const bias = 0x84
	var t decoding
	for i := range t {
		b := ^byte(i)
		v := (int(b&0x0f)<<3+bias)<<(b>>4&7) - bias
		if b&0x80 != 0 {
			v = -v
		}
		t[i] = int16(v)
	}
	return &t
}

// aLawTable is ITU-T G.711 table 1a/1b: octets with every other bit inverted, of sign, segment and step; the first two
// segments have the same step.
func aLawTable() *decoding {
	var t decoding
	for i := range t {
		b := byte(i) ^ 0x55
		v := int(b&0x0f)<<4 + 8
		if segment := b >> 4 & 7; segment > 0 {
			v = (v + 0x100) << (segment - 1)
		}
		if b&0x80 == 0 {
			v = -v
		}
		t[i] = int16(v)
	}
	return &t
}

func tableOf(codec string) (*decoding, bool) {
	switch codec {
	case codecPCMU:
		return muLaw, true
	case codecPCMA:
		return aLaw, true
	}
	return nil, false
}

const (
	sampleRate = 8000
	headerSize = 44
	// A WAV file counts its bytes with 32 bits.
	maxData = 1<<32 - 1 - headerSize
)

// header is that of a WAV file of 16-bit PCM at 8 kHz.
func header(channels int, data int64) []byte {
	h := make([]byte, 0, headerSize)
	u16 := func(v int) { h = binary.LittleEndian.AppendUint16(h, uint16(v)) }
	u32 := func(v int64) { h = binary.LittleEndian.AppendUint32(h, uint32(v)) }
	h = append(h, "RIFF"...)
	u32(data + headerSize - 8)
	h = append(h, "WAVEfmt "...)
	u32(16)
	u16(1) // PCM
	u16(channels)
	u32(sampleRate)
	u32(int64(sampleRate * channels * 2))
	u16(channels * 2)
	u16(16)
	h = append(h, "data"...)
	u32(data)
	return h
}

// file reads segments as one WAV file, a few kilobytes at a time. Close it.
type file struct {
	ctx   context.Context // of the one Put that reads it
	blobs *blob.Store
	key   func(n int) string
	table *decoding

	left    int64 // octets of G.711 to come
	segment int   // that is open, or was last
	open    io.ReadCloser
	raw     [8 << 10]byte
	out     []byte // decoded and not yet read
	space   [16 << 10]byte
}

// Read implements io.Reader.
func (f *file) Read(p []byte) (int, error) {
	for len(f.out) == 0 {
		if f.left == 0 {
			return 0, io.EOF
		}
		if err := f.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, f.out)
	f.out = f.out[n:]
	return n, nil
}

// fill decodes what the open segment gives next, or opens the next segment.
func (f *file) fill() error {
	if f.open == nil {
		var err error
		f.segment++
		f.open, err = f.blobs.Get(f.ctx, f.key(f.segment), 0, -1)
		return err
	}
	n, err := f.open.Read(f.raw[:min(int64(len(f.raw)), f.left)])
	f.left -= int64(n)
	f.out = f.space[:0]
	for _, b := range f.raw[:n] {
		f.out = binary.LittleEndian.AppendUint16(f.out, uint16(f.table[b]))
	}
	if errors.Is(err, io.EOF) {
		return f.Close()
	}
	return err
}

// Close frees the segment that is open.
func (f *file) Close() error {
	if f.open == nil {
		return nil
	}
	err := f.open.Close()
	f.open = nil
	return err
}
