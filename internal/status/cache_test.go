package status

import (
	"testing"
	"time"
)

func TestCacheKeepsNothingFromBeforeAWakeUp(t *testing.T) {
	t.Parallel()
	wakes := make(chan string, 1)
	c := newCache(wakes)
	now := time.Now()
	d := newDocument([]byte("document"), now)

	_, epoch, _ := c.get("a", now)
	c.put("a", d, epoch)
	if _, _, found := c.get("a", now); !found {
		t.Fatal("a document is not kept")
	}
	if _, _, found := c.get("a", now.Add(refreshAfter)); found {
		t.Error("a document is kept until after its refresh is due")
	}
	wakes <- ""
	c.put("b", d, epoch) // read before the wake-up
	for _, key := range []string{"a", "b"} {
		if _, _, found := c.get(key, now); found {
			t.Errorf("%s is from before the wake-up and still there", key)
		}
	}
}

func TestCacheIsBounded(t *testing.T) {
	t.Parallel()
	c := newCache(nil)
	now := time.Now()
	for _, key := range []string{"a", "b", "c", "d", "e"} {
		_, epoch, _ := c.get(key, now)
		c.put(key, newDocument(make([]byte, cacheBytes/3), now), epoch)
		if c.size > cacheBytes {
			t.Fatalf("it holds %d bytes", c.size)
		}
		if _, _, found := c.get(key, now); !found {
			t.Errorf("%s, the newest, is not there", key)
		}
	}
	_, epoch, _ := c.get("huge", now)
	c.put("huge", newDocument(make([]byte, cacheBytes+1), now), epoch)
	if _, _, found := c.get("huge", now); found || c.size == 0 {
		t.Error("a document larger than the cache drove out the others")
	}
}
