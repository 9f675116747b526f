// Package guard owns the only HTTP client for URLs that accounts give: webhooks, audio, event endpoints. It keeps
// such a URL from reaching anything but the public internet (and what the operator allows), and bounds what the
// other side can make us wait for or hold. Retries, budgets, signatures and the meaning of an answer are left to
// the callers.
//
// Why the address is checked in the dialler and not in the URL: a name can resolve to a public address when it is
// checked and to 127.0.0.1 when it is dialled. net.Dialer.Control sees the very address of the connection, at the
// first request, at every redirect and at every retry. For the same reason there is no proxy: the dialler would
// see the proxy's address only.
package guard

import (
	"crypto/x509"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"code.dny.dev/ssrf"
)

// Limits that hold for every request.
const (
	MaxHeaderBytes = 16 << 10  // of a response's header, all lines together
	MaxRedirects   = 3         // followed in one Fetch
	DefaultMaxBody = 256 << 10 // of a response's body, after decompression

	defaultConnectTimeout = time.Second
	defaultConnsPerHost   = 256
	idleConnsPerHost      = 32
	idleConns             = 1024
	idleTimeout           = 30 * time.Second
)

// Config says what a Client may reach. The zero value reaches public addresses only.
type Config struct {
	// AllowNetworks are reachable although they are private, loopback or otherwise special. They win over
	// DenyNetworks.
	AllowNetworks []netip.Prefix
	// DenyNetworks are refused although they are public: the installation's own addresses, for example.
	DenyNetworks []netip.Prefix

	ConnectTimeout  time.Duration // until a connection is ready: DNS, TCP and TLS together; 1 s when zero
	MaxConnsPerHost int           // 256 when zero
	RootCAs         *x509.CertPool
	Resolver        *net.Resolver // the system's when nil

	// Transport replaces the network: requests go to it instead of a socket, and only addresses written in a URL
	// are checked. It is for targets that are not reached by TCP and for tests in virtual time.
	Transport http.RoundTripper
}

// Client fetches URLs within its Config. It is safe for concurrent use.
type Client struct {
	allow, deny    []netip.Prefix
	public         *ssrf.Guardian
	connectTimeout time.Duration
	transport      http.RoundTripper
}

// New returns a Client; Close releases its idle connections.
func New(cfg Config) *Client {
	c := &Client{
		allow: slices.Clone(cfg.AllowNetworks),
		deny:  slices.Clone(cfg.DenyNetworks),
		// The table of special addresses is generated from the IANA registries. Ports are the account's choice;
		// networks are checked in control.
		public:         ssrf.New(ssrf.WithAnyPort(), ssrf.WithAnyNetwork()),
		connectTimeout: cfg.ConnectTimeout,
		transport:      cfg.Transport,
	}
	if c.connectTimeout == 0 {
		c.connectTimeout = defaultConnectTimeout
	}
	if c.transport == nil {
		c.transport = c.network(cfg)
	}
	return c
}

func (c *Client) network(cfg Config) *http.Transport {
	conns := cfg.MaxConnsPerHost
	if conns == 0 {
		conns = defaultConnsPerHost
	}
	// The dialler's own limit is the longest that a request may ask for: a dial outlives the request that began
	// it, because its connection can serve the next one.
	dialer := &net.Dialer{Timeout: maxConnectTimeout, Resolver: cfg.Resolver, Control: c.control}
	return &http.Transport{
		Proxy:                  nil,
		DialContext:            dialer.DialContext,
		TLSClientConfig:        tlsConfig(cfg.RootCAs),
		TLSHandshakeTimeout:    maxConnectTimeout,
		ForceAttemptHTTP2:      true,
		MaxConnsPerHost:        conns,
		MaxIdleConnsPerHost:    min(conns, idleConnsPerHost),
		MaxIdleConns:           idleConns,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: MaxHeaderBytes,
	}
}

// control is called with the address about to be connected to, after DNS.
func (c *Client) control(network, address string, _ syscall.RawConn) error {
	if network != "tcp4" && network != "tcp6" {
		return &Error{Class: ClassDenied, Text: "only TCP is allowed"}
	}
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return &Error{Class: ClassDenied, Text: deniedText, err: err}
	}
	return c.CheckAddr(at.Addr())
}

// CheckAddr reports whether an account's URL, trunk or SIP URI may lead to the address: nil, or an *Error of class
// denied. IPv4-mapped addresses count as the IPv4 address they reach; NAT64 (RFC 6052) and 6to4 (RFC 3056) forms
// are refused whatever they embed.
func (c *Client) CheckAddr(addr netip.Addr) error {
	addr = addr.Unmap().WithZone("")
	contains := func(p netip.Prefix) bool { return p.Contains(addr) }
	denied := &Error{Class: ClassDenied, Text: deniedText}
	switch {
	case !addr.IsValid():
		return denied
	case slices.ContainsFunc(c.allow, contains):
		return nil
	case slices.ContainsFunc(c.deny, contains), c.public.SafeAddr(addr) != nil:
		return denied
	}
	return nil
}

// Close drops idle connections. Requests in flight go on.
func (c *Client) Close() {
	if t, ok := c.transport.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}
