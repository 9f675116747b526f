package sip

import "strings"

// maxCustom bounds what CustomHeaders hands on.
const (
	maxCustom      = 32
	maxCustomValue = 1024
)

// CustomHeaders returns the X- headers and User-to-User (RFC 7433) of the message that Header reads, the first line of
// each by its name as it came; nil when there are none. Of more than 32, or of values over 1 kB, the rest is left out.
func (d *Dialog) CustomHeaders() map[string]string {
	m := d.theirs()
	if m == nil {
		return nil
	}
	var out map[string]string
	for _, h := range m.headers {
		custom := len(h.Name) > 2 && strings.EqualFold(h.Name[:2], "X-") || strings.EqualFold(h.Name, "User-to-User")
		if !custom || len(h.Value) > maxCustomValue || len(out) >= maxCustom {
			continue
		}
		if out == nil {
			out = map[string]string{}
		}
		if _, ok := out[h.Name]; !ok {
			out[h.Name] = h.Value
		}
	}
	return out
}
