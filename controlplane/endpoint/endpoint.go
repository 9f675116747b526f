// Package endpoint owns event endpoints: the URLs to which an account has its events sent, what each wants to hear, the
// secrets that sign, and the record of every delivery with its attempts. Sending is left to package delivery.
package endpoint

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/uptrace/bun"
	"golang.org/x/net/http/httpguts"

	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest"
	"github.com/hookswitch/hookswitch/webhooks"
	"github.com/hookswitch/hookswitch/webhooks/guard"
)

// Endpoint is a URL that events are posted to.
type Endpoint struct {
	bun.BaseModel `bun:"table:event_endpoints" json:"-"`
	db.Row

	URL         string   `bun:"url" json:"url"`
	Description string   `bun:"description,nullzero" json:"description,omitempty"`
	Types       []string `bun:"types,type:jsonb" json:"types"` // patterns of event.Match
	Enabled     bool     `bun:"enabled" json:"enabled"`
	// HeaderNames are those of Headers, whose values are shown to nobody.
	HeaderNames []string `bun:"-" json:"header_names"`
	// DisabledReason and DisabledAt say why and since when it is off.
	DisabledReason Reason     `bun:"disabled_reason,nullzero" json:"disabled_reason,omitempty"`
	DisabledAt     *time.Time `bun:"disabled_at" json:"disabled_at,omitempty"`
	// OldSecret signs as well, beside Secret, until OldSecretUntil.
	OldSecretUntil *time.Time `bun:"old_secret_until" json:"old_secret_until,omitempty"`
	// Shown is the secret in the one answer that tells it: that of creating or rotating it.
	Shown string `bun:"-" json:"secret,omitempty"`

	Headers   map[string]string `bun:"headers,type:jsonb" json:"-"`
	Secret    string            `bun:"secret" json:"-"` // whsec_…
	OldSecret string            `bun:"old_secret,nullzero" json:"-"`
}

// Reason is why an endpoint is off.
type Reason string

// The reasons.
const (
	Manual  Reason = "manual"  // somebody switched it off
	Gone    Reason = "gone"    // it answered 410
	Failing Reason = "failing" // nothing but failures for five days
)

// AfterScanRow fills what follows from the columns.
func (e *Endpoint) AfterScanRow(context.Context) error {
	e.name()
	return nil
}

func (e *Endpoint) name() {
	e.HeaderNames = make([]string, 0, len(e.Headers))
	for name := range e.Headers {
		e.HeaderNames = append(e.HeaderNames, name)
	}
	slices.Sort(e.HeaderNames)
}

// Secrets are those that deliveries are signed with at a time, the newest first.
func (e *Endpoint) Secrets(now time.Time) []string {
	if e.OldSecret != "" && e.OldSecretUntil != nil && now.Before(*e.OldSecretUntil) {
		return []string{e.Secret, e.OldSecret}
	}
	return []string{e.Secret}
}

// rotate makes a new secret and has the old one sign on until a time.
func (e *Endpoint) rotate(now time.Time, overlap time.Duration) {
	e.OldSecret, e.OldSecretUntil = "", nil
	if overlap > 0 {
		until := now.Add(overlap)
		e.OldSecret, e.OldSecretUntil = e.Secret, &until
	}
	e.Secret = webhooks.NewSecret()
	e.Shown = e.Secret
}

// Draft is what a caller decides of an endpoint. The defaults of absent fields are the specification's.
type Draft struct {
	rest.Keys
	URL         string            `json:"url"`
	Description string            `json:"description,omitempty"`
	Types       []string          `json:"types"`
	Enabled     bool              `json:"enabled"`
	Headers     map[string]string `json:"headers,omitempty"`
}

const (
	maxDescription = 500 // characters
	maxTypes       = 100
	maxHeaders     = 20
	maxHeaderValue = 4 << 10 // bytes
)

var pattern = regexp.MustCompile(`^(\*|[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*(\.\*)?)$`)

// Check refuses what the specification cannot say. Headers are put into their canonical form.
func (d *Draft) Check() error {
	if utf8.RuneCountInString(d.Description) > maxDescription {
		return problem.InvalidField("/description", "maxLength", "may have at most %d characters", maxDescription)
	}
	if len(d.Types) == 0 || len(d.Types) > maxTypes {
		return problem.InvalidField("/types", "items", "must name 1 to %d types, or [\"*\"] for all", maxTypes)
	}
	for _, p := range d.Types {
		if !pattern.MatchString(p) {
			return problem.InvalidField("/types", "pattern", "must be types such as call.ended, call.* or *, is %q", p)
		}
	}
	return d.checkHeaders()
}

func (d *Draft) checkHeaders() error {
	if len(d.Headers) > maxHeaders {
		return problem.InvalidField("/headers", "maxProperties", "may have at most %d headers", maxHeaders)
	}
	canonical := map[string]string{}
	for name, value := range d.Headers {
		at := "/headers/" + name
		switch {
		case !httpguts.ValidHeaderFieldName(name):
			return problem.InvalidField(at, "name", "is not the name of a header")
		case reserved(name):
			return problem.InvalidField(at, "reserved", "is set by the delivery itself")
		case !httpguts.ValidHeaderFieldValue(value) || len(value) > maxHeaderValue:
			return problem.InvalidField(at, "value", "must be one line of at most %d bytes", maxHeaderValue)
		}
		canonical[http.CanonicalHeaderKey(name)] = value
	}
	d.Headers = canonical
	return nil
}

// reserved are the headers that a delivery sets, and those that belong to the connection (RFC 9110 §7.6.1).
func reserved(name string) bool {
	name = strings.ToLower(name)
	return strings.HasPrefix(name, "webhook-") || strings.HasPrefix(name, "proxy-") || slices.Contains([]string{
		"accept-encoding", "connection", "content-encoding", "content-length", "content-type", "date", "expect", "host", "keep-alive", "te",
		"trailer", "transfer-encoding", "upgrade",
	}, name)
}

// resolveWithin bounds the look-up of a name that is to be asked without TLS.
const resolveWithin = 2 * time.Second

// checkURL refuses a URL that is not https; and http too, unless every address of its host is in the operator's own
// networks, where TLS may be somebody else's matter.
func checkURL(ctx context.Context, text string, plain []netip.Prefix) error {
	u, err := guard.ParseURL(text)
	if err != nil {
		return problem.InvalidField("/url", "url", "%s", err.Error())
	}
	if u.Scheme == "https" || within(ctx, u, plain) {
		return nil
	}
	return problem.InvalidField("/url", "url.scheme", "must begin with https://; http:// is for networks that the operator has allowed")
}

func within(ctx context.Context, u *url.URL, networks []netip.Prefix) bool {
	if len(networks) == 0 {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, resolveWithin)
	defer cancel()
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", u.Hostname())
	if err != nil || len(found) == 0 {
		return false
	}
	for _, a := range found {
		if !slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(a.Unmap()) }) {
			return false
		}
	}
	return true
}
