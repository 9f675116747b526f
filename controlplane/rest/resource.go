package rest

import (
	"context"
	"net/url"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/list"
)

// Keys are what a caller may write of every object. The draft of a Resource embeds them.
type Keys struct {
	ExternalID *string        `json:"external_id,omitempty"`
	Metadata   map[string]any `json:"metadata,omitempty"`
}

func (k *Keys) keys() *Keys { return k }

// Drafted is a pointer to a struct that embeds Keys. It is inferred.
type Drafted[D any] interface {
	*D
	keys() *Keys
}

// Resource is what the operations that every resource has need to know of one: T is the row that is also the answer, D
// what a caller writes of it. D is the body of create and upsert, and what a merge patch is applied to.
type Resource[T, D any] struct {
	DB     *db.DB
	One    string // ends the operationIds: "Number", as in getNumber
	Many   string // "Numbers", as in listNumbers
	Prefix string // of the ids: "num"
	Table  list.Table
	Uses   []db.Use

	// Draft gives what callers have written of an object, without Keys.
	Draft func(object *T) D
	// Put writes a draft, without Keys, into an object, and refuses what the specification cannot. It runs in the
	// transaction that stores the object, before it is stored. A new object has an empty Etag; its id and account are set.
	Put func(ctx context.Context, tx *db.Tx, who auth.Caller, object *T, d D) error
	// Stored, where set, runs in the transaction after the object was stored.
	Stored func(ctx context.Context, tx *db.Tx, who auth.Caller, object *T) error
	// PutAhead and StoredMany, where set, serve who makes many new objects in one transaction. PutAhead runs before Put is
	// given each of the drafts, and reads together what Put will ask (db.Remember); StoredMany does for all what Stored
	// does for each.
	PutAhead   func(ctx context.Context, tx *db.Tx, who auth.Caller, drafts []D) error
	StoredMany func(ctx context.Context, tx *db.Tx, who auth.Caller, objects []T) error
	// Removing and Removed, where set, run in the transaction before and after the row goes.
	Removing func(ctx context.Context, tx *db.Tx, who auth.Caller, object *T) error
	Removed  func(ctx context.Context, tx *db.Tx, who auth.Caller, object *T) error
	// Exclusive, where set, runs every change as a whole, and may let only one run at a time.
	Exclusive func(ctx context.Context, change func(ctx context.Context) error) error
}

// Operations are the functions of the seven operations that every resource has: listNumbers, searchNumbers,
// createNumber, getNumber, updateNumber, deleteNumber and upsertNumber.
func Operations[T, D any, P db.Entity[T], Q Drafted[D]](r Resource[T, D]) map[string]Operation {
	w := writer[T, D, P, Q]{r}
	return map[string]Operation{
		"list" + r.Many:   List[T, P](r.DB, r.Table),
		"search" + r.Many: Search[T, P](r.DB, r.Table),
		"get" + r.One:     Get[T, P](r.DB),
		"create" + r.One:  Op(w.create),
		"update" + r.One:  Op(w.update),
		"delete" + r.One:  Op(w.remove),
		"upsert" + r.One:  Op(w.upsert),
	}
}

// Insert stores a new object as the operation create does, in a transaction that is open or its own. It does not go by
// Exclusive.
func Insert[T, D any, P db.Entity[T], Q Drafted[D]](ctx context.Context, conn db.Conn, r Resource[T, D], who auth.Caller, d D) (*T, error) {
	var made *T
	err := conn.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		var err error
		made, err = writer[T, D, P, Q]{r}.insert(ctx, tx, who, d)
		return err
	})
	if err != nil {
		return nil, err
	}
	return made, nil
}

// ListIn is the In of a list.
type ListIn struct {
	Query url.Values `query:"*"`
}

// List is the function of GET /v1/things.
func List[T any, P db.Entity[T]](conn db.Conn, table list.Table) Operation {
	return Op(func(ctx context.Context, who auth.Caller, in ListIn) (list.Page[T], error) {
		q, err := table.Parse(in.Query)
		if err != nil {
			return list.Page[T]{}, err
		}
		return list.Run[T, P](ctx, conn, who.Scope, q)
	})
}

// SearchIn is the In of a search.
type SearchIn struct {
	Body list.Search `body:"json"`
}

// Search is the function of POST /v1/things/search.
func Search[T any, P db.Entity[T]](conn db.Conn, table list.Table) Operation {
	return Op(func(ctx context.Context, who auth.Caller, in SearchIn) (list.Page[T], error) {
		q, err := table.ParseSearch(in.Body)
		if err != nil {
			return list.Page[T]{}, err
		}
		return list.Run[T, P](ctx, conn, who.Scope, q)
	})
}

// ByID is the In of an operation on one object.
type ByID struct {
	ID string `path:"*"`
}

// ChangeIn is the In of a change that needs no body.
type ChangeIn struct {
	ByID
	IfMatch string `header:"If-Match"`
}

// PatchIn is the In of a merge patch.
type PatchIn struct {
	ChangeIn
	Patch Patch `body:"json"`
}

// Get is the function of GET /v1/things/{thing_id}.
func Get[T any, P db.Entity[T]](conn db.Conn) Operation {
	return Op(func(ctx context.Context, who auth.Caller, in ByID) (*T, error) {
		return db.Get[T, P](ctx, conn, who.Scope, in.ID)
	})
}

type draftIn[D any] struct {
	Body D `body:"json"`
}

// writer has the methods of a resource that write.
type writer[T, D any, P db.Entity[T], Q Drafted[D]] struct{ Resource[T, D] }

func (w writer[T, D, P, Q]) exclusive(ctx context.Context, change func(ctx context.Context) error) error {
	if w.Exclusive == nil {
		return change(ctx)
	}
	return w.Exclusive(ctx, change)
}

func (w writer[T, D, P, Q]) create(ctx context.Context, who auth.Caller, in draftIn[D]) (*T, error) {
	var made *T
	err := w.exclusive(ctx, func(ctx context.Context) error {
		return w.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
			var err error
			made, err = w.insert(ctx, tx, who, in.Body)
			return err
		})
	})
	return made, err
}

func (w writer[T, D, P, Q]) insert(ctx context.Context, tx *db.Tx, who auth.Caller, d D) (*T, error) {
	made := new(T)
	row := db.RowOf[T, P](made)
	row.ID, row.AccountID = db.NewID(w.Prefix), who.Scope.AccountID()
	if err := w.put(ctx, tx, who, made, d); err != nil {
		return nil, err
	}
	if err := Own(who, made); err != nil {
		return nil, err
	}
	if err := db.Insert[T, P](ctx, tx, who.Scope, made); err != nil {
		return nil, err
	}
	return made, w.stored(ctx, tx, who, made)
}

// Own makes a new object of nobody its maker's where that one sees only what is their own, and refuses (403) one that the
// maker would not see.
func Own(who auth.Caller, object any) error {
	if o := db.Owner(object); o != nil && *o == (db.Owned{}) {
		if _, narrowed := who.Scope.Rows(); narrowed {
			o.OwnerID = who.UserID
		}
	}
	return db.MayHold(who.Scope, object)
}

// put writes a draft and its keys into an object.
func (w writer[T, D, P, Q]) put(ctx context.Context, tx *db.Tx, who auth.Caller, object *T, d D) error {
	row, keys := db.RowOf[T, P](object), Q(&d).keys()
	row.ExternalID, row.Metadata = keys.ExternalID, keys.Metadata
	return w.Put(ctx, tx, who, object, d)
}

func (w writer[T, D, P, Q]) stored(ctx context.Context, tx *db.Tx, who auth.Caller, object *T) error {
	if w.Stored == nil {
		return nil
	}
	return w.Stored(ctx, tx, who, object)
}

func (w writer[T, D, P, Q]) update(ctx context.Context, who auth.Caller, in PatchIn) (*T, error) {
	var changed *T
	err := w.exclusive(ctx, func(ctx context.Context) error {
		return w.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
			var err error
			changed, err = w.change(ctx, tx, who, in.ID, in.IfMatch, func(object *T) (D, error) {
				d, row := w.Draft(object), db.RowOf[T, P](object)
				*Q(&d).keys() = Keys{ExternalID: row.ExternalID, Metadata: row.Metadata}
				return d, in.Patch.Apply(&d)
			})
			return err
		})
	})
	return changed, err
}

// change makes an object what a draft says, which is drawn up from what the object was.
func (w writer[T, D, P, Q]) change(ctx context.Context, tx *db.Tx, who auth.Caller, id, ifMatch string, draft func(object *T) (D, error)) (*T, error) {
	changed, err := db.ChangeTx[T, P](ctx, tx, who.Scope, id, ifMatch, func(ctx context.Context, tx *db.Tx, object *T) error {
		d, err := draft(object)
		if err != nil {
			return err
		}
		return w.put(ctx, tx, who, object, d)
	})
	if err != nil {
		return nil, err
	}
	return changed, w.stored(ctx, tx, who, changed)
}

func (w writer[T, D, P, Q]) upsert(ctx context.Context, who auth.Caller, in UpsertIn[D]) (Answer, error) {
	var answer Answer
	err := w.exclusive(ctx, func(ctx context.Context) error {
		var err error
		answer, err = upserted(db.Upsert[T, P](ctx, w.DB, who.Scope, in.ExternalID, in.IfMatch, func(ctx context.Context, tx *db.Tx) (*T, error) {
			return w.insert(ctx, tx, who, in.Body)
		}, func(ctx context.Context, tx *db.Tx, id string) (*T, error) {
			return w.change(ctx, tx, who, id, in.IfMatch, func(*T) (D, error) { return in.Body, nil })
		}))
		return err
	})
	return answer, err
}

func (w writer[T, D, P, Q]) remove(ctx context.Context, who auth.Caller, in ChangeIn) (None, error) {
	return None{}, w.exclusive(ctx, func(ctx context.Context) error {
		return w.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
			object, err := db.Get[T, P](ctx, tx, who.Scope, in.ID)
			if err != nil {
				return err
			}
			if w.Removing != nil {
				if err := w.Removing(ctx, tx, who, object); err != nil {
					return err
				}
			}
			if err := db.Delete[T, P](ctx, tx, who.Scope, in.ID, in.IfMatch, w.Uses...); err != nil {
				return err
			}
			if w.Removed == nil {
				return nil
			}
			return w.Removed(ctx, tx, who, object)
		})
	})
}
