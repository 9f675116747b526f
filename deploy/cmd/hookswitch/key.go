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
}

// runKey makes a key and prints it, which is the only time it can be seen. The control plane may be running.
func runKey(ctx context.Context, c cli) error {
	var s keySettings
	rest, err := config.Load(&s, c.args, c.environ, c.out)
	if err != nil {
		return err
	}
	if len(rest) != 1 || rest[0] != "create" {
		return errors.New("say what to do: hookswitch key create [--edge]")
	}
	cfg, err := controlConfig(s.common, controlSettings{Database: s.Database}, nil)
	if err != nil {
		return err
	}
	text, err := controlplane.NewKey(ctx, cfg.Database, s.Account, s.Name, s.Edge)
	if err != nil {
		return err
	}
	fmt.Fprintln(c.out, text)
	return nil
}
