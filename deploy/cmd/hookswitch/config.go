package main

import (
	"context"
	"fmt"

	"github.com/hookswitch/hookswitch/deploy/config"
)

// runConfig prints the settings that a process would use, secrets hidden.
func runConfig(_ context.Context, c cli) error {
	which := "up"
	if len(c.args) > 0 && c.args[0] != "" && c.args[0][0] != '-' {
		which, c.args = c.args[0], c.args[1:]
	}
	var settings any
	switch which {
	case "up":
		settings = new(upSettings)
	case "edge":
		settings = new(edgeProcess)
	case "controlplane":
		settings = new(controlProcess)
	default:
		return fmt.Errorf("settings are those of up, edge or controlplane, not of %q", which)
	}
	if err := load(settings, c); err != nil {
		return err
	}
	return config.Print(settings, c.out)
}
