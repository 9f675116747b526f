package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hookswitch/hookswitch/edge/media/codec"
	"github.com/hookswitch/hookswitch/edge/media/wav"
)

// Numbers that the generator calls.
const webhookNumber = "+862368925278"

// server is the program under test.
type server struct {
	cmd     *exec.Cmd
	dir     string
	http    string
	ops     string // address and port of its operator's pages
	edges   string // where edges dial, of a control plane apart
	sip     netip.AddrPort
	key     string // "" where another process made the first start
	hooks   *http.Server
	mediaID string
}

// freePort finds a port that is free for UDP and TCP at this moment.
func freePort(ctx context.Context) (int, error) {
	tcp, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return tcp.Addr().(*net.TCPAddr).Port, tcp.Close()
}

// startServer starts both halves in one process.
func startServer(ctx context.Context, binary string) (*server, error) {
	s, err := newServer(ctx)
	if err != nil {
		return nil, err
	}
	sipPort, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	s.sip = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(sipPort))
	return s, s.start(ctx, binary, "up", "--sip", s.sip.String(), "--rtp", "10000-29999")
}

// startControlPlane starts the control plane apart, on its one processor, and on a database, "" for its own.
func startControlPlane(ctx context.Context, binary, database string) (*server, error) {
	s, err := newServer(ctx)
	if err != nil {
		return nil, err
	}
	arguments, err := s.controlPlane(ctx, database)
	if err != nil {
		return nil, err
	}
	return s, s.start(ctx, "taskset", append([]string{"--cpu-list", strconv.Itoa(serverProcessor), binary}, arguments...)...)
}

// restartControlPlane starts it again, on all processors.
func (s *server) restartControlPlane(ctx context.Context, binary, database string) error {
	s.end()
	arguments, err := s.controlPlane(ctx, database)
	if err != nil {
		return err
	}
	return s.start(ctx, binary, arguments...)
}

func (s *server) controlPlane(ctx context.Context, database string) ([]string, error) {
	port, err := freePort(ctx)
	s.edges = fmt.Sprintf("http://127.0.0.1:%d", port)
	arguments := []string{"controlplane", "--edges", strings.TrimPrefix(s.edges, "http://"), "--allow-network", "127.0.0.0/8"}
	if database != "" {
		arguments = append(arguments, "--database", database)
	}
	return arguments, err
}

func newServer(ctx context.Context) (*server, error) {
	port, err1 := freePort(ctx)
	dir, err2 := os.MkdirTemp("", "hookswitch-bench-")
	return &server{dir: dir, http: fmt.Sprintf("http://127.0.0.1:%d", port)}, errors.Join(err1, err2)
}

// start starts a program with arguments and those that every server has, and waits until it is ready.
func (s *server) start(ctx context.Context, program string, arguments ...string) error {
	opsPort, err := freePort(ctx)
	if err != nil {
		return err
	}
	s.ops = fmt.Sprintf("127.0.0.1:%d", opsPort)
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	s.cmd = exec.CommandContext(ctx, program, append(arguments, "--data", s.dir, "--http", strings.TrimPrefix(s.http, "http://"),
		"--ops", s.ops, "--log-level", "warn")...)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM} // nothing stays behind, however we end
	s.cmd.Cancel = func() error { return s.cmd.Process.Signal(syscall.SIGTERM) }
	if err := s.cmd.Start(); err != nil {
		return err
	}
	if err := s.ready(ctx); err != nil {
		s.stop()
		return err
	}
	return nil
}

// edgeToken makes a token for edges, as an operator does.
func (s *server) edgeToken(ctx context.Context, binary, database string) (string, error) {
	arguments := []string{"key", "create", "--edge", "--data", s.dir}
	if database != "" {
		arguments = append(arguments, "--database", database)
	}
	text, err := exec.CommandContext(ctx, binary, arguments...).Output()
	if err != nil {
		return "", fmt.Errorf("key create --edge: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

func (s *server) ready(ctx context.Context) error {
	for range 200 {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.http+"/readyz", nil)
		if err != nil {
			return err
		}
		if res, err := http.DefaultTransport.RoundTrip(req); err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return s.readKey()
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
	return fmt.Errorf("the server did not come up:\n%s", log)
}

func (s *server) readKey() error {
	text, err := os.ReadFile(filepath.Join(s.dir, "credentials"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for line := range strings.SplitSeq(string(text), "\n") {
		if key, ok := strings.CutPrefix(line, "api_key: "); ok {
			s.key = strings.TrimSpace(key)
		}
	}
	return nil
}

func (s *server) stop() {
	if s.hooks != nil {
		if err := s.hooks.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "bench: the webhook's end:", err)
		}
	}
	s.end()
	if log, err := os.ReadFile(filepath.Join(s.dir, "log")); err == nil {
		for line := range strings.SplitSeq(string(log), "\n") {
			if strings.Contains(line, "level=WARN") || strings.Contains(line, "level=ERROR") {
				fmt.Fprintln(os.Stderr, "server:", line)
			}
		}
	}
	if err := os.RemoveAll(s.dir); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
}

// end stops the process alone.
func (s *server) end() {
	if s.cmd.Process.Signal(syscall.SIGTERM) == nil {
		if err := s.cmd.Wait(); err != nil {
			fmt.Fprintln(os.Stderr, "bench: the server's end:", err)
		}
	}
}

// usage is what the server has used: CPU in all, memory now.
type usage struct {
	cpu time.Duration
	rss int64
}

func (s *server) usage() usage {
	pid := strconv.Itoa(s.cmd.Process.Pid)
	stat, err1 := os.ReadFile("/proc/" + pid + "/stat")
	statm, err2 := os.ReadFile("/proc/" + pid + "/statm")
	if errors.Join(err1, err2) != nil {
		return usage{}
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(after)
	const ticks = 100 // a second: USER_HZ on Linux
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	pages, _ := strconv.ParseInt(strings.Fields(string(statm))[1], 10, 64)
	return usage{time.Duration(user+system) * time.Second / ticks, pages * int64(os.Getpagesize())}
}

// resetPeak has peak count from now on.
func (s *server) resetPeak() error {
	// proc(5): 5 resets the peak resident set size to what it is at the moment.
	return os.WriteFile("/proc/"+strconv.Itoa(s.cmd.Process.Pid)+"/clear_refs", []byte("5"), 0)
}

// peak is the most memory that was resident since resetPeak, in octets.
func (s *server) peak() (int64, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(s.cmd.Process.Pid) + "/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kilobytes, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kilobytes << 10, err
		}
	}
	return 0, errors.New("the kernel does not say how much memory the server had at most (VmHWM)")
}

// prepare makes what the calls need: the prompt as media, a trunk for our address, a number, a webhook.
func (s *server) prepare(ctx context.Context, agent string) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if s.mediaID, err = s.upload(ctx); err != nil {
		return err
	}
	program := fmt.Sprintf(`{"instructions":[{"verb":"play","media_id":%q},{"verb":"hangup"}]}`, s.mediaID)
	s.hooks = &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// A request that is not read or an answer that is not taken shows as a call without audio.
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, program)
	})}
	go func() { // ends with stop
		if err := s.hooks.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			fmt.Fprintln(os.Stderr, "bench: the webhook:", err)
		}
	}()
	var app struct{ ID string }
	if err := s.post(ctx, "/v1/applications", map[string]any{"name": "bench", "voice_url": "http://" + listener.Addr().String() + "/"}, &app); err != nil {
		return err
	}
	if err := s.post(ctx, "/v1/numbers", map[string]any{"number": webhookNumber, "application_id": app.ID}, nil); err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(agent)
	if err != nil {
		return err
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return err
	}
	return s.post(ctx, "/v1/trunks", map[string]any{
		"name": "generator", "mode": "peer", "address": host, "port": number, "transport": "udp", "networks": []string{"127.0.0.1/32"},
	}, nil)
}

func (s *server) upload(ctx context.Context) (string, error) {
	var media struct{ ID string }
	body := wav.Encode(wav.PCM{Samples: promptPCM(), Rate: 8000, Channels: 1})
	err := s.do(ctx, http.MethodPost, "/v1/media?name=prompt", "audio/wav", body, &media)
	return media.ID, err
}

// originate starts calls at a rate; each plays the prompt in a loop and is recorded whole.
func (s *server) originate(ctx context.Context, calls, rate int, agent string) ([]string, error) {
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	ids := make([]string, calls)
	errs := make(chan error, calls)
	limit := make(chan struct{}, 16)
	for i := range calls {
		<-tick.C
		limit <- struct{}{}
		go func() {
			defer func() { <-limit }()
			var call struct{ ID string }
			err := s.post(ctx, "/v1/calls", map[string]any{
				"to": map[string]any{"sip": "sip:bench@" + agent}, "from": webhookNumber, "record": true,
				"program": []any{map[string]any{"verb": "play", "media_id": s.mediaID, "loop": 0}},
			}, &call)
			ids[i] = call.ID
			errs <- err
		}()
	}
	var all error
	for range calls {
		all = errors.Join(all, <-errs)
	}
	return ids, all
}

// verify downloads recordings and compares them with what was sent and played, sample by sample.
func (s *server) verify(ctx context.Context, ids []string, all []*call, most int) (exact int, err error) {
	for _, id := range ids[:min(most, len(ids))] {
		samples, err := s.recording(ctx, id)
		if err != nil {
			return exact, fmt.Errorf("recording of %s: %w", id, err)
		}
		if problem := compare(samples, all); problem != nil {
			fmt.Printf("  recording        of %s: %v\n", id, problem)
			continue
		}
		exact++
	}
	return exact, nil
}

// recording waits until the file of a call is there and returns its two channels interleaved.
func (s *server) recording(ctx context.Context, call string) ([]int16, error) {
	for range 200 {
		var list struct{ Data []struct{ ID, Status string } }
		if err := s.do(ctx, http.MethodGet, "/v1/recordings?call_id="+call, "", nil, &list); err != nil {
			return nil, err
		}
		if len(list.Data) == 1 && list.Data[0].Status == "completed" {
			var file []byte
			if err := s.do(ctx, http.MethodGet, "/v1/recordings/"+list.Data[0].ID+"/media", "", nil, &file); err != nil {
				return nil, err
			}
			pcm, err := wav.Decode(file, wav.Limits{})
			return pcm.Samples, err
		}
		time.Sleep(50 * time.Millisecond)
	}
	return nil, errors.New("it was not completed in time")
}

// compare checks channel 1 against what one of the streams sent, from its first octet on without a gap, and channel
// 2 against the looping prompt.
func compare(stereo []int16, all []*call) error {
	heard, said := make([]byte, len(stereo)/2), make([]byte, len(stereo)/2)
	for i := range heard {
		var one [2]byte
		codec.PCMU.Encode(one[:], stereo[2*i:2*i+2])
		heard[i], said[i] = one[0], one[1]
	}
	start := begin(heard)
	if start < 0 {
		return errors.New("channel 1 is silent")
	}
	c := whose(heard[start:], all)
	if c == nil {
		return errors.New("channel 1 begins with no stream's first frame")
	}
	for i, b := range heard[start:] {
		if want := pattern(c.stream.seed, i); b != want && !silent(heard[start+i:]) {
			return fmt.Errorf("channel 1 differs at sample %d", start+i)
		}
	}
	prompt := bytes.Join(promptFrames(), nil)
	from := begin(said)
	for i, b := range said[max(0, from):] {
		if b != prompt[i%len(prompt)] && !silent(said[from+i:]) {
			return fmt.Errorf("channel 2 differs at sample %d", from+i)
		}
	}
	return nil
}

func begin(octets []byte) int {
	for i, b := range octets {
		if b&0x7F != 0x7F {
			return i
		}
	}
	return -1
}

func whose(heard []byte, all []*call) *call {
	for _, c := range all {
		match := len(heard) >= frameOctets
		for i := 0; match && i < frameOctets; i++ {
			match = heard[i] == pattern(c.stream.seed, i)
		}
		if match {
			return c
		}
	}
	return nil
}

func (s *server) post(ctx context.Context, path string, body, into any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return s.do(ctx, http.MethodPost, path, "application/json", text, into)
}

// client follows the redirect to a recording's bytes and keeps connections.
var client = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 32}}

func (s *server) do(ctx context.Context, method, path, kind string, body []byte, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, s.http+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+s.key)
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s: %s", method, path, res.Status, text)
	}
	switch into := into.(type) {
	case nil:
		return nil
	case *[]byte:
		*into = text
		return nil
	}
	return json.Unmarshal(text, into)
}
