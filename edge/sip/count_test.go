package sip

import (
	"slices"
	"testing"
)

// Whatever strangers send, the counts tell apart what operators know.
func TestMessagesAreCountedByClosedSets(t *testing.T) {
	s := &Server{}
	k := &socket{}
	s.messages.count(k, false, "INVITE", 0)
	s.messages.count(k, false, "INVITE", 0)
	s.messages.count(k, true, "INVITE", 486)
	s.messages.count(k, false, "BREW", 0)
	s.messages.count(k, false, "brew-again", 0)
	s.messages.count(k, false, "INVITE", 1000) // no class: not counted
	want := []MessageCount{{"INVITE", "udp", false, 0, 2}, {"INVITE", "udp", true, 4, 1}, {"other", "udp", false, 0, 2}}
	if got := s.Messages(); !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
