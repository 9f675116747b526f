// Package dictionary owns named lists of values (字典), from which drop-downs and single-choice fields choose: their keys,
// labels in two languages, order and cascades. Which field chooses from which dictionary is left to the resource that
// has the field; it asks Use before it stores a key.
package dictionary

import (
	"regexp"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/problem"
)

// Dictionary is a list of values.
type Dictionary struct {
	bun.BaseModel `bun:"table:dictionaries" json:"-"`
	db.Row
	Draft

	// ArchivedAt is when it was deleted while its values were in use. Nothing new may choose from it.
	ArchivedAt *time.Time `bun:"archived_at" json:"archived_at,omitempty"`
}

// Draft is what a caller decides of a dictionary.
type Draft struct {
	// Key names it in programs and imports; unique in the account.
	Key   string `bun:"key" json:"key"`
	Label Label  `bun:"embed:label_" json:"label"`
}

// Label is a text for people in two languages. At least one is there; the other stands in for one that is missing.
type Label struct {
	Chinese string `bun:"zh" json:"zh,omitempty"`
	English string `bun:"en" json:"en,omitempty"`
}

// In is the label in a language ("zh-CN", "en").
func (l Label) In(language string) string {
	first, second := l.English, l.Chinese
	if len(language) >= 2 && language[:2] == "zh" {
		first, second = second, first
	}
	if first == "" {
		return second
	}
	return first
}

// Value is one value of a dictionary.
type Value struct {
	bun.BaseModel `bun:"table:dictionary_values" json:"-"`
	db.Row

	DictionaryID string `bun:"dictionary_id" json:"dictionary_id"`
	ValueDraft
	// Used says that something has held the value. From then on deleting it archives it.
	Used       bool       `bun:"used" json:"used"`
	ArchivedAt *time.Time `bun:"archived_at" json:"archived_at,omitempty"`
}

// ValueDraft is what a caller decides of a value.
type ValueDraft struct {
	// Key is what is stored where the value is chosen; unique in the dictionary. It never changes once it is used.
	Key   string `bun:"key" json:"key"`
	Label Label  `bun:"embed:label_" json:"label"`
	// Position orders the values, the lowest first.
	Position int64  `bun:"position" json:"position"`
	Colour   string `bun:"colour,nullzero" json:"colour,omitempty"` // #RRGGBB
	// Enabled values can be chosen anew; others only stay where they are.
	Enabled bool `bun:"enabled" json:"enabled"`
	// ParentID is a value, of this dictionary or another, that has to be chosen first.
	ParentID string `bun:"parent_id,nullzero" json:"parent_id,omitempty"`
}

const (
	maxLabel = 200 // characters
	maxDepth = 10  // values above each other
)

var (
	dictionaryKey = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)
	// A value's key may be what another system calls it.
	valueKey = regexp.MustCompile(`^[\p{L}\p{N}][\p{L}\p{N}_.:/-]{0,99}$`)
	colour   = regexp.MustCompile(`^#[0-9a-fA-F]{6}$`)
)

// Check refuses what is no dictionary.
func (d Draft) Check() error {
	if !dictionaryKey.MatchString(d.Key) {
		return problem.InvalidField("/key", "pattern", "must be 1–64 small letters, digits and _, beginning with a letter, is %q", d.Key)
	}
	return d.Label.check()
}

func (l Label) check() error {
	if l.Chinese == "" && l.English == "" {
		return problem.InvalidField("/label", "required", "must have zh or en")
	}
	if len([]rune(l.Chinese)) > maxLabel || len([]rune(l.English)) > maxLabel {
		return problem.InvalidField("/label", "maxLength", "may have at most %d characters in each language", maxLabel)
	}
	return nil
}

// Check refuses what is no value. Its parent is looked up where it is stored.
func (d ValueDraft) Check() error {
	switch {
	case !valueKey.MatchString(d.Key):
		return problem.InvalidField("/key", "pattern", "must be 1–100 letters, digits and _ . : / -, beginning with a letter or digit, is %q", d.Key)
	case d.Colour != "" && !colour.MatchString(d.Colour):
		return problem.InvalidField("/colour", "pattern", "must be a colour such as #1f6feb, is %q", d.Colour)
	}
	return d.Label.check()
}
