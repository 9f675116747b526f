//go:build operations

package deploy

import (
	"os"
	"testing"

	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
	"github.com/hookswitch/hookswitch/openapi"
)

// Every operation of the specification is called by some test, with success. It is built for a run of its own, after
// the tests that call them:
//
//	export HOOKSWITCH_CALLED=$(mktemp -d)
//	go test -count=1 -run '^TestEveryOperation' ./controlplane/...
//	go test -count=1 -tags operations -run '^TestEveryOperationIsCalled$' ./deploy
func TestEveryOperationIsCalled(t *testing.T) {
	spec, err := openapi.Load()
	if err != nil {
		t.Fatal(err)
	}
	missing, err := resttest.Uncalled(spec, os.Getenv(resttest.CalledEnv))
	if err != nil {
		t.Fatal(err)
	}
	for _, operation := range missing {
		t.Errorf("%s: no test calls it", operation)
	}
}
