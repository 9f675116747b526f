package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
)

// store is a database or a bus that a test kills and starts again.
type store struct {
	url   string
	serve func() *process
	up    func(context.Context) error
	now   *process
}

// start returns when the store answers.
func (s *store) start(t *testing.T) {
	t.Helper()
	s.now = s.serve()
	eventually(t, time.Minute, func() string {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := s.up(ctx); err != nil {
			return err.Error()
		}
		return ""
	})
}

// ownPostgres is a PostgreSQL of this test alone, durable as Debian installs it.
func ownPostgres(t *testing.T) *store {
	t.Helper()
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(found) == 0 {
		t.Fatalf("PostgreSQL is missing: install the Debian package postgresql (apt-get install postgresql): %v", err)
	}
	slices.Sort(found)
	programs := filepath.Dir(found[len(found)-1])
	folder, err := os.MkdirTemp("", "pg") // not t.TempDir: a socket's path may have 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(folder); err != nil {
			t.Error(err)
		}
	})
	var as []string
	if os.Geteuid() == 0 { // as whom PostgreSQL refuses to run
		u, err := user.Lookup("postgres")
		if err != nil {
			t.Fatal(err)
		}
		uid, err1 := strconv.Atoi(u.Uid)
		gid, err2 := strconv.Atoi(u.Gid)
		if err := errors.Join(err1, err2, os.Chown(folder, uid, gid)); err != nil {
			t.Fatal(err)
		}
		as = []string{program(t, "setpriv"), "--reuid", u.Uid, "--regid", u.Gid, "--clear-groups"}
	}
	data := filepath.Join(folder, "data")
	initdb := slices.Concat(as, []string{filepath.Join(programs, "initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C"})
	cmd := exec.CommandContext(t.Context(), initdb[0], initdb[1:]...)
	cmd.Dir = folder
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, text)
	}
	serve := slices.Concat(as, []string{filepath.Join(programs, "postgres"), "-D", data, "-k", folder, "-c", "listen_addresses="})
	s := &store{url: "postgres://postgres@/postgres?host=" + url.QueryEscape(folder)}
	s.serve = func() *process { return start(t, "postgres", folder, nil, serve[0], serve[1:]...) }
	s.up = func(ctx context.Context) error {
		c, err := pgx.Connect(ctx, s.url)
		if err != nil {
			return err
		}
		return c.Close(ctx)
	}
	return s
}

// ownRedis is a Redis of this test alone. What it holds is gone with it, as by default.
func ownRedis(t *testing.T) *store {
	t.Helper()
	address, dir := fmt.Sprintf("127.0.0.1:%d", freePort(t)), t.TempDir()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	s := &store{url: "redis://" + address + "/0"}
	s.serve = func() *process {
		return start(t, "redis", dir, nil, program(t, "redis-server"), "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", dir)
	}
	s.up = func(ctx context.Context) error {
		c := redis.NewClient(&redis.Options{Addr: address})
		return errors.Join(c.Ping(ctx).Err(), c.Close())
	}
	return s
}

// kill ends a store as a power cut would, and all of its processes.
func (s *store) kill(t *testing.T) {
	t.Helper()
	s.now.signal(syscall.SIGKILL)
	<-s.now.gone
}

// tally is what a load was answered.
type tally struct {
	ok, away, wrong atomic.Int64
	mu              sync.Mutex
	first           string // of what was wrong
	made            []string
}

// load asks and writes until ctx ends. Nothing but an answer, and 503 with Retry-After, is right.
func (d *deployment) load(ctx context.Context, t *testing.T, n *tally, wait *sync.WaitGroup) {
	for worker := range 4 {
		wait.Go(func() {
			pace := time.NewTicker(10 * time.Millisecond)
			defer pace.Stop()
			for i := 0; ctx.Err() == nil; i++ {
				if worker%2 == 0 {
					n.count(d.ask(t, http.MethodGet, "/v1/numbers?limit=5", nil, nil), "")
				} else {
					number := fmt.Sprintf("+86230%d%06d", worker, i)
					n.count(d.ask(t, http.MethodPost, "/v1/numbers", object{"number": number}, nil), number)
				}
				<-pace.C // one that does not wait at all would only show how fast we refuse
			}
		})
	}
}

func (n *tally) count(a answer, made string) {
	switch {
	case a.status == http.StatusOK, a.status == http.StatusCreated:
		n.ok.Add(1)
		if made != "" {
			n.mu.Lock()
			n.made = append(n.made, made)
			n.mu.Unlock()
		}
	case a.status == http.StatusServiceUnavailable && a.header.Get("Retry-After") != "":
		n.away.Add(1)
	case a.status == http.StatusTooManyRequests:
	case a.status == http.StatusConflict && made != "":
		// Written, though the database went away before it could say so.
	default:
		n.wrong.Add(1)
		n.mu.Lock()
		if n.first == "" {
			n.first = fmt.Sprintf("%d: %s", a.status, a.body)
		}
		n.mu.Unlock()
	}
}

// A database and a bus that are killed and come back are no reason to restart anything, or to lose what was acknowledged.
func TestStoresThatAreKilledAndComeBack(t *testing.T) {
	t.Parallel()
	database, bus := ownPostgres(t), ownRedis(t)
	database.start(t)
	bus.start(t)
	d := &deployment{t: t, kind: apart, url: fmt.Sprintf("http://127.0.0.1:%d", freePort(t)), data: filepath.Join(t.TempDir(), "data")}
	arguments := []string{
		hookswitch, "controlplane", "--http", d.listens(), "--data", d.data, "--database", database.url, "--bus", bus.url,
		"--blobs", "file:" + filepath.Join(d.data, "blobs"), "--edges", fmt.Sprintf("127.0.0.1:%d", freePort(t)),
	}
	d.control = d.run("controlplane", arguments)
	d.edge = d.control
	d.readCredentials()
	d.answers("/readyz")
	t.Cleanup(d.stop)
	var n tally
	var wait sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	d.load(ctx, t, &n, &wait)
	for _, s := range []*store{database, bus, database, bus} {
		before := n.ok.Load()
		eventually(t, time.Minute, func() string { return atLeast(n.ok.Load()-before, 20) })
		s.kill(t)
		at := n.away.Load() + n.ok.Load()
		eventually(t, time.Minute, func() string { return atLeast(n.away.Load()+n.ok.Load()-at, 20) })
		s.start(t)
		d.answers("/readyz")
		before = n.ok.Load()
		eventually(t, time.Minute, func() string { return atLeast(n.ok.Load()-before, 20) })
	}
	stop()
	wait.Wait()
	if n.wrong.Load() > 0 {
		t.Errorf("%d answers were neither right nor 503 with Retry-After, the first %s", n.wrong.Load(), n.first)
	}
	if n.away.Load() == 0 {
		t.Error("nothing was ever away: the stores were not killed")
	}
	for _, number := range n.made {
		var page struct{ Data []json.RawMessage }
		eventually(t, time.Minute, func() string {
			a := d.ask(t, http.MethodGet, "/v1/numbers?number="+url.QueryEscape(number), nil, nil)
			if a.status != http.StatusOK { // the key's rate
				return string(a.body)
			}
			if err := json.Unmarshal(a.body, &page); err != nil {
				return err.Error()
			}
			return ""
		})
		if len(page.Data) != 1 {
			t.Fatalf("%s was acknowledged and is there %d times", number, len(page.Data))
		}
	}
}

func atLeast(n, want int64) string {
	if n < want {
		return fmt.Sprintf("%d of %d", n, want)
	}
	return ""
}
