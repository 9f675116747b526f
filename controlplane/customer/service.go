package customer

import (
	"context"
	"database/sql"
	"errors"
	"slices"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/account"
	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/list"
	"github.com/hookswitch/hookswitch/controlplane/number"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest"
	"github.com/hookswitch/hookswitch/webhooks"
)

// Service is the operations on customers, and what others ask of them.
type Service struct {
	DB *db.DB
}

// Operations are the functions of customers.yaml.
func (s *Service) Operations() map[string]rest.Operation {
	all := rest.Operations(s.Resource())
	all["listCustomers"], all["searchCustomers"] = rest.Op(s.list), rest.Op(s.search)
	return all
}

// Written is what a caller writes of a customer. Whose it is, is written too: without a department it is in that of its
// owner, as the owner is in one then.
type Written struct {
	rest.Keys
	db.Owned
	Draft
}

// Resource is how customers are made and changed, for whoever does so without a request.
func (s *Service) Resource() rest.Resource[Customer, Written] {
	return rest.Resource[Customer, Written]{
		DB: s.DB, One: "Customer", Many: "Customers", Prefix: "cus", // the table is a request's
		Draft: func(c *Customer) Written { return Written{Owned: c.Owned, Draft: c.Draft} },
		Put:   put, PutAhead: ahead,
		Stored: func(ctx context.Context, tx *db.Tx, _ auth.Caller, c *Customer) error { return index(ctx, tx, c) },
		StoredMany: func(ctx context.Context, tx *db.Tx, who auth.Caller, all []Customer) error {
			return db.InsertMany(ctx, tx, who.Scope, phonesOf(all))
		},
	}
}

// table is what the lists allow. Of numbers it takes whole ones alone, and none from who may not see them; q does not look
// into them. It is one request's: for phone, the country of the account is read.
func (s *Service) table(ctx context.Context, scope auth.Scope) list.Table {
	return list.Table{
		Fields: list.Common(map[string]list.Field{
			"name": {Sort: true}, "email": {}, "company": {}, "owner_id": {}, "department_id": {},
			"phone": {Mask: true, Match: func(texts []string) (string, []any, error) {
				numbers, err := s.read(ctx, scope.AccountID(), texts)
				condition, args := reachedAt(scope.AccountID(), numbers)
				return condition, args, err
			}},
		}),
		Search: []string{"name", "company", "email", "note"},
	}
}

func (s *Service) list(ctx context.Context, who auth.Caller, in rest.ListIn) (list.Page[Customer], error) {
	q, err := s.table(ctx, who.Scope).Parse(in.Query)
	if err != nil {
		return list.Page[Customer]{}, err
	}
	return list.Run[Customer](ctx, s.DB, who.Scope, q)
}

func (s *Service) search(ctx context.Context, who auth.Caller, in rest.SearchIn) (list.Page[Customer], error) {
	q, err := s.table(ctx, who.Scope).ParseSearch(in.Body)
	if err != nil {
		return list.Page[Customer]{}, err
	}
	return list.Run[Customer](ctx, s.DB, who.Scope, q)
}

// reachedAt is the condition that a customer of an account has one of some numbers in their normal form.
func reachedAt(accountID string, numbers []string) (condition string, args []any) {
	if len(numbers) == 0 {
		return "1 = 0", nil
	}
	return "?TableAlias.id IN (SELECT id FROM customer_phones WHERE account_id = ? AND number IN (?))", []any{accountID, bun.List(numbers)}
}

// read gives the numbers that texts may mean in the country of an account; what is no number is left out.
func (s *Service) read(ctx context.Context, accountID string, texts []string) ([]string, error) {
	a, err := db.Get[account.Account](ctx, s.DB, auth.Account(accountID), accountID)
	if err != nil {
		return nil, err
	}
	var numbers []string
	for _, text := range texts {
		for _, candidate := range number.Candidates(text, a.DefaultCountry) {
			if normal, ok := number.Normal(candidate, a.DefaultCountry); ok && !slices.Contains(numbers, normal) {
				numbers = append(numbers, normal)
			}
		}
	}
	return numbers, nil
}

func put(ctx context.Context, tx *db.Tx, who auth.Caller, c *Customer, w Written) error {
	if err := w.Check(); err != nil {
		return err
	}
	owned, err := owner(ctx, tx, who, c, w.Owned)
	if err != nil {
		return err
	}
	// A slice of its own: that of the draft is also what the object was before.
	w.Phones = slices.Clone(w.Phones)
	for i := range w.Phones {
		if err := settle(ctx, tx, c.AccountID, w.Phones, i); err != nil {
			return err
		}
	}
	c.Owned, c.Draft = owned, w.Draft
	return nil
}

// settle brings one of the numbers into its normal form, and refuses one that stands before it already.
func settle(ctx context.Context, tx *db.Tx, accountID string, phones []Phone, i int) error {
	normal, country, err := number.NormalIn(ctx, tx, accountID, phones[i].Number)
	if err != nil {
		return err
	}
	at := phoneAt(i) + "/number"
	if normal == "" {
		return problem.InvalidField(at, "number", "must be E.164 with +, a number as it is dialled in %s with its area code, or a short code of 2 to 8 digits", country)
	}
	phones[i].Number = normal
	if slices.ContainsFunc(phones[:i], func(p Phone) bool { return p.Number == normal }) {
		return problem.InvalidField(at, "duplicate", "is in the list twice")
	}
	return nil
}

// owner says whose a customer becomes: the one's that was written, in the department that was, or else in the owner's.
// Whoever sees only some rows owns those of nobody else. A new owner takes the customer along into his department.
func owner(ctx context.Context, tx *db.Tx, who auth.Caller, c *Customer, owned db.Owned) (db.Owned, error) {
	if _, narrowed := who.Scope.Rows(); narrowed && owned == (db.Owned{}) {
		owned.OwnerID = who.UserID
	}
	before := c.Owned
	another := owned.OwnerID != "" && owned.OwnerID != before.OwnerID
	stays := owned.DepartmentID == before.DepartmentID
	if owned.DepartmentID != "" && !stays {
		there, err := isDepartment(ctx, tx, departmentKey{c.AccountID, owned.DepartmentID})
		if err != nil {
			return owned, err
		}
		if !there {
			return owned, problem.RefusedField("/department_id", "unknown", "there is no department %s in this account", owned.DepartmentID)
		}
	}
	if owned.OwnerID == "" || (!another && owned.DepartmentID != "") {
		return owned, nil
	}
	u, err := userOf(ctx, tx, userKey{c.AccountID, owned.OwnerID})
	switch {
	case err != nil:
		return owned, err
	case !u.there && another:
		return owned, problem.RefusedField("/owner_id", "unknown", "there is no user %s in this account", owned.OwnerID)
	case !u.there:
		return owned, nil // gone meanwhile
	}
	if owned.DepartmentID == "" || stays {
		owned.DepartmentID = u.departmentID
	}
	return owned, nil
}

// What a transaction remembers (db.Once): whether there is a department, and in which one a user is.
type (
	departmentKey struct{ accountID, id string }
	userKey       struct{ accountID, id string }
	userIn        struct {
		there        bool
		departmentID string // "" for none
	}
)

func isDepartment(ctx context.Context, tx *db.Tx, key departmentKey) (bool, error) {
	return db.Once(tx, key, func() (bool, error) {
		found, err := departments(ctx, tx, key.accountID, []string{key.id})
		return len(found) > 0, err
	})
}

func userOf(ctx context.Context, tx *db.Tx, key userKey) (userIn, error) {
	return db.Once(tx, key, func() (userIn, error) {
		found, err := users(ctx, tx, key.accountID, []string{key.id})
		return found[key.id], err
	})
}

// departments gives those ids that are departments of an account.
func departments(ctx context.Context, tx *db.Tx, accountID string, ids []string) (found []string, err error) {
	among, args := db.AnyOf(tx, "id", ids)
	err = tx.Read().NewSelect().Table("departments").Column("id").Where("account_id = ?", accountID).Where(among, args...).Scan(ctx, &found)
	return found, db.Check(err)
}

// users gives those ids that are users of an account.
func users(ctx context.Context, tx *db.Tx, accountID string, ids []string) (map[string]userIn, error) {
	var rows []struct {
		ID           string         `bun:"id"`
		DepartmentID sql.NullString `bun:"department_id"`
	}
	among, args := db.AnyOf(tx, "id", ids)
	err := tx.Read().NewSelect().Table("users").Column("id", "department_id").Where("account_id = ?", accountID).
		Where(among, args...).Scan(ctx, &rows)
	found := make(map[string]userIn, len(rows))
	for _, row := range rows {
		found[row.ID] = userIn{there: true, departmentID: row.DepartmentID.String}
	}
	return found, db.Check(err)
}

// ahead reads together the owners and departments of new customers, which owner asks about for each.
func ahead(ctx context.Context, tx *db.Tx, who auth.Caller, all []Written) error {
	accountID := who.Scope.AccountID()
	var owners, places []string
	if _, narrowed := who.Scope.Rows(); narrowed {
		owners = append(owners, who.UserID)
	}
	for i := range all {
		owners, places = append(owners, all[i].OwnerID), append(places, all[i].DepartmentID)
	}
	if owners = distinct(owners); len(owners) > 0 {
		found, err := users(ctx, tx, accountID, owners)
		if err != nil {
			return err
		}
		for _, id := range owners {
			db.Remember(tx, userKey{accountID, id}, found[id])
		}
	}
	if places = distinct(places); len(places) > 0 {
		found, err := departments(ctx, tx, accountID, places)
		if err != nil {
			return err
		}
		for _, id := range places {
			db.Remember(tx, departmentKey{accountID, id}, slices.Contains(found, id))
		}
	}
	return nil
}

// distinct gives each id once, and "" not at all.
func distinct(ids []string) []string {
	slices.Sort(ids)
	return slices.DeleteFunc(slices.Compact(ids), func(id string) bool { return id == "" })
}

// phone is a row of the table of numbers.
type phone struct {
	bun.BaseModel `bun:"table:customer_phones"`

	ID        string `bun:"id,pk"` // the customer's
	AccountID string `bun:"account_id"`
	Number    string `bun:"number,pk"`
}

// index stores the numbers of a customer where it is found by them.
func index(ctx context.Context, tx *db.Tx, c *Customer) error {
	if _, err := tx.Write().NewDelete().Model((*phone)(nil)).Where("id = ?", c.ID).Exec(ctx); err != nil {
		return db.Check(err)
	}
	rows := phonesOf([]Customer{*c})
	_, err := tx.Write().NewInsert().Model(&rows).Exec(ctx)
	return db.Check(err)
}

// phonesOf are the numbers of customers as rows.
func phonesOf(all []Customer) []phone {
	rows := make([]phone, 0, len(all))
	for i := range all {
		for _, p := range all[i].Phones {
			rows = append(rows, phone{ID: all[i].ID, AccountID: all[i].AccountID, Number: p.Number})
		}
	}
	return rows
}

// WithNumber finds the customer of an account who has a number in its normal form, of several the newest; "" for nobody.
func (s *Service) WithNumber(ctx context.Context, accountID webhooks.AccountID, normal string) (webhooks.CustomerID, error) {
	var id webhooks.CustomerID
	// Ids sort by time.
	err := s.DB.Read().NewSelect().Model((*phone)(nil)).Column("id").Where("account_id = ?", accountID).Where("number = ?", normal).
		OrderBy("id", bun.OrderDesc).Limit(1).Scan(ctx, &id)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return id, db.Check(err)
}

// Get reads a customer as a caller may see it, whatever the operation in progress is about: a Forbidden problem without the
// permission, and NotFound where there is none within the caller's reach.
func (s *Service) Get(ctx context.Context, who auth.Caller, id string) (*Customer, error) {
	const permission = "customers.read"
	if !who.Can(permission) {
		return nil, problem.Forbidden(permission)
	}
	return db.Get[Customer](ctx, s.DB, who.Over(auth.Resource(permission)), id)
}
