package client_test

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl-io/certctl/internal/client"
	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/secret"
)

// handlerTransport answers without a network, so that a test can hold the
// clock.
type handlerTransport struct{ handler http.HandlerFunc }

func (h handlerTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	recorder := httptest.NewRecorder()
	h.handler(recorder, r)
	return recorder.Result(), nil
}

func newClient(t *testing.T, handler http.HandlerFunc) *client.Client {
	t.Helper()
	c, err := client.New(client.Options{
		URL: "https://certctl.example.com:8443/", APIKey: secret.New("certctl_key"), Transport: handlerTransport{handler},
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

func writeProblem(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("X-Request-Id", "req-1")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(body))
}

func TestCallCarriesKeyAndPathParts(t *testing.T) {
	t.Parallel()
	c := newClient(t, func(w http.ResponseWriter, r *http.Request) {
		if got, want := r.URL.EscapedPath(), "/api/v1/certificates/a%2Fb%3F"; got != want {
			t.Errorf("path %q, want %q", got, want)
		}
		if got, want := r.Header.Get("Authorization"), "Bearer certctl_key"; got != want {
			t.Errorf("authorization %q, want %q", got, want)
		}
		writeJSON(w, http.StatusOK, map[string]any{"id": "crt_1", "name": "a/b?"})
	})
	got, err := c.Certificate(t.Context(), "a/b?")
	if err != nil || got.Name != "a/b?" {
		t.Fatalf("got %+v, %v", got, err)
	}
}

func TestListReadsAllPagesAndStopsEarly(t *testing.T) {
	t.Parallel()
	var calls []string
	c := newClient(t, func(w http.ResponseWriter, r *http.Request) {
		calls = append(calls, r.URL.RawQuery)
		next := map[string]string{"": "two", "two": "three"}[r.URL.Query().Get("cursor")]
		page := r.URL.Query().Get("cursor") + "-agent"
		writeJSON(w, http.StatusOK, map[string]any{"items": []any{map[string]any{"name": page}}, "next_cursor": next})
	})
	var names []string
	for a, err := range c.Agents(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, a.Name)
	}
	if diff := cmp.Diff([]string{"-agent", "two-agent", "three-agent"}, names); diff != "" {
		t.Fatal(diff)
	}
	if diff := cmp.Diff([]string{"limit=500", "cursor=two&limit=500", "cursor=three&limit=500"}, calls); diff != "" {
		t.Fatal(diff)
	}
	calls = nil
	for _, err := range c.Agents(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		break
	}
	if len(calls) != 1 {
		t.Fatalf("%d pages were read for one item", len(calls))
	}
}

func TestListEndsAfterAnError(t *testing.T) {
	t.Parallel()
	c := newClient(t, func(w http.ResponseWriter, _ *http.Request) {
		writeProblem(w, http.StatusForbidden, `{"code":"forbidden","detail":"the role viewer may not do this"}`)
	})
	seen := 0
	for _, err := range c.Orders(t.Context(), client.OrderFilter{}) {
		seen++
		if problem.KindOf(err) != problem.KindForbidden {
			t.Errorf("got %v", err)
		}
	}
	if seen != 1 {
		t.Fatalf("the list gave %d errors", seen)
	}
}

func TestTemporaryFailureIsTriedAgainWithTheSameIdempotencyKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var keys []string
		var bodies []string
		c := newClient(t, func(w http.ResponseWriter, r *http.Request) {
			keys = append(keys, r.Header.Get("Idempotency-Key"))
			var body map[string]any
			_ = json.NewDecoder(r.Body).Decode(&body)
			bodies = append(bodies, body["name"].(string))
			if len(keys) < 3 {
				w.Header().Set("Retry-After", "7")
				writeProblem(w, http.StatusServiceUnavailable, `{"code":"temporary","detail":"the database is away"}`)
				return
			}
			writeJSON(w, http.StatusCreated, map[string]any{"id": "crt_1"})
		})
		start := time.Now()
		got, err := c.CreateCertificate(t.Context(), client.CertificateSpec{Name: "www", Names: []string{"www"}})
		if err != nil || got.ID != "crt_1" {
			t.Fatalf("got %+v, %v", got, err)
		}
		if len(keys) != 3 || keys[0] == "" || keys[1] != keys[0] || keys[2] != keys[0] {
			t.Errorf("keys %q", keys)
		}
		if diff := cmp.Diff([]string{"www", "www", "www"}, bodies); diff != "" {
			t.Error(diff)
		}
		if waited := time.Since(start); waited != 14*time.Second {
			t.Errorf("waited %v, the server asked for twice 7s", waited)
		}
	})
}

func TestRetriesEnd(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name       string
		status     int
		retryAfter string
		deadline   time.Duration
		calls      int32
	}{
		{"after four attempts", http.StatusBadGateway, "", time.Minute, 4},
		{"at once when the pause is too long", http.StatusTooManyRequests, "3600", time.Hour * 2, 1},
		{"at once when the deadline comes before the pause", http.StatusTooManyRequests, "20", time.Second, 1},
		{"at once when trying again cannot help", http.StatusConflict, "", time.Minute, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var calls atomic.Int32
				c := newClient(t, func(w http.ResponseWriter, _ *http.Request) {
					calls.Add(1)
					w.Header().Set("Retry-After", tt.retryAfter)
					w.WriteHeader(tt.status)
				})
				ctx, cancel := context.WithTimeout(t.Context(), tt.deadline)
				defer cancel()
				if _, err := c.Info(ctx); err == nil {
					t.Fatal("no error")
				}
				if calls.Load() != tt.calls {
					t.Errorf("%d calls, want %d", calls.Load(), tt.calls)
				}
			})
		})
	}
}

func TestCancelledContextEndsTheWaitForARetry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "25")
			w.WriteHeader(http.StatusServiceUnavailable)
		})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if _, err := c.Info(ctx); !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v", err)
		}
	})
}

func TestProblemsAreReadWhole(t *testing.T) {
	t.Parallel()
	c := newClient(t, func(w http.ResponseWriter, _ *http.Request) {
		writeProblem(w, http.StatusUnprocessableEntity, `{"code":"invalid","detail":"two fields are wrong","errors":[
			{"field":"names[0]","message":"is not a name","remedy":"use a name"},
			{"field":"lifetime","message":"is too long"}]}`)
	})
	_, err := c.CreateCertificate(t.Context(), client.CertificateSpec{})
	var failed *client.Error
	if !errors.As(err, &failed) {
		t.Fatalf("got %v", err)
	}
	if failed.RequestID != "req-1" || failed.Status != http.StatusUnprocessableEntity {
		t.Errorf("got %+v", failed)
	}
	p := failed.Problem
	if p.Kind != problem.KindInvalid || p.Field != "names[0]" || p.Message != "is not a name" || p.Remedy != "use a name" {
		t.Errorf("got %+v", p)
	}
	if len(p.More) != 1 || p.More[0].Field != "lifetime" {
		t.Errorf("further problems %+v", p.More)
	}
}

func TestForeignAnswersSayWhereTheyDidNotComeFrom(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		status int
		header http.Header
		body   string
		kind   problem.Kind
		says   string
	}{
		{"page of a proxy", http.StatusNotFound, nil, "<html>", problem.KindNotFound, "did not come from certctl's API"},
		{"page with success", http.StatusOK, nil, "<html>", problem.KindInternal, "did not come from certctl's API"},
		{"redirect", http.StatusFound, http.Header{"Location": {"https://login.example.com"}}, "", problem.KindInvalid, "redirects to https://login.example.com"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := newClient(t, func(w http.ResponseWriter, _ *http.Request) {
				for name, values := range tt.header {
					w.Header()[name] = values
				}
				w.WriteHeader(tt.status)
				_, _ = w.Write([]byte(tt.body))
			})
			_, err := c.Info(t.Context())
			if problem.KindOf(err) != tt.kind || !strings.Contains(err.Error(), tt.says) {
				t.Fatalf("kind %s: %v", problem.KindOf(err), err)
			}
		})
	}
}

func TestUpdateSendsTheRevision(t *testing.T) {
	t.Parallel()
	var sent []string
	c := newClient(t, func(w http.ResponseWriter, r *http.Request) {
		sent = append(sent, r.Method+" "+r.Header.Get("If-Match"))
		writeJSON(w, http.StatusOK, map[string]any{})
	})
	for _, revision := range []int{3, 0} {
		if _, err := c.UpdateTarget(t.Context(), "web", revision, client.Patch{"name": "x"}); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]string{`PATCH "3"`, "PATCH "}, sent); diff != "" {
		t.Fatal(diff)
	}
}

func TestTrust(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, client.Info{Version: "1.2.3"})
	}))
	t.Cleanup(server.Close)
	fingerprint := pki.Fingerprint(server.Certificate().Raw)
	file := filepath.Join(t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(file, block, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name    string
		options client.Options
		says    string // in the error; empty for success
		pin     string // what others must pin
	}{
		{"pinned", client.Options{CASHA256: strings.ToUpper(fingerprint)}, "", fingerprint},
		{"CA file", client.Options{CAFile: file}, "", fingerprint},
		{"another pin", client.Options{CASHA256: strings.Repeat("ab", 32)}, "but abab", strings.Repeat("ab", 32)},
		{"nothing", client.Options{}, "CA that is not trusted here", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.options.URL = server.URL
			c, err := client.New(tt.options)
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.Info(t.Context())
			switch {
			case tt.says == "" && err != nil:
				t.Fatal(err)
			case tt.says != "" && (problem.KindOf(err) != problem.KindUnauthenticated || !strings.Contains(err.Error(), tt.says)):
				t.Fatalf("got %v", err)
			}
			if pin, err := c.CAFingerprint(t.Context()); err != nil || pin != tt.pin {
				t.Errorf("fingerprint %q, %v", pin, err)
			}
		})
	}
	ca, err := client.ShowCA(t.Context(), server.URL)
	if err != nil || ca.Trusted || ca.SHA256 != fingerprint {
		t.Errorf("ShowCA gave %+v, %v", ca, err)
	}
}

func TestUnreachableServerIsTemporaryAndPlainHTTPIsNot(t *testing.T) {
	t.Parallel()
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	tests := []struct {
		url  string
		kind problem.Kind
		says string
	}{
		{strings.Replace(plain.URL, "http:", "https:", 1), problem.KindInvalid, "plain HTTP"},
		{strings.Replace(gone.URL, "http:", "https:", 1), problem.KindTemporary, "connection refused"},
	}
	for _, tt := range tests {
		c, err := client.New(client.Options{URL: tt.url})
		if err != nil {
			t.Fatal(err)
		}
		if _, err = c.Info(t.Context()); problem.KindOf(err) != tt.kind || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: kind %s: %v", tt.says, problem.KindOf(err), err)
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		options client.Options
		says    string
	}{
		{client.Options{}, "no server URL"},
		{client.Options{URL: "http://x"}, "over TLS only"},
		{client.Options{URL: "https://user@x"}, "user name"},
		{client.Options{URL: "https://x?y=z"}, "more than host"},
		{client.Options{URL: "https://"}, "is not a URL"},
		{client.Options{URL: "https://x", CASHA256: "abc"}, "not a SHA-256 fingerprint"},
		{client.Options{URL: "https://x", CAFile: empty}, "holds no certificate"},
		{client.Options{URL: "https://x", CAFile: empty + "x"}, "cannot be read"},
	}
	for _, tt := range tests {
		_, err := client.New(tt.options)
		if problem.KindOf(err) != problem.KindInvalid || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%+v: %v", tt.options, err)
		}
	}
}

func TestSystemTrustNeedsNoPin(t *testing.T) {
	t.Parallel()
	c, err := client.New(client.Options{URL: "certctl.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	if pin, err := c.CAFingerprint(t.Context()); err != nil || pin != "" {
		t.Fatalf("fingerprint %q, %v", pin, err)
	}
	if c.URL() != "https://certctl.example.com" {
		t.Errorf("URL %q", c.URL())
	}
}
