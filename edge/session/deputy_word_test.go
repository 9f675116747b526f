package session

import (
	"encoding/json"
	"testing"

	"github.com/hookswitch/hookswitch/webhooks"
)

func TestHowALegEndsIsReadAsItIsSaid(t *testing.T) {
	for _, want := range []ended{
		{}, partnerLeft, handedOn, {cause: webhooks.CauseBusy, code: 486}, {cause: webhooks.CauseEdgeLost, by: webhooks.EndedBySystem, text: "lost"},
	} {
		body, err := json.Marshal(talkWord{HangUp: endingOf(want)})
		var got talkWord
		if err == nil {
			err = json.Unmarshal(body, &got)
		}
		if err != nil || got.HangUp.ended() != want {
			t.Errorf("%s is read as %+v, %v", body, got.HangUp, err)
		}
	}
	if got := (ending{Cause: "of a newer edge"}).ended(); got.cause != webhooks.CauseError {
		t.Errorf("a cause that nobody knows is read as %s", got.cause)
	}
}

// FuzzTalkWord: whatever another edge says is read or refused, and what is read can be said again.
func FuzzTalkWord(f *testing.F) {
	for _, w := range []talkWord{
		{Hello: &person{CallID: "call_1", Name: "1001"}}, {Bridged: &person{CallID: "call_2"}}, {Left: &leaveTaking{Why: *endingOf(partnerLeft), End: endingOf(handedOn)}},
		{Change: &webhooks.Action{Program: &webhooks.Program{}, Peer: webhooks.Peer{HangUp: true}}}, {Touch: true},
		{Ask: &asking{Number: 1, Change: webhooks.Action{Op: &webhooks.OpPark{Slot: "7"}}}}, {Done: &answered{Number: 1, Message: "no", OK: true}},
	} {
		body, err := json.Marshal(w)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var w talkWord
		if json.Unmarshal(body, &w) != nil {
			return
		}
		if w.HangUp != nil && w.HangUp.ended().cause != "" && !w.HangUp.ended().cause.Known() {
			t.Errorf("it ends with %s", w.HangUp.Cause)
		}
		if _, err := json.Marshal(w); err != nil {
			t.Error(err)
		}
	})
}
