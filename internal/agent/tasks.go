package agent

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/certctl-io/certctl/internal/agentapi"
)

// tasks are those this agent has: waiting, being worked on, or done with their
// results not yet acknowledged. Tasks of one lane are worked on one after the
// other, and only some at once in all.
type tasks struct {
	work  func(task agentapi.Task) // works on one task; the result may still be under way when it returns
	slots chan struct{}

	mu      sync.Mutex
	held    map[string]bool            // ids; named in each poll, which keeps the leases
	lanes   map[string][]agentapi.Task // the first of each is being worked on, or waits for a slot
	stopped bool
	working sync.WaitGroup
}

func newTasks(parallel int, work func(task agentapi.Task)) *tasks {
	return &tasks{
		work: work, slots: make(chan struct{}, parallel),
		held: map[string]bool{}, lanes: map[string][]agentapi.Task{},
	}
}

// lane says which tasks must not run at the same time.
func lane(task agentapi.Task) string {
	if task.Deploy != nil {
		return task.Deploy.TargetID
	}
	return task.CSR.OrderID
}

// accept takes a task on. One that is here already stays as it is.
func (t *tasks) accept(task agentapi.Task) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stopped || t.held[task.ID] {
		return
	}
	t.held[task.ID] = true
	l := lane(task)
	t.lanes[l] = append(t.lanes[l], task)
	if len(t.lanes[l]) == 1 {
		t.working.Go(func() { t.follow(l) })
	}
}

// follow works on the tasks of a lane until there are none left.
func (t *tasks) follow(lane string) {
	for {
		t.slots <- struct{}{}
		task, ok := t.head(lane)
		if ok {
			t.work(task)
			t.behead(lane)
		}
		<-t.slots
		if !ok {
			return
		}
	}
}

// head gives the task of the lane to work on. There is none after stop: what
// has not begun is left to the next start.
func (t *tasks) head(lane string) (task agentapi.Task, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stopped || len(t.lanes[lane]) == 0 {
		delete(t.lanes, lane)
		return agentapi.Task{}, false
	}
	return t.lanes[lane][0], true
}

func (t *tasks) behead(lane string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lanes[lane] = t.lanes[lane][1:]
}

// hold names a task whose result an earlier life of the agent left behind.
func (t *tasks) hold(taskID string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.held[taskID] = true
}

// settle lets go of a task.
func (t *tasks) settle(taskID string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.held, taskID)
}

// ids lists the tasks that this agent has.
func (t *tasks) ids() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	ids := make([]string, 0, len(t.held))
	for taskID := range t.held {
		ids = append(ids, taskID)
	}
	slices.Sort(ids)
	return ids[:min(len(ids), agentapi.MaxRunning)]
}

// stop begins no more tasks and reports whether those under way ended within
// the time.
func (t *tasks) stop(within time.Duration) bool {
	t.mu.Lock()
	t.stopped = true
	t.mu.Unlock()
	return waitFor(&t.working, within)
}

// waitFor waits for a group, but no longer than the time.
func waitFor(group *sync.WaitGroup, within time.Duration) bool {
	done := make(chan struct{})
	go func() { group.Wait(); close(done) }()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	select {
	case <-done:
		return true
	case <-ctx.Done():
		return false
	}
}
