// Package conformance holds what is compared with the software of others: an application that uses Twilio's own helper
// library, in receiver.js.
package conformance

import (
	"bufio"
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/hookswitch/hookswitch/webhooks"
	"github.com/hookswitch/hookswitch/webhooks/guard"
)

const secret = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="

// receiver starts the application with the helper library, which npm ci installs the first time, and gives its address.
func receiver(t *testing.T) string {
	t.Helper()
	if _, err := os.Stat("node_modules/twilio/package.json"); err != nil {
		if out, err := exec.CommandContext(t.Context(), "npm", "ci", "--silent", "--no-audit", "--no-fund").CombinedOutput(); err != nil {
			t.Fatalf("npm ci: %v\n%s", err, out)
		}
	}
	// It ends with its standard input.
	node := exec.CommandContext(context.Background(), "node", "receiver.js", secret)
	node.Stderr = os.Stderr
	in, err1 := node.StdinPipe()
	out, err2 := node.StdoutPipe()
	if err := errors.Join(err1, err2, node.Start()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(in.Close(), node.Wait()); err != nil {
			t.Error(err)
		}
	})
	port, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the receiver does not listen: %v", err)
	}
	return "127.0.0.1:" + strings.TrimSpace(port)
}

// asked is one request of a call.
type asked struct {
	method, target string
	params         url.Values
}

// written are characters that are escaped in one place and not in another, and what has gone wrong in others' signatures.
var written = []string{
	"a", "Z", "9", "-", "_", ".", "~", "!", "*", "'", "(", ")", "+", "%20", "%2B", "%2b", "%E4%BD%A0", "%25", "%00", ":", "@", ",", ";", "$",
}

var typed = []string{
	"", " ", "+", "+862368925278", "&", "=", "%", "你好", "🙂", "a b", "\"", "<Say>", "'", "\\", "\n", "#", "?", "é", "e\u0301", "0", "null", "~", "*",
}

func some(r *rand.Rand, from []string, most int) string {
	var b strings.Builder
	for range r.IntN(most + 1) {
		b.WriteString(from[r.IntN(len(from))])
	}
	return b.String()
}

func randomly(r *rand.Rand, host string) asked {
	a := asked{method: http.MethodPost, params: url.Values{}}
	if r.IntN(3) == 0 {
		a.method = http.MethodGet
	}
	a.target = "http://" + host
	for range r.IntN(4) {
		a.target += "/" + some(r, written, 4)
	}
	if r.IntN(2) == 0 {
		var query []string
		for range r.IntN(4) {
			query = append(query, some(r, written, 3)+"="+some(r, written, 4))
		}
		if r.IntN(4) == 0 {
			query = append(query, "flag")
		}
		a.target += "?" + strings.Join(query, "&")
	}
	for range r.IntN(6) {
		name := [...]string{"CallSid", "From", "SpeechResult", "Digits", "SipHeader_X-a", "名", "a b"}[r.IntN(7)]
		a.params.Add(name, some(r, typed, 4))
	}
	return a
}

// TestTwiliosHelperAcceptsOurSignatures asks the application by our client, as a call asks.
func TestTwiliosHelperAcceptsOurSignatures(t *testing.T) {
	host := receiver(t)
	g := guard.New(guard.Config{AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	defer g.Close()
	client := webhooks.NewClient(webhooks.ClientConfig{Guard: g})
	ask := func(a asked, with string) error {
		_, err := client.Ask(t.Context(), webhooks.Ask{
			URL: a.target, Method: a.method, Secrets: []string{with},
			Request: webhooks.CallRequest{AccountID: "acc_1", CallID: webhooks.NewCallID(), Reason: webhooks.ReasonIncoming},
			Form:    func(webhooks.CallRequest) url.Values { return a.params },
		})
		return err
	}
	r := rand.New(rand.NewPCG(20, 26))
	for i := range 1000 {
		if a := randomly(r, host); ask(a, secret) != nil {
			t.Errorf("%d: %s %s %v is not accepted", i, a.method, a.target, a.params)
		}
	}
	for i := range 5 { // fewer than open the circuit breaker
		a := randomly(r, host)
		if err := ask(a, webhooks.NewSecret()); err == nil {
			t.Errorf("%d: a signature with another secret is accepted", i)
		} else if failed, ok := errors.AsType[*webhooks.RequestError](err); !ok || failed.Status != http.StatusForbidden {
			t.Errorf("%d: %v", i, err)
		}
	}
}
