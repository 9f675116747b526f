package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"strings"
)

// Kind is what a key opens, and its first letters.
type Kind string

// The kinds of keys.
const (
	APIKey    Kind = "sk"   // programs, on the REST API
	EdgeToken Kind = "edge" // edges, on the control plane's own listener
	// PlatformKey is the operator's, for the accounts themselves; it does nothing inside one.
	PlatformKey Kind = "pk"
)

// ErrBadKey is a text that is no key of ours: wrong form or wrong checksum. No look-up is needed to know.
var ErrBadKey = errors.New("not a key: it must be sk_…, pk_… or edge_… exactly as it was printed")

const (
	alphabet       = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	secretLength   = 32 // 190 bits
	checksumLength = 6  // CRC-32 in base 62
)

// Key is a parsed key. ID is the row's id without its type prefix (a ULID); Hash is what may be stored.
type Key struct {
	Kind Kind
	ID   string
	Hash string
}

// NewKey makes a key for a row's id (without its type prefix; letters and digits only). Text is shown once and
// stored nowhere: "sk_<id>_<secret><checksum>". The checksum lets secret scanners and ParseKey tell a real key
// from a look-alike without asking anyone.
func NewKey(kind Kind, id string) (text string, key Key) {
	// Taking a byte modulo 62 favours the first eight letters by a quarter: under 0.02 bits a letter.
	random := make([]byte, secretLength)
	// rand.Read never fails (crypto/rand, since Go 1.24 it ends the process instead).
	_, _ = rand.Read(random)
	for i, b := range random {
		random[i] = alphabet[int(b)%len(alphabet)]
	}
	body := string(kind) + "_" + id + "_" + string(random)
	text = body + checksum(body)
	return text, Key{Kind: kind, ID: id, Hash: hash(text)}
}

// ParseKey takes a key apart and checks its form and checksum; that it is a key someone holds is for the
// look-up to find out, with Matches.
func ParseKey(text string) (Key, error) {
	parts := strings.Split(text, "_")
	if len(parts) != 3 || len(text) > 200 {
		return Key{}, ErrBadKey
	}
	kind := Kind(parts[0])
	if kind != APIKey && kind != EdgeToken && kind != PlatformKey {
		return Key{}, ErrBadKey
	}
	if parts[1] == "" || len(parts[2]) != secretLength+checksumLength {
		return Key{}, ErrBadKey
	}
	body, sum := text[:len(text)-checksumLength], text[len(text)-checksumLength:]
	if checksum(body) != sum {
		return Key{}, ErrBadKey
	}
	return Key{Kind: kind, ID: parts[1], Hash: hash(text)}, nil
}

// Matches compares the key with a stored hash in constant time.
func (k Key) Matches(storedHash string) bool {
	return k.Hash != "" && subtle.ConstantTimeCompare([]byte(k.Hash), []byte(storedHash)) == 1
}

// hash is SHA-256 in hex. Why no slow hash: the secret has 190 random bits, nobody guesses it.
func hash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

func checksum(body string) string {
	n := crc32.ChecksumIEEE([]byte(body))
	var out [checksumLength]byte
	for i := len(out) - 1; i >= 0; i-- {
		out[i] = alphabet[n%uint32(len(alphabet))]
		n /= uint32(len(alphabet))
	}
	return string(out[:])
}
