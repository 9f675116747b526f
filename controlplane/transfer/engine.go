package transfer

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/sheet"
)

// batchRows is how many rows are written together, in a dry run as in a commit: what a row becomes depends on those
// before it.
const batchRows = 1000

// engine turns rows into outcomes.
type engine struct {
	resource *Resource
	who      auth.Caller // over the resource
	on       OnDuplicate
	columns  []string // by cell; "" for one that is not imported
}

func newEngine(r *Resource, who auth.Caller, i *Import) *engine {
	e := &engine{resource: r, who: who, on: i.OnDuplicate, columns: make([]string, len(i.Header))}
	e.who.Scope = who.Over(auth.Resource(r.Permission))
	for column, name := range i.Mapping {
		if at := slices.Index(i.Header, name); at >= 0 {
			e.columns[at] = column
		}
	}
	return e
}

// row gives the cells by column, or what is wrong before anything is asked.
func (e *engine) row(r sheet.Row) (map[string]string, Outcome) {
	if r.Err != nil {
		return nil, Outcome{Line: r.Line, Verdict: Wrong, Reason: r.Err.Error()}
	}
	row := make(map[string]string, len(e.columns))
	for i, column := range e.columns {
		if cell := strings.TrimSpace(r.Cells[i]); column != "" && cell != "" {
			row[column] = cell
		}
	}
	for _, c := range e.resource.Columns {
		if c.Required && row[c.Name] == "" {
			return nil, Outcome{Line: r.Line, Verdict: Wrong, Column: c.Name, Reason: "is empty, and must not be"}
		}
	}
	return row, Outcome{Line: r.Line}
}

// ready is a batch before its transaction.
type ready struct {
	outcomes []Outcome           // one for each row, complete for those that are wrong already
	given    []map[string]string // the others
	places   []int               // of each given one among the outcomes
	prepared any                 // see Resource.Prepare
}

// ready does with a batch what can be done before its transaction.
func (e *engine) ready(rows []sheet.Row) ready {
	b := ready{outcomes: make([]Outcome, len(rows)), given: make([]map[string]string, 0, len(rows)), places: make([]int, 0, len(rows))}
	for i, r := range rows {
		var row map[string]string
		if row, b.outcomes[i] = e.row(r); row != nil {
			b.given, b.places = append(b.given, row), append(b.places, i)
		}
	}
	if e.resource.Prepare != nil {
		b.prepared = e.resource.Prepare(b.given)
	}
	return b
}

// batch writes rows in a transaction, and gives one outcome for each. What a wrong row has written is undone; no other
// row is touched by that. An error says nothing about a row, and leaves the transaction to be rolled back.
func (e *engine) batch(ctx context.Context, tx *db.Tx, b ready) ([]Outcome, error) {
	outcomes, given, places := slices.Clone(b.outcomes), b.given, b.places
	done := make([]Outcome, len(given))
	if e.resource.Bulk != nil && len(given) > 0 {
		var err error
		if done, err = e.together(ctx, tx, b); err != nil {
			return nil, err
		}
	}
	for n, row := range given {
		if done[n].Verdict == "" {
			var err error
			if done[n], err = e.single(ctx, tx, row); err != nil {
				return nil, err
			}
		}
		done[n].Line = outcomes[places[n]].Line
		outcomes[places[n]] = done[n]
	}
	return outcomes, nil
}

// together gives the rows to Bulk; after its failure none has an outcome.
func (e *engine) together(ctx context.Context, tx *db.Tx, b ready) (done []Outcome, err error) {
	err = savepoint(ctx, tx, func() error {
		done, err = e.resource.Bulk(ctx, tx, e.who, b.given, b.prepared, e.on)
		return err
	})
	if err == nil {
		return done, nil
	}
	if ctx.Err() != nil {
		return nil, err
	}
	// What it was, each row will tell by itself.
	return make([]Outcome, len(b.given)), nil
}

func (e *engine) single(ctx context.Context, tx *db.Tx, row map[string]string) (done Outcome, err error) {
	err = savepoint(ctx, tx, func() error {
		done, err = e.resource.Import(ctx, tx, e.who, row, e.on)
		return err
	})
	if p, ok := rowError(err); ok {
		return wrong(p), nil
	}
	return done, err
}

// savepoint undoes what fn has written when it fails, and leaves the transaction usable.
func savepoint(ctx context.Context, tx *db.Tx, fn func() error) error {
	return db.Check(tx.Write().RunInTx(ctx, nil, func(context.Context, bun.Tx) error { return fn() }))
}

// rowError tells a row's own fault from ours.
func rowError(err error) (*problem.Problem, bool) {
	p, ok := errors.AsType[*problem.Problem](err)
	if !ok || slices.Contains([]problem.Code{problem.CodeUnavailable, problem.CodeTooMany, problem.CodeInternal}, p.Code) {
		return nil, false
	}
	return p, true
}

// wrong is the outcome of a row with a problem.
func wrong(p *problem.Problem) Outcome {
	o := Outcome{Verdict: Wrong, Reason: p.Detail}
	if len(p.Errors) > 0 {
		o.Column = strings.ReplaceAll(strings.TrimPrefix(p.Errors[0].Pointer, "/"), "/", ".")
		// The detail of a single field begins with the field.
		if len(p.Errors) == 1 && p.Errors[0].Pointer != "" && p.Detail == p.Errors[0].Pointer+": "+p.Errors[0].Message {
			o.Reason = p.Errors[0].Message
		}
	}
	return o
}
