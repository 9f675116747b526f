package job_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/blob"
	"github.com/hookswitch/hookswitch/controlplane/bus"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/event"
	"github.com/hookswitch/hookswitch/controlplane/job"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
	"github.com/hookswitch/hookswitch/openapi"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("database/sql.(*DB).connectionOpener"))
}

var specification = sync.OnceValues(openapi.Load)

// fixture is a job service behind the REST API.
type fixture struct {
	*resttest.Server
	jobs *job.Service
}

func newFixture(t *testing.T, d *db.DB) *fixture {
	t.Helper()
	spec, err := specification()
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{jobs: service(t, d)}
	f.Server = resttest.Mount(t, d, spec, f.jobs.Operations())
	return f
}

// service makes a service that looks often and forgets soon.
func service(t *testing.T, d *db.DB) *job.Service {
	t.Helper()
	b, err := bus.Open(t.Context(), "memory:")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	blobs, err := blob.Open(t.Context(), "file:"+t.TempDir(), blob.Options{BaseURL: "http://pbx.test", Secret: bytes.Repeat([]byte{7}, 32)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = blobs.Close() })
	return &job.Service{
		DB: d, Bus: b, Blobs: blobs, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
		Poll: 20 * time.Millisecond, Lease: 2 * time.Second, Backoff: 10 * time.Millisecond,
	}
}

func (f *fixture) start(t *testing.T, kind string, input any) string {
	t.Helper()
	return start(t, f.jobs, resttest.Caller(), kind, input)
}

func start(t *testing.T, s *job.Service, who auth.Caller, kind string, input any) string {
	t.Helper()
	var id string
	err := s.DB.InTx(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		j, err := s.Start(ctx, tx, who, kind, input)
		if err == nil {
			id = j.ID
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Wake(t.Context())
	return id
}

// run runs a service's worker until the returned function is called.
func run(t *testing.T, s *job.Service) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func read(t *testing.T, d *db.DB, id string) job.Job {
	t.Helper()
	j, err := db.Get[job.Job](t.Context(), d, auth.Everywhere(), id)
	if err != nil {
		t.Fatal(err)
	}
	return *j
}

// until waits for a condition.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.NewTimer(3 * time.Minute)
	defer deadline.Stop()
	for !holds() {
		select {
		case <-deadline.C:
			t.Fatalf("never came: %s", what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func ended(t *testing.T, d *db.DB, id string) job.Job {
	t.Helper()
	until(t, "the end of "+id, func() bool { return read(t, d, id).Status.Ended() })
	return read(t, d, id)
}

func nothing(context.Context, *job.Run) error { return nil }

// databases give the URL of a fresh database, by its kind.
func databases() map[string]func(t *testing.T) string {
	return map[string]func(t *testing.T) string{"sqlite": dbtest.SQLiteURL, "postgres": dbtest.PostgresURL}
}

func TestEveryOperation(t *testing.T) {
	for name, location := range databases() {
		t.Run(name, func(t *testing.T) {
			var last *fixture
			resttest.Run(t, func(t *testing.T) *resttest.Server {
				last = newFixture(t, dbtest.Open(t, location(t)))
				last.jobs.Handle("test", nothing)
				return last.Server
			}, resttest.Suite{
				Objects: func(t *testing.T, _ *resttest.Server) map[string]string {
					id := last.start(t, "test", struct{}{})
					if err := last.jobs.Blobs.Put(t.Context(), "jobs/errors.csv", strings.NewReader("x"), 1); err != nil {
						t.Fatal(err)
					}
					if _, err := last.DB.Write().NewRaw("UPDATE jobs SET errors_key = 'jobs/errors.csv' WHERE id = ?", id).Exec(t.Context()); err != nil {
						t.Fatal(err)
					}
					return map[string]string{"job_id": id}
				},
			})
		})
	}
}

func TestAJobRunsOnceAndTellsHowFarItIs(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := newFixture(t, d)
		goOn := make(chan struct{})
		f.jobs.Handle("count", func(ctx context.Context, r *job.Run) error {
			var in struct {
				To int64 `json:"to"`
			}
			if err := r.Input(&in); err != nil {
				return err
			}
			if r.AccountID() != resttest.Account || r.Caller().KeyID != resttest.Caller().KeyID || !r.Caller().Can("calls.read") {
				return problem.Refused("another caller")
			}
			r.Progress(in.To/2, in.To)
			select {
			case <-goOn:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			r.Progress(in.To, in.To)
			r.Result(map[string]any{"counted": in.To})
			return nil
		})
		id := f.start(t, "count", map[string]int{"to": 10})
		run(t, f.jobs)
		until(t, "progress", func() bool { return read(t, d, id).Progress == job.Progress{Done: 5, Total: 10} })
		close(goOn)
		j := ended(t, d, id)
		if j.Status != job.Succeeded || j.Progress.Done != 10 || fmt.Sprint(j.Result["counted"]) != "10" || j.FinishedAt == nil || j.StartedAt == nil {
			t.Errorf("%+v", j)
		}
		var told []event.Event
		if err := db.Select[event.Event](d, auth.Account(resttest.Account)).Where("type = 'job.updated'").OrderExpr("id").Scan(t.Context(), &told); err != nil {
			t.Fatal(err)
		}
		var seen []string
		for _, e := range told {
			var data job.Job
			if err := json.Unmarshal(e.Data, &data); err != nil || e.ObjectID != id || e.Resource != "jobs" {
				t.Fatalf("%+v %v", e, err)
			}
			seen = append(seen, fmt.Sprintf("%s %d", data.Status, data.Progress.Done))
		}
		if want := []string{"queued 0", "running 0", "running 5", "succeeded 10"}; !slices.Equal(seen, want) {
			t.Errorf("events tell %q, want %q", seen, want)
		}
	})
}

func TestWhatFailsIsTriedAgainOrNot(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := newFixture(t, d)
		f.jobs.MaxFailures = 4
		var endings sync.Map
		for kind, c := range map[string]struct {
			fails   int64 // runs that fail before one does not
			with    error
			status  job.Status
			runs    int64
			failure string
		}{
			"passing":  {2, errors.New("storage is away"), job.Succeeded, 3, ""},
			"away":     {2, problem.Unavailable("away", time.Second), job.Succeeded, 3, ""},
			"lasting":  {99, errors.New("storage is away"), job.Failed, 4, "several tries"},
			"refused":  {99, problem.Refused("the file has no heading"), job.Failed, 1, "no heading"},
			"panicked": {99, nil, job.Failed, 4, "several tries"},
		} {
			t.Run(kind, func(t *testing.T) {
				var runs atomic.Int64
				f.jobs.Handle(kind, func(context.Context, *job.Run) error {
					if runs.Add(1) > c.fails {
						return nil
					}
					if c.with == nil {
						panic("broken")
					}
					return c.with
				})
				f.jobs.Ended(kind, func(_ context.Context, _ *db.Tx, j *job.Job) error {
					endings.Store(j.ID, j.Status)
					return nil
				})
				stop := run(t, f.jobs)
				j := ended(t, d, f.start(t, kind, struct{}{}))
				stop()
				if j.Status != c.status || runs.Load() != c.runs || !strings.Contains(j.Failure, c.failure) {
					t.Errorf("%s after %d runs: %q", j.Status, runs.Load(), j.Failure)
				}
				if told, _ := endings.Load(j.ID); told != c.status {
					t.Errorf("Ended was told %v", told)
				}
			})
		}
	})
}

func TestCancelStopsWhatWaitsAndWhatRuns(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := newFixture(t, d)
		cause := make(chan error, 1)
		f.jobs.Handle("long", func(ctx context.Context, r *job.Run) error {
			<-ctx.Done()
			cause <- context.Cause(ctx)
			if err := r.InTx(context.WithoutCancel(ctx), func(context.Context, *db.Tx) error { return nil }); !errors.Is(err, job.ErrCanceled) {
				t.Errorf("a canceled job can still write: %v", err)
			}
			return context.Cause(ctx)
		})
		var endings atomic.Int64
		f.jobs.Ended("long", func(context.Context, *db.Tx, *job.Job) error {
			endings.Add(1)
			return nil
		})
		cancel := func(id string, status int) {
			t.Helper()
			resttest.Want(t, f.Do(t, resttest.Token, http.MethodPost, "/v1/jobs/"+id+"/cancel", nil), status, nil)
		}
		waiting := f.start(t, "long", struct{}{})
		cancel(waiting, http.StatusOK)
		if j := read(t, d, waiting); j.Status != job.Canceled || j.FinishedAt == nil {
			t.Errorf("%+v", j)
		}
		cancel(waiting, http.StatusConflict)

		running := f.start(t, "long", struct{}{})
		run(t, f.jobs)
		until(t, "the run", func() bool { return read(t, d, running).Status == job.Running })
		cancel(running, http.StatusOK)
		if err := <-cause; !errors.Is(err, job.ErrCanceled) {
			t.Errorf("the run ended for %v", err)
		}
		if j := ended(t, d, running); j.Status != job.Canceled || endings.Load() != 2 {
			t.Errorf("%+v, %d endings", j, endings.Load())
		}
	})
}

func TestALostClaimCommitsNothing(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := newFixture(t, d)
		results := make(chan error, 2)
		var runs atomic.Int64
		f.jobs.Handle("contested", func(ctx context.Context, r *job.Run) error {
			if runs.Add(1) > 1 {
				return nil
			}
			write := func(value string) error {
				return r.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
					_, err := tx.Write().NewRaw("INSERT INTO secrets (name, value, created_at) VALUES (?, 'x', ?)", value, db.Now()).Exec(ctx)
					return err
				})
			}
			results <- write("before")
			// Another process has claimed the job.
			if _, err := d.Write().NewRaw("UPDATE jobs SET token = token + 1, available_at = ? WHERE id = ?", db.Now(), r.ID()).Exec(ctx); err != nil {
				return err
			}
			results <- write("after")
			if !errors.Is(context.Cause(ctx), job.ErrLost) {
				return fmt.Errorf("the context ended for %w", context.Cause(ctx))
			}
			return nil
		})
		id := f.start(t, "contested", struct{}{})
		run(t, f.jobs)
		if err := <-results; err != nil {
			t.Error(err)
		}
		if err := <-results; !errors.Is(err, job.ErrLost) {
			t.Errorf("wrote: %v", err)
		}
		if j := ended(t, d, id); j.Status != job.Succeeded || runs.Load() != 2 {
			t.Errorf("%s after %d runs", j.Status, runs.Load())
		}
		var names []string
		if err := d.Read().NewRaw("SELECT name FROM secrets WHERE value = 'x'").Scan(t.Context(), &names); err != nil || !slices.Equal(names, []string{"before"}) {
			t.Errorf("there is %q, %v", names, err)
		}
	})
}

func TestStoppingGivesAJobBack(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := newFixture(t, d)
		var last atomic.Int64
		f.jobs.Handle("steps", func(ctx context.Context, r *job.Run) error {
			var at struct {
				Step int64 `json:"step"`
			}
			if _, err := r.Checkpoint(&at); err != nil {
				return err
			}
			last.Store(at.Step)
			if at.Step == 1 {
				return nil
			}
			at.Step++
			if err := r.InTx(ctx, func(ctx context.Context, tx *db.Tx) error { return r.Save(ctx, tx, at) }); err != nil {
				return err
			}
			<-ctx.Done()
			return ctx.Err()
		})
		id := f.start(t, "steps", struct{}{})
		stop := run(t, f.jobs)
		until(t, "the checkpoint", func() bool { return len(read(t, d, id).Checkpoint) > 0 })
		stop()
		if j := read(t, d, id); j.Status != job.Queued || j.Attempts != 0 || j.Failures != 0 {
			t.Errorf("%+v", j)
		}
		run(t, f.jobs)
		if j := ended(t, d, id); j.Status != job.Succeeded || last.Load() != 1 {
			t.Errorf("%s from step %d", j.Status, last.Load())
		}
	})
}

func TestNoAccountHoldsBackAnother(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := newFixture(t, d)
		f.jobs.Parallel, f.jobs.PerAccount = 3, 2
		var mu sync.Mutex
		now, most := map[string]int{}, map[string]int{}
		var order []string
		release := make(chan struct{})
		f.jobs.Handle("slow", func(ctx context.Context, r *job.Run) error {
			mu.Lock()
			order = append(order, r.AccountID())
			now[r.AccountID()]++
			most[r.AccountID()] = max(most[r.AccountID()], now[r.AccountID()])
			mu.Unlock()
			select {
			case <-release:
			case <-ctx.Done():
			}
			mu.Lock()
			defer mu.Unlock()
			now[r.AccountID()]--
			return nil
		})
		var ids []string
		for range 6 {
			ids = append(ids, f.start(t, "slow", struct{}{}))
		}
		other := resttest.Caller()
		other.AccountID, other.Scope = resttest.OtherAccount, auth.Account(resttest.OtherAccount)
		ids = append(ids, start(t, f.jobs, other, "slow", struct{}{}))
		run(t, f.jobs)
		until(t, "three at once", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(order) == 3
		})
		close(release)
		for _, id := range ids {
			ended(t, d, id)
		}
		mu.Lock()
		defer mu.Unlock()
		if most[resttest.Account] != 2 || !slices.Contains(order[:2], resttest.OtherAccount) {
			t.Errorf("order %q, at most %v at once", order, most)
		}
	})
}

func TestOldJobsAreForgotten(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := newFixture(t, d)
		f.jobs.Handle("done", nothing)
		old, fresh, waiting := f.start(t, "done", struct{}{}), f.start(t, "done", struct{}{}), ""
		stop := run(t, f.jobs)
		ended(t, d, old)
		ended(t, d, fresh)
		stop()
		waiting = f.start(t, "done", struct{}{})
		if err := f.jobs.Blobs.Put(t.Context(), "jobs/old.csv", strings.NewReader("x"), 1); err != nil {
			t.Fatal(err)
		}
		long := db.Now().Add(-31 * 24 * time.Hour)
		for _, change := range []struct{ id, set string }{{old, "errors_key = 'jobs/old.csv', finished_at"}, {waiting, "created_at"}} {
			if _, err := d.Write().NewRaw("UPDATE jobs SET "+change.set+" = ? WHERE id = ?", long, change.id).Exec(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.jobs.Purge(t.Context()); err != nil {
			t.Fatal(err)
		}
		left, err := db.List[job.Job](t.Context(), d, auth.Everywhere())
		if err != nil || len(left) != 2 || left[0].ID == old || left[1].ID == old {
			t.Errorf("left: %+v %v", left, err)
		}
		if _, err := f.jobs.Blobs.Stat(t.Context(), "jobs/old.csv"); !errors.Is(err, blob.ErrNotFound) {
			t.Errorf("the errors file: %v", err)
		}
	})
}

func TestTheCallersRightsAreThoseOfNow(t *testing.T) {
	d := dbtest.Open(t, dbtest.SQLiteURL(t))
	f := newFixture(t, d)
	f.jobs.Callers = func(_ context.Context, who auth.Caller) (auth.Caller, error) {
		if who.KeyID == "key_gone" {
			return who, problem.Refused("the key that started this is gone")
		}
		who.Mask = auth.Mask{Numbers: true}
		return who, nil
	}
	f.jobs.Handle("test", func(_ context.Context, r *job.Run) error {
		if !r.Caller().Mask.Numbers {
			return problem.Refused("not masked")
		}
		return nil
	})
	run(t, f.jobs)
	if j := ended(t, d, f.start(t, "test", struct{}{})); j.Status != job.Succeeded {
		t.Errorf("%+v", j)
	}
	gone := resttest.Caller()
	gone.KeyID = "key_gone"
	if j := ended(t, d, start(t, f.jobs, gone, "test", struct{}{})); j.Status != job.Failed || !strings.Contains(j.Failure, "is gone") {
		t.Errorf("%+v", j)
	}
}

// Two workers at a time work on one job, each with a database of its own, whose connections are cut at any moment:
// as after kill -9, what was not committed is gone and nobody says good-bye.
func TestKilledWorkersLoseAndDoubleNothing(t *testing.T) {
	for name, location := range databases() {
		t.Run(name, func(t *testing.T) {
			url := location(t)
			d := dbtest.Open(t, url)
			f := newFixture(t, d)
			if _, err := d.Write().NewRaw("CREATE TABLE steps (job_id text NOT NULL, n bigint NOT NULL)").Exec(t.Context()); err != nil {
				t.Fatal(err)
			}
			f.jobs.Handle("steps", nothing)
			const jobs, steps = 3, 60
			var ids []string
			for range jobs {
				ids = append(ids, f.start(t, "steps", struct{}{}))
			}
			var workers sync.WaitGroup
			stop := make(chan struct{})
			var kills atomic.Int64
			for range 2 {
				workers.Go(func() {
					for {
						select {
						case <-stop:
							return
						default:
						}
						live(t, url, time.Duration(rand.Int64N(int64(400*time.Millisecond))), steps)
						kills.Add(1)
					}
				})
			}
			for _, id := range ids {
				if j := ended(t, d, id); j.Status != job.Succeeded {
					t.Errorf("%+v", j)
				}
			}
			close(stop)
			workers.Wait()
			for _, id := range ids {
				var done []int
				if err := d.Read().NewRaw("SELECT n FROM steps WHERE job_id = ? ORDER BY n", id).Scan(t.Context(), &done); err != nil {
					t.Fatal(err)
				}
				want := make([]int, steps)
				for i := range want {
					want[i] = i + 1
				}
				if !slices.Equal(done, want) {
					t.Errorf("%d steps: %v", len(done), done)
				}
			}
			t.Logf("killed %d times", kills.Load())
		})
	}
}

// live is the life of one process, until its end by force.
func live(t *testing.T, url string, life time.Duration, steps int) {
	d, err := db.Open(context.Background(), url)
	if err != nil {
		t.Error(err)
		return
	}
	s := service(t, d)
	s.Lease, s.MaxFailures = 300*time.Millisecond, 1000
	s.Handle("steps", func(ctx context.Context, r *job.Run) error {
		var at struct {
			Step int `json:"step"`
		}
		if _, err := r.Checkpoint(&at); err != nil {
			return err
		}
		for at.Step < steps {
			at.Step++
			err := r.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
				if _, err := tx.Write().NewRaw("INSERT INTO steps (job_id, n) VALUES (?, ?)", r.ID(), at.Step).Exec(ctx); err != nil {
					return err
				}
				return r.Save(ctx, tx, at)
			})
			if err != nil {
				return err
			}
			select {
			case <-time.After(time.Duration(rand.Int64N(int64(10 * time.Millisecond)))):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	<-time.After(life)
	_ = d.Close() // the queries in progress fail: that is the point
	cancel()
	<-done
}

func TestManyJobsAreListedAndSearched(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := newFixture(t, d)
		f.jobs.Handle("a", nothing)
		f.jobs.Handle("b", nothing)
		for _, kind := range []string{"a", "b", "a"} {
			f.start(t, kind, struct{}{})
		}
		var page struct{ Data []job.Job }
		resttest.Want(t, f.Do(t, resttest.Token, http.MethodGet, "/v1/jobs?kind=a&status=queued", nil), http.StatusOK, &page)
		if len(page.Data) != 2 {
			t.Errorf("%d of kind a", len(page.Data))
		}
		resttest.Want(t, f.Do(t, resttest.Token, http.MethodPost, "/v1/jobs/search", `{"filter":{"kind":{"in":["b"]}}}`), http.StatusOK, &page)
		if len(page.Data) != 1 {
			t.Errorf("%d of kind b", len(page.Data))
		}
	})
}
