package kubernetes

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
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/certctl-io/certctl/internal/problem"
)

const (
	fieldManager = "certctl"

	callTimeout = 15 * time.Second
	// watchTime is how long the API server is asked to go on with a watch. A
	// connection that is dead is noticed by pings before that.
	watchTime   = 10 * time.Minute
	watchGrace  = time.Minute
	pingAfter   = 20 * time.Second
	pingTimeout = 10 * time.Second

	// maxAnswerBytes is above the largest object that Kubernetes stores.
	maxAnswerBytes = 8 << 20

	accountDir = "/var/run/secrets/kubernetes.io/serviceaccount/"
)

// Config says how the API server is reached. What is left out is as Kubernetes
// tells the containers of a pod.
type Config struct {
	Server    string // URL; "" for KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT
	TokenFile string // read anew for each request, as the kubelet replaces it
	CAFile    string // certificates to trust, in PEM
}

// complete fills in what is left out.
func (c Config) complete() (Config, error) {
	if c.Server == "" {
		host, port := os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT")
		if host == "" || port == "" {
			return c, problem.Conflict("this agent does not run in a Kubernetes cluster: KUBERNETES_SERVICE_HOST is not set").
				Hint("give the target an agent that runs in a pod of the cluster")
		}
		c.Server = "https://" + net.JoinHostPort(host, port)
	}
	if c.TokenFile == "" {
		c.TokenFile = accountDir + "token"
	}
	if c.CAFile == "" {
		c.CAFile = accountDir + "ca.crt"
	}
	return c, nil
}

// client speaks to an API server about single Secrets.
type client struct {
	server    string
	tokenFile string
	http      *http.Client
}

func newClient(config Config) (*client, error) {
	config, err := config.complete()
	if err != nil {
		return nil, err
	}
	roots, err := os.ReadFile(config.CAFile)
	if err != nil {
		return nil, accountProblem(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(roots) {
		return nil, problem.Conflict("%s holds no certificates in PEM", config.CAFile).Hint("see the service account of the agent's pod")
	}
	return &client{
		server: strings.TrimSuffix(config.Server, "/"), tokenFile: config.TokenFile,
		http: &http.Client{Transport: &http.Transport{
			TLSClientConfig:       &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:   callTimeout,
			ResponseHeaderTimeout: callTimeout,
			ForceAttemptHTTP2:     true,
			HTTP2:                 &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
		}},
	}, nil
}

func accountProblem(err error) error {
	return problem.Conflict("the agent's service account cannot be used: %v", err).Hint("set automountServiceAccountToken: true for the agent's pod")
}

// object is a Secret, as far as it matters here.
type object struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Namespace       string            `json:"namespace"`
		Name            string            `json:"name"`
		UID             string            `json:"uid,omitempty"`
		ResourceVersion string            `json:"resourceVersion,omitempty"`
		Labels          map[string]string `json:"labels,omitempty"`
		Annotations     map[string]string `json:"annotations,omitempty"`
		ManagedFields   []managedFields   `json:"managedFields,omitempty"`
	} `json:"metadata"`
	Type string            `json:"type"`
	Data map[string][]byte `json:"data"`
}

type managedFields struct {
	Manager     string          `json:"manager"`
	Operation   string          `json:"operation"`
	Subresource string          `json:"subresource,omitempty"`
	FieldsV1    json.RawMessage `json:"fieldsV1"`
}

func (o *object) place() place { return place{o.Metadata.Namespace, o.Metadata.Name} }

func (c *client) get(ctx context.Context, at place) (*object, error) {
	var found object
	return &found, c.call(ctx, http.MethodGet, at, nil, "", nil, &found)
}

// apply is a server-side apply. With force, fields that others have changed are
// taken back; without it, that is a conflict.
func (c *client) apply(ctx context.Context, at place, o object, force bool) error {
	query := url.Values{"fieldManager": {fieldManager}, "force": {strconv.FormatBool(force)}, "fieldValidation": {"Strict"}}
	// JSON is YAML, and the only content type for it that all versions know.
	return c.call(ctx, http.MethodPatch, at, query, "application/apply-patch+yaml", o, nil)
}

// remove deletes exactly the Secret that was seen.
func (c *client) remove(ctx context.Context, at place, uid, resourceVersion string) error {
	options := map[string]any{
		"apiVersion": "v1", "kind": "DeleteOptions",
		"preconditions": map[string]string{"uid": uid, "resourceVersion": resourceVersion},
	}
	return c.call(ctx, http.MethodDelete, at, nil, "application/json", options, nil)
}

// watch calls changed when the watch stands, and for each event. No resource
// version is named, so events begin with the present state and none is missed.
func (c *client) watch(ctx context.Context, at place, changed func() error) error {
	ctx, cancel := context.WithTimeout(ctx, watchTime+watchGrace)
	defer cancel()
	query := url.Values{
		"watch": {"true"}, "fieldSelector": {"metadata.name=" + at.name}, "timeoutSeconds": {strconv.Itoa(int(watchTime.Seconds()))},
	}
	response, err := c.do(ctx, http.MethodGet, place{namespace: at.namespace}, query, "", nil)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if err := changed(); err != nil {
		return err
	}
	for events := json.NewDecoder(response.Body); ; {
		var event struct {
			Type   string `json:"type"`
			Object status `json:"object"`
		}
		switch err := events.Decode(&event); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return problem.Temporary(fmt.Errorf("the watch of the Secret %s was cut off: %w", at, err), 0)
		case event.Type == "ERROR":
			return event.Object.err(nil)
		}
		if err := changed(); err != nil {
			return err
		}
	}
}

// call makes one request and reads the answer.
func (c *client) call(ctx context.Context, method string, at place, query url.Values, contentType string, body, into any) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	response, err := c.do(ctx, method, at, query, contentType, body)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxAnswerBytes))
	if err != nil {
		return unreachable(err)
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(answer, into); err != nil {
		return problem.Temporary(fmt.Errorf("read the answer of the API server: %w", err), 0)
	}
	return nil
}

// do sends a request; an answer that refuses it is a statusError.
func (c *client) do(ctx context.Context, method string, at place, query url.Values, contentType string, body any) (*http.Response, error) {
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		content = bytes.NewReader(text)
	}
	address := c.server + "/api/v1/namespaces/" + url.PathEscape(at.namespace) + "/secrets"
	if at.name != "" {
		address += "/" + url.PathEscape(at.name)
	}
	request, err := http.NewRequestWithContext(ctx, method, address+"?"+query.Encode(), content)
	if err != nil {
		return nil, err
	}
	token, err := os.ReadFile(c.tokenFile)
	if err != nil {
		return nil, accountProblem(err)
	}
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	request.Header.Set("Accept", "application/json")
	request.Header.Set("User-Agent", "certctl-agent")
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, unreachable(err)
	}
	if response.StatusCode/100 == 2 {
		return response, nil
	}
	defer func() { _ = response.Body.Close() }()
	refusal := status{Code: response.StatusCode}
	if text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswerBytes)); err == nil && json.Unmarshal(text, &refusal) != nil {
		refusal.Message = http.StatusText(response.StatusCode)
	}
	return nil, refusal.err(response.Header)
}

func unreachable(err error) error {
	return problem.Temporary(fmt.Errorf("the API server of the cluster cannot be reached: %w", err), 0)
}
