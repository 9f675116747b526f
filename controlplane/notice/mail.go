package notice

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	netmail "net/mail"
	"net/netip"
	"net/textproto"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/wneessen/go-mail"
	"github.com/wneessen/go-mail/smtp"

	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/webhooks/guard"
)

// Mail is the mail server of the installation, which the operator has configured. It may be anywhere; servers that
// accounts give may not.
type Mail struct {
	Server
	Password string
}

// Check says in a sentence what of the installation's server cannot be.
func (m *Mail) Check() error {
	if m.Username != "" && m.Password == "" {
		return problem.InvalidField("/smtp/password", "required", "is needed with a username")
	}
	return m.check()
}

const (
	dialWithin = 10 * time.Second
	// mailWithin bounds each answer of a mail server, and attemptWithin an attempt as a whole.
	mailWithin    = 20 * time.Second
	attemptWithin = 60 * time.Second
	// maxAnswers is the most bytes that a mail server may answer with in one attempt, with its certificates.
	maxAnswers = 1 << 20
	maxReply   = 200 // characters of an answer that are shown
)

// letter is a mail to one recipient.
type letter struct {
	id      string // of the message, without the host: the same whenever it is sent again
	to      string
	subject string
	body    string
	at      time.Time
}

// failure is why something was not sent, in a sentence for the account. One that is final is not tried again.
type failure struct {
	text  string
	final bool
	err   error // for the operator
}

func (f *failure) Error() string { return f.text }
func (f *failure) Unwrap() error { return f.err }

// post sends letters by a mail server over one connection. The result has an entry for each letter, nil where it was
// taken; a connection that fails is the entry of all that were still to be sent.
func (s *Service) post(ctx context.Context, by Mail, ours bool, letters []letter) []error {
	ctx, cancel := context.WithTimeout(ctx, attemptWithin)
	defer cancel()
	results := make([]error, len(letters))
	all := func(from int, err error) []error {
		for i := from; i < len(results); i++ {
			results[i] = err
		}
		return results
	}
	line := &line{left: maxAnswers}
	// The client leaves the connection open when something fails on the way.
	defer line.close()
	client, err := s.client(by, ours, line)
	if err != nil {
		return all(0, err)
	}
	connection, err := client.DialToSMTPClientWithContext(ctx)
	if err != nil {
		return all(0, s.mailFailed(ctx, err))
	}
	defer context.AfterFunc(ctx, line.close)()
	for i, l := range letters {
		m, err := l.message(by)
		if err != nil {
			results[i] = &failure{text: "the mail could not be written", final: true, err: err}
			continue
		}
		err = client.SendWithSMTPClient(connection, m)
		if err == nil || m.IsDelivered() { // only what came after it went wrong
			continue
		}
		results[i] = s.mailFailed(ctx, err)
		if !connection.HasConnection() || ctx.Err() != nil || !answered(err) {
			return all(i+1, results[i])
		}
	}
	_ = client.CloseWithSMTPClient(connection) // all is sent: nothing depends on its goodbye
	return results
}

// client is a mail client whose connection is kept in on.
func (s *Service) client(by Mail, ours bool, on *line) (*mail.Client, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: by.Host, RootCAs: s.RootCAs}
	options := []mail.Option{
		mail.WithPort(by.Port), mail.WithTimeout(mailWithin), mail.WithTLSConfig(config), mail.WithoutNoop(),
		mail.WithDialContextFunc(func(ctx context.Context, network, address string) (net.Conn, error) {
			return s.dial(ctx, network, address, ours, by.Security, config, on)
		}),
	}
	if by.Security == StartTLS {
		options = append(options, mail.WithTLSPolicy(mail.TLSMandatory))
	} else {
		options = append(options, mail.WithTLSPolicy(mail.NoTLS))
	}
	if by.Username != "" {
		options = append(options, mail.WithSMTPAuthCustom(&signIn{host: by.Host, username: by.Username, password: by.Password}))
	}
	if s.Hostname != "" {
		options = append(options, mail.WithHELO(s.Hostname))
	}
	c, err := mail.NewClient(by.Host, options...)
	if err != nil {
		return nil, &failure{text: "the mail server's settings are not usable", final: true, err: err}
	}
	return c, nil
}

func (s *Service) dial(ctx context.Context, network, address string, ours bool, security Security, config *tls.Config, on *line) (net.Conn, error) {
	dialer := &net.Dialer{Timeout: dialWithin}
	if !ours {
		// The very address that is connected to, after DNS: a name can resolve to another one each time.
		dialer.Control = func(_, address string, _ syscall.RawConn) error {
			at, err := netip.ParseAddrPort(address)
			if err != nil {
				return err
			}
			return s.Guard.CheckAddr(at.Addr())
		}
	}
	connection, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	on.Conn = connection
	if security != TLS {
		return on, nil
	}
	secured := tls.Client(on, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	return secured, nil
}

// line is a connection that ends when the other side says too much.
type line struct {
	net.Conn
	left int
}

var errTooMuch = errors.New("the server answers with too much")

func (l *line) Read(into []byte) (int, error) {
	if l.left <= 0 {
		return 0, errTooMuch
	}
	n, err := l.Conn.Read(into[:min(len(into), l.left)])
	l.left -= n
	return n, err
}

// close may be called before there is a connection, and twice.
func (l *line) close() {
	if l.Conn != nil {
		_ = l.Close() // what was to be said has been
	}
}

// signIn signs in with what the server offers of PLAIN and LOGIN, and over TLS alone.
type signIn struct {
	host, username, password string

	chosen smtp.Auth
}

// Start implements smtp.Auth.
func (a *signIn) Start(server *smtp.ServerInfo) (protocol string, first []byte, err error) {
	if !server.TLS {
		return "", nil, errors.New("the connection is not protected")
	}
	switch {
	case slices.Contains(server.Auth, "PLAIN"):
		a.chosen = smtp.PlainAuth("", a.username, a.password, a.host, false)
	case slices.Contains(server.Auth, "LOGIN"):
		a.chosen = smtp.LoginAuth(a.username, a.password, a.host, false)
	default:
		return "", nil, errNoSignIn
	}
	return a.chosen.Start(server)
}

// Next implements smtp.Auth.
func (a *signIn) Next(challenge []byte, more bool) ([]byte, error) {
	return a.chosen.Next(challenge, more)
}

var errNoSignIn = errors.New("the server offers neither PLAIN nor LOGIN")

// message writes a letter. Whatever is in its texts stays in them: the library encodes them (RFC 2047), and neither they
// nor addresses have line breaks.
func (l letter) message(by Mail) (*mail.Msg, error) {
	for _, text := range []string{l.subject, l.to, by.FromName, by.FromAddress} {
		if strings.ContainsAny(text, "\r\n\x00") {
			return nil, errors.New("a header of the mail has a line break")
		}
	}
	m := mail.NewMsg(mail.WithEncoding(mail.EncodingQP))
	m.FromMailAddress(&netmail.Address{Name: by.FromName, Address: by.FromAddress})
	m.ToMailAddress(&netmail.Address{Address: l.to})
	m.Subject(l.subject)
	m.SetDateWithValue(l.at)
	_, host, _ := strings.Cut(by.FromAddress, "@")
	m.SetMessageIDWithValue(l.id + "@" + host)
	// RFC 3834 §5: no machine answers.
	m.SetGenHeader("Auto-Submitted", "auto-generated")
	m.SetBodyString(mail.TypeTextPlain, l.body)
	return m, nil
}

// answered reports whether a failure is what the server said, so that the next letter may be tried on the same
// connection.
func answered(err error) bool {
	sent, ok := errors.AsType[*mail.SendError](err)
	return ok && sent.ErrorCode() != 0
}

// mailFailed puts what went wrong with a mail server into a sentence.
func (s *Service) mailFailed(ctx context.Context, err error) *failure {
	f := &failure{err: err}
	sent, bySending := errors.AsType[*mail.SendError](err)
	said, bySigningIn := errors.AsType[*textproto.Error](err)
	denied, byUs := errors.AsType[*guard.Error](err)
	switch {
	case byUs:
		f.text = denied.Text
	case bySending && sent.ErrorCode() != 0:
		// RFC 5321 §4.2.1: 4yz may go well later, 5yz will not.
		f.text, f.final = "the mail server refused the mail: "+reply(err), sent.ErrorCode() >= 500
	case bySigningIn:
		f.text = "the mail server refused: " + clean(said.Error(), maxReply)
	case ctx.Err() != nil:
		f.text = "the mail server did not answer in time"
	default:
		f.text = "the mail server " + network(err)
	}
	return f
}

// network says what a connection failed by.
func network(err error) string {
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return "was not found: its name was not resolved"
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return "has no valid certificate for its name"
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return "does not speak TLS on this port; try security starttls"
	}
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		return "did not answer in time"
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return "did not accept the connection"
	}
	switch {
	case errors.Is(err, errTooMuch):
		return "answers with too much"
	case errors.Is(err, errNoSignIn):
		return "offers no way to sign in that is known here (PLAIN, LOGIN)"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed), errors.Is(err, syscall.ECONNRESET):
		return "closed the connection"
	case strings.Contains(err.Error(), "STARTTLS"):
		// The library has no value for it.
		return "offers no STARTTLS; nothing was sent without it"
	}
	return "could not be used: " + reply(err)
}

// reply is what a server said, without what the library has put around it.
func reply(err error) string {
	text := err.Error()
	if sent, ok := errors.AsType[*mail.SendError](err); ok {
		text = strings.TrimPrefix(sent.Error(), sent.Reason.String()+": ")
		text, _, _ = strings.Cut(text, ", affected ")
	}
	return clean(text, maxReply)
}
