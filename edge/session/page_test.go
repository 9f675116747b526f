package session

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/hookswitch/hookswitch/webhooks"
)

var updatePage = flag.Bool("update", false, "write what the edge does of live changes into deploy/docs/call-control.md anew")

// opBodies complete an op to one that can be read: the first that fits.
var opBodies = []string{
	``, `,"call_id":"call_1"`, `,"to":{"extension":"1001"}`, `,"digits":"1"`, `,"tone":"busy"`, `,"text":"x"`, `,"do":"start"`, `,"survey_id":"s"`,
	`,"priority":1`, `,"queue":"q"`, `,"agent":"a"`,
}

// Which ops the edge does is said on the page by a sentence that is made of what it takes.
func TestThePageSaysWhichOpsTheEdgeTakes(t *testing.T) {
	const page = "../../deploy/docs/call-control.md"
	const begin, end = "<!-- made: edge ops -->\n", "<!-- end of edge ops -->"
	var made, refused []string
	for _, name := range webhooks.Ops() {
		change, ok := readOp(name)
		switch {
		case !ok:
			t.Errorf("nobody knows what the op %s needs", name)
		case unknown(change) == "":
			made = append(made, "`"+name+"`")
		default:
			refused = append(refused, "`"+name+"`")
		}
	}
	text := fmt.Sprintf("Made are %s.\n", strings.Join(made, ", "))
	if len(refused) > 0 {
		text += fmt.Sprintf("Not made yet, and refused with 422: %s.\n", strings.Join(refused, ", "))
	}
	file, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok1 := strings.Cut(string(file), begin)
	old, after, ok2 := strings.Cut(rest, end)
	switch {
	case !ok1 || !ok2:
		t.Fatalf("%s has no marks of what the edge takes", page)
	case old == text:
	case *updatePage:
		if err := os.WriteFile(page, []byte(before+begin+text+end+after), 0o600); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("%s says\n%s\nand the edge does\n%s\nwrite it anew with go test ./edge/session -run Page -update", page, old, text)
	}
}

// readOp is an op with what it cannot be without.
func readOp(name string) (webhooks.Action, bool) {
	for _, body := range opBodies {
		if change, err := webhooks.ParseAction([]byte(`{"op":"` + name + `"` + body + `}`)); err == nil {
			return change, true
		}
	}
	return webhooks.Action{}, false
}
