package sheet

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// openCSV opens a csv and fills info but for the header.
func openCSV(file io.ReaderAt, size int64, o Options, info *Info) (source, error) {
	info.Format, info.Encoding, info.Separator = CSV, o.Encoding, o.Separator
	var err error
	if info.Encoding == "" {
		if info.Encoding, err = detect(file, size); err != nil {
			return nil, err
		}
	}
	text, err := decoded(file, size, info.Encoding)
	if err != nil {
		return nil, err
	}
	sample := make([]byte, sampled)
	n, err := io.ReadFull(text, sample)
	whole := err != nil
	if whole && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("read file: %w", err)
	}
	sample = sample[:n]
	if control(sample) {
		return nil, refused("format", "is neither a csv nor an xlsx")
	}
	if info.Separator == "" {
		info.Separator = separator(said(sample), whole)
		if line, _, _ := strings.Cut(string(sample[:min(len(sample), 16)]), "\n"); slices.Contains(Separators(), after(line)) {
			info.Separator = after(line)
		}
	}
	if !slices.Contains(Separators(), info.Separator) {
		return nil, refused("separator", "cannot be separated by %q; there are comma, semicolon, tab and |", info.Separator)
	}
	// The sample is read again: a transform cannot go back.
	if text, err = decoded(file, size, info.Encoding); err != nil {
		return nil, err
	}
	// Room for a row of the widest cells that is not one by mistake.
	return newCSV(text, info.Separator[0], max(1<<20, 4*o.Limits.Cell)), nil
}

// control reports whether a text begins as programs' files do and tables' do not.
func control(sample []byte) bool {
	strange := 0
	for _, b := range sample {
		if b < ' ' && b != '\n' && b != '\r' && b != '\t' && b != 0 {
			strange++
		}
	}
	return strange > len(sample)/50
}

// after gives the separator of Excel's first line "sep=;", "" when it is none.
func after(line string) string {
	s, ok := strings.CutPrefix(strings.TrimRight(line, "\r"), "sep=")
	if !ok || len(s) != 1 {
		return ""
	}
	return s
}

// said is a sample without Excel's first line.
func said(sample []byte) []byte {
	line, rest, _ := bytes.Cut(sample, []byte("\n"))
	if after(string(line)) != "" {
		return rest
	}
	return sample
}

// csvSource reads records as RFC 4180 has them, and as people write them: lines end in CRLF, LF or CR, a quote within a
// cell that did not begin with one is itself. A record that cannot be right, because a quote is never closed or is
// followed by more text, is one broken row; reading goes on at the line after the one it began on.
type csvSource struct {
	in        *bufio.Reader
	separator byte
	most      int // bytes of a record

	first bool   // nothing was read yet
	eol   byte   // '\r' in a file without any '\n'
	back  []byte // lines to be read again
	long  bool   // after them comes a line that was too long to keep
	line  int64  // of the last line read
	ended bool   // the last line has been read
}

func newCSV(text io.Reader, separator byte, most int) *csvSource {
	return &csvSource{in: bufio.NewReaderSize(text, 64<<10), separator: separator, most: most, first: true}
}

func (c *csvSource) close() {}

// errLong is a line above the bound.
var errLong = errors.New("is too long; it may lack a closing quote")

// read gives the next line with its end, which is "\n" however it is written; the last one may have none. What it gives
// is valid until the next call.
func (c *csvSource) read() ([]byte, error) {
	if len(c.back) > 0 {
		line := c.back
		if i := bytes.IndexByte(c.back, '\n'); i >= 0 {
			line = c.back[:i+1]
		}
		c.back = c.back[len(line):]
		c.line++
		return line, nil
	}
	if c.long {
		c.long = false
		c.line++
		return nil, errLong
	}
	var line []byte
	long := false
	for {
		part, err := c.in.ReadSlice(c.eol)
		if !long {
			line = append(line, part...)
		}
		long = long || len(line) > c.most
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if errors.Is(err, io.EOF) {
			c.ended = true
			if len(line) == 0 {
				return nil, io.EOF
			}
		} else if err != nil {
			return nil, fmt.Errorf("read file: %w", err)
		}
		break
	}
	c.line++
	if long {
		return nil, errLong
	}
	if c.eol == '\r' {
		if n := len(line); line[n-1] == '\r' {
			line[n-1] = '\n'
		}
	} else if bytes.HasSuffix(line, []byte("\r\n")) {
		line = append(line[:len(line)-2], '\n')
	}
	return line, nil
}

// begin finds out how lines end, and steps over Excel's "sep=;".
func (c *csvSource) begin() error {
	c.first, c.eol = false, '\n'
	start, err := c.in.Peek(c.in.Size())
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, bufio.ErrBufferFull) {
		return fmt.Errorf("read file: %w", err)
	}
	if bytes.IndexByte(start, '\n') < 0 && bytes.IndexByte(start, '\r') >= 0 {
		c.eol = '\r'
	}
	line, _, found := bytes.Cut(start, []byte{c.eol})
	if found && after(string(line)) != "" {
		c.line++
		_, err = c.in.Discard(len(line) + 1)
		return err
	}
	return nil
}

func (c *csvSource) next() (Row, error) {
	if c.first {
		if err := c.begin(); err != nil {
			return Row{}, err
		}
	}
	for {
		row, err := c.record()
		if err != nil || row.Err != nil || !blank(row.Cells) {
			return row, err
		}
	}
}

// record reads one record.
func (c *csvSource) record() (Row, error) {
	line, err := c.read()
	start := c.line
	if errors.Is(err, errLong) {
		return Row{Line: start, Err: errLong}, nil
	}
	if err != nil {
		return Row{}, err
	}
	if bytes.IndexByte(line, '"') < 0 {
		return Row{Line: start, Cells: strings.Split(string(bytes.TrimSuffix(line, []byte("\n"))), string(c.separator))}, nil
	}
	p := parser{separator: c.separator}
	raw := bytes.Clone(line)
	head := len(raw)
	broken := func(why error) (Row, error) {
		c.back = append(bytes.Clone(raw[head:]), c.back...)
		c.line = start
		return Row{Line: start, Err: why}, nil
	}
	for {
		done, wrong := p.feed(line)
		if wrong != nil {
			return broken(wrong)
		}
		if done {
			return Row{Line: start, Cells: p.cells}, nil
		}
		line, err = c.read()
		switch {
		case errors.Is(err, io.EOF):
			if !p.quoted() {
				return Row{Line: start, Cells: p.finish()}, nil
			}
			return broken(errOpen)
		case errors.Is(err, errLong):
			c.long = true
			return broken(errOpen)
		case err != nil:
			return Row{}, err
		}
		if raw = append(raw, line...); len(raw) > c.most {
			return broken(errOpen)
		}
	}
}

var (
	errOpen  = errors.New("has a quote that is never closed")
	errQuote = errors.New("has text after a closing quote; write a quote within quotes twice")
)

// parser is the state within a record.
type parser struct {
	separator byte
	state     state
	cell      []byte
	cells     []string
}

type state int

const (
	cellStart state = iota
	plain
	inQuotes
	afterQuote
)

func (p *parser) quoted() bool { return p.state == inQuotes }

// finish ends a record whose last line has no end.
func (p *parser) finish() []string {
	p.emit()
	return p.cells
}

func (p *parser) emit() {
	p.cells = append(p.cells, string(p.cell))
	p.cell, p.state = p.cell[:0], cellStart
}

// feed takes the next line; done is true when the record ended with it.
func (p *parser) feed(line []byte) (done bool, err error) {
	for _, b := range line {
		switch {
		case p.state == inQuotes && b == '"':
			p.state = afterQuote
		case p.state == inQuotes:
			p.cell = append(p.cell, b)
		case p.state == cellStart && b == '"':
			p.state = inQuotes
		case p.state == afterQuote && b == '"':
			p.cell = append(p.cell, b)
			p.state = inQuotes
		case b == p.separator:
			p.emit()
		case b == '\n':
			p.emit()
			return true, nil
		case p.state == afterQuote:
			return false, errQuote
		default:
			p.cell = append(p.cell, b)
			p.state = plain
		}
	}
	return false, nil
}
