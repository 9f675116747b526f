package queue_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hookswitch/hookswitch/controlplane/bus"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/queue"
	"github.com/hookswitch/hookswitch/webhooks"
)

// A child is this test binary, told by these to take callers until it is killed.
const (
	childDatabase = "HOOKSWITCH_TEST_QUEUE_DATABASE"
	childBus      = "HOOKSWITCH_TEST_QUEUE_BUS"
	childName     = "HOOKSWITCH_TEST_QUEUE_NAME"
	begun         = "taking"
)

func TestMain(m *testing.M) {
	if os.Getenv(childDatabase) != "" {
		if err := takeAll(os.Getenv(childDatabase), os.Getenv(childBus), os.Getenv(childName)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

const (
	childLegs  = 4
	childLease = time.Second
)

// takeAll is an edge and a control plane in one process, whose legs take whoever comes. It writes a line for every caller
// that was connected: the call, and the claim.
func takeAll(database, busURL, name string) error {
	ctx := context.Background()
	d, err := db.Open(ctx, database)
	if err != nil {
		return err
	}
	b, err := bus.Open(ctx, busURL)
	if err != nil {
		return err
	}
	s := &queue.Service{DB: d, Bus: b, Lease: childLease, Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))}
	if _, err := fmt.Fprintln(os.Stdout, begun); err != nil {
		return err
	}
	var all sync.WaitGroup
	all.Go(func() { _ = s.Run(ctx) })
	for leg := range childLegs {
		all.Go(func() {
			for i := 0; ; i++ {
				if err := serve(ctx, s, name, webhooks.CallID(fmt.Sprintf("call_leg_%s_%d_%d", name, leg, i))); err != nil {
					fmt.Fprintln(os.Stderr, err)
				}
			}
		})
	}
	all.Wait()
	return nil
}

// serve is one leg.
func serve(ctx context.Context, s *queue.Service, name string, leg webhooks.CallID) error {
	c, err := s.Take(ctx, queue.Taking{
		AccountID: account, Queue: "a", Leg: leg, EdgeID: webhooks.EdgeID("edge_" + name), BootID: "boot_" + name, Timeout: 1,
	})
	if err != nil || c == nil {
		return err
	}
	// The screen is heard, and whoever is killed is killed now as likely as not.
	<-time.After(rand.N(20 * time.Millisecond))
	if rand.IntN(10) == 0 {
		err = s.Return(ctx, queue.Return{AccountID: account, ID: c.ID, Claim: c.Claim, Why: []queue.Why{queue.Unanswered, queue.Failed}[rand.IntN(2)]})
	} else if err = s.Confirm(ctx, account, c.ID, c.Claim); err == nil {
		_, err = fmt.Fprintf(os.Stdout, "%s %d\n", c.CallID, c.Claim)
	}
	if errors.Is(err, queue.ErrFenced) {
		return nil
	}
	return err
}

// child is a process that takes callers.
type child struct {
	*exec.Cmd
	name string
	read sync.WaitGroup
}

// spawn starts a child; heard is given what it writes.
func spawn(t *testing.T, database, busURL, name string, heard func(call webhooks.CallID, claim int64)) *child {
	t.Helper()
	c := &child{Cmd: exec.Command(os.Args[0]), name: name}
	c.Env = append(os.Environ(), childDatabase+"="+database, childBus+"="+busURL, childName+"="+name)
	c.Stderr = t.Output()
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.kill)
	lines := bufio.NewReader(out)
	if line, err := lines.ReadString('\n'); err != nil || strings.TrimSpace(line) != begun {
		t.Fatalf("the child did not begin: %q %v", line, err)
	}
	c.read.Go(func() {
		for {
			line, err := lines.ReadString('\n')
			if err != nil { // what a killed child has not finished writing is no line
				if !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrClosed) {
					t.Error(err)
				}
				return
			}
			var call webhooks.CallID
			var claim int64
			if _, err := fmt.Sscan(line, &call, &claim); err != nil {
				t.Errorf("%q: %v", line, err)
			}
			heard(call, claim)
		}
	})
	return c
}

func (c *child) kill() {
	if c.ProcessState == nil {
		_ = c.Process.Kill() // SIGKILL
		c.read.Wait()
		_ = c.Wait()
	}
}
