package webhooks

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1" // Twilio's signature is HMAC-SHA1; nothing of ours relies on it
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The headers of Standard Webhooks 1.0 and of Twilio's requests.
const (
	HeaderID              = "Webhook-Id"
	HeaderTimestamp       = "Webhook-Timestamp" // seconds since 1970
	HeaderSignature       = "Webhook-Signature" // space-separated: v1,BASE64 once per live secret
	HeaderTwilioSignature = "X-Twilio-Signature"
)

// SignatureTolerance is how far a timestamp may lie from the receiver's clock.
const SignatureTolerance = 5 * time.Minute

const secretPrefix = "whsec_"

// Why a signature was not accepted. A receiver answers each with 401.
var (
	ErrUnsigned     = errors.New("the webhook-id, webhook-timestamp or webhook-signature header is missing")
	ErrTimestamp    = errors.New("the webhook-timestamp is not within five minutes of now")
	ErrBadSignature = errors.New("no webhook-signature fits the body and a secret")
)

// NewSecret returns a fresh signing secret: whsec_ and 32 random bytes in base64.
func NewSecret() string {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails (crypto/rand)
	return secretPrefix + base64.StdEncoding.EncodeToString(key)
}

// CheckSecret says what is wrong with a secret that an account wants to use: after an optional whsec_ it must be
// 24–64 bytes in base64 (Standard Webhooks, "Signature scheme").
func CheckSecret(secret string) error {
	_, err := secretKey(secret)
	return err
}

func secretKey(secret string) ([]byte, error) {
	text := strings.TrimRight(strings.TrimPrefix(secret, secretPrefix), "=")
	key, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil || len(key) < 24 || len(key) > 64 {
		return nil, errors.New("a signing secret is whsec_ and 24–64 bytes in base64")
	}
	return key, nil
}

// Sign adds the three Standard Webhooks headers for the body. Every secret signs, so that receivers that know the
// old or the new one both accept while a secret rotates. Without secrets the id and the time are sent unsigned.
func Sign(h http.Header, id string, at time.Time, body []byte, secrets ...string) error {
	stamp := strconv.FormatInt(at.Unix(), 10)
	signatures := make([]string, 0, len(secrets))
	for _, secret := range secrets {
		key, err := secretKey(secret)
		if err != nil {
			return err
		}
		signatures = append(signatures, "v1,"+base64.StdEncoding.EncodeToString(signature(key, id, stamp, body)))
	}
	h.Set(HeaderID, id)
	h.Set(HeaderTimestamp, stamp)
	if len(signatures) > 0 {
		h.Set(HeaderSignature, strings.Join(signatures, " "))
	}
	return nil
}

// signature is HMAC-SHA256 over id.timestamp.body.
func signature(key []byte, id, stamp string, body []byte) []byte {
	mac := hmac.New(sha256.New, key)
	_, _ = fmt.Fprintf(mac, "%s.%s.", id, stamp) // a hash never fails to write
	_, _ = mac.Write(body)
	return mac.Sum(nil)
}

// Verify checks a received request against the secrets its receiver knows: ErrUnsigned, ErrTimestamp,
// ErrBadSignature, or what is wrong with a secret. The id in webhook-id is the same when a request is repeated.
func Verify(h http.Header, body []byte, now time.Time, secrets ...string) error {
	id, stamp, given := h.Get(HeaderID), h.Get(HeaderTimestamp), h.Get(HeaderSignature)
	if id == "" || stamp == "" || given == "" {
		return ErrUnsigned
	}
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil || now.Sub(time.Unix(seconds, 0)).Abs() > SignatureTolerance {
		return ErrTimestamp
	}
	fits := false
	for _, secret := range secrets {
		key, err := secretKey(secret)
		if err != nil {
			return err
		}
		want := signature(key, id, stamp, body)
		for one := range strings.FieldsSeq(given) {
			text, ok := strings.CutPrefix(one, "v1,")
			got, err := base64.StdEncoding.DecodeString(text)
			fits = ok && err == nil && hmac.Equal(got, want) || fits
		}
	}
	if !fits {
		return ErrBadSignature
	}
	return nil
}

// TwilioSignature is the value of X-Twilio-Signature: base64 of HMAC-SHA1, keyed with the secret as it is written,
// over the URL as it is requested (query included, fragment not) and, for a POST of a form, each parameter's name
// and value, sorted by name. A repeated parameter counts once for each distinct value, in order, as Twilio's
// validators have it. A GET has no params: its parameters are in the URL.
func TwilioSignature(secret, target string, params url.Values) string {
	mac := hmac.New(sha1.New, []byte(secret))
	_, _ = mac.Write([]byte(target))
	for _, name := range slices.Sorted(maps.Keys(params)) {
		for _, value := range slices.Compact(slices.Sorted(slices.Values(params[name]))) {
			_, _ = mac.Write([]byte(name + value))
		}
	}
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// VerifyTwilio reports whether the signature fits. A receiver behind a proxy cannot know whether the port was in
// the URL, so it is tried as given, without port and with the scheme's own.
func VerifyTwilio(secret, target string, params url.Values, given string) bool {
	fits := false
	for _, form := range portForms(target) {
		fits = hmac.Equal([]byte(TwilioSignature(secret, form, params)), []byte(given)) || fits
	}
	return fits
}

func portForms(target string) []string {
	u, err := url.Parse(target)
	if err != nil || u.Host == "" {
		return []string{target}
	}
	port := map[string]string{"http": ":80", "https": ":443"}[u.Scheme]
	bare := strings.TrimSuffix(u.Host, ":"+u.Port())
	// The text is replaced rather than rebuilt: writing the URL anew could change its escaping.
	with := func(host string) string { return strings.Replace(target, "//"+u.Host, "//"+host, 1) }
	return []string{target, with(bare), with(bare + port)}
}
