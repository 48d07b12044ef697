package fleet

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/agentapi"
	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/kube"
	"github.com/certctl-io/certctl/internal/kube/kubetest"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/secret"
	"github.com/certctl-io/certctl/internal/testkit"
)

// podOn is a pod of the DaemonSet on a node.
func podOn(node string) kube.Pod {
	return kube.Pod{Namespace: "certctl", ServiceAccount: "agents", Name: "agent-x7k2p-" + node, Node: node}
}

// comes lets an agent with a new key ask to join under a name, with an
// enrolment token and a Kubernetes token, each of which may be empty.
func (w *world) comes(name, token, kubernetes string) (joined, error) {
	w.t.Helper()
	key := newKey(w.t)
	request := agentapi.MakeEnrollRequest(key, token, name, w.clock.Now())
	request.KubernetesToken = kubernetes
	answer, err := w.Enrol(w.t.Context(), request)
	return joined{w: w, id: answer.AgentID, key: key}, err
}

// settles is comes for an agent that has to get in.
func (w *world) settles(name, token, kubernetes string) joined {
	w.t.Helper()
	j, err := w.comes(name, token, kubernetes)
	if err != nil {
		w.t.Fatalf("%s: %v", name, err)
	}
	return j
}

// in reports what becomes of a request that the agent signs now.
func (j joined) in() error {
	j.w.t.Helper()
	_, _, err := j.w.Authenticate(j.w.t.Context(), j.bearer(serverID), anyNumber)
	return err
}

func TestAPodThatLostItsKeyIsTheSameAgentAgain(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		tokenID, token := w.token(NewEnrolmentToken{MaxUses: 1, Labels: map[string]string{"env": "prod"}})
		first := w.settles("worker-1", token, w.cluster.Token(podOn("worker-1")))
		order := newOrder()
		w.add(first.id, agentapi.TaskCSR, order, order, time.Time{})
		if got := first.poll(agentapi.PollRequest{}); len(got) != 1 {
			t.Fatalf("the first pod gets %v", got)
		}
		waiting := w.waits(w.replica, first.id)

		w.clock.Advance(time.Minute / 2)
		second := w.settles("worker-1", token, w.cluster.Token(podOn("worker-1")))
		if second.id != first.id {
			t.Fatalf("it is agent %s now, and was %s", second.id, first.id)
		}
		wantKind(t, "the old key", first.in(), problem.KindUnauthenticated)
		wantKind(t, "the new key", second.in(), "")
		wantKind(t, "the poll of the old key", w.promptly(waiting).err, problem.KindUnauthenticated)
		if got := second.poll(agentapi.PollRequest{}); len(got) != 1 || got[0] != order {
			t.Errorf("the second pod gets %v, want the task that the first had", got)
		}
		if len(w.back) != 1 || w.back[0] != first.id || len(w.left) != 0 {
			t.Errorf("came back: %v, left: %v", w.back, w.left)
		}
		kept, err := tokenByID(t.Context(), d.Read(), tokenID, "")
		agent, agentErr := w.Agent(t.Context(), "worker-1")
		if err != nil || agentErr != nil || kept.Uses != 1 || agent.Labels.V["env"] != "prod" || agent.Revision != 2 {
			t.Errorf("the token counts %d, the agent is %+v (%v, %v)", kept.Uses, agent, err, agentErr)
		}
		events, err := db.All[string](t.Context(), d.Read(), "SELECT action FROM audit_event WHERE object_id = $1 AND actor_id = $1 ORDER BY id", first.id)
		if err != nil || strings.Join(events, " ") != "agent.enrol agent.rejoin" {
			t.Errorf("the audit log has %v (%v)", events, err)
		}
	})
}

func TestAnAnswerThatWasLostIsGivenAgain(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		_, token := w.token(NewEnrolmentToken{})
		w.settles("worker-1", token, w.cluster.Token(podOn("worker-1")))
		request := agentapi.MakeEnrollRequest(newKey(t), "", "worker-1", w.clock.Now())
		request.KubernetesToken = w.cluster.Token(podOn("worker-1"))
		for range 3 {
			if _, err := w.Enrol(t.Context(), request); err != nil {
				t.Fatal(err)
			}
		}
		if len(w.back) != 1 {
			t.Errorf("it came back %d times", len(w.back))
		}
	})
}

func TestNobodyElseTakesOverAnAgent(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		_, token := w.token(NewEnrolmentToken{})
		_, usedUp := w.token(NewEnrolmentToken{MaxUses: 1})
		node := w.settles("worker-1", token, w.cluster.Token(podOn("worker-1")))
		stateful := podOn("worker-2")
		stateful.Name = "agent-0"
		pod := w.settles("agent-0", token, w.cluster.Token(stateful))
		fixed := w.settles("edge", token, w.cluster.Token(podOn("worker-3")))
		host := w.settles("web-1", usedUp, "")
		gone := podOn("worker-1")
		ended := w.cluster.Token(gone)
		w.cluster.Ended(gone)

		elsewhere, account, other := podOn("worker-1"), podOn("worker-1"), podOn("worker-1")
		elsewhere.Namespace, account.ServiceAccount, other.Node = "default", "default", ""
		sibling := stateful
		sibling.Name = "agent-1"
		for _, test := range []struct {
			what, name, token, kubernetes string
			want                          problem.Kind
		}{
			{"an enrolment token alone", "worker-1", token, "", problem.KindConflict},
			{"one for the agent of a pod", "agent-0", token, "", problem.KindConflict},
			{"one for the agent of an account", "edge", token, "", problem.KindConflict},
			{"a forged token", "worker-1", token, kubetest.Forged(podOn("worker-1")), problem.KindUnauthenticated},
			{"a forged token alone", "worker-1", "", kubetest.Forged(podOn("worker-1")), problem.KindUnauthenticated},
			{"a token of a pod that is gone", "worker-1", token, ended, problem.KindUnauthenticated},
			{"a token for another audience", "worker-1", token, w.cluster.TokenFor(podOn("worker-1"), "vault"), problem.KindUnauthenticated},
			{"a token of no pod", "worker-1", token, w.cluster.Unbound(podOn("worker-1")), problem.KindUnauthenticated},
			{"another node", "worker-1", token, w.cluster.Token(podOn("worker-9")), problem.KindForbidden},
			{"a node that is not told", "worker-1", token, w.cluster.Token(other), problem.KindForbidden},
			{"another namespace", "worker-1", token, w.cluster.Token(elsewhere), problem.KindConflict},
			{"another account", "worker-1", token, w.cluster.Token(account), problem.KindConflict},
			{"another account alone", "worker-1", "", w.cluster.Token(account), problem.KindUnauthenticated},
			{"another pod of the set", "agent-0", token, w.cluster.Token(sibling), problem.KindForbidden},
			{"an agent of a host", "web-1", token, w.cluster.Token(podOn("web-1")), problem.KindConflict},
			{"nothing", "worker-1", "", "", problem.KindUnauthenticated},
		} {
			_, err := w.comes(test.name, test.token, test.kubernetes)
			wantKind(t, test.what, err, test.want)
		}
		for _, agent := range []joined{node, pod, fixed, host} {
			wantKind(t, "the agent itself", agent.in(), "")
		}
		if len(w.back) != 0 {
			t.Errorf("%v came back", w.back)
		}
		// Where the name binds to nothing, each pod of the account can be the agent.
		if back := w.settles("edge", "", w.cluster.Token(podOn("worker-9"))); back.id != fixed.id {
			t.Errorf("edge is agent %s, and was %s", back.id, fixed.id)
		}
	})
}

// Before Kubernetes 1.30 nobody tells the node.
func TestAnAgentIsBoundToItsNodeOnceThatIsTold(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		_, token := w.token(NewEnrolmentToken{})
		older := podOn("worker-1")
		older.Node = ""
		first := w.settles("worker-1", token, w.cluster.Token(older))
		for _, pod := range []kube.Pod{older, podOn("worker-1")} {
			if back := w.settles("worker-1", "", w.cluster.Token(pod)); back.id != first.id {
				t.Errorf("it is agent %s, and was %s", back.id, first.id)
			}
		}
		for _, pod := range []kube.Pod{older, podOn("worker-2")} {
			_, err := w.comes("worker-1", token, w.cluster.Token(pod))
			wantKind(t, "not from its node", err, problem.KindForbidden)
		}
	})
}

func TestTheServiceAccountReplacesTheEnrolmentToken(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		_, usedUp := w.token(NewEnrolmentToken{MaxUses: 1})
		revokedID, revoked := w.token(NewEnrolmentToken{})
		first := w.settles("worker-1", usedUp, w.cluster.Token(podOn("worker-1")))
		if err := w.RevokeToken(t.Context(), revokedID); err != nil {
			t.Fatal(err)
		}
		for what, token := range map[string]string{"used up": usedUp, "revoked": revoked, "unknown": "cet_none", "none": ""} {
			back, err := w.comes("worker-1", token, w.cluster.Token(podOn("worker-1")))
			if err != nil || back.id != first.id {
				t.Errorf("with a token that is %s: agent %q, %v", what, back.id, err)
			}
			// But it lets in no agent that has not joined.
			_, err = w.comes("worker-2", token, w.cluster.Token(podOn("worker-2")))
			wantKind(t, "a new agent with a token that is "+what, err, problem.KindUnauthenticated)
		}
	})
}

func TestARevokedAgentDoesNotComeBack(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		_, token := w.token(NewEnrolmentToken{})
		first := w.settles("worker-1", token, w.cluster.Token(podOn("worker-1")))
		renamed := "node-a"
		if _, err := w.Update(t.Context(), first.id, AgentChange{Name: &renamed}, func(Agent) error { return nil }); err != nil {
			t.Fatal(err)
		}
		if back := w.settles("worker-1", "", w.cluster.Token(podOn("worker-1"))); back.id != first.id {
			t.Errorf("an agent that was renamed is %s, and was %s", back.id, first.id)
		}
		original := "worker-1"
		if _, err := w.Update(t.Context(), first.id, AgentChange{Name: &original}, func(Agent) error { return nil }); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Revoke(t.Context(), first.id); err != nil {
			t.Fatal(err)
		}
		_, err := w.comes("worker-1", token, w.cluster.Token(podOn("worker-1")))
		wantKind(t, "a revoked agent", err, problem.KindForbidden)
		// Whoever gives the name free lets a new agent have it.
		if _, err := w.Update(t.Context(), first.id, AgentChange{Name: &renamed}, func(Agent) error { return nil }); err != nil {
			t.Fatal(err)
		}
		_, err = w.comes("worker-1", "", w.cluster.Token(podOn("worker-1")))
		wantKind(t, "without an enrolment token", err, problem.KindUnauthenticated)
		second := w.settles("worker-1", token, w.cluster.Token(podOn("worker-1")))
		if third := w.settles("worker-1", "", w.cluster.Token(podOn("worker-1"))); second.id == first.id || third.id != second.id {
			t.Errorf("agents %s, %s and %s", first.id, second.id, third.id)
		}
	})
}

func TestKubernetesIsNotAskedForStrangers(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		_, token := w.token(NewEnrolmentToken{})
		w.settles("worker-1", token, w.cluster.Token(podOn("worker-1")))
		asked := w.cluster.Reviews()
		for _, kubernetes := range []string{kubetest.Forged(podOn("worker-1")), "x.y.z", "cet_x"} {
			_, err := w.comes("worker-7", "cet_guess", kubernetes)
			wantKind(t, "a stranger", err, problem.KindUnauthenticated)
		}
		if got := w.cluster.Reviews(); got != asked {
			t.Errorf("Kubernetes was asked %d times", got-asked)
		}
		w.cluster.Instead(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusForbidden) })
		_, err := w.comes("worker-1", "", w.cluster.Token(podOn("worker-1")))
		wantKind(t, "Kubernetes does not say", err, problem.KindTemporary)
		_, err = w.comes("worker-2", token, w.cluster.Token(podOn("worker-2")))
		wantKind(t, "and for a new agent", err, problem.KindTemporary)
	})
}

func TestPodsThatStartAtOnceAreOneAgent(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		_, token := w.token(NewEnrolmentToken{})
		var all sync.WaitGroup
		results := make([]error, 6)
		for i := range results {
			request := agentapi.MakeEnrollRequest(newKey(t), token, "edge", w.clock.Now())
			request.KubernetesToken = w.cluster.Token(podOn("worker-1"))
			all.Go(func() { _, results[i] = w.Enrol(t.Context(), request) })
		}
		all.Wait()
		for _, err := range results {
			if kind := problem.KindOf(err); kind != "" && kind != problem.KindConflict {
				t.Errorf("one of them: %v", err)
			}
		}
		if n, err := db.One[int](t.Context(), d.Read(), "SELECT COUNT(*) FROM agent"); err != nil || n != 1 {
			t.Errorf("there are %d agents (%v)", n, err)
		}
	})
}

func TestAServerThatAsksNobodySaysSo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testkit.NewDB(t, db.SQLite))
	w.kubernetes = nil
	_, token := w.token(NewEnrolmentToken{})
	w.settles("worker-1", token, w.cluster.Token(podOn("worker-1")))
	_, err := w.comes("worker-1", token, w.cluster.Token(podOn("worker-1")))
	wantKind(t, "again", err, problem.KindConflict)
	if err == nil || !strings.Contains(err.Error(), "kubernetes_token_review") {
		t.Errorf("the refusal does not say why: %v", err)
	}
	if w.cluster.Reviews() != 0 {
		t.Error("Kubernetes was asked")
	}
}

func TestAGivenTokenIsMadeOnce(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		const text = "chosen-by-the-operator-0123456789"
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				if err := w.EnsureGiven(t.Context(), secret.New(text)); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		tokens, _, err := w.Tokens(t.Context(), db.Page{})
		if err != nil || len(tokens) != 1 || tokens[0].Description != "given at start" {
			t.Fatalf("there are %+v (%v)", tokens, err)
		}
		for _, name := range []string{"a", "b", "c"} {
			wantKind(t, name, w.enrol(text, name), "")
		}
		if err := w.RevokeToken(t.Context(), tokens[0].ID); err != nil {
			t.Fatal(err)
		}
		if err := w.EnsureGiven(t.Context(), secret.New(text)); err != nil {
			t.Fatal(err)
		}
		wantKind(t, "after it was revoked", w.enrol(text, "d"), problem.KindUnauthenticated)
	})
}
