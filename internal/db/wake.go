package db

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Subscribe gives a channel on which the payloads notified for a topic arrive,
// from this and all other replicas, after their transactions committed. It is
// a wake-up and not a queue: payloads are dropped when the receiver is slow,
// and an empty payload means that something may have been missed. Cancel ends
// the subscription.
func (d *DB) Subscribe(topic string) (wakes <-chan string, cancel func()) {
	return d.hub.subscribe(topic)
}

// listen keeps the PostgreSQL listener connected until ctx ends.
func (d *DB) listen(ctx context.Context, log *slog.Logger) {
	defer close(d.done)
	for ctx.Err() == nil {
		err := d.waitForWakes(ctx)
		if ctx.Err() != nil {
			return
		}
		log.WarnContext(ctx, "wake-up listener lost its connection; connecting again", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(listenRetry):
		}
	}
}

// subscriberBuffer is how many wake-ups wait for a slow receiver.
const subscriberBuffer = 64

// hub hands wake-ups to the subscribers of this process.
type hub struct {
	mu          sync.Mutex
	subscribers map[string]map[chan string]struct{}
}

func newHub() *hub { return &hub{subscribers: map[string]map[chan string]struct{}{}} }

func (h *hub) subscribe(topic string) (<-chan string, func()) {
	ch := make(chan string, subscriberBuffer)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.subscribers[topic] == nil {
		h.subscribers[topic] = map[chan string]struct{}{}
	}
	h.subscribers[topic][ch] = struct{}{}
	return ch, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.subscribers[topic], ch)
		if len(h.subscribers[topic]) == 0 {
			delete(h.subscribers, topic)
		}
	}
}

func (h *hub) publish(topic, payload string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for ch := range h.subscribers[topic] {
		offer(ch, payload)
	}
}

func (h *hub) wakeAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, channels := range h.subscribers {
		for ch := range channels {
			offer(ch, "")
		}
	}
}

func offer(ch chan string, payload string) {
	select {
	case ch <- payload:
	default:
	}
}
