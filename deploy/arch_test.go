package deploy

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/hookswitch/hookswitch"

// may says which rooms of ours each room may import. A trailing /* stands for everything below. Tests may import
// more: only what is shipped is held to the table.
var may = map[string][]string{
	"webhooks":             {"webhooks/guard"},
	"webhooks/guard":       {},
	"webhooks/conformance": {},
	"webhooks/twiml":       {"webhooks"},
	"webhooks/webhooktest": {"webhooks", "webhooks/guard"},

	"edge":                     {"edge/*", "webhooks", "webhooks/guard"},
	"edge/control":             {"webhooks"},
	"edge/control/controltest": {"edge/control", "webhooks"},
	"edge/sip":                 {},
	"edge/sdp":                 {"edge/media/codec"},
	"edge/media":               {"edge/sdp", "edge/media/*"},
	"edge/media/codec":         {},
	"edge/media/dtmf":          {},
	"edge/media/tone":          {},
	"edge/media/wav":           {"edge/media/codec"},
	"edge/media/detect":        {},
	"edge/speech":              {"edge/media/*", "webhooks/guard"},
	"edge/prompt":              {"edge/control", "edge/media", "edge/media/*", "edge/speech", "webhooks", "webhooks/guard"},
	"edge/session":             {"edge/*", "webhooks", "webhooks/guard", "webhooks/twiml"},
	"edge/calltest":            {"edge", "edge/*", "webhooks", "webhooks/*"},

	"controlplane/problem":               {},
	"controlplane/auth":                  {"controlplane/problem"},
	"controlplane/db":                    {"controlplane/problem", "controlplane/auth"},
	"controlplane/db/dbtest":             {"controlplane/db"},
	"controlplane/list":                  {"controlplane/problem", "controlplane/auth", "controlplane/db"},
	"controlplane/blob":                  {"controlplane/problem", "controlplane/auth", "controlplane/db", "controlplane/list"},
	"controlplane/blob/blobtest":         {"controlplane/blob"},
	"controlplane/bus":                   {"controlplane/problem", "controlplane/auth", "controlplane/db", "controlplane/list", "controlplane/blob"},
	"controlplane/bus/bustest":           {"controlplane/bus"},
	"controlplane/event":                 {"controlplane/problem", "controlplane/auth", "controlplane/db", "controlplane/list", "controlplane/blob", "controlplane/bus", "controlplane/rest", "webhooks"},
	"controlplane/job":                   {"controlplane/problem", "controlplane/auth", "controlplane/db", "controlplane/list", "controlplane/blob", "controlplane/bus", "controlplane/rest", "controlplane/event", "webhooks"},
	"controlplane/sheet":                 {"controlplane/problem"},
	"controlplane/live":                  {"controlplane/*", "webhooks"},
	"controlplane/delivery":              {"controlplane/*", "webhooks", "webhooks/guard"},
	"controlplane/rest":                  {"controlplane/problem", "controlplane/auth", "controlplane/db", "controlplane/list", "controlplane/bus", "openapi"},
	"controlplane/rest/resttest":         {"controlplane/*", "openapi"},
	"controlplane/message/smpp":          {},
	"controlplane/message/smpp/smpptest": {},
	"controlplane/edges":                 {"controlplane/*", "edge/control", "webhooks"},
	"controlplane":                       {"controlplane/*", "edge/control", "openapi", "webhooks", "webhooks/guard"},
	"openapi":                            {},
	"console":                            {},
	"deploy":                             {},
	"deploy/config":                      {},
	"deploy/ops":                         {"controlplane/*", "edge/*"},
	"deploy/cmd/hookswitch":              {"*"},
	"deploy/bench":                       {"*"},
	"deploy/e2e":                         {"*"},
	"deploy/phone":                       {"edge/*"},
}

// shared is what every resource of the control plane may import; between two resources, the rank in nouns decides.
var shared = []string{
	"controlplane/problem", "controlplane/auth", "controlplane/db", "controlplane/list", "controlplane/blob",
	"controlplane/bus", "controlplane/rest", "controlplane/event", "controlplane/job", "controlplane/sheet", "webhooks", "webhooks/guard",
	"webhooks/twiml", // status callbacks of applications of that format
}

// nouns are the resources, each of which may import those before it.
var nouns = []string{
	"account", "department", "role", "user", "app", "credential", "agent", "trunk", "number", "media", "customer", "call", "conference", "queue", "recording", "journal", "voicemail", "survey",
	"calendar", "dictionary", "setting", "blocklist", "notice", "message", "audit", "endpoint", "transfer",
}

type listed struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

func packages(t *testing.T, pattern string) []listed {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports,Deps", pattern)
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var all []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func TestArchitecture(t *testing.T) {
	for _, p := range packages(t, "./...") {
		room := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		allowed, known := may[room], true
		if _, ok := may[room]; !ok {
			allowed, known = nounMay(room)
		}
		if !known {
			t.Errorf("%s is a room that the table does not know", room)
			continue
		}
		for _, path := range p.Imports {
			other, ours := strings.CutPrefix(path, module+"/")
			if ours && !allows(allowed, other) {
				t.Errorf("%s imports %s; it may import %s", room, other, strings.Join(allowed, ", "))
			}
		}
	}
}

func nounMay(room string) ([]string, bool) {
	name, ok := strings.CutPrefix(room, "controlplane/")
	rank := slices.Index(nouns, name)
	if !ok || rank < 0 {
		return nil, false
	}
	allowed := append(slices.Clone(shared), room+"/*") // what it has split off for itself
	for _, lower := range nouns[:rank] {
		allowed = append(allowed, "controlplane/"+lower)
	}
	return allowed, true
}

func allows(allowed []string, room string) bool {
	for _, a := range allowed {
		below, wild := strings.CutSuffix(a, "*")
		if a == room || (wild && strings.HasPrefix(room, below)) {
			return true
		}
	}
	return false
}

// An edge holds no database, Redis or S3 credential, and so no driver for one.
func TestEdgeCarriesNoDriver(t *testing.T) {
	for _, p := range packages(t, "./edge/...") {
		for _, dep := range p.Deps {
			for _, driver := range []string{"database/sql", "github.com/redis/", "github.com/minio/", "github.com/uptrace/bun", "modernc.org/sqlite", "github.com/jackc/pgx"} {
				// database/sql/driver is a few interfaces, which id and time types implement.
				if strings.HasPrefix(dep, driver) && dep != "database/sql/driver" {
					t.Errorf("%s depends on %s", strings.TrimPrefix(p.ImportPath, module+"/"), dep)
				}
			}
		}
	}
}
