package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hookswitch/hookswitch/webhooks"
)

// invoke runs a command line and returns what it printed.
func invoke(t *testing.T, environ []string, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(t.Context(), cli{args: args, environ: environ, out: &o, err: &e})
	return code, o.String(), e.String()
}

func TestHelpNamesEveryCommand(t *testing.T) {
	code, out, _ := invoke(t, nil)
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	for _, c := range commands() {
		if !strings.Contains(out, "hookswitch "+c.name) {
			t.Errorf("%s is missing in:\n%s", c.name, out)
		}
		code, help, errs := invoke(t, nil, c.name, "--help")
		if c.name != "version" && (code != 0 || !strings.Contains(help, c.help)) {
			t.Errorf("%s --help: code %d\n%s%s", c.name, code, help, errs)
		}
	}
}

func TestMistakesSayWhatToDo(t *testing.T) {
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"dance"}, "hookswitch help"},
		{[]string{"up", "--sip", "nowhere", "--data", t.TempDir(), "--http", "127.0.0.1:0"}, "--sip must be ADDRESS:PORT"},
		{[]string{"up", "--rtp", "9-8", "--data", t.TempDir(), "--http", "127.0.0.1:0"}, "--rtp must be a range"},
		{[]string{"up", "--public-ip", "me", "--data", t.TempDir(), "--http", "127.0.0.1:0"}, "--public-ip must be an IP"},
		{[]string{"up", "--allow-network", "10", "--data", t.TempDir(), "--http", "127.0.0.1:0"}, "--allow-network must be a CIDR"},
		{[]string{"up", "--log-level", "loud"}, "--log-level must be"},
		{[]string{"up", "--log-format", "verse"}, "--log-format must be"},
		{[]string{"up", "now"}, `unknown argument "now"`},
		{[]string{"edge"}, "--control and --token are needed"},
		{[]string{"key"}, "hookswitch key create"},
		{[]string{"key", "create", "--data", t.TempDir()}, "start the control plane once"},
		{[]string{"config", "weather"}, "up, edge or controlplane"},
		{[]string{"call"}, "say whom to call"},
		{[]string{"call", "1000", "--data", t.TempDir()}, "start hookswitch up first"},
		{[]string{"call", "1000", "--server", "127.0.0.1:5060", "--digits", "1"}, "KEYS@TIME"},
		{[]string{"call", "1000", "--server", "127.0.0.1:5060", "--wav", "/nowhere.wav"}, "no such file"},
	} {
		code, _, errs := invoke(t, nil, c.args...)
		if code == 0 || !strings.Contains(errs, c.says) {
			t.Errorf("%v: exit %d, says %q, want %q", c.args, code, errs, c.says)
		}
	}
}

func TestConfigPrintsWhatFlagsAndEnvironmentCameTo(t *testing.T) {
	code, out, errs := invoke(t, []string{"HOOKSWITCH_SIP=127.0.0.1:7000", "HOOKSWITCH_TOKEN=edge_secret"}, "config", "edge", "--drain", "5m")
	if code != 0 || errs != "" {
		t.Fatalf("exit %d: %s", code, errs)
	}
	for _, line := range []string{"sip: 127.0.0.1:7000", "drain: 5m0s", "token: (hidden)"} {
		if !strings.Contains(out, line) {
			t.Errorf("%q is missing in:\n%s", line, out)
		}
	}
}

func TestCredentialsAreForTheirOwnerAlone(t *testing.T) {
	dir := t.TempDir()
	want := credentials{URL: "http://127.0.0.1:8080", APIKey: "sk_x", SIP: "127.0.0.1:5060", Domain: "d", Extensions: map[string]string{"1001": "p"}}
	if err := writeCredentials(dir, want); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, "credentials"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	got, found, err := readCredentials(dir)
	if err != nil || !found || got.Extensions["1001"] != "p" || got.APIKey != want.APIKey {
		t.Errorf("got %+v, %v, %v", got, found, err)
	}
}

func TestAnEdgeKeepsItsName(t *testing.T) {
	dir := t.TempDir()
	first, err1 := edgeID(dir)
	second, err2 := edgeID(dir)
	if err1 != nil || err2 != nil || first != second || !strings.HasPrefix(string(first), "edge_") {
		t.Errorf("%s, %v; %s, %v", first, err1, second, err2)
	}
}

func TestTheWelcomeProgramIsOne(t *testing.T) {
	if _, err := webhooks.ParseProgram(welcome); err != nil {
		t.Error(err)
	}
}
