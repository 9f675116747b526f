package sip

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Digest algorithms (RFC 8760). Others are not spoken.
const (
	MD5    = "MD5"
	SHA256 = "SHA-256"
)

// Digest failures. Only ErrWrong is somebody guessing.
var (
	ErrStale = errors.New("nonce has expired or its count was used: challenge again with stale=true")
	ErrWrong = errors.New("wrong user or password")
)

// Authorization is the value of an Authorization or Proxy-Authorization header (RFC 2617, RFC 8760).
type Authorization struct {
	Username, Realm, Nonce, URI, Response string
	Algorithm                             string // MD5 or SHA256; MD5 when the header names none
	CNonce, QOP, NC, Opaque               string
}

// ParseAuthorization reads Digest credentials. Missing mandatory parameters, unknown algorithms and unknown qop are errors.
func ParseAuthorization(value string) (Authorization, error) {
	p, err := parseDigest(value)
	if err != nil {
		return Authorization{}, err
	}
	a := Authorization{
		Username: p.get("username"), Realm: p.get("realm"), Nonce: p.get("nonce"), URI: p.get("uri"),
		Response: p.get("response"), Algorithm: algorithm(p.get("algorithm")), CNonce: p.get("cnonce"),
		QOP: strings.ToLower(p.get("qop")), NC: p.get("nc"), Opaque: p.get("opaque"),
	}
	switch {
	case a.Username == "" || a.Realm == "" || a.Nonce == "" || a.URI == "" || a.Response == "":
		return Authorization{}, errors.New("digest: parameter missing")
	case a.Algorithm == "":
		return Authorization{}, errors.New("digest: unknown algorithm")
	case a.QOP != "" && a.QOP != "auth":
		return Authorization{}, errors.New("digest: unknown qop")
	case a.QOP == "auth" && (a.CNonce == "" || len(a.NC) != 8):
		return Authorization{}, errors.New("digest: qop without cnonce and nc")
	}
	return a, nil
}

// algorithm gives names their registered form; "" for those we do not speak.
func algorithm(name string) string {
	switch strings.ToUpper(name) {
	case "", MD5:
		return MD5
	case SHA256:
		return SHA256
	}
	return ""
}

// parseDigest reads `Digest a="b", c=d`.
func parseDigest(value string) (params, error) {
	scheme, list, _ := strings.Cut(strings.TrimLeft(value, " \t"), " ")
	if !strings.EqualFold(scheme, "Digest") {
		return nil, errors.New("digest: other scheme")
	}
	var out params
	for _, element := range splitList(list) {
		p, err := parseParams(element)
		if err != nil || len(p) != 1 || !p[0].hasValue {
			return nil, errors.New("digest: malformed parameter")
		}
		out = append(out, p[0])
		if len(out) > 32 {
			return nil, errors.New("digest: too many parameters")
		}
	}
	return out, nil
}

// authorizationFor picks the credentials for a realm, or for any where realm is "", the strongest first.
func authorizationFor(m *message, realm string) (Authorization, bool) {
	var best Authorization
	found := false
	for _, v := range m.lines("Authorization") {
		a, err := ParseAuthorization(v)
		if err != nil || (realm != "" && a.Realm != realm) {
			continue
		}
		if !found || a.Algorithm == SHA256 {
			best, found = a, true
		}
	}
	return best, found
}

// HA1 is the secret a digest is checked against, in lower-case hex: all a server needs to keep of a password.
func HA1(alg, user, realm, password string) string {
	return digestHash(alg, user+":"+realm+":"+password)
}

func digestHash(alg, s string) string {
	if alg == SHA256 {
		h := sha256.Sum256([]byte(s))
		return hex.EncodeToString(h[:])
	}
	h := md5.Sum([]byte(s))
	return hex.EncodeToString(h[:])
}

// response computes the request-digest of RFC 2617 §3.2.2.
func (a Authorization) response(method, ha1 string) string {
	ha2 := digestHash(a.Algorithm, method+":"+a.URI)
	if a.QOP == "" {
		return digestHash(a.Algorithm, ha1+":"+a.Nonce+":"+ha2)
	}
	return digestHash(a.Algorithm, strings.Join([]string{ha1, a.Nonce, a.NC, a.CNonce, a.QOP, ha2}, ":"))
}

// NonceLife is how long a nonce may be used.
const NonceLife = 60 * time.Second

// nonceTable bounds the nonces whose counts are remembered. When it is full the oldest half is forgotten and its nonces
// count as stale.
const nonceTable = 1 << 16

// DigestServer makes nonces and checks credentials. A challenge costs it no memory: a nonce holds its own time, bound to
// the source address by an HMAC; only nonces used with success are remembered, to see that their count grows. It is safe
// for concurrent use.
type DigestServer struct {
	offer []string
	key   [32]byte
	fake  [32]byte

	mu     sync.Mutex // guards below
	counts map[string]uint32
	older  map[string]uint32 // the generation before; forgotten when counts is full
	turned time.Time         // when counts became the current generation
	since  time.Time         // nonces made before this may have been forgotten and count as stale
}

// NewDigestServer draws its keys: nonces do not survive it. It challenges for these algorithms, in this order, and takes no
// other; without any, for SHA-256 before MD5 as RFC 8760 §2.4 asks.
func NewDigestServer(offer ...string) *DigestServer {
	if len(offer) == 0 {
		offer = []string{SHA256, MD5}
	}
	s := &DigestServer{offer: offer, counts: map[string]uint32{}, older: map[string]uint32{}}
	rand.Read(s.key[:]) // never fails (crypto/rand)
	rand.Read(s.fake[:])
	return s
}

// Challenge returns the WWW-Authenticate values for a realm, one for each algorithm. stale tells the phone to try again
// with the password it has.
func (s *DigestServer) Challenge(source netip.Addr, realm string, stale bool) []string {
	nonce := s.nonce(source, time.Now())
	out := make([]string, 0, len(s.offer))
	for _, alg := range s.offer {
		v := `Digest realm=` + quote(realm) + `, nonce="` + nonce + `", algorithm=` + alg + `, qop="auth"`
		if stale {
			v += ", stale=true"
		}
		out = append(out, v)
	}
	return out
}

// nonce is time, random bytes and an HMAC over both and the source.
func (s *DigestServer) nonce(source netip.Addr, now time.Time) string {
	b := make([]byte, 16, 32)
	binary.BigEndian.PutUint64(b, uint64(now.UnixNano()))
	rand.Read(b[8:])
	return base64.RawURLEncoding.EncodeToString(append(b, s.seal(b, source)...))
}

func (s *DigestServer) seal(b []byte, source netip.Addr) []byte {
	h := hmac.New(sha256.New, s.key[:])
	h.Write(b)
	a := source.As16()
	h.Write(a[:])
	return h.Sum(nil)[:16]
}

// Verify checks credentials for a request with this method from this source. ha1 gives the secret of a.Username in
// a.Realm for an algorithm, "" when there is none; an unknown user then takes as long as a known one. The caller has
// chosen a by realm. The error is ErrStale, ErrWrong or nil. Credentials without qop (RFC 2069) are ErrWrong: they could
// be replayed.
func (s *DigestServer) Verify(source netip.Addr, method string, a Authorization, ha1 func(alg string) string) error {
	secret := ha1(a.Algorithm)
	real := secret != ""
	if !real {
		secret = digestHash(a.Algorithm, string(s.fake[:])+a.Username)
	}
	right := subtle.ConstantTimeCompare([]byte(a.response(method, secret)), []byte(strings.ToLower(a.Response))) == 1
	made, fresh := s.made(source, a.Nonce)
	switch {
	case !right || !real || a.QOP != "auth" || !slices.Contains(s.offer, a.Algorithm):
		// A stale nonce tells nothing about a wrong password: whoever guesses is told it is wrong.
		return ErrWrong
	case !fresh:
		return ErrStale
	}
	return s.count(a, made)
}

// made is when a nonce of ours was made, and whether it can still be used from this source.
func (s *DigestServer) made(source netip.Addr, nonce string) (time.Time, bool) {
	b, err := base64.RawURLEncoding.DecodeString(nonce)
	if err != nil || len(b) != 32 || !hmac.Equal(b[16:], s.seal(b[:16], source)) {
		return time.Time{}, false
	}
	made := time.Unix(0, int64(binary.BigEndian.Uint64(b)))
	age := time.Since(made)
	return made, age >= 0 && age <= NonceLife
}

// count takes a nonce count once (RFC 2617 §3.2.2, nc-value must grow).
func (s *DigestServer) count(a Authorization, made time.Time) error {
	n, err := strconv.ParseUint(a.NC, 16, 32)
	if err != nil || n == 0 {
		return ErrWrong
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	last, ok := s.counts[a.Nonce]
	if !ok {
		last = s.older[a.Nonce]
	}
	if uint32(n) <= last || made.Before(s.since) {
		return ErrStale
	}
	if len(s.counts) >= nonceTable/2 {
		// Everything in the generation that is dropped was made before counts became the current one.
		s.older, s.counts = s.counts, map[string]uint32{}
		s.since, s.turned = s.turned, time.Now()
	}
	s.counts[a.Nonce] = uint32(n)
	return nil
}

// Credentials answer challenges to calls we make.
type Credentials struct {
	Username string
	Password string
	Realm    string // when set, only challenges of this realm are answered
}

// maxChallenges is how often one request is repeated with credentials: once, and once more for a stale nonce.
const maxChallenges = 2

// authorize answers a 401 or 407 with a header for the next attempt. It answers only within dialogs we opened, to the
// peer the request was sent to and for one realm, so that nobody harvests digests by challenging our BYE.
func (d *Dialog) authorize(req, res *message, tries int) (Header, bool) {
	if !d.outbound || d.auth == nil || tries >= maxChallenges || (res.code != 401 && res.code != 407) {
		return Header{}, false
	}
	ask, answer := "WWW-Authenticate", "Authorization"
	if res.code == 407 {
		ask, answer = "Proxy-Authenticate", "Proxy-Authorization"
	}
	d.mu.Lock()
	realm := d.realm
	known := d.peer.Addr() == res.peer.Addr() || realm == ""
	d.mu.Unlock()
	if d.auth.Realm != "" {
		realm = d.auth.Realm
	}
	p, ok := pickChallenge(res.lines(ask), realm)
	if !ok || !known || (tries > 0 && !strings.EqualFold(p.get("stale"), "true")) {
		return Header{}, false
	}
	d.mu.Lock()
	d.realm = p.get("realm")
	d.mu.Unlock()
	return Header{answer, d.auth.answer(p, req.method, req.uri)}, true
}

// pickChallenge takes the strongest challenge we can answer for this realm, any realm when it is empty.
func pickChallenge(values []string, realm string) (params, bool) {
	var best params
	for _, v := range values {
		p, err := parseDigest(v)
		if err != nil || p.get("nonce") == "" || realm != "" && p.get("realm") != realm {
			continue
		}
		alg := algorithm(p.get("algorithm"))
		if alg == "" || !answerableQOP(p) {
			continue
		}
		if best == nil || alg == SHA256 && algorithm(best.get("algorithm")) != SHA256 {
			best = p
		}
	}
	return best, best != nil
}

func answerableQOP(p params) bool {
	qop, ok := p.lookup("qop")
	return !ok || qop == "" || hasAuth(qop)
}

func hasAuth(qop string) bool {
	for _, q := range strings.Split(qop, ",") {
		if strings.EqualFold(strings.TrimSpace(q), "auth") {
			return true
		}
	}
	return false
}

// answer renders the Authorization value for a challenge. Each challenge is answered once, so its nonce count is 1.
func (c *Credentials) answer(p params, method, uri string) string {
	a := Authorization{
		Username: c.Username, Realm: p.get("realm"), Nonce: p.get("nonce"), URI: uri,
		Algorithm: algorithm(p.get("algorithm")),
	}
	if hasAuth(p.get("qop")) {
		a.QOP, a.NC, a.CNonce = "auth", "00000001", randomHex(8)
	}
	a.Response = a.response(method, HA1(a.Algorithm, c.Username, a.Realm, c.Password))
	v := fmt.Sprintf(`Digest username=%s, realm=%s, nonce=%s, uri=%s, response="%s", algorithm=%s`,
		quote(a.Username), quote(a.Realm), quote(a.Nonce), quote(a.URI), a.Response, a.Algorithm)
	if a.QOP != "" {
		v += fmt.Sprintf(`, qop=auth, nc=%s, cnonce="%s"`, a.NC, a.CNonce)
	}
	if opaque, ok := p.lookup("opaque"); ok {
		v += ", opaque=" + quote(opaque)
	}
	return v
}
