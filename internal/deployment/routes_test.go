package deployment_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/certctl-io/certctl/internal/access"
	"github.com/certctl-io/certctl/internal/agentapi"
	"github.com/certctl-io/certctl/internal/client"
	"github.com/certctl-io/certctl/internal/deployment"
	"github.com/certctl-io/certctl/internal/targets"
)

// serve offers the operations to the client and to agents, who say in a header
// who they are.
func (f *fixture) serve() (*client.Client, *httptest.Server) {
	f.t.Helper()
	mux := http.NewServeMux()
	f.Routes(humago.New(mux, huma.DefaultConfig("test", "1")))
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if agentID := r.Header.Get("Agent"); agentID != "" {
			r = r.WithContext(access.WithPrincipal(r.Context(), access.Principal{Kind: access.AgentPrincipal, ID: agentID}))
		}
		mux.ServeHTTP(w, r)
	}))
	f.t.Cleanup(server.Close)
	api, err := client.New(client.Options{URL: server.URL, Transport: server.Client().Transport})
	f.must(err)
	return api, server
}

// post sends what an agent sends and gives the status of the answer.
func (f *fixture) post(server *httptest.Server, agentID, path string, body []byte) int {
	f.t.Helper()
	r, err := http.NewRequestWithContext(f.t.Context(), http.MethodPost, server.URL+agentapi.BasePath+path, bytes.NewReader(body))
	f.must(err)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Agent", agentID)
	resp, err := server.Client().Do(r)
	f.must(err)
	answer, err := io.ReadAll(resp.Body)
	f.must(err)
	f.must(resp.Body.Close())
	if resp.StatusCode >= http.StatusInternalServerError || (resp.StatusCode == http.StatusNoContent) != (len(answer) == 0) {
		f.t.Errorf("%d: %s", resp.StatusCode, answer)
	}
	return resp.StatusCode
}

func TestTheClientUnderstandsTheOperations(t *testing.T) {
	eachEngine(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		api, _ := f.serve()
		made, err := api.CreateTarget(ctx, client.TargetSpec{
			Name: "a", Agent: "web-1", Kind: "exec", Certificate: "www",
			Settings: map[string]any{"key": "/k", "reload": []string{"/bin/true"}, "secret_env": map[string]string{"TOKEN": "hunter2"}},
		})
		f.must(err)
		if made.Agent != "web-1" || made.Certificate != "www" || made.Revision != 1 || made.Settings["secret_env"].(map[string]any)["TOKEN"] != targets.Masked {
			t.Errorf("made %+v", made)
		}
		if _, err := api.UpdateTarget(ctx, "a", 7, client.Patch{"name": "b"}); err == nil || !strings.Contains(err.Error(), "its revision is now 1") {
			t.Errorf("a change of another revision: %v", err)
		}
		made.Settings["key"] = "/other"
		changed, err := api.UpdateTarget(ctx, "a", 1, client.Patch{"settings": made.Settings})
		if err != nil || changed.Revision != 2 || changed.Settings["key"] != "/other" {
			t.Errorf("changed %+v, %v", changed, err)
		}
		count := 0
		for found, err := range api.Targets(ctx, client.TargetFilter{Agent: "web-1", Kind: "exec", Certificate: "www"}) {
			if err != nil || found.ID != made.ID {
				t.Errorf("listed %+v, %v", found, err)
			}
			count++
		}
		if found, err := api.Target(ctx, "a"); err != nil || found.ID != made.ID || count != 1 {
			t.Errorf("got %+v, %v; %d listed", found, err, count)
		}
		v := f.issue(f.cert, f.agent)
		f.start(v)
		d := f.only(deployment.Pending)
		f.deliver(d)
		f.report(d, failure(v, false))
		f.orderState(v, "failed")
		for found, err := range api.Deployments(ctx, client.DeploymentFilter{Target: "a", State: "failed"}) {
			if err != nil || found.Report == nil || found.Report.Steps[1].Output != "emerg: bad" || found.OrderID != v.OrderID {
				t.Errorf("listed %+v, %v", found, err)
			}
		}
		retried, err := api.RetryDeployment(ctx, d.ID)
		if err != nil || retried.State != "pending" || retried.Certificate != "www" || retried.FinishedAt != nil {
			t.Errorf("retried %+v, %v", retried, err)
		}
		if got, err := api.Deployment(ctx, d.ID); err != nil || got.VersionID != v.ID || got.Reason != "issued" {
			t.Errorf("got %+v, %v", got, err)
		}
		f.must(api.DeleteTarget(ctx, made.ID))
		if _, err := api.Deployment(ctx, d.ID); err == nil {
			t.Error("the deployments of a target outlive it")
		}
	})
}

func TestTheKindsOfTargetAreListedWithTheirSettings(t *testing.T) {
	eachEngine(t, func(t *testing.T, f *fixture) {
		api, _ := f.serve()
		var names []string
		for kind, err := range client.List[struct {
			Name   string
			Schema map[string]any
		}](t.Context(), api, "/target-kinds", nil) {
			f.must(err)
			if kind.Schema["type"] != "object" {
				t.Errorf("the schema of %s is %v", kind.Name, kind.Schema)
			}
			names = append(names, kind.Name)
		}
		if got := strings.Join(names, " "); got != "exec file haproxy kubernetes nginx" {
			t.Errorf("the kinds are %s", got)
		}
	})
}

func TestAnAgentIsToldWhichOfItsTargetsAreStillToBeKept(t *testing.T) {
	eachEngine(t, func(t *testing.T, f *fixture) {
		api, server := f.serve()
		kept, bare := f.target("a", f.agent, "www"), f.target("b", f.agent, "")
		for _, question := range []struct {
			agent, target string
			want          int
		}{
			{"", kept.ID, http.StatusForbidden},
			{f.agent, kept.ID, http.StatusNoContent},
			{f.agent, kept.Name, http.StatusNotFound},
			{f.other, kept.ID, http.StatusNotFound},
			{f.agent, bare.ID, http.StatusNotFound},
		} {
			if status := f.post(server, question.agent, agentapi.WithID(agentapi.PathTargetKept, question.target), []byte("{}")); status != question.want {
				t.Errorf("%+v: %d", question, status)
			}
		}
		f.must(api.DeleteTarget(t.Context(), kept.ID))
		if status := f.post(server, f.agent, agentapi.WithID(agentapi.PathTargetKept, kept.ID), []byte("{}")); status != http.StatusNotFound {
			t.Errorf("a target that was removed: %d", status)
		}
	})
}

func TestAgentsReportOverHTTP(t *testing.T) {
	eachEngine(t, func(t *testing.T, f *fixture) {
		_, server := f.serve()
		f.target("a", f.agent, "www")
		v := f.issue(f.cert, f.agent)
		f.start(v)
		d := f.only(deployment.Pending)
		f.deliver(d)
		path := agentapi.WithID(agentapi.PathDeploymentResult, d.ID)
		body, err := json.Marshal(success(v))
		f.must(err)
		if status := f.post(server, "", path, body); status != http.StatusForbidden {
			t.Errorf("nobody's report: %d", status)
		}
		if status := f.post(server, f.other, path, body); status != http.StatusNotFound {
			t.Errorf("another agent's report: %d", status)
		}
		newer := bytes.Replace(body, []byte(`{"outcome"`), []byte(`{"mood":"good","outcome"`), 1)
		newer = bytes.Replace(newer, []byte(`{"name"`), []byte(`{"host":"x","name"`), 1)
		for range 2 {
			if status := f.post(server, f.agent, path, newer); status != http.StatusNoContent {
				t.Errorf("the report of a newer agent: %d", status)
			}
		}
		f.expect(d.ID, deployment.Done)
		bare, err := json.Marshal(targets.Report{Outcome: targets.OutcomeFailed, Fingerprint: v.Fingerprint})
		f.must(err)
		if status := f.post(server, f.agent, path, bare); status != http.StatusNoContent {
			t.Errorf("a report without steps: %d", status)
		}
	})
}
