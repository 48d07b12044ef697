package kube_test

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/certctl-io/certctl/internal/kube"
	"github.com/certctl-io/certctl/internal/kube/kubetest"
	"github.com/certctl-io/certctl/internal/problem"
)

var web = kube.Pod{Namespace: "certctl", ServiceAccount: "agents", Name: "certctl-agent-x7k2p", Node: "worker-1"}

func wantKind(t *testing.T, what string, err error, kind problem.Kind, part string) {
	t.Helper()
	if problem.KindOf(err) != kind || err != nil && !strings.Contains(err.Error(), part) {
		t.Errorf("%s: %v, want %s with %q", what, err, kind, part)
	}
}

func TestATokenIsReviewedAsKubernetesDoes(t *testing.T) {
	t.Parallel()
	s := kubetest.New(t, "certctl")
	r := s.Reviewer()
	if pod, err := r.Review(t.Context(), s.Token(web)); err != nil || pod != web {
		t.Errorf("the pod is %+v, %v", pod, err)
	}
	older := web
	older.Node = "" // before Kubernetes 1.30
	if pod, err := r.Review(t.Context(), s.Token(older)); err != nil || pod != older {
		t.Errorf("on an older cluster the pod is %+v, %v", pod, err)
	}
	ended := s.Token(web)
	s.Ended(web)
	for what, test := range map[string]struct{ token, part string }{
		"a token nobody issued":         {kubetest.Forged(web), "invalid bearer token"},
		"a token of a pod that is gone": {ended, "invalidated"},
		"a token for the API server":    {s.TokenFor(web, "https://kubernetes.default.svc"), "audience certctl"},
		"a token of no pod":             {s.Unbound(web), "not bound to a pod"},
	} {
		_, err := r.Review(t.Context(), test.token)
		wantKind(t, what, err, problem.KindUnauthenticated, test.part)
	}
	asked := s.Reviews()
	for what, token := range map[string]string{
		"an enrolment token": "cet_0123", "nothing": "", "a token of a person": "e30.e30.e30", "a very long one": kubetest.Forged(web) + strings.Repeat("x", kube.MaxToken),
	} {
		_, err := r.Review(t.Context(), token)
		wantKind(t, what, err, problem.KindUnauthenticated, "not a ServiceAccount token")
	}
	if s.Reviews() != asked {
		t.Error("Kubernetes was asked for what is no ServiceAccount token")
	}
}

// An authenticator that ignores audiences answers without them.
func TestAnAnswerMustNameTheAudience(t *testing.T) {
	t.Parallel()
	s := kubetest.New(t, "certctl")
	for what, test := range map[string]struct {
		status map[string]any
		user   string
		part   string
	}{
		"no audiences":      {map[string]any{"authenticated": true}, "system:serviceaccount:a:b", "meant for certctl"},
		"another audience":  {map[string]any{"authenticated": true, "audiences": []string{"x"}}, "system:serviceaccount:a:b", "meant for certctl"},
		"a person":          {map[string]any{"authenticated": true, "audiences": []string{"certctl"}}, "kubernetes-admin", "no ServiceAccount"},
		"an odd account":    {map[string]any{"authenticated": true, "audiences": []string{"certctl"}}, "system:serviceaccount:a:", "no ServiceAccount"},
		"not authenticated": {map[string]any{"audiences": []string{"certctl"}}, "system:serviceaccount:a:b", "gives no reason"},
	} {
		s.Instead(func(w http.ResponseWriter, _ *http.Request) {
			test.status["user"] = map[string]any{"username": test.user, "extra": map[string][]string{"authentication.kubernetes.io/pod-name": {"p"}}}
			_ = json.NewEncoder(w).Encode(map[string]any{"kind": "TokenReview", "status": test.status})
		})
		_, err := s.Reviewer().Review(t.Context(), s.Token(web))
		wantKind(t, what, err, problem.KindUnauthenticated, test.part)
	}
}

func TestAnAPIServerThatCannotSayIsNoRefusal(t *testing.T) {
	t.Parallel()
	s := kubetest.New(t, "certctl")
	for what, answer := range map[string]http.HandlerFunc{
		"may not ask":   func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) },
		"is overloaded": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTooManyRequests) },
		"redirects": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		},
		"is a proxy":   func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) },
		"is something": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"kind":"Status"}`)) },
		"never ends": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"kind":"TokenReview","status":{"error":"` + strings.Repeat("x", 1<<20) + `"}}`))
		},
		"breaks off": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		s.Instead(answer)
		_, err := s.Reviewer().Review(t.Context(), s.Token(web))
		wantKind(t, what, err, problem.KindTemporary, "cannot have the Kubernetes token reviewed")
		p, ok := problem.As(err)
		if !ok || p.Cause == nil || strings.Contains(p.Message, s.Config().Host) {
			t.Errorf("%s: the cause is %v", what, p)
		}
	}
	s.Instead(nil)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Reviewer().Review(ended, s.Token(web))
	wantKind(t, "the caller left", err, problem.KindTemporary, "")
}

func TestCredentialsAreReadAnew(t *testing.T) {
	t.Parallel()
	s := kubetest.New(t, "certctl")
	r := s.Reviewer()
	for range 2 {
		s.Rotate()
		if _, err := r.Review(t.Context(), s.Token(web)); err != nil {
			t.Errorf("after the token was rotated: %v", err)
		}
	}
	if err := os.WriteFile(filepath.Join(s.Config().Dir, "ca.crt"), []byte("none"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := r.Review(t.Context(), s.Token(web))
	wantKind(t, "without a CA", err, problem.KindTemporary, "")
}

func TestInCluster(t *testing.T) {
	t.Parallel()
	s := kubetest.New(t, "certctl")
	environment := map[string]string{"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}
	getenv := func(name string) string { return environment[name] }
	if c, found := kube.InCluster(getenv, s.Config().Dir); !found || c.Host != "10.0.0.1" {
		t.Errorf("in a cluster: %+v, %v", c, found)
	}
	if _, found := kube.InCluster(getenv, t.TempDir()); found {
		t.Error("found without a token")
	}
	delete(environment, "KUBERNETES_SERVICE_HOST")
	if _, found := kube.InCluster(getenv, s.Config().Dir); found {
		t.Error("found outside of a cluster")
	}
}
