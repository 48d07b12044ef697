package fleet

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/agentapi"
	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/testkit"
)

func TestAPollEndsAsSoonAsThereIsWork(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		agent, other := w.join("web-1"), w.join("web-2")
		waiting := w.waits(w.replica, agent.id)
		order := newOrder()
		w.add(other.id, agentapi.TaskCSR, newOrder(), "o", time.Time{})
		w.add(agent.id, agentapi.TaskCSR, order, order, time.Time{})
		p := w.promptly(waiting)
		if p.err != nil || !slices.Equal(subjects(p.answer), []string{order}) {
			t.Errorf("the poll ended with %+v, %v", p.answer, p.err)
		}
	})
}

func TestAPollOnAnotherReplicaEndsAsSoonAsThereIsWork(t *testing.T) {
	t.Parallel()
	url := testkit.PostgresURL(t)
	open := func() *db.DB {
		d, err := db.Open(t.Context(), db.Options{URL: url, MaxConns: 8})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = d.Close() })
		return d
	}
	w := newWorld(t, open())
	agent := w.join("web-1")
	elsewhere := w.newReplica(open(), w.clock.Now)

	waiting := w.waits(elsewhere, agent.id)
	order := newOrder()
	w.add(agent.id, agentapi.TaskCSR, order, order, time.Time{})
	if p := w.promptly(waiting); p.err != nil || !slices.Equal(subjects(p.answer), []string{order}) {
		t.Errorf("the poll ended with %+v, %v", p.answer, p.err)
	}
	token := agent.bearer(serverID)
	if _, _, err := w.Authenticate(t.Context(), token, anyNumber); err != nil {
		t.Fatal(err)
	}
	_, _, err := elsewhere.Authenticate(t.Context(), token, anyNumber)
	wantKind(t, "a replay on another replica", err, problem.KindUnauthenticated)

	waiting = w.waits(elsewhere, agent.id)
	if _, err := w.Revoke(t.Context(), agent.id); err != nil {
		t.Fatal(err)
	}
	wantKind(t, "its poll", w.promptly(waiting).err, problem.KindForbidden)
}

func TestADelayedTaskIsDeliveredWhenItFallsDue(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		agent := w.join("web-1")
		live := w.newReplica(d, time.Now) // the moment comes by itself
		order := newOrder()
		due := time.Now().Add(150 * time.Millisecond)
		w.add(agent.id, agentapi.TaskCSR, order, order, due)
		p := w.promptly(w.waits(live, agent.id))
		if p.err != nil || len(p.answer.Tasks) != 1 || time.Now().Before(due) {
			t.Errorf("the poll ended with %+v, %v, %s after the task was due", p.answer, p.err, time.Since(due))
		}
	})
}

func TestAnUnfinishedTaskIsDeliveredAgainWhenItsLeaseEnds(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		agent := w.join("web-1")
		order := newOrder()
		w.add(agent.id, agentapi.TaskCSR, order, order, time.Time{})
		w.add(agent.id, agentapi.TaskCSR, order, order, time.Time{}) // once is enough
		running := agentapi.PollRequest{Running: w.heldTasks(agent.id)}
		steps := []struct {
			what string
			wait time.Duration
			poll agentapi.PollRequest
			want int
		}{
			{"delivered", 0, agentapi.PollRequest{}, 1},
			{"leased", agentapi.LeaseTime - time.Second, agentapi.PollRequest{}, 0},
			{"renewed by the agent that works on it", 0, running, 0},
			{"leased anew", agentapi.LeaseTime - time.Second, agentapi.PollRequest{}, 0},
			{"given up by the agent", time.Second, agentapi.PollRequest{}, 1},
		}
		for _, step := range steps {
			w.clock.Advance(step.wait)
			if got := agent.poll(step.poll); len(got) != step.want {
				t.Errorf("%s: got %v", step.what, got)
			}
		}
		tasks, err := tasksOf(t.Context(), d.Read(), agent.id, "")
		if err != nil || len(tasks) != 1 || tasks[0].Deliveries != 2 {
			t.Errorf("tasks: %+v, %v", tasks, err)
		}
		for range 2 { // twice is as good as once
			w.finish(agentapi.TaskCSR, order)
		}
		w.clock.Advance(time.Hour)
		if got := agent.poll(agentapi.PollRequest{}); len(got) != 0 {
			t.Errorf("after it was finished: %v", got)
		}
	})
}

func TestTasksOfOneLaneAreDeliveredOneAtATime(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		agent := w.join("web-1")
		w.add(agent.id, agentapi.TaskDeploy, "dep_1", "tgt_1", time.Time{})
		w.add(agent.id, agentapi.TaskDeploy, "dep_2", "tgt_1", time.Time{})
		w.add(agent.id, agentapi.TaskDeploy, "dep_3", "tgt_2", time.Time{})
		if got := agent.poll(agentapi.PollRequest{}); !slices.Equal(got, []string{"dep_1", "dep_3"}) {
			t.Errorf("first: %v", got)
		}
		waiting := w.waits(w.replica, agent.id)
		w.finish(agentapi.TaskDeploy, "dep_3")
		w.finish(agentapi.TaskDeploy, "dep_1")
		if p := w.promptly(waiting); p.err != nil || !slices.Equal(subjects(p.answer), []string{"dep_2"}) {
			t.Errorf("then: %+v, %v", p.answer, p.err)
		}
	})
}

func TestAResyncBringsBackWhatTheAgentLost(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		agent := w.join("web-1")
		w.add(agent.id, agentapi.TaskDeploy, "dep_1", "tgt_1", time.Time{})
		w.add(agent.id, agentapi.TaskDeploy, "dep_2", "tgt_2", time.Time{})
		agent.poll(agentapi.PollRequest{})
		kept := w.heldTasks(agent.id)[:1]
		if got := agent.poll(agentapi.PollRequest{Running: kept, Resync: true}); !slices.Equal(got, []string{"dep_2"}) {
			t.Errorf("delivered again: %v", got)
		}
		if got := agent.poll(agentapi.PollRequest{Resync: true}); !slices.Equal(got, []string{"dep_1", "dep_2"}) {
			t.Errorf("after a restart: %v", got)
		}
	})
}

// A poll that nobody listens to any more must not take a task away.
func TestAnAgentThatBeginsAnewEndsItsEarlierPolls(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		agent, other := w.join("web-1"), w.join("web-2")
		waiting, othersPoll := w.waits(w.replica, agent.id), w.waits(w.replica, other.id)
		if got := agent.poll(agentapi.PollRequest{Resync: true}); len(got) != 0 {
			t.Errorf("delivered: %v", got)
		}
		if p := w.promptly(waiting); p.err != nil || len(p.answer.Tasks) != 0 {
			t.Errorf("the earlier poll ended with %+v, %v", p.answer, p.err)
		}
		w.add(other.id, agentapi.TaskDeploy, "dep_1", "tgt_1", time.Time{})
		if p := w.promptly(othersPoll); p.err != nil || len(p.answer.Tasks) != 1 {
			t.Errorf("the other agent's poll ended with %+v, %v", p.answer, p.err)
		}
	})
}

func TestATaskThatIsOutOfDateIsDropped(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		agent := w.join("web-1")
		w.gone["dep_1"] = true
		w.add(agent.id, agentapi.TaskDeploy, "dep_1", "tgt_1", time.Time{})
		w.add(agent.id, agentapi.TaskDeploy, "dep_2", "tgt_1", time.Time{})
		if got := agent.poll(agentapi.PollRequest{}); !slices.Equal(got, []string{"dep_2"}) {
			t.Errorf("delivered: %v", got)
		}
		if left := w.heldTasks(agent.id); len(left) != 1 {
			t.Errorf("left: %v", left)
		}
	})
}

func TestTwoPollsAtOnceNeverGetTheSameTask(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		agent := w.join("web-1")
		const polls, tasks = 4, maxDelivery + 8
		for i := range tasks {
			subject := fmt.Sprintf("dep_%d", i)
			w.add(agent.id, agentapi.TaskDeploy, subject, subject, time.Time{})
		}
		results := make(chan polled, polls)
		for range polls {
			go func() {
				answer, err := w.Poll(t.Context(), agent.id, agentapi.PollRequest{})
				results <- polled{answer, err}
			}()
		}
		seen := map[string]bool{}
		for range polls {
			p := <-results
			if p.err != nil || len(p.answer.Tasks) > maxDelivery {
				t.Errorf("%d tasks, %v", len(p.answer.Tasks), p.err)
			}
			for _, subject := range subjects(p.answer) {
				if seen[subject] {
					t.Errorf("%s was delivered twice", subject)
				}
				seen[subject] = true
			}
		}
		if len(seen) != tasks {
			t.Errorf("%d of %d tasks were delivered", len(seen), tasks)
		}
	})
}

func TestAPollWaitsNoLongerThanTheServerAllows(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testkit.NewDB(t, db.SQLite))
	agent := w.join("web-1")
	w.maxWait = 10 * time.Millisecond
	if p := w.promptly(w.waits(w.replica, agent.id)); p.err != nil || len(p.answer.Tasks) != 0 {
		t.Errorf("the poll ended with %+v, %v", p.answer, p.err)
	}
}

func TestShutdownEndsPollsAndRefusesNewOnes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testkit.NewDB(t, db.SQLite))
	agent := w.join("web-1")
	waiting := w.waits(w.replica, agent.id)
	w.Close()
	if p := w.promptly(waiting); p.err != nil || len(p.answer.Tasks) != 0 || p.answer.Tasks == nil {
		t.Errorf("the poll ended with %+v, %v", p.answer, p.err)
	}
	_, err := w.Poll(t.Context(), agent.id, agentapi.PollRequest{})
	var p *problem.Error
	if !errors.As(err, &p) || p.Kind != problem.KindTemporary || p.After == 0 {
		t.Errorf("a new poll: %v", err)
	}
}

func TestAnAgentHoldsAFewPollsOpenAndNoMore(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testkit.NewDB(t, db.SQLite))
	agent, other := w.join("web-1"), w.join("web-2")
	var waiting []<-chan polled
	for range maxPolls {
		waiting = append(waiting, w.waits(w.replica, agent.id))
	}
	_, err := w.Poll(t.Context(), agent.id, agentapi.PollRequest{WaitSeconds: longWait})
	wantKind(t, "a poll too many", err, problem.KindTemporary)
	other.poll(agentapi.PollRequest{})
	agent.poll(agentapi.PollRequest{Resync: true}) // ends them
	for _, poll := range waiting {
		if p := w.promptly(poll); p.err != nil {
			t.Error(p.err)
		}
	}
	agent.poll(agentapi.PollRequest{})
}
