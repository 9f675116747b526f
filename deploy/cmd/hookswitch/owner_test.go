package main

import (
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The first start prints a link; its page and its token lead to an owner who is signed in and may do everything. The next
// start prints none.
func TestTheFirstOwnerChoosesAPasswordByTheLinkOfTheFirstStart(t *testing.T) {
	data := t.TempDir()
	p := up(t, data, nil)
	link := regexp.MustCompile(`(http://\S+/link)#(lnk_\S+)`).FindStringSubmatch(p.output())
	if link == nil {
		t.Fatal("no link was printed")
	}
	page, err := p.api.Get(link[1])
	if err != nil {
		t.Fatal(err)
	}
	defer page.Body.Close()
	html, err := io.ReadAll(page.Body)
	if err != nil || page.StatusCode != http.StatusOK || !strings.Contains(string(html), "/v1/sessions/link") {
		t.Errorf("the page: %d %v", page.StatusCode, err)
	}
	if policy := page.Header.Get("Content-Security-Policy"); !strings.Contains(policy, "default-src 'none'; script-src 'sha256-") {
		t.Errorf("the page's policy: %q", policy)
	}
	send := func(path string, body map[string]string, into any) *http.Response {
		t.Helper()
		text, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := p.api.Post(p.known.URL+path, "application/json", strings.NewReader(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		if err := json.NewDecoder(answer.Body).Decode(into); err != nil {
			t.Fatal(err)
		}
		return answer
	}
	var who struct{ Account, Login string }
	choose := map[string]string{"token": link[2], "password": "correct horse battery"}
	if answer := send("/v1/sessions/link", choose, &who); answer.StatusCode != http.StatusOK || who.Account != defaultAccount || who.Login != ownerLogin {
		t.Fatalf("%s %+v", answer.Status, who)
	}
	var session struct{ Permissions []string }
	answer := send("/v1/sessions", map[string]string{"account": who.Account, "login": who.Login, "password": "correct horse battery"}, &session)
	if answer.StatusCode != http.StatusCreated || !slices.Contains(session.Permissions, "*") {
		t.Errorf("signed in: %s %+v", answer.Status, session)
	}
	var refused struct{ Code string }
	if answer := send("/v1/sessions/link", choose, &refused); answer.StatusCode < 400 {
		t.Errorf("the link works twice: %s", answer.Status)
	}
	p.stop()
	if again := up(t, data, nil); strings.Contains(again.output(), "/link#") {
		t.Error("the second start prints a link")
	}
}
