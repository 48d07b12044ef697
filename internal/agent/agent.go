// Package agent is the runtime of certctl-agent, the small program on a host
// that holds the private keys of the host's certificates and puts the
// certificates on their targets.
//
// Everything it must remember is in one state directory, which only its user
// can read:
//
//	identity.json   who this agent is, its key, and how it knows its server
//	keys/           private keys of certificates, one for each order
//	outbox/         results that the server has not acknowledged
//	targets/        what the deployment engine remembers of each target
//	lock            held by the running agent
//
// The loop is short: a long poll brings tasks, each task is worked on, its
// result is written to the outbox and handed in until the server acknowledges
// it. Every step is safe to repeat, so the agent may be killed at any point:
// the next start asks for what it lost and hands in what it had.
package agent

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/certctl-io/certctl/internal/agentapi"
	"github.com/certctl-io/certctl/internal/targets"
)

// ErrRevoked ends Run when the server has revoked the agent. Nothing but a new
// enrolment helps.
var ErrRevoked = errors.New("this agent was revoked on the server")

// Config says how an agent runs.
type Config struct {
	StateDir string
	Kinds    map[string]targets.Kind  // by name; Kinds gives all of them
	Stores   map[string]targets.Store // by name, for kinds that write to more than files
	Version  string
	Logger   *slog.Logger
	Now      func() time.Time

	CAFile    string            // whose CAs are trusted as they are at each time, see netx.ReadCAFile; empty for those of the identity
	Transport http.RoundTripper // nil for connections that trust the server as the identity says
	Parallel  int               // tasks that are worked on at once; 0 for 8
	RetryMin  time.Duration     // first pause after a failed call; 0 for 1 s
	RetryMax  time.Duration     // longest pause; 0 for 1 min
	Grace     time.Duration     // for work under way when Run is to end; 0 for 30 s
}

// handInGrace is for results on their way when Run is to end. What does not
// make it stays in the outbox.
const handInGrace = 5 * time.Second

// Agent is an enrolled agent, ready to run.
type Agent struct {
	config   Config
	identity Identity
	log      *slog.Logger
	now      func() time.Time

	client *client
	engine *targets.Engine
	keys   *keyStore
	outbox *outbox
}

// New opens the state directory of an enrolled agent.
func New(config Config) (*Agent, error) {
	if config.StateDir == "" || config.Logger == nil || config.Now == nil || len(config.Kinds) == 0 {
		return nil, errors.New("agent: a part of the configuration is missing")
	}
	config.setDefaults()
	identity, err := ReadIdentity(config.StateDir)
	if err != nil {
		return nil, err
	}
	if !identity.Enrolled() {
		return nil, notEnrolled(config.StateDir)
	}
	a := &Agent{config: config, identity: identity, now: config.Now, log: config.Logger.With("agent", identity.Name)}
	transport := config.Transport
	if transport == nil && config.CAFile != "" && identity.CASHA256 == "" {
		if transport, err = follow(config.CAFile, identity); err != nil {
			return nil, err
		}
	}
	if a.client, err = newClient(identity, config.Version, config.Now, transport); err != nil {
		return nil, err
	}
	if a.engine, err = targets.NewEngine(config.StateDir, config.Now); err != nil {
		return nil, err
	}
	for name, store := range config.Stores {
		a.engine.AddStore(name, store)
	}
	if a.keys, err = newKeyStore(config.StateDir); err != nil {
		return nil, err
	}
	if a.outbox, err = newOutbox(config.StateDir); err != nil {
		return nil, err
	}
	return a, nil
}

func (c *Config) setDefaults() {
	c.Parallel = cmp.Or(c.Parallel, 8)
	c.RetryMin = cmp.Or(c.RetryMin, time.Second)
	c.RetryMax = cmp.Or(c.RetryMax, time.Minute)
	c.Grace = cmp.Or(c.Grace, 30*time.Second)
}

// Identity tells who the agent is.
func (a *Agent) Identity() Identity { return a.identity }

// Run works until ctx ends, which is no error, or the server has revoked the
// agent, which is ErrRevoked. Deployments under way may then come to their end;
// one that takes too long puts back what was there before.
func (a *Agent) Run(ctx context.Context) error {
	release, err := lockState(a.config.StateDir)
	if err != nil {
		return err
	}
	defer release()
	if err := removeTemporaries(a.config.StateDir); err != nil {
		return err
	}
	// Stopping the agent ends neither of these at once.
	workCtx, stopWork := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWork()
	handInCtx, stopHandIn := context.WithCancel(context.WithoutCancel(ctx))
	defer stopHandIn()

	var held *tasks
	var underWay sync.WaitGroup
	handIn := func(r result) {
		underWay.Go(func() {
			if a.submit(handInCtx, r) {
				held.settle(r.TaskID)
			}
		})
	}
	held = newTasks(a.config.Parallel, func(task agentapi.Task) {
		if r, ok := a.perform(workCtx, task); ok {
			handIn(r)
		} else {
			held.settle(task.ID)
		}
	})
	left, err := a.outbox.all()
	if err != nil {
		a.log.ErrorContext(ctx, "some results of an earlier run cannot be read; their tasks will be done again", "error", err)
	}
	for _, r := range left {
		held.hold(r.TaskID)
		handIn(r)
	}

	keepCtx, stopKeeping := context.WithCancel(ctx)
	var keeping sync.WaitGroup
	keeping.Go(func() { a.engine.Keep(keepCtx, a.client.kept, a.log) })
	defer keeping.Wait()
	defer stopKeeping()

	a.log.InfoContext(ctx, "agent runs", "agent_id", a.identity.AgentID, "server", a.identity.Server, "version", a.config.Version, "results_left", len(left))
	err = a.poll(ctx, held)
	if !held.stop(a.config.Grace) {
		a.log.WarnContext(ctx, "deployments take too long; what was there before is put back", "waited", a.config.Grace)
		stopWork()
		held.working.Wait()
	}
	if !waitFor(&underWay, min(handInGrace, a.config.Grace)) {
		stopHandIn()
		underWay.Wait()
	}
	a.log.InfoContext(ctx, "agent stopped")
	return err
}
