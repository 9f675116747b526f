package dbtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// keeper keeps what is slow to make in a folder, for all test binaries of a machine to copy. The zero value keeps nothing.
//
// A thing is made aside and renamed, so that whoever is killed meanwhile leaves no half of it under its name; under an
// exclusive lock, so that it is made once; and copied under a shared one, so that it is not removed meanwhile. The locks
// end with their processes.
type keeper struct{ folder string }

// keepFor is how long what nobody copies is kept.
const keepFor = 7 * 24 * time.Hour

// kept is the keeper of this user.
func kept() keeper {
	folder, err := os.UserCacheDir()
	if err != nil {
		return keeper{}
	}
	return keeper{filepath.Join(folder, "hookswitch", "databases")}
}

// copyTo copies the file or folder of a name to a path that does not exist. Where there is none, make makes it; name says
// all that it depends on. A folder that cannot be used is done without.
func (k keeper) copyTo(path, name string, make func(path string) error) error {
	lock, err := k.open()
	if err != nil {
		return make(path)
	}
	defer lock.Close()
	entry := filepath.Join(k.folder, name)
	for range 2 {
		if err := flock(lock, syscall.LOCK_SH); err != nil {
			return make(path)
		}
		if _, err := os.Lstat(entry); err == nil {
			return k.copy(path, entry)
		}
		if flock(lock, syscall.LOCK_EX) != nil || k.add(entry, make) != nil {
			return make(path)
		}
	}
	return fmt.Errorf("%s was removed as soon as it was made", entry)
}

// open opens the file that is locked.
func (k keeper) open() (*os.File, error) {
	if k.folder == "" {
		return nil, errors.ErrUnsupported
	}
	if err := os.MkdirAll(k.folder, 0o700); err != nil {
		return nil, err
	}
	return os.OpenFile(filepath.Join(k.folder, lockName), os.O_CREATE|os.O_RDWR, 0o600)
}

const (
	lockName = "lock"
	aside    = "new-"
)

// flock takes a lock, or changes the one that is held.
func flock(f *os.File, how int) error {
	for {
		if err := syscall.Flock(int(f.Fd()), how); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// copy copies what is there, and notes that it is used.
func (k keeper) copy(path, entry string) error {
	now := time.Now()
	_ = os.Chtimes(entry, now, now) // somebody else's stays as it is
	return run("cp", "--archive", "--reflink=auto", entry, path)
}

// add makes what is not there yet, and removes what nobody copies or was not finished. It needs the exclusive lock.
func (k keeper) add(entry string, make func(path string) error) (err error) {
	if _, err := os.Lstat(entry); err == nil {
		return nil // another made it while we waited
	}
	if err := k.tidy(); err != nil {
		return err
	}
	// Made elsewhere: PostgreSQL's user, who is not root, cannot reach into root's cache.
	folder, err := os.MkdirTemp("", "kept")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	made := filepath.Join(folder, "made")
	if err := make(made); err != nil {
		return err
	}
	whole := filepath.Join(k.folder, aside+filepath.Base(entry))
	if err := run("cp", "--archive", made, whole); err != nil {
		return err
	}
	// A machine that loses power after the rename must not keep empty files under the name.
	if err := run("sync", "--file-system", whole); err != nil {
		return err
	}
	return os.Rename(whole, entry)
}

func (k keeper) tidy() error {
	all, err := os.ReadDir(k.folder)
	if err != nil {
		return err
	}
	for _, e := range all {
		at, err := e.Info()
		if err != nil {
			return err
		}
		unfinished, unused := strings.HasPrefix(e.Name(), aside), time.Since(at.ModTime()) > keepFor
		if e.Name() == lockName || !unfinished && !unused {
			continue
		}
		if err := os.RemoveAll(filepath.Join(k.folder, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

func run(name string, arguments ...string) error {
	if text, err := exec.CommandContext(context.Background(), name, arguments...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, text)
	}
	return nil
}
