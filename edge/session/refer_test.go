package session

import (
	"errors"
	"fmt"
	"testing"

	"github.com/hookswitch/hookswitch/edge/sip"
)

func TestReferThatIsNotAcceptedIsNewsOfACode(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		code int
	}{
		"refused":     {&sip.RejectedError{Code: 603}, 603},
		"no answer":   {fmt.Errorf("refer: %w", sip.ErrTimeout), 408},
		"no way":      {fmt.Errorf("refer: %w", sip.ErrTransport), 503},
		"our mistake": {errors.New("no such URI"), 0},
	} {
		t.Run(name, func(t *testing.T) {
			got := unreferred(c.err)
			if got.code != c.code || (got.err != nil) != (c.code == 0) {
				t.Errorf("%d, %v", got.code, got.err)
			}
		})
	}
}
