package transfer_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/blob"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/job"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
	"github.com/hookswitch/hookswitch/controlplane/sheet"
	"github.com/hookswitch/hookswitch/controlplane/transfer"
)

// mixed is a table in which everything happens.
const mixed = "号码,备注,级别,外部编号\n" +
	"1001,new,1,a\n" +
	"1000,there,2,\n" + // is there already
	"1001,again,,\n" + // the first row's
	",none,,\n" +
	"1002,bad level,x,\n" +
	"1003,level,99,\n" +
	"1004,forbidden,,\n" +
	"\"1005,open quote\n" +
	"1006,\"quoted, with\nline\",,b\n" +
	"1007,,,a\n" + // a's number is another
	"1000,same,,\n" +
	"1008,'=1+1,,\n" +
	"1009,other,,z\n" + // z's number is another
	"1000,,,z\n" +
	"1010,\n"

func TestADryRunSaysWhatACommitDoes(t *testing.T) {
	for _, oneByOne := range []bool{false, true} {
		t.Run(fmt.Sprintf("one by one %t", oneByOne), func(t *testing.T) {
			each(t, options{oneByOne: oneByOne}, func(t *testing.T, f *fixture) {
				f.work(t)
				for on, want := range map[string]struct {
					counts transfer.Counts
					rows   []string
				}{
					"skip": {transfer.Counts{Created: 4, Skipped: 4, Errors: 7}, []string{
						"1000 old 5 z", "1001 new 1 a", "1006 quoted, with\nline 5 b", "1008 =1+1 5 -", "1010  5 -"}},
					"update": {transfer.Counts{Created: 4, Updated: 3, Skipped: 1, Errors: 7}, []string{
						"1000 same 2 z", "1001 again 1 a", "1006 quoted, with\nline 5 b", "1008 =1+1 5 -", "1010  5 -"}},
					"fail": {transfer.Counts{Created: 4, Errors: 11}, []string{
						"1000 old 5 z", "1001 new 1 a", "1006 quoted, with\nline 5 b", "1008 =1+1 5 -", "1010  5 -"}},
				} {
					t.Run(on, func(t *testing.T) {
						if _, err := f.db.Write().NewRaw("DELETE FROM plains").Exec(t.Context()); err != nil {
							t.Fatal(err)
						}
						f.ask(t, http.MethodPost, "/v1/plains", `{"number":"1000","note":"old","external_id":"z"}`, http.StatusCreated, nil)
						before := f.dump(t, allPlains)
						i := f.upload(t, "plains", mixed, "on_duplicate", on)
						i = f.do(t, i.ID, "dry_run")
						if i.Status != transfer.Checked || i.Checked == nil || *i.Checked != want.counts || *i.Rows != 15 {
							t.Errorf("checked %+v, %d rows", i.Checked, *i.Rows)
						}
						if after := f.dump(t, allPlains); !slices.Equal(after, before) {
							t.Errorf("a dry run has written %q", after)
						}
						i = f.do(t, i.ID, "commit")
						if i.Status != transfer.Committed || *i.Counts != want.counts {
							t.Errorf("committed %+v", i.Counts)
						}
						if after := f.dump(t, allPlains); !slices.Equal(after, want.rows) {
							t.Errorf("there is %q, want %q", after, want.rows)
						}
						dry, real := f.report(t, i.ID, "dry_run"), f.report(t, i.ID, "commit")
						if !slices.Equal(dry, real) || len(dry) != 16 {
							t.Errorf("the dry run said\n%s\nthe commit\n%s", strings.Join(dry, "\n"), strings.Join(real, "\n"))
						}
						if !strings.Contains(strings.Join(real, "\n"), "5~error~~number~is empty, and must not be~~none") {
							t.Errorf("report: %s", strings.Join(real, "\n"))
						}
					})
				}
			})
		})
	}
}

func TestNumbersAndExtensionsAreImported(t *testing.T) {
	each(t, options{}, func(t *testing.T, f *fixture) {
		f.work(t)
		i := f.upload(t, "credentials", "分机,密码,姓名,最大注册数\n1001,correct horse,欧阳,\n1002,short,李四,\n1003,battery staple,,99\n1004,long enough,,2\n")
		if i.Sample[0][1] == "correct horse" || len(i.Missing) > 0 {
			t.Errorf("sample %q, missing %q", i.Sample, i.Missing)
		}
		i = f.do(t, i.ID, "commit")
		if *i.Counts != (transfer.Counts{Created: 2, Errors: 2}) {
			t.Errorf("%+v: %q", i.Counts, f.report(t, i.ID, "commit"))
		}
		report := strings.Join(f.report(t, i.ID, "commit"), "\n")
		for _, secret := range []string{"correct horse", "battery staple", "short~"} {
			if strings.Contains(report, secret) {
				t.Errorf("the report has a password: %s", report)
			}
		}
		if got := f.dump(t, "SELECT extension, caller_name, max_contacts FROM credentials"); !slices.Equal(got, []string{"1001 欧阳 3", "1004 - 2"}) {
			t.Errorf("extensions %q", got)
		}

		i = f.upload(t, "numbers", "号码,分机\n023-6892 5278,1001\n+8613800138000,\n1000,1009\n1001,\n2000,\n+8613800138000,1004\n", "on_duplicate", "update")
		i = f.do(t, i.ID, "dry_run")
		if *i.Checked != (transfer.Counts{Created: 3, Updated: 1, Errors: 2}) {
			t.Errorf("%+v: %s", i.Checked, strings.Join(f.report(t, i.ID, "dry_run"), "\n"))
		}
		i = f.do(t, i.ID, "commit")
		if got := f.dump(t, "SELECT n.number, c.extension FROM numbers AS n LEFT JOIN credentials AS c ON c.id = n.credential_id"); !slices.Equal(got,
			[]string{"+8613800138000 1004", "+862368925278 1001", "2000 -"}) {
			t.Errorf("numbers %q", got)
		}
		i = f.do(t, i.ID, "revert")
		if got := f.dump(t, "SELECT number FROM numbers"); len(got) != 0 || i.Reverted.Removed != 3 || i.Reverted.Restored != 1 {
			t.Errorf("left %q: %+v", got, i.Reverted)
		}
		// The short code is free again.
		if got := f.dump(t, "SELECT code FROM short_codes"); !slices.Equal(got, []string{"1001", "1004"}) {
			t.Errorf("codes %q", got)
		}
	})
}

func TestCustomersAreImportedAndExported(t *testing.T) {
	each(t, options{}, func(t *testing.T, f *fixture) {
		f.work(t)
		f.staff(t)
		i := f.upload(t, "customers", "姓名,手机,归属人,部门,公司,外部编号\n"+
			"欧阳春,138 0013 8000；023-6892 5278,Li.Wei,,山城,1\n"+
			"李四,95588,,S,,2\n"+
			"王五,bob,,,,3\n"+
			"赵六,13800138001,nobody,,,4\n"+
			"欧阳春,13800138000,,,,5\n")
		if len(i.Missing) > 0 {
			t.Fatalf("missing %q of %q", i.Missing, i.Header)
		}
		i = f.do(t, i.ID, "commit")
		if *i.Counts != (transfer.Counts{Created: 3, Errors: 2}) {
			t.Errorf("%+v: %s", i.Counts, strings.Join(f.report(t, i.ID, "commit"), "\n"))
		}
		const all = "SELECT c.external_id, c.name, c.owner_id, c.department_id, p.number FROM customers AS c JOIN customer_phones AS p ON p.id = c.id"
		imported := []string{
			"1 欧阳春 usr_1 dep_1 +8613800138000", "1 欧阳春 usr_1 dep_1 +862368925278", "2 李四 - dep_1 95588", "5 欧阳春 - - +8613800138000",
		}
		if got := f.dump(t, all); !slices.Equal(got, imported) {
			t.Errorf("customers %q", got)
		}
		i = f.upload(t, "customers", "姓名,手机,外部编号\n欧阳夏,13800138009,1\n李四,95588,2\n", "on_duplicate", "update")
		if i = f.do(t, i.ID, "commit"); *i.Counts != (transfer.Counts{Updated: 1, Skipped: 1}) {
			t.Errorf("%+v: %s", i.Counts, strings.Join(f.report(t, i.ID, "commit"), "\n"))
		}
		if got := f.dump(t, all); !slices.Contains(got, "1 欧阳夏 usr_1 dep_1 +8613800138009") || len(got) != 3 {
			t.Errorf("updated to %q", got)
		}
		f.do(t, i.ID, "revert")
		if got := f.dump(t, all); !slices.Equal(got, imported) {
			t.Errorf("reverted to %q", got)
		}

		for token, number := range map[string]string{resttest.Token: "+8613800138000", "masked": "************00"} {
			var e transfer.Export
			resttest.Want(t, f.Do(t, token, http.MethodPost, "/v1/exports", map[string]any{
				"resource": "customers", "format": "jsonl", "columns": []string{"name", "phones"}, "filter": map[string]any{"owner_id": "usr_1"},
			}), http.StatusCreated, &e)
			if j := f.ended(t, e.JobID); j.Status != job.Succeeded {
				t.Fatalf("%s: %s %s", token, j.Status, j.Failure)
			}
			if got := f.fetch(t, "/v1/exports/"+e.ID+"/file?as=json"); !strings.Contains(got, number) || (token == "masked" && strings.Contains(got, "138001380")) {
				t.Errorf("%s exports %s", token, got)
			}
		}
		byPhone := `{"resource":"customers","format":"csv","columns":["name"],"filter":{"phone":"023-6892 5278"}}`
		if got := f.fetch(t, "/v1/exports/"+f.export(t, resttest.Token, byPhone).ID+"/file?as=json"); !slices.Equal(table(t, got), []string{"name", "欧阳春"}) {
			t.Errorf("by number it exports %s", got)
		}
		resttest.Want(t, f.Do(t, "masked", http.MethodPost, "/v1/exports", byPhone), http.StatusForbidden, nil)
	})
}

// staff makes a department and users for customers to be of.
func (f *fixture) staff(t *testing.T) {
	t.Helper()
	for _, statement := range []string{
		`INSERT INTO departments (id, account_id, metadata, created_at, updated_at, etag, name, code) VALUES ('dep_1', ?, '{}', ?, ?, '1', 'sales', 'S')`,
		`INSERT INTO users (id, account_id, metadata, created_at, updated_at, etag, owner_id, department_id, login, name, role_ids, status)
			VALUES ('usr_1', ?, '{}', ?, ?, '1', 'usr_1', 'dep_1', 'li.wei', 'x', '[]', 'active')`,
		`INSERT INTO users (id, account_id, metadata, created_at, updated_at, etag, owner_id, login, name, role_ids, status)
			VALUES ('` + resttest.OwnUser + `', ?, '{}', ?, ?, '1', '` + resttest.OwnUser + `', 'own', 'x', '[]', 'active')`,
	} {
		if _, err := f.db.Write().NewRaw(statement, resttest.Account, db.Now(), db.Now()).Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// customerRows is a row of every kind, and what becomes of them under "skip" in the order of the lines.
const customerRows = "name,phones,owner,department,external_id,email\n" +
	"a,138 0013 8000；023-6892 5278,Li.Wei,,1,\n" +
	"b,95588,,S,2,b@example.com\n" +
	"c,bob,,,3,\n" + // no number
	"d,13800138001,nobody,,4,\n" + // no user
	"e,13800138001,,X,5,\n" + // no department
	"f,13800138000,,,,\n" + // a second with this number, and no id
	",13800138000,,,6,\n" + // no name
	"g,13800138000;138 0013 8000,,,7,\n" + // one number twice
	"h,13800138002,,,8,no address\n" +
	"i,13800138003,,,1,\n" + // the id of the first row
	"j,13800138004,,,old,\n" + // there before
	"k,13800138004,nobody,,old,\n" + // there before, and wrong
	"l,1380013800x,,,old,\n" +
	"m,13800138005,own,,9,\n"

func TestCustomersWrittenTogetherAreAsThoseWrittenOneByOne(t *testing.T) {
	for name, location := range databases() {
		for _, on := range []string{"skip", "update", "fail"} {
			for _, token := range []string{resttest.Token, "own"} {
				t.Run(name+"/"+on+"/"+token, func(t *testing.T) {
					var told [2][]string
					for n, oneByOne := range []bool{false, true} {
						told[n] = newFixture(t, location(t), options{oneByOne: oneByOne}).becomes(t, token, on)
					}
					if !slices.Equal(told[0], told[1]) {
						t.Errorf("together\n%s\none by one\n%s", strings.Join(told[0], "\n"), strings.Join(told[1], "\n"))
					}
				})
			}
		}
	}
}

// becomes tells what an import of customerRows says and does: dry run, commit and revert.
func (f *fixture) becomes(t *testing.T, token, on string) (told []string) {
	t.Helper()
	f.work(t)
	f.staff(t)
	f.ask(t, http.MethodPost, "/v1/customers", `{"name":"before","phones":[{"number":"+8613800138000"}],"external_id":"old"}`, http.StatusCreated, nil)
	var i transfer.Import
	resttest.Want(t, f.post(t, token, []byte(customerRows), map[string]string{"resource": "customers", "on_duplicate": on}), http.StatusCreated, &i)
	const all = "SELECT c.external_id, c.name, c.owner_id, c.department_id, c.email, c.phones, p.number FROM customers AS c LEFT JOIN customer_phones AS p ON p.id = c.id"
	for _, step := range []struct{ do, report string }{{"dry_run", "dry_run"}, {"commit", "commit"}, {"revert", "revert"}} {
		var j job.Job
		resttest.Want(t, f.Do(t, token, http.MethodPost, "/v1/imports/"+i.ID+"/"+step.do, nil), http.StatusAccepted, &j)
		if j = f.ended(t, j.ID); j.Status != job.Succeeded {
			t.Fatalf("%s: %s %s", step.do, j.Status, j.Failure)
		}
		told = append(append(append(told, step.do), f.report(t, i.ID, step.report)...), f.dump(t, all)...)
	}
	dry, commit := f.report(t, i.ID, "dry_run"), f.report(t, i.ID, "commit")
	for n, line := range dry {
		if n > 0 && !strings.HasPrefix(commit[n], strings.Join(strings.Split(line, "~")[:2], "~")) {
			t.Errorf("the dry run says %q, the commit %q", line, commit[n])
		}
	}
	if got := f.dump(t, all); len(got) != 1 || !strings.HasPrefix(got[0], "old before") {
		t.Errorf("reverted to %q", got)
	}
	if orphans := f.dump(t, "SELECT number FROM customer_phones WHERE id NOT IN (SELECT id FROM customers)"); len(orphans) > 0 {
		t.Errorf("numbers of nobody: %q", orphans)
	}
	return told
}

// Who may not see numbers is not told by an import which of them a customer has.
func TestAMaskedImportDoesNotTellThatANumberIsRight(t *testing.T) {
	each(t, options{}, func(t *testing.T, f *fixture) {
		f.work(t)
		f.ask(t, http.MethodPost, "/v1/customers", `{"name":"a","phones":[{"number":"+8613800138000"}],"external_id":"1"}`, http.StatusCreated, nil)
		for _, number := range []string{"+8613800138000", "+8613800138100"} {
			var i transfer.Import
			resttest.Want(t, f.post(t, "masked", []byte("name,phones,external_id\na,"+number+",1\n"),
				map[string]string{"resource": "customers", "on_duplicate": "update"}), http.StatusCreated, &i)
			var j job.Job
			resttest.Want(t, f.Do(t, "masked", http.MethodPost, "/v1/imports/"+i.ID+"/dry_run", nil), http.StatusAccepted, &j)
			f.ended(t, j.ID)
			resttest.Want(t, f.Do(t, "masked", http.MethodGet, "/v1/imports/"+i.ID, nil), http.StatusOK, &i)
			if *i.Checked != (transfer.Counts{Updated: 1}) {
				t.Errorf("%s: %+v", number, i.Checked)
			}
		}
	})
}

func TestARevertRestoresAllThatNobodyChanged(t *testing.T) {
	each(t, options{}, func(t *testing.T, f *fixture) {
		f.work(t)
		for _, number := range []string{"1000", "1001", "1002"} {
			f.ask(t, http.MethodPost, "/v1/plains", `{"number":"`+number+`","note":"old","external_id":"x`+number+`"}`, http.StatusCreated, nil)
		}
		before := f.dump(t, allPlains)
		i := f.upload(t, "plains", "number,note,level\n1000,new,1\n2000,made,\n1000,newer,2\n2000,made again,\n1001,new,\n3000,made,\n1002,old,5\n", "on_duplicate", "update")
		i = f.do(t, i.ID, "commit")
		if *i.Counts != (transfer.Counts{Created: 2, Updated: 4, Skipped: 1}) {
			t.Errorf("%+v: %s", i.Counts, strings.Join(f.report(t, i.ID, "commit"), "\n"))
		}
		var page struct {
			Data []struct{ ID, Number string }
		}
		f.ask(t, http.MethodGet, "/v1/plains?limit=100", nil, http.StatusOK, &page)
		for _, p := range page.Data {
			if p.Number == "1001" || p.Number == "3000" {
				f.ask(t, http.MethodPatch, "/v1/plains/"+p.ID, `{"note":"of somebody else"}`, http.StatusOK, nil)
			}
		}
		i = f.do(t, i.ID, "revert")
		if i.Status != transfer.Reverted || *i.Reverted != (transfer.Undone{Removed: 1, Restored: 3, Kept: 2}) {
			t.Errorf("%+v: %s", i.Reverted, strings.Join(f.report(t, i.ID, "revert"), "\n"))
		}
		want := slices.Sorted(slices.Values([]string{before[0], "1001 of somebody else 5 x1001", before[2], "3000 of somebody else 5 -"}))
		if got := f.dump(t, allPlains); !slices.Equal(got, want) {
			t.Errorf("there is %q, want %q", got, want)
		}
		report := f.report(t, i.ID, "revert")
		if len(report) != 7 || !strings.Contains(strings.Join(report, "\n"), "6~kept~~was changed since") {
			t.Errorf("report %q", report)
		}
		f.ask(t, http.MethodPost, "/v1/imports/"+i.ID+"/revert", nil, http.StatusConflict, nil)
		f.ask(t, http.MethodPost, "/v1/imports/"+i.ID+"/commit", nil, http.StatusConflict, nil)
	})
}

func TestWhatAnImportRefuses(t *testing.T) {
	d := newFixture(t, sqliteURL(t), options{})
	ready := d.upload(t, "plains", "number\n1000\n").ID
	for name, c := range map[string]struct {
		token  string
		file   string
		fields map[string]string
		status int
		says   string
	}{
		"no file":      {resttest.Token, "", map[string]string{"resource": "plains"}, 400, "/file"},
		"resource":     {resttest.Token, "a\n1\n", map[string]string{"resource": "trees"}, 400, "must be one of"},
		"permission":   {"but:plains.write", "a\n1\n", map[string]string{"resource": "plains"}, 403, "plains.write"},
		"on_duplicate": {resttest.Token, "a\n1\n", map[string]string{"resource": "plains", "on_duplicate": "x"}, 400, "/on_duplicate"},
		"mapping":      {resttest.Token, "a\n1\n", map[string]string{"resource": "plains", "mapping": "{"}, 400, "/mapping"},
		"to nothing":   {resttest.Token, "a\n1\n", map[string]string{"resource": "plains", "mapping": `{"number":"b"}`}, 400, "not in the heading"},
		"column":       {resttest.Token, "a\n1\n", map[string]string{"resource": "plains", "mapping": `{"tree":"a"}`}, 400, "is no column"},
		"twice":        {resttest.Token, "a\n1\n", map[string]string{"resource": "plains", "mapping": `{"number":"a","note":"a"}`}, 400, "mapped to"},
		"part":         {resttest.Token, "a\n1\n", map[string]string{"resource": "plains", "colour": "x"}, 400, "/colour"},
		"no table":     {resttest.Token, "\x7fELF\x02\x01\x01\x03\x04\x05\x06\x07\x08\x0e\x0f", map[string]string{"resource": "plains"}, 422, "neither a csv nor an xlsx"},
		"sheet":        {resttest.Token, "a\n1\n", map[string]string{"resource": "plains", "encoding": "x"}, 422, "cannot be read as"},
	} {
		var file []byte
		if c.file != "" {
			file = []byte(c.file)
		}
		if w := d.post(t, c.token, file, c.fields); w.Code != c.status || !strings.Contains(w.Body.String(), c.says) {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
	if w := d.Do(t, "but:plains.write", http.MethodPost, "/v1/imports/"+ready+"/commit", nil); w.Code != http.StatusForbidden {
		t.Errorf("commit without the resource's permission: %d", w.Code)
	}
	d.ask(t, http.MethodPost, "/v1/imports/"+ready+"/revert", nil, http.StatusConflict, nil)
	d.ask(t, http.MethodGet, "/v1/imports/"+ready+"/report", nil, http.StatusNotFound, nil)
	d.ask(t, http.MethodPatch, "/v1/imports/"+ready, `{"mapping":{"number":null}}`, http.StatusOK, nil)
	d.ask(t, http.MethodPost, "/v1/imports/"+ready+"/commit", nil, http.StatusUnprocessableEntity, nil)
	d.ask(t, http.MethodPost, "/v1/imports/"+ready+"/dry_run", nil, http.StatusUnprocessableEntity, nil)
	d.ask(t, http.MethodPatch, "/v1/imports/"+ready, `{"mapping":{"number":"number"}}`, http.StatusOK, nil)
	d.ask(t, http.MethodPost, "/v1/imports/"+ready+"/commit", nil, http.StatusAccepted, nil)
	// A job works for it.
	d.ask(t, http.MethodPost, "/v1/imports/"+ready+"/commit", nil, http.StatusConflict, nil)
	d.ask(t, http.MethodPatch, "/v1/imports/"+ready, `{"on_duplicate":"fail"}`, http.StatusConflict, nil)
	d.ask(t, http.MethodDelete, "/v1/imports/"+ready, nil, http.StatusConflict, nil)
}

func TestATableWithTooManyRowsWritesNone(t *testing.T) {
	each(t, options{}, func(t *testing.T, f *fixture) {
		f.service.Limits.Rows = 15
		f.work(t)
		i := f.upload(t, "plains", "number\n"+strings.Repeat("1000\n", 16))
		var j job.Job
		f.ask(t, http.MethodPost, "/v1/imports/"+i.ID+"/commit", nil, http.StatusAccepted, &j)
		if j = f.ended(t, j.ID); j.Status != job.Failed || !strings.Contains(j.Failure, "more than 15 rows") {
			t.Errorf("%s %s", j.Status, j.Failure)
		}
		if i = f.get(t, i.ID); i.Status != transfer.Stopped || !strings.Contains(i.Failure, "more than 15 rows") {
			t.Errorf("%+v", i)
		}
		if got := f.dump(t, allPlains); len(got) != 0 {
			t.Errorf("wrote %q", got)
		}
	})
}

// many is a table of n rows, of which every twentieth is wrong, and one in ten of those before it once more.
func many(n int) (text string, created, skipped, wrong int) {
	var b strings.Builder
	b.WriteString("number,note,level\n")
	for i := range n {
		switch i % 20 {
		case 19:
			fmt.Fprintf(&b, "%08d,x,wrong\n", i)
			wrong++
		case 10:
			fmt.Fprintf(&b, "%08d,again,1\n", i-1)
			skipped++
		default:
			fmt.Fprintf(&b, "%08d,note %d,%d\n", i, i, i%9+1)
			created++
		}
	}
	return b.String(), created, skipped, wrong
}

func TestACanceledCommitGoesOnWhereItWas(t *testing.T) {
	each(t, options{}, func(t *testing.T, f *fixture) {
		text, created, skipped, wrong := many(6_000)
		i := f.upload(t, "plains", text)
		stop := f.work(t)
		var j job.Job
		f.ask(t, http.MethodPost, "/v1/imports/"+i.ID+"/commit", nil, http.StatusAccepted, &j)
		for f.rows(t) == 0 {
			if j, err := db.Get[job.Job](t.Context(), f.db, auth.Everywhere(), j.ID); err != nil || j.Status.Ended() {
				t.Fatal("it was too fast to be canceled", j, err)
			}
		}
		f.ask(t, http.MethodPost, "/v1/jobs/"+j.ID+"/cancel", nil, http.StatusOK, nil)
		j = f.ended(t, j.ID)
		i = f.get(t, i.ID)
		stop()
		if j.Status != job.Canceled || i.Status != transfer.Stopped || i.RevertUntil == nil || int64(f.rows(t)) != i.Counts.Created {
			t.Fatalf("%s, %+v, %d rows", j.Status, i, f.rows(t))
		}
		if report := f.report(t, i.ID, "commit"); int64(len(report)-1) != i.Counts.Created+i.Counts.Skipped+i.Counts.Errors {
			t.Errorf("the report of a canceled commit has %d lines for %+v", len(report), i.Counts)
		}
		f.work(t)
		i = f.do(t, i.ID, "commit")
		if *i.Counts != (transfer.Counts{Created: int64(created), Skipped: int64(skipped), Errors: int64(wrong)}) || f.rows(t) != created {
			t.Errorf("%+v, %d rows", i.Counts, f.rows(t))
		}
		i = f.do(t, i.ID, "revert")
		if f.rows(t) != 0 || i.Reverted.Removed != int64(created) {
			t.Errorf("%+v, %d rows", i.Reverted, f.rows(t))
		}
	})
}

func (f *fixture) rows(t *testing.T) int {
	t.Helper()
	n, err := f.db.Read().NewSelect().Table("plains").Count(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return int(n)
}

// killed has processes, two at a time, work while fn runs. Each of the first ones is killed at any moment: its connections
// are cut, so that nothing is committed any more and nobody says good-bye.
func (i *installation) killed(t *testing.T, kills int64, fn func()) {
	t.Helper()
	var lanes sync.WaitGroup
	var left atomic.Int64
	left.Store(kills)
	over := make(chan struct{})
	for range 2 {
		lanes.Go(func() {
			for {
				life := time.Duration(rand.Int64N(int64(time.Second)))
				if left.Add(-1) < 0 {
					life = time.Hour
				}
				i.live(t, life, over)
				select {
				case <-over:
					return
				default:
				}
			}
		})
	}
	fn()
	close(over)
	lanes.Wait()
	t.Logf("killed %d times", kills-max(0, left.Load()))
}

// live is the life of one process, which is over when the time is, or the test.
func (i *installation) live(t *testing.T, life time.Duration, over <-chan struct{}) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	p := i.process(t, ctx, options{lease: time.Second})
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := p.jobs.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	select {
	case <-time.After(life):
	case <-over:
	}
	_ = p.db.Close() // the queries in progress fail: that is the point
	cancel()
	<-done
	p.close()
}

func TestKilledImportsWriteEveryRowOnce(t *testing.T) {
	each(t, options{}, func(t *testing.T, f *fixture) {
		text, created, skipped, wrong := many(8_000)
		i := f.upload(t, "plains", text)
		var commit, revert job.Job
		f.killed(t, 12, func() {
			f.ask(t, http.MethodPost, "/v1/imports/"+i.ID+"/commit", nil, http.StatusAccepted, &commit)
			commit = f.ended(t, commit.ID)
		})
		i = f.get(t, i.ID)
		if commit.Status != job.Succeeded || *i.Counts != (transfer.Counts{Created: int64(created), Skipped: int64(skipped), Errors: int64(wrong)}) {
			t.Fatalf("%s %s, %+v", commit.Status, commit.Failure, i.Counts)
		}
		if f.rows(t) != created {
			t.Errorf("%d rows, want %d", f.rows(t), created)
		}
		report := table(t, f.fetch(t, "/v1/imports/"+i.ID+"/report?as=json"))
		if len(report) != 8_001 || !strings.HasPrefix(report[8_000], "8001~error~~level~") {
			t.Errorf("%d lines, the last %q", len(report), report[len(report)-1])
		}
		f.killed(t, 12, func() {
			f.ask(t, http.MethodPost, "/v1/imports/"+i.ID+"/revert", nil, http.StatusAccepted, &revert)
			revert = f.ended(t, revert.ID)
		})
		if i = f.get(t, i.ID); i.Status != transfer.Reverted || i.Reverted.Removed != int64(created) || f.rows(t) != 0 {
			t.Errorf("%s %s, %+v, %d rows", revert.Status, revert.Failure, i.Reverted, f.rows(t))
		}
	})
}

func TestWhatIsKeptNoLongerIsRemoved(t *testing.T) {
	each(t, options{}, func(t *testing.T, f *fixture) {
		f.work(t)
		done := f.do(t, f.upload(t, "plains", "number\n1000\n").ID, "commit")
		waiting, old := f.upload(t, "plains", "number\n1001\n"), f.upload(t, "plains", "number\n1002\n")
		long := db.Now().Add(-8 * 24 * time.Hour)
		for _, q := range []string{"UPDATE imports SET created_at = ? WHERE id = '" + old.ID + "'", "UPDATE imports SET revert_until = ? WHERE id = '" + done.ID + "'"} {
			if _, err := f.db.Write().NewRaw(q, long).Exec(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.service.Purge(t.Context()); err != nil {
			t.Fatal(err)
		}
		for id, kept := range map[string]bool{done.ID: false, waiting.ID: true, old.ID: false} {
			_, err := f.blobs.Stat(t.Context(), "imports/"+resttest.Account+"/"+id+"/upload")
			if (err == nil) != kept || !kept && !errors.Is(err, blob.ErrNotFound) {
				t.Errorf("the upload of %s: %v", id, err)
			}
		}
		if got := f.dump(t, "SELECT import_id FROM import_batches"); len(got) != 0 {
			t.Errorf("batches %q", got)
		}
		f.ask(t, http.MethodPost, "/v1/imports/"+done.ID+"/revert", nil, http.StatusConflict, nil)
		f.report(t, done.ID, "commit")
		if _, err := f.db.Write().NewRaw("UPDATE imports SET updated_at = ?", db.Now().Add(-31*24*time.Hour)).Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := f.service.Purge(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.ask(t, http.MethodGet, "/v1/imports/"+done.ID+"/report", nil, http.StatusNotFound, nil)
		var j job.Job
		f.ask(t, http.MethodPost, "/v1/imports/"+old.ID+"/commit", nil, http.StatusAccepted, &j)
		if j = f.ended(t, j.ID); j.Status != job.Failed || !strings.Contains(j.Failure, "upload it again") {
			t.Errorf("%s %s", j.Status, j.Failure)
		}
	})
}

func TestATemplateIsMappedByItself(t *testing.T) {
	f := newFixture(t, sqliteURL(t), options{})
	for _, format := range []string{"csv", "xlsx"} {
		for _, language := range []string{"zh", "en"} {
			for _, resource := range []string{"numbers", "credentials", "plains"} {
				w := f.Do(t, resttest.Token, http.MethodGet, "/v1/imports/template?resource="+resource+"&format="+format+"&language="+language, nil)
				if w.Code != http.StatusOK || w.Header().Get("Content-Type") != sheet.Format(format).ContentType() {
					t.Fatal(w.Code, w.Header())
				}
				i := f.upload(t, resource, w.Body.String())
				if len(i.Mapping) != len(i.Header) || len(i.Missing) != 0 || string(i.Format) != format {
					t.Errorf("%s %s %s: %v of %q", resource, format, language, i.Mapping, i.Header)
				}
			}
		}
	}
	if w := f.Do(t, "but:plains.write", http.MethodGet, "/v1/imports/template?resource=plains", nil); w.Code != http.StatusForbidden {
		t.Errorf("without the permission: %d", w.Code)
	}
}
