package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/hookswitch/hookswitch/controlplane/account"
	calls "github.com/hookswitch/hookswitch/controlplane/call"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/number"
	"github.com/hookswitch/hookswitch/webhooks"
)

// apiSettings are the load on the REST API.
type apiSettings struct {
	binary string
	rows   int // calls, and as many numbers
	page   int // rows of a page
	reads  time.Duration
}

// apiPhase measures the REST API of a control plane that holds many rows, on one database.
func apiPhase(ctx context.Context, s apiSettings, name, database string) error {
	fmt.Printf("\nREST API on %s: %d calls and %d numbers\n", name, s.rows, s.rows)
	// The server has one processor to itself, and we the rest: what is counted is what one processor does.
	server, err := startServerOn(ctx, s.binary, 0, database)
	if err != nil {
		return err
	}
	defer server.stop()
	if database == "" {
		database = "sqlite:" + server.dir + "/hookswitch.db"
	}
	began := time.Now()
	ids, err := fill(ctx, database, s.rows)
	if err != nil {
		return fmt.Errorf("fill: %w", err)
	}
	fmt.Printf("  filled           in %s\n", time.Since(began).Round(time.Second))
	for _, list := range []string{"/v1/calls", "/v1/numbers"} {
		if err := pages(ctx, server, s, list); err != nil {
			return err
		}
	}
	return errors.Join(gets(ctx, server, ids), readsPerSecond(ctx, server, s, ids))
}

// fill writes the rows, with the tables' own structs, and lifts the rate limit of the key. It gives the ids of the numbers.
func fill(ctx context.Context, database string, rows int) ([]string, error) {
	d, err := db.Open(ctx, database)
	if err != nil {
		return nil, err
	}
	ids, err := fillRows(ctx, d, rows)
	return ids, errors.Join(err, d.Close())
}

// batch is how many rows one statement writes.
const batch = 500

func fillRows(ctx context.Context, d *db.DB, rows int) ([]string, error) {
	a, found, err := (&account.Service{DB: d}).Named(ctx, "demo")
	if err != nil || !found {
		return nil, errors.Join(err, errors.New("there is no account demo"))
	}
	if _, err := d.Write().NewUpdate().Table("api_keys").Set("rate_per_second = 1000000").Where("kind = 'sk'").Exec(ctx); err != nil {
		return nil, err
	}
	ids := make([]string, 0, rows)
	now := time.Now().UTC()
	for at := 0; at < rows; at += batch {
		numbers, records := make([]number.Number, 0, batch), make([]calls.Call, 0, batch)
		for i := at; i < min(at+batch, rows); i++ {
			when := now.Add(-time.Duration(rows-i) * 100 * time.Millisecond).Truncate(time.Microsecond)
			row := func(prefix string) db.Row {
				id := prefix + "_" + ulid.MustNew(ulid.Timestamp(when), ulid.DefaultEntropy()).String()
				return db.Row{ID: id, AccountID: a.ID, Metadata: map[string]any{}, CreatedAt: when, UpdatedAt: when, Etag: "1"}
			}
			n := number.Number{Row: row("num"), Number: fmt.Sprintf("+8613%09d", i)}
			ids = append(ids, n.ID)
			numbers = append(numbers, n)
			records = append(records, endedCall(row("call"), n.Number, when))
		}
		err := d.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
			if _, err := tx.Write().NewInsert().Model(&numbers).Exec(ctx); err != nil {
				return err
			}
			_, err := tx.Write().NewInsert().Model(&records).Exec(ctx)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	// What a database does by itself in time.
	_, err = d.Write().ExecContext(ctx, "ANALYZE")
	return ids, err
}

func endedCall(row db.Row, from string, when time.Time) calls.Call {
	answered, ended := when.Add(3*time.Second), when.Add(63*time.Second)
	duration, ring, talk := webhooks.Seconds(63), webhooks.Seconds(3), webhooks.Seconds(60)
	return calls.Call{
		Row: row, From: from, To: "+862368925278", Dialed: "02368925278", Direction: webhooks.Inbound, Status: webhooks.StatusCompleted,
		SIPCallID: row.ID, Source: "192.0.2.1", StartedAt: when, AnsweredAt: &answered, EndedAt: &ended,
		Duration: &duration, RingDuration: &ring, TalkDuration: &talk,
		Cause: webhooks.CauseCallerHangup, SIPCode: 200, EndedBy: webhooks.EndedByCaller, Reason: "The caller hung up.", ReasonZH: "主叫挂机。",
		EdgeID: "edge_bench", BootID: "bench", Epoch: 1, EdgeExpects: 1, NextSequence: 1,
	}
}

// pages compares the first page of a list with one far down.
func pages(ctx context.Context, server *server, s apiSettings, list string) error {
	const down = 10_000
	var cursor string
	for skipped := 0; skipped < (down-1)*s.page && skipped < s.rows-2*s.page; {
		step := min(1000, (down-1)*s.page-skipped)
		var page struct {
			NextCursor string `json:"next_cursor"`
		}
		if err := server.do(ctx, http.MethodGet, pagePath(list, step, cursor), "", nil, &page); err != nil {
			return err
		}
		cursor, skipped = page.NextCursor, skipped+step
	}
	for _, at := range []struct {
		name, cursor string
	}{{"page 1", ""}, {"page 10,000", cursor}} {
		times, err := timed(ctx, server, 500, func(int) string { return pagePath(list, s.page, at.cursor) })
		if err != nil {
			return err
		}
		fmt.Printf("  %-16s %-12s p50 %.2f ms, p99 %.2f ms (%d rows a page)\n", list, at.name, ms(quantile(times, .5)), ms(quantile(times, .99)), s.page)
	}
	return nil
}

func pagePath(list string, limit int, cursor string) string {
	path := fmt.Sprintf("%s?limit=%d", list, limit)
	if cursor != "" {
		path += "&cursor=" + url.QueryEscape(cursor)
	}
	return path
}

func gets(ctx context.Context, server *server, ids []string) error {
	times, err := timed(ctx, server, 5000, func(int) string { return "/v1/numbers/" + ids[rand.IntN(len(ids))] })
	if err != nil {
		return err
	}
	fmt.Printf("  get              of a random row: p50 %.2f ms, p99 %.2f ms\n", ms(quantile(times, .5)), ms(quantile(times, .99)))
	return nil
}

// timed sends one request after the other.
func timed(ctx context.Context, server *server, n int, path func(int) string) ([]time.Duration, error) {
	times := make([]time.Duration, 0, n)
	for i := range n + n/10 {
		began := time.Now()
		if err := server.do(ctx, http.MethodGet, path(i), "", nil, nil); err != nil {
			return nil, err
		}
		if i >= n/10 { // the first warm up
			times = append(times, time.Since(began))
		}
	}
	slices.Sort(times)
	return times, nil
}

func quantile(sorted []time.Duration, q float64) time.Duration {
	return sorted[min(int(float64(len(sorted))*q), len(sorted)-1)]
}

// readsPerSecond asks for random rows on several connections.
func readsPerSecond(ctx context.Context, server *server, s apiSettings, ids []string) error {
	const clients = 16
	ctx, cancel := context.WithTimeout(ctx, s.reads)
	defer cancel()
	var done, failed atomic.Int64
	var wait sync.WaitGroup
	before, began := server.usage(), time.Now()
	for range clients {
		wait.Go(func() {
			for ctx.Err() == nil {
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.http+"/v1/numbers/"+ids[rand.IntN(len(ids))], nil)
				if err != nil {
					failed.Add(1)
					return
				}
				req.Header.Set("Authorization", "Bearer "+server.key)
				res, err := client.Do(req)
				if err != nil {
					continue // the end of the time cuts the last ones off
				}
				_, err = io.Copy(io.Discard, res.Body)
				if e := res.Body.Close(); err != nil || e != nil || res.StatusCode != http.StatusOK {
					failed.Add(1)
					continue
				}
				done.Add(1)
			}
		})
	}
	wait.Wait()
	took := time.Since(began)
	spent := server.usage().cpu - before.cpu
	fmt.Printf("  reads            %.0f a second authenticated, %d failed; %.0f a second of the server's processor time\n",
		float64(done.Load())/took.Seconds(), failed.Load(), float64(done.Load())/spent.Seconds())
	return nil
}
