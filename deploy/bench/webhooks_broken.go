package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// breakage is one way in which an application fails.
type breakage struct {
	name string
	code string // that the event of a call gives for it
	// behave is what happens to a request that has been read. The connection is closed after it. nil: nobody listens.
	behave func(b *broken, conn *net.TCPConn)
}

// breakages are all that are measured.
func breakages() []breakage {
	return []breakage{
		{"connection refused", "connect", nil},
		{"connection reset", "reset", func(_ *broken, conn *net.TCPConn) { noError(conn.SetLinger(0)) }},
		{"500", "status", says("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")},
		{"slow drip", "timeout", drip},
		{"garbage instead of HTTP", "protocol", says(strings.Repeat("\x16\x03\xff\x00 not HTTP \r\n", 16))},
		{"garbage instead of a program", "rejected", says("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 20\r\nConnection: close\r\n\r\n\x00\xff{{{ no JSON at all")},
		{"redirect to an address that is not allowed", "denied", redirect},
		{"endless body", "body", endless},
	}
}

// broken is an application that fails, at a port of its own. A circuit breaker counts failures by host and
// port, so that it sees the calls of this one alone.
type broken struct {
	url       string
	forbidden string // where it may redirect to, which nobody must reach

	closeAll func() error
	stopped  chan struct{}
	serving  sync.WaitGroup
	requests atomic.Int64
}

func newBroken(ctx context.Context, how breakage, forbidden string) (*broken, error) {
	b := &broken{forbidden: forbidden, stopped: make(chan struct{})}
	if how.behave == nil {
		return b, b.reserve()
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	b.url, b.closeAll = "http://"+listener.Addr().String()+"/", listener.Close
	b.serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				fmt.Fprintln(os.Stderr, "bench: an application that fails:", err)
				return
			}
			b.serving.Go(func() { b.serve(conn.(*net.TCPConn), how) })
		}
	})
	return b, nil
}

// reserve takes a port at which nobody listens, so that nobody else does.
func (b *broken) reserve() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	b.closeAll = func() error { return unix.Close(fd) }
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return err
	}
	at, err := unix.Getsockname(fd)
	if err != nil {
		return err
	}
	b.url = fmt.Sprintf("http://127.0.0.1:%d/", at.(*unix.SockaddrInet4).Port)
	return nil
}

func (b *broken) serve(conn *net.TCPConn, how breakage) {
	defer conn.Close()
	r, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		return // a connection that was not used
	}
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return
	}
	b.requests.Add(1)
	how.behave(b, conn)
}

func (b *broken) close() error {
	close(b.stopped)
	err := b.closeAll()
	b.serving.Wait()
	return err
}

// says answers with octets.
func says(text string) func(*broken, *net.TCPConn) {
	return func(_ *broken, conn *net.TCPConn) { send(conn, text) }
}

// send reports whether the other side is still there.
func send(conn *net.TCPConn, text string) bool {
	_, err := io.WriteString(conn, text)
	return err == nil
}

// drip begins a program and sends an octet of it every 100 ms, for as long as the other side takes them.
func drip(b *broken, conn *net.TCPConn) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for more := send(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n["); more; more = send(conn, " ") {
		select {
		case <-tick.C:
		case <-b.stopped:
			return
		}
	}
}

// endless sends a body for as long as the other side takes it.
func endless(b *broken, conn *net.TCPConn) {
	block := strings.Repeat(" ", 32<<10)
	for more := send(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n["); more; more = send(conn, block) {
		select {
		case <-b.stopped:
			return
		default:
		}
	}
}

func redirect(b *broken, conn *net.TCPConn) {
	send(conn, "HTTP/1.1 302 Found\r\nLocation: "+b.forbidden+"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}

// noError is for what cannot fail on a connection that is open.
func noError(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench: an application that fails:", err)
	}
}

// forbidden is a web server at a loopback address that the edge may not reach. It would answer with a program, and counts
// who comes.
type forbidden struct {
	url     string
	reached atomic.Int64
	web     *http.Server
	serving sync.WaitGroup
}

func newForbidden(ctx context.Context) (*forbidden, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp4", "127.0.0.2:0")
	if err != nil {
		return nil, err
	}
	f := &forbidden{url: "http://" + listener.Addr().String() + "/"}
	f.web = &http.Server{
		ReadHeaderTimeout: 5 * time.Second,
		ConnState: func(_ net.Conn, s http.ConnState) {
			if s == http.StateNew {
				f.reached.Add(1)
			}
		},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { program(w, answerAndHangUp) }),
	}
	f.serving.Go(func() {
		if err := f.web.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			fmt.Fprintln(os.Stderr, "bench: the address that is not allowed:", err)
		}
	})
	return f, nil
}

func (f *forbidden) close() error {
	err := f.web.Close()
	f.serving.Wait()
	return err
}
