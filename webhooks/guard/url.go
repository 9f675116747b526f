package guard

import (
	"net/netip"
	"net/url"
	"strings"
)

const maxURLBytes = 8 << 10

// ParseURL reads a URL that an account gave and refuses what Fetch would never ask: another scheme than http or
// https, credentials, no host, a host that is a number in disguise (0x7f.1, 2130706433). Surrounding white space
// is dropped. The error is an *Error of class url. Whether its address is allowed shows when it is dialled.
func ParseURL(raw string) (*url.URL, error) {
	raw = strings.TrimSpace(raw)
	if len(raw) > maxURLBytes {
		return nil, badURL("is longer than 8,192 bytes")
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil, &Error{Class: ClassURL, Text: "the URL is malformed", err: err}
	}
	return u, checkURL(u)
}

func checkURL(u *url.URL) error {
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return badURL("must begin with https:// or http://")
	case u.User != nil:
		return badURL("must not carry a user name or password; requests are signed instead")
	case u.Opaque != "" || u.Hostname() == "":
		return badURL("names no host")
	case disguised(u.Hostname()):
		return badURL("writes an IPv4 address in a form that is not four decimal numbers")
	}
	return nil
}

func badURL(what string) *Error { return &Error{Class: ClassURL, Text: "the URL " + what} }

// disguised reports whether a host ends in a number without being an address in its usual form. Browsers and some
// resolvers take 127.1, 0177.0.0.1 and 2130706433 for IPv4 addresses (WHATWG URL, "ends in a number"); no name in
// the public DNS looks like that.
func disguised(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil {
		return false
	}
	labels := strings.Split(strings.TrimSuffix(host, "."), ".")
	last := strings.ToLower(labels[len(labels)-1])
	if last == "" {
		return true
	}
	if hex, ok := strings.CutPrefix(last, "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return strings.Trim(last, "0123456789") == ""
}

// checkLiteral applies the address check to a host that is an address already, so that it holds where no socket is
// dialled and costs no packet where one would be.
func (c *Client) checkLiteral(u *url.URL) error {
	if addr, err := netip.ParseAddr(u.Hostname()); err == nil {
		return c.CheckAddr(addr)
	}
	return nil // a name: its addresses are checked when they are dialled
}
