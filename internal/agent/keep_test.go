package agent_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/agent"
	"github.com/certctl-io/certctl/internal/agentapi"
	"github.com/certctl-io/certctl/internal/id"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/targets"
	"github.com/certctl-io/certctl/internal/targets/kinds"
	"github.com/certctl-io/certctl/internal/testkit"
)

// shelf is a store for one record.
type shelf struct {
	mu      sync.Mutex
	data    []byte
	changes chan struct{}
}

func (s *shelf) Read(context.Context, string, string) ([]byte, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.data, s.data != nil, nil
}

func (s *shelf) Write(_ context.Context, _, _ string, data []byte) error {
	s.mu.Lock()
	s.data = data
	s.mu.Unlock()
	select {
	case s.changes <- struct{}{}:
	default: // whoever watches looks again anyway
	}
	return nil
}

func (s *shelf) Remove(ctx context.Context, owner, name string) error {
	return s.Write(ctx, owner, name, nil)
}

func (s *shelf) Watch(ctx context.Context, _ string, changed func() error) error {
	for {
		if err := changed(); err != nil {
			return err
		}
		select {
		case <-s.changes:
		case <-ctx.Done():
			return nil
		}
	}
}

func (s *shelf) filled() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.data != nil
}

func TestARecordIsKeptUntilTheServerGivesTheTargetUp(t *testing.T) {
	t.Parallel()
	s, o, store := newServer(t), newOrder(t), &shelf{changes: make(chan struct{}, 1)}
	startAs(t, agent.Config{
		StateDir: s.join(), Kinds: kinds.All(), Stores: map[string]targets.Store{"kubernetes": store}, Version: "test",
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)), Now: time.Now, Grace: 200 * time.Millisecond,
	})
	s.work <- o.csrTask()
	chain := o.issue(s.result(1))
	to := target{id: id.New("tgt"), settings: map[string]any{"namespace": "shop", "name": "web-tls"}}
	task := o.deployTask(chain, to)
	task.Deploy.Kind = "kubernetes"
	s.work <- task
	if r := report(t, s.result(2), task); r.Outcome != targets.OutcomeDeployed || !store.filled() {
		t.Fatalf("the report is %+v", r)
	}
	kept := agentapi.WithID(agentapi.PathTargetKept, to.id)
	if err := store.Remove(t.Context(), "", ""); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the record is back", store.filled)
	if asked := s.result(3); asked.path != kept {
		t.Errorf("the agent asked %s", asked.path)
	}

	asked := make(chan struct{}, 1)
	s.steer(steering{refuse: func(path string) error {
		if path != agentapi.BasePath+kept {
			return nil
		}
		asked <- struct{}{}
		return problem.NotFound("target", to.id)
	}})
	if err := store.Remove(t.Context(), "", ""); err != nil {
		t.Fatal(err)
	}
	select {
	case <-asked:
	case <-time.After(20 * time.Second):
		t.Fatal("the agent does not ask")
	}
	if store.filled() {
		t.Error("the record of a target that was given up was made again")
	}
}
