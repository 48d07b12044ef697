package fleet

import (
	"context"
	"fmt"
	"time"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/id"
)

// Task is one piece of work for one agent. What it asks for in detail is built
// when it is delivered, from the facts of that moment.
type Task struct {
	ID          string     `db:"id"`
	AgentID     string     `db:"agent_id"`
	Kind        string     `db:"kind"`       // agentapi.TaskCSR or TaskDeploy
	SubjectID   string     `db:"subject_id"` // the order or deployment; one task of a kind for each
	Lane        string     `db:"lane"`       // tasks of one lane are delivered one at a time
	Deliveries  int        `db:"deliveries"`
	LeasedUntil *time.Time `db:"leased_until"`
	NotBefore   time.Time  `db:"not_before"` // zero for at once
	CreatedAt   time.Time  `db:"created_at"`
}

func (t Task) leased(now time.Time) bool { return t.LeasedUntil != nil && t.LeasedUntil.After(now) }

// deliverable picks the tasks to deliver now, oldest first, at most limit: of
// each lane one that is due, when no other of the lane is out under a lease.
// It also says when to look again without having been woken: when the next
// delayed task falls due or the next lease ends; zero when neither will.
// The tasks are those of one agent in order of their ids.
func deliverable(tasks []Task, now time.Time, limit int) (deliver []Task, next time.Time) {
	busy := map[string]bool{}
	for _, t := range tasks {
		switch {
		case t.leased(now):
			busy[t.Lane] = true
			next = earlier(next, *t.LeasedUntil)
		case t.NotBefore.After(now):
			next = earlier(next, t.NotBefore)
		}
	}
	for _, t := range tasks {
		if len(deliver) == limit {
			break
		}
		if !t.NotBefore.After(now) && !busy[t.Lane] {
			busy[t.Lane] = true
			deliver = append(deliver, t)
		}
	}
	return deliver, next
}

// earlier gives the first of two times, where zero is no time at all.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

// Tasks adds and finishes tasks, in the transactions of other features.
type Tasks struct {
	now func() time.Time
}

// NewTasks makes Tasks.
func NewTasks(now func() time.Time) *Tasks { return &Tasks{now: now} }

// Add gives an agent something to do, and wakes it. There is at most one task
// of a kind for a subject: adding it again changes nothing.
func (t *Tasks) Add(ctx context.Context, tx *db.Tx, task Task) error {
	task.ID = id.New("tsk")
	task.CreatedAt = t.now()
	if task.NotBefore.IsZero() {
		task.NotBefore = task.CreatedAt
	}
	if err := insertTask(ctx, tx, task); err != nil {
		return fmt.Errorf("add %s task for %s: %w", task.Kind, task.SubjectID, err)
	}
	return wake(ctx, tx, task.AgentID)
}

// Finish removes a task, whether it is done, given up or overtaken. The next
// task of its lane can then be delivered. A task that is not there is finished
// already.
func (t *Tasks) Finish(ctx context.Context, tx *db.Tx, kind, subjectID string) error {
	agentID, err := deleteTask(ctx, tx, kind, subjectID)
	if db.IsNoRows(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("finish %s task of %s: %w", kind, subjectID, err)
	}
	return wake(ctx, tx, agentID)
}

// topic is where the polls of an agent wait.
func topic(agentID string) string { return "agent:" + agentID }

// taskWake says that the tasks of an agent have changed.
const taskWake = "task"

// wake makes the polls of an agent look again, on all replicas.
func wake(ctx context.Context, tx *db.Tx, agentID string) error {
	return tx.Notify(ctx, topic(agentID), taskWake)
}
