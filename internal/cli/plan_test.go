package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl-io/certctl/internal/client"
	"github.com/certctl-io/certctl/internal/problem"
)

// roundTrip answers calls without a network.
type roundTrip func(http.ResponseWriter, *http.Request)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) {
	recorder := httptest.NewRecorder()
	f(recorder, r)
	return recorder.Result(), nil
}

func apiOf(t *testing.T, answer roundTrip) *client.Client {
	t.Helper()
	api, err := client.New(client.Options{URL: "https://certctl.example.com", Transport: answer})
	if err != nil {
		t.Fatal(err)
	}
	return api
}

func TestApplyDoesNotOverwriteWhatChangedSinceThePlan(t *testing.T) {
	t.Parallel()
	revision := 7
	api := apiOf(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPatch {
			if match := r.Header.Get("If-Match"); match != "" && match != `"8"` {
				w.WriteHeader(http.StatusPreconditionFailed)
			}
			_, _ = w.Write([]byte("{}"))
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"id": "crt_1", "name": "www", "owner": "a", "revision": revision})
	})
	documents, wrong := parseManifest("f.yaml", []byte("kind: Certificate\nname: www\nspec: {owner: b}\n"))
	if len(wrong) > 0 {
		t.Fatal(wrong)
	}
	p := planner{api: api}
	steps, err := p.plan(t.Context(), documents)
	if err != nil {
		t.Fatal(err)
	}
	revision = 8 // somebody was faster
	err = p.do(t.Context(), steps[0])
	if problem.KindOf(err) != problem.KindStale || !strings.Contains(err.Error(), "f.yaml:1: certificate www") {
		t.Fatalf("got %v", err)
	}
}

func TestProgressShowsEachEventOnceAndOnlyNewOnes(t *testing.T) {
	t.Parallel()
	started := time.Date(2026, 5, 1, 10, 0, 0, 0, time.UTC)
	at := func(d time.Duration) string { return started.Add(d).Format(time.RFC3339Nano) }
	items := []map[string]any{
		{"id": "1", "at": at(20 * time.Millisecond), "kind": "order.pending", "message": "asked"},
		{"id": "0", "at": at(-time.Hour), "kind": "order.done", "message": "long ago"},
	}
	api := apiOf(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"items": items})
	})
	var out bytes.Buffer
	s := &session{globals: globals{Output: "table"}, ctx: context.Background(), err: screen{Writer: &out, tty: true}, now: time.Now}
	p := s.progressOf(api, "www", started)
	p.show(t.Context())
	items = append([]map[string]any{{"id": "2", "at": at(time.Second), "kind": "order.done", "message": "served"}}, items...)
	p.show(t.Context())
	if diff := cmp.Diff("   20 ms  asked\n   1.0 s  served\n", out.String()); diff != "" {
		t.Error(diff)
	}
	s.Output = "json"
	if s.progressOf(api, "www", started) != nil {
		t.Error("a script is told of progress")
	}
}
