package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"time"
)

// menuNumber's calls ask /menu.
const menuNumber = "+862368925207"

// The calls whose journals are measured: each asks three times, waits for a key in two menus, hears what the system says
// while nobody presses one, and lasts about half a minute. So nearly as many come as go while the profile is taken.
const (
	menuRate    = 20
	menuFirst   = 35 * time.Second // until as many go as come
	menuProfile = 20 * time.Second
)

// ofJournals is the functions that there would not be without journals: the edge's notes, their way to the control plane
// and what it does with them.
const ofJournals = `controlplane/journal\.|edges\.\(\*Service\)\.keepJournal|session\.\(\*(journal|packer|hiding|trails?)\)\.|` +
	`session\.\(\*Session\)\.(note[A-Z]|closeJournal|keepJournal|settleKeys)|session\.\(\*outbox\)\.run\.func1|sip\.\(\*Server\)\.trace`

// journalShare measures which part of the server's processor time journals take, by its profile.
func journalShare(ctx context.Context, f *field, t *tenant, apps *answering, out sheet) error {
	const mark = 5
	if _, err := t.answers(ctx, menuNumber, map[string]any{"voice_url": apps.url + "/menu/2"}); err != nil {
		return err
	}
	type profiled struct {
		share float64
		err   error
	}
	done := make(chan profiled, 1)
	go func() { // ends with the profile
		select {
		case <-time.After(menuFirst):
		case <-ctx.Done():
		}
		share, err := f.server.share(ctx, menuProfile, ofJournals)
		done <- profiled{share, err}
	}()
	before := f.server.usage()
	n := int((menuFirst+menuProfile)/time.Second) * menuRate
	all, err := f.place(ctx, n, menuRate, func(int) (outgoing, error) { return t.dial(menuNumber) })
	got := <-done
	if err := errors.Join(err, got.err); err != nil {
		return err
	}
	if _, err := times(all); err != nil {
		return err
	}
	for _, c := range all {
		f.hear.collect(c)
	}
	each := (f.server.usage().cpu - before.cpu) / time.Duration(n)
	out.tell(fmt.Sprintf("processor time of the server, a call to two menus, %d a second", menuRate), inMilliseconds(each))
	out.set("of it what its journal takes", fmt.Sprintf("< %d %%", mark), fmt.Sprintf("%.1f %%", got.share), got.share < mark)
	return nil
}

// accounting is how pprof says what the samples are in that were asked for.
var accounting = regexp.MustCompile(`Showing nodes accounting for ([0-9.]+m?s),`)

// share profiles the server for a time and gives the part, in per cent, of its processor time that is spent in functions,
// and in what these call. The whole is what the kernel counts: the thread of the media has no part in Go's profile.
func (s *server) share(ctx context.Context, during time.Duration, functions string) (float64, error) {
	before := s.usage().cpu
	path, err := s.profile(ctx, during)
	if err != nil {
		return 0, err
	}
	spent := s.usage().cpu - before
	text, err := exec.CommandContext(ctx, "go", "tool", "pprof", "-top", "-nodefraction=0", "-edgefraction=0", "-focus", functions, path).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("go tool pprof: %w\n%s", err, text)
	}
	found := accounting.FindSubmatch(text)
	if found == nil {
		return 0, fmt.Errorf("the profile has nothing of these functions:\n%.500s", text)
	}
	within, err := time.ParseDuration(string(found[1]))
	return 100 * within.Seconds() / spent.Seconds(), err
}

// profile writes a processor profile of the server and gives its path.
func (s *server) profile(ctx context.Context, during time.Duration) (path string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", s.ops, int(during.Seconds())), nil)
	if err != nil {
		return "", err
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return "", fmt.Errorf("profile: %s", res.Status)
	}
	path = filepath.Join(s.dir, "profile")
	file, err := os.Create(path)
	if err != nil {
		return "", err
	}
	_, err = io.Copy(file, res.Body)
	return path, errors.Join(err, file.Close())
}
