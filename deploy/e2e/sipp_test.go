package e2e

import (
	"context"
	"embed"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"text/template"
	"time"
)

//go:embed testdata/sipp
var scenarios embed.FS

// sipp is how a scenario of SIPp is run. Scenarios are templates: parts.tmpl holds what they have in common.
type sipp struct {
	to       string         // user part of the called URI
	values   map[string]any // what the scenario's template needs
	duration time.Duration  // of the scenario's <pause/>
	voice    []byte         // G.711 µ-law for rtp_stream
	tcp      bool
	echo     bool   // it sends back what it hears
	root     bool   // it sends captured packets, which takes root
	calls    int    // how many, 20 a second; 0 is one
	id       string // makes the SIP Call-ID of a caller differ from that of another call of the same address
	port     uint16 // of its own; 0 takes a free one
}

// sippRun is a SIPp at work.
type sippRun struct {
	*process
	dir       string
	addr      netip.AddrPort
	sipCallID string // of a caller
}

// addresses are handed out once: what one scenario does never meets another's.
var addresses atomic.Uint32

// carrierAddr is an address of the network that the deployments take for a carrier's.
func carrierAddr() netip.Addr { return address(8) }

// strangerAddr is one that they know nothing about.
func strangerAddr() netip.Addr { return address(9) }

func address(network byte) netip.Addr {
	n := addresses.Add(1)
	return netip.AddrFrom4([4]byte{127, 0, network + byte(n/250)*10, byte(1 + n%250)})
}

// calls runs a scenario that calls the deployment from an address of the carrier.
func (d *deployment) calls(t testing.TB, scenario string, s sipp) *sippRun {
	t.Helper()
	return d.callsFrom(t, carrierAddr(), scenario, s)
}

func (d *deployment) callsFrom(t testing.TB, from netip.Addr, scenario string, s sipp) *sippRun {
	t.Helper()
	return runSIPp(t, from, scenario, s, d.sip.String())
}

// party runs a scenario that waits to be called.
func party(t testing.TB, scenario string, s sipp) *sippRun {
	t.Helper()
	run := runSIPp(t, carrierAddr(), scenario, s, "")
	run.listening()
	return run
}

// uri is where a party is called.
func (r *sippRun) uri() string { return "sip:party@" + r.addr.String() }

func runSIPp(t testing.TB, at netip.Addr, scenario string, s sipp, server string) *sippRun {
	t.Helper()
	if s.port == 0 {
		s.port = freeUDP(t, at)
	}
	r := &sippRun{dir: t.TempDir(), addr: netip.AddrPortFrom(at, s.port)}
	r.sipCallID = fmt.Sprintf("%s%s-%s", scenario, s.id, at)
	write(t, filepath.Join(r.dir, "scenario.xml"), render(t, scenario, s.values))
	if s.voice != nil {
		write(t, filepath.Join(r.dir, "voice.ulaw"), s.voice)
	}
	args := []string{
		"-sf", "scenario.xml", "-i", at.String(), "-p", strconv.Itoa(int(r.addr.Port())), "-mi", at.String(), "-mp", "6000",
		"-m", strconv.Itoa(max(1, s.calls)), "-r", "20", "-nostdin", "-timeout", "60", "-timeout_error", "-trace_err", "-error_file", "errors",
		"-trace_msg", "-message_file", "messages", "-key", "caller", "+8613800138000",
	}
	if s.calls > 1 {
		r.sipCallID += "-%u"
	}
	if s.duration > 0 {
		args = append(args, "-d", strconv.FormatInt(s.duration.Milliseconds(), 10))
	}
	if s.echo {
		args = append(args, "-rtp_echo")
	}
	if s.tcp {
		args = append(args, "-t", "t1")
	}
	if server != "" {
		args = append(args, "-cid_str", r.sipCallID, "-s", s.to, server)
	}
	path := program(t, "sipp")
	if s.root && os.Geteuid() != 0 {
		args = append([]string{"-n", path}, args...)
		path = program(t, "sudo")
	}
	r.process = start(t, "sipp "+scenario, r.dir, []string{"TERM=dumb"}, path, args...)
	return r
}

// succeeds waits for the end of the scenario and fails the test unless everything went as the scenario says.
func (r *sippRun) succeeds() {
	r.t.Helper()
	if code := r.code(60 * time.Second); code != 0 {
		r.t.Fatalf("%s ended with %d\n%s\n%s", r.name, code, r.file("errors"), tail(r.file("messages")))
	}
}

// file is one of SIPp's logs.
func (r *sippRun) file(name string) string {
	text, err := os.ReadFile(filepath.Join(r.dir, name))
	if err != nil {
		return ""
	}
	return string(text)
}

// listening waits until a party's socket is there.
func (r *sippRun) listening() {
	r.t.Helper()
	ip := r.addr.Addr().As4()
	socket := fmt.Sprintf("%02X%02X%02X%02X:%04X", ip[3], ip[2], ip[1], ip[0], r.addr.Port())
	eventually(r.t, 10*time.Second, func() string {
		table, err := os.ReadFile("/proc/net/udp")
		if err == nil && strings.Contains(string(table), socket) {
			return ""
		}
		return r.name + " does not listen"
	})
}

func render(t testing.TB, scenario string, values map[string]any) []byte {
	t.Helper()
	parts := template.New("").Option("missingkey=error").Funcs(template.FuncMap{
		"add":  func(a, b int) int { return a + b },
		"mul":  func(a, b int) int { return a * b },
		"list": func(items ...any) []any { return items },
	})
	parts, err := parts.ParseFS(scenarios, "testdata/sipp/*")
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := parts.ExecuteTemplate(&out, scenario+".xml", values); err != nil {
		t.Fatal(err)
	}
	return []byte(strings.TrimLeft(out.String(), "\n"))
}

func write(t testing.TB, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// freeUDP finds a port of an address that nobody uses.
func freeUDP(t testing.TB, at netip.Addr) uint16 {
	t.Helper()
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(at, 0)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort().Port()
}

// freePort finds a port of 127.0.0.1 that is free for both UDP and TCP.
func freePort(t testing.TB) uint16 {
	t.Helper()
	at := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	for range 50 {
		l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := l.Addr().(*net.TCPAddr).AddrPort().Port()
		conn, udpErr := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(at, port)))
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if udpErr != nil {
			continue
		}
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
		return port
	}
	t.Fatal("no port is free for both UDP and TCP")
	return 0
}
