package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/hookswitch/hookswitch/controlplane"
	"github.com/hookswitch/hookswitch/deploy/config"
)

// keySettings say for whom a key is made.
type keySettings struct {
	common
	Database string `flag:"database" help:"of the control plane; SQLite under --data by default" secret:"true"`
	Account  string `flag:"account" default:"demo" help:"the account of an API key"`
	Name     string `flag:"name" default:"made by hookswitch key" help:"what the key is called in lists"`
	Edge     bool   `flag:"edge" help:"make a token for edges instead of an API key"`
	Platform bool   `flag:"platform" help:"make an operator's key instead, which makes accounts and sets their limits"`
}

// runKey makes a key and prints it, which is the only time it can be seen. The control plane may be running.
func runKey(ctx context.Context, c cli) error {
	var s keySettings
	rest, err := config.Load(&s, c.args, c.environ, c.out)
	if err != nil {
		return err
	}
	if len(rest) != 1 || rest[0] != "create" {
		return errors.New("say what to do: hookswitch key create [--edge|--platform]")
	}
	if s.Edge && s.Platform {
		return errors.New("a key is for an edge or for the platform: give --edge or --platform, not both")
	}
	database, _, err := stores(s.common, s.Database, "")
	if err != nil {
		return err
	}
	var text string
	if s.Platform {
		text, err = controlplane.NewPlatformKey(ctx, database, s.Name)
	} else {
		text, err = controlplane.NewKey(ctx, database, s.Account, s.Name, s.Edge)
	}
	if err != nil {
		return err
	}
	fmt.Fprintln(c.out, text)
	return nil
}
