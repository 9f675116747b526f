package e2e

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/deploy/phone"
	"github.com/hookswitch/hookswitch/webhooks"
	"github.com/hookswitch/hookswitch/webhooks/webhooktest"
)

// What was recorded survives the process that recorded it, but for two seconds; the call's record is closed, once.
func TestKilledWhileRecording(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, kind string) {
		t.Parallel()
		d := deploy(t, kind, options{})
		number := d.program(t, recordAll)
		said := noise(10 * time.Second)
		d.live(t, phone.Call{To: number, HangUp: 20 * time.Second, Speak: said})
		c := d.talking(t, number)
		spool := d.spooled(t, 5*time.Second)
		began := d.events(t, c.ID).one(t, webhooks.EventRecordingStarted).OccurredAt
		d.edge.kill()
		lasted := time.Since(began)
		if kind == apart {
			// No edge is left to take over: the control plane closes the record by itself.
			if c, _ := d.ended(t, c.ID); c.Cause != "edge_lost" {
				t.Errorf("while the edge is gone the record is %+v", c)
			}
		}
		d.carry()
		d.ready()
		c, events := d.ended(t, c.ID)
		if c.Cause != "edge_lost" || c.Status != "completed" || c.EndedBy != "system" || c.AnsweredAt == nil {
			t.Errorf("the record is %+v", c)
		}
		var list []recording
		eventually(t, 30*time.Second, func() string {
			list = d.recorded(t, c.ID)
			if len(list) == 1 && list[0].Status == "completed" && list[0].Duration > 0 {
				return ""
			}
			return fmt.Sprintf("the recordings are %+v, the events%s", list, events)
		})
		kept := decodeWAV(t, d.audio(t, list[0].ID), 1)
		if kept.Duration() < lasted-2*time.Second || kept.Duration() > lasted+time.Second {
			t.Errorf("%s of %s of recording are left; the spool was %s", kept.Duration(), lasted, spool)
		}
		inOrder(t, kept.Samples, said)
		eventually(t, 10*time.Second, func() string {
			if left, err := filepath.Glob(filepath.Join(d.data, "spool", "rec_*")); err != nil || len(left) > 0 {
				return fmt.Sprintf("the spool still holds %v, %v", left, err)
			}
			return ""
		})
	})
}

// inOrder fails the test unless the recording is the beginning of what was said: piece after piece in its order, none of
// them twice, to the end; but for pieces that a busy machine delivered too late.
func inOrder(t *testing.T, recorded, said []int16) {
	t.Helper()
	const piece = 800 // 100 ms
	found, last, pieces := 0, -1, len(recorded)/piece
	for n := range pieces {
		at := contains(said, recorded[n*piece:(n+1)*piece])
		if at < 0 {
			continue
		}
		if at <= last {
			t.Errorf("100 ms at %d ms are of %d ms, after some of %d ms", n*100, at/8, last/8)
		}
		found, last = found+1, at
	}
	if found < pieces*3/4 || last < (pieces-10)*piece {
		t.Errorf("of %d pieces of 100 ms, %d were said; the last is of %d ms", pieces, found, last/8)
	}
}

// spooled waits until so much of a recording has been written.
func (d *deployment) spooled(t *testing.T, length time.Duration) string {
	t.Helper()
	var path string
	eventually(t, length+15*time.Second, func() string {
		files, err := filepath.Glob(filepath.Join(d.data, "spool", "rec_*.g711"))
		if err != nil || len(files) != 1 {
			return fmt.Sprintf("the spool holds %v, %v", files, err)
		}
		path = files[0]
		if info, err := os.Stat(path); err != nil || info.Size() < int64(count(length)) {
			return fmt.Sprintf("%s is not long enough", path)
		}
		return ""
	})
	return path
}

// SIGTERM cuts nobody off: no new calls, live ones may end, then exit code 0.
func TestDrain(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, kind string) {
		t.Parallel()
		d := deploy(t, kind, options{})
		number := d.program(t, `[{"verb":"play","tone":"620/4000"},{"verb":"hangup"}]`)
		over := d.live(t, phone.Call{To: number})
		c := d.talking(t, number)
		d.edge.signal(syscall.SIGTERM)
		eventually(t, 10*time.Second, func() string {
			refused := d.calls(t, "refused", sipp{to: number, values: object{"code": 503}})
			if refused.code(30*time.Second) == 0 {
				return ""
			}
			return "new calls are still taken"
		})
		r := <-over
		hears(t, r.Heard, 620, 3500*time.Millisecond)
		if r.EndedByUs || r.Err != nil {
			t.Errorf("the telephone says %v, hung up itself: %t", r.Err, r.EndedByUs)
		}
		if code := d.edge.code(40 * time.Second); code != 0 {
			t.Errorf("it ended with %d", code)
		}
		if kind == together {
			d.serve()
			d.ready()
		}
		if c, _ := d.ended(t, c.ID); c.Cause != "program_end" || c.TalkDuration < 3.9 {
			t.Errorf("the record is %+v", c)
		}
	})
}

// A drain that has a limit ends what is left then, and says so.
func TestDrainLimit(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, kind string) {
		t.Parallel()
		d := deploy(t, kind, options{edge: []string{"--drain", "1s"}})
		number := d.program(t, waiting)
		over := d.live(t, phone.Call{To: number})
		c := d.talking(t, number)
		d.edge.signal(syscall.SIGTERM)
		if r := <-over; r.EndedByUs || r.Err != nil {
			t.Errorf("the telephone says %v, hung up itself: %t", r.Err, r.EndedByUs)
		}
		if code := d.edge.code(20 * time.Second); code != 0 {
			t.Errorf("it ended with %d", code)
		}
		if kind == together {
			d.serve()
			d.ready()
		}
		if c, _ := d.ended(t, c.ID); c.Cause != "edge_drain" || c.EndedBy != "system" {
			t.Errorf("the record is %+v", c)
		}
	})
}

// The call goes on when the disk is full; its recording fails, and says so.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	unshare := []string{program(t, "unshare"), "--mount"}
	if os.Geteuid() != 0 {
		unshare = append(unshare, "--map-root-user")
	}
	// A mount that only the process sees, and that goes with it.
	const mount = `mkdir -p "$0" && mount -t tmpfs -o size=48k tmpfs "$0" && exec "$@"`
	o := options{wrap: func(data string) []string {
		return slices.Concat(unshare, []string{"sh", "-c", mount, filepath.Join(data, "spool")})
	}}
	d := deploy(t, together, o)
	number := d.program(t, `[{"verb":"record","beep":false,"silence":0,"trim":false,"max_length":60,"finish_on_key":"",
		"on":{"failed":[{"verb":"play","tone":"880/800"}],"default":[{"verb":"play","tone":"440/800"}]}},{"verb":"hangup"}]`)
	r := d.place(t, phone.Call{To: number, Speak: noise(20 * time.Second)})
	hears(t, r.Heard, 880, 500*time.Millisecond)
	c, events := d.endedBySIP(t, r.SIPCallID)
	if c.Cause != "program_end" || c.Status != "completed" {
		t.Errorf("the record is %+v", c)
	}
	if got := events.one(t, webhooks.EventRecordingFailed).Data; got.Message == "" || got.Code == "" {
		t.Errorf("recording.failed says %+v", got)
	}
	list := d.recorded(t, c.ID)
	if len(list) != 1 || list[0].Failure == "" {
		t.Errorf("the recordings are %+v", list)
	}
	// The next call is as good as any.
	r = d.place(t, phone.Call{To: d.program(t, `[{"verb":"play","tone":"620/800"},{"verb":"hangup"}]`)})
	hears(t, r.Heard, 620, 500*time.Millisecond)
}

// An edge without a free port refuses a call and says when to try again.
func TestPortsExhausted(t *testing.T) {
	t.Parallel()
	d := deploy(t, together, options{rtp: 4})
	number := d.program(t, waiting)
	for range 2 {
		d.live(t, phone.Call{To: number, HangUp: 6 * time.Second})
	}
	eventually(t, 10*time.Second, func() string {
		if n := len(get[page[call]](t, d, "/v1/calls?status=in_progress").Data); n != 2 {
			return fmt.Sprintf("%d calls are in progress", n)
		}
		return ""
	})
	refused := d.calls(t, "refused", sipp{to: number, values: object{"code": 503}})
	refused.succeeds()
	if c, _ := d.endedBySIP(t, refused.sipCallID); c.Cause != "overload" || c.SIPCode != 503 || c.Status != "failed" {
		t.Errorf("the record is %+v", c)
	}
	short := d.program(t, `[{"verb":"play","tone":"620/800"},{"verb":"hangup"}]`)
	eventually(t, 40*time.Second, func() string { // the ports rest for 10 s
		if r := d.tries(t, phone.Call{To: short}); !r.Answered {
			return fmt.Sprintf("the call is refused: %d", r.Code)
		}
		return ""
	})
}

// What an account names may not lead where the operator does not allow, whatever an application redirects to.
func TestForbiddenNetworks(t *testing.T) {
	t.Parallel()
	d := deploy(t, apart, options{allowed: "127.0.0.1/32"})
	inside, asked := forbidden(t)
	t.Run("redirect", func(t *testing.T) {
		app, number := d.application(t, object{"retries": 0})
		app.Answer("incoming", webhooktest.Redirect(http.StatusTemporaryRedirect, inside))
		denied(t, d, number)
	})
	t.Run("URL", func(t *testing.T) {
		number, _ := d.number(t, object{"voice_url": inside})
		denied(t, d, number)
	})
	t.Run("audio", func(t *testing.T) {
		r := d.place(t, phone.Call{To: d.program(t, `[{"verb":"play","url":"`+inside+`","on":{"failed":[{"verb":"play","tone":"880/800"}]}},{"verb":"hangup"}]`)})
		hears(t, r.Heard, 880, 500*time.Millisecond)
	})
	t.Run("dial", func(t *testing.T) {
		app, number := d.dials(t, nil, object{"sip": "sip:party@127.0.0.2:5070"})
		d.place(t, phone.Call{To: number})
		app.Expect("incoming")
		app.Expect("/dialled", "outcome", "not_allowed")
	})
	if n := len(asked); n > 0 {
		t.Errorf("a forbidden address was asked %d times", n)
	}
}

func denied(t *testing.T, d *deployment, number string) {
	t.Helper()
	r := d.place(t, phone.Call{To: number})
	if spoken := phone.Seconds(phone.Sounds(r.Heard), "speech"); spoken < 1 {
		t.Errorf("the caller heard %s", phone.Describe(phone.Sounds(r.Heard)))
	}
	c, events := d.endedBySIP(t, r.SIPCallID)
	if got := events.one(t, webhooks.EventWebhookFailed).Data; got.Code != "denied" || c.Cause != "webhook_failed" {
		t.Errorf("webhook.failed says %+v, the record %+v", got, c)
	}
}

// forbidden serves on an address that is not allowed.
func forbidden(t *testing.T) (url string, asked <-chan struct{}) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 2}), 0).String())
	if err != nil {
		t.Fatal(err)
	}
	seen := make(chan struct{}, 16)
	s := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		seen <- struct{}{}
		w.WriteHeader(http.StatusNoContent)
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l) // ends with Close
	}()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		<-done
	})
	return "http://" + l.Addr().String() + "/inside", seen
}

// Numbers in use are answered while the control plane is away, and what happened is told when it is back.
func TestControlPlaneAway(t *testing.T) {
	t.Parallel()
	d := deploy(t, apart, options{})
	number := d.program(t, recordAll)
	carrier := carrierAddr()
	first := d.callsFrom(t, carrier, "call", sipp{to: number, duration: 500 * time.Millisecond, voice: encodeMuLaw(noise(time.Second))})
	first.succeeds()
	d.endedBySIP(t, first.sipCallID)
	d.control.kill()
	said := noise(time.Second)
	second := d.callsFrom(t, carrier, "call", sipp{id: "away", to: number, duration: 1500 * time.Millisecond, voice: encodeMuLaw(said)})
	second.succeeds()
	d.serve()
	d.ready()
	c, _ := d.endedBySIP(t, second.sipCallID)
	if c.Cause != "caller_hangup" || c.Status != "completed" || c.To != number {
		t.Errorf("the record is %+v", c)
	}
	if list := d.recorded(t, c.ID); len(list) != 1 || list[0].Status != "completed" || list[0].Duration < 1 {
		t.Errorf("the recordings are %+v", list)
	}
}
