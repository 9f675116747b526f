package controlplane_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hookswitch/hookswitch/controlplane"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/edge/control/controltest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func config(t *testing.T, folder string) controlplane.Config {
	t.Helper()
	var observe func(string, int, time.Duration)
	if called := resttest.Called(t); called != nil {
		observe = func(operation string, status int, took time.Duration) {
			called(context.Background(), operation, status, took)
		}
	}
	return controlplane.Config{
		ObserveAPI: observe,
		Database:   "sqlite:" + filepath.Join(folder, "hookswitch.db"), Bus: "memory:", Blobs: "file:" + filepath.Join(folder, "blobs"),
		HTTP: "127.0.0.1:0", Edges: "127.0.0.1:0", DefaultAccount: "demo",
		CheckAudio: func([]byte) error { return nil }, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
}

var seed = controlplane.Seed{
	Account: "demo", Domain: "demo.example", Country: "CN", Extensions: []string{"1001", "1002"},
	Number: "1000", Application: "welcome", Program: json.RawMessage(`[{"verb":"say","text":"hi"},{"verb":"hangup"}]`),
}

// plane is a control plane that runs until the test ends.
type plane struct {
	*controlplane.ControlPlane
	seeded controlplane.Seeded
	stop   func() error
}

func start(t *testing.T, cfg controlplane.Config) *plane {
	t.Helper()
	c, err := controlplane.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	p := &plane{ControlPlane: c}
	if p.seeded, err = c.Seed(t.Context(), seed); err != nil {
		t.Fatal(errors.Join(err, c.Close()))
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	p.stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() {
		if err := p.stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return p
}

// do makes one request on a connection of its own and follows no redirect.
func (p *plane) do(t *testing.T, method, path, key, body string) (status int, header http.Header, text string) {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(t.Context(), method, p.URL()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if key != "" {
		r.Header.Set("Authorization", "Bearer "+key)
	}
	r.Header.Set("Content-Type", "application/json")
	response, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, response.Header, string(answer)
}

func TestWhatIsServed(t *testing.T) {
	p := start(t, config(t, t.TempDir()))
	for _, c := range []struct {
		path, key string
		status    int
		says      string
	}{
		{"/healthz", "", 200, "ok"},
		{"/readyz", "", 200, "ok"},
		{"/openapi.yaml", "", 200, "operationId: createCall"},
		{"/docs", "", 200, "<html"},
		{"/", "", 302, ""},
		{"/v1/applications", "", 401, "problem"},
		{"/v1/applications", p.seeded.APIKey, 200, `"name":"welcome"`},
		{"/v1/numbers", p.seeded.APIKey, 200, `"number":"1000"`},
		{"/v1/credentials", p.seeded.APIKey, 200, `"extension":"1002"`},
		{"/v1/registrations", p.seeded.APIKey, 200, `"data":[]`},
		{"/v1/trunks", p.seeded.APIKey, 200, `"data":[]`},
		{"/v1/media", p.seeded.APIKey, 200, `"data":[]`},
		{"/v1/calls", p.seeded.APIKey, 200, `"data":[]`},
		{"/v1/recordings", p.seeded.APIKey, 200, `"data":[]`},
		{"/v1/nothing", p.seeded.APIKey, 404, "problem"},
		{"/elsewhere", "", 404, "problem"},
		{"/blobs/media/x", "", 403, "signed"},
	} {
		status, _, text := p.do(t, http.MethodGet, c.path, c.key, "")
		if status != c.status || !strings.Contains(text, c.says) {
			t.Errorf("%s: %d %.200s; want %d with %s", c.path, status, text, c.status, c.says)
		}
	}
	if err := p.stop(); err != nil {
		t.Errorf("Run: %v", err)
	}
	if err := p.Close(); err != nil {
		t.Errorf("Close after Run: %v", err)
	}
}

func TestSecretsAreShownOnTheFirstStartAlone(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) { startTwice(t, config(t, t.TempDir())) })
	t.Run("postgres", func(t *testing.T) {
		cfg := config(t, t.TempDir())
		cfg.Database = dbtest.PostgresURL(t)
		startTwice(t, cfg)
	})
}

func startTwice(t *testing.T, cfg controlplane.Config) {
	first := start(t, cfg)
	s := first.seeded
	if !s.First || s.Domain != "demo.example" || !strings.HasPrefix(s.APIKey, "sk_") || len(s.Extensions) != 2 || s.Extensions["1001"] == s.Extensions["1002"] {
		t.Fatalf("the first start made %+v", s)
	}
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	second := start(t, cfg)
	if again := second.seeded; again.First || again.APIKey != "" || len(again.Extensions) != 0 || again.Domain != s.Domain || again.AccountID != s.AccountID {
		t.Errorf("the second start says %+v", again)
	}
	if status, _, text := second.do(t, http.MethodGet, "/v1/numbers", s.APIKey, ""); status != http.StatusOK || strings.Count(text, `"number"`) != 1 {
		t.Errorf("the first key, the second time: %d %s", status, text)
	}
}

func TestAFirstStartThatWasInterruptedIsFinished(t *testing.T) {
	folder := t.TempDir()
	c, err := controlplane.New(t.Context(), config(t, folder))
	if err != nil {
		t.Fatal(err)
	}
	broken := seed
	broken.APIKey = "not a key" // comes last, and fails
	if _, err := c.Seed(t.Context(), broken); err == nil {
		t.Fatal("a key that is none was taken")
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	p := start(t, config(t, folder))
	if !p.seeded.First || len(p.seeded.Extensions) != 2 {
		t.Errorf("the next start says %+v", p.seeded)
	}
	if _, _, text := p.do(t, http.MethodGet, "/v1/applications", p.seeded.APIKey, ""); strings.Count(text, `"welcome"`) != 1 {
		t.Errorf("applications: %s", text)
	}
}

func TestAnEdgeDialsInWithItsToken(t *testing.T) {
	folder := t.TempDir()
	p := start(t, config(t, folder))
	// As the operator would, while the control plane serves.
	token, err := controlplane.NewKey(t.Context(), config(t, folder).Database, "demo", "test", true)
	if err != nil {
		t.Fatal(err)
	}
	client := dial(t, p, token)
	credential, err := client.Credential(t.Context(), control.CredentialQuery{Domain: "demo.example", Username: "1001", Source: netip.MustParseAddr("127.0.0.1")})
	if err != nil || !credential.Found || credential.Realm != "demo.example" || credential.AccountID != p.seeded.AccountID {
		t.Errorf("Credential: %+v, %v", credential, err)
	}
	stranger := dial(t, p, p.seeded.APIKey)
	if err := stranger.Beat(t.Context(), control.Beat{EdgeID: "edge_x", BootID: "b"}); control.CodeOf(err) != control.CodeUnauthorized {
		t.Errorf("an API key at the edges' door: %v", err)
	}
}

func dial(t *testing.T, p *plane, token string) *control.Client {
	t.Helper()
	client, err := control.NewClient(control.ClientConfig{URL: "http://" + p.EdgesAddr().String(), Token: token, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func TestACallOfTheAPIReachesAnEdgeThatDialledIn(t *testing.T) {
	p := start(t, config(t, t.TempDir()))
	token, err := p.CreateEdgeToken(t.Context(), "test")
	if err != nil {
		t.Fatal(err)
	}
	client := dial(t, p, token)
	taken := make(chan control.Originate, 1)
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() {
		_ = client.Serve(ctx, "edge_far", &controltest.Edge{OnOriginate: func(_ context.Context, o control.Originate) error {
			taken <- o
			return nil
		}})
	})
	t.Cleanup(func() {
		cancel()
		serving.Wait()
	})
	// The connection and the beat each take their time; until both are there, no edge takes calls.
	beat := control.Beat{EdgeID: "edge_far", BootID: "boot", At: time.Now()}
	body := `{"to":{"extension":"1001"},"program":[{"verb":"hangup"}],"from":"1000"}`
	var status int
	var text string
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		if err := client.Beat(t.Context(), beat); err != nil {
			t.Fatal(err)
		}
		if status, _, text = p.do(t, http.MethodPost, "/v1/calls", p.seeded.APIKey, body); status != http.StatusServiceUnavailable {
			break
		}
	}
	if status != http.StatusCreated {
		t.Fatalf("POST /v1/calls: %d %s", status, text)
	}
	o := <-taken
	if !strings.Contains(text, string(o.CallID)) || o.AccountID != p.seeded.AccountID || o.Target.Extension != "1001" || o.Application.Program == nil {
		t.Errorf("the edge was asked for %+v; the API answered %s", o, text)
	}
}

func TestNewGivesBackWhatItOpenedWhenItFails(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := taken.Close(); err != nil {
			t.Error(err)
		}
	})
	cfg := config(t, t.TempDir())
	cfg.Edges = taken.Addr().String()
	if c, err := controlplane.New(t.Context(), cfg); err == nil {
		t.Errorf("New on an address that is taken: %v", c.Close())
	}
	cfg = config(t, t.TempDir())
	cfg.Blobs = "pigeon:loft"
	if c, err := controlplane.New(t.Context(), cfg); err == nil {
		t.Errorf("New on a store that is none: %v", c.Close())
	}
}
