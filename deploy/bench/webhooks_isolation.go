package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"
)

// A round with the application that hangs has to be over before its first request is: the budget of a request is 15 s at
// most. The calls that wait come in hangIn, the server gets hangRest to finish with that, and then the others are measured.
const (
	hangBudget = 15 * time.Second
	hangIn     = 5 * time.Second
	hangRest   = 2 * time.Second
	hangFor    = 6 * time.Second
	hangRounds = 6
)

// isolation measures the webhooks of two accounts, with and without very many calls of a third waiting for an application
// that hangs. The two take turns, so that what else the machine does meets both.
func isolation(ctx context.Context, s webhookSettings, f *field, apps *answering, out sheet) error {
	const mark = 1.1
	others := map[*tenant]string{f.tenants[0]: askingNumber, f.tenants[1]: otherNumber}
	if _, err := f.tenants[1].answers(ctx, otherNumber, map[string]any{"voice_url": apps.url + "/answer"}); err != nil {
		return err
	}
	hung := f.tenants[2]
	if _, err := hung.answers(ctx, hangingNumber, map[string]any{"voice_url": apps.url + "/hang", "budget_ms": hangBudget.Milliseconds()}); err != nil {
		return err
	}
	var took [2][]time.Duration
	waited := s.waiting
	for round := range hangRounds {
		for turn := range 2 {
			which := (round + turn) % 2
			some, waiting, err := isolationRound(ctx, f, hung, which*s.waiting, s.rate/2, others)
			if err != nil {
				return err
			}
			if which == 1 {
				waited = min(waited, waiting)
			}
			took[which] = append(took[which], some...)
		}
	}
	slices.Sort(took[0])
	slices.Sort(took[1])
	out.set("calls of an account whose application hangs, waiting at once throughout", thousands(s.waiting), thousands(waited), waited >= s.waiting)
	out.tell("of them being asked at once, at most", thousands(apps.mostHanging()))
	out.tell("other accounts' calls with a webhook, INVITE → 200, without it: p50 / p99", both(took[0]))
	ratio := float64(quantile(took[1], .99)) / float64(max(1, quantile(took[0], .99)))
	out.set("the same beside it: p50 / p99", "p99 at most 10 % more", fmt.Sprintf("%s (p99 %+.0f %%)", both(took[1]), 100*(ratio-1)), ratio <= mark)
	return nil
}

// isolationRound measures the others beside n calls that wait, and says how many of these did all the time.
func isolationRound(ctx context.Context, f *field, hung *tenant, n, rate int, others map[*tenant]string) (took []time.Duration, waited int, err error) {
	var waiting []outgoing
	var live int
	if n > 0 {
		if waiting, live, err = hung.wait(ctx, n); err != nil {
			return nil, 0, err
		}
	}
	if took, err = webhookTimes(ctx, f, others, rate); err != nil {
		return nil, 0, err
	}
	waited = min(live, stillWaiting(waiting))
	giveUp(waiting)
	f.hear.await(ctx, waiting)
	for _, c := range waiting {
		f.hear.collect(c)
	}
	rest()
	return took, waited, nil
}

// wait places n calls that wait for the application. live is how many of them do, as the server says.
func (t *tenant) wait(ctx context.Context, n int) (all []outgoing, live int, err error) {
	all, err = pace(ctx, n, max(1, int(float64(n)/hangIn.Seconds())), func(int) (outgoing, error) { return t.dial(hangingNumber) })
	if err != nil {
		return all, 0, err
	}
	time.Sleep(hangRest)
	live, err = t.api.count(ctx, "/v1/calls?status=ringing")
	return all, live, err
}

// count is how many rows a list has. path has parameters.
func (s *server) count(ctx context.Context, path string) (int, error) {
	var page struct{ Total int }
	err := s.do(ctx, http.MethodGet, path+"&limit=1&count=true", "", nil, &page)
	return page.Total, err
}

// stillWaiting counts calls that were neither answered nor refused.
func stillWaiting(all []outgoing) int {
	n := 0
	for _, c := range all {
		select {
		case <-c.answered:
		case <-c.done:
		default:
			n++
		}
	}
	return n
}

// giveUp ends calls, some at a time.
func giveUp(all []outgoing) {
	limit := make(chan struct{}, 32)
	var wait sync.WaitGroup
	for _, c := range all {
		limit <- struct{}{}
		wait.Go(func() {
			defer func() { <-limit }()
			c.giveUp()
		})
	}
	wait.Wait()
}

// webhookTimes calls the numbers of tenants in turn for a while.
func webhookTimes(ctx context.Context, f *field, numbers map[*tenant]string, rate int) ([]time.Duration, error) {
	tenants := f.tenants[:len(numbers)]
	all, err := f.place(ctx, int(hangFor.Seconds()*float64(rate)), rate, func(i int) (outgoing, error) {
		t := tenants[i%len(tenants)]
		return t.dial(numbers[t])
	})
	if err != nil {
		return nil, err
	}
	for _, c := range all {
		f.hear.collect(c)
	}
	return times(all)
}
