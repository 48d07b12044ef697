package fleet

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/certctl-io/certctl/internal/agentapi"
	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/problem"
)

const (
	// maxDelivery bounds the tasks of one answer.
	maxDelivery = 16

	// maxPolls bounds the polls of one agent that a replica holds open.
	maxPolls = 8

	// duePrecision is added to the wait for a moment, so that the moment has
	// come by the clock when the wait ends.
	duePrecision = time.Millisecond
)

// Poll gives an agent its next tasks. When there are none it waits, up to what
// the agent asks for: for a task to be added, for one to fall due, for a lease
// to end. Waiting costs a goroutine and no database connection. An agent that
// is revoked meanwhile is told at once.
//
// A poll with resync ends those of the agent that still wait: nobody listens to
// them any more, although a proxy in between may not have noticed yet.
func (s *Service) Poll(ctx context.Context, agentID string, r agentapi.PollRequest) (agentapi.PollResponse, error) {
	none := agentapi.PollResponse{Tasks: []agentapi.Task{}}
	if len(r.Running) > agentapi.MaxRunning {
		return none, problem.Invalid("running", "it names %d tasks, at most %d are allowed", len(r.Running), agentapi.MaxRunning)
	}
	if s.closed() {
		return none, problem.Temporary(errors.New("this server is shutting down"), time.Second)
	}
	leave, err := s.enter(agentID, r.Resync)
	if err != nil {
		return none, err
	}
	defer leave()
	// Subscribed before the first look, so that nothing falls in between.
	wakes, cancel := s.db.Subscribe(topic(agentID))
	defer cancel()
	timeout := time.NewTimer(min(max(0, time.Duration(r.WaitSeconds)*time.Second), s.maxWait))
	defer timeout.Stop()

	pollID := rand.Text()
	agent, err := s.arrive(ctx, agentID, pollID, r)
	if err != nil {
		return none, err
	}
	for {
		leased, next, err := s.lease(ctx, agent)
		if err != nil {
			return none, err
		}
		if len(leased) > 0 {
			if tasks := s.build(ctx, agentID, leased); len(tasks) > 0 {
				return agentapi.PollResponse{Tasks: tasks}, nil
			}
			continue // they were out of date; what waited behind them may not be
		}
		if !s.sleep(ctx, pollID, wakes, timeout.C, next) {
			return none, nil
		}
	}
}

// enter counts a poll of an agent until leave. An agent has one; those that
// wait beside it are left from before it started anew, or from connections that
// broke. More are refused, as all of them look at the database at each wake-up,
// but for one with resync, which ends the others.
func (s *Service) enter(agentID string, resync bool) (leave func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.polls[agentID] >= maxPolls && !resync {
		return nil, problem.Temporary(fmt.Errorf("%d polls of this agent wait already", maxPolls), time.Second).
			Hint("run one agent with an identity; a copy of it on another host needs an identity of its own")
	}
	s.polls[agentID]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.polls[agentID]--; s.polls[agentID] == 0 {
			delete(s.polls, agentID)
		}
	}, nil
}

func (s *Service) closed() bool {
	select {
	case <-s.closing:
		return true
	default:
		return false
	}
}

// sleep waits until it is worth looking for tasks again; it reports false when
// the poll is over instead.
func (s *Service) sleep(ctx context.Context, pollID string, wakes <-chan string, timeout <-chan time.Time, next time.Time) bool {
	var due <-chan time.Time
	if !next.IsZero() {
		timer := time.NewTimer(next.Sub(s.now()) + duePrecision)
		defer timer.Stop()
		due = timer.C
	}
	select {
	case payload := <-wakes:
		return payload == "" || payload == taskWake || payload == pollID // else a later poll has taken over
	case <-due:
		return true
	case <-timeout:
		return false
	case <-s.closing:
		return false
	case <-ctx.Done():
		return false
	}
}

// arrive keeps what a poll tells: that the agent is there, what it runs, and
// which tasks it has.
func (s *Service) arrive(ctx context.Context, agentID, pollID string, r agentapi.PollRequest) (Agent, error) {
	agent, err := s.admitted(ctx, agentID)
	if err != nil {
		return Agent{}, err
	}
	now, version, os := s.now(), clip(r.Version), clip(r.OS)
	unseen := agent.unseen(version, os, now)
	if !unseen && !r.Resync && len(r.Running) == 0 {
		return agent, nil
	}
	return agent, s.db.InTx(ctx, func(tx *db.Tx) error {
		if unseen {
			if err := markSeen(ctx, tx, agentID, version, os, now); err != nil {
				return fmt.Errorf("mark agent %s as seen: %w", agentID, err)
			}
		}
		if r.Resync {
			if err := tx.Notify(ctx, topic(agentID), pollID); err != nil {
				return fmt.Errorf("end earlier polls of agent %s: %w", agentID, err)
			}
		}
		return s.renew(ctx, tx, agentID, r)
	})
}

// admitted reads an agent that may still come in.
func (s *Service) admitted(ctx context.Context, agentID string) (Agent, error) {
	agent, err := agentByID(ctx, s.db.Read(), agentID)
	if db.IsNoRows(err) {
		return Agent{}, unknownAgent(agentID)
	}
	if err != nil {
		return Agent{}, fmt.Errorf("read agent %s: %w", agentID, err)
	}
	return agent, agent.admit()
}

// renew prolongs the leases of the tasks the agent has. On a resync it ends
// those of all others, as the agent does not know of them.
func (s *Service) renew(ctx context.Context, tx *db.Tx, agentID string, r agentapi.PollRequest) error {
	if !r.Resync && len(r.Running) == 0 {
		return nil
	}
	tasks, err := tasksOf(ctx, tx, agentID, tx.ForUpdate())
	if err != nil {
		return fmt.Errorf("read tasks of agent %s: %w", agentID, err)
	}
	until := s.now().Add(agentapi.LeaseTime)
	for _, task := range tasks {
		switch {
		case slices.Contains(r.Running, task.ID):
			task.LeasedUntil = &until
		case r.Resync && task.LeasedUntil != nil:
			task.LeasedUntil = nil
		default:
			continue
		}
		if err := setLease(ctx, tx, task); err != nil {
			return fmt.Errorf("renew lease of task %s: %w", task.ID, err)
		}
	}
	return nil
}

// lease takes the tasks that can be delivered now, and says when to look again
// if there are none. Only then does it write. An agent whose key was replaced
// since it arrived gets none: another pod is the agent now.
func (s *Service) lease(ctx context.Context, arrived Agent) (leased []Task, next time.Time, err error) {
	agentID := arrived.ID
	agent, err := s.admitted(ctx, agentID)
	if err != nil {
		return nil, next, err
	}
	if !bytes.Equal(agent.PublicKey, arrived.PublicKey) {
		return nil, next, problem.Unauthenticated("the agent %s has joined again with another key", agent.Name).
			Hint("run one agent with a name")
	}
	tasks, err := tasksOf(ctx, s.db.Read(), agentID, "")
	if err != nil {
		return nil, next, fmt.Errorf("read tasks of agent %s: %w", agentID, err)
	}
	leased, next = deliverable(tasks, s.now(), maxDelivery)
	if len(leased) == 0 {
		return nil, next, nil
	}
	err = s.db.InTx(ctx, func(tx *db.Tx) error {
		// Read again under lock: another poll of the agent may have come first.
		tasks, err := tasksOf(ctx, tx, agentID, tx.ForUpdate())
		if err != nil {
			return fmt.Errorf("read tasks of agent %s: %w", agentID, err)
		}
		now := s.now()
		until := now.Add(agentapi.LeaseTime)
		leased, next = deliverable(tasks, now, maxDelivery)
		for i := range leased {
			leased[i].LeasedUntil = &until
			leased[i].Deliveries++
			if err := setLease(ctx, tx, leased[i]); err != nil {
				return fmt.Errorf("lease task %s: %w", leased[i].ID, err)
			}
		}
		return nil
	})
	return leased, next, err
}

// build makes the messages for leased tasks. A task that is out of date is
// dropped; one that cannot be built now keeps its lease and comes again when
// that ends.
func (s *Service) build(ctx context.Context, agentID string, leased []Task) []agentapi.Task {
	tasks := make([]agentapi.Task, 0, len(leased))
	for _, task := range leased {
		payload, ok, err := s.builders[task.Kind](ctx, agentID, task.SubjectID)
		message := agentapi.Task{ID: task.ID, Kind: task.Kind}
		if err == nil && ok {
			err = fill(&message, payload)
		}
		if err == nil && !ok {
			err = s.drop(ctx, task)
		}
		if err != nil {
			s.log.ErrorContext(ctx, "task cannot be delivered; it is tried again when its lease ends",
				"agent_id", agentID, "task_id", task.ID, "kind", task.Kind, "subject_id", task.SubjectID, "deliveries", task.Deliveries, "error", err)
			continue
		}
		if ok {
			tasks = append(tasks, message)
		}
	}
	return tasks
}

// fill puts a payload into the field of its kind.
func fill(message *agentapi.Task, payload any) error {
	switch p := payload.(type) {
	case *agentapi.CSRTask:
		message.CSR = p
	case *agentapi.DeployTask:
		message.Deploy = p
	default:
		return fmt.Errorf("the builder of %s tasks gave %T", message.Kind, payload)
	}
	return nil
}

func (s *Service) drop(ctx context.Context, task Task) error {
	return s.db.InTx(ctx, func(tx *db.Tx) error {
		_, err := deleteTask(ctx, tx, task.Kind, task.SubjectID)
		if err != nil && !db.IsNoRows(err) {
			return fmt.Errorf("drop task %s: %w", task.ID, err)
		}
		return nil
	})
}
