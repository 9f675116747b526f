package session

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/hookswitch/hookswitch/webhooks"
)

func TestWordsAreReadAsTheyAreWritten(t *testing.T) {
	muted, size := true, 3
	for _, word := range []any{
		&legWord{Join: &joining{Label: "王芳", StartOnEnter: true, Mode: "whisper", WhisperTo: "call_1", MaxParticipants: 2, RecordingStatusMethod: "GET", RecordingStatusEvents: []string{}}},
		&legWord{Here: true},
		&legWord{Told: &told{Event: webhooks.Event{ID: "evt_1", Type: webhooks.EventConferenceLeft, Sequence: 4}, Call: webhooks.Call{From: "1001", Etag: "7"}}},
		&legWord{Ask: &asking{Number: 2, Change: webhooks.Action{Op: &webhooks.OpWhisper{CallID: "call_2"}}}},
		&roomWord{Refused: &refused{ConferenceID: "conf_1", Full: true, Message: "the conference is full"}},
		&roomWord{Event: &roomEvent{Type: webhooks.EventConferenceMuted, Data: webhooks.EventData{Mode: "talk", Muted: &muted, Participants: &size}, Report: true}},
		&roomWord{Begun: true},
		&roomWord{Size: 5},
		&roomWord{RecordingID: "rec_1"},
		&roomWord{Out: &leaving{Outcome: webhooks.Kicked, RecordingID: "rec_1"}},
		&roomWord{Done: &made{Number: 2, Message: "x", Absent: true}},
	} {
		body, err := json.Marshal(word)
		if err != nil {
			t.Fatal(err)
		}
		got := reflect.New(reflect.TypeOf(word).Elem()).Interface()
		if err := json.Unmarshal(body, got); err != nil || !reflect.DeepEqual(got, word) {
			t.Errorf("%s is read as %+v, %v", body, got, err)
		}
	}
}

func FuzzWord(f *testing.F) {
	f.Add([]byte(`{"join":{"label":"x","mode":"talk","max_participants":250}}`))
	f.Add([]byte(`{"ask":{"number":1,"change":{"op":"mute"}}}`))
	f.Add([]byte(`{"event":{"type":"conference.joined","data":{"conference_id":"conf_1"},"at":"2026-01-01T00:00:00Z"}}`))
	f.Add([]byte(`{"told":{"event":{},"call":{}}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, word := range []any{new(legWord), new(roomWord)} {
			if json.Unmarshal(body, word) != nil {
				continue
			}
			if _, err := json.Marshal(word); err != nil {
				t.Errorf("%q cannot be written again: %v", body, err)
			}
		}
	})
}
