package transfer

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/blob"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/job"
	"github.com/hookswitch/hookswitch/controlplane/list"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest"
	"github.com/hookswitch/hookswitch/controlplane/sheet"
)

func exportTable() list.Table {
	return list.Table{Fields: list.Common(map[string]list.Field{"resource": {}, "status": {}, "format": {}, "created_by": {}, "owner_id": {}})}
}

func (s *Service) listExports(ctx context.Context, who auth.Caller, in rest.ListIn) (list.Page[Export], error) {
	q, err := exportTable().Parse(in.Query)
	if err != nil {
		return list.Page[Export]{}, err
	}
	return list.Run[Export](ctx, s.DB, who.Scope, q, seen(who))
}

func (s *Service) searchExports(ctx context.Context, who auth.Caller, in rest.SearchIn) (list.Page[Export], error) {
	q, err := exportTable().ParseSearch(in.Body)
	if err != nil {
		return list.Page[Export]{}, err
	}
	return list.Run[Export](ctx, s.DB, who.Scope, q, seen(who))
}

func (s *Service) getExport(ctx context.Context, who auth.Caller, in rest.ByID) (*Export, error) {
	return get[Export](ctx, s.DB, who, in.ID)
}

// newExport is the body of createExport.
type newExport struct {
	rest.Keys
	Resource string          `json:"resource"`
	Filter   json.RawMessage `json:"filter,omitempty"`
	Q        string          `json:"q,omitempty"`
	Sort     string          `json:"sort,omitempty"`
	Columns  []string        `json:"columns,omitempty"`
	Format   sheet.Format    `json:"format"`
}

type createExportIn struct {
	Body newExport `body:"json"`
}

// listed finds the list of a resource that the caller may read, and what its rows have.
func (s *Service) listed(who auth.Caller, resource string) (operation string, members []rest.Property, err error) {
	operation, ok := s.Direct.Lists()[resource]
	if !ok {
		return "", nil, problem.InvalidField("/resource", "enum", "must be one of %q, is %q", slices.Sorted(maps.Keys(s.Direct.Lists())), resource)
	}
	members, permission, _ := s.Direct.Listed(operation)
	if !who.Can(permission) {
		return "", nil, problem.Forbidden(permission)
	}
	return operation, members, nil
}

// createExport starts an export. What is wrong with its filter it says at once.
func (s *Service) createExport(ctx context.Context, who auth.Caller, in createExportIn) (*Export, error) {
	operation, members, err := s.listed(who, in.Body.Resource)
	if err != nil {
		return nil, err
	}
	columns := in.Body.Columns
	if len(columns) == 0 {
		for _, m := range members {
			columns = append(columns, m.Name)
		}
	}
	for n, column := range columns {
		name, _, _ := strings.Cut(column, ".")
		if !slices.ContainsFunc(members, func(m rest.Property) bool { return m.Name == name }) {
			return nil, problem.InvalidField(fmt.Sprintf("/columns/%d", n), "unknown", "%q is no field of %s", column, in.Body.Resource)
		}
		if slices.Contains(columns[:n], column) {
			return nil, problem.InvalidField(fmt.Sprintf("/columns/%d", n), "duplicate", "%q is there twice", column)
		}
	}
	search := list.Search{Filter: in.Body.Filter, Q: in.Body.Q, Sort: in.Body.Sort, Limit: 1}
	if _, _, err := s.Direct.List(ctx, who, operation, search); err != nil {
		return nil, err
	}
	search.Limit = list.MaxLimit
	text, err := json.Marshal(search)
	if err != nil {
		return nil, err
	}
	e := &Export{
		Row:   db.Row{ID: db.NewID("exp"), ExternalID: in.Body.ExternalID, Metadata: in.Body.Metadata},
		Owned: db.Owned{OwnerID: who.UserID}, CreatedBy: who.ActorID(),
		Resource: in.Body.Resource, Search: text, Columns: columns, Format: in.Body.Format, Status: Exporting,
	}
	err = s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := db.Insert(ctx, tx, auth.Account(who.AccountID), e); err != nil {
			return err
		}
		j, err := s.Jobs.Start(ctx, tx, who, kindExport, exportWork{ExportID: e.ID})
		if err != nil {
			return err
		}
		e.JobID = j.ID
		return db.Update(ctx, tx, auth.Account(who.AccountID), e, "")
	})
	if err != nil {
		return nil, err
	}
	s.Jobs.Wake(ctx)
	return e, nil
}

func (s *Service) deleteExport(ctx context.Context, who auth.Caller, in rest.ChangeIn) (rest.None, error) {
	var key string
	err := s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := lock(ctx, tx, "exports", in.ID); err != nil {
			return err
		}
		e, err := get[Export](ctx, tx, who, in.ID)
		if err != nil {
			return err
		}
		if e.Status == Exporting {
			return problem.Conflict("a job works for this export; wait for it, or cancel "+e.JobID, problem.Field("/status", "busy", "is %s", e.Status))
		}
		key = e.FileKey
		return db.Delete[Export](ctx, tx, who.Scope, in.ID, in.IfMatch)
	})
	if err != nil {
		return rest.None{}, err
	}
	return rest.None{}, s.removeAll(ctx, []string{key})
}

type fileIn struct {
	rest.ByID
	As string `query:"as"`
}

// getExportFile answers with where the file is. It holds what its maker saw: whoever sees less of the resource does not
// get it.
func (s *Service) getExportFile(ctx context.Context, who auth.Caller, in fileIn) (rest.Answer, error) {
	e, err := get[Export](ctx, s.DB, who, in.ID)
	if err != nil {
		return rest.Answer{}, err
	}
	if e.CreatedBy != who.ActorID() {
		operation, _, err := s.listed(who, e.Resource)
		if err != nil {
			return rest.Answer{}, err
		}
		_, permission, _ := s.Direct.Listed(operation)
		if _, narrowed := who.Over(auth.Resource(permission)).Rows(); narrowed {
			return rest.Answer{}, problem.Forbidden("to see all " + e.Resource)
		}
	}
	switch {
	case e.Status == Exporting:
		return rest.Answer{}, problem.Conflict("the export is not finished; wait for its job "+e.JobID, problem.Field("/status", "busy", "is %s", e.Status))
	case e.FileKey == "":
		return rest.Answer{}, problem.NotFound("there is no file: the export was not completed, or is older than 7 days; export again")
	}
	name := e.Resource + "-" + e.CreatedAt.Format("20060102-150405") + "." + string(e.Format)
	return s.link(ctx, e.FileKey, blob.Download{ContentType: e.Format.ContentType(), FileName: name}, in.As)
}

// ExportInfo is a resource that can be exported, as it is answered.
type ExportInfo struct {
	Name    string   `json:"name"`
	Columns []string `json:"columns"`
}

// Exportable is the answer of getExportResources.
type Exportable struct {
	Data []ExportInfo `json:"data"`
}

// getExportResources lists what the caller may export.
func (s *Service) getExportResources(_ context.Context, who auth.Caller, _ struct{}) (Exportable, error) {
	all := Exportable{Data: []ExportInfo{}}
	lists := s.Direct.Lists()
	for _, name := range slices.Sorted(maps.Keys(lists)) {
		members, permission, _ := s.Direct.Listed(lists[name])
		if !who.Can(permission) {
			continue
		}
		info := ExportInfo{Name: name, Columns: []string{}}
		for _, m := range members {
			info.Columns = append(info.Columns, m.Name)
		}
		all.Data = append(all.Data, info)
	}
	return all, nil
}

// exportWork is the input of an export's job.
type exportWork struct {
	ExportID string `json:"export_id"`
}

// exportAt is how far an export has come: the parts that are stored, and where the list goes on.
type exportAt struct {
	Parts  int    `json:"parts"`
	Rows   int64  `json:"rows"`
	Cursor string `json:"cursor,omitempty"`
	Read   bool   `json:"read"`   // all rows are in parts
	Joined bool   `json:"joined"` // and the parts in the file
}

// partPages is how many pages of the list go into one part: what a process that is killed reads again at most.
const partPages = 10

// export is the job of an export: it reads the list page by page as the caller, keeps what it has read in parts, and
// joins these in the end.
func (s *Service) export(ctx context.Context, run *job.Run) error {
	var in exportWork
	if err := run.Input(&in); err != nil {
		return err
	}
	e, err := db.Get[Export](ctx, s.DB, auth.Account(run.AccountID()), in.ExportID)
	if err != nil {
		return err
	}
	x := &exporting{s: s, run: run, e: e}
	if _, err := run.Checkpoint(&x.at); err != nil {
		return err
	}
	err = x.work(ctx)
	_, refused := rowError(err)
	if refused || errors.Is(err, job.ErrCanceled) || errors.Is(context.Cause(ctx), job.ErrCanceled) {
		// Nobody will go on.
		kept, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		err = errors.Join(err, x.removeParts(kept))
	}
	return err
}

// exporting is an export in progress.
type exporting struct {
	s   *Service
	run *job.Run
	e   *Export
	at  exportAt
}

func (x *exporting) key(name string) string {
	return "exports/" + x.e.AccountID + "/" + x.e.ID + "/" + name
}

func (x *exporting) part(n int) string { return x.key(fmt.Sprintf("part-%06d.jsonl", n)) }

func (x *exporting) work(ctx context.Context) error {
	operation, _, err := x.s.listed(x.run.Caller(), x.e.Resource)
	if err != nil {
		return err
	}
	for !x.at.Read {
		if err := x.readPart(ctx, operation); err != nil {
			return err
		}
	}
	if !x.at.Joined {
		if err := x.join(ctx); err != nil {
			return err
		}
	}
	x.run.Result(map[string]any{"rows": x.at.Rows, "export_id": x.e.ID})
	return x.removeParts(ctx)
}

// save keeps how far the export is, with columns of its row.
func (x *exporting) save(ctx context.Context, next exportAt, columns ...string) error {
	x.e.UpdatedAt, x.e.Rows = db.Now(), next.Rows
	err := x.run.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		_, err := tx.Write().NewUpdate().Model(x.e).Column(append(columns, "rows", "updated_at")...).WherePK().Exec(ctx)
		if err != nil {
			return db.Check(err)
		}
		return x.run.Save(ctx, tx, next)
	})
	if err == nil {
		x.at = next
	}
	return err
}

// readPart stores the next pages as a part.
func (x *exporting) readPart(ctx context.Context, operation string) error {
	var search list.Search
	if err := json.Unmarshal(x.e.Search, &search); err != nil {
		return err
	}
	search.Cursor, search.Limit = x.at.Cursor, list.MaxLimit
	next := x.at
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	for range partPages {
		rows, cursor, err := x.s.Direct.List(ctx, x.run.Caller(), operation, search)
		if err != nil {
			return err
		}
		for _, row := range rows {
			if err := encoder.Encode(cells(row, x.e.Columns)); err != nil {
				return err
			}
		}
		next.Rows += int64(len(rows))
		next.Cursor, search.Cursor = cursor, cursor
		x.run.Progress(next.Rows, 0)
		if next.Read = cursor == ""; next.Read {
			break
		}
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
	}
	if x.e.Format == sheet.XLSX && next.Rows > sheet.MaxXLSXRows {
		return problem.Refused(fmt.Sprintf("these are more than %d rows, which xlsx cannot hold; export csv, or filter", sheet.MaxXLSXRows))
	}
	if err := x.s.Blobs.Put(ctx, x.part(next.Parts), &out, int64(out.Len())); err != nil {
		return err
	}
	next.Parts++
	return x.save(ctx, next)
}

// cells are the values of a row's columns; "metadata.region" is a member of a member.
func cells(row map[string]any, columns []string) []any {
	out := make([]any, len(columns))
	for i, column := range columns {
		var value any = row
		for part := range strings.SplitSeq(column, ".") {
			object, _ := value.(map[string]any)
			value = object[part]
		}
		out[i] = value
	}
	return out
}

// join makes the file of the parts.
func (x *exporting) join(ctx context.Context) error {
	key := x.key(x.e.ID + "." + string(x.e.Format))
	reader, writer := io.Pipe()
	written := make(chan error, 1)
	go func() {
		err := x.write(ctx, writer)
		// The reader fails with what the writer failed with, and a whole file ends with nil.
		writer.CloseWithError(err)
		written <- err
	}()
	err := x.s.Blobs.Put(ctx, key, reader, -1)
	// When the store gave up, so does the writer.
	reader.CloseWithError(err)
	if err := errors.Join(err, <-written); err != nil {
		return err
	}
	info, err := x.s.Blobs.Stat(ctx, key)
	if err != nil {
		return err
	}
	next := x.at
	next.Joined = true
	now := db.Now()
	expires := now.Add(exportFor)
	x.e.Size, x.e.FileKey, x.e.ExpiresAt = info.Size, key, &expires
	return x.save(ctx, next, "size", "file_key", "expires_at")
}

func (x *exporting) write(ctx context.Context, to io.Writer) error {
	w, err := sheet.NewWriter(to, x.e.Format, x.e.Columns)
	if err != nil {
		return err
	}
	for n := range x.at.Parts {
		if err := x.copyPart(ctx, n, w); err != nil {
			return errors.Join(err, w.Close())
		}
	}
	return w.Close()
}

func (x *exporting) copyPart(ctx context.Context, n int, w *sheet.Writer) error {
	body, err := x.s.Blobs.Get(ctx, x.part(n), 0, -1)
	if err != nil {
		return err
	}
	defer body.Close()
	d := json.NewDecoder(bufio.NewReaderSize(body, 64<<10))
	d.UseNumber()
	for {
		var row []any
		if err := d.Decode(&row); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("part %d: %w", n, err)
		}
		for i, cell := range row {
			switch cell.(type) {
			case map[string]any, []any:
				text, err := json.Marshal(cell)
				if err != nil {
					return err
				}
				row[i] = json.RawMessage(text)
			}
		}
		if err := w.Write(row); err != nil {
			return refusal(err)
		}
	}
}

// removeParts deletes the parts, the last first; there may be one more than is known.
func (x *exporting) removeParts(ctx context.Context) error {
	for n := x.at.Parts; n >= 0; n-- {
		if err := x.s.Blobs.Delete(ctx, x.part(n)); err != nil {
			return err
		}
	}
	return nil
}

// exportEnded lets an export follow the end of its job.
func (s *Service) exportEnded(ctx context.Context, tx *db.Tx, j *job.Job) error {
	e, err := db.Find[Export](ctx, tx, auth.Account(j.AccountID), func(q *bun.SelectQuery) *bun.SelectQuery { return q.Where("job_id = ?", j.ID) })
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	now := db.Now()
	e.Status = map[job.Status]ExportStatus{job.Succeeded: Exported, job.Failed: ExportFailed, job.Canceled: ExportCanceled}[j.Status]
	if e.Status == Exported {
		e.CompletedAt = &now
	}
	e.Failure = j.Failure
	return db.Update(ctx, tx, auth.Account(j.AccountID), e, "")
}
