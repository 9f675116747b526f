package prompt

import (
	"container/list"
	"net/http"
	"sync"
	"time"

	"github.com/hookswitch/hookswitch/edge/media"
)

// entryOverhead is about what an entry costs beside its samples and key: map, list, validators.
const entryOverhead = 512

// entry is a prompt and what is known of where it came from.
type entry struct {
	prompt *media.Prompt
	etag   string // of the control plane's grant

	// For URLs alone.
	header       http.Header // the part of the answer's header that says how long it may be kept
	fresh        time.Time   // until then it may be played unasked
	mustValidate bool        // it may not be played when the origin cannot be asked
}

// cache holds entries up to a number of bytes, and forgets those that were used longest ago. A forgotten prompt stays
// valid for the calls that play it: it is immutable.
type cache struct {
	maxBytes int64

	mu     sync.Mutex // guards all below
	items  map[string]*list.Element
	recent *list.List // of *item, the last used in front
	bytes  int64
}

type item struct {
	key   string
	entry entry
}

func newCache(maxBytes int64) *cache {
	return &cache{maxBytes: maxBytes, items: make(map[string]*list.Element), recent: list.New()}
}

// lookup finds an entry and counts as its use.
func (c *cache) lookup(key string) (entry, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	element, ok := c.items[key]
	if !ok {
		return entry{}, false
	}
	c.recent.MoveToFront(element)
	return element.Value.(*item).entry, true
}

// get is lookup for what never grows old; nil when it is not there.
func (c *cache) get(key string) *media.Prompt {
	e, _ := c.lookup(key)
	return e.prompt
}

// put adds or replaces an entry. One that is larger than the whole cache is not kept.
func (c *cache) put(key string, e entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(c.items[key])
	added := &item{key: key, entry: e}
	if added.size() > c.maxBytes {
		return
	}
	c.items[key] = c.recent.PushFront(added)
	c.bytes += added.size()
	for c.bytes > c.maxBytes {
		c.drop(c.recent.Back())
	}
}

// remove forgets an entry, if it is there.
func (c *cache) remove(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(c.items[key])
}

// drop is called with mu held; nil is nothing.
func (c *cache) drop(element *list.Element) {
	if element == nil {
		return
	}
	gone := c.recent.Remove(element).(*item)
	delete(c.items, gone.key)
	c.bytes -= gone.size()
}

func (i *item) size() int64 {
	size := i.entry.prompt.Size() + len(i.key) + len(i.entry.etag) + entryOverhead
	for _, values := range i.entry.header {
		for _, value := range values {
			size += len(value)
		}
	}
	return int64(size)
}
