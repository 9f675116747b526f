package event

import "strings"

// withoutNUL puts U+FFFD in the place of every NUL in the texts of a JSON value.
func withoutNUL(value any) any {
	switch v := value.(type) {
	case string:
		return strings.ReplaceAll(v, "\x00", "\ufffd")
	case []any:
		for i := range v {
			v[i] = withoutNUL(v[i])
		}
	case map[string]any:
		for name, each := range v {
			if strings.ContainsRune(name, 0) {
				delete(v, name)
				name = strings.ReplaceAll(name, "\x00", "\ufffd")
			}
			v[name] = withoutNUL(each)
		}
	}
	return value
}
