package detect

import (
	"flag"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
)

const page = "../../../deploy/docs/detection.md"

// measuredWith is what the numbers of the page were measured with. Another release of espeak-ng speaks a little
// differently, and other processors round differently: there the floors hold and the numbers may not.
const measuredWith = "eSpeak NG text-to-speech: 1.51"

var (
	update    = flag.Bool("update", false, "write what was measured into deploy/docs/detection.md")
	pageMutex sync.Mutex
)

// onPage checks that the page has this text between its marks of this name.
func onPage(t *testing.T, name, text string) {
	t.Helper()
	version, err := exec.Command("espeak-ng", "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	if runtime.GOARCH != "amd64" || !strings.HasPrefix(string(version), measuredWith) {
		t.Logf("not compared with the page: %s, %s", runtime.GOARCH, version)
		return
	}
	pageMutex.Lock()
	defer pageMutex.Unlock()
	file, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := "<!-- measured: "+name+" -->\n", "<!-- end of "+name+" -->"
	before, rest, ok1 := strings.Cut(string(file), begin)
	old, after, ok2 := strings.Cut(rest, end)
	switch {
	case !ok1 || !ok2:
		t.Fatalf("%s has no marks of %q", page, name)
	case old == text:
	case *update:
		if err := os.WriteFile(page, []byte(before+begin+text+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("%s says of %s\n%s\nand measured is\n%s\nrun with -update when that is an improvement", page, name, old, text)
	}
}
