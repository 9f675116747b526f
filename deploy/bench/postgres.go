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

// startPostgres runs Debian's PostgreSQL on a fresh folder with its own settings, durable as installed, and gives the URL
// of an empty database.
func startPostgres(ctx context.Context) (location string, stop func(), err error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(found) == 0 {
		return "", nil, errors.Join(err, errors.New("PostgreSQL is missing: install the Debian package postgresql"))
	}
	slices.Sort(found)
	programs := filepath.Dir(found[len(found)-1])
	folder, err := os.MkdirTemp("", "hookswitch-bench-pg-")
	if err != nil {
		return "", nil, err
	}
	attributes := &syscall.SysProcAttr{Pdeathsig: syscall.SIGINT}
	if os.Geteuid() == 0 { // as whom PostgreSQL refuses to run
		if err := toPostgres(folder, attributes); err != nil {
			return "", nil, err
		}
	}
	run := func(name string, arguments ...string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, filepath.Join(programs, name), arguments...)
		cmd.SysProcAttr, cmd.Dir = attributes, folder
		return cmd
	}
	if text, err := run("initdb", "-D", folder+"/data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C").CombinedOutput(); err != nil {
		return "", nil, fmt.Errorf("initdb: %w\n%s", err, text)
	}
	postgres := run("postgres", "-D", folder+"/data", "-k", folder, "-c", "listen_addresses=")
	postgres.Cancel = func() error { return postgres.Process.Signal(syscall.SIGINT) }
	if err := postgres.Start(); err != nil {
		return "", nil, err
	}
	stop = func() {
		if err := errors.Join(postgres.Process.Signal(syscall.SIGINT), postgres.Wait(), os.RemoveAll(folder)); err != nil {
			fmt.Fprintln(os.Stderr, "bench: the end of PostgreSQL:", err)
		}
	}
	location = "postgres://postgres@/postgres?host=" + url.QueryEscape(folder)
	for range 300 {
		c, err := pgx.Connect(ctx, location)
		if err == nil {
			return location, stop, c.Close(ctx)
		}
		time.Sleep(100 * time.Millisecond)
	}
	stop()
	return "", nil, errors.New("PostgreSQL did not start")
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
