package e2e

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/hookswitch/hookswitch/controlplane/blob/blobtest"
	"github.com/hookswitch/hookswitch/controlplane/bus/bustest"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
)

// How Hookswitch is deployed.
const (
	together = "together" // hookswitch up: one process on SQLite, a bus in memory, files
	apart    = "apart"    // hookswitch controlplane on PostgreSQL, Redis and S3, and hookswitch edge
)

// each runs a test in both deployments.
func each(t *testing.T, test func(t *testing.T, kind string)) {
	t.Helper()
	for _, kind := range []string{together, apart} {
		t.Run(kind, func(t *testing.T) { test(t, kind) })
	}
}

// options are what a test wants other than usual.
type options struct {
	rtp  int      // ports of audio, one of two for RTCP; 0 is plenty
	edge []string // more arguments of the process that carries calls
	// wrap gives a program, with arguments, that starts the process that carries calls.
	wrap    func(data string) []string
	allowed string // the network that accounts' URLs may lead to; all of loopback by default
}

// deployment is a running Hookswitch.
type deployment struct {
	t       *testing.T
	kind    string
	url     string         // of the REST API
	sip     netip.AddrPort // where calls go
	key     string
	domain  string            // SIP domain of the account
	phones  map[string]string // extension → password
	data    string            // folder of the process that carries calls
	control *process          // serves the REST API
	edge    *process          // carries calls: the same process when both halves are together

	serve func() // starts control anew with the same data
	carry func() // starts edge anew with the same data

	mu      sync.Mutex // guards secrets
	secrets []string   // that no log may show
}

// deploy starts Hookswitch and returns when it takes calls. When the test ends it is stopped, must say so by exit code 0, and
// must have kept its secrets out of its logs.
func deploy(t *testing.T, kind string, o options) *deployment {
	t.Helper()
	d := &deployment{t: t, kind: kind, data: filepath.Join(t.TempDir(), "data")}
	d.sip = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), freePort(t))
	d.url = fmt.Sprintf("http://127.0.0.1:%d", freePort(t))
	edge := []string{"--sip", d.sip.String(), "--rtp", audioPorts(o.rtp), "--data", d.data, "--log-level", "debug"}
	// A machine that runs tests is busy; how an edge refuses calls then is for other tests to show.
	edge = append(edge, "--max-lateness", "2s")
	edge = append(edge, o.edge...)
	var wrap []string
	if o.wrap != nil {
		wrap = o.wrap(d.data)
	}
	if kind == together {
		d.together(slices.Concat(wrap, []string{hookswitch, "up", "--http", d.listens()}, edge))
	} else {
		d.apart(slices.Concat(wrap, []string{hookswitch, "edge"}, edge), o.allowed)
	}
	d.readCredentials()
	t.Cleanup(d.stop)
	d.ready()
	// Callers without a password come from a carrier, by its network.
	d.expect(t, http.StatusCreated, http.MethodPost, "/v1/trunks", object{
		"name": "carrier", "address": "127.0.8.1", "networks": []string{"127.0.8.0/24", "127.0.18.0/24"},
	})
	return d
}

func (d *deployment) together(args []string) {
	d.serve = func() { d.control = d.run("up", args); d.edge = d.control }
	d.carry = d.serve
	d.serve()
}

func (d *deployment) apart(edge []string, allowed string) {
	d.t.Helper()
	home := filepath.Join(d.t.TempDir(), "control")
	edges := fmt.Sprintf("127.0.0.1:%d", freePort(d.t))
	blobs := blobtest.S3URL(d.t)
	if u, err := url.Parse(blobs); err == nil && u.User != nil {
		password, _ := u.User.Password()
		d.hide(password, url.QueryEscape(password))
	}
	database := []string{"--data", home, "--database", dbtest.PostgresURL(d.t)}
	store := []string{"--bus", bustest.RedisURL(d.t), "--blobs", blobs}
	serve := slices.Concat([]string{hookswitch, "controlplane", "--http", d.listens(), "--edges", edges, "--log-level", "debug"}, database, store)
	d.serve = func() { d.control = d.run("controlplane", serve) }
	d.serve()
	d.answers("/readyz")
	token := d.token(slices.Concat([]string{"key", "create", "--edge"}, database))
	d.hide(token)
	if allowed == "" {
		allowed = "127.0.0.0/8"
	}
	carry := slices.Concat(edge, []string{"--control", "http://" + edges, "--token", token, "--allow-network", allowed})
	d.carry = func() { d.edge = d.run("edge", carry) }
	d.carry()
}

// run starts one of the deployment's processes.
func (d *deployment) run(name string, args []string) *process {
	d.t.Helper()
	// A race ends the process with 66. PATH is not enough: the speech engine looks for its voices.
	return start(d.t, name+" ("+d.kind+")", d.t.TempDir(), []string{"GORACE=halt_on_error=1"}, args[0], args[1:]...)
}

// listens is the address of the REST API.
func (d *deployment) listens() string { return strings.TrimPrefix(d.url, "http://") }

// token runs hookswitch key and returns what it printed that begins like an edge's token.
func (d *deployment) token(args []string) string {
	d.t.Helper()
	p := start(d.t, "key", d.t.TempDir(), nil, hookswitch, args...)
	if code := p.code(time.Minute); code != 0 {
		d.t.Fatalf("hookswitch key ended with %d", code)
	}
	for word := range strings.FieldsSeq(p.output()) {
		if strings.HasPrefix(word, "edge_") {
			return word
		}
	}
	d.t.Fatal("hookswitch key create --edge printed no token")
	return ""
}

// readCredentials reads what the first start made: a file for its owner alone.
func (d *deployment) readCredentials() {
	d.t.Helper()
	home := d.data
	if d.kind == apart {
		home = argument(d.control.cmd.Args, "--data")
	}
	path := filepath.Join(home, "credentials")
	eventually(d.t, 3*time.Minute, func() string { return d.waiting(d.control, exists(path)) })
	info, err := os.Stat(path)
	if err != nil {
		d.t.Fatal(err)
	}
	if mode := info.Mode().Perm(); mode != 0o600 {
		d.t.Errorf("%s has mode %o, want 600", path, mode)
	}
	var known struct {
		URL        string            `yaml:"url"`
		APIKey     string            `yaml:"api_key"`
		Domain     string            `yaml:"domain"`
		Extensions map[string]string `yaml:"extensions"`
	}
	text, err := os.ReadFile(path)
	if err == nil {
		err = yaml.Unmarshal(text, &known)
	}
	if err != nil {
		d.t.Fatal(err)
	}
	d.key, d.domain, d.phones = known.APIKey, known.Domain, known.Extensions
	if d.key == "" || d.domain == "" || d.phones["1001"] == "" || d.phones["1002"] == "" {
		d.t.Fatalf("%s lacks the API key, the domain or an extension", path)
	}
	d.hide(d.key, d.phones["1001"], d.phones["1002"])
}

func exists(path string) string {
	if info, err := os.Stat(path); err != nil || info.Size() == 0 {
		return path + " is not there"
	}
	return ""
}

func argument(args []string, name string) string {
	if i := slices.Index(args, name); i >= 0 && i+1 < len(args) {
		return args[i+1]
	}
	return ""
}

// waiting fails the test at once when the process it waits for has ended.
func (d *deployment) waiting(p *process, wrong string) string {
	d.t.Helper()
	select {
	case <-p.gone:
		if wrong != "" {
			d.t.Fatalf("%s has ended with %d", p.name, p.cmd.ProcessState.ExitCode())
		}
	default:
	}
	return wrong
}

// answers waits for a 200.
func (d *deployment) answers(path string) {
	d.t.Helper()
	eventually(d.t, time.Minute, func() string {
		res, err := rest.Get(d.url + path)
		if err != nil {
			return d.waiting(d.control, err.Error())
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return path + " answers " + res.Status
		}
		return ""
	})
}

// ready returns when both halves work: an INVITE, which the edge asks the control plane about, is answered.
func (d *deployment) ready() {
	d.t.Helper()
	d.answers("/healthz")
	d.answers("/readyz")
	if d.kind == apart {
		// Commands go down a connection of their own.
		eventually(d.t, 20*time.Second, func() string {
			if strings.Contains(d.control.output(), "edge.connected") {
				return ""
			}
			return d.waiting(d.edge, "the edge has not connected")
		})
	}
	conn, err := net.Dial("udp", d.sip.String())
	if err != nil {
		d.t.Fatal(err)
	}
	defer conn.Close()
	register := strings.ReplaceAll(fmt.Sprintf(`REGISTER sip:%[1]s SIP/2.0
Via: SIP/2.0/UDP %[2]s;branch=z9hG4bKready
From: <sip:1001@%[1]s>;tag=ready
To: <sip:1001@%[1]s>
Call-ID: ready-%[2]s
CSeq: 1 REGISTER
Max-Forwards: 70
Content-Length: 0

`, d.domain, conn.LocalAddr()), "\n", "\r\n")
	eventually(d.t, 20*time.Second, func() string {
		if _, err := conn.Write([]byte(register)); err != nil {
			return d.waiting(d.edge, err.Error())
		}
		var answer [2048]byte
		if err := conn.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			return err.Error()
		}
		n, err := conn.Read(answer[:])
		if err != nil {
			return d.waiting(d.edge, err.Error())
		}
		if !strings.HasPrefix(string(answer[:n]), "SIP/2.0 401 ") {
			return "REGISTER is answered " + string(answer[:n])
		}
		return ""
	})
}

// processes are the deployment's, the one that carries calls first.
func (d *deployment) processes() []*process {
	if d.edge == d.control {
		return []*process{d.edge}
	}
	return []*process{d.edge, d.control}
}

// stop ends the deployment as an operator would. A test may have ended it before.
func (d *deployment) stop() {
	for _, p := range d.processes() {
		select {
		case <-p.gone:
			continue
		default:
		}
		p.signal(syscall.SIGTERM)
		if code := p.code(60 * time.Second); code != 0 {
			d.t.Errorf("%s ended with %d after SIGTERM", p.name, code)
		}
	}
	for _, p := range d.processes() {
		d.keepsSecrets(p)
	}
}

// hide makes sure at the end that these never came into a log.
func (d *deployment) hide(secrets ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.secrets = append(d.secrets, secrets...)
}

// keepsSecrets looks for secrets in a log. What is meant for the terminal stands before the first line of the log.
func (d *deployment) keepsSecrets(p *process) {
	for line := range strings.Lines(p.output()) {
		if !strings.HasPrefix(line, "time=") {
			continue
		}
		for _, secret := range d.secrets {
			if strings.Contains(line, secret) {
				d.t.Errorf("%s logged a secret (%s…): %s", p.name, secret[:min(4, len(secret))], line)
			}
		}
	}
}

// audioRanges are handed out once, below what the system gives to others.
var audioRanges atomic.Int32

// audioPorts is a range of ports that no other deployment of the suite has.
func audioPorts(n int) string {
	const each, first = 400, 14000
	if n == 0 {
		n = each
	}
	low := first + int(audioRanges.Add(1)-1)*each
	return fmt.Sprintf("%d-%d", low, low+n-1)
}
