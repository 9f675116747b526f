package resttest_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
	"github.com/hookswitch/hookswitch/openapi"
)

func TestAnOperationThatNoTestCallsIsFound(t *testing.T) {
	spec, err := openapi.Load()
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	if _, err := resttest.Uncalled(spec, folder); err == nil {
		t.Error("a folder in which nothing was written passes")
	}
	if _, err := resttest.Uncalled(spec, filepath.Join(folder, "none")); err == nil {
		t.Error("no folder passes")
	}
	var all []string
	for _, item := range spec.View.Paths.Map() {
		for _, o := range item.Operations() {
			all = append(all, o.OperationID)
		}
	}
	slices.Sort(all)
	write := func(name string, operations []string) {
		t.Helper()
		text := ""
		for _, o := range operations {
			text += o + "\n"
		}
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	half := len(all) / 2
	write("a.1", all[:half])
	write("b.2", append([]string{"noLongerThere"}, all[half+1:]...))
	if missing, err := resttest.Uncalled(spec, folder); err != nil || !slices.Equal(missing, all[half:half+1]) {
		t.Errorf("got %v, %v; want %s", missing, err, all[half])
	}
	write("c.3", all[half:half+1])
	if missing, err := resttest.Uncalled(spec, folder); err != nil || len(missing) != 0 {
		t.Errorf("got %v, %v", missing, err)
	}
}
