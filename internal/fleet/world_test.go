package fleet

import (
	"context"
	"crypto/ed25519"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/agentapi"
	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/id"
	"github.com/certctl-io/certctl/internal/kube/kubetest"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/testkit"
)

const (
	serverID = "srv_1"

	// promptly is what a wake-up may take on a busy machine; nothing else ends
	// a poll that soon.
	promptly = 5 * time.Second
	longWait = 50 // seconds that a poll asks to wait
)

// world is a fleet on one database, with builders that know every subject but
// those that are gone.
type world struct {
	*replica
	t     *testing.T
	d     *db.DB
	clock *testkit.Clock
	tasks *Tasks

	mu   sync.Mutex
	gone map[string]bool // subjects whose tasks are out of date
	left []string        // agents that the leaver was told of
	back []string        // agents that the returner was told of

	cluster *kubetest.Server
}

func newWorld(t *testing.T, d *db.DB) *world {
	t.Helper()
	w := &world{t: t, d: d, clock: testkit.NewClock(time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)), gone: map[string]bool{}}
	w.cluster = kubetest.New(t, "certctl")
	w.tasks = NewTasks(w.clock.Now)
	w.replica = w.newReplica(d, w.clock.Now)
	return w
}

// replica is one server of the fleet.
type replica struct {
	*Service
	looks atomic.Int64 // times that the service has looked at the clock
}

// newReplica makes a service over a handle of the world's database.
func (w *world) newReplica(d *db.DB, now func() time.Time) *replica {
	w.t.Helper()
	r := &replica{}
	var err error
	r.Service, err = NewService(Options{
		DB: d, ServerID: serverID, Logger: slog.New(slog.DiscardHandler),
		Now:      func() time.Time { r.looks.Add(1); return now() },
		Builders: map[string]Builder{agentapi.TaskCSR: w.buildCSR, agentapi.TaskDeploy: w.buildDeploy},
		Leavers:  []Leaver{w.leave}, Returners: []Returner{w.comesBack}, Kubernetes: w.cluster.Reviewer(),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

func (w *world) buildCSR(_ context.Context, _, subjectID string) (any, bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return &agentapi.CSRTask{OrderID: subjectID}, !w.gone[subjectID], nil
}

func (w *world) buildDeploy(_ context.Context, _, subjectID string) (any, bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return &agentapi.DeployTask{DeploymentID: subjectID}, !w.gone[subjectID], nil
}

func (w *world) leave(_ context.Context, _ *db.Tx, agentID string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.left = append(w.left, agentID)
	return nil
}

func (w *world) comesBack(_ context.Context, _ *db.Tx, agentID string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.back = append(w.back, agentID)
	return nil
}

// anyNumber admits every request of an agent.
func anyNumber(string) error { return nil }

// token makes an enrolment token and gives its id and text.
func (w *world) token(n NewEnrolmentToken) (tokenID, text string) {
	w.t.Helper()
	token, secret, err := w.CreateToken(w.t.Context(), n)
	if err != nil {
		w.t.Fatalf("create token: %v", err)
	}
	return token.ID, secret.Reveal()
}

func newKey(t *testing.T) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// enrol lets a new agent ask to join.
func (w *world) enrol(token, name string) error {
	_, err := w.Enrol(w.t.Context(), agentapi.MakeEnrollRequest(newKey(w.t), token, name, w.clock.Now()))
	return err
}

// joined is an agent that the test plays.
type joined struct {
	w   *world
	id  string
	key ed25519.PrivateKey
}

func (w *world) join(name string) joined {
	w.t.Helper()
	_, token := w.token(NewEnrolmentToken{MaxUses: 1})
	key := newKey(w.t)
	answer, err := w.Enrol(w.t.Context(), agentapi.MakeEnrollRequest(key, token, name, w.clock.Now()))
	if err != nil {
		w.t.Fatalf("enrol %s: %v", name, err)
	}
	return joined{w: w, id: answer.AgentID, key: key}
}

// bearer signs a request token now.
func (j joined) bearer(audience string) string {
	j.w.t.Helper()
	token, err := agentapi.SignToken(j.key, j.id, audience, j.w.clock.Now())
	if err != nil {
		j.w.t.Fatal(err)
	}
	return token
}

// poll asks for work without waiting and gives the subjects of the tasks.
func (j joined) poll(r agentapi.PollRequest) []string {
	j.w.t.Helper()
	answer, err := j.w.Poll(j.w.t.Context(), j.id, r)
	if err != nil {
		j.w.t.Fatalf("poll: %v", err)
	}
	return subjects(answer)
}

func subjects(answer agentapi.PollResponse) []string {
	found := []string{}
	for _, task := range answer.Tasks {
		switch {
		case task.CSR != nil:
			found = append(found, task.CSR.OrderID)
		case task.Deploy != nil:
			found = append(found, task.Deploy.DeploymentID)
		}
	}
	return found
}

// polled is how a poll ended.
type polled struct {
	answer agentapi.PollResponse
	err    error
}

// waits starts a poll and returns once it has found nothing and waits: it looks
// at the clock when it arrives, and after it has read the tasks.
func (w *world) waits(r *replica, agentID string) <-chan polled {
	w.t.Helper()
	ended := make(chan polled, 1)
	before := r.looks.Load()
	go func() {
		answer, err := r.Poll(w.t.Context(), agentID, agentapi.PollRequest{WaitSeconds: longWait})
		ended <- polled{answer, err}
	}()
	testkit.Eventually(w.t, "the poll waits", func() bool { return r.looks.Load() >= before+2 })
	return ended
}

func (w *world) promptly(ended <-chan polled) polled {
	w.t.Helper()
	select {
	case p := <-ended:
		return p
	case <-time.After(promptly):
		w.t.Fatal("the poll still waits")
		return polled{}
	}
}

func (w *world) add(agentID, kind, subjectID, lane string, notBefore time.Time) {
	w.t.Helper()
	w.inTx(func(tx *db.Tx) error {
		return w.tasks.Add(w.t.Context(), tx, Task{AgentID: agentID, Kind: kind, SubjectID: subjectID, Lane: lane, NotBefore: notBefore})
	})
}

func (w *world) finish(kind, subjectID string) {
	w.t.Helper()
	w.inTx(func(tx *db.Tx) error { return w.tasks.Finish(w.t.Context(), tx, kind, subjectID) })
}

func (w *world) inTx(fn func(tx *db.Tx) error) {
	w.t.Helper()
	if err := w.d.InTx(w.t.Context(), fn); err != nil {
		w.t.Fatal(err)
	}
}

// heldTasks gives the ids of an agent's tasks, oldest first.
func (w *world) heldTasks(agentID string) []string {
	w.t.Helper()
	tasks, err := tasksOf(w.t.Context(), w.d.Read(), agentID, "")
	if err != nil {
		w.t.Fatal(err)
	}
	ids := make([]string, len(tasks))
	for i, task := range tasks {
		ids[i] = task.ID
	}
	return ids
}

func wantKind(t *testing.T, what string, err error, kind problem.Kind) {
	t.Helper()
	if got := problem.KindOf(err); got != kind {
		t.Errorf("%s: %q (%v), want %q", what, got, err, kind)
	}
}

func newOrder() string { return id.New("ord") }
