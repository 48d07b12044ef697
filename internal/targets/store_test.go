package targets_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/targets"
	"github.com/certctl-io/certctl/internal/targets/targetstest"
)

// memory is a store that forgets nothing while the test runs.
type memory struct {
	mu      sync.Mutex
	records map[string]string
	broken  error // what each write says
	lying   bool  // writes are said to be done and are not
	changed chan struct{}
}

func newMemory() *memory { return &memory{records: map[string]string{}, changed: make(chan struct{})} }

func (m *memory) Read(_ context.Context, _, name string) ([]byte, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	data, found := m.records[name]
	return []byte(data), found, nil
}

func (m *memory) Write(_ context.Context, _, name string, data []byte) error {
	return m.change(func() { m.records[name] = string(data) })
}

func (m *memory) Remove(_ context.Context, _, name string) error {
	return m.change(func() { delete(m.records, name) })
}

func (m *memory) change(do func()) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken != nil {
		return m.broken
	}
	if !m.lying {
		do()
	}
	close(m.changed)
	m.changed = make(chan struct{})
	return nil
}

func (m *memory) Watch(ctx context.Context, _ string, changed func() error) error {
	for {
		m.mu.Lock()
		next := m.changed
		m.mu.Unlock()
		if err := changed(); err != nil {
			return err
		}
		select {
		case <-next:
		case <-ctx.Done():
			return nil
		}
	}
}

func (m *memory) content() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.records["x"]
}

func recordEngine(t *testing.T, dir string, m *memory) *targets.Engine {
	t.Helper()
	engine, err := targets.NewEngine(dir, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	engine.AddStore("memory", m)
	return engine
}

func recordJob(id, content string) targets.Job {
	return targets.Job{
		DeploymentID: id, TargetID: "tgt_1", Fingerprint: strings.Repeat("ab", 32),
		Plan: targets.Plan{Records: []targets.Record{{Store: "memory", Name: "x", Data: []byte(content)}}},
	}
}

func TestARecordTakesTheStepsOfAFile(t *testing.T) {
	t.Parallel()
	m, dir := newMemory(), t.TempDir()
	report := recordEngine(t, dir, m).Deploy(t.Context(), recordJob("dep_1", "one"))
	targetstest.WantOutcome(t, report, targets.OutcomeDeployed)
	if got, want := stepNames(report), "prepare observe backup write validate reload verify finish"; got != want || m.content() != "one" {
		t.Errorf("steps %q, want %q, content %q", got, want, m.content())
	}
	targetstest.WantOutcome(t, recordEngine(t, dir, m).Deploy(t.Context(), recordJob("dep_2", "one")), targets.OutcomeUnchanged)

	m.broken = errors.New("the store is full")
	report = recordEngine(t, dir, m).Deploy(t.Context(), recordJob("dep_3", "two"))
	targetstest.WantOutcome(t, report, targets.OutcomeRolledBack)
	if want := "the store is full; the previous content is back"; report.Reason != want || m.content() != "one" {
		t.Errorf("reason %q, content %q", report.Reason, m.content())
	}
	m.broken, m.lying = nil, true
	report = recordEngine(t, dir, m).Deploy(t.Context(), recordJob("dep_lie", "two"))
	targetstest.WantOutcome(t, report, targets.OutcomeRolledBack)
	if !report.Retryable || !strings.Contains(report.Reason, "memory:x does not hold what was written") {
		t.Errorf("reason %q", report.Reason)
	}
	report = recordEngine(t, dir, m).Deploy(t.Context(), targets.Job{
		DeploymentID: "dep_4", TargetID: "tgt_1", Fingerprint: report.Fingerprint,
		Plan: targets.Plan{Records: []targets.Record{{Store: "shelf", Name: "x", Data: []byte("y")}}},
	})
	if report.Outcome != targets.OutcomeFailed || !strings.Contains(report.Reason, `no store "shelf"`) {
		t.Errorf("an unknown store: %s %s", report.Outcome, report.Reason)
	}
}

// interrupt deploys and ends as a process that is killed after the record was
// written.
func interrupt(t *testing.T, engine *targets.Engine, job targets.Job) {
	t.Helper()
	engine.OnReached(func(point string) {
		if point == "recorded" {
			runtime.Goexit()
		}
	})
	var deploying sync.WaitGroup
	ended := false
	deploying.Go(func() { engine.Deploy(t.Context(), job); ended = true })
	deploying.Wait()
	if ended {
		t.Fatal("the deployment was not interrupted")
	}
}

func TestAfterAnInterruptionTheLastGoodRecordIsThePreviousOne(t *testing.T) {
	t.Parallel()
	m, dir := newMemory(), t.TempDir()
	targetstest.WantOutcome(t, recordEngine(t, dir, m).Deploy(t.Context(), recordJob("dep_1", "one")), targets.OutcomeDeployed)
	interrupt(t, recordEngine(t, dir, m), recordJob("dep_2", "two"))
	if m.content() != "two" {
		t.Fatalf("content %q", m.content())
	}
	// The probe goes where nobody listens.
	job := recordJob("dep_3", "three")
	job.Plan.Probe = &targets.Probe{Address: "127.0.0.1:1", Timeout: 50 * time.Millisecond}
	targetstest.WantOutcome(t, recordEngine(t, dir, m).Deploy(t.Context(), job), targets.OutcomeRolledBack)
	if m.content() != "one" {
		t.Errorf("content %q", m.content())
	}
}

func TestARecordIsKeptAsTheLastGoodDeploymentLeftIt(t *testing.T) {
	t.Parallel()
	m, dir := newMemory(), t.TempDir()
	engine := recordEngine(t, dir, m)
	ctx, stop := context.WithCancel(t.Context())
	var keeping sync.WaitGroup
	keeping.Go(func() {
		engine.Keep(ctx, func(context.Context, string) (bool, error) { return true, nil }, slog.New(slog.DiscardHandler))
	})
	t.Cleanup(func() { stop(); keeping.Wait() })
	for i, content := range []string{"one", "two"} {
		targetstest.WantOutcome(t, engine.Deploy(t.Context(), recordJob(fmt.Sprintf("dep_%d", i), content)), targets.OutcomeDeployed)
		if err := m.Write(t.Context(), "", "x", []byte("spoilt")); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(20 * time.Second); m.content() != content; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("content %q, want %q", m.content(), content)
			}
		}
	}
}
