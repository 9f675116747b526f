package e2e

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
)

// TestMain builds the binary that every test drives, with the race detector: a race makes it exit with 66, which every
// test takes for a failure.
func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "hookswitch-e2e")
	if err != nil {
		return fail(err)
	}
	code := drive(m, dir)
	if err := os.RemoveAll(dir); err != nil {
		return fail(err)
	}
	return code
}

// drive builds the binary in dir and runs the tests.
func drive(m *testing.M, dir string) int {
	binaries = dir
	hookswitch = filepath.Join(dir, "hookswitch")
	build := exec.Command("go", "build", "-race", "-o", hookswitch, "../cmd/hookswitch")
	if text, err := build.CombinedOutput(); err != nil {
		return fail(fmt.Errorf("go build: %w\n%s", err, text))
	}
	if err := startWatch(); err != nil {
		return fail(err)
	}
	// A call is mostly waiting: more of them at once than there are cores.
	flag.Parse()
	if err := flag.Set("test.parallel", "6"); err != nil {
		return fail(err)
	}
	code := m.Run()
	if err := watch.end(); err != nil {
		return fail(err)
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			return fail(err)
		}
	}
	return code
}

func fail(err error) int {
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// hookswitch is what was built, and binaries the folder it lies in.
var hookswitch, binaries string

// swift builds the binary without the race detector, which takes ten times as long to start, for a test that starts it a
// hundred times.
func swift(t *testing.T) string {
	t.Helper()
	path := filepath.Join(binaries, "swift")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", path, "../cmd/hookswitch")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, text)
	}
	return path
}
