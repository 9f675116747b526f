package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// hash is the SHA-256 of an entry, in hex. It is of the columns in this order, each as "name length\n", its bytes and
// "\n", or "name -\n" where it is null; so that nothing can move from one column to the next. created_at is RFC 3339
// with microseconds. before and after are in canonical JSON, or, where they are none, as they are, after "name raw".
func hash(e *Entry) string {
	h := sha256.New()
	column := func(name string, value []byte) {
		// A hash takes all it is given.
		_, _ = fmt.Fprintf(h, "%s %d\n%s\n", name, len(value), value)
	}
	object := func(name string, text json.RawMessage) {
		if text == nil {
			_, _ = fmt.Fprintf(h, "%s -\n", name)
			return
		}
		form, err := canonical(text)
		if err != nil {
			column(name+" raw", text)
			return
		}
		column(name, form)
	}
	column("id", []byte(e.ID))
	column("account_id", []byte(e.AccountID))
	column("created_at", []byte(e.CreatedAt.UTC().Format("2006-01-02T15:04:05.000000Z")))
	column("actor_id", []byte(e.ActorID))
	column("operation", []byte(e.Operation))
	column("object_id", []byte(e.ObjectID))
	column("status", strconv.AppendInt(nil, int64(e.Status), 10))
	column("address", []byte(e.Address))
	column("request_id", []byte(e.RequestID))
	object("before", e.Before)
	object("after", e.After)
	return hex.EncodeToString(h.Sum(nil))
}

// errNotCanonical is JSON that means different things to different readers.
var errNotCanonical = errors.New("not canonical")

// canonical gives JSON in one form, the same whatever a database made of the text: members sorted, no space between,
// strings as encoding/json writes them, numbers as exact decimals (see decimal). Text that is not UTF-8, no JSON, or has
// a member twice is an error.
func canonical(text []byte) ([]byte, error) {
	if !utf8.Valid(text) {
		return nil, errNotCanonical
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	out, err := canonicalValue(nil, d)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errNotCanonical
	}
	return out, nil
}

func canonicalValue(out []byte, d *json.Decoder) ([]byte, error) {
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch v := token.(type) {
	case json.Delim:
		if v == '{' {
			return canonicalObject(out, d)
		}
		return canonicalArray(out, d)
	case json.Number:
		return append(out, decimal(string(v))...), nil
	}
	text, err := json.Marshal(token)
	return append(out, text...), err
}

func canonicalArray(out []byte, d *json.Decoder) ([]byte, error) {
	out = append(out, '[')
	for first := true; d.More(); first = false {
		if !first {
			out = append(out, ',')
		}
		var err error
		if out, err = canonicalValue(out, d); err != nil {
			return nil, err
		}
	}
	_, err := d.Token()
	return append(out, ']'), err
}

func canonicalObject(out []byte, d *json.Decoder) ([]byte, error) {
	members := map[string][]byte{}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return nil, err
		}
		name, ok := token.(string)
		if _, twice := members[name]; !ok || twice {
			return nil, errNotCanonical
		}
		if members[name], err = canonicalValue(nil, d); err != nil {
			return nil, err
		}
	}
	if _, err := d.Token(); err != nil {
		return nil, err
	}
	out = append(out, '{')
	for i, name := range slices.Sorted(maps.Keys(members)) {
		if i > 0 {
			out = append(out, ',')
		}
		text, err := json.Marshal(name)
		if err != nil {
			return nil, err
		}
		out = append(append(append(out, text...), ':'), members[name]...)
	}
	return append(out, '}'), nil
}

// decimal writes a number of JSON in one form, exactly: its digits without zeros at either end, and a power of ten where
// there is one. 1.50, 15e-1 and 0.15e1 are 15e-1; 100 is 1e2. PostgreSQL writes 1e2 as 100, and floats would lose digits.
func decimal(text string) string {
	number, sign := strings.CutPrefix(text, "-")
	mantissa, power, _ := strings.Cut(strings.ToLower(number), "e")
	whole, fraction, _ := strings.Cut(mantissa, ".")
	exponent := 0
	if power != "" {
		var err error
		if exponent, err = strconv.Atoi(power); err != nil {
			return text // no number that anything computes with
		}
	}
	digits := strings.TrimLeft(whole+fraction, "0")
	exponent -= len(fraction)
	trimmed := strings.TrimRight(digits, "0")
	exponent += len(digits) - len(trimmed)
	if trimmed == "" {
		return "0"
	}
	if exponent != 0 {
		trimmed += "e" + strconv.Itoa(exponent)
	}
	if sign {
		return "-" + trimmed
	}
	return trimmed
}

// ago says how much earlier a time is, for a person.
func ago(earlier, later time.Time) string { return later.Sub(earlier).Round(time.Second).String() }
