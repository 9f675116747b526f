package transfer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/blob"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/job"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest"
	"github.com/hookswitch/hookswitch/controlplane/sheet"
)

// The kinds of jobs.
const (
	kindCheck  = "import.dry_run"
	kindCommit = "import.commit"
	kindRevert = "import.revert"
	kindExport = "export"
)

// Service is the operations on imports and exports, and the jobs that do their work. New makes one; Direct is set before
// anything is asked of it.
type Service struct {
	DB    *db.DB
	Blobs *blob.Store
	Jobs  *job.Service
	// Direct reads what is exported, and checks what is imported.
	Direct *rest.Direct
	// Limits bound what is uploaded. The zero value of a field is sheet's default.
	Limits sheet.Limits

	resources []Resource
}

// New makes the service, and has its jobs handled by jobs.
func New(d *db.DB, blobs *blob.Store, jobs *job.Service) *Service {
	s := &Service{DB: d, Blobs: blobs, Jobs: jobs}
	jobs.Handle(kindCheck, s.check)
	jobs.Handle(kindCommit, s.commit)
	jobs.Handle(kindRevert, s.revert)
	jobs.Handle(kindExport, s.export)
	for _, kind := range []string{kindCheck, kindCommit, kindRevert} {
		jobs.Ended(kind, s.importEnded)
	}
	jobs.Ended(kindExport, s.exportEnded)
	return s
}

// Register adds what can be imported. It is called before anything is asked of the service.
func (s *Service) Register(resources ...Resource) {
	s.resources = append(s.resources, resources...)
	slices.SortFunc(s.resources, func(a, b Resource) int { return cmp.Compare(a.Name, b.Name) })
}

// resource finds what can be imported by its name.
func (s *Service) resource(name string) (*Resource, error) {
	var names []string
	for i := range s.resources {
		if s.resources[i].Name == name {
			return &s.resources[i], nil
		}
		names = append(names, s.resources[i].Name)
	}
	return nil, problem.InvalidField("/resource", "enum", "must be one of %q, is %q", names, name)
}

// Operations are the functions of the specification's operations.
func (s *Service) Operations() map[string]rest.Operation {
	return map[string]rest.Operation{
		"listImports":        rest.Op(s.listImports),
		"searchImports":      rest.Op(s.searchImports),
		"createImport":       rest.Op(s.createImport),
		"getImport":          rest.Op(s.getImport),
		"updateImport":       rest.Op(s.updateImport),
		"deleteImport":       rest.Op(s.deleteImport),
		"checkImport":        rest.Op(s.checkImport),
		"commitImport":       rest.Op(s.commitImport),
		"revertImport":       rest.Op(s.revertImport),
		"getImportReport":    rest.Op(s.getImportReport),
		"getImportTemplate":  rest.Op(s.getImportTemplate),
		"getImportResources": rest.Op(s.getImportResources),
		"listExports":        rest.Op(s.listExports),
		"searchExports":      rest.Op(s.searchExports),
		"createExport":       rest.Op(s.createExport),
		"getExport":          rest.Op(s.getExport),
		"deleteExport":       rest.Op(s.deleteExport),
		"getExportFile":      rest.Op(s.getExportFile),
		"getExportResources": rest.Op(s.getExportResources),
	}
}

// seen narrows imports and exports to those that a caller may know of: they hold what their maker saw, so that a caller
// from whom numbers are hidden sees only its own.
func seen(who auth.Caller) func(*bun.SelectQuery) *bun.SelectQuery {
	return func(q *bun.SelectQuery) *bun.SelectQuery {
		if who.Mask == (auth.Mask{}) {
			return q
		}
		return q.Where("?TableAlias.created_by = ?", who.ActorID())
	}
}

// maker is what an import and an export know of who made them.
type maker interface{ madeBy() string }

func (i *Import) madeBy() string { return i.CreatedBy }
func (e *Export) madeBy() string { return e.CreatedBy }

// get reads an import or export that the caller may know of.
func get[T any, P interface {
	db.Entity[T]
	maker
}](ctx context.Context, conn db.Conn, who auth.Caller, id string) (*T, error) {
	object, err := db.Get[T, P](ctx, conn, who.Scope, id)
	if err != nil {
		return nil, err
	}
	if who.Mask != (auth.Mask{}) && P(object).madeBy() != who.ActorID() {
		return nil, problem.NoSuch(id)
	}
	return object, nil
}

// spool copies a blob into a temporary file, since tables are read here and there. Call remove at the end.
func (s *Service) spool(ctx context.Context, key string) (file *os.File, size int64, remove func(), err error) {
	body, err := s.Blobs.Get(ctx, key, 0, -1)
	if errors.Is(err, blob.ErrNotFound) || key == "" {
		return nil, 0, nil, problem.Refused("the uploaded file is kept no longer; upload it again")
	}
	if err != nil {
		return nil, 0, nil, err
	}
	defer body.Close()
	return spool(body)
}

func spool(body io.Reader) (file *os.File, size int64, remove func(), err error) {
	if file, err = os.CreateTemp("", "hookswitch-table-"); err != nil {
		return nil, 0, nil, fmt.Errorf("temporary file: %w", err)
	}
	remove = func() {
		file.Close()
		// A temporary file that stays is the system's to remove.
		_ = os.Remove(file.Name())
	}
	if size, err = io.Copy(file, body); err != nil {
		remove()
		return nil, 0, nil, fmt.Errorf("temporary file: %w", err)
	}
	return file, size, remove, nil
}

// upload puts a temporary file, from its beginning, under a key.
func (s *Service) upload(ctx context.Context, key string, file *os.File) (size int64, err error) {
	if size, err = file.Seek(0, io.SeekEnd); err != nil {
		return 0, fmt.Errorf("temporary file: %w", err)
	}
	if _, err = file.Seek(0, io.SeekStart); err != nil {
		return 0, fmt.Errorf("temporary file: %w", err)
	}
	return size, s.Blobs.Put(ctx, key, file, size)
}

// refusal turns what sheet refuses into a problem.
func refusal(err error) error {
	if r, ok := errors.AsType[*sheet.ErrRefused](err); ok {
		return problem.RefusedField("/file", r.Code, "%s", r.Message)
	}
	return err
}
