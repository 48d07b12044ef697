package inventory

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/certctl-io/certctl/internal/client"
	"github.com/certctl-io/certctl/internal/rest"
)

// call sends a request and reads the answer into out, if there is one, so
// strictly that a field the client does not know is an error.
func (f *fixture) call(method, path string, body, out any, header ...string) *httptest.ResponseRecorder {
	f.t.Helper()
	mux := http.NewServeMux()
	f.Routes(humago.New(mux, huma.DefaultConfig("test", "1")))
	text, err := json.Marshal(body)
	f.must(err)
	r := httptest.NewRequestWithContext(f.t.Context(), method, "/api/v1"+path, strings.NewReader(string(text)))
	r.Header.Set("Content-Type", "application/json")
	if len(header) == 2 {
		r.Header.Set(header[0], header[1])
	}
	answer := httptest.NewRecorder()
	mux.ServeHTTP(answer, r)
	if out != nil {
		decoder := json.NewDecoder(strings.NewReader(withoutSchema(answer.Body.String())))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(out); err != nil {
			f.t.Fatalf("%s %s: %d %s: %v", method, path, answer.Code, answer.Body, err)
		}
	}
	return answer
}

// withoutSchema takes out the link that the framework's default adds.
func withoutSchema(text string) string {
	var object map[string]json.RawMessage
	if json.Unmarshal([]byte(text), &object) != nil {
		return text
	}
	delete(object, "$schema")
	clean, err := json.Marshal(object)
	if err != nil {
		return text
	}
	return string(clean)
}

func TestRoutesSpeakWhatTheClientExpects(t *testing.T) {
	eachEngine(t, func(f *fixture) {
		var made client.Certificate
		answer := f.call(http.MethodPost, "/certificates", client.CertificateSpec{
			Names: []string{"WWW.example.com", "10.0.0.7"}, Lifetime: "30d", Tags: map[string]string{"team": "web"}, Targets: []string{"web-1"},
			Renewal: &client.Renewal{Auto: true, Before: "10d"},
		}, &made)
		if answer.Code != http.StatusCreated || answer.Header().Get("ETag") != `"1"` {
			f.t.Fatalf("create: %d %v %s", answer.Code, answer.Header(), answer.Body)
		}
		if made.Name != "www.example.com" || !slices.Equal(made.Names, []string{"www.example.com", "10.0.0.7"}) || made.Lifetime != "30d" ||
			made.Renewal != (client.Renewal{Auto: true, Before: "10d"}) || made.Status != "pending" || made.NotAfter != nil {
			f.t.Errorf("made %+v", made)
		}
		v := f.version(made.ID, f.web, true)

		var got client.Certificate
		f.call(http.MethodGet, "/certificates/www.example.com", nil, &got)
		if got.Status != "active" || got.StatusReason != "" || got.Serial != v.Serial || got.Fingerprint != v.Fingerprint ||
			got.NotAfter == nil || !got.NotAfter.Equal(v.NotAfter) || got.RenewAt == nil {
			f.t.Errorf("got %+v", got)
		}
		if answer := f.call(http.MethodPatch, "/certificates/"+made.ID, client.Patch{"owner": "jane"}, &got, "If-Match", `"1"`); answer.Header().Get("ETag") != `"2"` {
			f.t.Errorf("update: %d %s", answer.Code, answer.Body)
		}
		if answer := f.call(http.MethodPatch, "/certificates/"+made.ID, client.Patch{"owner": "joe"}, nil, "If-Match", `"1"`); answer.Code != http.StatusPreconditionFailed {
			f.t.Errorf("stale update: %d %s", answer.Code, answer.Body)
		}

		var list rest.ListBody[client.Certificate]
		f.call(http.MethodGet, "/certificates?tag=team:web&tag=team:web&name=example&status=active&sort=not_after&expires_before=2100-01-01T00:00:00Z", nil, &list)
		if len(list.Items) != 1 || list.Items[0].Owner != "jane" {
			f.t.Errorf("list %+v", list)
		}
		var events rest.ListBody[client.Event]
		f.call(http.MethodGet, "/certificates/www.example.com/events?limit=1", nil, &events)
		if len(events.Items) != 1 || events.Items[0].Kind != "certificate.changed" || events.NextCursor == "" {
			f.t.Errorf("events %+v", events)
		}
		var versions rest.ListBody[client.Version]
		f.call(http.MethodGet, "/certificates/www.example.com/versions", nil, &versions)
		if len(versions.Items) != 1 || versions.Items[0].PEM != "" || versions.Items[0].Agent != "web" || versions.Items[0].State != "active" {
			f.t.Errorf("versions %+v", versions)
		}
		var version client.Version
		f.call(http.MethodGet, "/versions/"+v.ID, nil, &version)
		if !strings.HasPrefix(version.PEM, "-----BEGIN CERTIFICATE-----") || version.Certificate != "www.example.com" {
			f.t.Errorf("version %+v", version)
		}
	})
}

func TestRoutesOfWorkSpeakWhatTheClientExpects(t *testing.T) {
	eachEngine(t, func(f *fixture) {
		c := f.create("www.example.com", "web-1")
		v := f.version(c.ID, f.web, true)
		var renewal struct{ Orders []string }
		f.call(http.MethodPost, "/certificates/www.example.com/renew", map[string]any{}, &renewal)
		if !slices.Equal(renewal.Orders, []string{"ord_of_" + f.web}) {
			f.t.Errorf("renew: %+v", renewal)
		}
		var deployment struct{ Deployments []string }
		f.call(http.MethodPost, "/certificates/www.example.com/deploy", map[string]any{}, &deployment)
		if !slices.Equal(deployment.Deployments, []string{"dep_of_web-1"}) {
			f.t.Errorf("deploy: %+v", deployment)
		}
		var version client.Version
		f.call(http.MethodPost, "/versions/"+v.ID+"/revoke", map[string]any{"reason": "superseded"}, &version)
		if version.State != "revoked" || version.RevocationReason != "superseded" {
			f.t.Errorf("revoke version: %+v", version)
		}
		var revoked client.Certificate
		f.call(http.MethodPost, "/certificates/www.example.com/revoke", map[string]any{"reason": "keyCompromise", "reissue": true}, &revoked)
		if revoked.Status != "revoked" || !strings.Contains(revoked.StatusReason, "superseded") {
			f.t.Errorf("revoke: %+v", revoked)
		}
		if answer := f.call(http.MethodDelete, "/certificates/www.example.com", nil, nil); answer.Code != http.StatusNoContent {
			f.t.Errorf("archive: %d %s", answer.Code, answer.Body)
		}
		for path, want := range map[string]int{
			"/certificates?status=fine":                http.StatusUnprocessableEntity,
			"/certificates?sort=owner":                 http.StatusUnprocessableEntity,
			"/certificates?tag=web":                    http.StatusUnprocessableEntity,
			"/certificates?cursor=x":                   http.StatusUnprocessableEntity,
			"/certificates/none":                       http.StatusNotFound,
			"/certificates/none/events":                http.StatusNotFound,
			"/certificates/%00":                        http.StatusNotFound,
			"/versions/none":                           http.StatusNotFound,
			"/certificates/www.example.com/events?a=b": http.StatusUnprocessableEntity,
		} {
			if answer := f.call(http.MethodGet, path, nil, nil); answer.Code != want {
				f.t.Errorf("%s: %d %s", path, answer.Code, answer.Body)
			}
		}
	})
}
