package account

import (
	"errors"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

func TestWhatIsRevokedElsewhereIsGoneWithinASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r Recent[string]
		stored, looks := "there", 0
		look := func() (string, error) {
			looks++
			if stored == "" {
				return "", errors.New("gone")
			}
			return stored, nil
		}
		for range 1000 {
			if got, err := r.Get("k", look); got != "there" || err != nil {
				t.Fatalf("got %q, %v", got, err)
			}
		}
		if looks != 1 {
			t.Errorf("looked %d times for 1000 requests of one moment", looks)
		}
		stored = ""
		<-time.After(Fresh - time.Millisecond)
		if got, err := r.Get("k", look); got != "there" || err != nil {
			t.Errorf("before the second is over: %q, %v", got, err)
		}
		<-time.After(time.Millisecond)
		if got, err := r.Get("k", look); err == nil {
			t.Errorf("a second after it was revoked: %q", got)
		}
		stored = "again"
		if got, err := r.Get("k", look); got != "again" || err != nil {
			t.Errorf("a failure was kept: %q, %v", got, err)
		}
		stored = "changed here"
		r.Forget("k")
		if got, err := r.Get("k", look); got != "changed here" || err != nil {
			t.Errorf("after Forget: %q, %v", got, err)
		}
	})
}

func TestWhatIsKeptIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r Recent[int]
		for i := range 3 * mostRecent {
			if _, err := r.Get(strconv.Itoa(i), func() (int, error) { return i, nil }); err != nil {
				t.Fatal(err)
			}
			if len(r.kept) > mostRecent {
				t.Fatalf("%d are kept", len(r.kept))
			}
		}
	})
}
