package main

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hookswitch/hookswitch/controlplane"
	"github.com/hookswitch/hookswitch/deploy/phone"
	"github.com/hookswitch/hookswitch/edge"
)

// welcome is the program that answers number 1000 after the first start.
//
//go:embed welcome.json
var welcome []byte

// defaultAccount is the account of the first start.
const defaultAccount = "demo"

// ownerLogin is the login of its first user.
const ownerLogin = "admin"

// apiRate is what a key may ask a second when it has no rate of its own.
const apiRate = 200

// firstStart is what a new installation gets.
func firstStart(apiKey string) controlplane.Seed {
	return controlplane.Seed{
		Account: defaultAccount, Domain: "demo.hookswitch.local", Country: "CN", APIKey: apiKey,
		Owner: ownerLogin, Extensions: []string{"1001", "1002"}, Number: "1000", Application: "welcome", Program: welcome,
	}
}

// controlConfig makes a control plane's configuration of its settings.
func controlConfig(c common, s controlSettings, o *operation) (controlplane.Config, error) {
	networks, err := prefixes(c.AllowNetwork)
	if err != nil {
		return controlplane.Config{}, err
	}
	provider, err := s.provider()
	if err != nil {
		return controlplane.Config{}, err
	}
	mail, err := s.mail()
	if err != nil {
		return controlplane.Config{}, err
	}
	database, blobs, err := stores(c, s.Database, s.Blobs)
	if err != nil {
		return controlplane.Config{}, err
	}
	return controlplane.Config{
		Database: database, Bus: s.Bus, Blobs: blobs, HTTP: s.HTTP, PublicURL: strings.TrimRight(s.PublicURL, "/"),
		CheckAudio: checkAudio, RatePerSecond: apiRate, AllowNetworks: networks, RootCAs: o.roots, OIDC: provider, Mail: mail, Logger: o.log,
	}, nil
}

// stores gives the places of the database and the blobs, which lie below --data where nothing else is said.
func stores(c common, database, blobs string) (string, string, error) {
	dir, err := filepath.Abs(c.Data)
	if err != nil {
		return "", "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", "", err
	}
	return cmp.Or(database, "sqlite:"+filepath.Join(dir, "hookswitch.db")), cmp.Or(blobs, "file:"+filepath.Join(dir, "blobs")), nil
}

// checkAudio says why a file could not be played.
func checkAudio(file []byte) error {
	_, err := phone.ReadWAV(file)
	return err
}

// runUp is both halves in one process.
func runUp(ctx context.Context, c cli) error {
	var s upSettings
	if err := load(&s, c); err != nil {
		return err
	}
	o, err := operate(ctx, c, "up", "", s.common, s.operatorSettings)
	if err != nil {
		return err
	}
	defer o.close()
	giveMediaItsOwnP()
	raisePriority(o.log)
	if isLoopback(s.HTTP) { // a machine that is tried out: webhooks run beside us
		s.AllowNetwork = append(s.AllowNetwork, "127.0.0.0/8", "::1/128")
	}
	cfg, err := controlConfig(s.common, s.controlSettings, o)
	if err != nil {
		return err
	}
	if err := o.secure(ctx, &cfg, s.Data, s.httpsSettings); err != nil {
		return err
	}
	cfg.DefaultAccount = defaultAccount
	plane, err := controlplane.New(ctx, cfg)
	if err != nil {
		return err
	}
	seeded, err := plane.Seed(ctx, firstStart(s.APIKey))
	if err != nil {
		return errors.Join(err, plane.Close())
	}
	e, err := upEdge(s, plane, o)
	if err != nil {
		return errors.Join(err, plane.Close())
	}
	known, err := keepCredentials(s.Data, plane.URL(), o.authorityFile(s.Data), reachable(e.Addr()), seeded)
	if err != nil {
		return errors.Join(err, plane.Close())
	}
	o.watchPlane(plane)
	o.watchEdge(e, s.MaxCalls)
	o.serve(func(ctx context.Context) error { return errors.Join(plane.Ready(ctx), e.Calls().Ready()) }, plane)
	upBanner(c.out, s, known, seeded, o)
	return serveBoth(ctx, plane, e, s, o.log)
}

// upEdge opens the edge of the same process.
func upEdge(s upSettings, plane *controlplane.ControlPlane, o *operation) (*edge.Edge, error) {
	id, err := edgeID(s.Data)
	if err != nil {
		return nil, err
	}
	cfg, err := edgeConfig(s.common, s.edgeSettings, id, plane.Control(), o.log)
	if err != nil {
		return nil, err
	}
	cfg.PublicURL = plane.URL()
	cfg.Observer, cfg.Tracer, cfg.Blobs = o.metrics.Calls(causes()), o.tracing.Tracer(), o.storage(plane)
	e, err := edge.New(cfg)
	if err != nil {
		return nil, err
	}
	plane.AttachEdge(id, e.Calls()) // for as long as the process lives
	return e, nil
}

// serveBoth runs the control plane around the edge: it must be there to the last event and recording.
func serveBoth(ctx context.Context, plane *controlplane.ControlPlane, e *edge.Edge, s upSettings, log *slog.Logger) error {
	outer, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	inner, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var parts sync.WaitGroup
	var planeErr error
	parts.Go(func() {
		planeErr = plane.Run(outer)
		cancel(planeErr)
	})
	err := serveEdge(inner, e, s.Drain, log)
	stop()
	parts.Wait()
	return errors.Join(err, planeErr)
}

// runControlPlane is a control plane apart from its edges.
func runControlPlane(ctx context.Context, c cli) error {
	var s controlProcess
	if err := load(&s, c); err != nil {
		return err
	}
	o, err := operate(ctx, c, "controlplane", "", s.common, s.operatorSettings)
	if err != nil {
		return err
	}
	defer o.close()
	cfg, err := controlConfig(s.common, s.controlSettings, o)
	if err != nil {
		return err
	}
	if err := o.secure(ctx, &cfg, s.Data, s.httpsSettings); err != nil {
		return err
	}
	cfg.DefaultAccount, cfg.Edges = s.DefaultAccount, s.Edges
	plane, err := controlplane.New(ctx, cfg)
	if err != nil {
		return err
	}
	seeded, err := plane.Seed(ctx, firstStart(s.APIKey))
	if err != nil {
		return errors.Join(err, plane.Close())
	}
	known, err := keepCredentials(s.Data, plane.URL(), o.authorityFile(s.Data), "", seeded)
	if err != nil {
		return errors.Join(err, plane.Close())
	}
	o.watchPlane(plane)
	o.serve(plane.Ready, plane)
	fmt.Fprintf(c.out, "\n  Hookswitch %s control plane\n\n  API    %s   documentation %s/docs\n  edges  %s\n", version, plane.URL(), plane.URL(), plane.EdgesAddr())
	o.banner(c.out, plane.URL())
	if seeded.First {
		printSecrets(c.out, s.Data, known, seeded)
	}
	return plane.Run(ctx)
}

// reachable is where a phone on this machine finds SIP.
func reachable(addr netip.AddrPort) string {
	if addr.Addr().IsUnspecified() {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), addr.Port()).String()
	}
	return addr.String()
}

// keepCredentials writes the first start's secrets, or brings the addresses of the file up to date.
func keepCredentials(dir, url, authority, sip string, seeded controlplane.Seeded) (credentials, error) {
	known, found, err := readCredentials(dir)
	if err != nil {
		return known, err
	}
	if !found && !seeded.First {
		return known, nil // another machine's first start: its secrets are there
	}
	known.URL, known.CA, known.SIP, known.Domain = url, authority, sip, seeded.Domain
	if seeded.First {
		known.APIKey, known.Extensions = seeded.APIKey, seeded.Extensions
	}
	return known, writeCredentials(dir, known)
}

func upBanner(out io.Writer, s upSettings, known credentials, seeded controlplane.Seeded, o *operation) {
	fmt.Fprintf(out, "\n  Hookswitch %s\n\n", version)
	fmt.Fprintf(out, "  SIP    %s (UDP and TCP), domain %s\n", known.SIP, known.Domain)
	fmt.Fprintf(out, "  API    %s   documentation %s/docs\n", known.URL, known.URL)
	fmt.Fprintf(out, "  dial   1000 for the welcome program, 1001 and 1002 for each other\n")
	fmt.Fprintf(out, "         or: hookswitch call 1000 --data %s --digits \"5@8s\"\n", s.Data)
	if isLoopback(s.HTTP) {
		fmt.Fprintf(out, "  note   webhooks may lead to this machine (127.0.0.0/8, ::1), because --http is on loopback\n")
	}
	o.banner(out, known.URL)
	if seeded.First {
		printSecrets(out, s.Data, known, seeded)
	}
	fmt.Fprintln(out)
}

// printSecrets shows the secrets of the first start, this once.
func printSecrets(out io.Writer, dir string, known credentials, seeded controlplane.Seeded) {
	fmt.Fprintf(out, "\n  first start; these are also in %s:\n", credentialsPath(dir))
	fmt.Fprintf(out, "  API key         %s\n", known.APIKey)
	for _, extension := range slices.Sorted(maps.Keys(known.Extensions)) {
		fmt.Fprintf(out, "  extension %s  password %s\n", extension, known.Extensions[extension])
	}
	if seeded.OwnerLink.URL != "" {
		fmt.Fprintf(out, "\n  the first owner, %q, chooses a password until %s:\n  %s\n", ownerLogin, seeded.OwnerLink.ExpiresAt.Format(time.DateTime+" MST"), seeded.OwnerLink.URL)
	}
}
