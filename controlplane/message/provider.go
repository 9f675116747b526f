package message

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/uptrace/bun"
	"golang.org/x/net/http/httpguts"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest"
	"github.com/hookswitch/hookswitch/webhooks/guard"
)

// Kind is how a provider is spoken to.
type Kind string

// The kinds of provider.
const (
	ByHTTP Kind = "http" // a gateway with an HTTP API
	BySMPP Kind = "smpp" // a message centre, by SMPP 3.4
)

// Provider takes messages to telephones.
type Provider struct {
	bun.BaseModel `bun:"table:message_providers" json:"-"`
	db.Row

	Name    string `bun:"name" json:"name"` // unique in the account
	Kind    Kind   `bun:"kind" json:"kind"` // it stays
	Enabled bool   `bun:"enabled" json:"enabled"`
	// IsDefault says that it sends what names no provider. An account has one such at most.
	IsDefault bool   `bun:"is_default" json:"is_default"`
	From      string `bun:"from,nullzero" json:"from,omitempty"` // of messages that name no sender
	// MessagesPerSecond bounds what it is sent, in parts of texts, by all processes together.
	MessagesPerSecond float64 `bun:"messages_per_second" json:"messages_per_second"`

	HTTP    *HTTP             `bun:"http,type:jsonb,nullzero" json:"http,omitempty"`
	Headers map[string]string `bun:"http_headers,type:jsonb,nullzero" json:"-"`
	Secret  string            `bun:"http_secret,nullzero" json:"-"`
	// ReportToken is what ReportURL ends with.
	ReportToken string `bun:"report_token,nullzero" json:"-"`
	ReportURL   string `bun:"-" json:"report_url,omitempty"`

	SMPP     *SMPP  `bun:"smpp,type:jsonb,nullzero" json:"smpp,omitempty"`
	Password string `bun:"smpp_password,nullzero" json:"-"`
	// State and LastError are those of the session with a message centre.
	State       string     `bun:"state,nullzero" json:"state,omitempty"`
	LastError   string     `bun:"last_error,nullzero" json:"last_error,omitempty"`
	LastErrorAt *time.Time `bun:"last_error_at" json:"last_error_at,omitempty"`
}

// The states of a session.
const (
	bound   = "bound"
	unbound = "unbound"
)

// AfterScanRow writes what follows from other fields.
func (p *Provider) AfterScanRow(context.Context) error {
	p.show()
	return nil
}

func (p *Provider) show() {
	if p.ReportToken != "" {
		p.ReportURL = "/v1/message_reports/" + p.ReportToken
	}
	if p.HTTP == nil {
		return
	}
	p.HTTP.HeaderNames, p.HTTP.HasSecret = []string{}, p.Secret != ""
	for name := range p.Headers {
		p.HTTP.HeaderNames = append(p.HTTP.HeaderNames, name)
	}
	slices.Sort(p.HTTP.HeaderNames)
}

// HTTP is a gateway, as it is shown.
type HTTP struct {
	Request
	HeaderNames []string `json:"header_names"` // whose values are shown to nobody
	HasSecret   bool     `json:"has_secret"`
}

// Request says how a gateway is asked to send a message, and what its answer means.
//
// In the URL's query and the body these stand for their values, written as the place asks: {to} {to_digits} {to_national}
// {from} {body} {id} {template_code} {signature} {params_json} {secret}.
type Request struct {
	URL         string      `json:"url"`
	Method      string      `json:"method"`       // POST, PUT or GET
	ContentType ContentType `json:"content_type"` // of Body; it decides how values are written in there
	Body        string      `json:"body,omitempty"`
	// SuccessPointer, where set, leads to a value of the JSON answer which must be SuccessValue for the message to be taken;
	// RetryValues are those with which it may be taken later. Without it every status 2xx is success.
	SuccessPointer string   `json:"success_pointer,omitempty"`
	SuccessValue   string   `json:"success_value,omitempty"`
	RetryValues    []string `json:"retry_values,omitempty"`
	// The others lead to the provider's id, and to what it says of a failure.
	IDPointer           string `json:"id_pointer,omitempty"`
	ErrorCodePointer    string `json:"error_code_pointer,omitempty"`
	ErrorMessagePointer string `json:"error_message_pointer,omitempty"`
	// Report says how delivery reports are read; nil for a provider that sends none.
	Report *Report `json:"report,omitempty"`
}

// Report says how a gateway's delivery reports are read. Pointers lead into one report.
type Report struct {
	ListPointer      string         `json:"list_pointer,omitempty"`       // from the body to a list of reports; empty for the body itself, a list or one report
	IDPointer        string         `json:"id_pointer,omitempty"`         // to the provider's id
	MessageIDPointer string         `json:"message_id_pointer,omitempty"` // to ours, which it was sent as {id}
	StatusPointer    string         `json:"status_pointer"`
	Delivered        []string       `json:"delivered"`         // the statuses of a message that arrived
	Ignored          []string       `json:"ignored,omitempty"` // those of one that is still under way; all others are failures
	ErrorCodePointer string         `json:"error_code_pointer,omitempty"`
	Answer           map[string]any `json:"answer,omitempty"` // what the gateway wants to read
}

// ContentType is that of a request's body.
type ContentType string

// The content types.
const (
	asJSON ContentType = "application/json"
	asForm ContentType = "application/x-www-form-urlencoded"
	asXML  ContentType = "text/xml"
	asText ContentType = "text/plain"
)

// SMPP is a message centre.
type SMPP struct {
	Host        string `json:"host"` // a name, or an IP address
	Port        int    `json:"port"`
	TLS         bool   `json:"tls"`
	SystemID    string `json:"system_id"`
	SystemType  string `json:"system_type,omitempty"`
	ServiceType string `json:"service_type,omitempty"`
	// Types and plans of numbers (SMPP 3.4 §5.2.5); nil for what the number looks like.
	SourceTON *int `json:"source_ton,omitempty"`
	SourceNPI *int `json:"source_npi,omitempty"`
	DestTON   *int `json:"dest_ton,omitempty"`
	DestNPI   *int `json:"dest_npi,omitempty"`
	// Concatenation is udh or sar.
	Concatenation string `json:"concatenation"`
	Window        int    `json:"window"`       // messages that may be unanswered
	EnquireLink   int    `json:"enquire_link"` // seconds between checks of the link
	// IDFormat is same, or hex_decimal where receipts have in decimal the id that the answer has in hexadecimal.
	IDFormat string `json:"id_format"`
}

// The words of SMPP's fields.
const (
	byUDH      = "udh"
	bySAR      = "sar"
	sameID     = "same"
	hexDecimal = "hex_decimal"
)

// writtenProvider is what a caller writes of a provider.
type writtenProvider struct {
	rest.Keys
	Name              string       `json:"name"`
	Kind              Kind         `json:"kind"`
	Enabled           bool         `json:"enabled"`
	IsDefault         bool         `json:"is_default"`
	From              string       `json:"from,omitempty"`
	MessagesPerSecond float64      `json:"messages_per_second"`
	HTTP              *writtenHTTP `json:"http,omitempty"`
	SMPP              *writtenSMPP `json:"smpp,omitempty"`
}

type writtenHTTP struct {
	Request
	Headers map[string]string `json:"headers,omitempty"` // write-only; in a patch those that are not named stay
	Secret  string            `json:"secret,omitempty"`  // write-only; empty keeps the one there is
}

type writtenSMPP struct {
	SMPP
	Password string `json:"password,omitempty"` // write-only; empty keeps the one there is
}

// maxProviders is the most that an account may have: each may hold a connection.
const maxProviders = 20

const (
	minPerSecond   = 0.1
	maxPerSecond   = 1000
	maxHeaders     = 20
	maxHeaderValue = 4 << 10 // bytes
)

func (s *Service) putProvider(ctx context.Context, tx *db.Tx, who auth.Caller, p *Provider, w writtenProvider) error {
	if p.Etag == "" {
		n, err := db.Count[Provider](ctx, tx, who.Scope)
		if err != nil {
			return err
		}
		if n >= maxProviders {
			return problem.Refused("the account has as many message providers as it may; delete one that is no longer used")
		}
	}
	if err := p.become(w); err != nil {
		return err
	}
	if !p.IsDefault {
		return nil
	}
	_, err := tx.Write().NewUpdate().Model((*Provider)(nil)).Set("is_default = ?", false).Set("updated_at = ?", db.Now()).
		Set("etag = CAST(CAST(etag AS bigint) + 1 AS text)").
		Where("account_id = ?", p.AccountID).Where("is_default = ?", true).Where("id <> ?", p.ID).Exec(ctx)
	return db.Check(err)
}

// become makes the provider what is wanted, and checks it.
func (p *Provider) become(w writtenProvider) error {
	switch {
	case p.Etag != "" && w.Kind != p.Kind:
		return problem.RefusedField("/kind", "immutable", "stays %s; add another provider", p.Kind)
	case w.Kind == ByHTTP && (w.HTTP == nil || w.SMPP != nil), w.Kind == BySMPP && (w.SMPP == nil || w.HTTP != nil):
		return problem.InvalidField("/"+string(w.Kind), "required", "is what a provider of kind %s has, and nothing else", w.Kind)
	case w.MessagesPerSecond < minPerSecond || w.MessagesPerSecond > maxPerSecond:
		return problem.InvalidField("/messages_per_second", "range", "must be %g–%d, is %g", minPerSecond, maxPerSecond, w.MessagesPerSecond)
	}
	if err := oneLine("/name", w.Name, maxName); err != nil {
		return err
	}
	if err := checkSender("/from", w.From); err != nil {
		return err
	}
	p.Name, p.Kind, p.Enabled, p.IsDefault, p.From, p.MessagesPerSecond = w.Name, w.Kind, w.Enabled, w.IsDefault, w.From, w.MessagesPerSecond
	if w.Kind == BySMPP {
		return p.useSMPP(*w.SMPP)
	}
	return p.useHTTP(*w.HTTP)
}

// useHTTP sets the gateway. What is secret must not go to another host than the one it was given for: whoever may change a
// provider could otherwise have it sent to their own.
func (p *Provider) useHTTP(w writtenHTTP) error {
	if err := checkHeaders(w.Headers); err != nil {
		return err
	}
	if err := w.check(); err != nil {
		return err
	}
	if p.HTTP != nil && !sameOrigin(p.HTTP.URL, w.URL) {
		for name, value := range w.Headers {
			if p.Headers[name] == value {
				return problem.RefusedField("/http/headers/"+name, "moved", "was given for another host; remove it first, and give it again with the new URL")
			}
		}
		if p.Secret != "" && w.Secret == "" {
			return problem.RefusedField("/http/secret", "moved", "was given for another host; give it again")
		}
	}
	secret := w.Secret
	if secret == "" {
		secret = p.Secret
	}
	p.HTTP, p.Headers, p.Secret = &HTTP{Request: w.Request}, w.Headers, secret
	if p.ReportToken == "" {
		p.ReportToken = newToken()
	}
	p.show()
	return nil
}

// newToken cannot be guessed: it has 192 random bits.
func newToken() string {
	random := make([]byte, 24)
	_, _ = rand.Read(random) // it never fails (crypto/rand)
	return base64.RawURLEncoding.EncodeToString(random)
}

func sameOrigin(a, b string) bool {
	x, errA := url.Parse(a)
	y, errB := url.Parse(b)
	return errA == nil && errB == nil && x.Scheme == y.Scheme && strings.EqualFold(x.Host, y.Host)
}

func checkHeaders(headers map[string]string) error {
	if len(headers) > maxHeaders {
		return problem.InvalidField("/http/headers", "maxProperties", "may have at most %d headers", maxHeaders)
	}
	for name, value := range headers {
		at := "/http/headers/" + name
		switch {
		case !httpguts.ValidHeaderFieldName(name):
			return problem.InvalidField(at, "name", "is not the name of a header")
		case slices.Contains([]string{"host", "content-length", "content-type", "connection", "transfer-encoding", "user-agent"}, strings.ToLower(name)):
			return problem.InvalidField(at, "reserved", "is written by us")
		case !httpguts.ValidHeaderFieldValue(value) || len(value) > maxHeaderValue:
			return problem.InvalidField(at, "value", "is not the value of a header, which has at most %d bytes", maxHeaderValue)
		}
	}
	return nil
}

// check refuses a request that cannot be written or whose answer could not be read.
func (r Request) check() error {
	front, _, _ := strings.Cut(r.URL, "?")
	if strings.ContainsAny(front, "{}") {
		return problem.InvalidField("/http/url", "placeholder", "may have placeholders in its query alone")
	}
	if _, err := guard.ParseURL(r.fillURL(samples())); err != nil {
		text := "is not a URL that can be asked"
		if e, ok := errors.AsType[*guard.Error](err); ok {
			text = e.Text
		}
		return problem.InvalidField("/http/url", "url", "%s", text)
	}
	switch {
	case r.Method != "POST" && r.Method != "PUT" && r.Method != "GET":
		return problem.InvalidField("/http/method", "enum", "must be POST, PUT or GET, is %q", r.Method)
	case r.Method == "GET" && r.Body != "":
		return problem.InvalidField("/http/body", "conflict", "does not go with GET; put the values into the URL's query")
	case !slices.Contains([]ContentType{asJSON, asForm, asXML, asText}, r.ContentType):
		return problem.InvalidField("/http/content_type", "enum", "must be %s, %s, %s or %s", asJSON, asForm, asXML, asText)
	case r.ContentType == asJSON && r.Body != "" && !json.Valid([]byte(r.fillBody(samples()))):
		return problem.InvalidField("/http/body", "json", "is not JSON with its placeholders filled in")
	case (r.SuccessPointer == "") != (r.SuccessValue == ""):
		return problem.InvalidField("/http/success_value", "conflict", "goes with success_pointer")
	case r.SuccessPointer == "" && len(r.RetryValues) > 0:
		return problem.InvalidField("/http/retry_values", "conflict", "go with success_pointer")
	}
	pointers := map[string]string{
		"/http/success_pointer": r.SuccessPointer, "/http/id_pointer": r.IDPointer, "/http/error_code_pointer": r.ErrorCodePointer,
		"/http/error_message_pointer": r.ErrorMessagePointer,
	}
	if d := r.Report; d != nil {
		pointers["/http/report/list_pointer"], pointers["/http/report/id_pointer"] = d.ListPointer, d.IDPointer
		pointers["/http/report/message_id_pointer"], pointers["/http/report/status_pointer"] = d.MessageIDPointer, d.StatusPointer
		pointers["/http/report/error_code_pointer"] = d.ErrorCodePointer
		switch {
		case d.IDPointer == "" && d.MessageIDPointer == "":
			return problem.InvalidField("/http/report/id_pointer", "required", "is needed, or message_id_pointer")
		case d.StatusPointer == "" || len(d.Delivered) == 0:
			return problem.InvalidField("/http/report/status_pointer", "required", "is needed, and the values of delivered")
		}
	}
	for at, pointer := range pointers {
		if pointer != "" && !pointerForm.MatchString(pointer) {
			return problem.InvalidField(at, "pointer", "must be a JSON pointer such as /data/0/id (RFC 6901)")
		}
	}
	return nil
}

var pointerForm = regexp.MustCompile(`^(/([^~/]|~0|~1)*){1,20}$`)

// Forms of what a message centre is told (SMPP 3.4 §4.1.5). Passwords are let be longer than the 8 characters there: some
// message centres ask for more.
var (
	hostName    = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*\.?$`)
	systemID    = regexp.MustCompile(`^[!-~]{1,15}$`)
	password    = regexp.MustCompile(`^[ -~]{1,64}$`)
	systemType  = regexp.MustCompile(`^[ -~]{0,12}$`)
	serviceType = regexp.MustCompile(`^[ -~]{0,5}$`)
)

// useSMPP sets the message centre. As for a gateway, a password that is kept goes to no other.
func (p *Provider) useSMPP(w writtenSMPP) error {
	if err := w.check(); err != nil {
		return err
	}
	moved := p.SMPP == nil || !strings.EqualFold(p.SMPP.Host, w.Host) || p.SMPP.Port != w.Port || p.SMPP.TLS != w.TLS || p.SMPP.SystemID != w.SystemID
	secret := w.Password
	if secret == "" && !moved {
		secret = p.Password
	}
	switch {
	case secret == "":
		return problem.InvalidField("/smpp/password", "required", "is needed; after a change of host, port, tls or system_id give it again")
	case !password.MatchString(secret):
		return problem.InvalidField("/smpp/password", "format", "may have at most 64 characters of ASCII")
	}
	if p.SMPP == nil {
		p.State = unbound
	}
	p.SMPP, p.Password = &w.SMPP, secret
	return nil
}

func (c SMPP) check() error {
	_, err := netip.ParseAddr(c.Host)
	switch {
	case err != nil && (!hostName.MatchString(c.Host) || len(c.Host) > 253):
		return problem.InvalidField("/smpp/host", "format", "must be a host name such as smsc.example.com, or an IP address")
	case c.Port < 1 || c.Port > 65535:
		return problem.InvalidField("/smpp/port", "range", "must be 1–65535, is %d", c.Port)
	case !systemID.MatchString(c.SystemID):
		return problem.InvalidField("/smpp/system_id", "format", "must be 1–15 characters of ASCII without spaces")
	case !systemType.MatchString(c.SystemType):
		return problem.InvalidField("/smpp/system_type", "format", "may have at most 12 characters of ASCII")
	case !serviceType.MatchString(c.ServiceType):
		return problem.InvalidField("/smpp/service_type", "format", "may have at most 5 characters of ASCII")
	case c.Concatenation != byUDH && c.Concatenation != bySAR:
		return problem.InvalidField("/smpp/concatenation", "enum", "must be udh or sar, is %q", c.Concatenation)
	case c.IDFormat != sameID && c.IDFormat != hexDecimal:
		return problem.InvalidField("/smpp/id_format", "enum", "must be same or hex_decimal, is %q", c.IDFormat)
	case c.Window < 1 || c.Window > 100:
		return problem.InvalidField("/smpp/window", "range", "must be 1–100, is %d", c.Window)
	case c.EnquireLink < 5 || c.EnquireLink > 3600:
		return problem.InvalidField("/smpp/enquire_link", "range", "must be 5–3600 seconds, is %d", c.EnquireLink)
	}
	for at, v := range map[string]*int{"source_ton": c.SourceTON, "source_npi": c.SourceNPI, "dest_ton": c.DestTON, "dest_npi": c.DestNPI} {
		if v != nil && (*v < 0 || *v > 18) {
			return problem.InvalidField("/smpp/"+at, "range", "must be 0–18, is %d", *v)
		}
	}
	return nil
}

// provider finds who sends a message: the one that is named, else the account's default, else its only one.
func provider(ctx context.Context, tx *db.Tx, accountID, id string) (*Provider, error) {
	if id != "" {
		p, err := db.Get[Provider](ctx, tx, auth.Account(accountID), id)
		switch {
		case err != nil && problem.From(err).Code == problem.CodeNotFound:
			return nil, problem.RefusedField("/provider_id", "unknown", "there is no message provider %q in this account", id)
		case err != nil:
			return nil, err
		case !p.Enabled:
			return nil, problem.RefusedField("/provider_id", "disabled", "%s is switched off", id)
		}
		return p, nil
	}
	found, err := db.List[Provider](ctx, tx, auth.Account(accountID), func(q *bun.SelectQuery) *bun.SelectQuery {
		return q.Where("enabled = ?", true).OrderBy("is_default", bun.OrderDesc).OrderBy("id", bun.OrderAsc).Limit(2)
	})
	if err != nil {
		return nil, err
	}
	if len(found) == 0 || (len(found) > 1 && !found[0].IsDefault) {
		return nil, problem.RefusedField("/provider_id", "required", "is needed: the account has no message provider that is its default; make one it with is_default")
	}
	return &found[0], nil
}
