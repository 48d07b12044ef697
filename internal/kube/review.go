package kube

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/certctl-io/certctl/internal/problem"
)

// CredentialsDir is where Kubernetes puts the credentials of a pod.
const CredentialsDir = "/var/run/secrets/kubernetes.io/serviceaccount"

const (
	reviewPath = "/apis/authentication.k8s.io/v1/tokenreviews"

	reviewTimeout = 10 * time.Second
	maxAnswer     = 256 << 10
	maxCredential = 64 << 10

	// maxReviews bounds the calls that are under way: anybody can ask to join,
	// and the API server is not theirs to keep busy.
	maxReviews = 4

	// MaxToken is more than any ServiceAccount token has.
	MaxToken = 16 << 10

	// Extra facts about the user that a token bound to a pod stands for.
	extraPod  = "authentication.kubernetes.io/pod-name"
	extraNode = "authentication.kubernetes.io/node-name"

	// maxReason bounds what the API server says.
	maxReason = 300
)

// Config says how to reach the API server of a cluster.
type Config struct {
	Host, Port string // KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT
	Dir        string // directory of the files token and ca.crt; they are read anew for each review, as they change
}

// InCluster gives the configuration of a pod, and reports false where this
// process is in none, or in one that has no credentials.
func InCluster(getenv func(string) string, dir string) (Config, bool) {
	c := Config{Host: getenv("KUBERNETES_SERVICE_HOST"), Port: getenv("KUBERNETES_SERVICE_PORT"), Dir: dir}
	_, err := os.Stat(filepath.Join(dir, "token"))
	return c, c.Host != "" && c.Port != "" && err == nil
}

// Reviewer has tokens reviewed.
type Reviewer struct {
	config   Config
	audience string
	slots    chan struct{}
}

// NewReviewer makes a Reviewer of tokens that are meant for an audience.
func NewReviewer(c Config, audience string) (*Reviewer, error) {
	if c.Host == "" || c.Port == "" || c.Dir == "" || audience == "" {
		return nil, errors.New("kube: a part of the configuration is missing")
	}
	return &Reviewer{config: c, audience: audience, slots: make(chan struct{}, maxReviews)}, nil
}

// The parts of a TokenReview that matter here.
type (
	tokenReview struct {
		APIVersion string       `json:"apiVersion"`
		Kind       string       `json:"kind"`
		Spec       reviewSpec   `json:"spec"`
		Status     reviewStatus `json:"status,omitzero"`
	}
	reviewSpec struct {
		Token     string   `json:"token"`
		Audiences []string `json:"audiences"`
	}
	reviewStatus struct {
		Authenticated bool     `json:"authenticated"`
		Audiences     []string `json:"audiences"`
		Error         string   `json:"error"`
		User          struct {
			Username string              `json:"username"`
			Extra    map[string][]string `json:"extra"`
		} `json:"user"`
	}
)

// Review asks whether a token is good, and gives the pod it is bound to. A
// token that is not good is an unauthenticated problem, an API server that
// cannot say a temporary one.
func (r *Reviewer) Review(ctx context.Context, token string) (Pod, error) {
	if _, _, ok := Claimed(token); !ok || len(token) > MaxToken {
		return Pod{}, problem.Unauthenticated("what was given as a Kubernetes token is not a ServiceAccount token").
			Hint("project one with the audience %s into the agent's pod", r.audience)
	}
	ctx, cancel := context.WithTimeout(ctx, reviewTimeout)
	defer cancel()
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	case <-ctx.Done():
		return Pod{}, problem.Temporary(errors.New("too many Kubernetes tokens wait for a review"), time.Second)
	}
	status, err := r.ask(ctx, token)
	if err != nil {
		return Pod{}, err
	}
	return r.judge(status)
}

// judge draws the conclusion from what the API server says.
func (r *Reviewer) judge(status reviewStatus) (Pod, error) {
	if !status.Authenticated {
		return Pod{}, problem.Unauthenticated("Kubernetes does not accept the ServiceAccount token: %s", told(status.Error)).
			Hint("project a token with the audience %s into the agent's pod, and have the agent read it anew", r.audience)
	}
	// An authenticator that knows no audiences would have let in a token that
	// was made for somebody else.
	if !slices.Contains(status.Audiences, r.audience) {
		return Pod{}, problem.Unauthenticated("Kubernetes does not say that the ServiceAccount token is meant for %s", r.audience).
			Hint("project a token with this audience into the agent's pod")
	}
	namespace, name, ok := account(status.User.Username)
	if !ok {
		return Pod{}, problem.Unauthenticated("the Kubernetes token is that of %q, which is no ServiceAccount", told(status.User.Username))
	}
	pod := Pod{Namespace: namespace, ServiceAccount: name, Name: only(status.User.Extra[extraPod]), Node: only(status.User.Extra[extraNode])}
	if pod.Name == "" {
		return Pod{}, problem.Unauthenticated("the token of the ServiceAccount %s/%s is not bound to a pod", namespace, name).
			Hint("use a projected token, which ends with its pod, and not one from a Secret")
	}
	return pod, nil
}

// only gives the one value of a fact.
func only(values []string) string {
	if len(values) != 1 {
		return ""
	}
	return values[0]
}

// ask makes the call.
func (r *Reviewer) ask(ctx context.Context, token string) (reviewStatus, error) {
	body, err := json.Marshal(tokenReview{
		APIVersion: "authentication.k8s.io/v1", Kind: "TokenReview", Spec: reviewSpec{Token: token, Audiences: []string{r.audience}},
	})
	if err != nil {
		return reviewStatus{}, fmt.Errorf("encode the TokenReview: %w", err)
	}
	url := "https://" + net.JoinHostPort(r.config.Host, r.config.Port) + reviewPath
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return reviewStatus{}, fmt.Errorf("make the TokenReview: %w", err)
	}
	own, err := r.credential("token")
	if err != nil {
		return reviewStatus{}, unasked(err)
	}
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(own)))
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json")
	client, err := r.client()
	if err != nil {
		return reviewStatus{}, unasked(err)
	}
	answer, err := client.Do(request)
	if err != nil {
		return reviewStatus{}, unasked(err)
	}
	defer func() { _ = answer.Body.Close() }()
	return read(answer)
}

// client makes a client for one call: agents join rarely, and the CA may be
// another one the next time.
func (r *Reviewer) client() (*http.Client, error) {
	ca, err := r.credential("ca.crt")
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("%s holds no certificate", filepath.Join(r.config.Dir, "ca.crt"))
	}
	return &http.Client{
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

func (r *Reviewer) credential(name string) ([]byte, error) {
	file, err := os.Open(filepath.Join(r.config.Dir, name))
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	return io.ReadAll(io.LimitReader(file, maxCredential))
}

// read takes the status out of the API server's answer.
func read(answer *http.Response) (reviewStatus, error) {
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return reviewStatus{}, unasked(err)
	}
	switch answer.StatusCode {
	case http.StatusOK, http.StatusCreated:
	case http.StatusUnauthorized, http.StatusForbidden:
		return reviewStatus{}, unasked(fmt.Errorf("the API server answered %q", answer.Status)).
			Hint("allow the server's ServiceAccount to create tokenreviews of authentication.k8s.io")
	default:
		return reviewStatus{}, unasked(fmt.Errorf("the API server answered %q", answer.Status))
	}
	var review tokenReview
	if err := json.Unmarshal(text, &review); err != nil || review.Kind != "TokenReview" {
		return reviewStatus{}, unasked(errors.New("the API server's answer is no TokenReview"))
	}
	return review.Status, nil
}

// unasked says that it is not known whether a token is good. Who shows one is
// not told how the API server is reached.
func unasked(cause error) *problem.Error {
	p := problem.Temporary(cause, 0)
	p.Message = "the server cannot have the Kubernetes token reviewed now"
	return p.Hint("the server's log says why")
}

// told makes what the API server says fit for a message.
func told(reason string) string {
	reason = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(reason, ""))
	if short := []rune(reason); len(short) > maxReason {
		return string(short[:maxReason]) + "..."
	}
	if reason == "" {
		return "it gives no reason"
	}
	return reason
}
