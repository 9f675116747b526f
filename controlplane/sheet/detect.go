package sheet

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"
)

// Encoding is how a csv writes characters.
type Encoding string

// The encodings. A byte order mark is no part of the text.
const (
	UTF8    Encoding = "utf-8"
	UTF16LE Encoding = "utf-16le"
	UTF16BE Encoding = "utf-16be"
	GB18030 Encoding = "gb18030" // and so GBK and GB2312
)

// Separators are what may stand between the cells of a csv.
func Separators() []string { return []string{",", ";", "\t", "|"} }

// marks are the byte order marks.
func marks() map[Encoding]string {
	return map[Encoding]string{UTF8: "\xef\xbb\xbf", UTF16LE: "\xff\xfe", UTF16BE: "\xfe\xff"}
}

// sampled is how much of a file its separator is guessed from.
const sampled = 64 << 10

// detect finds the encoding of a csv. UTF-8 is told from GB18030 by the whole file: a list of numbers is ASCII until the
// first name.
func detect(file io.ReaderAt, size int64) (Encoding, error) {
	start := make([]byte, min(size, sampled))
	if _, err := file.ReadAt(start, 0); err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read file: %w", err)
	}
	for encoding, mark := range marks() {
		if bytes.HasPrefix(start, []byte(mark)) {
			return encoding, nil
		}
	}
	if encoding := wide(start); encoding != "" {
		return encoding, nil
	}
	good, bad, err := count(io.NewSectionReader(file, 0, size))
	if err != nil {
		return "", err
	}
	// A few bytes spoilt in a text of UTF-8 leave it UTF-8, with some rows that cannot be read. GB18030 looks like UTF-8
	// in about one character of forty.
	if good >= 4*bad {
		return UTF8, nil
	}
	return GB18030, nil
}

// wide tells UTF-16 without a mark: of ASCII, which separators and line ends are, every other byte is 0.
func wide(start []byte) Encoding {
	var zeros [2]int
	for i, b := range start {
		if b == 0 {
			zeros[i%2]++
		}
	}
	few := len(start) / 100
	switch {
	case zeros[0]+zeros[1] == 0:
		return ""
	case zeros[1] > few && zeros[1] > 10*zeros[0]:
		return UTF16LE
	case zeros[0] > few && zeros[0] > 10*zeros[1]:
		return UTF16BE
	}
	return ""
}

// count tells how many characters beyond ASCII are well-formed as UTF-8, and how many bytes are not.
func count(r io.Reader) (good, bad int64, err error) {
	buffer, kept := make([]byte, 64<<10), 0
	for {
		n, err := r.Read(buffer[kept:])
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, 0, fmt.Errorf("read file: %w", err)
		}
		text, last := buffer[:kept+n], errors.Is(err, io.EOF)
		for len(text) > 0 && (last || utf8.FullRune(text)) {
			if text[0] < utf8.RuneSelf {
				text = text[1:]
				continue
			}
			if r, width := utf8.DecodeRune(text); r == utf8.RuneError && width == 1 {
				bad++
				text = text[1:]
			} else {
				good++
				text = text[width:]
			}
		}
		if last {
			return good, bad, nil
		}
		kept = copy(buffer, text)
	}
}

// decoded reads a file of an encoding as UTF-8. What an encoding other than UTF-8 cannot mean becomes U+FFFD.
func decoded(file io.ReaderAt, size int64, encoding Encoding) (io.Reader, error) {
	from := int64(0)
	if mark := marks()[encoding]; mark != "" {
		start := make([]byte, len(mark))
		if _, err := file.ReadAt(start, 0); err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("read file: %w", err)
		}
		if string(start) == mark {
			from = int64(len(mark))
		}
	}
	text := io.NewSectionReader(file, from, size-from)
	switch encoding {
	case UTF8:
		return text, nil
	case UTF16LE:
		return transform.NewReader(text, unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM).NewDecoder()), nil
	case UTF16BE:
		return transform.NewReader(text, unicode.UTF16(unicode.BigEndian, unicode.IgnoreBOM).NewDecoder()), nil
	case GB18030:
		return transform.NewReader(text, simplifiedchinese.GB18030.NewDecoder()), nil
	}
	return nil, refused("encoding", "cannot be read as %q; there are utf-8, utf-16le, utf-16be and gb18030", encoding)
}

// readable reports whether a cell is text.
func readable(cell string, encoding Encoding) bool {
	if strings.IndexByte(cell, 0) >= 0 || !utf8.ValidString(cell) {
		return false
	}
	return encoding == UTF8 || encoding == "" || !strings.ContainsRune(cell, utf8.RuneError)
}

// separator guesses what stands between the cells: that with which most rows of a sample are as wide as the first, the
// widest of those.
func separator(sample []byte, whole bool) string {
	best, bestScore := ",", 0.0
	for _, s := range Separators() {
		c := newCSV(bytes.NewReader(sample), s[0], len(sample)+1)
		width, same, rows := 0, 0, 0
		for rows < 50 {
			row, err := c.next()
			if err != nil {
				break
			}
			// The sample may end within a row.
			if !whole && c.ended {
				break
			}
			rows++
			if rows == 1 {
				width = len(row.Cells)
			}
			if row.Err == nil && len(row.Cells) == width {
				same++
			}
		}
		if width < 2 {
			continue
		}
		if score := float64(same)/float64(rows) + float64(min(width, 50))/1000; score > bestScore {
			best, bestScore = s, score
		}
	}
	return best
}
