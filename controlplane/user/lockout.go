package user

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"strconv"
	"time"

	"github.com/hookswitch/hookswitch/controlplane/bus"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/problem"
)

// lockout slows guessing down: after some failures for one login, or from one address, the next attempt must wait, twice
// as long after each further failure, up to a bound. Nobody is locked out for good, neither by himself nor by somebody
// who guesses at his login. It counts on the bus, for all processes together; one that restarts empty forgets.
//
// An attempt is entered as a failure before it is judged and taken back when it was none, so that many at the same moment
// count as many.
type lockout struct {
	bus *bus.Bus
}

// limits of one thing that is counted.
type allowance struct {
	prefix string
	free   int // failures without a wait
}

const (
	firstWait = 2 * time.Second
	mostWait  = 15 * time.Minute
	// forgetAfter is when a failure no longer counts.
	forgetAfter = 6 * time.Hour
)

func perUser() allowance { return allowance{prefix: "signin:user:", free: 5} }

// A whole office may be behind one address.
func perAddress() allowance { return allowance{prefix: "signin:address:", free: 30} }

// wait is how long after the last of n failures the next attempt may be made.
func (a allowance) wait(n int) time.Duration {
	wait := firstWait
	for i := a.free; i < n; i++ {
		if wait *= 2; wait >= mostWait {
			return mostWait
		}
	}
	if n < a.free {
		return 0
	}
	return wait
}

// attempt is one sign-in in progress, entered as a failure.
type attempt struct {
	lockout *lockout
	id      string
	user    string // set names
	address string
	earlier []string // the user's failures before
}

// enter begins an attempt, or refuses it (429) with how long to wait. user is what is guessed at: it need not exist.
func (l *lockout) enter(ctx context.Context, user string, from netip.Addr) (*attempt, error) {
	a := &attempt{lockout: l, id: db.NewID("try"), user: perUser().prefix + digest(user), address: perAddress().prefix + network(from)}
	var err error
	if _, err = l.count(ctx, perAddress(), a.address, a.id); err != nil {
		return nil, err
	}
	if a.earlier, err = l.count(ctx, perUser(), a.user, a.id); err != nil {
		// What was not tried is no failure of the address.
		return nil, firstOf(err, l.bus.Leave(ctx, a.address, a.id))
	}
	return a, nil
}

// digest keeps what people type out of the bus's names: they may type their password.
func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:16])
}

// network is what one guesser has: an IPv4 address, or the /64 of an IPv6 address.
func network(from netip.Addr) string {
	bits := 32
	if from.Is6() {
		bits = 64
	}
	p, err := from.Prefix(bits)
	if err != nil {
		return "unknown"
	}
	return p.String()
}

// count enters an attempt among the failures of a set, when there is none to wait for. Between the look and the entry
// another may have come: then it looks again.
func (l *lockout) count(ctx context.Context, a allowance, set, id string) (earlier []string, err error) {
	const looks = 5
	for range looks {
		failures, err := l.bus.Members(ctx, set)
		if err != nil {
			return nil, errNoCount()
		}
		now := time.Now()
		last := time.Time{}
		earlier = earlier[:0]
		for member, value := range failures {
			earlier = append(earlier, member)
			if at := readTime(value); at.After(last) {
				last = at
			}
		}
		if wait := last.Add(a.wait(len(failures))).Sub(now); wait > 0 {
			return nil, problem.TooMany("too many attempts to sign in have failed; wait as long as Retry-After says, or ask an administrator for a one-time link", wait)
		}
		entered, err := l.bus.Enter(ctx, set, id, []byte(strconv.FormatInt(now.UnixMicro(), 10)), forgetAfter, len(failures)+1)
		if err != nil {
			return nil, errNoCount()
		}
		if entered {
			return earlier, nil
		}
	}
	return nil, problem.TooMany("too many attempts to sign in at the same moment; try again", time.Second)
}

// errNoCount is the answer while the bus is away: guessing must not become free by it.
func errNoCount() error {
	return problem.Unavailable("signing in is not possible at this moment; try again shortly", 2*time.Second)
}

func readTime(value []byte) time.Time {
	n, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.UnixMicro(n)
}

// pardon takes the attempt back: it was no guess.
func (a *attempt) pardon(ctx context.Context) error {
	return firstOf(a.lockout.bus.Leave(ctx, a.user, a.id), a.lockout.bus.Leave(ctx, a.address, a.id))
}

// succeed takes the attempt back, and forgets the failures of the user before it. Those of the address stay: one who has
// an account must not guess at others for free.
func (a *attempt) succeed(ctx context.Context) error {
	err := a.pardon(ctx)
	for _, id := range a.earlier {
		err = firstOf(err, a.lockout.bus.Leave(ctx, a.user, id))
	}
	return err
}

// forget takes back all failures of a user.
func (l *lockout) forget(ctx context.Context, user string) error {
	set := perUser().prefix + digest(user)
	failures, err := l.bus.Members(ctx, set)
	for id := range failures {
		err = firstOf(err, l.bus.Leave(ctx, set, id))
	}
	return err
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
