//go:build ignore

// The command spec prints the joined specification of the REST API, from which the core of the SDK is generated. A
// person's session stays out of it: the generated code would write whatever it is given into the cookie and the CSRF header
// of every request. What the SDK does about sessions is in client.ts.
package main

import (
	"bytes"
	"log"
	"os"

	"github.com/hookswitch/hookswitch/openapi"
)

func main() {
	spec, err := openapi.Load()
	if err != nil {
		log.Fatal(err)
	}
	session := []byte("  - session: []\n    csrf: []\n")
	if bytes.Count(spec.YAML, session) != 1 {
		log.Fatal("the specification does not say in one place that a session is taken")
	}
	if _, err := os.Stdout.Write(bytes.Replace(spec.YAML, session, nil, 1)); err != nil {
		log.Fatal(err)
	}
}
