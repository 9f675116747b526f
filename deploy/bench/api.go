package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
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
	rows   int // calls, and as many numbers; and as many numbers that are imported
	page   int // rows of a page
	reads  time.Duration
}

// apiPhases measure the REST API on each database, and print all figures as a table.
func apiPhases(ctx context.Context, s apiSettings, databases []string) error {
	var t table
	var all error
	for _, name := range databases {
		t.columns = append(t.columns, name)
		out := sheet{&t, name}
		var err error
		switch name {
		case sqlite:
			err = apiPhase(ctx, s, nil, out)
		case postgreSQL:
			err = postgresPhase(ctx, s, out)
		}
		if err != nil {
			all = errors.Join(all, fmt.Errorf("%s: %w", name, err))
		}
	}
	t.write(os.Stdout)
	return all
}

// The databases, as the table calls them.
const (
	sqlite     = "SQLite"
	postgreSQL = "PostgreSQL"
)

func postgresPhase(ctx context.Context, s apiSettings, out sheet) error {
	if err := standApart(); err != nil {
		return err
	}
	p, err := startPostgres(ctx)
	if err != nil {
		return err
	}
	defer p.stop()
	return apiPhase(ctx, s, p, out)
}

// apiPhase measures a control plane that holds many rows, in PostgreSQL, or in SQLite when p is nil.
func apiPhase(ctx context.Context, s apiSettings, p *postgres, out sheet) error {
	fmt.Printf("\nREST API on %s: %s calls and as many numbers\n", out.column, thousands(s.rows))
	if err := standApart(); err != nil {
		return err
	}
	given := "" // what the server is told; "" has it make its own
	if p != nil {
		given = p.location(serverUser)
	}
	server, err := startControlPlane(ctx, s.binary, given)
	if err != nil {
		return err
	}
	defer server.stop()
	database := given
	if p == nil {
		database = "sqlite:" + server.dir + "/hookswitch.db"
	}
	began := time.Now()
	f, err := fill(ctx, database, s.rows)
	if err != nil {
		return fmt.Errorf("fill: %w", err)
	}
	fmt.Printf("  filled in %s\n", time.Since(began).Round(time.Second))
	if err := reading(ctx, s, server, p, f, out); err != nil {
		return err
	}
	var others []int
	if p != nil {
		others = append(others, p.process.Process.Pid) // whose connections will be new ones
	}
	if err := standTogether(others...); err != nil {
		return err
	}
	token, err := server.edgeToken(ctx, s.binary, given)
	if err != nil {
		return err
	}
	if err := server.restartControlPlane(ctx, s.binary, given); err != nil {
		return err
	}
	if err := delivering(ctx, server, token, f.account, out); err != nil {
		return err
	}
	return importing(ctx, server, s.rows, out)
}

// reading is what is measured with the server on a processor of its own.
func reading(ctx context.Context, s apiSettings, server *server, p *postgres, f filled, out sheet) error {
	for _, list := range []string{"calls", "numbers"} {
		if err := pages(ctx, server, s, list, out); err != nil {
			return err
		}
	}
	if err := gets(ctx, server, f, out); err != nil {
		return err
	}
	if err := readsPerSecond(ctx, server, s, f, out); err != nil {
		return err
	}
	if p == nil {
		return nil
	}
	return rowSecurity(ctx, p, server, s.binary, f, out)
}

// filled is what a database was filled with.
type filled struct {
	account string   // whose it is
	numbers []string // ids
}

// fill writes the rows, with the tables' own structs, and lifts the rate limit of the key.
func fill(ctx context.Context, database string, rows int) (filled, error) {
	d, err := db.Open(ctx, database)
	if err != nil {
		return filled{}, err
	}
	f, err := fillRows(ctx, d, rows)
	return f, errors.Join(err, d.Close())
}

// batch is how many rows one statement writes.
const batch = 500

func fillRows(ctx context.Context, d *db.DB, rows int) (filled, error) {
	a, found, err := (&account.Service{DB: d}).Named(ctx, "demo")
	if err != nil || !found {
		return filled{}, errors.Join(err, errors.New("there is no account demo"))
	}
	if _, err := d.Write().NewUpdate().Table("api_keys").Set("rate_per_second = 1000000").Where("kind = 'sk'").Exec(ctx); err != nil {
		return filled{}, err
	}
	f := filled{account: a.ID, numbers: make([]string, 0, rows)}
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
			f.numbers = append(f.numbers, n.ID)
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
			return filled{}, err
		}
	}
	// What a database does by itself in time.
	_, err = d.Write().ExecContext(ctx, "ANALYZE")
	return f, err
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

// pages compares the first page of a list with the 10,000th, or with the last where there are fewer. The way to that
// page's cursor is walked, as nothing else leads there: a cursor is what the row before it says. It is walked in the largest
// pages, since a cursor knows nothing of their size.
func pages(ctx context.Context, server *server, s apiSettings, list string, out sheet) error {
	const mark = .2
	down := min(10_000, s.rows/s.page)
	cursor := ""
	for left := (down - 1) * s.page; left > 0; {
		step := min(1000, left)
		var page struct {
			NextCursor string `json:"next_cursor"`
		}
		if err := server.do(ctx, http.MethodGet, pagePath(list, step, cursor), "", nil, &page); err != nil {
			return err
		}
		if page.NextCursor == "" {
			return fmt.Errorf("the list of %s ends %d rows before page %d", list, left, down)
		}
		cursor, left = page.NextCursor, left-step
	}
	// The two take turns, so that what else the machine does meets both.
	var times [2][]time.Duration
	for i := range 2 * 550 {
		began := time.Now()
		if err := server.do(ctx, http.MethodGet, pagePath(list, s.page, []string{"", cursor}[i%2]), "", nil, nil); err != nil {
			return err
		}
		if i >= 100 { // the first warm up
			times[i%2] = append(times[i%2], time.Since(began))
		}
	}
	slices.Sort(times[0])
	slices.Sort(times[1])
	apart := float64(quantile(times[1], .5))/float64(quantile(times[0], .5)) - 1
	out.tell(fmt.Sprintf("%s, a page of %d: page 1, p50 / p99", list, s.page), both(times[0]))
	out.set(fmt.Sprintf("%s, a page of %d: page %s, p50 / p99", list, s.page, thousands(down)), "p50 within 20 % of page 1's",
		fmt.Sprintf("%s (%+.0f %%)", both(times[1]), 100*apart), math.Abs(apart) <= mark)
	return nil
}

func pagePath(list string, limit int, cursor string) string {
	path := fmt.Sprintf("/v1/%s?limit=%d", list, limit)
	if cursor != "" {
		path += "&cursor=" + url.QueryEscape(cursor)
	}
	return path
}

func gets(ctx context.Context, server *server, f filled, out sheet) error {
	const mark = 10 * time.Millisecond
	times, err := timed(ctx, server, 5000, func(int) string { return "/v1/numbers/" + f.numbers[rand.IntN(len(f.numbers))] })
	if err != nil {
		return err
	}
	out.set("get of a random number: p50 / p99", "p99 < 10 ms", both(times), quantile(times, .99) < mark)
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

// readsPerSecond asks for random rows on several connections.
func readsPerSecond(ctx context.Context, server *server, s apiSettings, f filled, out sheet) error {
	const clients, mark = 16, 3000
	ctx, cancel := context.WithTimeout(ctx, s.reads)
	defer cancel()
	var done, failed atomic.Int64
	var wait sync.WaitGroup
	before, began := server.usage(), time.Now()
	for range clients {
		wait.Go(func() {
			for ctx.Err() == nil {
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.http+"/v1/numbers/"+f.numbers[rand.IntN(len(f.numbers))], nil)
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
	perSecond := float64(done.Load()) / took.Seconds()
	out.set("authenticated reads a second, the server on one processor", "≥ 3,000", thousands(int(perSecond)), perSecond >= mark)
	out.tell("reads a second of the server's processor time", thousands(int(float64(done.Load())/spent.Seconds())))
	if n := failed.Load(); n > 0 {
		return fmt.Errorf("%d of %d reads failed", n, n+done.Load())
	}
	return nil
}
