package transfer

import (
	"context"
	"database/sql"
	"errors"
	"strings"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/app"
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
				Path:   "credential_id", Value: extensionID,
			},
			{
				Column: Column{Name: "application", Label: Label{"应用", "Application"}, Aliases: []string{"应用名称"}, Example: ""},
				Path:   "application_id", Value: applicationID,
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
				Path:   "application_id", Value: applicationID,
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

// extensionID finds an extension by its digits.
func extensionID(ctx context.Context, tx *db.Tx, who auth.Caller, digits string) (any, error) {
	c, err := db.Find[credential.Credential](ctx, tx, auth.Account(who.AccountID), func(q *bun.SelectQuery) *bun.SelectQuery {
		return q.Where("extension = ?", digits)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return nil, problem.RefusedField("/extension", "unknown", "there is no extension %q in this account", digits)
	}
	if err != nil {
		return nil, err
	}
	return c.ID, nil
}

// applicationID finds an application by its name, or its id.
func applicationID(ctx context.Context, tx *db.Tx, who auth.Caller, name string) (any, error) {
	found, err := db.List[app.Application](ctx, tx, auth.Account(who.AccountID), func(q *bun.SelectQuery) *bun.SelectQuery {
		return q.Where("name = ? OR id = ?", name, name).Limit(2)
	})
	switch {
	case err != nil:
		return nil, err
	case len(found) == 0:
		return nil, problem.RefusedField("/application", "unknown", "there is no application %q in this account", name)
	case len(found) > 1:
		return nil, problem.RefusedField("/application", "ambiguous", "there are several applications %q; give the id", name)
	}
	return found[0].ID, nil
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
		Name: "customers", Label: Label{"客户", "Customers"},
		Members: []Member{
			{Column: Column{
				Name: "name", Label: Label{"姓名", "Name"}, Required: true, Aliases: []string{"客户姓名", "客户名称", "客户", "名称"}, Example: "欧阳春",
			}},
			{
				Column: Column{
					Name: "phones", Label: Label{"电话", "Phones"}, Required: true, Example: "13800138000, 02368925278",
					Aliases: []string{"电话号码", "手机号", "手机", "联系电话", "号码", "phone", "phone number", "mobile", "telephone"},
				},
				Value: phones,
			},
			{Column: Column{Name: "email", Label: Label{"邮箱", "E-mail"}, Aliases: []string{"电子邮箱", "邮件", "email"}, Example: "ouyang@example.com"}},
			{Column: Column{Name: "company", Label: Label{"公司", "Company"}, Aliases: []string{"公司名称", "单位"}, Example: ""}},
			{
				Column: Column{Name: "owner", Label: Label{"归属人", "Owner"}, Aliases: []string{"负责人", "归属坐席", "坐席"}, Example: ""},
				Path:   "owner_id", Value: userID,
			},
			{
				Column: Column{Name: "department", Label: Label{"部门", "Department"}, Aliases: []string{"归属部门"}, Example: ""},
				Path:   "department_id", Value: departmentID,
			},
			{Column: Column{Name: "note", Label: Label{"备注", "Note"}, Aliases: []string{"说明", "remark"}, Example: ""}},
			ExternalID(),
		},
	})
}

// phones are the numbers of a cell, as customers have them.
func phones(_ context.Context, _ *db.Tx, _ auth.Caller, text string) (any, error) {
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

// userID finds a user by the login, or the id.
func userID(ctx context.Context, tx *db.Tx, who auth.Caller, name string) (any, error) {
	return idOf(ctx, tx, who, "/owner", "user", "users", "login", strings.ToLower(name), name)
}

// departmentID finds a department by its code, or its id.
func departmentID(ctx context.Context, tx *db.Tx, who auth.Caller, name string) (any, error) {
	return idOf(ctx, tx, who, "/department", "department", "departments", "code", name, name)
}

// idOf finds the row that has a key in a column, or a name as its id.
func idOf(ctx context.Context, tx *db.Tx, who auth.Caller, at, what, table, column, key, name string) (any, error) {
	var ids []string
	err := tx.Read().NewSelect().Table(table).Column("id").Where("account_id = ?", who.AccountID).Where("? = ? OR id = ?", bun.Ident(column), key, name).
		Limit(2).Scan(ctx, &ids)
	switch {
	case err != nil:
		return nil, db.Check(err)
	case len(ids) != 1:
		return nil, problem.RefusedField(at, "unknown", "there is no %s %q in this account", what, name)
	}
	return ids[0], nil
}
