package resttest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/openapi"
)

// CalledEnv names the environment variable that holds a folder. Where it is set, each test binary that mounts
// operations writes there which of them it has called with success. So a run of all tests, and after it Uncalled, shows
// that every operation is called by some test. Results that go test has cached write nothing: take a new folder each time.
const CalledEnv = "HOOKSWITCH_CALLED"

// Called gives a rest.Config.Observe that writes down what was answered below 400, for servers that a test mounts itself;
// nil where nobody wants to know.
func Called(t testing.TB) func(context.Context, string, int, time.Duration) {
	t.Helper()
	folder := os.Getenv(CalledEnv)
	if folder == "" {
		return nil
	}
	path := filepath.Join(folder, fmt.Sprintf("%s.%d", filepath.Base(os.Args[0]), os.Getpid()))
	var mu sync.Mutex // guards seen
	seen := map[string]bool{}
	return func(_ context.Context, operation string, status int, _ time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		if status >= http.StatusBadRequest || seen[operation] {
			return
		}
		seen[operation] = true
		f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err == nil {
			_, err = f.WriteString(operation + "\n")
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			t.Error(err)
		}
	}
}

// Uncalled gives the operations of a specification that no test binary has written down in a folder. A folder in which
// nothing was written is an error: it was not the one.
func Uncalled(spec *openapi.Spec, folder string) ([]string, error) {
	files, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for _, file := range files {
		if err := readLines(filepath.Join(folder, file.Name()), seen); err != nil {
			return nil, err
		}
	}
	if len(seen) == 0 {
		return nil, fmt.Errorf("no test has written into %s; run the tests with %s set to it", folder, CalledEnv)
	}
	var missing []string
	for _, item := range spec.View.Paths.Map() {
		for _, o := range item.Operations() {
			if !seen[o.OperationID] {
				missing = append(missing, o.OperationID)
			}
		}
	}
	slices.Sort(missing)
	return missing, nil
}

func readLines(path string, into map[string]bool) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		into[strings.TrimSpace(lines.Text())] = true
	}
	return errors.Join(lines.Err(), f.Close())
}
