package transfer

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest"
)

// Type is what a column's text becomes in the JSON of a resource.
type Type int

// The types.
const (
	Text    Type = iota
	Integer      // a whole number
	Boolean      // true, false, yes, no, 1, 0, 是, 否
	JSON         // as it is written
	Values       // an array of the texts between commas, semicolons or line ends
)

// Member is a column of a resource whose objects are JSON: the member of the body of its create operation that has the
// column's name, or the one that Path names ("label.zh").
type Member struct {
	Column
	Type Type
	Path string
	// Read, where set, makes the JSON of the text instead of Type.
	Read func(text string) (any, error)
	// Find, where set, looks up together what texts stand for, as ids for names, and gives the function that tells it of
	// each. What is not found is a Problem.
	Find func(ctx context.Context, tx *db.Tx, who auth.Caller, texts []string) (found, error)
}

// found tells what a text stands for.
type found func(text string) (any, error)

// finds is what was looked up for some rows, by the names of the members that have a Find.
type finds map[string]found

// Shape says how the rows of a table become objects of a rest.Resource.
type Shape struct {
	Name    string // "numbers"
	Label   Label
	Members []Member
	// Key is the member whose value, beside external_id, tells which object a row is: its name, which is that of the
	// database's column too. Empty when there is none.
	Key string
	// Normal gives the function that brings the key into the form in which it is stored; ok is false for what is no key.
	// It is called once for each batch. nil leaves it as it is.
	Normal func(ctx context.Context, tx *db.Tx, who auth.Caller) (func(text string) (key string, ok bool), error)
	// Together writes new objects with one statement. Put may then use its transaction for reading alone, or must be
	// harmless when it is undone, and what is Stored with an object must be StoredMany.
	Together bool
}

// Of makes an import of a resource of the REST API: what is written goes through its Put, is checked against the
// specification of its create and update operations, and follows who may see which row.
func Of[T, D any, P db.Entity[T], Q rest.Drafted[D]](direct func() *rest.Direct, r rest.Resource[T, D], s Shape) Resource {
	o := of[T, D, P, Q]{direct: direct, resource: r, shape: s}
	made := Resource{
		Name: s.Name, Permission: s.Name + ".write", Label: s.Label,
		Import: o.one, Remove: o.remove, Restore: o.restore, Around: r.Exclusive,
	}
	for _, m := range s.Members {
		made.Columns = append(made.Columns, m.Column)
	}
	if s.Together && (r.Stored == nil || r.StoredMany != nil) {
		made.Bulk = o.many
		made.Prepare = o.prepare
	}
	return made
}

// of is the methods of one resource.
type of[T, D any, P db.Entity[T], Q rest.Drafted[D]] struct {
	direct   func() *rest.Direct
	resource rest.Resource[T, D]
	shape    Shape
}

const externalID = "external_id"

// lookUp looks up what rows name.
func (o of[T, D, P, Q]) lookUp(ctx context.Context, tx *db.Tx, who auth.Caller, rows ...map[string]string) (finds, error) {
	known := finds{}
	for _, m := range o.shape.Members {
		if m.Find == nil {
			continue
		}
		var texts []string
		for _, row := range rows {
			if text, there := row[m.Name]; there {
				texts = append(texts, text)
			}
		}
		if len(texts) == 0 {
			continue
		}
		slices.Sort(texts)
		var err error
		if known[m.Name], err = m.Find(ctx, tx, who, slices.Compact(texts)); err != nil {
			return nil, err
		}
	}
	return known, nil
}

// body makes the JSON of a row, what it names being looked up.
func (o of[T, D, P, Q]) body(row map[string]string, known finds) (map[string]any, error) {
	body := map[string]any{}
	for _, m := range o.shape.Members {
		text, there := row[m.Name]
		if !there {
			continue
		}
		value, err := m.value(text, known)
		if err != nil {
			return nil, err
		}
		at, path := body, strings.Split(m.path(), ".")
		for _, part := range path[:len(path)-1] {
			inner, ok := at[part].(map[string]any)
			if !ok {
				inner = map[string]any{}
				at[part] = inner
			}
			at = inner
		}
		at[path[len(path)-1]] = value
	}
	return body, nil
}

func (m Member) path() string {
	if m.Path != "" {
		return m.Path
	}
	return m.Name
}

func (m Member) value(text string, known finds) (any, error) {
	if m.Find != nil {
		return known[m.Name](text)
	}
	read := m.Type.value
	if m.Read != nil {
		read = m.Read
	}
	value, err := read(text)
	if err != nil {
		return nil, problem.InvalidField("/"+m.Name, "type", "%s", err.Error())
	}
	return value, nil
}

// value is a text as JSON of the type.
func (k Type) value(text string) (any, error) {
	switch k {
	case Integer:
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("must be a whole number, is %q", text)
		}
		return json.Number(strconv.FormatInt(n, 10)), nil
	case Boolean:
		switch strings.ToLower(text) {
		case "true", "yes", "y", "1", "是", "启用":
			return true, nil
		case "false", "no", "n", "0", "否", "停用":
			return false, nil
		}
		return nil, fmt.Errorf("must be yes or no, is %q", text)
	case JSON:
		var value any
		d := json.NewDecoder(strings.NewReader(text))
		d.UseNumber()
		if err := d.Decode(&value); err != nil || d.More() {
			return nil, errors.New("must be JSON")
		}
		return value, nil
	case Values:
		values := []any{}
		for _, each := range strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(",;，；、\n", r) }) {
			if each = strings.TrimSpace(each); each != "" {
				values = append(values, each)
			}
		}
		return values, nil
	}
	if !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' && r != '\r' }) {
		return nil, errors.New("has characters that are no text")
	}
	return text, nil
}

// key gives the stored form of a row's key, "" when the row has none.
func (o of[T, D, P, Q]) key(row map[string]string, normal func(string) (string, bool)) (string, error) {
	text := row[o.shape.Key]
	if o.shape.Key == "" || text == "" || normal == nil {
		return text, nil
	}
	key, ok := normal(text)
	if !ok {
		// Put says what it must be.
		return "", nil
	}
	return key, nil
}

func (o of[T, D, P, Q]) normal(ctx context.Context, tx *db.Tx, who auth.Caller) (func(string) (string, bool), error) {
	if o.shape.Normal == nil {
		return nil, nil
	}
	return o.shape.Normal(ctx, tx, who)
}

// find gives the object that a row is about, nil when there is none. Two ids that lead to two objects are a Conflict, and
// so is a key that would have to change and cannot.
func (o of[T, D, P, Q]) find(ctx context.Context, tx *db.Tx, who auth.Caller, row map[string]string) (*T, error) {
	normal, err := o.normal(ctx, tx, who)
	if err != nil {
		return nil, err
	}
	key, err := o.key(row, normal)
	if err != nil {
		return nil, err
	}
	var found *T
	byKey := false
	for _, by := range []struct{ column, value string }{{externalID, row[externalID]}, {o.shape.Key, key}} {
		if by.column == "" || by.value == "" {
			continue
		}
		object, err := db.Find[T, P](ctx, tx, who.Scope, func(q *bun.SelectQuery) *bun.SelectQuery {
			return q.Where("?TableAlias.? = ?", bun.Ident(by.column), by.value)
		})
		if errors.Is(err, sql.ErrNoRows) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if found != nil && db.RowOf[T, P](found).ID != db.RowOf[T, P](object).ID {
			return nil, problem.Conflict(fmt.Sprintf("external_id and %s are those of two different objects", o.shape.Key))
		}
		found, byKey = object, by.column == o.shape.Key
	}
	if found != nil && key != "" && !byKey && o.fixed() {
		return nil, problem.Conflict(fmt.Sprintf("this external_id is that of an object with another %s, which cannot be changed", o.shape.Key))
	}
	return found, nil
}

// fixed reports whether the key stays once the object is there.
func (o of[T, D, P, Q]) fixed() bool {
	return o.shape.Key != "" && !o.direct().Takes("update"+o.resource.One, o.shape.Key)
}

// one is Resource.Import.
func (o of[T, D, P, Q]) one(ctx context.Context, tx *db.Tx, who auth.Caller, row map[string]string, on OnDuplicate) (Outcome, error) {
	found, err := o.find(ctx, tx, who, row)
	if err != nil {
		return Outcome{}, err
	}
	known, err := o.lookUp(ctx, tx, who, row)
	if err != nil {
		return Outcome{}, err
	}
	body, err := o.body(row, known)
	if err != nil {
		return Outcome{}, err
	}
	if found == nil {
		return o.create(ctx, tx, who, body)
	}
	if outcome, done := duplicate(on, db.RowOf[T, P](found).ID); done {
		return outcome, nil
	}
	return o.update(ctx, tx, who, db.RowOf[T, P](found).ID, row, body)
}

// duplicate is the outcome of a row whose object exists, unless that is to be updated.
func duplicate(on OnDuplicate, id string) (Outcome, bool) {
	switch on {
	case Skip:
		return Outcome{Verdict: Skipped, ObjectID: id, Reason: "is there already"}, true
	case Fail:
		return Outcome{Verdict: Wrong, ObjectID: id, Reason: "is there already; choose to skip or to update what is"}, true
	}
	return Outcome{}, false
}

// draft makes the draft of a new object.
func (o of[T, D, P, Q]) draft(body map[string]any) (d D, err error) {
	text, err := o.direct().Body("create"+o.resource.One, body, false)
	if err != nil {
		return d, err
	}
	if err := json.Unmarshal(text, &d); err != nil {
		return d, problem.Invalid("this cannot be read: " + err.Error())
	}
	return d, nil
}

func (o of[T, D, P, Q]) create(ctx context.Context, tx *db.Tx, who auth.Caller, body map[string]any) (Outcome, error) {
	d, err := o.draft(body)
	if err != nil {
		return Outcome{}, err
	}
	made, err := rest.Insert[T, D, P, Q](ctx, tx, o.resource, who, d)
	if err != nil {
		return Outcome{}, err
	}
	id, etag := db.RowOf[T, P](made).Identity()
	return Outcome{Verdict: Created, ObjectID: id, Etag: etag}, nil
}

// update changes what the row has cells for. A row that changes nothing is skipped.
func (o of[T, D, P, Q]) update(ctx context.Context, tx *db.Tx, who auth.Caller, id string, row map[string]string, body map[string]any) (Outcome, error) {
	if o.fixed() {
		delete(body, o.shape.Key) // find has made sure that it is the same
	}
	patch, err := o.direct().Body("update"+o.resource.One, body, true)
	if err != nil {
		return Outcome{}, err
	}
	outcome := Outcome{Verdict: Updated, ObjectID: id}
	changed, err := db.ChangeTx[T, P](ctx, tx, who.Scope, id, "", func(ctx context.Context, tx *db.Tx, object *T) error {
		d := o.drawn(object)
		before, err := json.Marshal(d)
		if err != nil {
			return err
		}
		if err := rest.Patch(patch).Apply(&d); err != nil {
			return err
		}
		// Whoever may not see numbers is not told that one is right either.
		if after, err := json.Marshal(d); err != nil || (bytes.Equal(before, after) && !who.Mask.Numbers) {
			return errors.Join(err, errSame)
		}
		at := db.RowOf[T, P](object).UpdatedAt
		outcome.Before, outcome.BeforeAt = before, &at
		return o.put(ctx, tx, who, object, d)
	})
	if errors.Is(err, errSame) {
		return Outcome{Verdict: Skipped, ObjectID: id, Reason: "has nothing that is not so already"}, nil
	}
	if err != nil {
		return Outcome{}, err
	}
	outcome.Etag = db.RowOf[T, P](changed).Etag
	for _, m := range o.shape.Members {
		if _, given := row[m.Name]; given && m.Secret {
			outcome.Column, outcome.Reason = m.Name, "a revert cannot bring back what it was"
		}
	}
	return outcome, o.stored(ctx, tx, who, changed)
}

// errSame is a change that changes nothing.
var errSame = errors.New("transfer: nothing to change")

// drawn is the draft of an object as it is.
func (o of[T, D, P, Q]) drawn(object *T) D {
	d, row := o.resource.Draft(object), db.RowOf[T, P](object)
	*rest.KeysOf[D, Q](&d) = rest.Keys{ExternalID: row.ExternalID, Metadata: row.Metadata}
	return d
}

// put writes a draft into an object.
func (o of[T, D, P, Q]) put(ctx context.Context, tx *db.Tx, who auth.Caller, object *T, d D) error {
	row, keys := db.RowOf[T, P](object), rest.KeysOf[D, Q](&d)
	row.ExternalID, row.Metadata = keys.ExternalID, keys.Metadata
	return o.resource.Put(ctx, tx, who, object, d)
}

func (o of[T, D, P, Q]) stored(ctx context.Context, tx *db.Tx, who auth.Caller, object *T) error {
	if o.resource.Stored == nil {
		return nil
	}
	return o.resource.Stored(ctx, tx, who, object)
}

// restore is Resource.Restore.
func (o of[T, D, P, Q]) restore(ctx context.Context, tx *db.Tx, who auth.Caller, id, etag string, before json.RawMessage) (string, error) {
	changed, err := db.ChangeTx[T, P](ctx, tx, who.Scope, id, etag, func(ctx context.Context, tx *db.Tx, object *T) error {
		var d D
		if err := json.Unmarshal(before, &d); err != nil {
			return fmt.Errorf("restore %s: %w", id, err)
		}
		return o.put(ctx, tx, who, object, d)
	})
	if err != nil {
		return "", err
	}
	return db.RowOf[T, P](changed).Etag, o.stored(ctx, tx, who, changed)
}

// remove is Resource.Remove.
func (o of[T, D, P, Q]) remove(ctx context.Context, tx *db.Tx, who auth.Caller, id, etag string) error {
	object, err := db.Get[T, P](ctx, tx, who.Scope, id)
	if err != nil {
		return err
	}
	if o.resource.Removing != nil {
		if err := o.resource.Removing(ctx, tx, who, object); err != nil {
			return err
		}
	}
	if err := db.Delete[T, P](ctx, tx, who.Scope, id, etag, o.resource.Uses...); err != nil {
		return err
	}
	if o.resource.Removed == nil {
		return nil
	}
	return o.resource.Removed(ctx, tx, who, object)
}

// prepared is a draft, or what is wrong with its row. It is neither where only the transaction can say.
type prepared[D any] struct {
	draft D
	err   error
	there bool
}

// prepare is Resource.Prepare: the drafts of rows that name nothing which must be looked up.
func (o of[T, D, P, Q]) prepare(rows []map[string]string) any {
	drafts := make([]prepared[D], len(rows))
	for i, row := range rows {
		if slices.ContainsFunc(o.shape.Members, func(m Member) bool { return m.Find != nil && row[m.Name] != "" }) {
			continue
		}
		p := &drafts[i]
		p.draft, p.err = o.made(row, nil)
		_, wrong := rowError(p.err)
		p.there = p.err == nil || wrong
	}
	return drafts
}

// made is the draft of a row.
func (o of[T, D, P, Q]) made(row map[string]string, known finds) (d D, err error) {
	body, err := o.body(row, known)
	if err != nil {
		return d, err
	}
	return o.draft(body)
}

// many is Resource.Bulk.
func (o of[T, D, P, Q]) many(ctx context.Context, tx *db.Tx, who auth.Caller, rows []map[string]string, ready any, on OnDuplicate) ([]Outcome, error) {
	drafts := ready.([]prepared[D])
	outcomes := make([]Outcome, len(rows))
	known, err := o.lookUp(ctx, tx, who, rows...)
	if err != nil {
		return nil, err
	}
	normal, err := o.normal(ctx, tx, who)
	if err != nil {
		return nil, err
	}
	keys := make([]string, len(rows))
	var byKey, byExternal []string
	for i, row := range rows {
		if keys[i], err = o.key(row, normal); err != nil {
			return nil, err
		}
		if keys[i] != "" {
			byKey = append(byKey, keys[i])
		}
		if id := row[externalID]; id != "" {
			byExternal = append(byExternal, id)
		}
	}
	taken := map[string]string{} // column and value → object id; "" for one of an earlier row
	if err := o.taken(ctx, tx, who, o.shape.Key, byKey, taken); err != nil {
		return nil, err
	}
	if err := o.taken(ctx, tx, who, externalID, byExternal, taken); err != nil {
		return nil, err
	}
	var places []int // of the rows that make new objects
	for i, row := range rows {
		switch id, found := o.known(taken, keys[i], row[externalID]); {
		case !found:
			places = append(places, i)
		case id != "":
			outcomes[i] = o.there(row, known, on, id)
		}
	}
	fresh, places, err := o.objects(ctx, tx, who, places, outcomes, func(i int) (D, error) {
		if drafts[i].there {
			return drafts[i].draft, drafts[i].err
		}
		return o.made(rows[i], known)
	})
	if err != nil {
		return nil, err
	}
	if err := db.InsertMany(ctx, tx, who.Scope, fresh); err != nil {
		return nil, err
	}
	if o.resource.StoredMany != nil {
		if err := o.resource.StoredMany(ctx, tx, who, fresh); err != nil {
			return nil, err
		}
	}
	for n, i := range places {
		id, etag := db.RowOf[T, P](&fresh[n]).Identity()
		outcomes[i] = Outcome{Verdict: Created, ObjectID: id, Etag: etag}
	}
	return outcomes, nil
}

// there is the outcome of a row whose object exists: as Import gives it, or none where the object is to be updated.
func (o of[T, D, P, Q]) there(row map[string]string, known finds, on OnDuplicate, id string) Outcome {
	outcome, done := duplicate(on, id)
	if !done {
		return Outcome{}
	}
	if _, err := o.body(row, known); err != nil {
		if p, ok := rowError(err); ok {
			return wrong(p)
		}
		return Outcome{} // Import will say the same
	}
	return outcome
}

// objects makes the new objects of the rows at some places, and gives those that are good, with their places. What is wrong
// with the others is among the outcomes.
func (o of[T, D, P, Q]) objects(ctx context.Context, tx *db.Tx, who auth.Caller, places []int, outcomes []Outcome, draft func(i int) (D, error)) ([]T, []int, error) {
	drafts, good := make([]D, 0, len(places)), make([]int, 0, len(places))
	fails := func(i int, err error) error {
		p, ok := rowError(err)
		if ok {
			outcomes[i] = wrong(p)
			return nil
		}
		return err
	}
	for _, i := range places {
		d, err := draft(i)
		if err == nil {
			drafts, good = append(drafts, d), append(good, i)
		} else if err := fails(i, err); err != nil {
			return nil, nil, err
		}
	}
	if o.resource.PutAhead != nil {
		if err := o.resource.PutAhead(ctx, tx, who, drafts); err != nil {
			return nil, nil, err
		}
	}
	fresh, stored := make([]T, 0, len(good)), make([]int, 0, len(good))
	for n, i := range good {
		object, err := o.object(ctx, tx, who, drafts[n])
		if err == nil {
			fresh, stored = append(fresh, *object), append(stored, i)
		} else if err := fails(i, err); err != nil {
			return nil, nil, err
		}
	}
	return fresh, stored, nil
}

// known looks a row's object up among those that are taken, and adds what is not. The id is empty where only Import can
// say what becomes of the row: its object is made by an earlier one, or its two ids do not agree.
func (o of[T, D, P, Q]) known(taken map[string]string, key, external string) (id string, found bool) {
	byKey, hasKey := taken[o.shape.Key+"="+key]
	byExternal, hasExternal := taken[externalID+"="+external]
	hasKey, hasExternal = hasKey && key != "", hasExternal && external != ""
	if key != "" && !hasKey {
		taken[o.shape.Key+"="+key] = ""
	}
	if external != "" && !hasExternal {
		taken[externalID+"="+external] = ""
	}
	switch {
	case hasKey && hasExternal && byKey != byExternal, hasExternal && key != "" && !hasKey:
		return "", true
	case hasKey:
		return byKey, true
	}
	return byExternal, hasExternal
}

// taken finds which values of a column objects have already. One that the caller may not see has no id: Import says that it
// is in the way.
func (o of[T, D, P, Q]) taken(ctx context.Context, tx *db.Tx, who auth.Caller, column string, values []string, into map[string]string) error {
	if column == "" || len(values) == 0 {
		return nil
	}
	if _, narrowed := who.Scope.Rows(); narrowed && db.Owner(new(T)) != nil {
		if err := o.having(ctx, tx, auth.Account(who.Scope.AccountID()), column, values, func(value, _ string) { into[column+"="+value] = "" }); err != nil {
			return err
		}
	}
	return o.having(ctx, tx, who.Scope, column, values, func(value, id string) { into[column+"="+value] = id })
}

// having tells the objects within a scope that have one of some values in a column.
func (o of[T, D, P, Q]) having(ctx context.Context, tx *db.Tx, scope auth.Scope, column string, values []string, tell func(value, id string)) error {
	var found []struct {
		ID    string `bun:"id"`
		Value string `bun:"value"`
	}
	among, args := db.AnyOf(tx, column, values)
	err := db.Select[T](tx, scope).Column("id").ColumnExpr("?TableAlias.? AS value", bun.Ident(column)).
		Where(among, args...).Scan(ctx, &found)
	if err != nil {
		return db.Check(err)
	}
	for _, f := range found {
		tell(f.Value, f.ID)
	}
	return nil
}

// object makes a new object as rest.Insert does, but for storing it.
func (o of[T, D, P, Q]) object(ctx context.Context, tx *db.Tx, who auth.Caller, d D) (*T, error) {
	made := new(T)
	r := db.RowOf[T, P](made)
	r.ID, r.AccountID = db.NewID(o.resource.Prefix), who.Scope.AccountID()
	if err := o.put(ctx, tx, who, made, d); err != nil {
		return nil, err
	}
	if err := rest.Own(who, made); err != nil {
		return nil, err
	}
	if r.Metadata == nil {
		r.Metadata = map[string]any{}
	}
	if text, err := json.Marshal(r.Metadata); err != nil || len(text) > db.MaxMetadata {
		return nil, problem.RefusedField("/metadata", "size", "may have at most %d bytes as JSON", db.MaxMetadata)
	}
	r.CreatedAt = db.Now()
	r.UpdatedAt, r.Etag = r.CreatedAt, "1"
	return made, nil
}
