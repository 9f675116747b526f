package sheet

import (
	"archive/zip"
	"errors"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/xuri/excelize/v2"
)

// Bounds of an xlsx beside Limits: what is read into memory as a whole.
const (
	maxParts     = 2000
	maxSmallPart = 16 << 20 // all but sheets and shared strings, together: excelize keeps these in memory
	maxToken     = 1 << 20  // bytes of XML between two brackets
	maxWidth     = 1000     // cells of a row, those before the first with something in it among them
)

// openXLSX opens a sheet of an xlsx and fills info but for the header.
func openXLSX(file io.ReaderAt, size int64, o Options, info *Info) (_ source, err error) {
	if err := checkZip(file, size, o.Limits); err != nil {
		return nil, err
	}
	// The library panics on some files that no program wrote.
	defer func() {
		if v := recover(); v != nil {
			err = refused("format", "is no xlsx that can be read")
		}
	}()
	book, err := excelize.OpenReader(io.NewSectionReader(file, 0, size), excelize.Options{
		UnzipSizeLimit: o.Limits.Unzipped, UnzipXMLSizeLimit: min(4<<20, o.Limits.Unzipped),
	})
	if err != nil {
		return nil, refused("format", "is no xlsx that can be read")
	}
	info.Format, info.Sheets, info.Sheet = XLSX, book.GetSheetList(), o.Sheet
	if len(info.Sheets) == 0 {
		return nil, errors.Join(refused("sheet", "has no sheet"), book.Close())
	}
	if info.Sheet == "" {
		info.Sheet = info.Sheets[0]
	}
	if !slices.Contains(info.Sheets, info.Sheet) {
		return nil, errors.Join(refused("sheet", "has no sheet %q; it has %s", info.Sheet, strings.Join(info.Sheets, ", ")), book.Close())
	}
	if err := simplify(book); err != nil {
		return nil, errors.Join(refused("format", "is no xlsx that can be read"), book.Close())
	}
	rows, err := book.Rows(info.Sheet)
	if err != nil {
		return nil, errors.Join(refused("format", "is no xlsx that can be read"), book.Close())
	}
	return &xlsxSource{book: book, rows: rows}, nil
}

// noFormat is a number format that there is not: values with it are read as they are stored.
const noFormat = 9999

// simplify changes the number formats of a book's styles, so that a number is read with all its digits, however it is
// shown (a telephone number as "8.6138E+12"), and a date as ISO 8601 has it, whatever the country.
func simplify(book *excelize.File) error {
	if _, err := book.GetStyle(0); err != nil {
		return err
	}
	styles := book.Styles
	if styles.CellXfs == nil {
		return nil
	}
	codes := map[int]string{}
	if styles.NumFmts != nil {
		for _, f := range styles.NumFmts.NumFmt {
			codes[f.NumFmtID] = f.FormatCode
		}
	}
	given := len(styles.CellXfs.Xf)
	patterns := map[kind]string{isDate: "yyyy-mm-dd", isTime: "hh:mm:ss", isDate | isTime: "yyyy-mm-dd hh:mm:ss"}
	formats := map[kind]int{0: noFormat}
	for k, pattern := range patterns {
		made, err := book.NewStyle(&excelize.Style{CustomNumFmt: &pattern})
		if err != nil {
			return err
		}
		formats[k] = *styles.CellXfs.Xf[made].NumFmtID
	}
	for i := range given {
		id := 0
		if had := styles.CellXfs.Xf[i].NumFmtID; had != nil {
			id = *had
		}
		format := formats[kindOf(id, codes[id])]
		styles.CellXfs.Xf[i].NumFmtID = &format
	}
	return nil
}

// kind is what a number format shows of a number.
type kind int

const (
	isDate kind = 1 << iota
	isTime
)

// kindOf tells dates and times from numbers, by the built-in id (ECMA-376 part 1, 18.8.30) or the code of a custom one.
func kindOf(id int, code string) kind {
	if code == "" {
		switch {
		case id >= 14 && id <= 17, id >= 27 && id <= 31, id == 36, id >= 50 && id <= 54, id == 57, id == 58:
			return isDate
		case id >= 18 && id <= 21, id >= 32 && id <= 35, id >= 45 && id <= 47, id == 55, id == 56:
			return isTime
		case id == 22:
			return isDate | isTime
		}
		return 0
	}
	var found kind
	for _, r := range strings.ToLower(literals.ReplaceAllString(code, "")) {
		switch r {
		case 'y', 'd':
			found |= isDate
		case 'h', 's':
			found |= isTime
		}
	}
	return found
}

// literals are the parts of a number format's code that stand for themselves, colours and conditions.
var literals = regexp.MustCompile(`"[^"]*"|\\.|_.|\*.|\[[^\]hms]*\]|General`)

// checkZip refuses what would become too large. A part that unpacks to more than it says is refused while it is read
// (archive/zip). Nothing of it is ever written under a name that it gives.
func checkZip(file io.ReaderAt, size int64, l Limits) error {
	archive, err := zip.NewReader(file, size)
	if err != nil {
		return refused("format", "is no xlsx that can be read")
	}
	if len(archive.File) > maxParts {
		return refused("unzipped", "has %d parts, but may have at most %d", len(archive.File), maxParts)
	}
	var all, small uint64
	for _, part := range archive.File {
		all += part.UncompressedSize64
		if all > uint64(l.Unzipped) {
			return refused("unzipped", "unpacks to more than %d bytes", l.Unzipped)
		}
		if name := strings.ToLower(part.Name); !strings.HasPrefix(name, "xl/worksheets/sheet") && name != "xl/sharedstrings.xml" {
			if small += part.UncompressedSize64; small > maxSmallPart {
				return refused("unzipped", "has more than %d bytes beside its sheets, as pictures are; remove them", maxSmallPart)
			}
		}
	}
	for _, part := range archive.File {
		name := strings.ToLower(part.Name)
		if !strings.HasSuffix(name, ".xml") {
			continue
		}
		end, err := checkPart(part)
		if err != nil {
			return err
		}
		// The library takes the end of what it can parse for the end of the sheet, and rows would be missing.
		if strings.HasPrefix(name, "xl/worksheets/sheet") && !strings.HasSuffix(strings.TrimSpace(end), "worksheet>") {
			return refused("format", "ends in the middle of a sheet")
		}
	}
	return nil
}

// checkPart refuses XML with a single text or tag so long that a parser, which holds it whole, would fill the memory. It
// gives the last few bytes.
func checkPart(part *zip.File) (end string, err error) {
	r, err := part.Open()
	if err != nil {
		return "", refused("format", "is no xlsx that can be read")
	}
	defer r.Close()
	const kept = 64
	buffer, run := make([]byte, 32<<10), 0
	for {
		n, err := r.Read(buffer)
		for _, b := range buffer[:n] {
			if run++; b == '<' || b == '>' {
				run = 0
			}
			if run > maxToken {
				return "", refused("cell", "has a cell of more than %d bytes", maxToken)
			}
		}
		if n > 0 {
			end = end[max(0, len(end)-kept):] + string(buffer[max(0, n-kept):n])
		}
		if errors.Is(err, io.EOF) {
			return end, nil
		}
		if err != nil {
			return "", refused("format", "is no xlsx that can be read")
		}
	}
}

type xlsxSource struct {
	book *excelize.File
	rows *excelize.Rows
	line int64
}

func (x *xlsxSource) next() (row Row, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = refused("format", "cannot be read after row %d", x.line)
		}
	}()
	for x.rows.Next() {
		// A row may say that it is the two thousand millionth.
		if x.line++; x.line > excelize.TotalRows {
			return Row{}, refused("rows", "has rows after %d, which xlsx cannot hold", excelize.TotalRows)
		}
		cells, err := x.rows.Columns()
		if err != nil {
			return Row{}, refused("format", "cannot be read after row %d", x.line)
		}
		if len(cells) > maxWidth {
			return Row{}, refused("columns", "has %d columns in row %d, but may have at most %d", len(cells), x.line, maxWidth)
		}
		if !blank(cells) {
			return Row{Line: x.line, Cells: cells}, nil
		}
	}
	if err := x.rows.Error(); err != nil {
		return Row{}, refused("format", "cannot be read after row %d", x.line)
	}
	return Row{}, io.EOF
}

func (x *xlsxSource) close() {
	if x.book == nil {
		return
	}
	_ = errors.Join(x.rows.Close(), x.book.Close()) // temporary files that stay are the system's to remove
	x.book = nil
}
