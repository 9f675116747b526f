// Package dbtest runs a test on both databases: SQLite in a temporary file, and a real PostgreSQL that is started
// as a child process once per test binary. What is tested is left to the test.
package dbtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hookswitch/hookswitch/controlplane/db"
)

// Each runs fn as two subtests, "sqlite" and "postgres", each on a fresh database with every migration applied. A
// PostgreSQL that is not installed fails the test.
func Each(t *testing.T, fn func(t *testing.T, d *db.DB)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { fn(t, Open(t, SQLiteURL(t))) })
	t.Run("postgres", func(t *testing.T) { fn(t, Open(t, PostgresURL(t))) })
}

// Open opens a database and closes it when the test ends.
func Open(t *testing.T, location string) *db.DB {
	t.Helper()
	d, err := db.Open(t.Context(), location)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// SQLiteURL is the URL of a fresh SQLite database with every migration applied.
func SQLiteURL(t *testing.T) string {
	t.Helper()
	return SQLite(t)
}

// SQLite is SQLiteURL for a benchmark too.
func SQLite(t testing.TB) string {
	t.Helper()
	file, err := migrated()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "test.db")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	return "sqlite:" + path
}

// migrated is a fresh SQLite database as a file. Why a copy for each test: the migrations take longer than most tests.
var migrated = sync.OnceValues(func() ([]byte, error) {
	folder, err := os.MkdirTemp("", "sqlite")
	if err != nil {
		return nil, err
	}
	path := filepath.Join(folder, "template.db")
	err = kept().copyTo(path, "sqlite-"+db.Schema(), func(path string) error { return migrate("sqlite:" + path) })
	file, readErr := os.ReadFile(path)
	return file, errors.Join(err, readErr, os.RemoveAll(folder))
})

// migrate brings a database up to date.
func migrate(location string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	d, err := db.Open(ctx, location)
	if err != nil {
		return err
	}
	return d.Close()
}

// PostgresURL is the URL of a fresh PostgreSQL database with every migration applied, dropped when the test ends.
func PostgresURL(t *testing.T) string {
	t.Helper()
	return Postgres(t)
}

// Postgres is PostgresURL for a benchmark too.
func Postgres(t testing.TB) string {
	t.Helper()
	// FILE_COPY writes the files and not also a log of them: a sixth of the processor's time.
	return create(t, " TEMPLATE "+templateName+" STRATEGY FILE_COPY")
}

// EmptyPostgresURL is the URL of a fresh, empty PostgreSQL database, dropped when the test ends.
func EmptyPostgresURL(t *testing.T) string {
	t.Helper()
	return create(t, "")
}

// templateName is the database, with every migration applied, that others are copied from.
const templateName = "migrated"

func create(t testing.TB, options string) string {
	t.Helper()
	running, err := server()
	if err != nil {
		t.Fatal(err)
	}
	name := strings.ToLower(db.NewID("test"))
	admin := func(statement string) {
		if err := administer(running.folder, statement); err != nil {
			t.Errorf("%s: %v", statement, err)
		}
	}
	admin("CREATE DATABASE " + pgx.Identifier{name}.Sanitize() + options)
	t.Cleanup(func() { admin("DROP DATABASE " + pgx.Identifier{name}.Sanitize() + " WITH (FORCE)") })
	return address(running.folder, name)
}

func address(folder, name string) string {
	return "postgres://postgres@/" + name + "?host=" + url.QueryEscape(folder)
}

// administer runs one statement in the database postgres. Clean-ups run after the test's own context ended.
func administer(folder, statement string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	c, err := pgx.Connect(ctx, address(folder, "postgres"))
	if err != nil {
		return err
	}
	_, err = c.Exec(ctx, statement)
	return errors.Join(err, c.Close(ctx))
}

// server starts the PostgreSQL of this test binary.
var server = sync.OnceValues(func() (child, error) {
	i, err := find()
	if err != nil {
		return child{}, err
	}
	folder, err := i.folder()
	if err != nil {
		return child{}, err
	}
	data := filepath.Join(folder, "data")
	name := fmt.Sprintf("postgres-%s-%d-%s", filepath.Base(filepath.Dir(i.programs)), i.owner, db.Schema())
	if err := kept().copyTo(data, name, i.prepare); err != nil {
		return child{}, err
	}
	return i.serve(data, folder)
})

// installation is a PostgreSQL and the user that runs it.
type installation struct {
	programs   string // their folder
	attributes *syscall.SysProcAttr
	owner      int
}

// find gives the newest PostgreSQL. It refuses to run as root.
func find() (i installation, err error) {
	if i.programs, err = programs(); err != nil {
		return i, err
	}
	i.attributes, i.owner, err = account()
	return i, err
}

// memory is a file system in memory, where there is one, and enough what must be free in it. A database is nine hundred
// files: made on a disk they may take a second, and in memory some thirty milliseconds.
const (
	memory = "/dev/shm"
	enough = 4 << 30 // bytes; a server with its databases takes a tenth of it
)

// folder makes a folder for a server. Not below t.TempDir: a socket's path may have 107 bytes.
func (i installation) folder() (string, error) {
	place := ""
	var s syscall.Statfs_t
	if err := syscall.Statfs(memory, &s); err == nil && int64(s.Bavail)*s.Bsize >= enough {
		place = memory
	}
	folder, err := os.MkdirTemp(place, "pg")
	if err != nil {
		return "", err
	}
	return folder, os.Chown(folder, i.owner, -1)
}

// prepare makes the data folder of a server that has the template and is stopped.
func (i installation) prepare(data string) error {
	if err := os.Chown(filepath.Dir(data), i.owner, -1); err != nil {
		return err
	}
	initdb := exec.CommandContext(context.Background(), filepath.Join(i.programs, "initdb"), "-D", data, "-U", "postgres",
		"-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	initdb.SysProcAttr, initdb.Dir = i.attributes, filepath.Dir(data)
	if text, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, text)
	}
	folder, err := i.folder()
	if err != nil {
		return err
	}
	running, err := i.serve(data, folder)
	if err != nil {
		return err
	}
	if err := administer(folder, "CREATE DATABASE "+templateName); err != nil {
		return errors.Join(err, running.stop())
	}
	return errors.Join(migrate(address(folder, templateName)), running.stop())
}

// child is a server that lives as long as its standard input is open: it goes away whichever way the test binary
// ends.
type child struct {
	folder  string    // of its socket
	alive   io.Closer // kept, because the garbage collector closes files
	command *exec.Cmd
}

// stop ends a server and waits until it has ended.
func (c child) stop() error { return errors.Join(c.alive.Close(), c.command.Wait()) }

// serve runs PostgreSQL until standard input ends, which it does with the test binary, and removes its folder.
const serve = `"$1/postgres" -D "$2" -k "$3" -c listen_addresses= -c fsync=off -c full_page_writes=off \
  -c synchronous_commit=off -c shared_buffers=32MB -c min_wal_size=32MB -c max_wal_size=128MB -c max_connections=200 & pid=$!
read -r never
kill -INT $pid
wait $pid
rm -rf "$3"`

// serve starts a server on a data folder, with its socket and its log in another, which goes with it.
func (i installation) serve(data, folder string) (running child, err error) {
	log, err := os.OpenFile(filepath.Join(folder, "log"), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return running, err
	}
	running = child{folder: folder, command: exec.CommandContext(context.Background(), "/bin/sh", "-c", serve, "sh", i.programs, data, folder)}
	c := running.command
	c.SysProcAttr, c.Dir, c.Stdout, c.Stderr = i.attributes, folder, log, log
	if running.alive, err = c.StdinPipe(); err != nil {
		return running, err
	}
	if err := c.Start(); err != nil {
		return running, err
	}
	return running, errors.Join(log.Close(), ready(folder))
}

// ready waits until the server answers.
func ready(folder string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	for {
		c, err := pgx.Connect(ctx, address(folder, "postgres"))
		if err == nil {
			return c.Close(ctx)
		}
		select {
		case <-ctx.Done():
			log, _ := os.ReadFile(filepath.Join(folder, "log"))
			return fmt.Errorf("PostgreSQL did not start: %w\n%s", err, log)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// programs gives the folder of the newest PostgreSQL's programs.
func programs() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil {
		return "", err
	}
	if len(found) == 0 {
		return "", errors.New("PostgreSQL is missing: install the Debian package postgresql-15 (apt-get install postgresql-15)")
	}
	slices.Sort(found)
	return filepath.Dir(found[len(found)-1]), nil
}

// account gives the user that the server runs as: postgres when we are root, else ourselves.
func account() (*syscall.SysProcAttr, int, error) {
	if os.Geteuid() != 0 {
		return nil, os.Geteuid(), nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, 0, fmt.Errorf("PostgreSQL's user is missing: install the Debian package postgresql-15: %w", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, 0, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, 0, err
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, int(uid), nil
}
