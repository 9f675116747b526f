package main

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/hookswitch/hookswitch/deploy/config"
	"github.com/hookswitch/hookswitch/edge/sip"
)

// common are the settings of every process that serves.
type common struct {
	Data      string `flag:"data" default:"./data" help:"folder of everything this process keeps"`
	LogLevel  string `flag:"log-level" default:"info" help:"debug, info, warn or error"`
	LogFormat string `flag:"log-format" default:"text" help:"text or json"`
}

// edgeSettings are an edge's.
type edgeSettings struct {
	SIP          string        `flag:"sip" default:"0.0.0.0:5060" help:"address of SIP over UDP and TCP"`
	RTP          string        `flag:"rtp" default:"10000-29999" help:"UDP ports of audio"`
	PublicIP     string        `flag:"public-ip" help:"address to advertise to peers outside private ranges"`
	AllowNetwork []string      `flag:"allow-network" help:"CIDR that webhooks, audio URLs and trunks may lead to although it is not public; repeatable"`
	SpeechURL    string        `flag:"speech-url" help:"HTTP endpoint that speaks; without it espeak-ng where installed"`
	MaxCalls     int           `flag:"max-calls" default:"10000" help:"live legs at most"`
	Digest       []string      `flag:"digest" default:"MD5" help:"algorithms phones are challenged for, the best first: MD5, SHA-256; many phones cannot register where SHA-256 is offered, even beside MD5"`
	MaxLateness  time.Duration `flag:"max-lateness" help:"refuse new calls while the audio clock is later than this in 1 of 100 ticks; by default 2ms with real-time priority, 10ms without"`
}

// controlSettings are the control plane's.
type controlSettings struct {
	HTTP      string `flag:"http" default:"127.0.0.1:8080" help:"address of the REST API and its documentation"`
	PublicURL string `flag:"public-url" help:"how the outside reaches --http, for links; http://ADDRESS by default"`
	Database  string `flag:"database" help:"sqlite:FILE or postgres://…; SQLite under --data by default" secret:"true"`
	Bus       string `flag:"bus" default:"memory:" help:"memory: or redis://…" secret:"true"`
	Blobs     string `flag:"blobs" help:"file:FOLDER or s3://KEY:SECRET@HOST/BUCKET; files under --data by default" secret:"true"`
}

// upSettings are both halves'.
type upSettings struct {
	common
	controlSettings
	edgeSettings
	Drain  time.Duration `flag:"drain" default:"30s" help:"how long live calls may go on after SIGTERM; 0 is until they end"`
	APIKey string        `flag:"api-key" help:"the API key of the first start; made and shown by default" secret:"true"`
}

// edgeProcess is an edge apart from its control plane.
type edgeProcess struct {
	common
	edgeSettings
	Control string        `flag:"control" help:"http://HOST:PORT of the control plane's --edges"`
	Token   string        `flag:"token" help:"the edge_… token of hookswitch key create --edge" secret:"true"`
	Drain   time.Duration `flag:"drain" default:"0s" help:"how long live calls may go on after SIGTERM; 0 is until they end"`
}

// controlProcess is a control plane apart from its edges.
type controlProcess struct {
	common
	controlSettings
	Edges          string `flag:"edges" default:"127.0.0.1:8081" help:"address that edges dial"`
	DefaultAccount string `flag:"default-account" default:"demo" help:"the account whose domain an edge's own address stands for"`
	APIKey         string `flag:"api-key" help:"the API key of the first start; made and shown by default" secret:"true"`
}

func load(settings any, c cli) error {
	rest, err := config.Load(settings, c.args, c.environ, c.out)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return fmt.Errorf("unknown argument %q", rest[0])
	}
	return nil
}

// portRange reads "10000-29999".
func portRange(text string) (low, high int, err error) {
	from, to, ok := strings.Cut(text, "-")
	low, err1 := strconv.Atoi(from)
	high, err2 := strconv.Atoi(to)
	if !ok || errors.Join(err1, err2) != nil || low < 1024 || high > 65535 || high-low < 1 {
		return 0, 0, fmt.Errorf("--rtp must be a range of ports such as 10000-29999, is %q", text)
	}
	return low, high, nil
}

func prefixes(list []string) ([]netip.Prefix, error) {
	out := make([]netip.Prefix, 0, len(list))
	for _, text := range list {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("--allow-network must be a CIDR such as 10.0.0.0/8, is %q", text)
		}
		out = append(out, p)
	}
	return out, nil
}

// digestAlgorithms reads what phones are challenged for.
func digestAlgorithms(list []string) ([]string, error) {
	out := make([]string, 0, len(list))
	for _, name := range list {
		name = strings.ToUpper(name)
		if name != sip.MD5 && name != sip.SHA256 {
			return nil, fmt.Errorf("--digest must be MD5 or SHA-256, or both, is %q", name)
		}
		out = append(out, name)
	}
	return out, nil
}
