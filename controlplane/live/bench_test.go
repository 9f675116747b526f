package live_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/bus"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/event"
	"github.com/hookswitch/hookswitch/controlplane/live"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest"
	"github.com/hookswitch/hookswitch/openapi"
)

const (
	benchReaders  = 5000
	benchAccounts = 50
)

// readersOf tells this test binary to be the readers' machine: the address of the server.
const readersOf = "HOOKSWITCH_TEST_READERS_OF"

// readAlong opens benchReaders streams and says on its standard output how many events they have got in all, each time
// it is asked with a line.
func readAlong(address string) error {
	var got atomic.Int64
	var opened sync.WaitGroup
	tokens := make(chan struct{}, 100) // connections being opened
	for i := range benchReaders {
		tokens <- struct{}{}
		opened.Add(1)
		go func() {
			defer func() { <-tokens }()
			conn, err := net.Dial("tcp", address)
			if err == nil {
				_, err = fmt.Fprintf(conn, "GET /v1/events/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %d\r\n\r\n", i)
			}
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			first := make([]byte, 4096)
			n, err := conn.Read(first)
			if err != nil || !bytes.Contains(first[:n], []byte(" 200 ")) {
				fmt.Fprintln(os.Stderr, string(first[:n]), err)
				os.Exit(1)
			}
			opened.Done()
			go read(conn, &got)
		}()
	}
	opened.Wait()
	if _, err := os.Stdout.WriteString("open\n"); err != nil {
		return err
	}
	asked := bufio.NewScanner(os.Stdin)
	for asked.Scan() {
		if _, err := fmt.Fprintln(os.Stdout, got.Load()); err != nil {
			return err
		}
	}
	return asked.Err()
}

func read(conn io.Reader, got *atomic.Int64) {
	buffer := make([]byte, 2048)
	for {
		n, err := conn.Read(buffer)
		if err != nil {
			return
		}
		got.Add(int64(bytes.Count(buffer[:n], []byte("\ndata:"))))
	}
}

// usage is what this process has used so far: CPU, and resident memory in bytes.
func usage(b *testing.B) (cpu time.Duration, resident int64) {
	b.Helper()
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Fatal(err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(text))[1], 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano()), pages * int64(os.Getpagesize())
}

// BenchmarkReaders has 5,000 readers of 50 accounts, in another process, and tells 100 events a second, each to 100 of
// them; every reader has a credential of its own, which is checked every five seconds. Use -benchtime=1000x for ten
// seconds. It gives the resident memory of one reader, the CPU of one event at one reader, and of a core while nothing
// happens.
func BenchmarkReaders(b *testing.B) {
	d, err := db.Open(b.Context(), "sqlite:"+filepath.Join(b.TempDir(), "bench.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer closing(b, d)
	memory, err := bus.Open(b.Context(), "memory:")
	if err != nil {
		b.Fatal(err)
	}
	defer closing(b, memory)
	for i := range benchAccounts {
		_, err := d.Write().NewRaw(`INSERT INTO accounts (id, account_id, metadata, created_at, updated_at, etag, name, default_country, limits)
			VALUES (?0, ?0, '{}', ?1, ?1, '1', ?0, 'CN', '{}')`, fmt.Sprint("acc_", i), db.Now()).Exec(b.Context())
		if err != nil {
			b.Fatal(err)
		}
	}
	log := slog.New(slog.DiscardHandler)
	feed := event.NewFeed(d, memory, log)
	s, err := live.New(live.Config{Feed: feed, Log: log, Check: func(_ context.Context, who auth.Caller) (auth.Caller, error) { return who, nil }})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = feed.Run(ctx) })
	running.Go(func() { _ = s.Run(ctx) })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server := &http.Server{Handler: handler(b, d, memory, s)}
	running.Go(func() { _ = server.Serve(l) })
	_, empty := usage(b)

	readers := exec.Command(os.Args[0])
	readers.Env = append(os.Environ(), readersOf+"="+l.Addr().String())
	readers.Stderr = os.Stderr
	ask, err := readers.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := readers.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := readers.Start(); err != nil {
		b.Fatal(err)
	}
	answers := bufio.NewScanner(out)
	if !answers.Scan() {
		b.Fatal("the readers did not come")
	}
	idleFrom, full := usage(b)
	begun := time.Now()
	<-time.After(10 * time.Second)
	idleTo, _ := usage(b)
	idle := 100 * (idleTo - idleFrom).Seconds() / time.Since(begun).Seconds()

	cpuFrom, _ := usage(b)
	b.ResetTimer()
	tick := time.NewTicker(10 * time.Millisecond)
	for i := range b.N {
		<-tick.C
		e := numbered(fmt.Sprint("acc_", i%benchAccounts), i)
		if err := d.InTx(ctx, func(ctx context.Context, tx *db.Tx) error { return event.Emit(ctx, tx, e) }); err != nil {
			b.Fatal(err)
		}
		feed.Wake()
	}
	tick.Stop()
	for got := 0; got < b.N*benchReaders/benchAccounts; {
		if _, err := io.WriteString(ask, "\n"); err != nil || !answers.Scan() {
			b.Fatal("the readers have gone", err)
		}
		if got, err = strconv.Atoi(answers.Text()); err != nil {
			b.Fatal(err)
		}
		<-time.After(10 * time.Millisecond)
	}
	b.StopTimer()
	cpuTo, loaded := usage(b)
	b.ReportMetric(idle, "idle-%core")
	b.ReportMetric(float64(full-empty)/benchReaders/1024, "KiB/reader")
	b.ReportMetric(float64((cpuTo-cpuFrom).Microseconds())/float64(b.N*benchReaders/benchAccounts), "cpu-µs/delivery")
	b.ReportMetric(100*(cpuTo-cpuFrom).Seconds()/b.Elapsed().Seconds(), "busy-%core")
	b.ReportMetric(float64(loaded-empty)/benchReaders/1024, "KiB/reader-busy")
	_ = ask.Close()
	_ = readers.Wait()
	s.End()
	_ = server.Close()
	cancel()
	running.Wait()
}

// handler is the REST API with the stream alone. A bearer is the number of a reader.
func handler(b *testing.B, d *db.DB, memory *bus.Bus, s *live.Service) http.Handler {
	b.Helper()
	spec, err := openapi.Load()
	if err != nil {
		b.Fatal(err)
	}
	const path = "/v1/events/stream"
	for other := range spec.View.Paths.Map() {
		if other != path {
			spec.View.Paths.Delete(other)
		}
	}
	h, err := rest.Mount(rest.Config{DB: d, Bus: memory, Log: slog.New(slog.DiscardHandler), RatePerSecond: 1e6,
		Authenticate: func(_ context.Context, c rest.Credential) (auth.Caller, error) {
			n, err := strconv.Atoi(c.Bearer)
			if err != nil {
				return auth.Caller{}, problem.Unauthenticated("a number is wanted")
			}
			account := fmt.Sprint("acc_", n%benchAccounts)
			return auth.Caller{AccountID: account, KeyID: fmt.Sprint("key_", n), Permissions: []string{"*"}, Scope: auth.Account(account)}, nil
		},
	}, spec, s.Operations())
	if err != nil {
		b.Fatal(err)
	}
	return h
}

func closing(b *testing.B, c io.Closer) {
	b.Helper()
	if err := c.Close(); err != nil {
		b.Error(err)
	}
}
