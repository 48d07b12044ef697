package e2e

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/agentapi"
	"github.com/certctl-io/certctl/internal/client"
	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/targets"
	"github.com/certctl-io/certctl/test/lab"
)

// errNotYet is the error of a condition that does not hold yet.
var errNotYet = errors.New("not yet")

// rawAgent speaks the agents' protocol by hand, as somebody would who has
// taken over a host.
type rawAgent struct {
	t        *testing.T
	browser  *http.Client
	base     string
	key      ed25519.PrivateKey
	id       string
	serverID string
}

func enrol(t *testing.T, s *lab.Server, api *client.Client, name string) *rawAgent {
	t.Helper()
	token, err := api.CreateEnrolmentToken(t.Context(), client.EnrolmentTokenSpec{MaxUses: 1})
	if err != nil {
		t.Fatal(err)
	}
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	a := &rawAgent{t: t, browser: browser(t, s), base: s.URL + agentapi.BasePath, key: key}
	status, text := send(t, a.browser, http.MethodPost, a.base+agentapi.PathEnroll, "", agentapi.MakeEnrollRequest(key, token.Token.Reveal(), name, time.Now()))
	if status != http.StatusOK {
		t.Fatalf("enrol: %d %s", status, text)
	}
	var answer agentapi.EnrollResponse
	if err := json.Unmarshal(text, &answer); err != nil {
		t.Fatal(err)
	}
	a.id, a.serverID = answer.AgentID, answer.ServerID
	return a
}

func (a *rawAgent) token(audience string) string {
	a.t.Helper()
	token, err := agentapi.SignToken(a.key, a.id, audience, time.Now())
	if err != nil {
		a.t.Fatal(err)
	}
	return token
}

func (a *rawAgent) post(path string, body any) (int, []byte) {
	a.t.Helper()
	return send(a.t, a.browser, http.MethodPost, a.base+path, a.token(a.serverID), body)
}

// poll asks for work and gives the tasks.
func (a *rawAgent) poll() []agentapi.Task {
	a.t.Helper()
	status, text := a.post(agentapi.PathPoll, agentapi.PollRequest{Resync: true})
	var answer agentapi.PollResponse
	if err := json.Unmarshal(text, &answer); err != nil || status != http.StatusOK {
		a.t.Fatalf("poll: %d %s", status, text)
	}
	return answer.Tasks
}

// csr answers a task as the agent would that has it.
func csr(t *testing.T, task *agentapi.CSRTask) agentapi.CSRSubmission {
	t.Helper()
	key, err := pki.GenerateKey(task.KeyType)
	if err != nil {
		t.Fatal(err)
	}
	der, err := pki.CreateCSR(key, task.CommonName, task.Names)
	if err != nil {
		t.Fatal(err)
	}
	return agentapi.CSRSubmission{CSR: string(pki.EncodeCSR(der))}
}

func TestAnAgentCannotTouchTheWorkOfAnother(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine db.Engine) {
		s, api := startServer(t, engine)
		owner, other := enrol(t, s, api, "owner"), enrol(t, s, api, "other")
		_, err := api.CreateTarget(t.Context(), client.TargetSpec{
			Name: "site", Agent: "owner", Kind: "file", Settings: map[string]any{"fullchain": "/srv/site.pem", "key": "/srv/site.key"},
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := api.CreateCertificate(t.Context(), client.CertificateSpec{Names: []string{"site.example"}, Targets: []string{"site"}}); err != nil {
			t.Fatal(err)
		}
		if tasks := other.poll(); len(tasks) != 0 {
			t.Fatalf("another agent was given %+v", tasks)
		}
		tasks := owner.poll()
		if len(tasks) != 1 || tasks[0].CSR == nil {
			t.Fatalf("the owner was given %+v", tasks)
		}
		order := tasks[0].CSR.OrderID
		for path, body := range map[string]any{
			agentapi.WithID(agentapi.PathOrderCSR, order):     csr(t, tasks[0].CSR),
			agentapi.WithID(agentapi.PathOrderFailure, order): agentapi.TaskFailure{Reason: "sabotage"},
		} {
			if status, text := other.post(path, body); status != http.StatusNotFound {
				t.Errorf("%s by another agent: %d %s", path, status, text)
			}
		}
		if status, text := owner.post(agentapi.WithID(agentapi.PathOrderCSR, order), csr(t, tasks[0].CSR)); status != http.StatusNoContent {
			t.Fatalf("the owner's request: %d %s", status, text)
		}
		var deploy *agentapi.DeployTask
		await(t, "the deployment to be handed out", func(context.Context) error {
			for _, task := range owner.poll() {
				deploy = task.Deploy
			}
			if deploy == nil {
				return errNotYet
			}
			return nil
		})
		if tasks := other.poll(); len(tasks) != 0 {
			t.Fatalf("another agent was given %+v", tasks)
		}
		report := targets.Report{
			Outcome: targets.OutcomeDeployed, Fingerprint: deploy.Fingerprint, Served: deploy.Fingerprint,
			Steps: []targets.Step{}, Started: time.Now(), Finished: time.Now(),
		}
		result := agentapi.WithID(agentapi.PathDeploymentResult, deploy.DeploymentID)
		if status, text := other.post(result, report); status != http.StatusNotFound {
			t.Errorf("a result by another agent: %d %s", status, text)
		}
		if status, text := owner.post(result, report); status != http.StatusNoContent {
			t.Errorf("the owner's result: %d %s", status, text)
		}
		await(t, "the order to be done", func(context.Context) error {
			found, err := api.Order(t.Context(), order)
			if err == nil && found.State != "done" {
				return errNotYet
			}
			return err
		})
	})
}

func TestRequestTokensAreGoodOnceAndForOneServer(t *testing.T) {
	t.Parallel()
	s, api := startServer(t, db.SQLite)
	agent := enrol(t, s, api, "web-1")
	poll := func(token string) int {
		status, _ := send(t, agent.browser, http.MethodPost, agent.base+agentapi.PathPoll, token, agentapi.PollRequest{})
		return status
	}
	token := agent.token(agent.serverID)
	if status := poll(token); status != http.StatusOK {
		t.Fatalf("a fresh token: %d", status)
	}
	if status := poll(token); status != http.StatusUnauthorized {
		t.Errorf("a replayed token: %d", status)
	}
	if status := poll(agent.token("srv_of_somebody_else")); status != http.StatusUnauthorized {
		t.Errorf("a token for another server: %d", status)
	}
	_, stranger, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	forged := &rawAgent{t: t, key: stranger, id: agent.id}
	if status := poll(forged.token(agent.serverID)); status != http.StatusUnauthorized {
		t.Errorf("a token signed by another key: %d", status)
	}
}

func TestARevokedAgentIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine db.Engine) {
		s, api := startServer(t, engine)
		agent := enrol(t, s, api, "web-1")
		waiting := make(chan int)
		go func() {
			status, _ := send(t, agent.browser, http.MethodPost, agent.base+agentapi.PathPoll, agent.token(agent.serverID), agentapi.PollRequest{WaitSeconds: 50})
			waiting <- status
		}()
		await(t, "the agent to be online", func(context.Context) error {
			found, err := api.Agent(t.Context(), "web-1")
			if err == nil && found.Status != "online" {
				return errNotYet
			}
			return err
		})
		if _, err := api.RevokeAgent(t.Context(), "web-1"); err != nil {
			t.Fatal(err)
		}
		if status, text := agent.post(agentapi.PathPoll, agentapi.PollRequest{}); status != http.StatusForbidden {
			t.Errorf("a call after the revocation: %d %s", status, text)
		}
		select {
		case status := <-waiting:
			if status != http.StatusForbidden {
				t.Errorf("the poll that waited: %d", status)
			}
		case <-time.After(10 * time.Second):
			t.Error("the poll that waited was not ended")
		}
	})
}
