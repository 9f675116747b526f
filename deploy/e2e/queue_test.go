package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/deploy/phone"
	"github.com/hookswitch/hookswitch/webhooks"
)

// another is a second edge of a deployment.
type another struct {
	*process
	sip   netip.AddrPort
	carry func() *process
}

// beside starts another edge at the same control plane.
func (d *deployment) beside() *another {
	d.t.Helper()
	e := &another{sip: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), freePort(d.t))}
	args := slices.Clone(d.edge.cmd.Args)
	for name, value := range map[string]string{"--sip": e.sip.String(), "--rtp": audioPorts(0), "--data": filepath.Join(d.t.TempDir(), "data")} {
		args[slices.Index(args, name)+1] = value
	}
	e.carry = func() *process { return d.run("another edge", args) }
	e.process = e.carry()
	d.t.Cleanup(func() { e.kill() })
	return e
}

// status is how a queue stands.
func (d *deployment) status(t *testing.T, queue string) (s struct{ Waiting, Offered, Connected int }) {
	t.Helper()
	return get[struct{ Waiting, Offered, Connected int }](t, d, "/v1/queues/"+queue+"/status")
}

// Callers wait on one edge and are taken by legs of both, of which the other is killed while it takes some of them. No caller
// is ever given to two legs, by the records and by what the callers hear; and nobody is left behind.
func TestQueueWhileAnEdgeIsKilled(t *testing.T) {
	t.Parallel()
	const callers, rounds = 6, 2
	d := deploy(t, apart, options{})
	other := d.beside()
	line := post[struct{ ID string }](t, d, "/v1/queues", object{"name": "sales"}).ID
	waits := d.program(t, `[{"verb":"enqueue","queue":"sales","wait":[]}]`)
	takes := d.program(t, `[{"verb":"dequeue","queue":"sales","timeout":60}]`)
	for round := range rounds {
		d.takesCalls(t, other.sip)
		var heard, taking []<-chan phone.Report
		var voices [][]int16
		for range callers {
			heard = append(heard, d.live(t, phone.Call{To: waits, HangUp: 40 * time.Second}))
		}
		eventually(t, 30*time.Second, func() string {
			if s := d.status(t, line); s.Waiting != callers {
				return fmt.Sprintf("the queue is %+v", s)
			}
			return ""
		})
		take := func(at netip.AddrPort) {
			voice := noise(15 * time.Second)
			voices = append(voices, voice)
			taking = append(taking, d.live(t, phone.Call{Server: at, To: takes, HangUp: 15 * time.Second, Speak: voice}))
		}
		for range callers / 2 {
			take(other.sip)
		}
		eventually(t, 20*time.Second, func() string {
			if s := d.status(t, line); s.Offered+s.Connected == 0 {
				return fmt.Sprintf("nobody is taken: %+v", s)
			}
			return ""
		})
		pause := time.NewTimer(rand.N(300 * time.Millisecond))
		<-pause.C
		other.kill()
		for range callers {
			take(d.sip)
		}
		if round%2 == 1 { // else the control plane finds out by itself
			other.process = other.carry()
		}
		eventually(t, time.Minute, func() string {
			if s := d.status(t, line); s.Waiting+s.Offered > 0 {
				return fmt.Sprintf("the queue is %+v", s)
			}
			return ""
		})
		given := map[webhooks.CallID]bool{} // legs that took somebody
		hearing := 0
		for i, report := range heard {
			r := <-report
			c := d.found(t, r.SIPCallID)
			_, events := d.ended(t, c.ID)
			connected := events.of(webhooks.EventQueueConnected)
			if len(connected) != 1 {
				t.Errorf("round %d: caller %d was given to %d legs:%s", round, i, len(connected), events)
			}
			for _, e := range connected {
				if given[e.Data.PeerCallID] {
					t.Errorf("round %d: the leg %s was given two callers", round, e.Data.PeerCallID)
				}
				given[e.Data.PeerCallID] = true
			}
			if joined, left := len(events.of(webhooks.EventQueueJoined)), len(events.of(webhooks.EventQueueLeft)); joined != 1 || left != 1 {
				t.Errorf("round %d: caller %d joined %d times and left %d times", round, i, joined, left)
			}
			switch n := speakers(r.Heard, voices); {
			case n == 1:
				hearing++
			case n > 1:
				t.Errorf("round %d: caller %d heard %d legs", round, i, n)
			}
		}
		if hearing == 0 {
			t.Errorf("round %d: no caller heard anybody", round)
		}
		t.Logf("round %d: of %d callers %d heard a leg for half a second; the others' edge was killed before", round, callers, hearing)
		for _, report := range taking {
			<-report // those at the edge that was killed fail, as they must
		}
		if round%2 == 0 {
			other.process = other.carry()
		}
	}
}

// speakers counts those of whom half a second was heard.
func speakers(heard []int16, voices [][]int16) (n int) {
	const piece = 400 // 50 ms
	for _, voice := range voices {
		found := 0
		for at := 0; at+piece <= len(voice) && found < 10; at += piece {
			if contains(heard, voice[at:at+piece]) >= 0 {
				found++
			}
		}
		if found == 10 {
			n++
		}
	}
	return n
}

// takesCalls waits until an edge asks the control plane about calls.
func (d *deployment) takesCalls(t *testing.T, at netip.AddrPort) {
	t.Helper()
	eventually(t, 30*time.Second, func() string {
		r := d.tries(t, phone.Call{Server: at, To: "nowhere", Timeout: 5 * time.Second})
		if r.Code == http.StatusNotFound {
			return ""
		}
		return fmt.Sprintf("the edge answers %d, %v", r.Code, r.Err)
	})
}
