package transfer

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/uptrace/bun"
	"golang.org/x/text/width"

	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/problem"
)

// headings gives every column of a file a name of its own: what the heading says, "column 3" where that is nothing, and
// "name (2)" where it was there before.
func headings(header []string) []string {
	names := make([]string, len(header))
	had := map[string]bool{}
	for i, name := range header {
		name = strings.Join(strings.Fields(name), " ")
		if runes := []rune(name); len(runes) > sampleCell {
			name = string(runes[:sampleCell])
		}
		if name == "" {
			name = fmt.Sprintf("column %d", i+1)
		}
		base := name
		for n := 2; had[name]; n++ {
			name = fmt.Sprintf("%s (%d)", base, n)
		}
		had[name] = true
		names[i] = name
	}
	return names
}

// remap gives an import another mapping.
func (i *Import) remap(r *Resource, mapping map[string]string) error {
	used := map[string]string{}
	for _, column := range slices.Sorted(maps.Keys(mapping)) {
		name := mapping[column]
		at := "/mapping/" + column
		switch {
		case r.column(column) == nil:
			return problem.InvalidField(at, "unknown", "is no column of %s", r.Name)
		case !slices.Contains(i.Header, name):
			return problem.InvalidField(at, "unknown", "%q is not in the heading of the file", name)
		case used[name] != "":
			return problem.InvalidField(at, "duplicate", "%q is mapped to %s already", name, used[name])
		}
		used[name] = column
	}
	i.Mapping = mapping
	if i.Mapping == nil {
		i.Mapping = map[string]string{}
	}
	i.settle(r)
	return nil
}

// remembered is the mapping that was last committed for files with the same heading.
type remembered struct {
	bun.BaseModel `bun:"table:import_mappings"`

	AccountID  string            `bun:"account_id,pk"`
	Resource   string            `bun:"resource,pk"`
	HeaderHash string            `bun:"header_hash,pk"`
	Mapping    map[string]string `bun:"mapping,type:jsonb"`
	UpdatedAt  time.Time         `bun:"updated_at"`
}

// hash tells headings apart, whatever the order of their columns.
func hash(header []string) string {
	text, err := json.Marshal(slices.Sorted(slices.Values(header)))
	if err != nil {
		panic(fmt.Sprintf("transfer: texts cannot be marshalled: %v", err))
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// remember keeps the mapping of an import for the next file of its kind.
func (s *Service) remember(ctx context.Context, tx *db.Tx, i *Import) error {
	_, err := tx.Write().NewInsert().
		Model(&remembered{AccountID: i.AccountID, Resource: i.Resource, HeaderHash: hash(i.Header), Mapping: i.Mapping, UpdatedAt: db.Now()}).
		On("CONFLICT (account_id, resource, header_hash) DO UPDATE").Set("mapping = EXCLUDED.mapping").Set("updated_at = EXCLUDED.updated_at").
		Exec(ctx)
	return db.Check(err)
}

// propose gives the mapping that was used last for this heading, else one by the names.
func (s *Service) propose(ctx context.Context, account string, r *Resource, header []string) (map[string]string, error) {
	var known remembered
	err := s.DB.Read().NewSelect().Model(&known).Where("account_id = ?", account).Where("resource = ?", r.Name).
		Where("header_hash = ?", hash(header)).Scan(ctx)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return nil, db.Check(err)
	}
	mapping := map[string]string{}
	if err == nil {
		// The resource may have lost a column since.
		for column, name := range known.Mapping {
			if r.column(column) != nil && slices.Contains(header, name) {
				mapping[column] = name
			}
		}
		return mapping, nil
	}
	return guess(r, header), nil
}

// guess finds the columns of a resource by the names of a heading: those that are the same first, then those of which
// one holds the other.
func guess(r *Resource, header []string) map[string]string {
	mapping, used := map[string]string{}, map[string]bool{}
	for _, fits := range []func(a, b string) bool{
		func(a, b string) bool { return a == b },
		func(a, b string) bool {
			return len([]rune(a)) >= 2 && len([]rune(b)) >= 2 && (strings.Contains(a, b) || strings.Contains(b, a))
		},
	} {
		for _, c := range r.Columns {
			for _, name := range header {
				if mapping[c.Name] == "" && !used[name] && slices.ContainsFunc(c.names(), func(known string) bool { return fits(folded(known), folded(name)) }) {
					mapping[c.Name] = name
					used[name] = true
				}
			}
		}
	}
	return mapping
}

// names are all by which files may call a column.
func (c Column) names() []string {
	return append([]string{c.Name, c.Label.Chinese, c.Label.English}, c.Aliases...)
}

// folded is a name without what people write differently: case, width, and everything that is no letter or digit.
func folded(name string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			return -1
		}
		return unicode.ToLower(r)
	}, width.Fold.String(name))
}
