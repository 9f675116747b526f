package dbtest

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// holds fails the test unless a file has a text; "" is no file.
func holds(t *testing.T, path, text string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if string(got) != text || (err == nil) != (text != "") {
		t.Errorf("%s holds %q, %v; want %q", filepath.Base(path), got, err, text)
	}
}

func TestWhatIsKeptIsMadeOnceForAll(t *testing.T) {
	k, to := keeper{filepath.Join(t.TempDir(), "cache")}, t.TempDir()
	var made atomic.Int64
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			err := k.copyTo(filepath.Join(to, strconv.Itoa(i)), "a", func(path string) error {
				made.Add(1)
				return os.WriteFile(path, []byte("whole"), 0o600)
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for i := range 8 {
		holds(t, filepath.Join(to, strconv.Itoa(i)), "whole")
	}
	if made.Load() != 1 {
		t.Errorf("made %d times", made.Load())
	}
	// A copy is its owner's to change.
	write(t, filepath.Join(to, "0"), "changed")
	holds(t, filepath.Join(k.folder, "a"), "whole")
}

func TestWhatWasNotFinishedOrIsNotUsedIsRemoved(t *testing.T) {
	k, to := keeper{t.TempDir()}, t.TempDir()
	for _, name := range []string{aside + "a", "old", "used"} {
		write(t, filepath.Join(k.folder, name), name)
	}
	longAgo := time.Now().Add(-2 * keepFor)
	if err := os.Chtimes(filepath.Join(k.folder, "old"), longAgo, longAgo); err != nil {
		t.Fatal(err)
	}
	if err := k.copyTo(filepath.Join(to, "a"), "a", func(path string) error { return os.WriteFile(path, []byte("whole"), 0o600) }); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"a": "whole", "used": "used", "old": "", aside + "a": ""} {
		holds(t, filepath.Join(k.folder, name), text)
	}
}

func TestWithoutACacheEachMakesItsOwn(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, "no folder")
	for _, folder := range []string{"", filepath.Join(file, "below")} {
		path := filepath.Join(t.TempDir(), "a")
		if err := (keeper{folder}).copyTo(path, "a", func(path string) error { return os.WriteFile(path, []byte("own"), 0o600) }); err != nil {
			t.Errorf("%q: %v", folder, err)
		}
		holds(t, path, "own")
	}
}

func TestWhatCannotBeMadeIsNotKept(t *testing.T) {
	k := keeper{t.TempDir()}
	wrong := errors.New("cannot be made")
	err := k.copyTo(filepath.Join(t.TempDir(), "a"), "a", func(path string) error {
		write(t, path, "half")
		return wrong
	})
	if !errors.Is(err, wrong) {
		t.Errorf("got %v", err)
	}
	holds(t, filepath.Join(k.folder, "a"), "")
}
