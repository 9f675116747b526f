package sheet_test

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/xuri/excelize/v2"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/unicode"

	"github.com/hookswitch/hookswitch/controlplane/sheet"
)

// read opens a file and gives its rows, one text each: line and cells, or line and what is wrong.
func read(t *testing.T, file []byte, o sheet.Options) (sheet.Info, []string, error) {
	t.Helper()
	r, err := sheet.Open(bytes.NewReader(file), int64(len(file)), o)
	if err != nil {
		return sheet.Info{}, nil, err
	}
	defer r.Close()
	var rows []string
	for {
		row, err := r.Next()
		switch {
		case errors.Is(err, io.EOF):
			return r.Info, rows, nil
		case err != nil:
			return r.Info, rows, err
		case row.Err != nil:
			rows = append(rows, fmt.Sprintf("%d !%s", row.Line, row.Err))
		default:
			rows = append(rows, fmt.Sprintf("%d %s", row.Line, strings.Join(row.Cells, "~")))
		}
	}
}

func encode(t *testing.T, text string, encoding sheet.Encoding) []byte {
	t.Helper()
	var out []byte
	var err error
	switch encoding {
	case sheet.UTF16LE:
		out, err = unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM).NewEncoder().Bytes([]byte(text))
	case sheet.UTF16BE:
		out, err = unicode.UTF16(unicode.BigEndian, unicode.IgnoreBOM).NewEncoder().Bytes([]byte(text))
	case sheet.GB18030:
		out, err = simplifiedchinese.GB18030.NewEncoder().Bytes([]byte(text))
	default:
		out = []byte(text)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestEncodingAndSeparatorAreDetected(t *testing.T) {
	for _, encoding := range []sheet.Encoding{sheet.UTF8, sheet.UTF16LE, sheet.UTF16BE, sheet.GB18030} {
		for _, separator := range sheet.Separators() {
			for _, mark := range []string{"", "\ufeff"} {
				if mark != "" && encoding == sheet.GB18030 {
					continue
				}
				text := mark + "号码" + separator + "姓名\r\n+8613800138000" + separator + "欧阳、春\r\n1000" + separator + "李, 四; 五\r\n"
				if separator != "\t" && separator != "|" {
					text = strings.ReplaceAll(text, "李, 四; 五", `"李, 四; 五"`)
				}
				name := fmt.Sprintf("%s %q %q", encoding, separator, mark)
				info, rows, err := read(t, encode(t, text, encoding), sheet.Options{})
				if err != nil || info.Encoding != encoding || info.Separator != separator || !slices.Equal(info.Header, []string{"号码", "姓名"}) {
					t.Errorf("%s: %+v %v", name, info, err)
				}
				if want := []string{"2 +8613800138000~欧阳、春", "3 1000~李, 四; 五"}; !slices.Equal(rows, want) {
					t.Errorf("%s: %q", name, rows)
				}
			}
		}
	}
}

// A list of numbers is ASCII for a long time before the first name tells how it is written.
func TestTheWholeFileDecidesTheEncoding(t *testing.T) {
	text := "number,name\n" + strings.Repeat("+8613800138000,\n", 20000) + "1000,欧阳\n"
	for _, encoding := range []sheet.Encoding{sheet.UTF8, sheet.GB18030} {
		info, rows, err := read(t, encode(t, text, encoding), sheet.Options{})
		if err != nil || info.Encoding != encoding || len(rows) != 20001 || !strings.HasSuffix(rows[20000], "~欧阳") {
			t.Errorf("%s: %+v, %d rows, %v", encoding, info, len(rows), err)
		}
	}
}

// same3 is what n rows "3,4" are read as, from line 3 on.
func same3(n int) []string {
	var rows []string
	for i := range n {
		rows = append(rows, fmt.Sprintf("%d 3~4", i+3))
	}
	return rows
}

func TestBrokenRowsAreReportedAndStopNoOther(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"quoted": {"a,b\n\"x\ny\",\"say \"\"hi\"\"\"\nlast,row", []string{"2 x\ny~say \"hi\"", "4 last~row"}},
		"crlf":   {"a,b\r\n\"x\r\ny\",2\r\n", []string{"2 x\ny~2"}},
		"cr":     {"a,b\r1,2\r3,4", []string{"2 1~2", "3 3~4"}},
		"inches": {"a,b\n5\" pipe,2\n", []string{"2 5\" pipe~2"}},
		"open": {"a,b\n\"never closed,2\n3,4\n5,6\n",
			[]string{"2 !has a quote that is never closed", "3 3~4", "4 5~6"}},
		"text after quote": {"a,b\n\"x\"y,2\n3,4\n", []string{"2 !has text after a closing quote; write a quote within quotes twice", "3 3~4"}},
		"wide":             {"a,b\n1,2,3\n1,2,,\n3\n", []string{"2 !has 3 cells, but the heading has 2", "3 1~2", "4 3~"}},
		"empty rows":       {"\n\na,b\n\n1,2\n,\n   \n3,4\n\n", []string{"5 1~2", "8 3~4"}},
		"bad bytes": {"name,b\n欧阳,2\n欧阳春山水\xff,2\n3,4\n",
			[]string{"2 欧阳~2", "3 !has characters that cannot be read; save the file as UTF-8", "4 3~4"}},
		"nul":       {"a,b\n1\x00,2\n" + strings.Repeat("3,4\n", 99), append([]string{"2 !has characters that cannot be read; save the file as UTF-8"}, same3(99)...)},
		"sep":       {"sep=;\na;b,c\n1;2\n", []string{"3 1~2"}},
		"apostroph": {"a,b\n'+8613800138000,'=1+1\n'plain,''x\n", []string{"2 +8613800138000~=1+1", "3 'plain~''x"}},
		"long cell": {"a,b\n" + strings.Repeat("x", 70<<10) + ",2\n3,4\n",
			[]string{"2 !has a cell of 71680 bytes; a cell may have at most 65536", "3 3~4"}},
		"long line": {"a,b\n" + strings.Repeat("x,", 1<<20) + "2\n3,4\n", []string{"2 !is too long; it may lack a closing quote", "3 3~4"}},
		"long line within quotes": {"a,b\n\"x\n1,2\n" + strings.Repeat("x", 2<<20) + "\n3,4\n",
			[]string{"2 !has a quote that is never closed", "3 1~2", "4 !is too long; it may lack a closing quote", "5 3~4"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, rows, err := read(t, []byte(c.text), sheet.Options{})
			if err != nil || !slices.Equal(rows, c.want) {
				t.Errorf("got %.200q %v, want %q", rows, err, c.want)
			}
		})
	}
}

func TestAFileThatIsNoTableIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		file string
		o    sheet.Options
		says string
	}{
		"empty":      {"", sheet.Options{}, "is empty"},
		"blank":      {"\n \n", sheet.Options{}, "has no row"},
		"old excel":  {"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", sheet.Options{}, "save it as xlsx"},
		"zip":        {"PK\x03\x04 and nothing", sheet.Options{}, "no xlsx that can be read"},
		"program":    {"\x7fELF\x02\x01\x01\x03\x04\x05\x06\x07\x08\x0e\x0f", sheet.Options{}, "neither a csv nor an xlsx"},
		"size":       {"a,b\n1,2\n", sheet.Options{Limits: sheet.Limits{File: 4}}, "has 8 bytes"},
		"rows":       {"a,b\n1,2\n3,4\n", sheet.Options{Limits: sheet.Limits{Rows: 1}}, "more than 1 rows"},
		"columns":    {"a,b,c\n", sheet.Options{Limits: sheet.Limits{Columns: 2}}, "has 3 columns"},
		"encoding":   {"a,b\n", sheet.Options{Encoding: "ebcdic"}, "cannot be read as"},
		"separator":  {"a,b\n", sheet.Options{Separator: "x"}, "cannot be separated by"},
		"open quote": {"\"a,b\n1,2\n", sheet.Options{}, "has a heading that cannot be read"},
	} {
		_, _, err := read(t, []byte(c.file), c.o)
		if _, ok := errors.AsType[*sheet.ErrRefused](err); !ok || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// book makes an xlsx of cells in Sheet1.
func book(t *testing.T, cells map[string]any, change func(*excelize.File)) []byte {
	t.Helper()
	f := excelize.NewFile()
	for at, v := range cells {
		if err := f.SetCellValue("Sheet1", at, v); err != nil {
			t.Fatal(err)
		}
	}
	if change != nil {
		change(f)
	}
	var out bytes.Buffer
	if err := f.Write(&out); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestXLSXKeepsNumbersAndDates(t *testing.T) {
	file := book(t, map[string]any{
		"A1": "号码", "B1": "生日", "C1": "ok",
		"A2": 8613800138000, "B2": 45000, "C2": true,
		"A3": "'013800138000", "B3": "x",
		"A6": 13800138000.0, "C6": "=1+1",
	}, func(f *excelize.File) {
		date, err := f.NewStyle(&excelize.Style{NumFmt: 14})
		if err != nil {
			t.Fatal(err)
		}
		general, err := f.NewStyle(&excelize.Style{NumFmt: 0, Font: &excelize.Font{Bold: true}})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(f.SetCellStyle("Sheet1", "B2", "B2", date), f.SetCellStyle("Sheet1", "A2", "A2", general)); err != nil {
			t.Fatal(err)
		}
	})
	info, rows, err := read(t, file, sheet.Options{})
	want := []string{"2 8613800138000~2023-03-15~TRUE", "3 '013800138000~x~", "6 13800138000~~=1+1"}
	if err != nil || info.Format != sheet.XLSX || info.Sheet != "Sheet1" || !slices.Equal(rows, want) {
		t.Errorf("%+v %q %v", info, rows, err)
	}
	if _, _, err := read(t, file, sheet.Options{Sheet: "none"}); err == nil || !strings.Contains(err.Error(), "it has Sheet1") {
		t.Errorf("another sheet: %v", err)
	}
}

func TestLargeXLSXIsStreamed(t *testing.T) {
	var out bytes.Buffer
	w, err := sheet.NewWriter(&out, sheet.XLSX, []string{"number", "name"})
	if err != nil {
		t.Fatal(err)
	}
	const n = 60000
	for i := range n {
		if err := w.Write([]any{fmt.Sprintf("+86138%08d", i), json.Number(fmt.Sprint(i))}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil || w.Rows() != n {
		t.Fatal(w.Rows(), err)
	}
	_, rows, err := read(t, out.Bytes(), sheet.Options{})
	if err != nil || len(rows) != n || rows[n-1] != "60001 +8613800059999~59999" {
		t.Errorf("%d rows, the last %q, %v", len(rows), rows[len(rows)-1], err)
	}
}

// bomb makes a zip with these parts.
func bomb(t *testing.T, parts map[string]io.Reader) []byte {
	t.Helper()
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	for name, content := range parts {
		w, err := z.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(w, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// zeros is n bytes that pack well.
func zeros(n int64) io.Reader { return io.LimitReader(same('x'), n) }

type same byte

func (s same) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(s)
	}
	return len(p), nil
}

func TestXLSXBombsAreRefused(t *testing.T) {
	limits := sheet.Limits{Unzipped: 32 << 20}
	many := map[string]io.Reader{}
	for i := range 2001 {
		many[fmt.Sprint("p", i)] = zeros(1)
	}
	for name, c := range map[string]struct {
		parts map[string]io.Reader
		says  string
	}{
		"unpacked size": {map[string]io.Reader{"xl/worksheets/sheet1.xml": zeros(33 << 20)}, "unpacks to more than"},
		"pictures":      {map[string]io.Reader{"xl/media/a.png": zeros(17 << 20)}, "beside its sheets"},
		"one cell":      {map[string]io.Reader{"xl/worksheets/sheet1.xml": io.MultiReader(strings.NewReader("<c>"), zeros(2<<20))}, "a cell of more than"},
		"parts":         {many, "2001 parts"},
	} {
		if _, _, err := read(t, bomb(t, c.parts), sheet.Options{Limits: limits}); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// written makes an xlsx with this text as its only sheet.
func written(t *testing.T, sheetXML string) []byte {
	t.Helper()
	plain := book(t, map[string]any{"A1": "a"}, nil)
	z, err := zip.NewReader(bytes.NewReader(plain), int64(len(plain)))
	if err != nil {
		t.Fatal(err)
	}
	parts := map[string]io.Reader{}
	for _, part := range z.File {
		r, err := part.Open()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		parts[part.Name] = r
	}
	parts["xl/worksheets/sheet1.xml"] = strings.NewReader(sheetXML)
	return bomb(t, parts)
}

func TestXLSXThatLiesAboutItsRows(t *testing.T) {
	const start, end = `<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>`, `</sheetData></worksheet>`
	cell := func(at, text string) string {
		return `<c r="` + at + `" t="inlineStr"><is><t>` + text + `</t></is></c>`
	}
	for name, c := range map[string]struct{ rows, says string }{
		"far row":    {start + `<row r="1">` + cell("A1", "a") + `</row><row r="2000000000">` + cell("A2000000000", "x") + `</row>` + end, "rows after"},
		"far column": {start + `<row r="1">` + cell("A1", "a") + `</row><row r="2">` + cell("XFD2", "x") + `</row>` + end, "columns in row 2"},
		"cut":        {start + `<row r="1">` + cell("A1", "a") + `</row><row r="2">` + cell("A2", "x"), "in the middle"},
	} {
		if _, _, err := read(t, written(t, c.rows), sheet.Options{}); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, rows, err := read(t, written(t, start+`<row r="1">`+cell("A1", "a")+`</row><row r="1000000">`+cell("A1000000", "x")+`</row>`+end), sheet.Options{})
	if err != nil || !slices.Equal(rows, []string{"1000000 x"}) {
		t.Errorf("%q %v", rows, err)
	}
}

// canaries are what spreadsheets calculate, of OWASP's page on CSV injection and of what was seen in the wild.
func canaries() []string {
	return []string{
		"=1+1", "+1+1", "-1+1", "@SUM(1+1)", "\t=1+1", "\r=1+1", "\n=1+1", " =1+1", "\u00a0=1+1", "\ufeff=1+1", "=cmd|' /C calc'!A0",
		"=HYPERLINK(\"http://x\",\"y\")", "+cmd|' /C calc'!A0", "-2+3+cmd|' /C calc'!A0", "@=1", "＝1+1", "＋1+1", "－1+1", "＠SUM(1)",
		"'=1+1", "''=1+1", "+86 138", "+8613800138000+1", "-1.5e5", "=", "+", "-", "@", "\x01=1+1", "a;=1+1", "a\t=1+1", "a|=1+1", "a\n=1+1",
	}
}

func TestFormulasAreNeutralizedAndComeBack(t *testing.T) {
	cells := append(canaries(), "+8613800138000", "-1.5", "-7", "1000", "", "'", "'x", "O'Neill", "欧阳", "a,b", `say "hi"`, " x ")
	var out bytes.Buffer
	w, err := sheet.NewWriter(&out, sheet.CSV, []string{"a", "=b"})
	if err != nil {
		t.Fatal(err)
	}
	for _, cell := range cells {
		if err := w.Write([]any{cell, "end"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(out.Bytes(), []byte("\ufeff")) {
		t.Error("Excel needs a byte order mark")
	}
	r, err := sheet.Open(bytes.NewReader(out.Bytes()), int64(out.Len()), sheet.Options{Separator: ","})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if r.Header[1] != "=b" {
		t.Errorf("heading %q", r.Header)
	}
	for _, want := range cells {
		row, err := r.Next()
		if err != nil || row.Err != nil {
			t.Fatal(err, row.Err)
		}
		// A line end within a cell is read as "\n".
		if got := row.Cells[0]; got != want {
			t.Errorf("%q became %q", want, got)
		}
	}
	for _, canary := range canaries() {
		got := sheet.Harmless(canary)
		if strings.ContainsAny(canary[:1], "a'") {
			continue
		}
		if got != "'"+canary {
			t.Errorf("%q is written as %q", canary, got)
		}
	}
	for _, number := range []string{"+8613800138000", "-1.5", "1000"} {
		if sheet.Harmless(number) != number {
			t.Errorf("%q is written as %q", number, sheet.Harmless(number))
		}
	}
	// Whoever reads by another separator must not find a cell that begins with "=" either.
	for _, line := range strings.Split(out.String(), "\r\n") {
		if strings.Contains(line, ";=") && !strings.Contains(line, `"a;=`) {
			t.Errorf("not quoted: %q", line)
		}
	}
}

func TestXLSXHoldsNoFormula(t *testing.T) {
	var out bytes.Buffer
	w, err := sheet.NewWriter(&out, sheet.XLSX, []string{"a", "b"})
	if err != nil {
		t.Fatal(err)
	}
	for _, canary := range canaries() {
		if err := w.Write([]any{canary, json.RawMessage(`{"x":1}`)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := excelize.OpenReader(&out)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	for i, canary := range canaries() {
		at := fmt.Sprintf("A%d", i+2)
		formula, err := f.GetCellFormula("Sheet1", at)
		if err != nil || formula != "" {
			t.Errorf("%q became the formula %q, %v", canary, formula, err)
		}
		kind, err := f.GetCellType("Sheet1", at)
		if err != nil || kind != excelize.CellTypeInlineString && kind != excelize.CellTypeSharedString {
			t.Errorf("%q has the type %d, %v", canary, kind, err)
		}
	}
}

func TestJSONLKeepsTypes(t *testing.T) {
	var out bytes.Buffer
	w, err := sheet.NewWriter(&out, sheet.JSONL, []string{"a", "b", "c", "d"})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Write([]any{"=<1>", json.Number("12345678901234567890"), true, json.RawMessage(`{"x":[1]}`)}), w.Write([]any{nil, "x"}), w.Close()); err != nil {
		t.Fatal(err)
	}
	want := `{"a":"=<1>","b":12345678901234567890,"c":true,"d":{"x":[1]}}` + "\n" + `{"b":"x"}` + "\n"
	if out.String() != want || w.Rows() != 2 {
		t.Errorf("got %s", out.String())
	}
}

func FuzzOpen(f *testing.F) {
	f.Add([]byte("a,b\n1,2\n"))
	f.Add([]byte("\xff\xfea\x00,\x00b\x00\n\x001\x00"))
	f.Add([]byte("\"a\"\"\n\",b\r\n\"x\"y\n"))
	f.Add([]byte("sep=;\n\xc5\xb7\xd1\xf4;b"))
	var out bytes.Buffer
	if w, err := sheet.NewWriter(&out, sheet.XLSX, []string{"a"}); err == nil {
		if errors.Join(w.Write([]any{"x"}), w.Close()) == nil {
			f.Add(out.Bytes())
		}
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		r, err := sheet.Open(bytes.NewReader(file), int64(len(file)), sheet.Options{Limits: sheet.Limits{Unzipped: 8 << 20, Rows: 1000}})
		if err != nil {
			if _, ok := errors.AsType[*sheet.ErrRefused](err); !ok {
				t.Errorf("not refused but: %v", err)
			}
			return
		}
		defer r.Close()
		line := int64(0)
		for {
			row, err := r.Next()
			if err != nil {
				return
			}
			if row.Line <= line && r.Format == sheet.CSV {
				t.Errorf("line %d after %d", row.Line, line)
			}
			line = row.Line
			if row.Err == nil && len(row.Cells) != len(r.Header) {
				t.Errorf("line %d has %d cells, the heading %d", line, len(row.Cells), len(r.Header))
			}
		}
	})
}

func FuzzHarmless(f *testing.F) {
	for _, canary := range canaries() {
		f.Add(canary)
	}
	f.Fuzz(func(t *testing.T, cell string) {
		written := sheet.Harmless(cell)
		if sheet.Plain(written) != cell {
			t.Errorf("%q became %q and then %q", cell, written, sheet.Plain(written))
		}
		if strings.HasPrefix(written, "=") || strings.HasPrefix(written, "@") {
			t.Errorf("%q is written as %q", cell, written)
		}
	})
}

func BenchmarkReadCSV(b *testing.B) {
	text := []byte("number,name,external_id\n" + strings.Repeat("+8613800138000,欧阳春,x-1\n", 100000))
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		r, err := sheet.Open(bytes.NewReader(text), int64(len(text)), sheet.Options{})
		if err != nil {
			b.Fatal(err)
		}
		for err == nil {
			_, err = r.Next()
		}
		if !errors.Is(err, io.EOF) {
			b.Fatal(err)
		}
	}
}
