package agent

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/certctl-io/certctl/internal/agentapi"
	"github.com/certctl-io/certctl/internal/netx"
	"github.com/certctl-io/certctl/internal/problem"
)

const (
	callTimeout = 30 * time.Second // of a call that does not wait for work
	keptTimeout = 3 * time.Second  // of a question that something waits for which is to be right within seconds
	dialTimeout = 10 * time.Second

	// A connection that is silent this long is asked for a sign of life, so
	// that a poll does not wait on one that a firewall has forgotten.
	pingAfter = 15 * time.Second

	maxAnswer = 16 << 20
)

// client speaks to one server, as the agent with an identity or as nobody yet.
type client struct {
	base     *url.URL
	http     *http.Client
	identity Identity
	agent    string // User-Agent
	now      func() time.Time
}

// newClient makes a client. Without a transport it makes connections of its
// own that trust the server as the identity says.
func newClient(i Identity, version string, now func() time.Time, transport http.RoundTripper) (*client, error) {
	base, err := parseServer(i.Server)
	if err != nil {
		return nil, err
	}
	if transport == nil {
		if transport, err = newTransport(i, base.Hostname()); err != nil {
			return nil, err
		}
	}
	// An API does not redirect; following one would hide a wrong URL.
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &client{
		base: base, identity: i, agent: "certctl-agent/" + version, now: now,
		http: &http.Client{Transport: transport, CheckRedirect: stay},
	}, nil
}

// parseServer reads the URL of a server as a person writes it.
func parseServer(raw string) (*url.URL, error) {
	const example = "it looks like https://certctl.example.com:8443"
	if raw == "" {
		return nil, problem.Invalid("server", "there is no server URL").Hint(example)
	}
	if !strings.Contains(raw, "://") {
		raw = "https://" + raw
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil, u.Host == "":
		return nil, problem.Invalid("server", "%q is not a URL", raw).Hint(example)
	case u.Scheme != "https":
		return nil, problem.Invalid("server", "%q does not start with https", raw).Hint("agents speak over TLS only")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, problem.Invalid("server", "the URL holds more than host, port and path").Hint(example)
	}
	u.Path = strings.TrimRight(u.Path, "/")
	return u, nil
}

func newTransport(i Identity, host string) (*http.Transport, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	switch {
	case i.CASHA256 != "":
		config = netx.PinnedTLSConfig(i.CASHA256, host)
	case i.CAs != "":
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM([]byte(i.CAs)) {
			return nil, problem.Invalid("ca_file", "it holds no certificate in PEM")
		}
	}
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSClientConfig:       config,
		TLSHandshakeTimeout:   dialTimeout,
		ForceAttemptHTTP2:     true,
		HTTP2:                 &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingAfter},
		IdleConnTimeout:       2 * time.Minute,
		ExpectContinueTimeout: time.Second,
	}, nil
}

// enroll asks the server to let the agent in.
func (c *client) enroll(ctx context.Context, r agentapi.EnrollRequest) (agentapi.EnrollResponse, error) {
	var out agentapi.EnrollResponse
	err := c.post(ctx, agentapi.PathEnroll, callTimeout, r, &out)
	return out, err
}

// poll waits for work.
func (c *client) poll(ctx context.Context, r agentapi.PollRequest) (agentapi.PollResponse, error) {
	var out agentapi.PollResponse
	err := c.post(ctx, agentapi.PathPoll, time.Duration(r.WaitSeconds)*time.Second+callTimeout, r, &out)
	return out, err
}

// submit hands in the result of a task.
func (c *client) submit(ctx context.Context, r result) error {
	return c.post(ctx, r.Path, callTimeout, r.Body, nil)
}

// kept asks whether a target is still to stay as it was deployed.
func (c *client) kept(ctx context.Context, targetID string) (bool, error) {
	err := c.post(ctx, agentapi.WithID(agentapi.PathTargetKept, targetID), keptTimeout, struct{}{}, nil)
	if refused(err) == problem.KindNotFound {
		return false, nil
	}
	return true, err
}

// health asks whether the server answers at all.
func (c *client) health(ctx context.Context) error {
	within, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(within, http.MethodGet, c.base.String()+"/health", http.NoBody)
	if err != nil {
		return fmt.Errorf("make the request: %w", err)
	}
	req.Header.Set("User-Agent", c.agent)
	return c.do(req, nil)
}

// post makes one call, with a token of its own once the agent has joined.
func (c *client) post(ctx context.Context, path string, timeout time.Duration, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("encode the request: %w", err)
	}
	within, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(within, http.MethodPost, c.base.String()+agentapi.BasePath+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("make the request: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, application/problem+json")
	req.Header.Set("User-Agent", c.agent)
	if c.identity.Enrolled() {
		token, err := agentapi.SignToken(c.identity.key, c.identity.AgentID, c.identity.ServerID, c.now())
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return c.do(req, out)
}

// do sends a request and reads the answer into out, unless that is nil.
func (c *client) do(req *http.Request, out any) error {
	resp, err := c.http.Do(req)
	if err != nil {
		return c.unreachable(err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return c.unreachable(err)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return c.refusal(resp, answer)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return problem.Temporary(fmt.Errorf("the answer of %s is not certctl's: %w", c.base.Host, err), 0)
	}
	return nil
}

// refusalError is an error that the certctl server itself answered with, as
// opposed to a proxy in between or the lack of an answer.
type refusalError struct{ Problem *problem.Error }

// Error implements error.
func (e *refusalError) Error() string { return e.Problem.Error() }

// Unwrap gives the problem.
func (e *refusalError) Unwrap() error { return e.Problem }

// refused reports the kind of problem that the server answered with, and
// nothing for an error that did not come from the server.
func refused(err error) problem.Kind {
	var r *refusalError
	if errors.As(err, &r) {
		return r.Problem.Kind
	}
	return ""
}

// refusal reads an answer that is not a success. Only certctl answers with
// problem+json (RFC 9457); anything else comes from something in between and
// can pass.
func (c *client) refusal(resp *http.Response, answer []byte) error {
	after := time.Duration(0)
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && seconds > 0 {
		after = time.Duration(seconds) * time.Second
	}
	var body struct {
		Code   string `json:"code"`
		Title  string `json:"title"`
		Detail string `json:"detail"`
		Field  string `json:"field"`
		Remedy string `json:"remedy"`
		Errors []struct {
			Field   string `json:"field"`
			Message string `json:"message"`
			Remedy  string `json:"remedy"`
		} `json:"errors"`
	}
	mediaType, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if mediaType != "application/problem+json" || json.Unmarshal(answer, &body) != nil || body.Code == "" {
		return problem.Temporary(fmt.Errorf("%s answered %q, which did not come from certctl", c.base.Host, resp.Status), after)
	}
	p := &problem.Error{Kind: problem.Kind(body.Code), Field: body.Field, Message: body.Detail, Remedy: body.Remedy, After: after}
	if p.Message == "" {
		p.Message = body.Title
	}
	for _, e := range body.Errors {
		p.More = append(p.More, &problem.Error{Kind: p.Kind, Field: e.Field, Message: e.Message, Remedy: e.Remedy})
	}
	if p.Kind == problem.KindUnauthenticated {
		c.compareClocks(resp, p)
	}
	return &refusalError{p}
}

// compareClocks adds to a refused token that this host's clock is wrong, when
// the server's tells another time: the commonest cause.
func (c *client) compareClocks(resp *http.Response, p *problem.Error) {
	theirs, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return
	}
	ahead := c.now().Sub(theirs).Round(time.Second)
	switch {
	case ahead > agentapi.ClockSkew:
		p.Remedy = fmt.Sprintf("this host's clock is %s ahead of the server's; synchronise it", ahead)
	case ahead < -agentapi.ClockSkew:
		p.Remedy = fmt.Sprintf("this host's clock is %s behind the server's; synchronise it", -ahead)
	}
}

// unreachable says why no answer came. All of it can pass.
func (c *client) unreachable(err error) error {
	var (
		unknownCA x509.UnknownAuthorityError
		pin       *netx.PinError
		timeout   net.Error
	)
	p := problem.Temporary(err, 0)
	switch {
	case errors.As(err, &pin):
		p.Message = fmt.Sprintf("the server at %s shows a CA with the SHA-256 fingerprint %s, and another one is pinned", c.base.Host, pin.Got)
		p.Remedy = "if the server's CA was replaced on purpose, enrol again with its fingerprint; otherwise somebody else is answering"
	case errors.As(err, &unknownCA):
		p.Message = fmt.Sprintf("the certificate of the server at %s comes from a CA that is not trusted here", c.base.Host)
		p.Remedy = "enrol with --ca-sha256, the fingerprint that the server prints when it starts, or with --ca-file"
	case errors.As(err, &timeout) && timeout.Timeout():
		p.Message = fmt.Sprintf("the server at %s did not answer in time", c.base.Host)
	default:
		p.Message = fmt.Sprintf("the server at %s cannot be reached: %v", c.base.Host, rootCause(err))
	}
	return p
}

// rootCause is the innermost error: "connection refused" without the layers
// that repeat the address.
func rootCause(err error) error {
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
		err = inner
	}
	return err
}
