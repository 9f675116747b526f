package smpp_test

import (
	"context"
	"encoding/hex"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hookswitch/hookswitch/controlplane/message/smpp"
	"github.com/hookswitch/hookswitch/controlplane/message/smpp/smpptest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// line is a running client of a message centre.
type line struct {
	*smpp.Client
	arrived chan smpp.Delivery
	states  chan error
}

func connect(t *testing.T, port string, change func(*smpp.Config)) *line {
	t.Helper()
	l := &line{arrived: make(chan smpp.Delivery, 100), states: make(chan error, 100)}
	cfg := smpp.Config{
		Dial: func(ctx context.Context) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", port))
		},
		SystemID: smpptest.SystemID, Password: smpptest.Password, Backoff: 10 * time.Millisecond,
		Deliver: func(_ context.Context, d smpp.Delivery) error {
			l.arrived <- d
			return nil
		},
		State: func(err error) { l.states <- err },
		Log:   slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	if change != nil {
		change(&cfg)
	}
	l.Client = smpp.New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := l.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	return l
}

// next waits for something.
func next[T any](t *testing.T, from chan T) T {
	t.Helper()
	var v T
	select {
	case v = <-from:
	case <-time.After(30 * time.Second):
		t.Fatal("nothing came")
	}
	return v
}

// bound waits for a session.
func (l *line) bound(t *testing.T) {
	t.Helper()
	for next(t, l.states) != nil {
	}
}

func text(body string) []smpp.Message {
	encoded := smpp.Encode(body)
	var all []smpp.Message
	for i, part := range encoded.Parts {
		m := smpp.Message{
			From: smpp.Address{TON: 5, Number: "Hookswitch"}, To: smpp.Address{TON: 1, NPI: 1, Number: "8613800138000"}, Coding: encoded.Coding, Text: part,
		}
		if len(encoded.Parts) > 1 {
			m.Part = smpp.Part{Reference: 0x1234, Total: byte(len(encoded.Parts)), Number: byte(i + 1)}
		}
		all = append(all, m)
	}
	return all
}

func TestAMessageIsTakenAndItsReceiptComes(t *testing.T) {
	center := smpptest.Start(t)
	l := connect(t, center.Port, nil)
	l.bound(t)
	for state, want := range map[string]smpp.State{"DELIVRD": smpp.Delivered, "UNDELIV": smpp.Undeliverable} {
		center.Tell(t, "receipts %s", state)
		center.Line(t, "told")
		id, err := l.Submit(t.Context(), text("您好")[0])
		if err != nil {
			t.Fatal(err)
		}
		got := center.Line(t, "submit")
		if got[1] != id || got[2] != "Hookswitch" || got[3] != "8613800138000" || got[4] != "8" || got[6] != "1" || got[7] != "60a8597d" || got[9] != "5/0/1/1" {
			t.Errorf("submitted %v", got)
		}
		d := next(t, l.arrived)
		if d.Receipt == nil || d.Receipt.ID != id || d.Receipt.State != want || (d.Receipt.Error == "") != (want == smpp.Delivered) || d.Receipt.DoneAt.IsZero() {
			t.Errorf("the receipt of %s is %+v", id, d.Receipt)
		}
		if answer := center.Line(t, "answer"); answer[1] != "80000005" || answer[2] != "0" {
			t.Errorf("the receipt was answered %v", answer)
		}
	}
	center.Tell(t, "state 42 REJECTD")
	if d := next(t, l.arrived); d.Receipt == nil || d.Receipt.ID != "42" || d.Receipt.State != smpp.Rejected || d.Receipt.Error != "27" {
		t.Errorf("by parameters: %+v", d.Receipt)
	}
}

func TestALongTextGoesInParts(t *testing.T) {
	center := smpptest.Start(t)
	long := strings.Repeat("0123456789", 17) // 170 septets
	for name, sar := range map[string]bool{"header": false, "parameters": true} {
		t.Run(name, func(t *testing.T) {
			l := connect(t, center.Port, func(c *smpp.Config) { c.SAR = sar })
			l.bound(t)
			whole := ""
			for i, m := range text(long) {
				if _, err := l.Submit(t.Context(), m); err != nil {
					t.Fatal(err)
				}
				got := center.Line(t, "submit")
				number := string(rune('1' + i))
				if sar {
					if got[5] != "0" || got[8] != "1234/02/0"+number {
						t.Errorf("part %s: %v", number, got)
					}
					whole += got[7]
					continue
				}
				if got[5] != "64" || !strings.HasPrefix(got[7], "05000334020"+number) {
					t.Errorf("part %s: %v", number, got)
				}
				whole += got[7][12:]
			}
			if sent, err := hex.DecodeString(whole); err != nil || string(sent) != long {
				t.Errorf("sent %q, %v", sent, err)
			}
		})
	}
}

func TestWhatIsRefusedIsTold(t *testing.T) {
	center := smpptest.Start(t)
	l := connect(t, center.Port, nil)
	l.bound(t)
	center.Tell(t, "throttle 1")
	center.Line(t, "told")
	_, err := l.Submit(t.Context(), text("x")[0])
	if status, ok := errors.AsType[smpp.Status](err); !ok || !status.Busy() || !status.Temporary() {
		t.Errorf("throttled: %v", err)
	}
	center.Tell(t, "refuse 1 0B")
	center.Line(t, "told")
	_, err = l.Submit(t.Context(), text("x")[0])
	if status, ok := errors.AsType[smpp.Status](err); !ok || status.Temporary() || status.Name() != "ESME_RINVDSTADR" {
		t.Errorf("refused: %v", err)
	}
	if _, err = l.Submit(t.Context(), text("x")[0]); err != nil {
		t.Error(err)
	}
}

func TestASessionThatEndsIsBoundAgain(t *testing.T) {
	center := smpptest.Start(t)
	l := connect(t, center.Port, nil)
	l.bound(t)
	center.Tell(t, "disconnect 1")
	center.Line(t, "told")
	if _, err := l.Submit(t.Context(), text("x")[0]); !errors.Is(err, smpp.ErrUnanswered) {
		t.Errorf("got %v", err)
	}
	l.bound(t)
	center.Tell(t, "unbind")
	l.bound(t)
	if _, err := l.Submit(t.Context(), text("x")[0]); err != nil {
		t.Error(err)
	}
	center.Kill()
	if err := next(t, l.states); err == nil {
		t.Error("a dead message centre is bound")
	}
	if _, err := l.Submit(t.Context(), text("x")[0]); !errors.Is(err, smpp.ErrUnbound) {
		t.Errorf("got %v", err)
	}
	again := smpptest.StartAt(t, center.Port)
	again.Line(t, "bound")
	l.bound(t)
	if _, err := l.Submit(t.Context(), text("x")[0]); err != nil {
		t.Error(err)
	}
}

func TestAnAnswerThatDoesNotComeIsNoRefusal(t *testing.T) {
	center := smpptest.Start(t)
	l := connect(t, center.Port, func(c *smpp.Config) { c.AnswerWithin = 100 * time.Millisecond })
	l.bound(t)
	center.Tell(t, "silent 1")
	center.Line(t, "told")
	if _, err := l.Submit(t.Context(), text("x")[0]); !errors.Is(err, smpp.ErrUnanswered) {
		t.Errorf("got %v", err)
	}
	if _, err := l.Submit(t.Context(), text("x")[0]); err != nil {
		t.Errorf("the next: %v", err)
	}
}

func TestNoMoreThanTheWindowIsUnanswered(t *testing.T) {
	center := smpptest.Start(t)
	l := connect(t, center.Port, func(c *smpp.Config) { c.Window = 2 })
	l.bound(t)
	center.Tell(t, "silent 100")
	center.Line(t, "told")
	ctx, cancel := context.WithCancel(t.Context())
	var sending sync.WaitGroup
	results := make(chan error, 3)
	for range 3 {
		sending.Go(func() {
			_, err := l.Submit(ctx, text("x")[0])
			results <- err
		})
	}
	center.Line(t, "submit")
	center.Line(t, "submit")
	center.Tell(t, "enquire")
	center.Line(t, "answer") // what was written before is read by now
	for _, said := range center.Lines() {
		if said[0] == "submit" {
			t.Error("a third was sent")
		}
	}
	cancel()
	sending.Wait()
	unanswered := 0
	for range 3 {
		if errors.Is(<-results, smpp.ErrUnanswered) {
			unanswered++
		}
	}
	if unanswered != 2 {
		t.Errorf("%d are unanswered", unanswered)
	}
}

func TestLinksAreCheckedBothWays(t *testing.T) {
	center := smpptest.Start(t)
	l := connect(t, center.Port, func(c *smpp.Config) { c.EnquireLink = 20 * time.Millisecond })
	l.bound(t)
	center.Line(t, "enquired")
	center.Tell(t, "enquire")
	if answer := center.Line(t, "answer"); answer[1] != "80000015" {
		t.Errorf("answered %v", answer)
	}
	center.Tell(t, "raw 00000010000001030000000000000007") // data_sm
	if answer := center.Line(t, "answer"); answer[1] != "80000000" || answer[2] != "3" {
		t.Errorf("answered %v", answer)
	}
	center.Tell(t, "raw 7fffffff000000050000000000000008")
	if answer := center.Line(t, "answer"); answer[1] != "80000000" || answer[2] != "2" {
		t.Errorf("answered %v", answer)
	}
	l.bound(t)
}

func TestADeadLinkIsLeft(t *testing.T) {
	var listener net.ListenConfig
	deaf, err := listener.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := deaf.Close(); err != nil {
			t.Error(err)
		}
	})
	_, port, _ := net.SplitHostPort(deaf.Addr().String())
	l := connect(t, port, func(c *smpp.Config) { c.BindWithin = 50 * time.Millisecond })
	if err := next(t, l.states); err == nil || smpp.Explain(err) == "" {
		t.Errorf("bound to nobody: %v", err)
	}
}

func TestAWrongPasswordIsExplained(t *testing.T) {
	center := smpptest.Start(t)
	l := connect(t, center.Port, func(c *smpp.Config) { c.Password = "wrong" })
	if err := next(t, l.states); !strings.Contains(smpp.Explain(err), "ESME_RINVPASWD") {
		t.Errorf("got %v: %s", err, smpp.Explain(err))
	}
}

func TestAMessageFromAPhoneArrivesUntilItIsTaken(t *testing.T) {
	center := smpptest.Start(t)
	var mu sync.Mutex
	refusals := 1
	l := connect(t, center.Port, func(c *smpp.Config) {
		deliver := c.Deliver
		c.Deliver = func(ctx context.Context, d smpp.Delivery) error {
			mu.Lock()
			defer mu.Unlock()
			if refusals--; refusals >= 0 {
				return errors.New("not now")
			}
			return deliver(ctx, d)
		}
	})
	l.bound(t)
	center.Tell(t, "deliver 8613800138000 10690 8 0 900060a2")
	if answer := center.Line(t, "answer"); answer[2] != "100" {
		t.Errorf("answered %v", answer)
	}
	center.Tell(t, "deliver 8613800138000 10690 8 64 050003070201900060a2")
	d := next(t, l.arrived)
	if d.Text != "退\u60a2" || d.From.Number != "8613800138000" || d.From.TON != 1 || d.To.Number != "10690" || d.Part != (smpp.Part{Reference: 7, Total: 2, Number: 1}) {
		t.Errorf("arrived %+v", d)
	}
}

func TestStoppingUnbinds(t *testing.T) {
	center := smpptest.Start(t)
	t.Run("run", func(t *testing.T) { connect(t, center.Port, nil).bound(t) })
	center.Line(t, "unbound")
}
