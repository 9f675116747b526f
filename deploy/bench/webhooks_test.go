package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/webhooks"
)

// packetOf is an RTP packet whose payload is one octet, again and again.
func packetOf(sequence uint16, octet byte) []byte {
	packet := append(make([]byte, 12), bytes.Repeat([]byte{octet}, frameOctets)...)
	binary.BigEndian.PutUint16(packet[2:], sequence)
	return packet
}

// speech is what a caller is to hear: frames of 1, 2, 3 …
func speech() []byte {
	var all []byte
	for i := range 12 {
		all = append(all, bytes.Repeat([]byte{byte(i + 1)}, frameOctets)...)
	}
	return all
}

func TestASoundBeginsWithTheFirstSampleThatIsNotSilence(t *testing.T) {
	var s sound
	sequence := uint16(65_533) // which wraps
	for i := range 30 {
		octet := byte(0xFF)
		if i >= 7 {
			octet = byte(i - 6)
		}
		s.take(packetOf(sequence+uint16(i), octet), time.Duration(i)*frameTime)
	}
	if s.first != 7*frameTime {
		t.Errorf("it began after %s", s.first)
	}
	if err := s.problem(speech()); err != nil {
		t.Error(err)
	}
	if !s.complete() || len(s.frames) != soundOctets {
		t.Errorf("%d octets were kept", len(s.frames))
	}
}

func TestWhatIsNotTheSoundIsTold(t *testing.T) {
	take := func(octets ...byte) *sound {
		s := new(sound)
		for i, o := range octets {
			s.take(packetOf(uint16(i), o), frameTime)
		}
		return s
	}
	lost := take(1)
	lost.take(packetOf(2, 2), frameTime)
	for want, s := range map[string]*sound{
		"nothing was heard":        nil,
		"a packet was lost":        lost,
		"something else was heard": take(1, 2, 2),
		"only 40 ms were heard":    take(0xFF, 1, 2),
	} {
		if err := s.problem(speech()); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if err := take(0xFF, 0x7F).problem(speech()); err == nil || err.Error() != "nothing was heard" {
		t.Errorf("of silence: %v", err)
	}
}

func TestCallsAreInTimeLateOrWithoutAnApology(t *testing.T) {
	good := func(first time.Duration) *sound {
		return &sound{first: first, frames: speech()[:soundOctets]}
	}
	var h heard
	h.add(200, good(time.Second), speech())
	h.add(200, good(6*time.Second), speech())
	h.add(200, good(6*time.Second+1), speech())
	h.add(200, nil, speech())
	h.add(503, nil, speech())
	h.add(0, nil, speech())
	if h.inTime(6*time.Second) != 2 || h.missing() != 3 || len(h.took) != 3 {
		t.Errorf("%d in time, %d missing, %v", h.inTime(6*time.Second), h.missing(), h.took)
	}
	want := map[string]int{"nothing was heard": 1, "it was not answered: 503": 1, "it was not answered: 0": 1}
	if !maps.Equal(h.wrong, want) || h.err() == nil {
		t.Errorf("wrong are %v: %v", h.wrong, h.err())
	}
	var table table
	h.set("500", sheet{&table, "measured"})
	if row := table.rows[0]; row.cells["measured"] != "6.000 / 6.000 s; 2" || row.mark != "≤ 6 s in all of 6" || len(table.missed) != 1 {
		t.Errorf("%+v, missed %v", row, table.missed)
	}
	if err := new(heard).err(); err != nil {
		t.Errorf("of no call: %v", err)
	}
}

func TestRecordsAndEventsMustSayWhatFailed(t *testing.T) {
	failed, hung := webhooks.CauseWebhookFailed, webhooks.CauseCallerHangup
	for name, c := range map[string]struct {
		told told
		good bool
	}{
		"all":              {told{map[webhooks.Cause]int{failed: 3}, map[string]int{"reset": 3}}, true},
		"one is missing":   {told{map[webhooks.Cause]int{failed: 2}, map[string]int{"reset": 2}}, false},
		"another cause":    {told{map[webhooks.Cause]int{failed: 3, hung: 1}, map[string]int{"reset": 3}}, false},
		"another code":     {told{map[webhooks.Cause]int{failed: 3}, map[string]int{"reset": 2, "circuit_open": 1}}, false},
		"an event too few": {told{map[webhooks.Cause]int{failed: 3}, map[string]int{"reset": 2, "(none)": 1}}, false},
	} {
		if err := c.told.problem("reset", 3); (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
	}
	records := map[*tenant][]record{nil: {{ID: "a", Cause: failed}, {ID: "b"}}, new(tenant): {{ID: "c", Cause: hung}}}
	if n := ended(records); n != 2 {
		t.Errorf("%d have ended", n)
	}
}

func TestEachWayToFailIsWhatItsNameSays(t *testing.T) {
	for _, how := range breakages() {
		t.Run(how.name, func(t *testing.T) {
			outside, err := newForbidden(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			b, err := newBroken(t.Context(), how, outside.url)
			if err != nil {
				t.Fatal(err)
			}
			got := outcome(t, b.url)
			if want := map[string]string{
				"connect": "refused", "reset": "reset", "status": "500", "timeout": "302 octets or more", "protocol": "malformed",
				"rejected": "200 \x00\xff{{{ no JSON at all", "denied": "302 " + outside.url, "body": "302 octets or more",
			}[how.code]; !strings.Contains(got, want) {
				t.Errorf("it is %q, want %q", got, want)
			}
			if err := b.close(); err != nil {
				t.Error(err)
			}
			if n := b.requests.Load(); (n == 1) != (how.behave != nil) {
				t.Errorf("%d requests were counted", n)
			}
			if err := outside.close(); err != nil {
				t.Error(err)
			}
			if n := outside.reached.Load(); n != 0 {
				t.Errorf("the other address was reached %d times", n)
			}
		})
	}
}

// outcome is what becomes of a request.
func outcome(t *testing.T, url string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	res, err := transport.RoundTrip(req)
	if err != nil {
		return err.Error()
	}
	defer res.Body.Close()
	if to := res.Header.Get("Location"); to != "" {
		return "302 " + to
	}
	if res.StatusCode != http.StatusOK {
		return res.Status
	}
	// A drip gives an octet each 100 ms: the first few are enough to see that it goes on.
	begin := make([]byte, 4)
	if res.ContentLength < 0 {
		if _, err := io.ReadFull(res.Body, begin); err != nil {
			return err.Error()
		}
		return "302 octets or more"
	}
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return err.Error()
	}
	return "200 " + string(text)
}

func TestAChainTellsTheTimeBetweenItsLinks(t *testing.T) {
	a, err := newAnswering(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.bare(t.Context(), 2, func(int) string { return "/answer" }); err != nil {
		t.Fatal(err)
	}
	paths := []string{"/chain/2", "/chain/1", "/chain/0"}
	took, err := a.bare(t.Context(), 6, func(i int) string { return paths[i%3] })
	if err != nil || len(took) != 6 {
		t.Fatal(took, err)
	}
	// From the end of one chain to the beginning of the next is no link.
	if links := a.links(); len(links) != 4 || !slices.IsSorted(links) || links[0] <= 0 {
		t.Errorf("links %v", links)
	}
	if links := a.links(); len(links) != 0 {
		t.Errorf("they are told again: %v", links)
	}
	if err := a.close(); err != nil {
		t.Error(err)
	}
}

func TestWhatHangsIsCountedUntilTheOtherSideGivesUp(t *testing.T) {
	a, err := newAnswering(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, giveUp := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	for range 3 {
		asking.Go(func() {
			if _, err := a.bare(ctx, 1, func(int) string { return "/hang" }); err == nil {
				t.Error("it was answered")
			}
		})
	}
	until := func(n int) {
		for late := time.After(10 * time.Second); ; {
			a.mu.Lock()
			now := a.hanging
			a.mu.Unlock()
			if now == n {
				return
			}
			select {
			case <-time.After(time.Millisecond):
			case <-late:
				t.Fatalf("%d hang, want %d", now, n)
			}
		}
	}
	until(3)
	giveUp()
	asking.Wait()
	until(0)
	if a.mostHanging() != 3 {
		t.Errorf("%d at most", a.mostHanging())
	}
	if err := a.close(); err != nil {
		t.Error(err)
	}
}

// TestACallThatWaitsIsGivenUp protects that none stays behind at the server: CANCEL and ACK are those of its INVITE.
func TestACallThatWaitsIsGivenUp(t *testing.T) {
	server, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	if err := server.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	f := &field{hear: newHearing()}
	running, stop := context.WithCancel(t.Context())
	f.stop = stop
	f.parts.Go(func() { f.hear.run(running) })
	caller, err := newCaller(netip.MustParseAddr("127.0.1.1"), server.LocalAddr().(*net.UDPAddr).AddrPort(), f.hear.streams)
	if err != nil {
		t.Fatal(err)
	}
	f.parts.Add(1)
	go caller.run(running, &f.parts)
	c, err := (&tenant{caller: caller, field: f}).dial(hangingNumber)
	if err != nil {
		t.Fatal(err)
	}
	if n := stillWaiting([]outgoing{c}); n != 1 {
		t.Errorf("%d wait", n)
	}
	var given sync.WaitGroup
	given.Go(func() { giveUp([]outgoing{c}) })
	branches := map[string]string{}
	for len(branches) < 3 {
		buffer := make([]byte, 4096)
		n, from, err := server.ReadFromUDP(buffer)
		if err != nil {
			t.Fatal(err)
		}
		text := string(buffer[:n])
		method, _, _ := strings.Cut(text, " ")
		branch := between(text, "branch=", ";")
		if method != "ACK" || branch == branches["INVITE"] {
			branches[method] = branch
		}
		if method != "CANCEL" {
			continue
		}
		h := map[string]string{
			"via": between(text, "Via: ", "\r\n"), "from": between(text, "From: ", "\r\n"), "to": between(text, "To: ", "\r\n"),
			"call-id": c.id, "cseq": "1 INVITE",
		}
		if _, err := server.WriteToUDP([]byte(reply(h, 487, "Request Terminated", "s", "", "")), from); err != nil {
			t.Fatal(err)
		}
	}
	given.Wait()
	if branches["INVITE"] == "" || branches["CANCEL"] != branches["INVITE"] || branches["ACK"] != branches["INVITE"] {
		t.Errorf("branches %v", branches)
	}
	f.hear.await(t.Context(), []outgoing{c})
	if n := stillWaiting([]outgoing{c}); n != 0 || f.hear.collect(c) != nil {
		t.Errorf("%d wait, or something was heard", n)
	}
	if _, err := times([]outgoing{c}); err == nil || !strings.Contains(err.Error(), "map[487:1]") {
		t.Errorf("%v", err)
	}
	if err := f.close(); err != nil {
		t.Error(err)
	}
}

func between(text, from, to string) string {
	_, text, _ = strings.Cut(text, from)
	text, _, _ = strings.Cut(text, to)
	return text
}

func TestTimesAreThoseOfAnsweredCalls(t *testing.T) {
	answered := func(setup time.Duration) outgoing { return outgoing{call: &call{code: 200, setup: setup}} }
	took, err := times([]outgoing{answered(3), answered(1), answered(2)})
	if err != nil || !slices.Equal(took, []time.Duration{1, 2, 3}) {
		t.Errorf("%v, %v", took, err)
	}
}

func TestALoadThatMeasuresNothingIsRefused(t *testing.T) {
	good := webhookSettings{rate: 200, waiting: 2000, failures: 1000, failureRate: 40}
	if err := good.check(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*webhookSettings){
		"--rate":         func(s *webhookSettings) { s.rate = 1 },
		"--waiting":      func(s *webhookSettings) { s.waiting = 0 },
		"--failures":     func(s *webhookSettings) { s.failures = 0 },
		"--failure-rate": func(s *webhookSettings) { s.failureRate = mostFailureRate + 1 },
	} {
		s := good
		change(&s)
		if err := s.check(); err == nil || !strings.HasPrefix(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
