package sip

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

var phoneIP = netip.MustParseAddr("192.0.2.7")

// registrar challenges, verifies and bans as an edge does.
func registrar(t *testing.T, digest *DigestServer, bans *Bans) Handler {
	return Handler{
		Banned: bans.Banned,
		Register: func(_ context.Context, r *Request) {
			source := r.RemoteAddr().Addr()
			a, ok := r.Authorization("example.com")
			if !ok {
				if err := r.Challenge(digest.Challenge(source, "example.com", false)); err != nil {
					t.Error(err)
				}
				return
			}
			err := digest.Verify(source, r.Method(), a, func(alg string) string {
				if a.Username != "1001" {
					return ""
				}
				return HA1(alg, "1001", "example.com", "secret")
			})
			switch {
			case err == nil:
				bans.Succeeded(source)
				reg, rerr := r.Register()
				if rerr != nil {
					t.Error(rerr)
				}
				err = r.RespondContacts(reg.Contacts)
			case errors.Is(err, ErrStale):
				err = r.Challenge(digest.Challenge(source, "example.com", true))
			default:
				bans.Failed(source)
				err = r.Challenge(digest.Challenge(source, "example.com", false))
			}
			if err != nil {
				t.Error(err)
			}
		},
	}
}

func (p *phone) register(extra ...string) {
	p.t.Helper()
	p.seq++
	p.send(p.request(methodRegister, fmt.Sprint("r", p.seq), "", extra...))
}

// linphone and baresip write their Authorization like this; sipURI is the Request-URI.
func linphoneAuth(nonce, alg, password string, nc int, user string) string {
	a := Authorization{Username: user, Realm: "example.com", Nonce: nonce, URI: "sip:service@" + serverAddr, Algorithm: alg,
		QOP: "auth", CNonce: "5cc9ba6c", NC: fmt.Sprintf("%08x", nc)}
	a.Response = a.response(methodRegister, HA1(alg, user, "example.com", password))
	return fmt.Sprintf(`Authorization:  Digest realm="%s", nonce="%s", algorithm=%s,  username="%s",  uri="%s", response="%s", cnonce="%s", nc=%s, qop=auth`,
		a.Realm, a.Nonce, a.Algorithm, a.Username, a.URI, a.Response, a.CNonce, a.NC)
}

func baresipAuth(nonce, alg, password string, nc int, user string) string {
	line := linphoneAuth(nonce, alg, password, nc, user)
	line = strings.ReplaceAll(line, "  ", " ")
	return strings.Replace(line, "qop=auth", `opaque="",qop="auth"`, 1)
}

func nonceOf(t *testing.T, m *message, alg string) (string, params) {
	t.Helper()
	for _, v := range m.lines("WWW-Authenticate") {
		p, err := parseDigest(v)
		if err != nil {
			t.Fatal(err)
		}
		if p.get("algorithm") == alg {
			return p.get("nonce"), p
		}
	}
	t.Fatalf("no %s challenge in %q", alg, m.lines("WWW-Authenticate"))
	return "", nil
}

func TestRegisterWithDigest(t *testing.T) {
	for _, alg := range []string{MD5, SHA256} {
		for name, auth := range map[string]func(string, string, string, int, string) string{"linphone": linphoneAuth, "baresip": baresipAuth} {
			t.Run(alg+" "+name, func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					st := newStage(t, registrar(t, NewDigestServer(), &Bans{}))
					defer st.close()
					p := st.phone
					p.register("Expires: 300")
					m := p.code(401)
					if v := m.lines("WWW-Authenticate"); len(v) != 2 || !strings.Contains(v[0], SHA256) {
						t.Errorf("challenges %q", v)
					}
					nonce, _ := nonceOf(t, m, alg)
					p.register("Expires: 300", auth(nonce, alg, "secret", 1, "1001"))
					if c := p.code(200).get("Contact"); c != "<sip:1001@192.0.2.7:5060>;expires=300" {
						t.Errorf("contact %s", c)
					}
					p.register(auth(nonce, alg, "secret", 2, "1001")) // the nonce is still good
					p.code(200)
					p.register(auth(nonce, alg, "secret", 2, "1001")) // replayed
					if _, c := nonceOf(t, p.code(401), alg); c.get("stale") != "true" {
						t.Error("a used count is not stale")
					}
					pass(NonceLife + time.Second)
					p.register(auth(nonce, alg, "secret", 3, "1001"))
					next, c := nonceOf(t, p.code(401), alg)
					if c.get("stale") != "true" {
						t.Error("an old nonce is not stale")
					}
					p.register(auth(next, alg, "secret", 1, "1001"))
					p.code(200)
				})
			})
		}
	}
}

func TestWrongPasswordsEarnABan(t *testing.T) {
	bubble(t, func(t *testing.T) {
		st := newStage(t, registrar(t, NewDigestServer(), &Bans{}))
		defer st.close()
		p := st.phone
		p.register()
		nonce, _ := nonceOf(t, p.code(401), MD5)
		for i := range BanFailures {
			user := "1001"
			if i%2 == 1 {
				user = "nobody" // looks the same
			}
			p.register(baresipAuth(nonce, MD5, "guess", i+1, user))
			if _, c := nonceOf(t, p.code(401), MD5); c.get("stale") != "" {
				t.Error("a guess is called stale")
			}
		}
		p.register(baresipAuth(nonce, MD5, "secret", 9, "1001"))
		if m := p.quiet(); m != nil {
			t.Errorf("banned and answered %d", m.code)
		}
		pass(BanTime)
		p.register()
		p.code(401)
	})
}

func TestNonceBelongsToItsSourceAndServer(t *testing.T) {
	s := NewDigestServer()
	secret := func(string) string { return HA1(SHA256, "u", "r", "p") }
	auth := func(nonce string) Authorization {
		a := Authorization{Username: "u", Realm: "r", Nonce: nonce, URI: "sip:x", Algorithm: SHA256, QOP: "auth", CNonce: "c", NC: "00000001"}
		a.Response = a.response("INVITE", HA1(SHA256, "u", "r", "p"))
		return a
	}
	p, err := parseDigest(s.Challenge(phoneIP, "r", false)[0])
	if err != nil {
		t.Fatal(err)
	}
	nonce := p.get("nonce")
	if err := s.Verify(netip.MustParseAddr("192.0.2.8"), "INVITE", auth(nonce), secret); !errors.Is(err, ErrStale) {
		t.Errorf("other source: %v", err)
	}
	if err := NewDigestServer().Verify(phoneIP, "INVITE", auth(nonce), secret); !errors.Is(err, ErrStale) {
		t.Errorf("other server: %v", err)
	}
	if err := s.Verify(phoneIP, "REGISTER", auth(nonce), secret); !errors.Is(err, ErrWrong) {
		t.Errorf("other method: %v", err)
	}
	plain := auth(nonce)
	plain.QOP = ""
	plain.Response = plain.response("INVITE", HA1(SHA256, "u", "r", "p"))
	if err := s.Verify(phoneIP, "INVITE", plain, secret); !errors.Is(err, ErrWrong) {
		t.Errorf("without qop: %v", err)
	}
	if err := s.Verify(phoneIP, "INVITE", auth(nonce), func(string) string { return "" }); !errors.Is(err, ErrWrong) {
		t.Errorf("unknown user: %v", err)
	}
	if err := s.Verify(phoneIP, "INVITE", auth(nonce), secret); err != nil {
		t.Error(err)
	}
	if err := s.Verify(phoneIP, "INVITE", auth(nonce), secret); !errors.Is(err, ErrStale) {
		t.Errorf("replay: %v", err)
	}
}

func TestOnlyOfferedAlgorithmsAreTaken(t *testing.T) {
	for _, offered := range []string{MD5, SHA256} {
		s := NewDigestServer(offered)
		challenges := s.Challenge(phoneIP, "r", false)
		if len(challenges) != 1 || !strings.Contains(challenges[0], "algorithm="+offered+",") {
			t.Errorf("offered %s by %q", offered, challenges)
		}
		p, err := parseDigest(challenges[0])
		if err != nil {
			t.Fatal(err)
		}
		for _, used := range []string{MD5, SHA256} {
			a := Authorization{Username: "u", Realm: "r", Nonce: p.get("nonce"), URI: "sip:x", Algorithm: used, QOP: "auth", CNonce: "c", NC: "00000001"}
			a.Response = a.response("INVITE", HA1(used, "u", "r", "p"))
			err := s.Verify(phoneIP, "INVITE", a, func(alg string) string { return HA1(alg, "u", "r", "p") })
			if (err == nil) != (used == offered) {
				t.Errorf("%s where %s was offered: %v", used, offered, err)
			}
		}
	}
}

func TestUsedNoncesStayUsedWhenTheTableTurns(t *testing.T) {
	s := NewDigestServer()
	secret := func(string) string { return HA1(MD5, "u", "r", "p") }
	use := func() Authorization {
		a := Authorization{Username: "u", Realm: "r", Nonce: s.nonce(phoneIP, time.Now()), URI: "sip:x", Algorithm: MD5, QOP: "auth",
			CNonce: "c", NC: "00000001"}
		a.Response = a.response("INVITE", secret(MD5))
		if err := s.Verify(phoneIP, "INVITE", a, secret); err != nil {
			t.Fatal(err)
		}
		return a
	}
	first := use()
	for range 2*nonceTable + 2 {
		use()
	}
	if n := len(s.counts) + len(s.older); n > nonceTable {
		t.Errorf("%d nonces kept", n)
	}
	if err := s.Verify(phoneIP, "INVITE", first, secret); !errors.Is(err, ErrStale) {
		t.Errorf("replay after the table turned: %v", err)
	}
}

// RFC 2617 §3.5 and RFC 7616 §3.9.1.
func TestDigestOfTheRFCs(t *testing.T) {
	a := Authorization{Username: "Mufasa", Realm: "testrealm@host.com", Nonce: "dcd98b7102dd2f0e8b11d0f600bfb0c093",
		URI: "/dir/index.html", QOP: "auth", NC: "00000001", CNonce: "0a4f113b", Algorithm: MD5}
	if got := a.response("GET", HA1(MD5, a.Username, a.Realm, "Circle Of Life")); got != "6629fae49393a05397450978507c4ef1" {
		t.Errorf("MD5 %s", got)
	}
	a = Authorization{Username: "Mufasa", Realm: "http-auth@example.org", Nonce: "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
		URI: "/dir/index.html", QOP: "auth", NC: "00000001", CNonce: "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ", Algorithm: SHA256}
	want := "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"
	if got := a.response("GET", HA1(SHA256, a.Username, a.Realm, "Circle of Life")); got != want {
		t.Errorf("SHA-256 %s", got)
	}
}

func TestParseAuthorizationRefuses(t *testing.T) {
	for _, v := range []string{
		"", "Basic YTpi", "Digest", "Digest username", `Digest username="a`, `Digest username="a", realm="r", nonce="n", uri="u"`,
		`Digest username="a", realm="r", nonce="n", uri="u", response="x", algorithm=SHA-512`,
		`Digest username="a", realm="r", nonce="n", uri="u", response="x", qop=auth-int`,
		`Digest username="a", realm="r", nonce="n", uri="u", response="x", qop=auth, nc=1`,
		"Digest " + strings.Repeat("a=b,", 40),
	} {
		if a, err := ParseAuthorization(v); err == nil {
			t.Errorf("%q gave %+v", v, a)
		}
	}
}

func TestBans(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var b Bans
		v6 := netip.MustParseAddr("2001:db8::1")
		for i := range BanFailures {
			if b.Failed(v6) != (i == BanFailures-1) {
				t.Errorf("failure %d", i)
			}
		}
		if !b.Banned(netip.MustParseAddr("2001:db8::ffff")) || b.Banned(netip.MustParseAddr("2001:db8:0:1::1")) {
			t.Error("IPv6 is banned by /64")
		}
		b.Succeeded(v6)
		if !b.Banned(v6) {
			t.Error("a right password lifted a ban")
		}
		for range BanFailures - 1 {
			b.Failed(phoneIP)
		}
		b.Succeeded(phoneIP)
		b.Failed(phoneIP)
		pass(BanWindow + time.Second)
		for range BanFailures - 1 {
			b.Failed(phoneIP)
		}
		if b.Banned(phoneIP) {
			t.Error("failures spread over time earned a ban")
		}
		pass(BanTime)
		if b.Banned(v6) {
			t.Error("ban does not end")
		}
		for i := range banTable + 10 {
			b.Failed(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}))
		}
		if len(b.from) > banTable {
			t.Errorf("%d addresses kept", len(b.from))
		}
	})
}
