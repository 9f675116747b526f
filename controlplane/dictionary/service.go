package dictionary

import (
	"context"
	"database/sql"
	"errors"
	"maps"
	"net/url"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/list"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest"
)

// Service is the operations on dictionaries and their values.
type Service struct {
	DB  *db.DB
	Now func() time.Time // nil is db.Now
}

func (s *Service) now() time.Time {
	if s.Now == nil {
		return db.Now()
	}
	return s.Now()
}

// Operations are the functions of the specification's operations.
func (s *Service) Operations() map[string]rest.Operation {
	all := rest.Operations(s.dictionaries())
	maps.Copy(all, map[string]rest.Operation{
		"deleteDictionary":       rest.Op(s.remove), // instead of the general one: what is used is archived
		"restoreDictionary":      rest.Op(s.restore),
		"listDictionaryValues":   rest.Op(s.listValues),
		"searchDictionaryValues": rest.Op(s.searchValues),
		"createDictionaryValue":  rest.Op(s.createValue),
		"getDictionaryValue":     rest.Op(s.getValue),
		"updateDictionaryValue":  rest.Op(s.updateValue),
		"upsertDictionaryValue":  rest.Op(s.upsertValue),
		"deleteDictionaryValue":  rest.Op(s.removeValue),
		"restoreDictionaryValue": rest.Op(s.restoreValue),
	})
	return all
}

// written is what a caller writes of a dictionary.
type written struct {
	rest.Keys
	Draft
}

func (s *Service) dictionaries() rest.Resource[Dictionary, written] {
	return rest.Resource[Dictionary, written]{
		DB: s.DB, One: "Dictionary", Many: "Dictionaries", Prefix: "dict",
		Table: list.Table{
			Fields: list.Common(map[string]list.Field{"key": {Sort: true}, "archived_at": {Type: list.Time}}),
			Search: []string{"key", "label_zh", "label_en"},
		},
		Draft: func(d *Dictionary) written { return written{Draft: d.Draft} },
		Put: func(ctx context.Context, tx *db.Tx, who auth.Caller, d *Dictionary, w written) error {
			if d.Etag != "" && d.Key != w.Key {
				used, err := anyUsed(ctx, tx, who.Scope, d.ID)
				if err != nil {
					return err
				}
				if used {
					return problem.RefusedField("/key", "used", "stays while values of the dictionary are in use")
				}
			}
			d.Draft = w.Draft
			return d.Check()
		},
	}
}

// hold keeps others from using values until the transaction ends.
func hold(ctx context.Context, tx *db.Tx, scope auth.Scope, column, id string) error {
	_, err := tx.Write().NewUpdate().Model((*Value)(nil)).Set("used = used").
		Where("account_id = ?", scope.AccountID()).Where("? = ?", bun.Ident(column), id).Exec(ctx)
	return db.Check(err)
}

// anyUsed reports whether a value of the dictionary has been used, or stands above one of another; and that none is until
// the transaction ends.
func anyUsed(ctx context.Context, tx *db.Tx, scope auth.Scope, dictionaryID string) (bool, error) {
	if err := hold(ctx, tx, scope, "dictionary_id", dictionaryID); err != nil {
		return false, err
	}
	n, err := tx.Read().NewSelect().Model((*Value)(nil)).Where("dictionary_id = ?", dictionaryID).
		Where("(?TableAlias.used OR ?TableAlias.id IN (?))", tx.Read().NewSelect().Table("dictionary_values").Column("parent_id").
			Where("parent_id IS NOT NULL").Where("dictionary_id <> ?", dictionaryID)).Count(ctx)
	return n > 0, db.Check(err)
}

type byID struct {
	ID string `path:"dictionary_id"`
}

type changeIn struct {
	byID
	IfMatch string `header:"If-Match"`
}

// remove deletes a dictionary with its values, or archives it when one of these is in use.
func (s *Service) remove(ctx context.Context, who auth.Caller, in changeIn) (rest.None, error) {
	return rest.None{}, s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		used, err := anyUsed(ctx, tx, who.Scope, in.ID)
		if err != nil {
			return err
		}
		if !used {
			return db.Delete[Dictionary](ctx, tx, who.Scope, in.ID, in.IfMatch)
		}
		_, err = db.Change(ctx, tx, who.Scope, in.ID, in.IfMatch, func(d *Dictionary) error {
			d.ArchivedAt = s.archived(d.ArchivedAt)
			return nil
		})
		return err
	})
}

// archived is when something was archived first, or now.
func (s *Service) archived(before *time.Time) *time.Time {
	if before != nil {
		return before
	}
	now := s.now()
	return &now
}

func (s *Service) restore(ctx context.Context, who auth.Caller, in changeIn) (*Dictionary, error) {
	return db.Change(ctx, s.DB, who.Scope, in.ID, in.IfMatch, func(d *Dictionary) error {
		d.ArchivedAt = nil
		return nil
	})
}

func valueTable() list.Table {
	return list.Table{
		Fields: list.Common(map[string]list.Field{
			"key": {Sort: true}, "position": {Type: list.Int, Sort: true}, "enabled": {Type: list.Bool}, "used": {Type: list.Bool},
			"parent_id": {}, "archived_at": {Type: list.Time},
		}),
		Sort:   "position",
		Search: []string{"key", "label_zh", "label_en"},
	}
}

// of narrows a query to the values of a dictionary.
func of(dictionaryID string) func(*bun.SelectQuery) *bun.SelectQuery {
	return func(q *bun.SelectQuery) *bun.SelectQuery {
		return q.Where("?TableAlias.dictionary_id = ?", dictionaryID)
	}
}

type listIn struct {
	byID
	Query url.Values `query:"*"`
}

func (s *Service) listValues(ctx context.Context, who auth.Caller, in listIn) (list.Page[Value], error) {
	q, err := valueTable().Parse(in.Query)
	if err != nil {
		return list.Page[Value]{}, err
	}
	return s.page(ctx, who, in.ID, q)
}

type searchIn struct {
	byID
	Body list.Search `body:"json"`
}

func (s *Service) searchValues(ctx context.Context, who auth.Caller, in searchIn) (list.Page[Value], error) {
	q, err := valueTable().ParseSearch(in.Body)
	if err != nil {
		return list.Page[Value]{}, err
	}
	return s.page(ctx, who, in.ID, q)
}

func (s *Service) page(ctx context.Context, who auth.Caller, dictionaryID string, q list.Query) (list.Page[Value], error) {
	if _, err := db.Get[Dictionary](ctx, s.DB, who.Scope, dictionaryID); err != nil {
		return list.Page[Value]{}, err
	}
	return list.Run[Value](ctx, s.DB, who.Scope, q, of(dictionaryID))
}

// writtenValue is what a caller writes of a value.
type writtenValue struct {
	rest.Keys
	ValueDraft
}

type createIn struct {
	byID
	Body writtenValue `body:"json"`
}

func (s *Service) createValue(ctx context.Context, who auth.Caller, in createIn) (*Value, error) {
	var v *Value
	err := s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		var err error
		v, err = insert(ctx, tx, who.Scope, in.ID, in.Body)
		return err
	})
	return v, err
}

func insert(ctx context.Context, tx *db.Tx, scope auth.Scope, dictionaryID string, w writtenValue) (*Value, error) {
	if _, err := db.Get[Dictionary](ctx, tx, scope, dictionaryID); err != nil {
		return nil, err
	}
	v := &Value{Row: db.Row{ID: db.NewID("dval")}, DictionaryID: dictionaryID}
	if err := v.become(ctx, tx, scope, w); err != nil {
		return nil, err
	}
	return v, db.Insert(ctx, tx, scope, v)
}

// become makes the value what is wanted, and checks it.
func (v *Value) become(ctx context.Context, tx *db.Tx, scope auth.Scope, to writtenValue) error {
	if v.Used && v.Key != to.Key {
		return problem.RefusedField("/key", "used", "is stored where the value was chosen, and so stays %q; change the label, or add another value", v.Key)
	}
	v.ExternalID, v.Metadata, v.ValueDraft = to.ExternalID, to.Metadata, to.ValueDraft
	if err := v.Check(); err != nil {
		return err
	}
	return v.below(ctx, tx, scope)
}

// below checks that the values above this one exist, and that it is none of them.
func (v *Value) below(ctx context.Context, tx *db.Tx, scope auth.Scope) error {
	parent := v.ParentID
	for range maxDepth {
		if parent == "" {
			return nil
		}
		if parent == v.ID {
			return problem.RefusedField("/parent_id", "loop", "is this value, or one below it")
		}
		above, err := db.Get[Value](ctx, tx, scope, parent)
		if problem.From(err).Code == problem.CodeNotFound {
			return problem.RefusedField("/parent_id", "unknown", "there is no value %q in this account", parent)
		}
		if err != nil {
			return err
		}
		parent = above.ParentID
	}
	return problem.RefusedField("/parent_id", "depth", "values may stand at most %d deep", maxDepth)
}

type valueByID struct {
	byID
	ValueID string `path:"value_id"`
}

func (s *Service) getValue(ctx context.Context, who auth.Caller, in valueByID) (*Value, error) {
	return value(ctx, s.DB, who.Scope, in)
}

// value reads a value of the dictionary in the path.
func value(ctx context.Context, conn db.Conn, scope auth.Scope, in valueByID) (*Value, error) {
	v, err := db.Get[Value](ctx, conn, scope, in.ValueID)
	if err == nil && v.DictionaryID != in.ID {
		return nil, problem.NoSuch(in.ValueID)
	}
	return v, err
}

type updateIn struct {
	valueByID
	IfMatch string     `header:"If-Match"`
	Patch   rest.Patch `body:"json"`
}

func (s *Service) updateValue(ctx context.Context, who auth.Caller, in updateIn) (*Value, error) {
	return s.change(ctx, who, in.valueByID, in.IfMatch, func(ctx context.Context, tx *db.Tx, v *Value) error {
		w := writtenValue{Keys: rest.Keys{ExternalID: v.ExternalID, Metadata: v.Metadata}, ValueDraft: v.ValueDraft}
		if err := in.Patch.Apply(&w); err != nil {
			return err
		}
		return v.become(ctx, tx, who.Scope, w)
	})
}

// change is db.ChangeTx for a value of the dictionary in the path.
func (s *Service) change(ctx context.Context, who auth.Caller, in valueByID, ifMatch string, fn func(context.Context, *db.Tx, *Value) error) (*Value, error) {
	return db.ChangeTx(ctx, s.DB, who.Scope, in.ValueID, ifMatch, func(ctx context.Context, tx *db.Tx, v *Value) error {
		if v.DictionaryID != in.ID {
			return problem.NoSuch(in.ValueID)
		}
		return fn(ctx, tx, v)
	})
}

type upsertIn struct {
	byID
	ExternalID string       `path:"external_id"`
	IfMatch    string       `header:"If-Match"`
	Body       writtenValue `body:"json"`
}

func (s *Service) upsertValue(ctx context.Context, who auth.Caller, in upsertIn) (rest.Answer, error) {
	if _, err := db.Get[Dictionary](ctx, s.DB, who.Scope, in.ID); err != nil {
		return rest.Answer{}, err
	}
	return rest.Upsert(ctx, s.DB, who, in.ExternalID, in.IfMatch,
		func(ctx context.Context, tx *db.Tx) (*Value, error) {
			return insert(ctx, tx, who.Scope, in.ID, in.Body)
		},
		func(ctx context.Context, tx *db.Tx, v *Value) error {
			if v.DictionaryID != in.ID {
				return problem.Conflict("a value of another dictionary has this external_id",
					problem.Field("/external_id", "duplicate", "is that of a value of %s", v.DictionaryID))
			}
			return v.become(ctx, tx, who.Scope, in.Body)
		})
}

type changeValueIn struct {
	valueByID
	IfMatch string `header:"If-Match"`
}

// removeValue deletes a value, or archives it when it is in use. One that others stand below stays.
func (s *Service) removeValue(ctx context.Context, who auth.Caller, in changeValueIn) (rest.None, error) {
	return rest.None{}, s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := hold(ctx, tx, who.Scope, "id", in.ValueID); err != nil {
			return err
		}
		v, err := value(ctx, tx, who.Scope, in.valueByID)
		if err != nil {
			return err
		}
		if !v.Used {
			return db.Delete[Value](ctx, tx, who.Scope, in.ValueID, in.IfMatch,
				db.Use{Table: "dictionary_values", Column: "parent_id", Name: "value"})
		}
		_, err = db.Change(ctx, tx, who.Scope, in.ValueID, in.IfMatch, func(v *Value) error {
			v.ArchivedAt = s.archived(v.ArchivedAt)
			return nil
		})
		return err
	})
}

func (s *Service) restoreValue(ctx context.Context, who auth.Caller, in changeValueIn) (*Value, error) {
	return s.change(ctx, who, in.valueByID, in.IfMatch, func(_ context.Context, _ *db.Tx, v *Value) error {
		v.ArchivedAt = nil
		return nil
	})
}

// Find reads a value by the keys of its dictionary and its own; found is false when there is none.
func Find(ctx context.Context, conn db.Conn, scope auth.Scope, dictionary, key string) (v *Value, found bool, err error) {
	d, found, err := named(ctx, conn, scope, dictionary)
	if err != nil || !found {
		return nil, false, err
	}
	return d.value(ctx, conn, scope, key)
}

// named reads a dictionary by its key.
func named(ctx context.Context, conn db.Conn, scope auth.Scope, key string) (d *Dictionary, found bool, err error) {
	return one(db.Find[Dictionary](ctx, conn, scope, func(q *bun.SelectQuery) *bun.SelectQuery { return q.Where("?TableAlias.key = ?", key) }))
}

// value reads one of the dictionary's values by its key.
func (d *Dictionary) value(ctx context.Context, conn db.Conn, scope auth.Scope, key string) (v *Value, found bool, err error) {
	return one(db.Find[Value](ctx, conn, scope, func(q *bun.SelectQuery) *bun.SelectQuery {
		return q.Where("?TableAlias.key = ?", key).Where("?TableAlias.dictionary_id = ?", d.ID)
	}))
}

// one turns the absence of a row into found false.
func one[T any](row *T, err error) (*T, bool, error) {
	if errors.Is(err, sql.ErrNoRows) {
		return nil, false, nil
	}
	return row, err == nil, err
}

// Use is asked before a value's key is stored somewhere for the first time, in the transaction that stores it: it is
// Refused, naming pointer, when the value cannot be chosen (there is none, it is not enabled, it or its dictionary is
// archived, or parent, the key chosen above it, is not that of its parent), and else marks the value as used. A key that
// is stored already and stays needs no asking.
func Use(ctx context.Context, tx *db.Tx, scope auth.Scope, dictionary, key, parent, pointer string) error {
	d, found, err := named(ctx, tx, scope, dictionary)
	var v *Value
	if found {
		v, found, err = d.value(ctx, tx, scope, key)
	}
	switch {
	case err != nil:
		return err
	case !found:
		return problem.RefusedField(pointer, "unknown", "is no value of the dictionary %s: %q", dictionary, key)
	case d.ArchivedAt != nil:
		return problem.RefusedField(pointer, "disabled", "the dictionary %s is archived", dictionary)
	case !v.Enabled || v.ArchivedAt != nil:
		return problem.RefusedField(pointer, "disabled", "can no longer be chosen: %q of the dictionary %s", key, dictionary)
	}
	if v.ParentID != "" {
		above, err := db.Get[Value](ctx, tx, scope, v.ParentID)
		if err != nil {
			return err
		}
		if above.Key != parent {
			return problem.RefusedField(pointer, "parent", "%q belongs to %q, not to %q", key, above.Key, parent)
		}
	}
	if v.Used {
		return nil
	}
	// Not a change that anyone's If-Match should notice.
	done, err := tx.Write().NewUpdate().Model((*Value)(nil)).Set("used = ?", true).Where("id = ?", v.ID).Exec(ctx)
	if err != nil {
		return db.Check(err)
	}
	if n, err := done.RowsAffected(); err != nil || n == 0 {
		return errors.Join(err, problem.RefusedField(pointer, "unknown", "was deleted from the dictionary %s just now: %q", dictionary, key))
	}
	return nil
}

// Row is one line of an import: a value by the key of its dictionary, which must exist, and of its parent.
type Row struct {
	Dictionary string
	// ParentDictionary is the dictionary of Parent; the value's own when empty.
	ParentDictionary string
	Parent           string // key; empty for none
	ValueDraft
}

// Put stores a line of an import: the value with this key in this dictionary is made, or becomes what the line says.
// What is wrong with a line is a Problem, and changes nothing.
func Put(ctx context.Context, tx *db.Tx, scope auth.Scope, row Row) (created bool, err error) {
	d, found, err := named(ctx, tx, scope, row.Dictionary)
	switch {
	case err != nil:
		return false, err
	case !found:
		return false, problem.RefusedField("/dictionary", "unknown", "there is no dictionary %q in this account", row.Dictionary)
	}
	if row.ParentID, err = row.above(ctx, tx, scope); err != nil {
		return false, err
	}
	v, found, err := d.value(ctx, tx, scope, row.Key)
	switch {
	case err != nil:
		return false, err
	case !found:
		_, err := insert(ctx, tx, scope, d.ID, writtenValue{ValueDraft: row.ValueDraft})
		return err == nil, err
	}
	_, err = db.ChangeTx(ctx, tx, scope, v.ID, "", func(ctx context.Context, tx *db.Tx, v *Value) error {
		return v.become(ctx, tx, scope, writtenValue{Keys: rest.Keys{ExternalID: v.ExternalID, Metadata: v.Metadata}, ValueDraft: row.ValueDraft})
	})
	return false, err
}

// above is the id of the row's parent, "" for none.
func (r Row) above(ctx context.Context, tx *db.Tx, scope auth.Scope) (string, error) {
	if r.Parent == "" {
		return "", nil
	}
	in := r.ParentDictionary
	if in == "" {
		in = r.Dictionary
	}
	v, found, err := Find(ctx, tx, scope, in, r.Parent)
	switch {
	case err != nil:
		return "", err
	case !found:
		return "", problem.RefusedField("/parent", "unknown", "is no value of the dictionary %s: %q", in, r.Parent)
	}
	return v.ID, nil
}
