package agent

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"time"

	"github.com/certctl-io/certctl/internal/agentapi"
	"github.com/certctl-io/certctl/internal/problem"
)

const (
	// How long polls wait. The shorter one renews the leases of tasks under
	// way well before they end.
	idleWait = 50 * time.Second
	busyWait = 20 * time.Second

	// A server that has no work and answers faster than this is not asked
	// again at once.
	quickAnswer = time.Second
)

// poll fetches tasks until ctx ends or the server has revoked the agent.
func (a *Agent) poll(ctx context.Context, held *tasks) error {
	// What was delivered to an earlier life of this agent is lost, and so is
	// what an answer that did not arrive may have held.
	resync := true
	for failures := 0; ctx.Err() == nil; {
		request := a.pollRequest(held.ids(), resync)
		asked := time.Now()
		answer, err := a.client.poll(ctx, request)
		switch {
		case ctx.Err() != nil:
			continue // it was stopped, which is no failure
		case refused(err) == problem.KindForbidden:
			return fmt.Errorf("%w: %w", ErrRevoked, err)
		case err != nil:
			pause := a.pause(failures, err)
			a.log.WarnContext(ctx, "no work can be fetched", "error", err, "again_in", pause)
			failures, resync = failures+1, true
			sleep(ctx, pause)
			continue
		}
		if failures > 0 {
			a.log.InfoContext(ctx, "the server answers again", "failures", failures)
		}
		failures, resync = 0, false
		a.accept(ctx, answer.Tasks, held)
		if len(answer.Tasks) == 0 && time.Since(asked) < quickAnswer {
			sleep(ctx, a.pause(0, nil))
		}
	}
	return nil
}

func (a *Agent) pollRequest(running []string, resync bool) agentapi.PollRequest {
	wait := idleWait
	if len(running) > 0 {
		wait = busyWait
	}
	return agentapi.PollRequest{
		WaitSeconds: int(wait / time.Second), Running: running, Resync: resync,
		Version: a.config.Version, OS: runtime.GOOS + "/" + runtime.GOARCH,
	}
}

func (a *Agent) accept(ctx context.Context, delivered []agentapi.Task, held *tasks) {
	for _, task := range delivered {
		if err := understood(task); err != nil {
			a.log.ErrorContext(ctx, "the server sent a task that cannot be done", "task_id", task.ID, "kind", task.Kind, "error", err)
			continue
		}
		held.accept(task)
	}
}

// submit hands in a result until the server has acknowledged it or says that
// it is of no use, and takes it out of the outbox. It reports false when ctx
// ended before: the next start carries on.
func (a *Agent) submit(ctx context.Context, r result) bool {
	for failures := 0; ; failures++ {
		err := a.client.submit(ctx, r)
		if unwanted(err) {
			a.log.WarnContext(ctx, "the server does not want the result of a task", "task_id", r.TaskID, "path", r.Path, "error", err)
			err = nil
		}
		if err == nil {
			if err := a.outbox.remove(r.TaskID); err != nil {
				a.log.ErrorContext(ctx, "a result that was handed in stays in the outbox", "task_id", r.TaskID, "error", err)
			}
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		pause := a.pause(failures, err)
		a.log.WarnContext(ctx, "result of a task cannot be handed in", "task_id", r.TaskID, "path", r.Path, "error", err, "again_in", pause)
		sleep(ctx, pause)
	}
}

// unwanted reports whether the server has said that it will never take the
// result: the order or deployment was cancelled, or is another agent's.
func unwanted(err error) bool {
	switch refused(err) {
	case problem.KindInvalid, problem.KindNotFound, problem.KindConflict, problem.KindStale, problem.KindForbidden, problem.KindTooLarge:
		return true
	default:
		return false
	}
}

// pause says how long to wait after a failed call: as the server asks, else
// twice as long after each failure, with jitter, so that the agents of a fleet
// do not all come back in the same second.
func (a *Agent) pause(failures int, err error) time.Duration {
	var p *problem.Error
	if errors.As(err, &p) && p.After > 0 {
		return min(p.After, a.config.RetryMax) + rand.N(a.config.RetryMin)
	}
	longest := a.config.RetryMax
	if failures < 16 {
		longest = min(longest, a.config.RetryMin<<failures)
	}
	return longest/2 + rand.N(longest/2+1)
}

// sleep waits, but not longer than ctx.
func sleep(ctx context.Context, pause time.Duration) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
