package status

import (
	"sync"
	"time"
)

// cacheBytes bounds the documents that one replica holds in memory.
const cacheBytes = 32 << 20

// cache holds documents in memory. Any wake-up empties it as a whole: a
// wake-up that was dropped because others were waiting is then covered by
// those.
type cache struct {
	wakes <-chan string

	mu        sync.Mutex
	documents map[string]document
	size      int
	epoch     int // counts how often the cache was emptied
}

func newCache(wakes <-chan string) *cache {
	return &cache{wakes: wakes, documents: map[string]document{}}
}

// get gives a document that needs no refresh yet. The epoch is for put.
func (c *cache) get(key string, now time.Time) (d document, epoch int, found bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drain()
	d, found = c.documents[key]
	return d, c.epoch, found && now.Before(d.refreshAt)
}

// put keeps a document that was read or made since the epoch, unless the cache
// was emptied in between: the document may be from before what emptied it.
func (c *cache) put(key string, d document, epoch int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drain()
	if epoch != c.epoch || len(d.body) > cacheBytes {
		return
	}
	c.remove(key)
	for other := range c.documents { // in no order, which is as good as any here
		if c.size+len(d.body) <= cacheBytes {
			break
		}
		c.remove(other)
	}
	c.documents[key] = d
	c.size += len(d.body)
}

// empty forgets all documents.
func (c *cache) empty() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forget()
}

func (c *cache) drain() {
	for {
		select {
		case <-c.wakes:
			c.forget()
		default:
			return
		}
	}
}

func (c *cache) forget() {
	clear(c.documents)
	c.size = 0
	c.epoch++
}

func (c *cache) remove(key string) {
	c.size -= len(c.documents[key].body)
	delete(c.documents, key)
}
