package prompt

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/hookswitch/hookswitch/edge/media"
)

func silence(samples int) *media.Prompt { return media.NewPrompt(make([]int16, samples)) }

func TestCacheForgetsWhatWasUsedLongestAgo(t *testing.T) {
	c := newCache(3 * (2000 + entryOverhead + 1))
	for _, key := range []string{"a", "b", "c"} {
		c.put(key, entry{prompt: silence(1000)})
	}
	playing := c.get("a")
	c.put("d", entry{prompt: silence(1000)})
	for key, kept := range map[string]bool{"a": true, "b": false, "c": true, "d": true} {
		if (c.get(key) != nil) != kept {
			t.Errorf("%s: kept %v", key, !kept)
		}
	}
	c.put("e", entry{prompt: silence(3000)})
	if c.get("e") == nil || playing.Duration() == 0 {
		t.Error("what needs all the room is not kept")
	}
}

func TestCacheStaysWithinItsBytes(t *testing.T) {
	const maxBytes = 100_000
	c := newCache(maxBytes)
	for i := range 1000 {
		header := http.Header{"Etag": {strings.Repeat("x", i)}}
		c.put(fmt.Sprint(i%300), entry{prompt: silence(i * 7 % 5000), header: header})
		if i%11 == 0 {
			c.remove(fmt.Sprint(i % 100))
		}
		sum := int64(0)
		for element := c.recent.Front(); element != nil; element = element.Next() {
			sum += element.Value.(*item).size()
		}
		if c.bytes != sum || sum > maxBytes || len(c.items) != c.recent.Len() {
			t.Fatalf("after %d: %d bytes counted, %d held by %d of %d entries", i, c.bytes, sum, len(c.items), c.recent.Len())
		}
	}
}

func TestCacheKeepsNothingLargerThanItself(t *testing.T) {
	c := newCache(10_000)
	c.put("small", entry{prompt: silence(100)})
	c.put("large", entry{prompt: silence(10_000)})
	if c.get("large") != nil || c.get("small") == nil {
		t.Error("a large prompt took the place of the others")
	}
	c.put("small", entry{prompt: silence(10_000)})
	if c.get("small") != nil || c.bytes != 0 {
		t.Error("the old version of a prompt that grew too large is still there")
	}
}
