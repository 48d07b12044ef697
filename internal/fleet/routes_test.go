package fleet

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/certctl-io/certctl/internal/access"
	"github.com/certctl-io/certctl/internal/agentapi"
	"github.com/certctl-io/certctl/internal/client"
	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/rest"
	"github.com/certctl-io/certctl/internal/testkit"
)

var person = access.Principal{Kind: access.KeyPrincipal, ID: "key_1", Name: "alice", Role: access.Operator}

// calls sends a request as a caller and reads the answer into out, if there is
// one.
func (w *world) calls(as access.Principal, method, path string, body, out any) int {
	w.t.Helper()
	answer := w.answer(as, method, path, body, nil)
	if out != nil {
		if err := json.Unmarshal(answer.Body.Bytes(), out); err != nil {
			w.t.Fatalf("%s %s: %d %s", method, path, answer.Code, answer.Body)
		}
	}
	return answer.Code
}

func (w *world) answer(as access.Principal, method, path string, body any, header http.Header) *httptest.ResponseRecorder {
	w.t.Helper()
	mux := http.NewServeMux()
	w.Routes(humago.New(mux, huma.DefaultConfig("test", "1")))
	text, err := json.Marshal(body)
	if err != nil {
		w.t.Fatal(err)
	}
	r := httptest.NewRequestWithContext(access.WithPrincipal(w.t.Context(), as), method, path, strings.NewReader(string(text)))
	maps.Copy(r.Header, header)
	r.Header.Set("Content-Type", "application/json")
	answer := httptest.NewRecorder()
	mux.ServeHTTP(answer, r)
	return answer
}

func TestAgentRoutesSpeakWhatTheClientExpects(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		web1, web2 := w.join("web-1"), w.join("web-2")

		var agent client.Agent
		if code := w.calls(person, http.MethodPatch, "/api/v1/agents/web-1", client.Patch{"labels": map[string]string{"env": "prod", "team": "a=b"}}, &agent); code != http.StatusOK {
			t.Fatalf("update: %d", code)
		}
		if agent.ID != web1.id || agent.Name != "web-1" || agent.Revision != 2 || agent.Status != "never_seen" || agent.Labels["env"] != "prod" {
			t.Errorf("the agent is %+v", agent)
		}
		stale := w.answer(person, http.MethodPatch, "/api/v1/agents/web-1", client.Patch{"name": "web-9"}, http.Header{"If-Match": {`"1"`}})
		if stale.Code != http.StatusPreconditionFailed {
			t.Errorf("a change of an older revision: %d %s", stale.Code, stale.Body)
		}
		read := w.answer(person, http.MethodGet, "/api/v1/agents/"+web1.id, nil, nil)
		if read.Code != http.StatusOK || read.Header().Get("ETag") != `"2"` {
			t.Errorf("get: %d with tag %s", read.Code, read.Header().Get("ETag"))
		}
		for query, want := range map[string]int{
			"": 2, "?status=never_seen": 2, "?status=online": 0, "?name=web": 2, "?name=-2": 1,
			"?label=env=prod": 1, "?label=env=prod&label=team=a=b": 1, "?label=env=prod&label=team=c": 0,
		} {
			var list rest.ListBody[client.Agent]
			if code := w.calls(person, http.MethodGet, "/api/v1/agents"+query, nil, &list); code != http.StatusOK || len(list.Items) != want {
				t.Errorf("list %q: %d with %d agents, want %d", query, code, len(list.Items), want)
			}
		}
		for path, want := range map[string]int{
			"/api/v1/agents?label=env": http.StatusUnprocessableEntity, "/api/v1/agents?label=$%5B=x": http.StatusUnprocessableEntity, "/api/v1/agents?status=asleep": http.StatusUnprocessableEntity,
			"/api/v1/agents?no=such": http.StatusUnprocessableEntity, "/api/v1/agents/nobody": http.StatusNotFound,
		} {
			if code := w.calls(person, http.MethodGet, path, nil, nil); code != want {
				t.Errorf("%s: %d, want %d", path, code, want)
			}
		}
		if code := w.calls(person, http.MethodPost, "/api/v1/agents/web-2/revoke", map[string]any{}, &agent); code != http.StatusOK {
			t.Errorf("revoke: %d", code)
		}
		if agent.ID != web2.id || agent.Status != "revoked" || agent.RevokedAt == nil {
			t.Errorf("the revoked agent is %+v", agent)
		}
	})
}

func TestTokenRoutesSpeakWhatTheClientExpects(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		const path = "/api/v1/enrolment-tokens"
		var created client.EnrolmentToken
		spec := client.EnrolmentTokenSpec{Description: "web servers", Labels: map[string]string{"env": "prod"}, MaxUses: 1, Lifetime: "1h"}
		if code := w.calls(person, http.MethodPost, path, spec, &created); code != http.StatusCreated {
			t.Fatalf("create: %d", code)
		}
		if created.Token.Empty() || created.Status != "active" || created.MaxUses != 1 || created.ExpiresAt == nil || created.Labels["env"] != "prod" {
			t.Errorf("the token is %+v", created)
		}
		if err := w.enrol(created.Token.Reveal(), "web-1"); err != nil {
			t.Errorf("enrol with it: %v", err)
		}
		listed := w.answer(person, http.MethodGet, path, nil, nil)
		var list rest.ListBody[client.EnrolmentToken]
		if err := json.Unmarshal(listed.Body.Bytes(), &list); err != nil || len(list.Items) != 1 || list.Items[0].Status != "used_up" || list.Items[0].Uses != 1 {
			t.Errorf("the list is %s (%v)", listed.Body, err)
		}
		if strings.Contains(listed.Body.String(), created.Token.Reveal()) {
			t.Error("the list shows the token itself")
		}
		if code := w.calls(person, http.MethodDelete, path+"/"+created.ID, nil, nil); code != http.StatusNoContent {
			t.Errorf("revoke: %d", code)
		}
		if code := w.calls(person, http.MethodDelete, path+"/tok_none", nil, nil); code != http.StatusNotFound {
			t.Errorf("revoke of none: %d", code)
		}
		if code := w.calls(person, http.MethodPost, path, client.EnrolmentTokenSpec{Lifetime: "soon"}, nil); code != http.StatusUnprocessableEntity {
			t.Errorf("a lifetime that is none: %d", code)
		}
		if code := w.calls(person, http.MethodPost, path, client.EnrolmentTokenSpec{}, nil); code != http.StatusCreated {
			t.Errorf("a token without bounds: %d", code)
		}
	})
}

func TestProtocolRoutesSpeakWhatTheAgentExpects(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		_, token := w.token(NewEnrolmentToken{})
		var joined agentapi.EnrollResponse
		nobody := access.Principal{}
		request := agentapi.MakeEnrollRequest(newKey(t), token, "web-1", w.clock.Now())
		if code := w.calls(nobody, http.MethodPost, agentapi.BasePath+agentapi.PathEnroll, request, &joined); code != http.StatusOK {
			t.Fatalf("enrol: %d", code)
		}
		if joined.Name != "web-1" || joined.ServerID != serverID {
			t.Errorf("joined: %+v", joined)
		}
		order := newOrder()
		w.add(joined.AgentID, agentapi.TaskCSR, order, order, w.clock.Now())
		var work agentapi.PollResponse
		agent := access.Principal{Kind: access.AgentPrincipal, ID: joined.AgentID, Name: "web-1"}
		poll := agentapi.PollRequest{Version: "1.0", OS: "linux/amd64", Resync: true}
		if code := w.calls(agent, http.MethodPost, agentapi.BasePath+agentapi.PathPoll, poll, &work); code != http.StatusOK {
			t.Fatalf("poll: %d", code)
		}
		if len(work.Tasks) != 1 || work.Tasks[0].Kind != agentapi.TaskCSR || work.Tasks[0].CSR.OrderID != order {
			t.Errorf("work: %+v", work)
		}
		if code := w.calls(person, http.MethodPost, agentapi.BasePath+agentapi.PathPoll, poll, nil); code != http.StatusForbidden {
			t.Errorf("a person's poll: %d", code)
		}
		var seen client.Agent
		w.calls(person, http.MethodGet, "/api/v1/agents/web-1", nil, &seen)
		if seen.Status != "online" || seen.Version != "1.0" || seen.OS != "linux/amd64" || seen.LastSeenAt == nil {
			t.Errorf("after its poll the agent is %+v", seen)
		}
	})
}
