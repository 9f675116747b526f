package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// packages says which Debian package a program comes from.
var packages = map[string]string{
	"sipp": "sip-tester", "baresip": "baresip-core", "redis-server": "redis-server", "setpriv": "util-linux", "unshare": "util-linux",
}

// program finds a program; one that is missing fails the test.
func program(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is missing: install the Debian package %s (apt-get install %s)", name, packages[name], packages[name])
	}
	return path
}

// process is a program that a test started. It is gone when the test is.
type process struct {
	t    testing.TB
	name string
	cmd  *exec.Cmd
	log  string        // file of its output
	gone chan struct{} // closed when it has ended
	err  error         // of Wait; after gone
}

// start runs a program in dir, its output going to a file that is shown when the test fails.
func start(t testing.TB, name, dir string, env []string, path string, args ...string) *process {
	t.Helper()
	p := &process{t: t, name: name, gone: make(chan struct{}), cmd: exec.Command(path, args...)}
	out, err := os.CreateTemp(t.TempDir(), "output")
	if err != nil {
		t.Fatal(err)
	}
	p.log = out.Name()
	p.cmd.Dir, p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = dir, append(os.Environ(), env...), out, out
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	watch.tell("start", p.pid())
	var waiting sync.WaitGroup
	waiting.Go(func() {
		p.err = p.cmd.Wait()
		watch.tell("end", p.pid())
		close(p.gone)
	})
	t.Cleanup(func() {
		p.kill()
		waiting.Wait()
		if err := out.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() && !strings.HasPrefix(name, "sipp ") { // whose screens say less than its logs
			t.Logf("%s said:\n%s", name, tail(p.output()))
		}
	})
	return p
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatalf("%s: %v", p.name, err)
	}
}

// kill ends the process as a power cut would; one that is gone stays gone.
func (p *process) kill() {
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Errorf("%s: %v", p.name, err)
	}
	<-p.gone
}

// code waits for the end of the process and returns its exit code.
func (p *process) code(within time.Duration) int {
	p.t.Helper()
	timeout := time.NewTimer(within)
	defer timeout.Stop()
	select {
	case <-p.gone:
	case <-timeout.C:
		p.signal(syscall.SIGQUIT) // shows what its goroutines wait for
		select {
		case <-p.gone:
		case <-time.After(5 * time.Second):
		}
		p.t.Fatalf("%s did not end within %s", p.name, within)
	}
	return p.cmd.ProcessState.ExitCode()
}

func (p *process) output() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// tail is the end of a long text.
func tail(text string) string {
	const most = 24 << 10
	if len(text) > most {
		return "…" + text[len(text)-most:]
	}
	return text
}

// files counts the open files of the process by kind.
func (p *process) files() map[string]int {
	p.t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", p.pid())
	entries, err := os.ReadDir(dir)
	if err != nil {
		p.t.Fatal(err)
	}
	kinds := map[string]int{}
	for _, e := range entries {
		to, err := os.Readlink(filepath.Join(dir, e.Name()))
		if err != nil {
			continue // closed meanwhile
		}
		kind, _, _ := strings.Cut(to, ":")
		kinds[kind]++
	}
	return kinds
}

// eventually waits until a condition holds. The condition returns "" or what is still wrong.
func eventually(t testing.TB, within time.Duration, condition func() string) {
	t.Helper()
	ctx, done := context.WithTimeout(context.Background(), within)
	defer done()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		wrong := condition()
		if wrong == "" {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("after %s: %s", within, wrong)
		}
	}
}

// watch kills what the tests started when the test binary is killed itself, as by the time limit of go test. It is a
// shell that reads which processes there are; its input ends with us.
var watch *watcher

type watcher struct {
	mu  sync.Mutex // guards in
	in  io.WriteCloser
	cmd *exec.Cmd
}

const watching = `pids=
while read -r what pid; do
  case $what in
    start) pids="$pids $pid" ;;
    end) left=; for p in $pids; do [ "$p" = "$pid" ] || left="$left $p"; done; pids=$left ;;
  esac
done
[ -z "$pids" ] || { kill -9 $pids; exit 3; }`

func startWatch() error {
	w := &watcher{cmd: exec.Command("/bin/sh", "-c", watching)}
	w.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt at the terminal is not for it
	var err error
	if w.in, err = w.cmd.StdinPipe(); err != nil {
		return err
	}
	watch = w
	return w.cmd.Start()
}

func (w *watcher) tell(what string, pid int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, _ = fmt.Fprintln(w.in, what, pid) // a watcher that is gone is noticed at the end
}

// end is an error when a process is left.
func (w *watcher) end() error {
	if err := w.in.Close(); err != nil {
		return err
	}
	return w.cmd.Wait()
}
