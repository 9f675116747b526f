package user

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"

	"github.com/hookswitch/hookswitch/controlplane/problem"
)

// Cost is what one argon2id hash takes.
type Cost struct {
	Time    uint32 // passes
	Memory  uint32 // KiB
	Threads uint8
}

// DefaultCost is the second choice of RFC 9106 §4, for where 2 GiB a hash are not to be had: 64 MiB, 3 passes, 4 lanes.
func DefaultCost() Cost { return Cost{Time: 3, Memory: 64 << 10, Threads: 4} }

const (
	saltLength = 16 // bytes, as RFC 9106 §4 has it
	hashLength = 32
)

// Hasher makes and checks argon2id hashes, a few at a time: each takes its memory, so a flood of sign-ins must wait and not
// pile up. It is safe for concurrent use.
type Hasher struct {
	cost    Cost
	slots   chan struct{}
	waiting atomic.Int64
	done    atomic.Int64 // hashes computed so far
}

const (
	// mostWaiting bounds who stands in line for a hash, and hashWithin for how long.
	mostWaiting = 100
	hashWithin  = 10 * time.Second
)

// NewHasher makes a hasher that computes at most four hashes at once, which with the default cost is 256 MiB, and leaves
// half of the processors to others.
func NewHasher(cost Cost) *Hasher {
	return &Hasher{cost: cost, slots: make(chan struct{}, max(1, min(4, runtime.GOMAXPROCS(0)/2)))}
}

// errBusy is the answer to a sign-in that found the line too long.
func errBusy() error {
	return problem.Unavailable("too many people sign in at this moment; try again shortly", 3*time.Second)
}

// key computes one hash, as soon as there is a slot.
func (h *Hasher) key(ctx context.Context, password string, salt []byte, c Cost) ([]byte, error) {
	if h.waiting.Add(1) > mostWaiting {
		h.waiting.Add(-1)
		return nil, errBusy()
	}
	err := h.slot(ctx)
	h.waiting.Add(-1)
	if err != nil {
		return nil, err
	}
	defer func() { <-h.slots }()
	h.done.Add(1)
	return argon2.IDKey([]byte(password), salt, c.Time, c.Memory, c.Threads, hashLength), nil
}

func (h *Hasher) slot(ctx context.Context) error {
	wait := time.NewTimer(hashWithin)
	defer wait.Stop()
	select {
	case h.slots <- struct{}{}:
		return nil
	case <-wait.C:
		return errBusy()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Hash gives a password's hash in the PHC string format: "$argon2id$v=19$m=65536,t=3,p=4$<salt>$<hash>".
func (h *Hasher) Hash(ctx context.Context, password string) (string, error) {
	salt := make([]byte, saltLength)
	// rand.Read never fails (crypto/rand, since Go 1.24 it ends the process instead).
	_, _ = rand.Read(salt)
	sum, err := h.key(ctx, password, salt, h.cost)
	if err != nil {
		return "", err
	}
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, h.cost.Memory, h.cost.Time, h.cost.Threads,
		b64.EncodeToString(salt), b64.EncodeToString(sum)), nil
}

// Check compares a password with a stored hash. An empty stored hash matches nothing, but takes the same work: whoever
// asks cannot tell a user who is not there from a wrong password. outdated says that the hash was made at another cost than
// new ones.
func (h *Hasher) Check(ctx context.Context, password, stored string) (ok, outdated bool, err error) {
	cost, salt, want := h.cost, make([]byte, saltLength), []byte(nil)
	if stored != "" {
		if cost, salt, want, err = parseHash(stored); err != nil {
			return false, false, err
		}
	}
	got, err := h.key(ctx, password, salt, cost)
	if err != nil {
		return false, false, err
	}
	return subtle.ConstantTimeCompare(got, want) == 1, cost != h.cost, nil
}

// errBadHash is a stored text that Hash cannot have made.
var errBadHash = errors.New("stored password: not an argon2id hash")

func parseHash(text string) (c Cost, salt, sum []byte, err error) {
	parts := strings.Split(text, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return Cost{}, nil, nil, errBadHash
	}
	if n, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &c.Memory, &c.Time, &c.Threads); n != 3 || err != nil {
		return Cost{}, nil, nil, errBadHash
	}
	salt, err = base64.RawStdEncoding.DecodeString(parts[4])
	if err != nil {
		return Cost{}, nil, nil, errBadHash
	}
	sum, err = base64.RawStdEncoding.DecodeString(parts[5])
	if err != nil || len(sum) != hashLength || c.Time == 0 || c.Threads == 0 {
		return Cost{}, nil, nil, errBadHash
	}
	return c, salt, sum, nil
}

// The length of a password.
const (
	minPassword = 10   // characters
	maxPassword = 1024 // bytes
)

// commonest are passwords that everyone tries first, in lower case, one a line: only those long enough to be taken
// otherwise.
//
//go:embed commonest.txt
var commonest string

// checkPassword refuses a password that is too short, among the commonest, the login, or one character or sequence all
// through. pointer is the field that has it. Nothing else is asked of it (NIST SP 800-63B §3.1.1.2): no mixture of
// characters, and no change after some time.
func checkPassword(pointer, password, login string) error {
	normal := strings.ToLower(password)
	switch {
	case utf8.RuneCountInString(password) < minPassword:
		return problem.InvalidField(pointer, "password.short", "must have at least %d characters", minPassword)
	case len(password) > maxPassword:
		return problem.InvalidField(pointer, "password.long", "may have at most %d bytes", maxPassword)
	case isCommon(normal):
		return problem.InvalidField(pointer, "password.common", "is among the passwords that are tried first; choose another")
	case login != "" && strings.Trim(strings.ReplaceAll(normal, login, ""), "0123456789") == "" && strings.Contains(normal, login):
		return problem.InvalidField(pointer, "password.login", "must not be the login; choose another")
	case isMonotone(normal):
		return problem.InvalidField(pointer, "password.sequence", "must not be one sequence or repetition; choose another")
	}
	return nil
}

func isCommon(normal string) bool {
	for line := range strings.Lines(commonest) {
		if strings.TrimSpace(line) == normal {
			return true
		}
	}
	return false
}

// isMonotone reports whether each character is the one before, or the next, or the one before that one: 1111111111,
// 0123456789, zyxwvutsrq.
func isMonotone(text string) bool {
	runes := []rune(text)
	step := runes[1] - runes[0]
	if step < -1 || step > 1 {
		return false
	}
	for i := 1; i < len(runes); i++ {
		// 9 is followed by 0, and 0 by 9.
		wraps := (runes[i-1] == '9' && runes[i] == '0') || (runes[i-1] == '0' && runes[i] == '9')
		if runes[i]-runes[i-1] != step && (step == 0 || !wraps) {
			return false
		}
	}
	return true
}
