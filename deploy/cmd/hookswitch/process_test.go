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
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hookswitch/hookswitch/deploy/phone"
)

// asProcess makes the test binary be the program itself, so that tests start real processes of what they test.
const asProcess = "HOOKSWITCH_TEST_PROCESS"

func TestMain(m *testing.M) {
	if os.Getenv(asProcess) != "" {
		main()
		return
	}
	goleak.VerifyTestMain(m)
}

// process is a hookswitch that runs until the test ends.
type process struct {
	t    *testing.T
	data string
	cmd  *exec.Cmd
	out  *os.File
	gone chan struct{}

	known credentials
	ops   string // URL of the operator's listener
	http  *http.Client
	api   *http.Client // that trusts the API's certificate
}

// launch starts a process without waiting for anything.
func launch(t *testing.T, environ []string, args ...string) *process {
	t.Helper()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, cmd: exec.Command(binary, args...), gone: make(chan struct{}), http: &http.Client{Timeout: 20 * time.Second}}
	if p.out, err = os.CreateTemp(t.TempDir(), "output"); err != nil {
		t.Fatal(err)
	}
	p.cmd.Env = append(append(os.Environ(), asProcess+"=1"), environ...)
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var waiting sync.WaitGroup
	waiting.Go(func() {
		_ = p.cmd.Wait() // the exit code says it
		close(p.gone)
	})
	t.Cleanup(func() {
		p.stop()
		waiting.Wait()
		if err := p.out.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("it said:\n%s", p.output())
		}
	})
	return p
}

// up starts both halves on a data folder, and waits until calls are taken.
func up(t *testing.T, data string, environ []string, args ...string) *process {
	t.Helper()
	p := launch(t, environ, append([]string{
		"up", "--data", data, "--http", "127.0.0.1:0", "--sip", "127.0.0.1:0", "--rtp", "32000-33999", "--ops", "127.0.0.1:0",
		"--log-format", "json", "--max-lateness", "2s",
	}, args...)...)
	p.data = data
	p.operator()
	p.eventually(func() string {
		status, text := p.get(p.http, p.ops+"/readyz", "")
		if status != http.StatusOK {
			return text
		}
		return ""
	})
	var err error
	if p.known, _, err = readCredentials(data); err != nil {
		t.Fatal(err)
	}
	if p.api, err = p.known.client(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.api.CloseIdleConnections)
	return p
}

// operator finds the operator's listener in the log.
func (p *process) operator() {
	p.t.Helper()
	at := regexp.MustCompile(`"msg":"ops\.started","address":"([^"]+)"`)
	p.eventually(func() string {
		found := at.FindStringSubmatch(p.output())
		if found == nil {
			return "the operator's listener has not started"
		}
		p.ops = "http://" + found[1]
		return ""
	})
}

func (p *process) output() string {
	text, err := os.ReadFile(p.out.Name())
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// stop ends the process as an operator does. It must say by its exit code that all went well.
func (p *process) stop() {
	select {
	case <-p.gone:
	default:
		if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			p.t.Error(err)
		}
		select {
		case <-p.gone:
		case <-time.After(40 * time.Second):
			p.t.Error("it does not end")
			if err := p.cmd.Process.Kill(); err != nil {
				p.t.Error(err)
			}
			<-p.gone
		}
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		p.t.Errorf("exit code %d", code)
	}
}

// eventually waits until a condition holds, which returns "" or what is still wrong; a process that is gone fails it.
func (p *process) eventually(condition func() string) {
	p.t.Helper()
	limit := time.After(60 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		wrong := condition()
		if wrong == "" {
			return
		}
		select {
		case <-tick.C:
		case <-p.gone:
			p.t.Fatalf("the process has ended: %s", wrong)
		case <-limit:
			p.t.Fatal(wrong)
		}
	}
}

// get asks for a URL; a connection that fails has status 0.
func (p *process) get(client *http.Client, url, bearer string) (status int, text string) {
	status, _, text = p.do(client, http.MethodGet, url, bearer, "")
	return status, text
}

func (p *process) do(client *http.Client, method, url, bearer, body string) (status int, header http.Header, text string) {
	p.t.Helper()
	ctx, done := context.WithTimeout(context.Background(), 20*time.Second)
	defer done()
	r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	if bearer != "" {
		r.Header.Set("Authorization", "Bearer "+bearer)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Close = true
	response, err := client.Do(r)
	if err != nil {
		return 0, nil, err.Error()
	}
	defer response.Body.Close()
	read, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, nil, err.Error()
	}
	return response.StatusCode, response.Header, string(read)
}

// call asks the REST API and reads the answer.
func (p *process) call(method, path, body string, status int, into any) {
	p.t.Helper()
	got, _, text := p.do(p.api, method, p.known.URL+path, p.known.APIKey, body)
	if got != status {
		p.t.Fatalf("%s %s: %d %s", method, path, got, text)
	}
	if into != nil {
		if err := json.Unmarshal([]byte(text), into); err != nil {
			p.t.Fatal(err)
		}
	}
}

// application makes an application and the number that it answers.
func (p *process) application(values map[string]any, number string) (id, secret string) {
	p.t.Helper()
	values["name"] = "app " + number
	body, err := json.Marshal(values)
	if err != nil {
		p.t.Fatal(err)
	}
	var app struct{ ID, Secret string }
	p.call(http.MethodPost, "/v1/applications", string(body), http.StatusCreated, &app)
	p.call(http.MethodPost, "/v1/numbers", fmt.Sprintf(`{"number":%q,"application_id":%q}`, number, app.ID), http.StatusCreated, nil)
	return app.ID, app.Secret
}

// place makes a real call as an extension.
func (p *process) place(c phone.Call) phone.Report {
	p.t.Helper()
	server, err := netip.ParseAddrPort(p.known.SIP)
	if err != nil {
		p.t.Fatal(err)
	}
	c.Server, c.Domain = server, p.known.Domain
	if c.Username == "" {
		c.Username = "1001"
	}
	if c.Password == "" {
		c.Password = p.known.Extensions[c.Username]
	}
	if c.From == "" {
		c.From = c.Username
	}
	return phone.Place(p.t.Context(), c, logger(p.t))
}

// recorded waits for a finished recording, which the edge shipped to the control plane's storage.
func (p *process) recorded() {
	p.t.Helper()
	p.eventually(func() string {
		_, text := p.get(p.api, p.known.URL+"/v1/recordings", p.known.APIKey)
		if strings.Contains(text, `"status":"completed"`) {
			return ""
		}
		return "no recording is completed: " + text
	})
}

// freePort is one that nothing listens on now.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return l.Addr().(*net.TCPAddr).Port
}

// What an operator's first mistakes say, and that two processes live on one machine.
func TestTheUsualAddressOfTheOperatorsListenerMayBeTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := taken.Close(); err != nil {
			t.Error(err)
		}
	})
	code, _, errs := invoke(t, nil, "up", "--data", t.TempDir(), "--ops", taken.Addr().String(), "--http", "127.0.0.1:0", "--sip", "127.0.0.1:0")
	if code == 0 || !strings.Contains(errs, "--ops") || !strings.Contains(errs, "in use") {
		t.Errorf("an address that was asked for and is taken: exit %d, %s", code, errs)
	}
	first := &operation{log: logger(t)}
	second := &operation{log: logger(t)}
	if err := errors.Join(first.listen(t.Context(), defaultOps), second.listen(t.Context(), defaultOps)); err != nil {
		t.Fatal(err)
	}
	if first.server.Addr() == second.server.Addr() || !second.server.Addr().Addr().IsLoopback() {
		t.Errorf("they listen on %s and %s", first.server.Addr(), second.server.Addr())
	}
	off := &operation{log: logger(t)}
	if err := off.listen(t.Context(), "off"); err != nil || off.server != nil {
		t.Errorf("off: %v, %v", off.server, err)
	}
	if err := errors.Join(first.server.Close(), second.server.Close()); err != nil {
		t.Error(err)
	}
}

func TestMistakesInTheOperatorsSettings(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"--https", "yes"}, "--https yes: must be off, self, files or acme"},
		{[]string{"--https", "files"}, "--https files: needs --https-cert and --https-key"},
		{[]string{"--https", "acme"}, "--https acme: needs --acme-domain"},
		{[]string{"--http-redirect", "127.0.0.1:0"}, "--http-redirect leads to https: set --https too"},
		{[]string{"--otlp-endpoint", "127.0.0.1:4318"}, "--otlp-endpoint must be a URL"},
		{[]string{"--trust-ca", "/nowhere.pem"}, "--trust-ca"},
		{[]string{"--trust-ca", empty}, "holds no certificate"},
		{[]string{"--ops", "everywhere"}, "--ops"},
	} {
		args := append([]string{"controlplane", "--data", t.TempDir(), "--http", "127.0.0.1:0", "--edges", "127.0.0.1:0", "--ops", "off"}, c.args...)
		code, _, errs := invoke(t, nil, args...)
		if code == 0 || !strings.Contains(errs, c.says) {
			t.Errorf("%v: exit %d, says %q, want %q", c.args, code, errs, c.says)
		}
	}
}

func TestAPlatformKey(t *testing.T) {
	data := t.TempDir()
	code, out, errs := invoke(t, nil, "key", "create", "--platform", "--data", data)
	if code != 0 || len(strings.TrimSpace(out)) < 40 {
		t.Errorf("exit %d: %q %s", code, out, errs)
	}
	code, _, errs = invoke(t, nil, "key", "create", "--platform", "--edge", "--data", data)
	if code == 0 || !strings.Contains(errs, "not both") {
		t.Errorf("both kinds: exit %d, %s", code, errs)
	}
}

// bytesOf keeps a body for its second reader.
func bytesOf(r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	return body, err
}

// An edge says that it can take no calls before its control plane has ever answered, and everything else about itself.
func TestAnEdgeWithoutItsControlPlaneIsNotReady(t *testing.T) {
	p := launch(t, nil, "edge", "--control", fmt.Sprintf("http://127.0.0.1:%d", freePort(t)), "--token", "edge_canary", "--data", t.TempDir(),
		"--sip", "127.0.0.1:0", "--rtp", "34000-34999", "--ops", "127.0.0.1:0", "--log-format", "json", "--drain", "1s")
	p.operator()
	for path, want := range map[string]struct {
		status int
		says   string
	}{
		"/healthz": {200, "ok"},
		"/readyz":  {503, "the control plane has not answered yet"},
		"/build":   {200, `"role":"edge"`},
		"/metrics": {200, "hookswitch_calls_max 10000"},
	} {
		if status, text := p.get(p.http, p.ops+path, ""); status != want.status || !strings.Contains(text, want.says) {
			t.Errorf("%s: %d %.200s; want %d with %q", path, status, text, want.status, want.says)
		}
	}
	p.stop()
	if strings.Contains(p.output(), "edge_canary") {
		t.Error("the log holds the token")
	}
}
