package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/certctl-io/certctl/internal/agentapi"
	"github.com/certctl-io/certctl/internal/audit"
	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/id"
	"github.com/certctl-io/certctl/internal/problem"
)

// Builder builds what a task asks for when it is delivered: an
// *agentapi.CSRTask or an *agentapi.DeployTask for the subject. It reports
// false when the task is out of date, which drops it.
type Builder func(ctx context.Context, agentID, subjectID string) (payload any, ok bool, err error)

// Leaver ends what another feature has under way with an agent, in the
// transaction that revokes the agent.
type Leaver func(ctx context.Context, tx *db.Tx, agentID string) error

// Returner begins what another feature has to do anew for an agent that came in
// again without the private keys it had, in the transaction that lets it in.
type Returner func(ctx context.Context, tx *db.Tx, agentID string) error

// Options are the parts of a Service. All are needed but MaxWait and Kubernetes.
type Options struct {
	DB         *db.DB
	Builders   map[string]Builder // by kind of task
	Leavers    []Leaver
	Returners  []Returner
	Kubernetes Kubernetes    // nil to leave the Kubernetes tokens of agents unread
	ServerID   string        // the audience of the agents' tokens
	MaxWait    time.Duration // how long a poll may wait; 0, and anything above, for agentapi.MaxWait
	Now        func() time.Time
	Logger     *slog.Logger
}

// Service is what can be done with agents.
type Service struct {
	db         *db.DB
	builders   map[string]Builder
	leavers    []Leaver
	returners  []Returner
	kubernetes Kubernetes // may be nil
	serverID   string
	maxWait    time.Duration
	now        func() time.Time
	log        *slog.Logger

	closing   chan struct{} // closed to end the waiting polls
	closeOnce sync.Once

	mu    sync.Mutex
	polls map[string]int // open ones, by agent
}

// NewService makes a Service.
func NewService(o Options) (*Service, error) {
	if o.DB == nil || o.Now == nil || o.Logger == nil || o.ServerID == "" || len(o.Leavers) == 0 || len(o.Returners) == 0 {
		return nil, errors.New("fleet: a part of the service is missing")
	}
	for _, kind := range agentapi.TaskKinds() {
		if o.Builders[kind] == nil {
			return nil, fmt.Errorf("fleet: nothing builds tasks of kind %q", kind)
		}
	}
	return &Service{
		db: o.DB, builders: maps.Clone(o.Builders), leavers: o.Leavers, returners: o.Returners, kubernetes: o.Kubernetes, serverID: o.ServerID, now: o.Now, log: o.Logger,
		maxWait: min(cmp.Or(o.MaxWait, agentapi.MaxWait), agentapi.MaxWait),
		closing: make(chan struct{}), polls: map[string]int{},
	}, nil
}

// Close ends the polls that wait, with an empty answer, and refuses new ones.
// A server calls it when it begins to shut down.
func (s *Service) Close() { s.closeOnce.Do(func() { close(s.closing) }) }

// Authenticate finds out which agent sent a request from its bearer token. A
// token is good once; a revoked agent is refused. Once it is certain which
// agent it is, admit may refuse it: that it came is then not even written down.
func (s *Service) Authenticate(ctx context.Context, bearer string, admit func(agentID string) error) (agentID, name string, err error) {
	token, err := agentapi.ParseToken(bearer)
	if err != nil {
		return "", "", err
	}
	if !id.Is("agt", token.AgentID) {
		return "", "", unknownAgent(token.AgentID)
	}
	agent, err := agentByID(ctx, s.db.Read(), token.AgentID)
	if db.IsNoRows(err) {
		return "", "", unknownAgent(token.AgentID)
	}
	if err != nil {
		return "", "", fmt.Errorf("read agent %s: %w", token.AgentID, err)
	}
	claims, err := token.Verify(agent.PublicKey, s.serverID, s.now())
	if err != nil {
		return "", "", err
	}
	if err := agent.admit(); err != nil {
		return "", "", err
	}
	if err := admit(agent.ID); err != nil {
		return "", "", err
	}
	fresh := false
	err = s.db.InTx(ctx, func(tx *db.Tx) error {
		fresh, err = insertSeen(ctx, tx, agent.ID, claims.ID, claims.GoodUntil)
		return err
	})
	if err != nil {
		return "", "", fmt.Errorf("remember token of agent %s: %w", agent.ID, err)
	}
	if !fresh {
		return "", "", problem.Unauthenticated("the token has been used before").Hint("sign a new token for each request")
	}
	return agent.ID, agent.Name, nil
}

func unknownAgent(ref string) error {
	return problem.Unauthenticated("there is no agent %q on this server", ref).
		Hint("enrol the agent with this server, or point it at the one it belongs to")
}

// AgentFilter narrows a list of agents; zero fields do not.
type AgentFilter struct {
	Status Status
	Name   string // a part of the name
	Labels []Label
}

// Label is one label with its value.
type Label struct{ Key, Value string }

// Agents lists agents.
func (s *Service) Agents(ctx context.Context, f AgentFilter, page db.Page) ([]Agent, string, error) {
	return listAgents(ctx, s.db.Read(), f, s.now().Add(-OfflineAfter), page)
}

// Agent reads one agent by id or name.
func (s *Service) Agent(ctx context.Context, ref string) (Agent, error) {
	return found(ref)(agentByRef(ctx, s.db.Read(), ref, ""))
}

// Counts says how many agents have each status; a status that none has is
// left out.
func (s *Service) Counts(ctx context.Context) (map[Status]int, error) {
	counts, err := countAgents(ctx, s.db.Read(), s.now().Add(-OfflineAfter))
	if err != nil {
		return nil, fmt.Errorf("count agents: %w", err)
	}
	return counts, nil
}

// AgentChange is what an operator can change of an agent; nil leaves it.
type AgentChange struct {
	Name   *string
	Labels *map[string]string // all labels from now on
}

// Update changes an agent. The check gets the agent as it is and can refuse
// the change, which it does when the caller has read an older state.
func (s *Service) Update(ctx context.Context, ref string, change AgentChange, check func(Agent) error) (Agent, error) {
	return s.change(ctx, ref, "agent.update", func(_ *db.Tx, agent *Agent) (changed bool, err error) {
		if err := check(*agent); err != nil {
			return false, err
		}
		var name, labels *problem.Error
		if change.Name != nil && *change.Name != agent.Name {
			agent.Name, name, changed = *change.Name, checkName(*change.Name), true
		}
		if change.Labels != nil && !maps.Equal(*change.Labels, agent.Labels.V) {
			agent.Labels, labels, changed = db.AsJSON(orEmpty(*change.Labels)), checkLabels(*change.Labels), true
		}
		return changed, problem.Join(name, labels)
	})
}

// Revoke shuts an agent out for good: its tasks go, a poll of it that waits
// ends at once, and what it sends from now on is refused.
func (s *Service) Revoke(ctx context.Context, ref string) (Agent, error) {
	return s.change(ctx, ref, "agent.revoke", func(tx *db.Tx, agent *Agent) (changed bool, err error) {
		if agent.RevokedAt != nil {
			return false, nil
		}
		now := s.now()
		agent.RevokedAt = &now
		for _, leave := range s.leavers {
			if err := leave(ctx, tx, agent.ID); err != nil {
				return false, fmt.Errorf("end the work of agent %s: %w", agent.ID, err)
			}
		}
		if err := deleteTasksOf(ctx, tx, agent.ID); err != nil {
			return false, fmt.Errorf("delete tasks of agent %s: %w", agent.ID, err)
		}
		return true, wake(ctx, tx, agent.ID)
	})
}

// change reads an agent, lets edit change it, and stores it with its audit
// event.
func (s *Service) change(ctx context.Context, ref, action string, edit func(tx *db.Tx, agent *Agent) (changed bool, err error)) (Agent, error) {
	var agent Agent
	err := s.db.InTx(ctx, func(tx *db.Tx) (err error) {
		agent, err = found(ref)(agentByRef(ctx, tx, ref, tx.ForUpdate()))
		if err != nil {
			return err
		}
		now := s.now()
		before := agentView(agent, now)
		changed, err := edit(tx, &agent)
		if err != nil || !changed {
			return err
		}
		agent.Revision++
		agent.UpdatedAt = now
		if err := updateAgent(ctx, tx, agent); err != nil {
			return fmt.Errorf("store agent %s: %w", agent.ID, err)
		}
		return audit.Append(ctx, tx, audit.Change{
			Action: action, ObjectKind: "agent", ObjectID: agent.ID, Before: before, After: agentView(agent, now),
		})
	})
	if db.IsUnique(err, "agent", "name") {
		return Agent{}, nameTaken(agent.Name)
	}
	return agent, err
}

// found turns the absence of a row into a problem that names what was asked
// for.
func found(ref string) func(Agent, error) (Agent, error) {
	return func(agent Agent, err error) (Agent, error) {
		switch {
		case db.IsNoRows(err):
			return Agent{}, problem.NotFound("agent", ref)
		case err != nil:
			return Agent{}, fmt.Errorf("read agent %s: %w", ref, err)
		}
		return agent, nil
	}
}
