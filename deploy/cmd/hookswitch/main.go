// Command hookswitch is everything in one binary: both halves together (up), apart (edge, controlplane), their keys,
// and a telephone to try them with (call).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"
)

// version is set by the linker (-X main.version=…); builds from a checkout say dev.
var version = "dev"

// command is one word after hookswitch.
type command struct {
	name, args, help string
	run              func(ctx context.Context, c cli) error
}

// cli is what a command gets from the outside.
type cli struct {
	args     []string
	environ  []string
	out, err io.Writer
}

func commands() []command {
	return []command{
		{"up", "", "run both halves in one process on SQLite and plain files", runUp},
		{"edge", "--control URL --token edge_…", "run an edge: SIP and media", runEdge},
		{"controlplane", "--edges ADDR", "run the control plane: REST API and storage", runControlPlane},
		{"key", "create [--edge|--platform]", "make an API key, an edge's token, or an operator's key", runKey},
		{"config", "up|edge|controlplane", "print the settings that would be used, as a file for --config", runConfig},
		{"audit", "verify", "find what was changed in the audit, removed from it or slipped into it", runAudit},
		{"call", "TO", "place a real SIP call and print what happened", runCall},
		{"version", "", "print the version", runVersion},
	}
}

func main() {
	// Times are UTC everywhere; only what a person reads is local.
	time.Local = time.UTC
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := run(ctx, cli{args: os.Args[1:], environ: os.Environ(), out: os.Stdout, err: os.Stderr})
	stop()
	os.Exit(code)
}

func run(ctx context.Context, c cli) int {
	if len(c.args) == 0 || c.args[0] == "help" || c.args[0] == "--help" || c.args[0] == "-h" {
		usage(c.out)
		return 0
	}
	for _, cmd := range commands() {
		if cmd.name != c.args[0] {
			continue
		}
		c.args = c.args[1:]
		err := cmd.run(ctx, c)
		switch {
		case err == nil:
			return 0
		case errors.Is(err, flag.ErrHelp):
			fmt.Fprintf(c.out, "\nhookswitch %s %s\n%s\n", cmd.name, cmd.args, cmd.help)
			return 0
		case errors.Is(err, errCallFailed):
			return 1
		}
		fmt.Fprintln(c.err, "hookswitch "+cmd.name+":", err)
		return 1
	}
	fmt.Fprintf(c.err, "hookswitch: no command %q; hookswitch help lists them\n", c.args[0])
	return 2
}

func usage(out io.Writer) {
	fmt.Fprintln(out, "hookswitch: a call platform whose applications are webhooks")
	fmt.Fprintln(out)
	for _, cmd := range commands() {
		fmt.Fprintf(out, "  %-40s %s\n", "hookswitch "+cmd.name+" "+cmd.args, cmd.help)
	}
	fmt.Fprintln(out)
	fmt.Fprintln(out, "Each takes --help. Settings also come from HOOKSWITCH_… and from --config FILE.")
}

func runVersion(_ context.Context, c cli) error {
	fmt.Fprintln(c.out, "hookswitch", version, runtime.Version())
	return nil
}
