package issuance

import (
	"encoding/json"
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
	"github.com/certctl-io/certctl/internal/inventory"
	"github.com/certctl-io/certctl/internal/rest"
	"github.com/certctl-io/certctl/internal/testkit"
)

// calls sends a request as a caller and reads the answer into out, if there is
// one.
func (w *world) calls(as access.Principal, method, path string, body, out any) int {
	w.t.Helper()
	mux := http.NewServeMux()
	w.Routes(humago.New(mux, huma.DefaultConfig("test", "1")))
	text, err := json.Marshal(body)
	if err != nil {
		w.t.Fatal(err)
	}
	r := httptest.NewRequestWithContext(access.WithPrincipal(w.t.Context(), as), method, path, strings.NewReader(string(text)))
	r.Header.Set("Content-Type", "application/json")
	answer := httptest.NewRecorder()
	mux.ServeHTTP(answer, r)
	if out != nil {
		if err := json.Unmarshal(answer.Body.Bytes(), out); err != nil {
			w.t.Fatalf("%s %s: %d %s", method, path, answer.Code, answer.Body)
		}
	}
	return answer.Code
}

func TestRoutesSpeakWhatClientAndAgentExpect(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		agent := access.Principal{Kind: access.AgentPrincipal, ID: w.web, Name: "web"}
		other := access.Principal{Kind: access.AgentPrincipal, ID: w.mail, Name: "mail"}
		person := access.Principal{Kind: access.KeyPrincipal, ID: "key_1", Name: "alice", Role: access.Admin}
		orderID := w.begins(w.web, inventory.Requested)
		csrPath := agentapi.BasePath + agentapi.WithID(agentapi.PathOrderCSR, orderID)
		failurePath := agentapi.BasePath + agentapi.WithID(agentapi.PathOrderFailure, orderID)

		csr := agentapi.CSRSubmission{CSR: string(w.csr(orderID))}
		for _, test := range []struct {
			as   access.Principal
			path string
			body any
			want int
		}{
			{person, csrPath, csr, http.StatusForbidden},
			{other, csrPath, csr, http.StatusNotFound},
			{other, failurePath, agentapi.TaskFailure{Reason: "no"}, http.StatusNotFound},
			{agent, failurePath, agentapi.TaskFailure{Reason: "busy", Retryable: true}, http.StatusNoContent},
			{agent, csrPath, csr, http.StatusNoContent},
			{agent, csrPath, csr, http.StatusNoContent},
		} {
			if code := w.calls(test.as, http.MethodPost, test.path, test.body, nil); code != test.want {
				t.Errorf("%s to %s: %d, want %d", test.as.Name, test.path, code, test.want)
			}
		}
		var order client.Order
		if code := w.calls(person, http.MethodGet, "/api/v1/orders/"+orderID, nil, &order); code != http.StatusOK {
			t.Fatalf("get: %d", code)
		}
		if order.ID != orderID || order.Certificate != "www.example.com" || order.Agent != "web" || order.State != "signing" || len(order.Events) != 3 {
			t.Errorf("the order is %+v", order)
		}
		var list rest.ListBody[client.Order]
		w.calls(person, http.MethodGet, "/api/v1/orders?state=signing&agent=web&certificate=www.example.com&sort=-created_at", nil, &list)
		if len(list.Items) != 1 || list.Items[0].ID != orderID || list.Items[0].Events != nil {
			t.Errorf("the list is %+v", list)
		}
		w.calls(person, http.MethodPost, "/api/v1/orders/"+orderID+"/cancel", map[string]any{}, &order)
		if order.State != "cancelled" || order.FinishedAt == nil {
			t.Errorf("the cancelled order is %+v", order)
		}
		if code := w.calls(person, http.MethodPost, "/api/v1/orders/"+orderID+"/retry", map[string]any{}, nil); code != http.StatusConflict {
			t.Errorf("retry of a cancelled order: %d", code)
		}
	})
}
