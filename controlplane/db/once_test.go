package db_test

import (
	"context"
	"errors"
	"testing"

	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
)

type countedKey int

func TestATransactionRemembersWhatItHasReadAndNoOther(t *testing.T) {
	d := dbtest.Open(t, dbtest.SQLiteURL(t))
	reads := 0
	read := func() (int, error) { reads++; return reads, nil }
	for want := 1; want <= 2; want++ {
		err := d.InTx(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			if _, err := db.Once(tx, countedKey(0), func() (int, error) { return 0, errors.New("not now") }); err == nil {
				t.Error("the error of a read is lost")
			}
			for range 3 {
				if got, err := db.Once(tx, countedKey(0), read); got != want || err != nil {
					t.Errorf("got %d, %v; want %d", got, err, want)
				}
			}
			// Bounded: after very many others it is read again.
			for i := range countedKey(10_000) {
				if _, err := db.Once(tx, i+1, func() (int, error) { return 0, nil }); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if reads != 2 {
		t.Errorf("read %d times in two transactions", reads)
	}
}
