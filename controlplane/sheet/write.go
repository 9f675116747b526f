package sheet

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode"

	"github.com/xuri/excelize/v2"
)

// MaxXLSXRows is what a sheet can hold below its heading.
const MaxXLSXRows = excelize.TotalRows - 1

// Writer writes a table. It is for one goroutine, and must be closed.
type Writer struct {
	format Format
	header []string
	out    *bufio.Writer

	book   *excelize.File
	stream *excelize.StreamWriter
	line   int
	closed bool
}

// NewWriter begins a table with a heading. A csv begins with a byte order mark, without which Excel takes it for the
// machine's own encoding. Of jsonl the heading are the names of the members.
func NewWriter(w io.Writer, format Format, header []string) (*Writer, error) {
	t := &Writer{format: format, header: header, out: bufio.NewWriterSize(w, 64<<10)}
	switch format {
	case CSV:
		if _, err := t.out.WriteString(marks()[UTF8]); err != nil {
			return nil, err
		}
	case JSONL:
		return t, nil
	case XLSX:
		t.book = excelize.NewFile()
		var err error
		if t.stream, err = t.book.NewStreamWriter("Sheet1"); err != nil {
			return nil, errors.Join(fmt.Errorf("begin xlsx: %w", err), t.book.Close())
		}
		frozen := excelize.Panes{Freeze: true, YSplit: 1, TopLeftCell: "A2", ActivePane: "bottomLeft"}
		if err := t.stream.SetPanes(&frozen); err != nil {
			return nil, errors.Join(fmt.Errorf("begin xlsx: %w", err), t.book.Close())
		}
	default:
		return nil, fmt.Errorf("write table: there is no format %q", format)
	}
	first := make([]any, len(header))
	for i, name := range header {
		first[i] = name
	}
	return t, t.row(first)
}

// Write adds a row: of strings, booleans, int64, float64, json.Number, json.RawMessage (which csv and xlsx show as text)
// and nil.
func (t *Writer) Write(cells []any) error {
	if t.format == JSONL {
		return t.object(cells)
	}
	return t.row(cells)
}

func (t *Writer) row(cells []any) error {
	if t.line++; t.format == XLSX {
		return t.xlsxRow(cells)
	}
	for i, cell := range cells {
		if i > 0 {
			if err := t.out.WriteByte(','); err != nil {
				return err
			}
		}
		if _, err := t.out.WriteString(quote(text(cell))); err != nil {
			return err
		}
	}
	_, err := t.out.WriteString("\r\n")
	return err
}

// text is a cell as csv has it. Only strings can be formulas.
func text(cell any) string {
	switch v := cell.(type) {
	case nil:
		return ""
	case string:
		return Harmless(v)
	case bool:
		return strconv.FormatBool(v)
	case int64:
		return strconv.FormatInt(v, 10)
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	case json.Number:
		return v.String()
	case json.RawMessage:
		return Harmless(string(v))
	}
	return Harmless(fmt.Sprint(cell))
}

// quote puts quotes where a reader of any separator needs them: a cell "a;=1+1" would become two for a reader by
// semicolon.
func quote(cell string) string {
	if strings.ContainsAny(cell, "\",;|\t\r\n") || strings.HasPrefix(cell, " ") || strings.HasSuffix(cell, " ") {
		return `"` + strings.ReplaceAll(cell, `"`, `""`) + `"`
	}
	return cell
}

// number is what a spreadsheet may take for a number, with nothing that it could calculate: a telephone number in E.164,
// or a negative number.
var number = regexp.MustCompile(`^(\+[0-9]{1,20}|-[0-9]{1,20}(\.[0-9]{1,20})?)$`)

// Harmless is a text as it is written into a csv. Spreadsheets calculate cells that begin with = + - or @, also behind
// spaces, tabs and line ends, and in their full-width forms, even between quotes: such a cell gets an apostrophe in front,
// which they take for "this is text". So does one that begins with an apostrophe and then like such a cell; so nothing is
// lost: Plain takes exactly one away.
//
// Left alone are plain numbers ("+8613800138000", "-1.5"): there is nothing in them to calculate, and other programs read
// them as they are.
func Harmless(cell string) string {
	if number.MatchString(cell) || !dangerous(strings.TrimLeft(cell, "'")) {
		return cell
	}
	return "'" + cell
}

// Plain undoes Harmless, for a cell that was read from a csv. It also takes away the apostrophe that people write in
// front of a telephone number.
func Plain(cell string) string {
	if rest, ok := strings.CutPrefix(cell, "'"); ok && dangerous(strings.TrimLeft(rest, "'")) {
		return rest
	}
	return cell
}

// dangerous reports whether a spreadsheet would calculate a text.
func dangerous(text string) bool {
	if text == "" {
		return false
	}
	if strings.ContainsRune("\t\r\n", rune(text[0])) {
		return true
	}
	text = strings.TrimLeftFunc(text, func(r rune) bool { return unicode.IsSpace(r) || unicode.Is(unicode.Cf, r) || unicode.IsControl(r) })
	return strings.HasPrefix(text, "=") || strings.HasPrefix(text, "+") || strings.HasPrefix(text, "-") || strings.HasPrefix(text, "@") ||
		strings.HasPrefix(text, "＝") || strings.HasPrefix(text, "＋") || strings.HasPrefix(text, "－") || strings.HasPrefix(text, "＠")
}

// maxExact is up to where a spreadsheet's numbers, which are doubles of 15 digits, keep every digit.
const maxExact = 1e15

// xlsxRow writes texts as texts, which a spreadsheet never calculates, and shows as they are.
func (t *Writer) xlsxRow(cells []any) error {
	if t.line > excelize.TotalRows {
		return refused("rows", "would have more than %d rows, which xlsx cannot hold; export csv", MaxXLSXRows)
	}
	row := make([]any, len(cells))
	for i, cell := range cells {
		switch v := cell.(type) {
		case json.Number:
			row[i] = v.String()
			if n, err := v.Float64(); err == nil && n > -maxExact && n < maxExact {
				row[i] = n
			}
		case json.RawMessage:
			row[i] = string(v)
		default:
			row[i] = v
		}
	}
	at, err := excelize.CoordinatesToCellName(1, t.line)
	if err != nil {
		return err
	}
	if err := t.stream.SetRow(at, row); err != nil {
		return fmt.Errorf("write row %d: %w", t.line, err)
	}
	return nil
}

func (t *Writer) object(cells []any) error {
	t.line++
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	b.WriteByte('{')
	wrote := false
	for i, cell := range cells {
		if cell == nil {
			continue
		}
		if wrote {
			b.WriteByte(',')
		}
		wrote = true
		if err := encoder.Encode(t.header[i]); err != nil {
			return err
		}
		b.Truncate(b.Len() - 1)
		b.WriteByte(':')
		if err := encoder.Encode(cell); err != nil {
			return fmt.Errorf("write row %d: %w", t.line, err)
		}
		b.Truncate(b.Len() - 1)
	}
	b.WriteString("}\n")
	_, err := t.out.Write(b.Bytes())
	return err
}

// Rows is how many rows were written below the heading.
func (t *Writer) Rows() int64 {
	if t.format == JSONL {
		return int64(t.line)
	}
	return int64(t.line - 1)
}

// Close ends the table. Only after it returned nil is it whole. It can be called twice.
func (t *Writer) Close() error {
	if t.closed {
		return nil
	}
	t.closed = true
	if t.format == XLSX {
		err := t.stream.Flush()
		if err == nil {
			_, err = t.book.WriteTo(t.out)
		}
		if err := errors.Join(err, t.book.Close()); err != nil {
			return fmt.Errorf("end xlsx: %w", err)
		}
	}
	return t.out.Flush()
}
