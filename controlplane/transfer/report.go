package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/hookswitch/hookswitch/controlplane/sheet"
)

// report writes a csv with a line for each row of an import: where it stands in the file, what became of it, and why;
// behind that the row as it was sent, to be put right and sent again, but without secrets.
type report struct {
	*sheet.Writer
	cells []int // which of a row are shown
}

func newReport(w io.Writer, i *Import, r *Resource) (*report, error) {
	header := []string{"line", "verdict", "object_id", "column", "reason"}
	secret := map[string]bool{}
	for column, name := range i.Mapping {
		if c := r.column(column); c != nil && c.Secret {
			secret[name] = true
		}
	}
	p := &report{}
	for at, name := range i.Header {
		if !secret[name] {
			p.cells = append(p.cells, at)
			header = append(header, name)
		}
	}
	var err error
	p.Writer, err = sheet.NewWriter(w, sheet.CSV, header)
	return p, err
}

// add writes the line of a row. The object of a dry run is not there any more.
func (p *report) add(o Outcome, cells []string, real bool) error {
	id := o.ObjectID
	if o.Verdict == Created && !real {
		id = ""
	}
	line := []any{o.Line, string(o.Verdict), id, o.Column, o.Reason}
	for _, at := range p.cells {
		if at < len(cells) {
			line = append(line, cells[at])
		} else {
			line = append(line, nil)
		}
	}
	return p.Write(line)
}

// reportCommit writes what a commit did, from the file and the batches.
func (t *task) reportCommit(ctx context.Context, key string) error {
	return t.s.stored(ctx, key, func(w io.Writer) error {
		source, err := t.table()
		if err != nil {
			return err
		}
		defer source.Close()
		p, err := newReport(w, t.imp, t.eng.resource)
		if err != nil {
			return err
		}
		for from := int64(0); ; {
			some, err := batches(ctx, t.s.DB, t.imp.ID, from, 10)
			if err != nil {
				return err
			}
			if len(some) == 0 {
				return p.Close()
			}
			for _, b := range some {
				for _, o := range b.Outcomes {
					row, err := source.Next()
					if err != nil {
						return fmt.Errorf("row of line %d: %w", o.Line, err)
					}
					if err := p.add(o, row.Cells, true); err != nil {
						return err
					}
				}
				from = b.Number + 1
			}
		}
	})
}

// reportRevert writes what a revert did.
func (t *task) reportRevert(ctx context.Context, key string) error {
	return t.s.stored(ctx, key, func(w io.Writer) error {
		p, err := sheet.NewWriter(w, sheet.CSV, []string{"line", "verdict", "object_id", "reason"})
		if err != nil {
			return err
		}
		for from := int64(0); ; {
			some, err := batches(ctx, t.s.DB, t.imp.ID, from, 10)
			if err != nil {
				return err
			}
			if len(some) == 0 {
				return p.Close()
			}
			for _, b := range some {
				for n, r := range b.Reverted {
					if r.Verdict == "" {
						continue
					}
					if err := p.Write([]any{b.Outcomes[n].Line, r.Verdict, b.Outcomes[n].ObjectID, r.Reason}); err != nil {
						return err
					}
				}
				from = b.Number + 1
			}
		}
	})
}

// stored writes a file by way of a temporary one, and puts it under a key.
func (s *Service) stored(ctx context.Context, key string, write func(w io.Writer) error) error {
	file, err := os.CreateTemp("", "hookswitch-report-")
	if err != nil {
		return fmt.Errorf("temporary file: %w", err)
	}
	err = write(file)
	if err == nil {
		_, err = s.upload(ctx, key, file)
	}
	// A temporary file that stays is the system's to remove.
	_ = os.Remove(file.Name())
	return errors.Join(err, file.Close())
}
