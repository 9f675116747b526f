// Package transfer owns bringing tables in and out: imports, with a dry run over every row, a commit that survives the
// process and a revert, and exports. How files are written is left to package sheet, who runs the work to package job, and
// what a row means to the resources, which wiring registers.
package transfer

import (
	"encoding/json"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/sheet"
)

// Import is one uploaded table and what became of it.
type Import struct {
	bun.BaseModel `bun:"table:imports" json:"-"`
	db.Row
	db.Owned

	CreatedBy string         `bun:"created_by" json:"created_by"` // user or key
	Resource  string         `bun:"resource" json:"resource"`     // "numbers"
	Status    ImportStatus   `bun:"status" json:"status"`
	FileName  string         `bun:"file_name" json:"file_name"`
	Size      int64          `bun:"size" json:"size"` // bytes
	Format    sheet.Format   `bun:"format" json:"format"`
	Encoding  sheet.Encoding `bun:"encoding,nullzero" json:"encoding,omitempty"`
	Separator string         `bun:"separator,nullzero" json:"separator,omitempty"`
	Sheet     string         `bun:"sheet,nullzero" json:"sheet,omitempty"`
	// Header is the file's heading, every name once: see headings. Sample are its first rows.
	Header []string   `bun:"header,type:jsonb" json:"header"`
	Sample [][]string `bun:"sample,type:jsonb" json:"sample"`
	// Mapping says which name of the heading goes into which column of the resource.
	Mapping map[string]string `bun:"mapping,type:jsonb" json:"mapping"`
	// Missing are the columns that the resource needs and Mapping has not.
	Missing     []string    `bun:"missing,type:jsonb" json:"missing"`
	OnDuplicate OnDuplicate `bun:"on_duplicate" json:"on_duplicate"`
	Rows        *int64      `bun:"rows" json:"rows,omitempty"`
	JobID       string      `bun:"job_id,nullzero" json:"job_id,omitempty"` // the latest
	// Checked is what the last dry run said, Counts what was committed, Reverted what a revert did.
	Checked     *Counts    `bun:"checked,type:jsonb,nullzero" json:"checked,omitempty"`
	Counts      *Counts    `bun:"counts,type:jsonb,nullzero" json:"counts,omitempty"`
	Reverted    *Undone    `bun:"reverted,type:jsonb,nullzero" json:"reverted,omitempty"`
	CompletedAt *time.Time `bun:"completed_at" json:"completed_at,omitempty"`
	RevertUntil *time.Time `bun:"revert_until" json:"revert_until,omitempty"`
	Failure     string     `bun:"failure,nullzero" json:"failure,omitempty"` // of the latest job

	Position   int64      `bun:"position" json:"-"`    // rows committed
	RevertLeft *int64     `bun:"revert_left" json:"-"` // batches still to be undone
	BeganAt    *time.Time `bun:"began_at" json:"-"`
	FileKey    string     `bun:"file_key,nullzero" json:"-"`
	CheckKey   string     `bun:"check_key,nullzero" json:"-"`
	CommitKey  string     `bun:"commit_key,nullzero" json:"-"`
	RevertKey  string     `bun:"revert_key,nullzero" json:"-"`
}

// ImportStatus is where an import stands.
type ImportStatus string

// The statuses. While one ends in "ing", a job works for it.
const (
	Uploaded   ImportStatus = "uploaded"
	Checking   ImportStatus = "checking"
	Checked    ImportStatus = "checked"
	Committing ImportStatus = "committing"
	Committed  ImportStatus = "committed"
	// Stopped is a commit that failed or was canceled: what it had done stays. It can go on, or be reverted.
	Stopped   ImportStatus = "stopped"
	Reverting ImportStatus = "reverting"
	Reverted  ImportStatus = "reverted"
)

// OnDuplicate is what happens to a row whose object exists already.
type OnDuplicate string

// The choices.
const (
	Skip   OnDuplicate = "skip"
	Update OnDuplicate = "update"
	Fail   OnDuplicate = "fail"
)

// Verdict is what becomes of one row.
type Verdict string

// The verdicts.
const (
	Created Verdict = "create"
	Updated Verdict = "update"
	Skipped Verdict = "skip"
	Wrong   Verdict = "error"
)

// Counts are the verdicts of some rows.
type Counts struct {
	Created int64 `json:"created"`
	Updated int64 `json:"updated"`
	Skipped int64 `json:"skipped"`
	Errors  int64 `json:"errors"`
}

func (c *Counts) add(outcomes []Outcome) {
	for _, o := range outcomes {
		switch o.Verdict {
		case Created:
			c.Created++
		case Updated:
			c.Updated++
		case Skipped:
			c.Skipped++
		case Wrong:
			c.Errors++
		}
	}
}

// Undone is what a revert did with the objects of an import.
type Undone struct {
	Removed  int64 `json:"removed"`
	Restored int64 `json:"restored"`
	Kept     int64 `json:"kept"` // changed or used since
}

// Outcome is what became of one row. It is kept for the report and for a revert.
type Outcome struct {
	Line    int64   `json:"line"` // in the file
	Verdict Verdict `json:"verdict"`
	// ObjectID and Etag are of the object as the row left it, or of the one in the way of a skipped row.
	ObjectID string `json:"object_id,omitempty"`
	Etag     string `json:"etag,omitempty"`
	// Before is what Restore needs of an updated object, and BeforeAt when that was last changed.
	Before   json.RawMessage `json:"before,omitempty"`
	BeforeAt *time.Time      `json:"before_at,omitempty"`
	// Column is the column at fault, where one is; Reason a sentence.
	Column string `json:"column,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// batch is what a commit did with up to batchRows rows, and a revert with that.
type batch struct {
	bun.BaseModel `bun:"table:import_batches"`

	ImportID  string    `bun:"import_id,pk"`
	Number    int64     `bun:"number,pk"` // from 0
	AccountID string    `bun:"account_id"`
	Outcomes  []Outcome `bun:"outcomes,type:jsonb"`
	Reverted  []undoing `bun:"reverted,type:jsonb,nullzero"`
}

// undoing is what a revert did about one row: Verdict is "removed", "restored", "kept", or "" for a row that had done
// nothing.
type undoing struct {
	Verdict  string `json:"verdict,omitempty"`
	Reason   string `json:"reason,omitempty"`
	ObjectID string `json:"object_id,omitempty"` // with Etag, when an earlier row of the import had touched it too
	Etag     string `json:"etag,omitempty"`
}

// Export is one table made of what a list shows.
type Export struct {
	bun.BaseModel `bun:"table:exports" json:"-"`
	db.Row
	db.Owned

	CreatedBy   string          `bun:"created_by" json:"created_by"`
	Resource    string          `bun:"resource" json:"resource"`
	Search      json.RawMessage `bun:"search,type:jsonb" json:"-"`
	Columns     []string        `bun:"columns,type:jsonb" json:"columns"`
	Format      sheet.Format    `bun:"format" json:"format"`
	Status      ExportStatus    `bun:"status" json:"status"`
	Rows        int64           `bun:"rows" json:"rows"`
	Size        int64           `bun:"size" json:"size"` // bytes
	JobID       string          `bun:"job_id,nullzero" json:"job_id,omitempty"`
	CompletedAt *time.Time      `bun:"completed_at" json:"completed_at,omitempty"`
	ExpiresAt   *time.Time      `bun:"expires_at" json:"expires_at,omitempty"`
	Failure     string          `bun:"failure,nullzero" json:"failure,omitempty"`

	FileKey string `bun:"file_key,nullzero" json:"-"`
}

// ExportStatus is where an export stands.
type ExportStatus string

// The statuses.
const (
	Exporting      ExportStatus = "exporting"
	Exported       ExportStatus = "completed"
	ExportFailed   ExportStatus = "failed"
	ExportCanceled ExportStatus = "canceled"
	ExportExpired  ExportStatus = "expired" // the file is gone
)

// How long things are kept.
const (
	revertFor  = 7 * 24 * time.Hour
	uploadFor  = 7 * 24 * time.Hour
	exportFor  = 7 * 24 * time.Hour
	reportsFor = 30 * 24 * time.Hour
)

// linkFor is how long the URL of a file works.
const linkFor = 5 * time.Minute
