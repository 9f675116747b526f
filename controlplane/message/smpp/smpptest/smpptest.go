// Package smpptest runs a message centre that is not ours, Debian's libnet-smpp-perl, as a process of its own. What is
// tested with it is left to the test.
package smpptest

import (
	"bufio"
	"context"
	_ "embed"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

//go:embed smsc.pl
var script []byte

// Whom the message centre lets in.
const (
	SystemID = "hookswitch"
	Password = "secret"
)

// Center is a running message centre.
type Center struct {
	Port string

	told    io.Writer
	lines   chan []string
	command *exec.Cmd
	gone    chan struct{}
}

// Start runs a message centre on a free port of 127.0.0.1 until the test ends.
func Start(t *testing.T) *Center {
	t.Helper()
	return StartAt(t, "0")
}

// StartAt is Start on a port of its own, as for one that was killed and comes back.
func StartAt(t *testing.T, port string) *Center {
	t.Helper()
	perl, err := exec.LookPath("perl")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "smsc.pl")
	if err := os.WriteFile(path, script, 0o600); err != nil {
		t.Fatal(err)
	}
	c := &Center{lines: make(chan []string, 10000), gone: make(chan struct{})}
	c.command = exec.CommandContext(context.Background(), perl, path, port, SystemID, Password)
	c.command.Stderr = t.Output()
	out, err := c.command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if c.told, err = c.command.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := c.command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(c.gone)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			c.lines <- strings.Split(lines.Text(), "\t")
		}
		_ = c.command.Wait() // it is killed
	}()
	t.Cleanup(c.Kill)
	first := c.Line(t, "listening")
	c.Port = first[1]
	return c
}

// Kill ends the process at once, as a crash would. It can be called twice.
func (c *Center) Kill() {
	_ = c.command.Process.Kill() // it may be gone
	<-c.gone
}

// Tell has something happen, as smsc.pl says. The line "told" follows when it has.
func (c *Center) Tell(t *testing.T, format string, args ...any) {
	t.Helper()
	text := fmt.Sprintf(format, args...)
	if _, err := io.WriteString(c.told, text+"\n"); err != nil {
		t.Fatal(err)
	}
}

// lineWithin is longer than anything takes.
const lineWithin = 30 * time.Second

// Line waits for the next line that begins with a word, and drops those before it.
func (c *Center) Line(t *testing.T, word string) []string {
	t.Helper()
	within := time.NewTimer(lineWithin)
	defer within.Stop()
	for {
		select {
		case line := <-c.lines:
			if line[0] == word {
				return line
			}
		case <-within.C:
			t.Fatalf("the message centre did not say %q", word)
		}
	}
}

// Lines gives what was said so far and not yet read.
func (c *Center) Lines() [][]string {
	var all [][]string
	for {
		select {
		case line := <-c.lines:
			all = append(all, line)
		default:
			return all
		}
	}
}
