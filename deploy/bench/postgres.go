package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// The users of PostgreSQL. The server's is no superuser; it owns its database and may make roles, so that the control plane
// makes the one that row security holds, and becomes it for what accounts ask (see package db). The other may not become
// it, owns nothing and passes the policies by: for it the control plane runs without row security.
const (
	adminUser  = "postgres"
	serverUser = "hookswitch"
	unheldUser = "unheld"
)

// postgres is a running PostgreSQL of our own.
type postgres struct {
	folder  string
	process *exec.Cmd
}

// location is the URL of the server's database for a user.
func (p *postgres) location(user string) string {
	return "postgres://" + user + "@/" + serverUser + "?host=" + url.QueryEscape(p.folder)
}

// startPostgres runs Debian's PostgreSQL on a fresh folder with its own settings, durable as installed, with an empty
// database that is the server's.
func startPostgres(ctx context.Context) (*postgres, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(found) == 0 {
		return nil, errors.Join(err, errors.New("PostgreSQL is missing: install the Debian package postgresql"))
	}
	slices.Sort(found)
	programs := filepath.Dir(found[len(found)-1])
	folder, err := os.MkdirTemp("", "hookswitch-bench-pg-")
	if err != nil {
		return nil, err
	}
	attributes := &syscall.SysProcAttr{Pdeathsig: syscall.SIGINT}
	if os.Geteuid() == 0 { // as whom PostgreSQL refuses to run
		if err := toPostgres(folder, attributes); err != nil {
			return nil, err
		}
	}
	run := func(name string, arguments ...string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, filepath.Join(programs, name), arguments...)
		cmd.SysProcAttr, cmd.Dir = attributes, folder
		return cmd
	}
	if text, err := run("initdb", "-D", folder+"/data", "-U", adminUser, "-A", "trust", "-E", "UTF8", "--locale=C").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w\n%s", err, text)
	}
	p := &postgres{folder: folder, process: run("postgres", "-D", folder+"/data", "-k", folder, "-c", "listen_addresses=")}
	p.process.Cancel = func() error { return p.process.Process.Signal(syscall.SIGINT) }
	if err := p.process.Start(); err != nil {
		return nil, err
	}
	err = p.run(ctx, "postgres", "CREATE ROLE "+serverUser+" LOGIN CREATEROLE", "CREATE DATABASE "+serverUser+" OWNER "+serverUser)
	if err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

// allowUnheld makes the user for whom there is no row security. Call it when the tables are there.
func (p *postgres) allowUnheld(ctx context.Context) error {
	return p.run(ctx, serverUser, "CREATE ROLE "+unheldUser+" LOGIN BYPASSRLS", "GRANT ALL ON ALL TABLES IN SCHEMA public TO "+unheldUser)
}

// run runs statements as the superuser. It waits until PostgreSQL takes connections.
func (p *postgres) run(ctx context.Context, database string, statements ...string) error {
	location := "postgres://" + adminUser + "@/" + database + "?host=" + url.QueryEscape(p.folder)
	c, err := pgx.Connect(ctx, location)
	for tries := 0; err != nil && tries < 300 && ctx.Err() == nil; tries++ {
		time.Sleep(100 * time.Millisecond)
		c, err = pgx.Connect(ctx, location)
	}
	if err != nil {
		return fmt.Errorf("PostgreSQL did not start: %w", err)
	}
	for _, s := range statements {
		if _, err := c.Exec(ctx, s); err != nil {
			return errors.Join(fmt.Errorf("%s: %w", s, err), c.Close(ctx))
		}
	}
	return c.Close(ctx)
}

func (p *postgres) stop() {
	if err := errors.Join(p.process.Process.Signal(syscall.SIGINT), p.process.Wait(), os.RemoveAll(p.folder)); err != nil {
		fmt.Fprintln(os.Stderr, "bench: the end of PostgreSQL:", err)
	}
}

// toPostgres gives a folder, and what is started with the attributes, to Debian's user postgres.
func toPostgres(folder string, attributes *syscall.SysProcAttr) error {
	u, err := user.Lookup("postgres")
	if err != nil {
		return err
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	attributes.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return os.Chown(folder, int(uid), int(gid))
}
