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
//	go test ./controlplane/...
//	go test -tags operations -run '^TestEveryOperationIsCalled$' ./deploy
//
// A new folder each time keeps results that go test has cached out of it.
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
