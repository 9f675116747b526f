package webhooks

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// overrides are what Twilio's connection overrides in a URL's fragment ask for: #ct=2000&rt=5000&tt=10000&rc=2&rp=5xx
// (Twilio, "Webhooks (HTTP callbacks): Connection Overrides"). The zero value asks for nothing.
type overrides struct {
	connect, read, total time.Duration
	retries              *int
	policy               []string // of ct, rt, 4xx, 5xx, all
}

// cutOverrides splits a URL from its fragment and reads that. Keys and values it does not know are ignored, as a
// fragment may be anything; numbers are moved into Twilio's ranges.
func cutOverrides(raw string) (string, overrides) {
	base, fragment, _ := strings.Cut(raw, "#")
	var o overrides
	values, err := url.ParseQuery(fragment)
	if err != nil {
		return base, o
	}
	o.connect = overrideTime(values.Get("ct"), 100, 10_000)
	o.read = overrideTime(values.Get("rt"), 100, 15_000)
	o.total = overrideTime(values.Get("tt"), 100, 15_000)
	if n, err := strconv.Atoi(values.Get("rc")); err == nil {
		n = min(max(n, 0), 5)
		o.retries = &n
	}
	for word := range strings.SplitSeq(values.Get("rp"), ",") {
		if slices.Contains([]string{"ct", "rt", "4xx", "5xx", "all"}, word) {
			o.policy = append(o.policy, word)
		}
	}
	return base, o
}

func overrideTime(text string, low, high int) time.Duration {
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0
	}
	return time.Duration(min(max(n, low), high)) * time.Millisecond
}
