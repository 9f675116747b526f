package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/edge/media/wav"
	"github.com/hookswitch/hookswitch/webhooks"
)

// Programs of others, and our own telephone.
var programStories = []scenario{
	{"baresip registers, calls the welcome program and presses a key", baresip},
	{"hookswitch call goes through the welcome program", callsWelcome},
	{"hookswitch call fails for a number that does not exist", callsNobody},
	{"the specification and its documentation are served", documentation},
}

// softphone is a running baresip, which is told what to do over a connection of netstrings.
type softphone struct {
	t     *testing.T
	conn  net.Conn
	input *bufio.Reader
}

func baresip(t *testing.T, d *deployment) {
	p := d.startBaresip(t)
	eventually(t, 15*time.Second, func() string {
		list := get[page[struct {
			Extension string
			UserAgent string `json:"user_agent"`
		}]](t, d, "/v1/registrations?extension=1001")
		for _, r := range list.Data {
			if strings.HasPrefix(r.UserAgent, "baresip") {
				return ""
			}
		}
		return "baresip has not registered"
	})
	p.command("dial", "sip:1000@"+d.domain)
	established := p.event("CALL_ESTABLISHED")
	c := d.found(t, fmt.Sprint(established["id"]))
	// The question is asked after a greeting: the key is pressed again until it was heard.
	eventually(t, 30*time.Second, func() string {
		p.command("sndcode", "5")
		if len(d.events(t, c.ID).of(webhooks.EventGatherCompleted)) == 1 {
			return ""
		}
		return "the key was not heard"
	})
	p.command("hangup", "")
	c, events := d.ended(t, c.ID)
	if c.Cause != "caller_hangup" || c.From != "1001" || c.To != "1000" || c.Media == nil || c.Media.Codec != "PCMU" || c.Media.PacketsReceived < 50 {
		t.Errorf("the record is %+v with %+v", c, c.Media)
	}
	if got := events.one(t, webhooks.EventGatherCompleted).Data; got.Digits != "5" || got.Instruction != "digit" {
		t.Errorf("gather.completed says %+v", got)
	}
}

func (d *deployment) startBaresip(t *testing.T) *softphone {
	t.Helper()
	dir := t.TempDir()
	control := freePort(t)
	said := filepath.Join(dir, "said.wav")
	write(t, said, wav.Encode(wav.PCM{Samples: sine(700, 2*time.Minute), Rate: 8000, Channels: 1}))
	write(t, filepath.Join(dir, "config"), fmt.Appendf(nil, `poll_method epoll
sip_listen 127.0.0.1:%d
net_interface 127.0.0.1
rtp_ports 27000-27100
module_path /usr/lib/baresip/modules
audio_player aufile,%s
audio_source aufile,%s
audio_alert aufile,%[3]s
ctrl_tcp_listen 127.0.0.1:%[4]d
module g711.so
module aufile.so
module_tmp account.so
module_app menu.so
module_app ctrl_tcp.so
`, freePort(t), filepath.Join(dir, "heard.wav"), said, control))
	write(t, filepath.Join(dir, "accounts"), fmt.Appendf(nil,
		"<sip:1001@%s;transport=udp>;auth_user=1001;auth_pass=%s;outbound=\"sip:%s\";regint=60;audio_codecs=PCMU/8000/1\n", d.domain, d.phones["1001"], d.sip))
	write(t, filepath.Join(dir, "contacts"), nil)
	start(t, "baresip", dir, nil, program(t, "baresip"), "-4", "-f", dir)
	p := &softphone{t: t}
	eventually(t, 15*time.Second, func() string {
		var err error
		if p.conn, err = net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", control)); err != nil {
			return err.Error()
		}
		return ""
	})
	t.Cleanup(func() { _ = p.conn.Close() }) // baresip may have gone first
	p.input = bufio.NewReader(p.conn)
	return p
}

func (p *softphone) command(name, params string) {
	p.t.Helper()
	text, err := json.Marshal(object{"command": name, "params": params})
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := fmt.Fprintf(p.conn, "%d:%s,", len(text), text); err != nil {
		p.t.Fatal(err)
	}
}

// event waits for an event of a kind.
func (p *softphone) event(kind string) object {
	p.t.Helper()
	if err := p.conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		p.t.Fatal(err)
	}
	for {
		size, err := p.input.ReadString(':')
		if err != nil {
			p.t.Fatalf("baresip tells of no %s: %v", kind, err)
		}
		n, err := strconv.Atoi(strings.TrimSuffix(size, ":"))
		if err != nil {
			p.t.Fatalf("baresip says %q", size)
		}
		text := make([]byte, n+1) // and a comma
		if _, err := io.ReadFull(p.input, text); err != nil {
			p.t.Fatal(err)
		}
		if e := into[object](p.t, text[:n]); e["type"] == kind {
			return e
		}
	}
}

// hookswitch runs a command of the binary to its end.
func (d *deployment) hookswitch(t *testing.T, args ...string) (output string, code int) {
	t.Helper()
	home := d.data
	if d.kind == apart {
		home = argument(d.control.cmd.Args, "--data")
	}
	args = append(args, "--data", home, "--server", d.sip.String())
	p := start(t, "hookswitch "+args[0], t.TempDir(), []string{"GORACE=halt_on_error=1"}, hookswitch, args...)
	code = p.code(90 * time.Second)
	return p.output(), code
}

func callsWelcome(t *testing.T, d *deployment) {
	dir := t.TempDir()
	said, heard := filepath.Join(dir, "said.wav"), filepath.Join(dir, "heard.wav")
	write(t, said, wav.Encode(wav.PCM{Samples: noise(40 * time.Second), Rate: 8000, Channels: 1}))
	// The times are generous: keys pressed at another moment than their question's are pressed in vain.
	text, code := d.hookswitch(t, "call", "1000", "--digits", "5@6s,5@9s,5@12s,#@24s,#@27s,#@30s", "--wav", said, "--save", heard, "--hangup", "40s")
	if code != 0 {
		t.Fatalf("it ended with %d: %s", code, text)
	}
	for _, part := range []string{"--> INVITE", "<-- 401 Unauthorized", "<-- 200 OK", "--> ACK", "call.answered", "gather.completed", `"digits":"5"`, "recording.started", "call.ended", "heard ", "codec PCMU"} {
		if !strings.Contains(text, part) {
			t.Errorf("it does not say %q:\n%s", part, text)
		}
	}
	if exists(heard) != "" {
		t.Error("what was heard was not saved")
	}
}

func callsNobody(t *testing.T, d *deployment) {
	text, code := d.hookswitch(t, "call", "8765")
	if code != 1 || !strings.Contains(text, "404 Not Found") {
		t.Errorf("it ended with %d: %s", code, text)
	}
}

func documentation(t *testing.T, d *deployment) {
	for path, part := range map[string]string{"/openapi.yaml": "openapi: 3.1", "/docs": "<html"} {
		res, err := rest.Get(d.url + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil || res.StatusCode != http.StatusOK || !strings.Contains(string(body), part) {
			t.Errorf("%s answers %s, %v: %.200s", path, res.Status, err, body)
		}
	}
}
