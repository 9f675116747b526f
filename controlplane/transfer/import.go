package transfer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/blob"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/job"
	"github.com/hookswitch/hookswitch/controlplane/list"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest"
	"github.com/hookswitch/hookswitch/controlplane/sheet"
)

func importTable() list.Table {
	return list.Table{
		Fields: list.Common(map[string]list.Field{"resource": {}, "status": {}, "created_by": {}, "owner_id": {}}),
		Search: []string{"file_name"},
	}
}

func (s *Service) listImports(ctx context.Context, who auth.Caller, in rest.ListIn) (list.Page[Import], error) {
	q, err := importTable().Parse(in.Query)
	if err != nil {
		return list.Page[Import]{}, err
	}
	return list.Run[Import](ctx, s.DB, who.Scope, q, seen(who))
}

func (s *Service) searchImports(ctx context.Context, who auth.Caller, in rest.SearchIn) (list.Page[Import], error) {
	q, err := importTable().ParseSearch(in.Body)
	if err != nil {
		return list.Page[Import]{}, err
	}
	return list.Run[Import](ctx, s.DB, who.Scope, q, seen(who))
}

func (s *Service) getImport(ctx context.Context, who auth.Caller, in rest.ByID) (*Import, error) {
	return get[Import](ctx, s.DB, who, in.ID)
}

type createImportIn struct {
	Parts *multipart.Reader `body:"multipart"`
}

// form is what an upload says beside the file.
type form struct {
	file     *os.File
	size     int64
	fileName string
	remove   func()

	resource    string
	mapping     map[string]string
	onDuplicate OnDuplicate
	dryRun      bool
	options     sheet.Options
}

// maxField is the most bytes of a part that is no file.
const maxField = 64 << 10

// read takes the parts in any order. The file is spooled; call f.remove when it is set.
func (f *form) read(parts *multipart.Reader) error {
	for {
		part, err := parts.NextPart()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return broken(err)
		}
		if part.FormName() == "file" {
			if f.file != nil {
				return problem.InvalidField("/file", "count", "is there twice; import one file at a time")
			}
			f.fileName = fileName(part.FileName())
			if f.file, f.size, f.remove, err = spool(part); err != nil {
				return broken(err)
			}
			continue
		}
		text, err := io.ReadAll(io.LimitReader(part, maxField+1))
		if err != nil {
			return broken(err)
		}
		if err := f.set(part.FormName(), string(text)); err != nil {
			return err
		}
	}
}

// broken is a body that ended early or is none; one that is too large says so itself.
func broken(err error) error {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return err
	}
	if _, ok := errors.AsType[*os.PathError](err); ok {
		return err
	}
	return problem.Invalid("the body is no multipart/form-data that can be read; send it again")
}

// fileName is the last part of a name that a client gives, as shown to people.
func fileName(given string) string {
	name := path.Base(strings.ReplaceAll(given, `\`, "/"))
	name = strings.Map(func(r rune) rune {
		if r < ' ' || r == utf8.RuneError {
			return -1
		}
		return r
	}, name)
	for len(name) > 200 {
		_, width := utf8.DecodeLastRuneInString(name)
		name = name[:len(name)-width]
	}
	if name == "" || name == "." || name == "/" {
		return "table"
	}
	return name
}

func (f *form) set(name, text string) (err error) {
	if len(text) > maxField || !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
		return problem.InvalidField("/"+name, "encoding", "must be UTF-8 without NUL, at most %d bytes", maxField)
	}
	switch name {
	case "resource":
		f.resource = text
	case "mapping":
		if err := json.Unmarshal([]byte(text), &f.mapping); err != nil {
			return problem.InvalidField("/mapping", "type", `must be a JSON object such as {"number": "号码"}`)
		}
	case "on_duplicate":
		f.onDuplicate = OnDuplicate(text)
	case "dry_run":
		if f.dryRun, err = strconv.ParseBool(text); err != nil {
			return problem.InvalidField("/dry_run", "type", "must be true or false")
		}
	case "encoding":
		f.options.Encoding = sheet.Encoding(text)
	case "separator":
		f.options.Separator = text
	case "sheet":
		f.options.Sheet = text
	default:
		return problem.InvalidField("/"+name, "unknown", "is no part of an import; there are file, resource, mapping, on_duplicate, dry_run, encoding, separator and sheet")
	}
	return nil
}

func checkOnDuplicate(on OnDuplicate) error {
	if !slices.Contains([]OnDuplicate{Skip, Update, Fail}, on) {
		return problem.InvalidField("/on_duplicate", "enum", "must be skip, update or fail, is %q", on)
	}
	return nil
}

// createImport stores an upload, and answers what it has found in it.
func (s *Service) createImport(ctx context.Context, who auth.Caller, in createImportIn) (*Import, error) {
	f := form{onDuplicate: Skip}
	err := f.read(in.Parts)
	if f.remove != nil {
		defer f.remove()
	}
	if err != nil {
		return nil, err
	}
	if f.file == nil {
		return nil, problem.InvalidField("/file", "required", "is required")
	}
	if err := checkOnDuplicate(f.onDuplicate); err != nil {
		return nil, err
	}
	r, err := s.resource(f.resource)
	if err != nil {
		return nil, err
	}
	if !who.Can(r.Permission) {
		return nil, problem.Forbidden(r.Permission)
	}
	i := &Import{
		Row: db.Row{ID: db.NewID("imp")}, Owned: db.Owned{OwnerID: who.UserID}, CreatedBy: who.ActorID(),
		Resource: r.Name, Status: Uploaded, FileName: f.fileName, Size: f.size, OnDuplicate: f.onDuplicate,
	}
	i.AccountID = who.AccountID
	if err := s.describe(ctx, i, r, f.file, f.options); err != nil {
		return nil, err
	}
	if f.mapping != nil {
		if err := i.remap(r, f.mapping); err != nil {
			return nil, err
		}
	}
	i.FileKey = s.key(who.AccountID, i.ID, "upload")
	if _, err := s.upload(ctx, i.FileKey, f.file); err != nil {
		return nil, err
	}
	err = s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := db.Insert(ctx, tx, auth.Account(who.AccountID), i); err != nil {
			return err
		}
		if !f.dryRun || len(i.Missing) > 0 {
			return nil
		}
		_, err := s.start(ctx, tx, who, i, kindCheck, Checking)
		return err
	})
	if err != nil {
		return nil, errors.Join(err, s.Blobs.Delete(context.WithoutCancel(ctx), i.FileKey))
	}
	s.Jobs.Wake(ctx)
	return i, nil
}

// key is where a file of an import lies.
func (s *Service) key(account, id, name string) string {
	return "imports/" + account + "/" + id + "/" + name
}

// sampleRows is how many rows are shown, and sampleCell how many characters of a cell.
const (
	sampleRows = 10
	sampleCell = 200
)

// describe writes into an import what its file looks like, and proposes a mapping.
func (s *Service) describe(ctx context.Context, i *Import, r *Resource, file *os.File, o sheet.Options) error {
	o.Limits = s.Limits
	t, err := sheet.Open(file, i.Size, o)
	if err != nil {
		return refusal(err)
	}
	defer t.Close()
	i.Format, i.Encoding, i.Separator, i.Sheet = t.Format, t.Encoding, t.Separator, t.Sheet
	i.Header, i.Sample, i.Rows = headings(t.Header), [][]string{}, nil
	for len(i.Sample) < sampleRows {
		row, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return refusal(err)
		}
		if row.Err == nil {
			i.Sample = append(i.Sample, short(row.Cells))
		}
	}
	if i.Mapping, err = s.propose(ctx, i.AccountID, r, i.Header); err != nil {
		return err
	}
	i.settle(r)
	return nil
}

// settle draws the consequences of a mapping: what is missing, and which cells of the sample are nobody's to see.
func (i *Import) settle(r *Resource) {
	i.Missing = r.missing(i.Mapping)
	for column, name := range i.Mapping {
		c, at := r.column(column), slices.Index(i.Header, name)
		if c == nil || !c.Secret || at < 0 {
			continue
		}
		for _, cells := range i.Sample {
			if cells[at] != "" {
				cells[at] = "••••"
			}
		}
	}
}

func short(cells []string) []string {
	cut := make([]string, len(cells))
	for i, cell := range cells {
		if runes := []rune(cell); len(runes) > sampleCell {
			cell = string(runes[:sampleCell]) + "…"
		}
		cut[i] = cell
	}
	return cut
}

// start starts a job for an import that is new or locked in this transaction.
func (s *Service) start(ctx context.Context, tx *db.Tx, who auth.Caller, i *Import, kind string, status ImportStatus) (*job.Job, error) {
	j, err := s.Jobs.Start(ctx, tx, who, kind, work{ImportID: i.ID})
	if err != nil {
		return nil, err
	}
	i.Status, i.JobID, i.Failure = status, j.ID, ""
	return j, db.Update(ctx, tx, auth.Account(who.AccountID), i, "")
}

// work is the input of an import's jobs.
type work struct {
	ImportID string `json:"import_id"`
}

// begin locks an import, checks that it may go on, and starts the job.
func (s *Service) begin(ctx context.Context, who auth.Caller, id, kind string, to ImportStatus, may func(ctx context.Context, tx *db.Tx, i *Import, r *Resource) error) (*job.Job, error) {
	var started *job.Job
	err := s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		i, err := s.locked(ctx, tx, who, id)
		if err != nil {
			return err
		}
		r, err := s.resource(i.Resource)
		if err != nil {
			return err
		}
		if !who.Can(r.Permission) {
			return problem.Forbidden(r.Permission)
		}
		if err := may(ctx, tx, i, r); err != nil {
			return err
		}
		started, err = s.start(ctx, tx, who, i, kind, to)
		return err
	})
	if err != nil {
		return nil, err
	}
	s.Jobs.Wake(ctx)
	return started, nil
}

// locked reads an import that is going to be changed, which no job works for.
func (s *Service) locked(ctx context.Context, tx *db.Tx, who auth.Caller, id string) (*Import, error) {
	if err := lock(ctx, tx, "imports", id); err != nil {
		return nil, err
	}
	i, err := get[Import](ctx, tx, who, id)
	if err != nil {
		return nil, err
	}
	if slices.Contains([]ImportStatus{Checking, Committing, Reverting}, i.Status) {
		return nil, problem.Conflict("a job works for this import; wait for it, or cancel "+i.JobID,
			problem.Field("/status", "busy", "is %s", i.Status))
	}
	return i, nil
}

// state is a Conflict that says what an import is.
func state(i *Import, say string) error {
	return problem.Conflict(say, problem.Field("/status", "state", "is %s", i.Status))
}

// complete refuses a mapping that lacks something.
func complete(i *Import) error {
	if len(i.Missing) > 0 {
		return problem.RefusedField("/mapping", "required", "has nothing for %s; say which columns of the file they are", strings.Join(i.Missing, ", "))
	}
	return nil
}

func (s *Service) checkImport(ctx context.Context, who auth.Caller, in rest.ByID) (rest.Answer, error) {
	return accepted(s.begin(ctx, who, in.ID, kindCheck, Checking, func(_ context.Context, _ *db.Tx, i *Import, _ *Resource) error {
		if i.Position > 0 || !slices.Contains([]ImportStatus{Uploaded, Checked, Stopped}, i.Status) {
			return state(i, "rows of this import are committed already; upload the file again for a dry run of what is left")
		}
		return complete(i)
	}))
}

func accepted(j *job.Job, err error) (rest.Answer, error) {
	if err != nil {
		return rest.Answer{}, err
	}
	return rest.Answer{Status: http.StatusAccepted, Header: http.Header{"Location": {"/v1/jobs/" + j.ID}}, Body: j}, nil
}

func (s *Service) commitImport(ctx context.Context, who auth.Caller, in rest.ByID) (rest.Answer, error) {
	return accepted(s.begin(ctx, who, in.ID, kindCommit, Committing, func(ctx context.Context, tx *db.Tx, i *Import, _ *Resource) error {
		if i.RevertLeft != nil || !slices.Contains([]ImportStatus{Uploaded, Checked, Stopped}, i.Status) {
			return state(i, "this import is committed already, or reverted; upload the file again")
		}
		if err := complete(i); err != nil {
			return err
		}
		return s.remember(ctx, tx, i)
	}))
}

func (s *Service) revertImport(ctx context.Context, who auth.Caller, in rest.ByID) (rest.Answer, error) {
	return accepted(s.begin(ctx, who, in.ID, kindRevert, Reverting, func(_ context.Context, _ *db.Tx, i *Import, r *Resource) error {
		switch {
		case i.Position == 0 || !slices.Contains([]ImportStatus{Committed, Stopped}, i.Status):
			return state(i, "there is nothing to revert")
		case i.RevertUntil != nil && i.RevertUntil.Before(db.Now()):
			return state(i, "an import can be reverted for 7 days; these are over")
		case r.Remove == nil || r.Restore == nil:
			return problem.Refused("imports of " + r.Name + " cannot be reverted")
		}
		return nil
	}))
}

type updateImportIn struct {
	rest.ByID
	IfMatch string     `header:"If-Match"`
	Patch   rest.Patch `body:"json"`
}

// changedImport is what a merge patch of an import is applied to.
type changedImport struct {
	rest.Keys
	Mapping     map[string]string `json:"mapping"`
	OnDuplicate OnDuplicate       `json:"on_duplicate"`
	Encoding    sheet.Encoding    `json:"encoding,omitempty"`
	Separator   string            `json:"separator,omitempty"`
	Sheet       string            `json:"sheet,omitempty"`
}

func (s *Service) updateImport(ctx context.Context, who auth.Caller, in updateImportIn) (*Import, error) {
	before, err := get[Import](ctx, s.DB, who, in.ID)
	if err != nil {
		return nil, err
	}
	wanted := changedImport{
		Keys: rest.Keys{ExternalID: before.ExternalID, Metadata: before.Metadata}, Mapping: before.Mapping, OnDuplicate: before.OnDuplicate,
		Encoding: before.Encoding, Separator: before.Separator, Sheet: before.Sheet,
	}
	if err := in.Patch.Apply(&wanted); err != nil {
		return nil, err
	}
	r, err := s.resource(before.Resource)
	if err != nil {
		return nil, err
	}
	// Read again otherwise, the file may have another heading. This takes long, so it is done outside the transaction.
	var again *Import
	if wanted.Encoding != before.Encoding || wanted.Separator != before.Separator || wanted.Sheet != before.Sheet {
		file, _, remove, err := s.spool(ctx, before.FileKey)
		if err != nil {
			return nil, err
		}
		defer remove()
		fresh := *before
		again = &fresh
		if err := s.describe(ctx, again, r, file, sheet.Options{Encoding: wanted.Encoding, Separator: wanted.Separator, Sheet: wanted.Sheet}); err != nil {
			return nil, err
		}
	}
	var changed *Import
	err = s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		if _, err := s.locked(ctx, tx, who, in.ID); err != nil {
			return err
		}
		changed, err = db.Change(ctx, tx, who.Scope, in.ID, in.IfMatch, func(i *Import) error {
			return i.rewrite(r, before, wanted, again)
		})
		return err
	})
	return changed, err
}

// rewrite makes an import what a patch of it, as it was before, wants; again is what the file is when it is read
// otherwise.
func (i *Import) rewrite(r *Resource, before *Import, wanted changedImport, again *Import) error {
	if i.Etag != before.Etag {
		return problem.Precondition()
	}
	i.ExternalID, i.Metadata = wanted.ExternalID, wanted.Metadata
	same := func(a, b map[string]string) bool { return fmt.Sprint(a) == fmt.Sprint(b) }
	if again == nil && same(wanted.Mapping, before.Mapping) && wanted.OnDuplicate == before.OnDuplicate {
		return nil
	}
	if i.Position > 0 || i.RevertLeft != nil {
		return state(i, "rows of this import are committed already; how the others are read stays")
	}
	if err := checkOnDuplicate(wanted.OnDuplicate); err != nil {
		return err
	}
	if again != nil {
		i.Format, i.Encoding, i.Separator, i.Sheet = again.Format, again.Encoding, again.Separator, again.Sheet
		i.Header, i.Sample, i.Rows, i.Mapping, i.Missing = again.Header, again.Sample, again.Rows, again.Mapping, again.Missing
	}
	i.OnDuplicate, i.Status, i.Checked = wanted.OnDuplicate, Uploaded, nil
	if again != nil && same(wanted.Mapping, before.Mapping) {
		return nil
	}
	return i.remap(r, wanted.Mapping)
}

func (s *Service) deleteImport(ctx context.Context, who auth.Caller, in rest.ChangeIn) (rest.None, error) {
	var keys []string
	err := s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		i, err := s.locked(ctx, tx, who, in.ID)
		if err != nil {
			return err
		}
		keys = []string{i.FileKey, i.CheckKey, i.CommitKey, i.RevertKey}
		return db.Delete[Import](ctx, tx, who.Scope, in.ID, in.IfMatch)
	})
	if err != nil {
		return rest.None{}, err
	}
	return rest.None{}, s.removeAll(ctx, keys)
}

func (s *Service) removeAll(ctx context.Context, keys []string) error {
	for _, key := range keys {
		if key == "" {
			continue
		}
		if err := s.Blobs.Delete(ctx, key); err != nil {
			return err
		}
	}
	return nil
}

type reportIn struct {
	rest.ByID
	Of string `query:"of"`
	As string `query:"as"`
}

// getImportReport gives the verdicts of every row.
func (s *Service) getImportReport(ctx context.Context, who auth.Caller, in reportIn) (rest.Answer, error) {
	i, err := get[Import](ctx, s.DB, who, in.ID)
	if err != nil {
		return rest.Answer{}, err
	}
	key := map[string]string{"dry_run": i.CheckKey, "commit": i.CommitKey, "revert": i.RevertKey}[in.Of]
	if key == "" {
		return rest.Answer{}, problem.NotFound("there is no report of this yet; it is made at the end of the job, and kept for 30 days")
	}
	return s.link(ctx, key, blob.Download{ContentType: sheet.CSV.ContentType(), FileName: i.ID + "-" + in.Of + ".csv"}, in.As)
}

// SignedURL is the answer to ?as=json.
type SignedURL = job.SignedURL

// link answers with the URL of a file.
func (s *Service) link(ctx context.Context, key string, d blob.Download, as string) (rest.Answer, error) {
	expires := db.Now().Add(linkFor)
	link, err := s.Blobs.SignedGet(ctx, key, linkFor, d)
	switch {
	case err != nil:
		return rest.Answer{}, err
	case as == "json":
		return rest.Answer{Status: http.StatusOK, Body: SignedURL{URL: link, ExpiresAt: expires}}, nil
	}
	return rest.Redirect(link), nil
}

// ResourceInfo is one resource, as it is answered.
type ResourceInfo struct {
	Name    string       `json:"name"`
	Label   Label        `json:"label"`
	Columns []ColumnInfo `json:"columns"`
}

// ColumnInfo is one column, as it is answered.
type ColumnInfo struct {
	Name     string `json:"name"`
	Label    Label  `json:"label"`
	Required bool   `json:"required"`
}

// Resources is the answer of getImportResources.
type Resources struct {
	Data []ResourceInfo `json:"data"`
}

// getImportResources lists what the caller may import.
func (s *Service) getImportResources(_ context.Context, who auth.Caller, _ struct{}) (Resources, error) {
	all := Resources{Data: []ResourceInfo{}}
	for _, r := range s.resources {
		if !who.Can(r.Permission) {
			continue
		}
		info := ResourceInfo{Name: r.Name, Label: r.Label, Columns: []ColumnInfo{}}
		for _, c := range r.Columns {
			info.Columns = append(info.Columns, ColumnInfo{Name: c.Name, Label: c.Label, Required: c.Required})
		}
		all.Data = append(all.Data, info)
	}
	return all, nil
}

type templateIn struct {
	Resource string       `query:"resource"`
	Format   sheet.Format `query:"format"`
	Language string       `query:"language"`
}

// getImportTemplate writes a table with the columns of a resource, and a row of examples.
func (s *Service) getImportTemplate(_ context.Context, who auth.Caller, in templateIn) (rest.Stream, error) {
	r, err := s.resource(in.Resource)
	if err != nil {
		return nil, err
	}
	if !who.Can(r.Permission) {
		return nil, problem.Forbidden(r.Permission)
	}
	var header []string
	var example []any
	for _, c := range r.Columns {
		name := c.Label.English
		if in.Language == "zh" {
			name = c.Label.Chinese
		}
		if name == "" {
			name = c.Name
		}
		header, example = append(header, name), append(example, c.Example)
	}
	return func(w http.ResponseWriter, _ *http.Request) error {
		h := w.Header()
		h.Set("Content-Type", in.Format.ContentType())
		h.Set("Content-Disposition", `attachment; filename="`+r.Name+"."+string(in.Format)+`"`)
		t, err := sheet.NewWriter(w, in.Format, header)
		if err != nil {
			return err
		}
		return errors.Join(t.Write(example), t.Close())
	}, nil
}
