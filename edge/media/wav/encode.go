package wav

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// HeaderSize is the length of what stands before the samples in the files this package writes.
const HeaderSize = 44

const sampleBytes = 2

// MaxFrames is how many frames a file's 32-bit lengths can tell; 37 hours of stereo at 8 kHz.
func MaxFrames(channels int) int { return (math.MaxUint32 - HeaderSize) / (channels * sampleBytes) }

// Header is the start of a file of 16-bit PCM with the given frames (samples per channel). Negative frames, or more than
// MaxFrames, write 0xFFFFFFFF for the lengths, which readers take for "to the end": put it before a file that still
// grows, and the same with the count over it when it is known.
func Header(channels, rate, frames int) [HeaderSize]byte {
	riffSize, dataSize := uint32(unknownSize), uint32(unknownSize)
	if frames >= 0 && frames <= MaxFrames(channels) {
		dataSize = uint32(frames * channels * sampleBytes)
		riffSize = dataSize + HeaderSize - 8
	}
	var h [HeaderSize]byte
	copy(h[0:], "RIFF")
	binary.LittleEndian.PutUint32(h[4:], riffSize)
	copy(h[8:], "WAVEfmt ")
	binary.LittleEndian.PutUint32(h[16:], 16)
	binary.LittleEndian.PutUint16(h[20:], formatPCM)
	binary.LittleEndian.PutUint16(h[22:], uint16(channels))
	binary.LittleEndian.PutUint32(h[24:], uint32(rate))
	binary.LittleEndian.PutUint32(h[28:], uint32(rate*channels*sampleBytes))
	binary.LittleEndian.PutUint16(h[32:], uint16(channels*sampleBytes))
	binary.LittleEndian.PutUint16(h[34:], 8*sampleBytes)
	copy(h[36:], "data")
	binary.LittleEndian.PutUint32(h[40:], dataSize)
	return h
}

// Encode is a whole file of 16-bit PCM.
func Encode(p PCM) []byte {
	header := Header(p.Channels, p.Rate, p.Frames())
	file := make([]byte, HeaderSize, HeaderSize+len(p.Samples)*sampleBytes)
	copy(file, header[:])
	return AppendSamples(file, p.Samples)
}

// AppendSamples appends samples as a file stores them, two bytes each, low byte first.
func AppendSamples(dst []byte, samples []int16) []byte {
	for _, s := range samples {
		dst = binary.LittleEndian.AppendUint16(dst, uint16(s))
	}
	return dst
}

// Writer writes a file of 16-bit PCM as samples come. Until Close the lengths in its header are unknown, which readers
// take for "to the end", so that a file left by a crash can be played. It is not safe for concurrent use.
type Writer struct {
	w        io.WriteSeeker
	channels int
	rate     int
	samples  int
	buffer   []byte
	err      error
	closed   bool
}

// ErrClosed: Write after Close.
var ErrClosed = errors.New("wav: writer is closed")

// NewWriter writes a header to w, which stands at the start of an empty file, and returns a Writer of interleaved samples.
func NewWriter(w io.WriteSeeker, channels, rate int) (*Writer, error) {
	header := Header(channels, rate, -1)
	if _, err := w.Write(header[:]); err != nil {
		return nil, fmt.Errorf("write WAV header: %w", err)
	}
	return &Writer{w: w, channels: channels, rate: rate}, nil
}

// Write appends whole frames of interleaved samples. After an error every Write returns that error.
func (w *Writer) Write(samples []int16) error {
	if w.closed {
		return ErrClosed
	}
	if w.err != nil {
		return w.err
	}
	w.buffer = AppendSamples(w.buffer[:0], samples)
	if _, err := w.w.Write(w.buffer); err != nil {
		w.err = fmt.Errorf("write WAV samples: %w", err)
		return w.err
	}
	w.samples += len(samples)
	return nil
}

// Frames is how many samples per channel have been written.
func (w *Writer) Frames() int { return w.samples / w.channels }

// Close puts the lengths into the header. It does not close the file beneath, and can be called twice.
func (w *Writer) Close() error {
	if w.closed {
		return nil
	}
	w.closed = true
	if w.err != nil {
		return w.err
	}
	if _, err := w.w.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("seek to WAV header: %w", err)
	}
	header := Header(w.channels, w.rate, w.Frames())
	if _, err := w.w.Write(header[:]); err != nil {
		return fmt.Errorf("rewrite WAV header: %w", err)
	}
	if _, err := w.w.Seek(0, io.SeekEnd); err != nil {
		return fmt.Errorf("seek to end of WAV file: %w", err)
	}
	return nil
}
