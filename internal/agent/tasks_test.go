package agent

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/agentapi"
	"github.com/certctl-io/certctl/internal/problem"
)

var errAway = errors.New("away")

func deployTask(n int, target string) agentapi.Task {
	return agentapi.Task{ID: fmt.Sprintf("tsk_%d", n), Kind: agentapi.TaskDeploy, Deploy: &agentapi.DeployTask{TargetID: target}}
}

func TestTasksOfOneLaneAreWorkedOnOneAfterTheOther(t *testing.T) {
	t.Parallel()
	const lanes, tasksOfLane, parallel = 5, 8, 3
	var mu sync.Mutex
	at, order, most := map[string]int{}, map[string][]string{}, 0
	held := newTasks(parallel, func(task agentapi.Task) {
		target := task.Deploy.TargetID
		mu.Lock()
		at[target]++
		if at[target] > 1 {
			t.Errorf("two deployments to %s at once", target)
		}
		order[target] = append(order[target], task.ID)
		busy := 0
		for _, n := range at {
			busy += n
		}
		most = max(most, busy)
		mu.Unlock()
		time.Sleep(rand.N(time.Millisecond)) // work takes its time
		mu.Lock()
		at[target]--
		mu.Unlock()
	})
	want := map[string][]string{}
	for n := range lanes * tasksOfLane {
		task := deployTask(n, fmt.Sprintf("tgt_%d", n%lanes))
		want[task.Deploy.TargetID] = append(want[task.Deploy.TargetID], task.ID)
		held.accept(task)
		held.accept(task) // a second time is ignored
	}
	held.working.Wait()
	for target, ids := range want {
		if !slices.Equal(order[target], ids) {
			t.Errorf("%s: %v, want %v", target, order[target], ids)
		}
	}
	if most > parallel || most < 2 {
		t.Errorf("%d tasks at once, at most %d are allowed", most, parallel)
	}
}

func TestStopLeavesWhatHasNotBegun(t *testing.T) {
	t.Parallel()
	began, mayEnd := make(chan string, 10), make(chan struct{})
	held := newTasks(2, func(task agentapi.Task) { began <- task.ID; <-mayEnd })
	held.accept(deployTask(1, "tgt_1"))
	held.accept(deployTask(2, "tgt_1"))
	<-began
	if held.stop(time.Millisecond) {
		t.Error("stop says that all has ended while a task is under way")
	}
	held.accept(deployTask(3, "tgt_3"))
	close(mayEnd)
	if !held.stop(10 * time.Second) {
		t.Error("the task under way does not end")
	}
	if len(began) != 0 {
		t.Errorf("%s began after stop", <-began)
	}
}

func TestPausesGrowWithJitterUpToALimit(t *testing.T) {
	t.Parallel()
	a := &Agent{config: Config{RetryMin: time.Second, RetryMax: time.Minute}}
	for _, test := range []struct {
		failures int
		err      error
		from, to time.Duration
	}{
		{0, nil, 500 * time.Millisecond, time.Second},
		{1, nil, time.Second, 2 * time.Second},
		{4, nil, 8 * time.Second, 16 * time.Second},
		{6, nil, 30 * time.Second, time.Minute},
		{100, nil, 30 * time.Second, time.Minute},
		{3, problem.Temporary(errAway, 10*time.Second), 10 * time.Second, 11 * time.Second},
		{0, problem.Temporary(errAway, time.Hour), time.Minute, time.Minute + time.Second},
	} {
		seen := map[time.Duration]bool{}
		for range 100 {
			pause := a.pause(test.failures, test.err)
			seen[pause] = true
			if pause < test.from || pause > test.to {
				t.Errorf("after %d failures and %v: %s, want %s to %s", test.failures, test.err, pause, test.from, test.to)
			}
		}
		if len(seen) < 10 {
			t.Errorf("after %d failures the pauses hardly differ: %v", test.failures, seen)
		}
	}
}
