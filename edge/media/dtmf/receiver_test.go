package dtmf

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"time"
)

// arrival is one telephone-event packet, or a tick without any.
type arrival struct {
	code      uint8
	timestamp uint32
	duration  uint16
	marker    bool
	end       bool
	tick      bool
}

func (a arrival) payload() []byte {
	payload := []byte{a.code, volume, 0, 0}
	if a.end {
		payload[1] |= endBit
	}
	binary.BigEndian.PutUint16(payload[2:], a.duration)
	return payload
}

// press is what a phone sends for one key, its final packet three times.
func press(code uint8, timestamp uint32, durations ...uint16) (packets []arrival) {
	for i, d := range durations {
		packets = append(packets, arrival{code: code, timestamp: timestamp, duration: d, marker: i == 0})
	}
	last := durations[len(durations)-1]
	for range 3 {
		packets = append(packets, arrival{code: code, timestamp: timestamp, duration: last + 160, end: true})
	}
	return packets
}

// hear plays packets to a receiver and writes down what it reports: "5" for a press, "/5:800" for its release.
func hear(packets ...arrival) (heard []string) {
	var r Receiver
	for _, p := range packets {
		if p.tick {
			r.Tick()
		} else if digit, ok := r.Packet(p.payload(), p.timestamp, p.marker); ok {
			heard = append(heard, string(digit))
		}
		if digit, duration, ok := r.Ended(); ok {
			heard = append(heard, fmt.Sprintf("/%c:%d", digit, duration))
		}
	}
	return heard
}

func silence(n int) []arrival {
	return slices.Repeat([]arrival{{tick: true}}, n)
}

func TestReceiverReportsEachPressOnce(t *testing.T) {
	five := press(5, 1000, 160, 320, 480, 640)
	again := press(5, 3000, 160, 320)
	star := press(10, 5000, 160)
	for _, c := range []struct {
		name    string
		packets []arrival
		want    []string
	}{
		{"a press", five, []string{"5", "/5:800"}},
		{"two presses of a key", slices.Concat(five, again), []string{"5", "/5:800", "5", "/5:480"}},
		{"two keys", slices.Concat(five, star), []string{"5", "/5:800", "*", "/*:320"}},
		{"start lost", five[1:], []string{"5", "/5:800"}},
		{"all but one final packet lost", five[6:], []string{"5", "/5:800"}},
		{"final packets lost, then another key", slices.Concat(five[:4], star), []string{"5", "*", "/5:640", "/*:320"}},
		{"final packets lost, then the same key", slices.Concat(five[:4], again), []string{"5", "5", "/5:640", "/5:480"}},
		{"final packets lost, markers too", slices.Concat(five[:4], again[1:]), []string{"5", "5", "/5:640", "/5:480"}},
		{"final packets lost, then silence", slices.Concat(five[:4], silence(5), star), []string{"5", "/5:640", "*", "/*:320"}},
		{"updates 80 ms apart", slices.Concat(five[:1], silence(4), five[1:2], silence(4), five[4:]), []string{"5", "/5:800"}},
		{"late update after silence ended it", slices.Concat(five[:2], silence(5), five[2:]), []string{"5", "/5:320"}},
		{"updates out of order", []arrival{five[1], five[0], five[3], five[2], five[4]}, []string{"5", "/5:800"}},
		{"start later than the end", []arrival{five[4], five[0], five[5]}, []string{"5", "/5:800"}},
		{"packets of the key before come late", slices.Concat(five[:5], again[:1], five[5:], again[1:]), []string{"5", "/5:800", "5", "/5:480"}},
		{"start of the key before comes late", slices.Concat(five[1:], again[:1], five[:1], again[1:]), []string{"5", "/5:800", "5", "/5:480"}},
		{"timestamp wraps", slices.Concat(press(1, 0xFFFFFF00, 160, 320), press(2, 0x500, 160)), []string{"1", "/1:480", "2", "/2:320"}},
		{"timestamp zero", press(7, 0, 160), []string{"7", "/7:320"}},
		{"event longer than a segment", []arrival{
			{code: 3, timestamp: 100, duration: 160, marker: true},
			{code: 3, timestamp: 100, duration: 65535},
			{code: 3, timestamp: 100 + 65535, duration: 160},
			{code: 3, timestamp: 100 + 65535, duration: 320, end: true},
			{code: 3, timestamp: 100 + 65535, duration: 320, end: true},
		}, []string{"3", "/3:65855"}},
		{"clock started anew", slices.Concat(press(1, 4_000_000, 160), press(2, 1000, 160)), []string{"1", "/1:320", "2", "/2:320"}},
		{"flash, volume and fax tones", []arrival{{code: 16, timestamp: 1}, {code: 32, timestamp: 2}, {code: 255, timestamp: 3, end: true}}, nil},
		{"silence alone", silence(20), nil},
	} {
		if got := hear(c.packets...); !slices.Equal(got, c.want) {
			t.Errorf("%s: heard %v, want %v", c.name, got, c.want)
		}
	}
}

func TestReceiverIgnoresShortPayloads(t *testing.T) {
	var r Receiver
	for n := range payloadSize {
		if _, ok := r.Packet(make([]byte, n), 1, true); ok {
			t.Errorf("%d bytes are a key", n)
		}
	}
}

func TestReceiverResetForgets(t *testing.T) {
	var r Receiver
	packet := arrival{code: 4, timestamp: 9, duration: 160, marker: true}
	r.Packet(packet.payload(), 9, true)
	if !r.Down() {
		t.Error("the key is not down")
	}
	r.Reset()
	if _, ok := r.Packet(packet.payload(), 9, true); !ok || !r.Down() {
		t.Error("a new stream's key with the old timestamp is lost")
	}
}

func TestReceiverHearsWhatSenderSays(t *testing.T) {
	const keys = "159#w*00ABCDW7"
	sender, err := NewSender(keys, 90*time.Millisecond, 50*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	for _, lost := range []int{0, 1, 2, 3} {
		s, heard := sender, ""
		var r Receiver
		for n := 0; ; n++ {
			p, state := s.Next()
			if state == Done {
				break
			}
			if state == Sending && (lost == 0 || n%3 != lost-1) {
				if digit, ok := r.Packet(p.Payload[:], 0xFFFF0000+p.Offset, p.Marker); ok {
					heard += string(digit)
				}
			}
		}
		if heard != "159#*00ABCD7" {
			t.Errorf("losing every third packet from %d on: heard %q", lost, heard)
		}
	}
}

func TestReceiverAndSenderDoNotAllocate(t *testing.T) {
	s, err := NewSender("0123456789", 100*time.Millisecond, 100*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	var r Receiver
	if allocs := testing.AllocsPerRun(90, func() {
		p, _ := s.Next()
		r.Packet(p.Payload[:], p.Offset, p.Marker)
		r.Tick()
		r.Ended()
	}); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

// FuzzReceiver feeds packets of ten bytes each: payload, timestamp, marker, ticks. Whatever comes, a release follows a
// press of the same key, and no timestamp presses twice in a row.
func FuzzReceiver(f *testing.F) {
	f.Add([]byte{5, 10, 0, 160, 0, 0, 0, 1, 1, 0, 5, 0x8A, 1, 64, 0, 0, 0, 1, 0, 9})
	f.Add([]byte{16, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, stream []byte) {
		var r Receiver
		var pressed byte
		var at uint32
		any := false
		for ; len(stream) >= 10; stream = stream[10:] {
			timestamp := binary.BigEndian.Uint32(stream[4:])
			was := pressed
			digit, ok := r.Packet(stream[:4], timestamp, stream[8] != 0)
			if ok {
				if _, isKey := Event(digit); !isKey {
					t.Fatalf("reported %q", digit)
				}
				if any && at == timestamp {
					t.Fatalf("timestamp %d pressed twice", timestamp)
				}
				pressed, at, any = digit, timestamp, true
			}
			for range stream[9] % 10 {
				r.Tick()
			}
			if digit, _, ended := r.Ended(); ended && digit != pressed && digit != was {
				t.Fatalf("%q released, %q pressed", digit, pressed)
			}
		}
	})
}

func BenchmarkReceiver(b *testing.B) {
	payload := arrival{code: 5, duration: 160}.payload()
	var r Receiver
	for b.Loop() {
		r.Packet(payload, 1000, false)
	}
}
