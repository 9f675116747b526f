package e2e

import (
	"fmt"
	"maps"
	"testing"
	"time"
)

// scenario is one story, told in both deployments.
type scenario struct {
	name string
	tell func(t *testing.T, d *deployment)
}

// TestCalls tells every story that calls can share a deployment for, and looks at the end that nothing is left of them.
func TestCalls(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		d := deploy(t, kind, options{})
		d.warm(t)
		before := d.files()
		for _, s := range exactStories {
			t.Run(s.name, func(t *testing.T) { s.tell(t, d) })
		}
		t.Run("scenario", func(t *testing.T) {
			for _, s := range stories() {
				t.Run(s.name, func(t *testing.T) {
					t.Parallel()
					s.tell(t, d)
				})
			}
		})
		d.settles(t, before)
	})
}

func stories() []scenario {
	var all []scenario
	for _, some := range [][]scenario{callStories, digitStories, audioStories, dialStories, applicationStories, apiStories, programStories} {
		all = append(all, some...)
	}
	return all
}

// warm makes one call, so that what is opened once is open.
func (d *deployment) warm(t *testing.T) {
	t.Helper()
	r := d.calls(t, "listen", sipp{to: d.program(t, `[{"verb":"record","max_length":1,"beep":false,"silence":0,"trim":false},{"verb":"hangup"}]`)})
	r.succeeds()
	c, _ := d.endedBySIP(t, r.sipCallID)
	d.recorded(t, c.ID)
}

// files counts the open files of all processes, by process and kind.
func (d *deployment) files() map[string]int {
	all := map[string]int{}
	for _, p := range d.processes() {
		for kind, n := range p.files() {
			all[p.name+" "+kind] = n
		}
	}
	return all
}

// settles waits until no more files and sockets are open than before the calls, but for a few that pools keep: one of each call would be many more.
func (d *deployment) settles(t *testing.T, before map[string]int) {
	t.Helper()
	const kept = 16
	eventually(t, 45*time.Second, func() string {
		now := d.files()
		for kind := range maps.Keys(now) {
			if now[kind] > before[kind]+kept {
				return fmt.Sprintf("%s: %d are open, %d were", kind, now[kind], before[kind])
			}
		}
		return ""
	})
}
