//go:build ignore

// The command spec prints the joined specification of the REST API, from which the core of the SDK is generated.
package main

import (
	"log"
	"os"

	"github.com/hookswitch/hookswitch/openapi"
)

func main() {
	spec, err := openapi.Load()
	if err != nil {
		log.Fatal(err)
	}
	if _, err := os.Stdout.Write(spec.YAML); err != nil {
		log.Fatal(err)
	}
}
