// Command bench loads the built binary on this machine and verifies every stream it gets back: sequence numbers,
// pacing, payload, and recordings sample by sample. README.md in this folder says what is measured, and how.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/hookswitch/hookswitch/edge/media/codec"
)

// settings are the load.
type settings struct {
	binary string
	calls  int           // concurrent, in the media phase
	rate   int           // new calls a second, in both phases
	setup  time.Duration // how long the set-up phase lasts
	hold   time.Duration // how long all calls of the media phase are up together
	check  int           // recordings to verify sample by sample
	only   string        // calls, webhooks, api, sqlite or postgres; "" for all
	rows   int           // of each table, in the phases of the REST API

	waiting, failures, failureRate int // see webhookSettings
}

func main() {
	var s settings
	flag.StringVar(&s.binary, "binary", "bin/hookswitch", "the program under test")
	flag.IntVar(&s.calls, "calls", 1000, "concurrent calls that play and record")
	flag.IntVar(&s.rate, "rate", 200, "new calls a second")
	flag.DurationVar(&s.setup, "setup", 20*time.Second, "how long calls are set up at that rate, one webhook each")
	flag.DurationVar(&s.hold, "hold", 20*time.Second, "how long the concurrent calls last together")
	flag.IntVar(&s.check, "check", 100, "recordings to verify sample by sample")
	flag.StringVar(&s.only, "only", "", "calls, webhooks, api, or api on sqlite or postgres alone; all when not given")
	flag.IntVar(&s.rows, "rows", 1_000_000, "calls, and as many numbers, that the REST API is measured on; as many are imported")
	flag.IntVar(&s.waiting, "waiting", 2000, "calls of one account that wait at once for an application that hangs")
	flag.IntVar(&s.failures, "failures", 1000, "calls for each way in which an application fails")
	flag.IntVar(&s.failureRate, "failure-rate", 40, "of them a second")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := phases(ctx, s)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// phases measures what was asked for.
func phases(ctx context.Context, s settings) error {
	databases, known := map[string][]string{
		"": {sqlite, postgreSQL}, "api": {sqlite, postgreSQL}, "sqlite": {sqlite}, "postgres": {postgreSQL}, "calls": {}, "webhooks": {},
	}[s.only]
	if !known {
		return fmt.Errorf("--only: must be calls, webhooks, api, sqlite or postgres, is %q", s.only)
	}
	if s.rows < 1000 {
		return fmt.Errorf("--rows: must be at least 1000, is %d", s.rows)
	}
	var err error
	if s.only == "" || s.only == "calls" {
		err = run(ctx, s)
	}
	if s.only == "" || s.only == "webhooks" {
		hooks := webhookSettings{binary: s.binary, rate: s.rate, waiting: s.waiting, failures: s.failures, failureRate: s.failureRate}
		err = errors.Join(err, webhookPhases(ctx, hooks))
	}
	if len(databases) > 0 {
		api := apiSettings{binary: s.binary, rows: s.rows, page: 50, reads: 10 * time.Second}
		err = errors.Join(err, apiPhases(ctx, api, databases))
	}
	return err
}

func run(ctx context.Context, s settings) error {
	runtime.GOMAXPROCS(runtime.NumCPU() + 1) // the media thread keeps a P while it sleeps
	server, err := startServer(ctx, s.binary)
	if err != nil {
		return err
	}
	defer server.stop()
	gen := newGenerator(promptFrames())
	a, err := newAgent(server.sip, gen)
	if err != nil {
		return err
	}
	if err := server.prepare(ctx, a.addr()); err != nil {
		return err
	}
	running, stop := context.WithCancel(ctx)
	var parts sync.WaitGroup
	parts.Add(2)
	go gen.run(running, &parts)
	go a.run(running, &parts)
	err = setupPhase(ctx, s, server, a)
	time.Sleep(10 * time.Second) // what the first phase left behind must not be measured in the second
	err = errors.Join(err, mediaPhase(ctx, s, server, a))
	stop()
	parts.Wait()
	return err
}

// promptSeconds is the length of the prompt that plays in a loop.
const promptSeconds = 2

// promptPCM is noise in the middle of the range, made of G.711 values so that encoding it again changes nothing.
func promptPCM() []int16 {
	raw := make([]byte, promptSeconds*8000)
	for i := range raw {
		raw[i] = pattern(0xBEAC4, i)
	}
	pcm := make([]int16, len(raw))
	codec.PCMU.Decode(pcm, raw)
	return pcm
}

func promptFrames() [][]byte {
	pcm := promptPCM()
	out := make([][]byte, 0, len(pcm)/frameOctets)
	for at := 0; at+frameOctets <= len(pcm); at += frameOctets {
		frame := make([]byte, frameOctets)
		codec.PCMU.Encode(frame, pcm[at:at+frameOctets])
		out = append(out, frame)
	}
	return out
}

// setupPhase sets calls up at a steady rate; each asks one webhook, is answered, hears the prompt and is hung up.
func setupPhase(ctx context.Context, s settings, server *server, a *agent) error {
	fmt.Printf("\nSet-up: %d calls a second for %s, one webhook each\n", s.rate, s.setup)
	before := server.usage()
	began := time.Now()
	tick := time.NewTicker(time.Second / time.Duration(s.rate))
	defer tick.Stop()
	var wait sync.WaitGroup
	var mu sync.Mutex
	var all []*call
	for n := 1; time.Since(began) < s.setup && ctx.Err() == nil; n++ {
		<-tick.C
		c, err := a.dial(webhookNumber, uint32(n)*104729)
		if err != nil {
			return err
		}
		mu.Lock()
		all = append(all, c)
		mu.Unlock()
		wait.Go(func() {
			select {
			case <-c.done:
			case <-time.After(15 * time.Second):
				a.hangUp(c)
			}
		})
	}
	elapsed := time.Since(began)
	wait.Wait()
	used := server.usage().cpu - before.cpu
	settle()
	var setup, first histogram
	answered, refusals := 0, map[int]int{}
	for _, c := range all {
		if c.code != 200 {
			refusals[c.code]++
			continue
		}
		answered++
		setup.add(c.setup)
		if c.stream.received > 0 {
			first.add(c.stream.first)
		}
	}
	fmt.Printf("  calls            %d placed, %d answered, %.1f a second\n", len(all), answered, float64(answered)/elapsed.Seconds())
	if len(refusals) > 0 {
		fmt.Printf("  not answered     by SIP code (0: no response): %v\n", refusals)
	}
	fmt.Printf("  INVITE to 200    %s\n", &setup)
	fmt.Printf("  INVITE to audio  %s\n", &first)
	fmt.Printf("  server CPU       %.2f ms a call (%.0f %% of one core)\n", ms(used)/float64(max(answered, 1)), 100*used.Seconds()/elapsed.Seconds())
	printStreams(all)
	if answered != len(all) {
		return fmt.Errorf("%d of %d calls were not answered", len(all)-answered, len(all))
	}
	return nil
}

// settle lets the media thread take what is queued for it.
func settle() { time.Sleep(100 * time.Millisecond) }

// mediaPhase has calls that play a prompt and record both sides, all up together.
func mediaPhase(ctx context.Context, s settings, server *server, a *agent) error {
	fmt.Printf("\nMedia: %d concurrent calls, two-way, prompt played and both channels recorded\n", s.calls)
	a.gen.deltas = histogram{}
	arrived := make(chan *call, s.calls)
	a.mu.Lock()
	a.incoming = func(c *call) { arrived <- c }
	a.mu.Unlock()
	before := server.usage()
	ids, err := server.originate(ctx, s.calls, s.rate/2, a.addr()) // each is a REST request and a call
	if err != nil {
		return err
	}
	var all []*call
	deadline := time.After(30 * time.Second)
	for len(all) < len(ids) {
		select {
		case c := <-arrived:
			all = append(all, c)
		case <-deadline:
			return fmt.Errorf("only %d of %d calls arrived", len(all), len(ids))
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	up := server.usage()
	a.gen.deltas = histogram{} // what counts is the steady state
	time.Sleep(s.hold)
	steady := server.usage()
	for i, c := range all {
		a.hangUp(c)
		if i%20 == 19 {
			time.Sleep(20 * time.Millisecond)
		}
	}
	settle()
	cpu := (steady.cpu - up.cpu).Seconds() / s.hold.Seconds()
	fmt.Printf("  server CPU       %.0f %% of one core in steady state, %.2f ms a second and call\n", 100*cpu, 1000*cpu/float64(s.calls))
	fmt.Printf("  server memory    %.0f MB, %.0f kB a call\n", float64(steady.rss)/1e6, float64(steady.rss-before.rss)/1e3/float64(s.calls))
	fmt.Printf("  packet distance  |d − 20 ms| %s\n", &a.gen.deltas)
	lost := printStreams(all)
	exact, err := server.verify(ctx, ids, all, s.check)
	fmt.Printf("  recordings       %d of %d verified are exact to the sample\n", exact, min(s.check, len(ids)))
	if err != nil {
		return err
	}
	if lost > 0 {
		return fmt.Errorf("%d packets were lost", lost)
	}
	return nil
}

// printStreams sums up what was checked packet by packet.
func printStreams(all []*call) (lost int) {
	var received, wrong, none int
	var jitter histogram
	for _, c := range all {
		st := c.stream
		received += st.received
		lost += st.lost
		wrong += st.wrong
		if st.received == 0 {
			none++
			continue
		}
		jitter.add(time.Duration(math.Round(st.jitterNS)))
	}
	fmt.Printf("  streams          %d packets, %d lost, %d with a wrong payload, %d streams without audio\n", received, lost, wrong, none)
	fmt.Printf("  jitter           RFC 3550, over streams: %s\n", &jitter)
	return lost + wrong
}
