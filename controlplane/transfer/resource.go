package transfer

import (
	"context"
	"encoding/json"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
)

// Resource is something that can be imported. Of makes one of a rest.Resource.
type Resource struct {
	Name       string // plural, as in the path: "numbers"
	Permission string // to write it: "numbers.write"
	Label      Label
	Columns    []Column

	// Import writes one row, given as column → text without space around; a column whose cell is empty is not there. A
	// Problem (other than Unavailable, TooMany and Internal) is the row's error, and what it has written is undone. Any
	// other error ends the batch.
	Import func(ctx context.Context, tx *db.Tx, who auth.Caller, row map[string]string, on OnDuplicate) (Outcome, error)
	// Prepare, where set, does what a batch needs before its transaction, while the batch before it is written. It is called
	// by another goroutine than the rest.
	Prepare func(rows []map[string]string) (prepared any)
	// Bulk, where set, is given each batch first, with what Prepare made of it, and writes what it can write together: the outcomes are in the order of
	// the rows, and those without a Verdict are given to Import afterwards, in order; so must be a row whose object an
	// earlier one of the batch writes. After an error all is undone, and all rows are given to Import.
	Bulk func(ctx context.Context, tx *db.Tx, who auth.Caller, rows []map[string]string, prepared any, on OnDuplicate) ([]Outcome, error)
	// Remove deletes an object that an import has created, unless its etag is another by now (a Precondition problem).
	Remove func(ctx context.Context, tx *db.Tx, who auth.Caller, id, etag string) error
	// Restore makes an object what it was before an import has updated it, unless its etag is another by now, and gives
	// its new etag.
	Restore func(ctx context.Context, tx *db.Tx, who auth.Caller, id, etag string, before json.RawMessage) (newEtag string, err error)
	// Around, where set, runs each transaction as a whole.
	Around func(ctx context.Context, transaction func(ctx context.Context) error) error
}

// Column is one column of a resource.
type Column struct {
	Name     string // "external_id"
	Label    Label
	Required bool
	// Secret columns are in no report and no sample.
	Secret bool
	// Aliases are other names by which files call it.
	Aliases []string
	Example string // for the template
}

// Label is a name for people in two languages.
type Label struct {
	Chinese string `json:"zh"`
	English string `json:"en"`
}

func (r *Resource) column(name string) *Column {
	for i := range r.Columns {
		if r.Columns[i].Name == name {
			return &r.Columns[i]
		}
	}
	return nil
}

// missing are the required columns that a mapping has not. The result is never nil.
func (r *Resource) missing(mapping map[string]string) []string {
	all := []string{}
	for _, c := range r.Columns {
		if c.Required && mapping[c.Name] == "" {
			all = append(all, c.Name)
		}
	}
	return all
}
