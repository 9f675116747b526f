package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// webhookSettings are the load of what is measured of webhooks.
type webhookSettings struct {
	binary      string
	rate        int // calls a second with one webhook each, where the edge's own time and processor time are measured
	waiting     int // calls that wait for a webhook at once
	failures    int // calls for each way in which an application fails
	failureRate int // of them a second
}

// check refuses a load that would measure nothing.
func (s webhookSettings) check() error {
	switch {
	case s.rate < 2:
		return fmt.Errorf("--rate: must be at least 2, is %d", s.rate)
	case s.waiting < 1:
		return fmt.Errorf("--waiting: must be at least 1, is %d", s.waiting)
	case s.failures < 1:
		return fmt.Errorf("--failures: must be at least 1, is %d", s.failures)
	case s.failureRate < 1 || s.failureRate > mostFailureRate:
		return fmt.Errorf("--failure-rate: must be from 1 to %d, is %d", mostFailureRate, s.failureRate)
	}
	return nil
}

// webhookPhases measure what calls wait for applications: what the edge adds to a webhook, what an application that hangs
// is to those of other accounts, and what callers hear of one that fails.
func webhookPhases(ctx context.Context, s webhookSettings) error {
	const column = "measured"
	t := table{columns: []string{column}}
	out := sheet{&t, column}
	if err := s.check(); err != nil {
		return err
	}
	all := errors.Join(workingPhase(ctx, s, out), failurePhase(ctx, s, out))
	t.write(os.Stdout)
	return all
}

// workingPhase measures with both halves in one process and applications that answer, but for one.
func workingPhase(ctx context.Context, s webhookSettings, out sheet) (err error) {
	fmt.Printf("\nWebhooks: applications on loopback, both halves in one process\n")
	server, err := startTogether(ctx, s.binary)
	if err != nil {
		return err
	}
	defer server.stop()
	f, err := newField(ctx, server, s.binary, 3)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	apps, err := newAnswering(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, apps.close()) }()
	if err := addedByTheEdge(ctx, s, f, apps, out); err != nil {
		return err
	}
	rest()
	return isolation(ctx, s, f, apps, out)
}

// rest lets the server finish what is left to do of the calls before.
func rest() { time.Sleep(5 * time.Second) }
