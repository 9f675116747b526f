//go:build ignore

// Command generate speaks the table of SystemPrompts with espeak-ng and writes the files under sounds: 8 kHz µ-law WAV,
// without silence at either end, all equally loud. It runs in edge/prompt, by make generate.
package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hookswitch/hookswitch/edge/media"
	"github.com/hookswitch/hookswitch/edge/media/codec"
	"github.com/hookswitch/hookswitch/edge/media/wav"
	"github.com/hookswitch/hookswitch/edge/prompt"
	"github.com/hookswitch/hookswitch/edge/speech"
	"github.com/hookswitch/hookswitch/webhooks"
)

const (
	blockSamples = media.SampleRate / 100 // 10 ms
	// silentBelow (−46 dBFS) is what counts as silence at either end, and margin how much of it stays.
	silentBelow = 164
	margin      = 4 * blockSamples
	// loudness is the root mean square of the blocks with speech in them, −20 dBFS, and peak what no sample exceeds,
	// −2 dBFS.
	loudness = 3277
	peak     = 26029
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func run() error {
	espeak, ok := speech.FindEspeak()
	if !ok {
		return errors.New("espeak-ng is not installed; apt-get install espeak-ng")
	}
	// All are spoken before one is written: without sounds the package that this program imports does not build.
	files := make(map[string][]byte)
	for _, p := range prompt.SystemPrompts() {
		for language, text := range p.Text {
			pcm, err := speak(espeak, p.ID, language, text)
			if err != nil {
				return fmt.Errorf("%s in %s: %w", p.ID, language, err)
			}
			files[filepath.Join("sounds", p.File(language))] = encode(level(trim(pcm)))
		}
	}
	if err := os.RemoveAll("sounds"); err != nil {
		return err
	}
	for name, file := range files {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(name, file, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// rate is what makes espeak-ng's pace right for a telephone, in percent: its Mandarin sentences are slow, its English ones
// fast, and digits stand alone.
func rate(id webhooks.MediaID, language string) int {
	switch {
	case strings.HasPrefix(string(id), "sys_digits_"), language == prompt.English:
		return 85
	}
	return 130
}

func speak(espeak *speech.Espeak, id webhooks.MediaID, language, text string) ([]int16, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	ssml := fmt.Sprintf(`<speak><prosody rate="%d%%">%s</prosody></speak>`, rate(id, language), text)
	file, err := espeak.Synthesize(ctx, speech.Request{SSML: ssml, Language: language})
	if err != nil {
		return nil, err
	}
	pcm, err := wav.Decode(file, wav.Limits{})
	if err != nil {
		return nil, err
	}
	return codec.Resample(pcm.Mono().Samples, pcm.Rate, media.SampleRate), nil
}

// trim takes the silence off both ends but for a margin.
func trim(pcm []int16) []int16 {
	first, last := len(pcm), 0
	for at := 0; at+blockSamples <= len(pcm); at += blockSamples {
		if rms(pcm[at:at+blockSamples]) >= silentBelow {
			first = min(first, at)
			last = at + blockSamples
		}
	}
	return pcm[max(0, first-margin):min(len(pcm), last+margin)]
}

// level brings what is not silence to one loudness, softer where a peak would not fit.
func level(pcm []int16) []int16 {
	sum, blocks, highest := 0.0, 0, 1.0
	for at := 0; at+blockSamples <= len(pcm); at += blockSamples {
		if r := rms(pcm[at : at+blockSamples]); r >= silentBelow {
			sum += r * r
			blocks++
		}
	}
	for _, s := range pcm {
		highest = max(highest, math.Abs(float64(s)))
	}
	gain := min(loudness/math.Sqrt(sum/float64(blocks)), peak/highest)
	levelled := make([]int16, len(pcm))
	for i, s := range pcm {
		levelled[i] = int16(math.Round(float64(s) * gain))
	}
	return levelled
}

func rms(block []int16) float64 {
	sum := 0.0
	for _, s := range block {
		sum += float64(s) * float64(s)
	}
	return math.Sqrt(sum / float64(len(block)))
}

// encode writes a µ-law WAV file: the format chunk of 18 bytes and the fact chunk that formats other than PCM carry.
func encode(pcm []int16) []byte {
	const ulaw, headerSize = 7, 58
	data := make([]byte, len(pcm)+len(pcm)&1) // chunks have even lengths; one more sample of silence is not heard
	data[len(data)-1] = codec.PCMU.Silence()
	codec.PCMU.Encode(data, pcm)

	file := make([]byte, 0, headerSize+len(data))
	file = append(file, "RIFF"...)
	file = binary.LittleEndian.AppendUint32(file, uint32(headerSize-8+len(data)))
	file = append(file, "WAVEfmt "...)
	file = binary.LittleEndian.AppendUint32(file, 18)
	file = binary.LittleEndian.AppendUint16(file, ulaw)
	file = binary.LittleEndian.AppendUint16(file, 1)
	file = binary.LittleEndian.AppendUint32(file, media.SampleRate)
	file = binary.LittleEndian.AppendUint32(file, media.SampleRate)
	file = binary.LittleEndian.AppendUint16(file, 1)
	file = binary.LittleEndian.AppendUint16(file, 8)
	file = binary.LittleEndian.AppendUint16(file, 0)
	file = append(file, "fact"...)
	file = binary.LittleEndian.AppendUint32(file, 4)
	file = binary.LittleEndian.AppendUint32(file, uint32(len(data)))
	file = append(file, "data"...)
	file = binary.LittleEndian.AppendUint32(file, uint32(len(data)))
	return append(file, data...)
}
