// Package media owns the audio files that accounts upload to be played. What is no audio that an edge can play is
// refused at upload; playing it is left to the edge, which fetches it by a signed URL.
package media

import (
	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/db"
)

// File is an uploaded audio file. Bytes that were stored never change, so that SHA256 is the version an edge may keep:
// a file that is replaced gets another place for its new bytes.
type File struct {
	bun.BaseModel `bun:"table:media" json:"-"`
	db.Row

	Name        string `bun:"name" json:"name"`
	ContentType string `bun:"content_type" json:"content_type"`
	Size        int64  `bun:"size" json:"size"` // bytes
	SHA256      string `bun:"sha256" json:"sha256"`
	Blob        string `bun:"blob,nullzero" json:"-"` // where the bytes lie; "" for under the id
}

// MaxBytes is the largest file: five minutes of CD audio and more.
const MaxBytes = 32 << 20

const maxName = 100 // characters

// key is where the bytes lie.
func (f *File) key() string {
	if f.Blob != "" {
		return f.Blob
	}
	return keyOf(f.AccountID, f.ID)
}

func keyOf(account, id string) string { return "media/" + account + "/" + id }
