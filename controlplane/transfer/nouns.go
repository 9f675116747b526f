package transfer

import (
	"context"
	"database/sql"
	"slices"
	"strings"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/blocklist"
	"github.com/hookswitch/hookswitch/controlplane/credential"
	"github.com/hookswitch/hookswitch/controlplane/customer"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/number"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest"
)

// ExternalID is the column that every resource has.
func ExternalID() Member {
	return Member{Column: Column{
		Name: externalID, Label: Label{"外部编号", "External ID"}, Aliases: []string{"外部ID", "ID", "编号"}, Example: "",
	}}
}

// Numbers imports numbers and short codes.
func Numbers[D any, Q rest.Drafted[D]](direct func() *rest.Direct, r rest.Resource[number.Number, D]) Resource {
	return Of[number.Number, D, *number.Number, Q](direct, r, Shape{
		Name: "numbers", Label: Label{"号码", "Numbers"}, Key: "number", Normal: normalNumber, Together: true,
		Members: []Member{
			{Column: Column{
				Name: "number", Label: Label{"号码", "Number"}, Required: true, Example: "+862368925278",
				Aliases: []string{"电话号码", "手机号", "电话", "DID", "phone", "phone number", "telephone"},
			}},
			{
				Column: Column{Name: "extension", Label: Label{"分机", "Extension"}, Aliases: []string{"分机号"}, Example: "1001"},
				Path:   "credential_id", Find: extensionIDs,
			},
			{
				Column: Column{Name: "application", Label: Label{"应用", "Application"}, Aliases: []string{"应用名称"}, Example: ""},
				Path:   "application_id", Find: applicationIDs,
			},
			ExternalID(),
		},
	})
}

// Credentials imports extensions.
func Credentials[D any, Q rest.Drafted[D]](direct func() *rest.Direct, r rest.Resource[credential.Credential, D]) Resource {
	return Of[credential.Credential, D, *credential.Credential, Q](direct, r, Shape{
		Name: "credentials", Label: Label{"分机", "Extensions"}, Key: "extension",
		Members: []Member{
			{Column: Column{Name: "extension", Label: Label{"分机", "Extension"}, Required: true, Aliases: []string{"分机号", "号码"}, Example: "1001"}},
			{Column: Column{Name: "password", Label: Label{"密码", "Password"}, Secret: true, Aliases: []string{"口令", "SIP密码"}, Example: ""}},
			{Column: Column{Name: "caller_id", Label: Label{"外显号码", "Caller ID"}, Aliases: []string{"主叫号码", "去显号码"}, Example: "+862368925278"}},
			{Column: Column{Name: "caller_name", Label: Label{"名称", "Caller name"}, Aliases: []string{"姓名", "name"}, Example: "欧阳春"}},
			{
				Column: Column{Name: "application", Label: Label{"应用", "Application"}, Aliases: []string{"应用名称"}, Example: ""},
				Path:   "application_id", Find: applicationIDs,
			},
			{Column: Column{Name: "max_contacts", Label: Label{"最大注册数", "Most phones"}, Example: "3"}, Type: Integer},
			ExternalID(),
		},
	})
}

// normalNumber reads numbers in the account's country.
func normalNumber(ctx context.Context, tx *db.Tx, who auth.Caller) (func(string) (string, bool), error) {
	if _, _, err := number.NormalIn(ctx, tx, who.AccountID, ""); err != nil {
		return nil, err
	}
	return func(text string) (string, bool) {
		normal, _, err := number.NormalIn(ctx, tx, who.AccountID, text)
		return normal, err == nil && normal != ""
	}, nil
}

// extensionIDs finds extensions by their digits.
func extensionIDs(ctx context.Context, tx *db.Tx, who auth.Caller, digits []string) (found, error) {
	having, args := db.AnyOf(tx, "extension", digits)
	all, err := db.List[credential.Credential](ctx, tx, auth.Account(who.AccountID), func(q *bun.SelectQuery) *bun.SelectQuery {
		return q.Where(having, args...)
	})
	if err != nil {
		return nil, err
	}
	return func(digits string) (any, error) {
		for i := range all {
			if all[i].Extension == digits {
				return all[i].ID, nil
			}
		}
		return nil, problem.RefusedField("/extension", "unknown", "there is no extension %q in this account", digits)
	}, nil
}

// applicationIDs finds applications by their names, or their ids.
func applicationIDs(ctx context.Context, tx *db.Tx, who auth.Caller, names []string) (found, error) {
	byKey, err := idsOf(ctx, tx, who, "applications", "name", names, names)
	if err != nil {
		return nil, err
	}
	return func(name string) (any, error) {
		switch ids := byKey(name, name); len(ids) {
		case 0:
			return nil, problem.RefusedField("/application", "unknown", "there is no application %q in this account", name)
		case 1:
			return ids[0], nil
		}
		return nil, problem.RefusedField("/application", "ambiguous", "there are several applications %q; give the id", name)
	}, nil
}

// BlocklistEntries imports numbers and patterns that may not call or be called.
func BlocklistEntries[D any, Q rest.Drafted[D]](direct func() *rest.Direct, r rest.Resource[blocklist.Entry, D]) Resource {
	return Of[blocklist.Entry, D, *blocklist.Entry, Q](direct, r, Shape{
		Name: "blocklist_entries", Label: Label{"黑白名单", "Block and allow list"},
		Members: []Member{
			{Column: Column{
				Name: "number", Label: Label{"号码或号段", "Number or pattern"}, Required: true, Aliases: []string{"号码", "电话", "手机号", "phone"}, Example: "1705*",
			}},
			{Column: Column{Name: "kind", Label: Label{"种类", "Kind"}, Required: true, Aliases: []string{"类型"}, Example: "pattern"}},
			{Column: Column{Name: "direction", Label: Label{"方向", "Direction"}, Aliases: []string{"过滤类型"}, Example: "in"}},
			{Column: Column{Name: "action", Label: Label{"动作", "Action"}, Example: "block"}},
			{Column: Column{Name: "reason", Label: Label{"原因", "Reason"}, Aliases: []string{"备注"}, Example: "骚扰电话"}},
			{Column: Column{Name: "expires_at", Label: Label{"失效时间", "Expires at"}, Example: "2027-01-01T00:00:00Z"}},
			ExternalID(),
		},
	})
}

// Customers imports customers, each with an owner by login and a department by code where the table has them.
func Customers[D any, Q rest.Drafted[D]](direct func() *rest.Direct, r rest.Resource[customer.Customer, D]) Resource {
	return Of[customer.Customer, D, *customer.Customer, Q](direct, r, Shape{
		Name: "customers", Label: Label{"客户", "Customers"}, Together: true,
		Members: []Member{
			{Column: Column{
				Name: "name", Label: Label{"姓名", "Name"}, Required: true, Aliases: []string{"客户姓名", "客户名称", "客户", "名称"}, Example: "欧阳春",
			}},
			{
				Column: Column{
					Name: "phones", Label: Label{"电话", "Phones"}, Required: true, Example: "13800138000, 02368925278",
					Aliases: []string{"电话号码", "手机号", "手机", "联系电话", "号码", "phone", "phone number", "mobile", "telephone"},
				},
				Read: phones,
			},
			{Column: Column{Name: "email", Label: Label{"邮箱", "E-mail"}, Aliases: []string{"电子邮箱", "邮件", "email"}, Example: "ouyang@example.com"}},
			{Column: Column{Name: "company", Label: Label{"公司", "Company"}, Aliases: []string{"公司名称", "单位"}, Example: ""}},
			{
				Column: Column{Name: "owner", Label: Label{"归属人", "Owner"}, Aliases: []string{"负责人", "归属坐席", "坐席"}, Example: ""},
				Path:   "owner_id", Find: userIDs,
			},
			{
				Column: Column{Name: "department", Label: Label{"部门", "Department"}, Aliases: []string{"归属部门"}, Example: ""},
				Path:   "department_id", Find: departmentIDs,
			},
			{Column: Column{Name: "note", Label: Label{"备注", "Note"}, Aliases: []string{"说明", "remark"}, Example: ""}},
			ExternalID(),
		},
	})
}

// phones are the numbers of a cell, as customers have them.
func phones(text string) (any, error) {
	numbers, err := Values.value(text)
	if err != nil {
		return nil, err
	}
	all := []any{}
	for _, number := range numbers.([]any) {
		all = append(all, map[string]any{"number": number})
	}
	return all, nil
}

// userIDs finds users by their logins, or their ids.
func userIDs(ctx context.Context, tx *db.Tx, who auth.Caller, names []string) (found, error) {
	return onlyOf(ctx, tx, who, "/owner", "user", "users", "login", names, strings.ToLower)
}

// departmentIDs finds departments by their codes, or their ids.
func departmentIDs(ctx context.Context, tx *db.Tx, who auth.Caller, names []string) (found, error) {
	return onlyOf(ctx, tx, who, "/department", "department", "departments", "code", names, func(code string) string { return code })
}

// onlyOf finds each name's only row: the one that has it as its id, or in a column, written as fold does.
func onlyOf(ctx context.Context, tx *db.Tx, who auth.Caller, at, what, table, column string, names []string, fold func(string) string) (found, error) {
	keys := make([]string, len(names))
	for i, name := range names {
		keys[i] = fold(name)
	}
	byKey, err := idsOf(ctx, tx, who, table, column, keys, names)
	if err != nil {
		return nil, err
	}
	return func(name string) (any, error) {
		ids := byKey(fold(name), name)
		if len(ids) != 1 {
			return nil, problem.RefusedField(at, "unknown", "there is no %s %q in this account", what, name)
		}
		return ids[0], nil
	}, nil
}

// idsOf reads the rows of the account that have one of some keys in a column, or one of some ids, and gives the function
// that tells the ids of those that have this key or this id.
func idsOf(ctx context.Context, tx *db.Tx, who auth.Caller, table, column string, keys, ids []string) (func(key, id string) []string, error) {
	var rows []struct {
		ID  string         `bun:"id"`
		Key sql.NullString `bun:"key"`
	}
	byKey, keyArgs := db.AnyOf(tx, column, keys)
	byID, idArgs := db.AnyOf(tx, "id", ids)
	err := tx.Read().NewSelect().Table(table).Column("id").ColumnExpr("? AS key", bun.Ident(column)).
		Where("account_id = ?", who.AccountID).WhereGroup(" AND ", func(q *bun.SelectQuery) *bun.SelectQuery {
		return q.Where(byKey, keyArgs...).WhereOr(byID, idArgs...)
	}).Scan(ctx, &rows)
	if err != nil {
		return nil, db.Check(err)
	}
	all := make(map[string][]string, 2*len(rows)) // by "id=…" and by "key=…"
	for _, row := range rows {
		all["id="+row.ID] = append(all["id="+row.ID], row.ID)
		if row.Key.Valid {
			all["key="+row.Key.String] = append(all["key="+row.Key.String], row.ID)
		}
	}
	return func(key, id string) []string {
		found := slices.Concat(all["key="+key], all["id="+id])
		slices.Sort(found)
		return slices.Compact(found)
	}, nil
}
