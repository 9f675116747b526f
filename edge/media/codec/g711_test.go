package codec

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// quantiser is one half of G.711: the decision values above zero with the virtual one at the end, in units of 16-bit
// samples, and the code of the interval that starts at each.
type quantiser struct {
	decisions []int
	unit      int
	positive  func(interval int) byte
	negative  func(interval int) byte
}

// ulawDefinition is G.711 table 2: 0, 1, 3, 5 … 31, 35 … 8159, in units of a 14-bit sample.
func ulawDefinition() quantiser {
	q := quantiser{
		unit:     4,
		positive: func(interval int) byte { return byte(0xFF - interval) },
		negative: func(interval int) byte { return byte(0x7F - interval) },
	}
	for segment := range 8 {
		for step := range 16 {
			q.decisions = append(q.decisions, max(0, 32<<segment-33+step*(2<<segment)))
		}
	}
	q.decisions = append(q.decisions, 8159)
	return q
}

// alawDefinition is G.711 table 1: 0, 1, 2 … 32, 34 … 2048, in units of two of the table's, and even bits inverted.
func alawDefinition() quantiser {
	q := quantiser{
		unit:     16,
		positive: func(interval int) byte { return byte(0x80|interval) ^ 0x55 },
		negative: func(interval int) byte { return byte(interval) ^ 0x55 },
	}
	for segment := range 8 {
		for step := range 16 {
			if segment == 0 {
				q.decisions = append(q.decisions, step)
				continue
			}
			q.decisions = append(q.decisions, (16+step)<<(segment-1))
		}
	}
	q.decisions = append(q.decisions, 2048)
	return q
}

func (q quantiser) encode(s int16) byte {
	level := int(s)
	if s < 0 {
		level = -level - 1
	}
	level /= q.unit
	interval := 127
	for interval > 0 && level < q.decisions[interval] {
		interval--
	}
	if s < 0 {
		return q.negative(interval)
	}
	return q.positive(interval)
}

func definitions() map[ID]quantiser {
	return map[ID]quantiser{PCMU: ulawDefinition(), PCMA: alawDefinition()}
}

func TestEncodeIsG711ForEverySample(t *testing.T) {
	for id, definition := range definitions() {
		for s := math.MinInt16; s <= math.MaxInt16; s++ {
			var octet [1]byte
			id.Encode(octet[:], []int16{int16(s)})
			if want := definition.encode(int16(s)); octet[0] != want {
				t.Fatalf("%s of %d is %#02x, G.711 says %#02x", id, s, octet[0], want)
			}
		}
	}
}

func TestDecodeIsTheMiddleOfTheInterval(t *testing.T) {
	for id, definition := range definitions() {
		for interval := range 128 {
			want := (definition.decisions[interval] + definition.decisions[interval+1]) * definition.unit / 2
			if id == PCMU && interval == 0 {
				want = 0 // table 2 puts the value of the innermost interval on zero
			}
			octets := []byte{definition.positive(interval), definition.negative(interval)}
			samples := make([]int16, 2)
			id.Decode(samples, octets)
			if int(samples[0]) != want || int(samples[1]) != -want {
				t.Errorf("%s of %#02x and %#02x is %d and %d, want ±%d", id, octets[0], octets[1], samples[0], samples[1], want)
			}
		}
	}
}

func TestEncodeUndoesDecode(t *testing.T) {
	for _, id := range []ID{PCMU, PCMA} {
		for b := range 256 {
			want := byte(b)
			if id == PCMU && b == 0x7F {
				want = 0xFF // µ-law has two zeros
			}
			var sample [1]int16
			var octet [1]byte
			id.Decode(sample[:], []byte{byte(b)})
			id.Encode(octet[:], sample[:])
			if octet[0] != want {
				t.Errorf("%s: %#02x decodes to %d, which encodes to %#02x", id, b, sample[0], octet[0])
			}
		}
	}
}

func TestTranscodeEqualsDecodeThenEncode(t *testing.T) {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	for _, from := range []ID{PCMU, PCMA} {
		for _, to := range []ID{PCMU, PCMA} {
			samples, want, got := make([]int16, 256), make([]byte, 256), make([]byte, 256)
			from.Decode(samples, all)
			to.Encode(want, samples)
			if from == to {
				want = all
			}
			if n := Transcode(got, all, from, to); n != 256 || !slices.Equal(got, want) {
				t.Errorf("%s to %s: %d octets, differ from decode and encode", from, to, n)
			}
		}
	}
}

func TestShorterSideBoundsAndNoCodecWritesNothing(t *testing.T) {
	octets, samples := []byte{1, 2, 3}, []int16{10, 20}
	if n := PCMA.Encode(octets, samples); n != 2 || octets[2] != 3 {
		t.Errorf("encoded %d into %v", n, octets)
	}
	if n := PCMU.Decode(samples, octets); n != 2 {
		t.Errorf("decoded %d", n)
	}
	var none ID
	if none.Encode(octets, samples) != 0 || none.Decode(samples, octets) != 0 || Transcode(octets, octets, none, PCMU) != 0 {
		t.Error("no codec wrote something")
	}
	if none.Name() != "" || none.Valid() || none.ClockRate() != 0 {
		t.Error("no codec has facts")
	}
}

func TestSilenceDecodesToNearlyZero(t *testing.T) {
	for _, id := range []ID{PCMU, PCMA} {
		var sample [1]int16
		id.Decode(sample[:], []byte{id.Silence()})
		if sample[0] < 0 || sample[0] > 8 {
			t.Errorf("silence of %s is %d", id, sample[0])
		}
	}
}

func TestCodecsAreFoundAsSDPNamesThem(t *testing.T) {
	for _, id := range []ID{PCMU, PCMA} {
		if got, ok := ByPayloadType(id.PayloadType()); !ok || got != id {
			t.Errorf("payload type %d is %s", id.PayloadType(), got)
		}
		if got, ok := ByName(id.Name()); !ok || got != id {
			t.Errorf("%s is %s", id, got)
		}
	}
	if got, ok := ByName("pcma"); !ok || got != PCMA {
		t.Error("names must not depend on case")
	}
	if _, ok := ByName("opus"); ok {
		t.Error("opus is not spoken")
	}
	if _, ok := ByPayloadType(18); ok {
		t.Error("G.729 is not spoken")
	}
}

func TestFrameWorkDoesNotAllocate(t *testing.T) {
	samples, octets := make([]int16, 160), make([]byte, 160)
	allocs := testing.AllocsPerRun(100, func() {
		PCMU.Encode(octets, samples)
		PCMA.Decode(samples, octets)
		Transcode(octets, octets, PCMA, PCMU)
		MOS(0.01, 5, 40)
	})
	if allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

func noise(n int) []int16 {
	random := rand.New(rand.NewPCG(1, 2))
	samples := make([]int16, n)
	for i := range samples {
		samples[i] = int16(random.Uint32())
	}
	return samples
}

func BenchmarkEncode(b *testing.B) {
	for _, id := range []ID{PCMU, PCMA} {
		b.Run(id.Name(), func(b *testing.B) {
			samples, octets := noise(160), make([]byte, 160)
			for b.Loop() {
				id.Encode(octets, samples)
			}
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	samples, octets := noise(160), make([]byte, 160)
	PCMU.Encode(octets, samples)
	for b.Loop() {
		PCMU.Decode(samples, octets)
	}
}

func BenchmarkTranscode(b *testing.B) {
	octets := make([]byte, 160)
	PCMU.Encode(octets, noise(160))
	for b.Loop() {
		Transcode(octets, octets, PCMU, PCMA)
	}
}
