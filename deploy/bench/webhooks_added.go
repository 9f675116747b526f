package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// The numbers of the applications that answer. Those of applications that fail begin with another prefix.
const (
	askingNumber  = "+862368925201" // its calls ask /answer
	storedNumber  = "+862368925202" // its calls run answerAndHangUp, stored with the application
	chainedNumber = "+862368925203" // its calls ask /chain
	singleNumber  = "+862368925204" // its calls ask /chain/0
	otherNumber   = "+862368925205" // as askingNumber, of another account
	hangingNumber = "+862368925206" // its calls ask /hang
)

// links is how many further questions a call of chainedNumber asks.
const links = 19

// addedByTheEdge measures what a webhook costs a call and the server, beyond the round trip to the application.
func addedByTheEdge(ctx context.Context, s webhookSettings, f *field, apps *answering, out sheet) error {
	t := f.tenants[0]
	for number, path := range map[string]string{askingNumber: "/answer", chainedNumber: fmt.Sprintf("/chain/%d", links), singleNumber: "/chain/0"} {
		if _, err := t.answers(ctx, number, map[string]any{"voice_url": apps.url + path}); err != nil {
			return err
		}
	}
	if _, err := t.answers(ctx, storedNumber, map[string]any{"program": json.RawMessage(answerAndHangUp)}); err != nil {
		return err
	}
	if err := alone(ctx, f, t, apps, out); err != nil {
		return err
	}
	if err := underLoad(ctx, s, f, t, out); err != nil {
		return err
	}
	return journalShare(ctx, f, t, apps, out)
}

// alone measures one call after the other, so that nothing waits for anything else.
func alone(ctx context.Context, f *field, t *tenant, apps *answering, out sheet) error {
	const rounds, warm, mark = 330, 30, time.Millisecond
	numbers := []string{storedNumber, askingNumber}
	var took [2][]time.Duration
	for i := range rounds {
		for which, number := range numbers {
			d, err := one(ctx, f, t, number)
			if err != nil {
				return err
			}
			if i >= warm {
				took[which] = append(took[which], d)
			}
		}
	}
	slices.Sort(took[0])
	slices.Sort(took[1])
	for range 100 {
		if _, err := one(ctx, f, t, chainedNumber); err != nil {
			return err
		}
	}
	mid := apps.links()
	bare, err := apps.bare(ctx, 2000, func(int) string { return "/answer" })
	if err != nil {
		return err
	}
	if _, err := apps.bare(ctx, 100*(links+1), func(i int) string { return fmt.Sprintf("/chain/%d", links-i%(links+1)) }); err != nil {
		return err
	}
	bareMid := apps.links()
	if len(mid) != 100*links || len(bareMid) != len(mid) {
		return fmt.Errorf("of %d questions in mid-call %d were asked, and %d without an edge", 100*links, len(mid), len(bareMid))
	}
	out.tell("one call at a time, INVITE → 200: stored program, p50 / p99", both(took[0]))
	out.tell("one call at a time, INVITE → 200: webhook, p50 / p99", both(took[1]))
	out.tell("the same request without an edge, round trip: p50 / p99", both(bare))
	added := quantile(took[1], .5) - quantile(took[0], .5) - quantile(bare, .5)
	out.set("added by the edge to a call's first webhook, p50", "< 1 ms", inMilliseconds(added), added < mark)
	out.tell("mid-call, from an answer to the next request: p50 / p99", both(mid))
	out.tell("the same without an edge: p50 / p99", both(bareMid))
	added = quantile(mid, .5) - quantile(bareMid, .5)
	out.set("added by the edge to a webhook in mid-call, p50", "< 1 ms", inMilliseconds(added), added < mark)
	return nil
}

// one is a call from INVITE to 200, and until it is over.
func one(ctx context.Context, f *field, t *tenant, number string) (time.Duration, error) {
	all, err := f.place(ctx, 1, 1, func(int) (outgoing, error) { return t.dial(number) })
	if err != nil {
		return 0, err
	}
	took, err := times(all)
	if err != nil {
		return 0, err
	}
	f.hear.collect(all[0])
	return took[0], nil
}

func inMilliseconds(d time.Duration) string { return fmt.Sprintf("%.2f ms", ms(d)) }

// underLoad measures calls that come at a rate: those with a webhook and those with a stored program take turns, so that
// what else the machine does meets both.
func underLoad(ctx context.Context, s webhookSettings, f *field, t *tenant, out sheet) error {
	const soon, little = 5 * time.Millisecond, 200 * time.Microsecond
	asking, stored, err := turns(ctx, f, t, []string{askingNumber, storedNumber}, 5*s.rate, s.rate)
	if err != nil {
		return err
	}
	out.set(fmt.Sprintf("%d calls a second, INVITE → 200: webhook, p50 / p99", s.rate), "p50 < 5 ms", both(asking.took), quantile(asking.took, .5) < soon)
	out.tell(fmt.Sprintf("%d calls a second, INVITE → 200: stored program, p50 / p99", s.rate), both(stored.took))
	out.tell("processor time of the server, a call: stored program → webhook", change(stored.each(len(stored.took)), asking.each(len(asking.took))))
	// Half as many calls a second, each with 20 requests or with one: the difference is that of so many more.
	calls := max(1, s.rate/2)
	many, single, err := turns(ctx, f, t, []string{chainedNumber, singleNumber}, 5*calls, calls)
	if err != nil {
		return err
	}
	further := (many.spent - single.spent) / time.Duration(links*len(many.took))
	out.set(fmt.Sprintf("processor time of the server, a webhook, %d of them a second", calls*(links+1)), "< 0.2 ms", inMilliseconds(further), further < little)
	return nil
}

// spent is what calls took.
type spent struct {
	took  []time.Duration // from INVITE to 200, sorted
	spent time.Duration   // processor time of the server, in all
}

func (s spent) each(n int) time.Duration { return s.spent / time.Duration(max(1, n)) }

// turns calls two numbers in rounds of n calls each, and measures both. Each round lasts as long whichever number it calls,
// so that what the server does without calls is the same.
func turns(ctx context.Context, f *field, t *tenant, numbers []string, n, rate int) (first, second spent, err error) {
	const rounds = 5 // of which one warms up
	var sum [2]spent
	for round := range rounds {
		for turn := range numbers {
			which := (round + turn) % len(numbers) // who went first goes second in the next round
			before, began := f.server.usage(), time.Now()
			all, err := f.place(ctx, n, rate, func(int) (outgoing, error) { return t.dial(numbers[which]) })
			if err != nil {
				return first, second, err
			}
			took, err := times(all)
			if err != nil {
				return first, second, err
			}
			for _, c := range all {
				f.hear.collect(c)
			}
			// With what the server writes down after a call.
			time.Sleep(time.Until(began.Add(time.Duration(n)*time.Second/time.Duration(rate) + 2*time.Second)))
			if round > 0 {
				sum[which].took = append(sum[which].took, took...)
				sum[which].spent += f.server.usage().cpu - before.cpu
			}
		}
	}
	slices.Sort(sum[0].took)
	slices.Sort(sum[1].took)
	return sum[0], sum[1], nil
}
