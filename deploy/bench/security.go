package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/number"
)

// rowSecurity measures what PostgreSQL's row security costs a read: the same reads of the same rows, side by side, as the
// user that the server has (which becomes the role that the policies hold) and as one that may not become it and passes
// the policies by, for whom the control plane runs without. Which it is, db.Open finds out from the user.
//
// They take turns in short rounds, so that what else the machine does meets both.
func rowSecurity(ctx context.Context, p *postgres, held *server, binary string, f filled, out sheet) error {
	if err := p.allowUnheld(ctx); err != nil {
		return err
	}
	if err := statements(ctx, p, f, out); err != nil {
		return fmt.Errorf("statements: %w", err)
	}
	unheld, err := startControlPlane(ctx, binary, p.location(unheldUser))
	if err != nil {
		return err
	}
	defer unheld.stop()
	unheld.key = held.key
	const rounds, reads = 20, 500
	var took [2][]time.Duration
	var spent [2]time.Duration
	for round := range rounds {
		for turn := range 2 {
			which := (round + turn) % 2 // who went first goes second in the next round
			server := []*server{unheld, held}[which]
			before := server.usage()
			for range reads {
				began := time.Now()
				if err := server.do(ctx, http.MethodGet, "/v1/numbers/"+f.numbers[rand.IntN(len(f.numbers))], "", nil, nil); err != nil {
					return err
				}
				if round > 0 { // the first warms up
					took[which] = append(took[which], time.Since(began))
				}
			}
			if round > 0 {
				spent[which] += server.usage().cpu - before.cpu
			}
		}
	}
	n := float64((rounds - 1) * reads)
	slices.Sort(took[0])
	slices.Sort(took[1])
	out.tell("row security, a get of the REST API: without → with, p50", change(quantile(took[0], .5), quantile(took[1], .5)))
	out.tell("row security, processor time of the server for it: without → with", change(time.Duration(float64(spent[0])/n), time.Duration(float64(spent[1])/n)))
	return nil
}

// change says what became of a time.
func change(from, to time.Duration) string {
	return fmt.Sprintf("%d → %d µs (%+d µs)", from.Microseconds(), to.Microseconds(), (to - from).Microseconds())
}

// statements measures the query of a get alone: without row security, on a connection that stays with its account, and on
// one that comes from another's.
func statements(ctx context.Context, p *postgres, f filled, out sheet) (err error) {
	without, err := db.Open(ctx, p.location(unheldUser))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, without.Close()) }()
	with, err := db.Open(ctx, p.location(serverUser))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, with.Close()) }()
	if without.RowSecurity() || !with.RowSecurity() {
		return fmt.Errorf("row security is %t for %s and %t for %s; it must be off and on", without.RowSecurity(), unheldUser, with.RowSecurity(), serverUser)
	}
	const rounds, reads = 20, 500
	account := db.AsAccount(ctx, f.account)
	get := func(ctx context.Context, d *db.DB) error {
		_, err := db.Get[number.Number](ctx, d, auth.Account(f.account), f.numbers[rand.IntN(len(f.numbers))])
		return err
	}
	var took [3][]time.Duration
	for round := range rounds {
		for turn := range took {
			which := (round + turn) % len(took)
			d, leave := []*db.DB{without, with, with}[which], which == 2
			for range reads {
				if leave { // the connection goes back to no account, which is not timed
					if err := get(ctx, d); err != nil {
						return err
					}
				}
				began := time.Now()
				if err := get(account, d); err != nil {
					return err
				}
				if round > 0 {
					took[which] = append(took[which], time.Since(began))
				}
			}
		}
	}
	for i := range took {
		slices.Sort(took[i])
	}
	out.tell("row security, the statement of a get alone: without → with, p50", change(quantile(took[0], .5), quantile(took[1], .5)))
	out.tell("row security, the same after another account's: without → with, p50", change(quantile(took[0], .5), quantile(took[2], .5)))
	return nil
}
