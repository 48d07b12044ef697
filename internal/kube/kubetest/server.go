// Package kubetest is an API server of Kubernetes for tests. It answers the one
// call that package kube makes, and holds the call against the published format.
package kubetest

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/certctl-io/certctl/internal/kube"
)

// Server is an API server that knows some ServiceAccount tokens.
type Server struct {
	t      testing.TB
	http   *httptest.Server
	dir    string
	config kube.Config

	audience string

	mu      sync.Mutex
	own     string // token that the asking process must have
	issued  map[string]issued
	reviews int
	instead http.HandlerFunc
}

type issued struct {
	pod      kube.Pod
	audience string
	bound    bool
}

// New starts a server whose callers review tokens for an audience.
func New(t testing.TB, audience string) *Server {
	t.Helper()
	s := &Server{t: t, audience: audience, dir: t.TempDir(), issued: map[string]issued{}}
	s.http = httptest.NewTLSServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.http.Close)
	address, err := url.Parse(s.http.URL)
	if err != nil {
		t.Fatal(err)
	}
	s.config = kube.Config{Host: address.Hostname(), Port: address.Port(), Dir: s.dir}
	s.write("ca.crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.http.Certificate().Raw}))
	s.Rotate()
	return s
}

// Config is how the server is reached.
func (s *Server) Config() kube.Config { return s.config }

// Reviewer asks the server.
func (s *Server) Reviewer() *kube.Reviewer {
	s.t.Helper()
	r, err := kube.NewReviewer(s.config, s.audience)
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

// Rotate replaces the token of the asking process; the one before is refused.
func (s *Server) Rotate() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.own = rand.Text()
	s.write("token", []byte(s.own+"\n"))
}

func (s *Server) write(name string, text []byte) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), text, 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// Token projects a token into a pod, for the audience of the reviews.
func (s *Server) Token(pod kube.Pod) string {
	return s.issue(issued{pod: pod, audience: s.audience, bound: true})
}

// TokenFor projects one for another audience.
func (s *Server) TokenFor(pod kube.Pod, audience string) string {
	return s.issue(issued{pod: pod, audience: audience, bound: true})
}

// Unbound makes a token that is bound to no pod.
func (s *Server) Unbound(pod kube.Pod) string {
	return s.issue(issued{pod: pod, audience: s.audience})
}

func (s *Server) issue(i issued) string {
	token := Forged(i.pod)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.issued[token] = i
	return token
}

// Forged is a token that says the same as a real one and that nobody issued.
func Forged(pod kube.Pod) string {
	part := func(v any) string {
		text, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		return base64.RawURLEncoding.EncodeToString(text)
	}
	return part(map[string]string{"alg": "RS256", "kid": "1"}) + "." +
		part(map[string]any{"sub": user(pod), "jti": rand.Text()}) + "." + base64.RawURLEncoding.EncodeToString([]byte(rand.Text()))
}

func user(pod kube.Pod) string {
	return "system:serviceaccount:" + pod.Namespace + ":" + pod.ServiceAccount
}

// Ended forgets the tokens of a pod that is gone.
func (s *Server) Ended(pod kube.Pod) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.issued, func(_ string, i issued) bool { return i.pod == pod })
}

// Instead has calls answered by another handler; nil for the usual one.
func (s *Server) Instead(handler http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.instead = handler
}

// Reviews counts the calls so far.
func (s *Server) Reviews() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reviews
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.reviews++
	own, instead := s.own, s.instead
	s.mu.Unlock()
	if instead != nil {
		instead(w, r)
		return
	}
	if r.Method != http.MethodPost || r.URL.Path != "/apis/authentication.k8s.io/v1/tokenreviews" || r.Header.Get("Content-Type") != "application/json" {
		s.t.Errorf("the API server got %s %s of %q", r.Method, r.URL.Path, r.Header.Get("Content-Type"))
	}
	if r.Header.Get("Authorization") != "Bearer "+own {
		http.Error(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Unauthorized","code":401}`, http.StatusUnauthorized)
		return
	}
	// The request as it is published, and nothing else.
	var review struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Spec       struct {
			Token     string   `json:"token"`
			Audiences []string `json:"audiences"`
		} `json:"spec"`
	}
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&review); err != nil || review.APIVersion != "authentication.k8s.io/v1" || review.Kind != "TokenReview" {
		s.t.Errorf("the API server got a %s of %s: %v", review.Kind, review.APIVersion, err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	err := json.NewEncoder(w).Encode(map[string]any{
		"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "metadata": map[string]any{"creationTimestamp": nil},
		"spec": review.Spec, "status": s.status(review.Spec.Token, review.Spec.Audiences),
	})
	if err != nil {
		s.t.Logf("answer: %v", err)
	}
}

// status is what Kubernetes says of a token.
func (s *Server) status(token string, audiences []string) map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, known := s.issued[token]
	switch {
	case !known:
		return map[string]any{"user": map[string]any{}, "error": "[invalid bearer token, service account token has been invalidated]"}
	case !slices.Contains(audiences, i.audience):
		reason := fmt.Sprintf("[invalid bearer token, token audiences [%q] is invalid for the target audiences %q]", i.audience, audiences)
		return map[string]any{"user": map[string]any{}, "error": reason}
	}
	extra := map[string][]string{"authentication.kubernetes.io/credential-id": {"JTI=" + rand.Text()}}
	if i.bound {
		extra["authentication.kubernetes.io/pod-name"] = []string{i.pod.Name}
		extra["authentication.kubernetes.io/pod-uid"] = []string{rand.Text()}
		if i.pod.Node != "" {
			extra["authentication.kubernetes.io/node-name"] = []string{i.pod.Node}
		}
	}
	return map[string]any{
		"authenticated": true, "audiences": []string{i.audience},
		"user": map[string]any{
			"username": user(i.pod), "uid": rand.Text(), "extra": extra,
			"groups": []string{"system:serviceaccounts", "system:serviceaccounts:" + i.pod.Namespace, "system:authenticated"},
		},
	}
}
