// Package sheet owns reading and writing tables as files: csv in the encodings and separators that people send, xlsx, and
// lines of JSON. Both ways it streams: memory does not grow with the number of rows. What the columns mean is left to
// package transfer.
package sheet

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// Format is a kind of file.
type Format string

// The formats. JSONL is only written.
const (
	CSV   Format = "csv"
	XLSX  Format = "xlsx"
	JSONL Format = "jsonl"
)

// ContentType is the media type of a format.
func (f Format) ContentType() string {
	switch f {
	case XLSX:
		return "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
	case JSONL:
		return "application/jsonl"
	}
	return "text/csv; charset=utf-8"
}

// ErrRefused is a file that is not read at all: its text says why, for whoever sent it. Broken rows are no reason.
type ErrRefused struct {
	Code    string // "size", "format", "sheet", "rows" …
	Message string // a sentence without a subject: "has more than 1000000 rows"
}

func (e *ErrRefused) Error() string { return "the file " + e.Message }

func refused(code, format string, args ...any) error {
	return &ErrRefused{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Limits bound what is read. The zero value of a field takes its default.
type Limits struct {
	File     int64 // bytes; 100 MiB
	Unzipped int64 // bytes of an xlsx's parts together; 1 GiB
	Rows     int64 // without the heading; 1,000,000
	Columns  int   // 200
	Cell     int   // bytes of a cell; 64 KiB
}

func (l Limits) withDefaults() Limits {
	if l.File == 0 {
		l.File = 100 << 20
	}
	if l.Unzipped == 0 {
		l.Unzipped = 1 << 30
	}
	if l.Rows == 0 {
		l.Rows = 1_000_000
	}
	if l.Columns == 0 {
		l.Columns = 200
	}
	if l.Cell == 0 {
		l.Cell = 64 << 10
	}
	return l
}

// Options say how a file is read. What is empty is detected.
type Options struct {
	Encoding  Encoding
	Separator string // one of Separators
	Sheet     string // of an xlsx; empty for the first
	Limits    Limits
}

// Info is what is known of a file once it is open.
type Info struct {
	Format    Format
	Encoding  Encoding // of csv
	Separator string   // of csv
	Sheet     string   // of xlsx
	Sheets    []string // of xlsx, all
	// Header is the first row that is not empty, as it is written: names may be empty or twice.
	Header []string
}

// Row is one row below the heading.
type Row struct {
	// Line is where it begins in the file, from 1: the line of a csv, the row number of an xlsx.
	Line int64
	// Cells are as many as the heading has. They are UTF-8 without NUL.
	Cells []string
	// Err says why the row cannot be read, in a sentence without a subject ("has 7 cells, but the heading has 5"). Then
	// there are no cells; the rows after it are read.
	Err error
}

// Reader reads the rows of a file, in order. It is for one goroutine.
type Reader struct {
	Info
	limits Limits
	source source
	rows   int64
}

// source gives the rows of a format, empty ones left out, io.EOF after the last.
type source interface {
	next() (Row, error)
	close()
}

// Open opens a file of size bytes. It is an ErrRefused when the file is none that can be read. Close the reader before
// the file.
func Open(file io.ReaderAt, size int64, o Options) (*Reader, error) {
	o.Limits = o.Limits.withDefaults()
	switch {
	case size == 0:
		return nil, refused("empty", "is empty")
	case size > o.Limits.File:
		return nil, refused("size", "has %d bytes, but may have at most %d", size, o.Limits.File)
	}
	start := make([]byte, min(size, 8))
	if _, err := file.ReadAt(start, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read file: %w", err)
	}
	r := &Reader{limits: o.Limits}
	var err error
	switch {
	case strings.HasPrefix(string(start), "PK\x03\x04"):
		r.source, err = openXLSX(file, size, o, &r.Info)
	case strings.HasPrefix(string(start), "\xd0\xcf\x11\xe0"):
		return nil, refused("format", "is an old or an encrypted Excel file; save it as xlsx without a password, or as csv")
	default:
		r.source, err = openCSV(file, size, o, &r.Info)
	}
	if err != nil {
		return nil, err
	}
	if err := r.header(); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

func (r *Reader) header() error {
	first, err := r.source.next()
	switch {
	case errors.Is(err, io.EOF):
		return refused("empty", "has no row")
	case err != nil:
		return err
	case first.Err != nil:
		return refused("header", "has a heading that cannot be read: it %s", first.Err)
	}
	if r.Header = first.Cells; r.Format == CSV {
		for i, name := range r.Header {
			r.Header[i] = Plain(name)
		}
	}
	for len(r.Header) > 0 && strings.TrimSpace(r.Header[len(r.Header)-1]) == "" {
		r.Header = r.Header[:len(r.Header)-1]
	}
	if len(r.Header) > r.limits.Columns {
		return refused("columns", "has %d columns, but may have at most %d", len(r.Header), r.limits.Columns)
	}
	return nil
}

// Next gives the next row, io.EOF after the last. Other errors end the reading: an ErrRefused when there are more rows
// than allowed.
func (r *Reader) Next() (Row, error) {
	row, err := r.source.next()
	if err != nil {
		return Row{}, err
	}
	if r.rows++; r.rows > r.limits.Rows {
		return Row{}, refused("rows", "has more than %d rows; split it", r.limits.Rows)
	}
	if row.Err == nil {
		row.Cells, row.Err = r.fit(row.Cells)
	}
	return row, nil
}

// fit brings a row to the heading's width, or says why that cannot be.
func (r *Reader) fit(cells []string) ([]string, error) {
	for i, cell := range cells {
		if r.Format == CSV {
			cells[i] = Plain(cell)
		}
		switch {
		case len(cell) > r.limits.Cell:
			return nil, fmt.Errorf("has a cell of %d bytes; a cell may have at most %d", len(cell), r.limits.Cell)
		case !readable(cell, r.Encoding):
			return nil, errors.New("has characters that cannot be read; save the file as UTF-8")
		}
	}
	for len(cells) > len(r.Header) && strings.TrimSpace(cells[len(cells)-1]) == "" {
		cells = cells[:len(cells)-1]
	}
	if len(cells) > len(r.Header) {
		return nil, fmt.Errorf("has %d cells, but the heading has %d", len(cells), len(r.Header))
	}
	for len(cells) < len(r.Header) {
		cells = append(cells, "")
	}
	return cells, nil
}

// Close frees the reader, and what it keeps in temporary files. It can be called twice. What cannot be removed is the
// system's to remove.
func (r *Reader) Close() { r.source.close() }

// blank reports whether a row has nothing in it.
func blank(cells []string) bool {
	for _, cell := range cells {
		if strings.TrimSpace(cell) != "" {
			return false
		}
	}
	return true
}
