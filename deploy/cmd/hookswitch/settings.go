package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/hookswitch/hookswitch/controlplane/notice"
	"github.com/hookswitch/hookswitch/controlplane/user"
	"github.com/hookswitch/hookswitch/deploy/config"
	"github.com/hookswitch/hookswitch/edge/sip"
)

// common are the settings of every process that serves.
type common struct {
	Data      string `flag:"data" default:"./data" help:"folder of everything this process keeps"`
	LogLevel  string `flag:"log-level" default:"info" help:"debug, info, warn or error"`
	LogFormat string `flag:"log-format" default:"text" help:"text or json"`

	AllowNetwork []string `flag:"allow-network" help:"CIDR that URLs given by accounts (webhooks, events, audio, mail servers) and trunks may lead to although it is not public; repeatable"`
}

// operatorSettings say what an operator sees of a process that serves.
type operatorSettings struct {
	Ops          string `flag:"ops" default:"127.0.0.1:9090" help:"address of health, metrics, profiles and the log level, for operators alone; off for none"`
	OTLPEndpoint string `flag:"otlp-endpoint" help:"URL of an OpenTelemetry receiver for traces, such as http://127.0.0.1:4318; the variables OTEL_… hold too"`
	TrustCA      string `flag:"trust-ca" help:"PEM file of certificate authorities to trust beside the system's: of the control plane, storage, traces, ACME"`
}

// httpsSettings say how the REST API and the console are served.
type httpsSettings struct {
	HTTPS         string   `flag:"https" default:"off" help:"off; self: an authority of its own; files: --https-cert and --https-key; acme: a public authority such as Let's Encrypt"`
	HTTPSCert     string   `flag:"https-cert" help:"PEM file of the certificate and those above it; read again when it changes"`
	HTTPSKey      string   `flag:"https-key" help:"PEM file of its key"`
	ACMEDomain    []string `flag:"acme-domain" help:"host name that leads here; repeatable"`
	ACMEEmail     string   `flag:"acme-email" help:"where the authority writes to when a certificate is about to end"`
	ACMEDirectory string   `flag:"acme-directory" help:"directory URL of the authority; Let's Encrypt by default"`
	HTTPRedirect  string   `flag:"http-redirect" help:"address of a listener in clear text that leads to https, such as 0.0.0.0:80"`
	MetricsToken  string   `flag:"metrics-token" help:"serve /metrics beside the REST API too, to those who send this as a bearer token" secret:"true"`
}

// edgeSettings are an edge's.
type edgeSettings struct {
	SIP         string        `flag:"sip" default:"0.0.0.0:5060" help:"address of SIP over UDP and TCP"`
	RTP         string        `flag:"rtp" default:"10000-29999" help:"UDP ports of audio"`
	PublicIP    string        `flag:"public-ip" help:"address to advertise to peers outside private ranges"`
	SpeechURL   string        `flag:"speech-url" help:"HTTP endpoint that speaks; without it espeak-ng where installed"`
	MaxCalls    int           `flag:"max-calls" default:"10000" help:"live legs at most"`
	Digest      []string      `flag:"digest" default:"MD5" help:"algorithms phones are challenged for, the best first: MD5, SHA-256; many phones cannot register where SHA-256 is offered, even beside MD5"`
	MaxLateness time.Duration `flag:"max-lateness" help:"refuse new calls while the audio clock is later than this in 1 of 100 ticks; by default 2ms with real-time priority, 10ms without"`
}

// controlSettings are the control plane's.
type controlSettings struct {
	HTTP      string `flag:"http" default:"127.0.0.1:8080" help:"address of the REST API and its documentation"`
	PublicURL string `flag:"public-url" help:"how the outside reaches --http, for links; by default the certificate's name, or the address"`
	Database  string `flag:"database" help:"sqlite:FILE or postgres://…; SQLite under --data by default" secret:"true"`
	Bus       string `flag:"bus" default:"memory:" help:"memory: or redis://…" secret:"true"`
	Blobs     string `flag:"blobs" help:"file:FOLDER or s3://KEY:SECRET@HOST/BUCKET; files under --data by default" secret:"true"`
	httpsSettings
	signInSettings
	mailSettings
}

// signInSettings name the identity provider of accounts that have none of their own.
type signInSettings struct {
	OIDCIssuer       string   `flag:"oidc-issuer" help:"OpenID Connect provider that people sign in by, where their account has none of its own: its URL, such as https://login.example.com"`
	OIDCClientID     string   `flag:"oidc-client-id" help:"our id there"`
	OIDCClientSecret string   `flag:"oidc-client-secret" help:"our secret there" secret:"true"`
	OIDCDomain       []string `flag:"oidc-domain" help:"domain of e-mail addresses to take; repeatable, any by default"`
	OIDCMatch        string   `flag:"oidc-match" default:"email" help:"how a user is found: email, an address that the provider has verified; or sub, the subject kept with the user"`
}

// provider is nil where none is named.
func (s signInSettings) provider() (*user.Provider, error) {
	if s.OIDCIssuer == "" {
		return nil, nil
	}
	p := &user.Provider{
		Issuer: s.OIDCIssuer, ClientID: s.OIDCClientID, ClientSecret: s.OIDCClientSecret, Domains: s.OIDCDomain, Match: s.OIDCMatch,
	}
	if err := p.Check(); err != nil {
		return nil, fmt.Errorf("--oidc-…: %w", err)
	}
	return p, nil
}

// mailSettings name the mail server of accounts that have none of their own.
type mailSettings struct {
	MailServer   string `flag:"mail-server" help:"HOST:PORT of the mail server for accounts that have none of their own"`
	MailSecurity string `flag:"mail-security" default:"starttls" help:"starttls, tls, or none"`
	MailUsername string `flag:"mail-username" help:"who we sign in as there"`
	MailPassword string `flag:"mail-password" help:"and our password" secret:"true"`
	MailFrom     string `flag:"mail-from" help:"address that mail comes from"`
	MailFromName string `flag:"mail-from-name" default:"Hookswitch" help:"name beside it"`
}

// mail is nil where no server is named.
func (s mailSettings) mail() (*notice.Mail, error) {
	if s.MailServer == "" {
		return nil, nil
	}
	host, text, err := net.SplitHostPort(s.MailServer)
	port, err2 := strconv.Atoi(text)
	if errors.Join(err, err2) != nil {
		return nil, fmt.Errorf("--mail-server must be HOST:PORT, is %q", s.MailServer)
	}
	m := &notice.Mail{Password: s.MailPassword, Server: notice.Server{
		Host: host, Port: port, Security: notice.Security(s.MailSecurity), Username: s.MailUsername, FromAddress: s.MailFrom, FromName: s.MailFromName,
	}}
	if err := m.Check(); err != nil {
		return nil, fmt.Errorf("--mail-…: %w", err)
	}
	return m, nil
}

// upSettings are both halves'.
type upSettings struct {
	common
	operatorSettings
	controlSettings
	edgeSettings
	Drain  time.Duration `flag:"drain" default:"30s" help:"how long live calls may go on after SIGTERM; 0 is until they end"`
	APIKey string        `flag:"api-key" help:"the API key of the first start; made and shown by default" secret:"true"`
}

// edgeProcess is an edge apart from its control plane.
type edgeProcess struct {
	common
	operatorSettings
	edgeSettings
	Control string        `flag:"control" help:"http://HOST:PORT of the control plane's --edges"`
	Token   string        `flag:"token" help:"the edge_… token of hookswitch key create --edge" secret:"true"`
	Drain   time.Duration `flag:"drain" default:"0s" help:"how long live calls may go on after SIGTERM; 0 is until they end"`
}

// controlProcess is a control plane apart from its edges.
type controlProcess struct {
	common
	operatorSettings
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
