package config

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

type inner struct {
	Token string `flag:"token" secret:"true" help:"what proves who we are"`
}

type settings struct {
	inner
	SIP   string        `flag:"sip" default:"0.0.0.0:5060" help:"where SIP is served"`
	Drain time.Duration `flag:"drain" default:"30s" help:"how long calls may go on"`
	Nets  []string      `flag:"allow-network" help:"networks"`
	Max   int           `flag:"max-calls" default:"10"`
	Quiet bool          `flag:"quiet"`
}

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFlagsWinOverEnvironmentWinsOverFile(t *testing.T) {
	path := file(t, "sip: file:1\ndrain: 1s\nmax-calls: 3\nallow-network: [10.0.0.0/8, 127.0.0.0/8]\n")
	var s settings
	rest, err := Load(&s, []string{"1000", "--sip", "flag:1", "--quiet", "--config", path, "more"}, []string{"HOOKSWITCH_SIP=env:1", "HOOKSWITCH_DRAIN=2s"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := settings{SIP: "flag:1", Drain: 2 * time.Second, Max: 3, Quiet: true, Nets: []string{"10.0.0.0/8", "127.0.0.0/8"}}
	if !reflect.DeepEqual(s, want) {
		t.Errorf("got %+v\nwant %+v", s, want)
	}
	if !reflect.DeepEqual(rest, []string{"1000", "more"}) {
		t.Errorf("what follows the flags is %q", rest)
	}
}

func TestListsAreRepeatedFlagsOrCommas(t *testing.T) {
	var s settings
	if _, err := Load(&s, []string{"--allow-network", "a", "--allow-network", "b"}, []string{"HOOKSWITCH_ALLOW_NETWORK=c"}, nil); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(s.Nets, []string{"a", "b"}) {
		t.Errorf("got %q", s.Nets)
	}
	if _, err := Load(&s, nil, []string{"HOOKSWITCH_ALLOW_NETWORK=c, d"}, nil); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(s.Nets, []string{"c", "d"}) {
		t.Errorf("got %q", s.Nets)
	}
}

func TestMistakesAreErrors(t *testing.T) {
	for _, c := range []struct {
		args, env []string
		says      string
	}{
		{args: []string{"--nonsense"}, says: "nonsense"},
		{args: []string{"--drain", "soon"}, says: "duration"},
		{env: []string{"HOOKSWITCH_MAX_CALLS=many"}, says: "HOOKSWITCH_MAX_CALLS"},
		{args: []string{"--config", file(t, "sipp: x\n")}, says: `unknown key "sipp"`},
		{args: []string{"--config", file(t, "max-calls: many\n")}, says: "max-calls"},
		{args: []string{"--config", file(t, "[1")}, says: "yaml"},
		{args: []string{"--config", "/nowhere/at/all"}, says: "no such file"},
	} {
		var s settings
		_, err := Load(&s, c.args, c.env, nil)
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v %v: got %v, want an error that says %q", c.args, c.env, err, c.says)
		}
	}
}

func TestHelpNamesEverySetting(t *testing.T) {
	var s settings
	var out bytes.Buffer
	_, err := Load(&s, []string{"--help"}, nil, &out)
	if !errors.Is(err, flag.ErrHelp) {
		t.Fatalf("got %v", err)
	}
	for _, name := range []string{"--token", "--sip", "0.0.0.0:5060", "--allow-network", "--config"} {
		if !strings.Contains(out.String(), name) {
			t.Errorf("%q is missing in:\n%s", name, out.String())
		}
	}
}

func TestPrintedSettingsCanBeReadAndHideSecrets(t *testing.T) {
	var first, second settings
	if _, err := Load(&first, []string{"--token", "edge_secret", "--allow-network", "a", "--drain", "5s"}, nil, nil); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := Print(&first, &out); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "edge_secret") {
		t.Error("a secret was printed")
	}
	if _, err := Load(&second, []string{"--config", file(t, out.String()), "--token", "edge_secret"}, nil, nil); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(first, second) {
		t.Errorf("got %+v, want %+v", second, first)
	}
}
