package conformance

import (
	"bufio"
	"context"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/hookswitch/hookswitch/webhooks"
	"github.com/hookswitch/hookswitch/webhooks/guard"
	"github.com/hookswitch/hookswitch/webhooks/twiml"
)

const page = "../../deploy/docs/call-control.md"

// example is the only block of a kind on the page.
func example(t *testing.T, kind string) string {
	t.Helper()
	file, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(file), "\n```"+kind+"\n")
	text, after, closed := strings.Cut(rest, "\n```\n")
	if !ok || !closed || strings.Contains(after, "\n```"+kind+"\n") {
		t.Fatalf("%s has not exactly one block of the kind %q", page, kind)
	}
	return text
}

// pageApplication starts the page's application with node, and gives its address.
func pageApplication(t *testing.T) string {
	t.Helper()
	node := exec.CommandContext(context.Background(), "node", "--input-type=module", "--eval", example(t, "js"))
	node.Env = append(os.Environ(), "SECRET="+secret, "PORT=0")
	node.Stderr = os.Stderr
	out, err1 := node.StdoutPipe()
	if err := errors.Join(err1, node.Start()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = node.Process.Kill()
		_ = node.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

func TestTheApplicationOfThePageAnswersCalls(t *testing.T) {
	base := pageApplication(t)
	asks := guard.New(guard.Config{AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	defer asks.Close()
	client := webhooks.NewClient(webhooks.ClientConfig{Guard: asks})
	ask := func(path string, request webhooks.CallRequest, secrets ...string) (webhooks.Reply, error) {
		request.AccountID, request.CallID = "acc_1", "call_1"
		return client.Ask(t.Context(), webhooks.Ask{URL: base + path, Secrets: secrets, Request: request})
	}
	first, err := ask("/", webhooks.CallRequest{Reason: webhooks.ReasonIncoming, State: []byte(`{"visits":2}`)}, secret)
	if err != nil {
		t.Fatal(err)
	}
	if menu, ok := first.Program.Instructions[0].(*webhooks.Gather); !ok || menu.Action.URL != "/menu" || string(first.Program.State) != `{"visits":3}` {
		t.Errorf("it answers %s", first.Body)
	}
	for digits, verb := range map[string]string{"1": "dial", "2": "enqueue"} {
		trigger := &webhooks.Trigger{Verb: "gather", ID: "menu", Outcome: webhooks.Digits, Digits: digits}
		next, err := ask("/menu", webhooks.CallRequest{Reason: webhooks.ReasonAction, Trigger: trigger}, webhooks.NewSecret(), secret)
		if err != nil {
			t.Fatal(err)
		}
		if got := next.Program.Instructions[0].Verb(); got != verb {
			t.Errorf("%s leads to %s, want %s", digits, got, verb)
		}
	}
	for _, secrets := range [][]string{nil, {webhooks.NewSecret()}} {
		_, err := ask("/", webhooks.CallRequest{Reason: webhooks.ReasonIncoming}, secrets...)
		if failed, ok := errors.AsType[*webhooks.RequestError](err); !ok || failed.Status != 401 {
			t.Errorf("what is not signed by its secret is answered with %v", err)
		}
	}
}

func TestTheTwiMLOfThePageIsRead(t *testing.T) {
	program, warnings, err := twiml.Parse([]byte(example(t, "xml")), twiml.Context{URL: "https://app.example.com/voice"})
	if err != nil || len(warnings) > 0 || len(program.Instructions) == 0 {
		t.Errorf("%v, warnings %v", err, warnings)
	}
}
