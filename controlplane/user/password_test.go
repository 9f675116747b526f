package user

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hookswitch/hookswitch/controlplane/problem"
)

func TestAPasswordIsKnownAgain(t *testing.T) {
	h := NewHasher(cheap())
	one, err := h.Hash(t.Context(), password)
	if err != nil {
		t.Fatal(err)
	}
	two, err := h.Hash(t.Context(), password)
	if err != nil || one == two || strings.Contains(one, password) || !strings.HasPrefix(one, "$argon2id$v=19$m=64,t=1,p=1$") {
		t.Fatalf("got %s and %s, %v", one, two, err)
	}
	for text, want := range map[string]bool{password: true, password + " ": false, strings.ToUpper(password): false, "": false} {
		if ok, outdated, err := h.Check(t.Context(), text, one); ok != want || outdated || err != nil {
			t.Errorf("%q: %t, %t, %v", text, ok, outdated, err)
		}
	}
	if ok, _, err := h.Check(t.Context(), "", ""); ok || err != nil {
		t.Errorf("no password is stored, and none given: %t, %v", ok, err)
	}
	if ok, outdated, err := NewHasher(Cost{Time: 2, Memory: 64, Threads: 1}).Check(t.Context(), password, one); !ok || !outdated || err != nil {
		t.Errorf("at another cost: %t, %t, %v", ok, outdated, err)
	}
}

// RFC 9106 §4, the second choice.
func TestTheDefaultCost(t *testing.T) {
	if got := DefaultCost(); got != (Cost{Time: 3, Memory: 64 << 10, Threads: 4}) {
		t.Errorf("got %+v", got)
	}
}

func FuzzParseHash(f *testing.F) {
	for _, text := range []string{
		"$argon2id$v=19$m=64,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "", "$$$$$", "$argon2id$v=19$m=64,t=0,p=0$AA$AA", "plain",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, _, sum, err := parseHash(text)
		if err == nil && (c.Time == 0 || c.Threads == 0 || len(sum) != hashLength) {
			t.Errorf("%q became %+v", text, c)
		}
	})
}

// A flood waits in line for the memory of a hash, and what is too much of it is sent away.
func TestAFloodOfSignInsIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHasher(cheap())
		for range cap(h.slots) {
			h.slots <- struct{}{} // as one does that computes
		}
		answers := make(chan error)
		const flood = mostWaiting + 50
		for range flood {
			go func() {
				_, err := h.Hash(t.Context(), password)
				answers <- err
			}()
		}
		synctest.Wait()
		if n := h.waiting.Load(); n != mostWaiting {
			t.Errorf("%d stand in line", n)
		}
		busy := func(n int) {
			t.Helper()
			for range n {
				if err := <-answers; problem.From(err).Code != problem.CodeUnavailable || problem.From(err).RetryAfter == 0 {
					t.Errorf("got %v", err)
				}
			}
		}
		busy(flood - mostWaiting)
		began := time.Now()
		busy(mostWaiting)
		if waited := time.Since(began); waited != hashWithin {
			t.Errorf("they have waited %s", waited)
		}
		if h.waiting.Load() != 0 || h.done.Load() != 0 {
			t.Errorf("%d wait, %d are done", h.waiting.Load(), h.done.Load())
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		gone := errors.New("the browser is gone")
		cancel(gone)
		if _, err := h.Hash(ctx, password); !errors.Is(err, gone) {
			t.Errorf("whoever leaves: %v", err)
		}
		<-h.slots
		if _, err := h.Hash(t.Context(), password); err != nil {
			t.Errorf("when there is a slot again: %v", err)
		}
	})
}

func TestWhichPasswordsAreTaken(t *testing.T) {
	for text, want := range map[string]bool{
		"correct horse battery": true, "一二三四五六七八九十壹贰": true, "aB3$aB3$aB": true, "Tr0ub4dor&3": true,
		"short": false, "ninechars": false, "1234567890": false, "Password123": false, "woaini1314": false, "QwertyUiop": false,
		"li.wei2026": false, "li.weili.wei": false, "LI.WEI12345": false, "li.wei is my name": true,
		"aaaaaaaaaaaaa": false, "abcdefghijkl": false, "78901234567": false, "98765432109": false,
		strings.Repeat("ab", 512): true, strings.Repeat("ab", 513): false,
	} {
		if err := checkPassword("/password", text, "li.wei"); (err == nil) != want {
			t.Errorf("%.30q: %v", text, err)
		}
	}
}
