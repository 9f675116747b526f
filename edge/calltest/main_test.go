package calltest

import (
	"testing"
	"testing/synctest"
)

// story runs a test on a bench in virtual time.
func story(t *testing.T, tell func(t *testing.T, b *Bench)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { tell(t, New(t)) })
}
