package profile

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2/humatest"

	"github.com/certctl-io/certctl/internal/client"
	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/rest"
	"github.com/certctl-io/certctl/internal/testkit"
)

func TestRoutesSpeakWhatTheClientExpects(t *testing.T) {
	t.Parallel()
	_, api := humatest.New(t)
	New(testkit.NewDB(t, db.SQLite), time.Now).Routes(api)

	answer := api.Post("/api/v1/profiles", client.Patch{
		"name": "web", "key_types": []string{"rsa-2048"}, "max_lifetime": "90d", "names": map[string]any{"dns": []string{"**.Example.com"}},
	})
	var made client.Profile
	if err := json.Unmarshal(answer.Body.Bytes(), &made); err != nil || answer.Code != http.StatusCreated || answer.Header().Get("ETag") != `"1"` {
		t.Fatalf("create: %d %s, %v", answer.Code, answer.Body, err)
	}
	if made.Name != "web" || made.DefaultKeyType != "rsa-2048" || made.MaxLifetime != "90d" || made.Names["dns"][0] != "**.example.com" || made.Lint != "error" {
		t.Errorf("made %+v", made)
	}
	var list rest.ListBody[client.Profile]
	if err := json.Unmarshal(api.Get("/api/v1/profiles?sort=name").Body.Bytes(), &list); err != nil || len(list.Items) != 1 || list.Items[0].ID != made.ID {
		t.Errorf("list %+v, %v", list, err)
	}
	for _, test := range []struct {
		name string
		code int
		got  int
	}{
		{"get by id", http.StatusOK, api.Get("/api/v1/profiles/" + made.ID).Code},
		{"unknown", http.StatusNotFound, api.Get("/api/v1/profiles/none").Code},
		{"unknown sort", http.StatusUnprocessableEntity, api.Get("/api/v1/profiles?sort=lint").Code},
		{"unknown field", http.StatusUnprocessableEntity, api.Patch("/api/v1/profiles/web", client.Patch{"max_life": "1d"}).Code},
		{"wrong duration", http.StatusUnprocessableEntity, api.Patch("/api/v1/profiles/web", client.Patch{"max_lifetime": "1 day"}).Code},
		{"stale", http.StatusPreconditionFailed, api.Patch("/api/v1/profiles/web", `If-Match: "7"`, client.Patch{"public_trust": true}).Code},
		{"change", http.StatusOK, api.Patch("/api/v1/profiles/web", `If-Match: "1"`, client.Patch{"public_trust": true}).Code},
		{"stale delete", http.StatusPreconditionFailed, api.Delete("/api/v1/profiles/web", `If-Match: "1"`).Code},
		{"delete", http.StatusNoContent, api.Delete("/api/v1/profiles/web").Code},
	} {
		if test.got != test.code {
			t.Errorf("%s: %d, want %d", test.name, test.got, test.code)
		}
	}
}
