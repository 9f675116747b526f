package event

import (
	"context"
	"encoding/json"
	"time"
)

// PlaceSince gives positions to events that were written since a time.
func (f *Feed) PlaceSince(ctx context.Context, since time.Time) (int, error) {
	return f.placeSince(ctx, since)
}

// Storable is what Emit makes of data.
func Storable(data []byte) (json.RawMessage, error) { return storable(data) }

// LookEvery sets how often the placing process looks for events that nobody woke it for.
func (f *Feed) LookEvery(d time.Duration) { f.look = d }
