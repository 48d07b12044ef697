// Package client is the Go client of certctl's API. The command line, the
// agent's tests and other programs use it; it knows the API's words and nothing
// about how they are shown.
//
// Each resource has one file with its type and its calls. A call returns
// *Error, whose kind says what the caller can do about it; a call that may
// succeed later has been tried again before, which is safe because every
// creating call carries an Idempotency-Key.
//
//	c, err := client.New(client.Options{URL: "https://certctl.example.com:8443", APIKey: key, CASHA256: pin})
//	for certificate, err := range c.Certificates(ctx, client.CertificateFilter{Status: "failing"}) {
//		...
//	}
package client

import (
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/certctl-io/certctl/internal/netx"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/secret"
)

// Options says which server to talk to and as whom.
type Options struct {
	URL       string            // such as https://certctl.example.com:8443
	APIKey    secret.String     // empty for the public operations
	CASHA256  string            // SHA-256 fingerprint of the server's CA; empty to trust the system's CAs
	CAFile    string            // PEM file with the CAs to trust instead of the system's; see netx.ReadCAFile
	Timeout   time.Duration     // of one attempt; 0 for 30 s
	UserAgent string            // empty for "certctl-client"
	Transport http.RoundTripper // nil for a real connection with the TLS settings above
}

// Client talks to one server. It is safe for concurrent use.
type Client struct {
	base      *url.URL
	key       secret.String
	userAgent string
	timeout   time.Duration
	pin       string // fingerprint of the server's CA, when it is pinned
	ownCAs    bool   // whether CAs of a file are trusted, not the system's
	http      *http.Client
}

const defaultTimeout = 30 * time.Second

// New checks the options and returns a client. It does not connect.
func New(o Options) (*Client, error) {
	base, err := parseURL(o.URL)
	if err != nil {
		return nil, err
	}
	transport := o.Transport
	if transport == nil {
		config, err := tlsConfig(o, base.Hostname())
		if err != nil {
			return nil, err
		}
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.TLSClientConfig = config
		transport = t
	}
	c := &Client{base: base, key: o.APIKey, userAgent: o.UserAgent, timeout: o.Timeout, ownCAs: o.CAFile != ""}
	if o.CASHA256 != "" {
		if c.pin, err = netx.ParseFingerprint(o.CASHA256); err != nil {
			return nil, err
		}
	}
	if c.timeout == 0 {
		c.timeout = defaultTimeout
	}
	if c.userAgent == "" {
		c.userAgent = "certctl-client"
	}
	// An API does not redirect; following one would hide a wrong URL.
	c.http = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
	return c, nil
}

// URL is the address of the server, without the path of the API.
func (c *Client) URL() string { return c.base.String() }

// parseURL accepts what a person types for a server: the scheme may be left
// out, a trailing slash does not matter.
func parseURL(raw string) (*url.URL, error) {
	if raw == "" {
		return nil, problem.Invalid("url", "there is no server URL").Hint("it looks like https://certctl.example.com:8443")
	}
	if !strings.Contains(raw, "://") {
		raw = "https://" + raw
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil, u.Host == "":
		return nil, problem.Invalid("url", "%q is not a URL", raw).Hint("it looks like https://certctl.example.com:8443")
	case u.Scheme != "https":
		return nil, problem.Invalid("url", "%q does not start with https", raw).Hint("the API is served over TLS only")
	case u.User != nil:
		return nil, problem.Invalid("url", "the URL holds a user name").Hint("give the API key by itself")
	case u.RawQuery != "" || u.Fragment != "":
		return nil, problem.Invalid("url", "%q holds more than host, port and path", raw)
	}
	u.Path = strings.TrimRight(u.Path, "/")
	return u, nil
}
