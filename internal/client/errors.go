package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/certctl-io/certctl/internal/netx"
	"github.com/certctl-io/certctl/internal/problem"
)

// Error is a call that failed. problem.As and problem.KindOf see the problem
// in it.
type Error struct {
	Problem   *problem.Error
	Status    int    // of the HTTP response; 0 when there was none
	RequestID string // what the server's log calls the request; may be empty
}

// Error gives the sentences of the problem.
func (e *Error) Error() string { return e.Problem.Error() }

// Unwrap gives the problem.
func (e *Error) Unwrap() error { return e.Problem }

// problemBody is application/problem+json (RFC 9457) as the server writes it.
type problemBody struct {
	Title     string `json:"title"`
	Detail    string `json:"detail"`
	Code      string `json:"code"`
	Field     string `json:"field"`
	Remedy    string `json:"remedy"`
	RequestID string `json:"request_id"`
	Errors    []struct {
		Field   string `json:"field"`
		Message string `json:"message"`
		Remedy  string `json:"remedy"`
	} `json:"errors"`
}

// kinds are the codes of problem+json that a response may carry.
var kinds = map[problem.Kind]bool{
	problem.KindInvalid: true, problem.KindNotFound: true, problem.KindConflict: true,
	problem.KindStale: true, problem.KindForbidden: true, problem.KindUnauthenticated: true,
	problem.KindTooLarge: true, problem.KindTemporary: true, problem.KindInternal: true,
}

// responseError reads the error of a response that is not a success. A body
// that is not problem+json comes from something between us and the server.
func responseError(resp *http.Response, body []byte) *Error {
	e := &Error{Status: resp.StatusCode, RequestID: resp.Header.Get("X-Request-Id")}
	p := &problem.Error{Kind: kindOfStatus(resp.StatusCode), After: retryAfter(resp.Header, time.Now())}
	e.Problem = p
	mediaType, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	var b problemBody
	if mediaType != "application/problem+json" || json.Unmarshal(body, &b) != nil {
		p.Message, p.Remedy = foreignAnswer(resp)
		return e
	}
	if b.RequestID != "" {
		e.RequestID = b.RequestID
	}
	if kind := problem.Kind(b.Code); kinds[kind] {
		p.Kind = kind
	}
	p.Field, p.Message, p.Remedy = b.Field, b.Detail, b.Remedy
	if p.Message == "" {
		p.Message = b.Title
	}
	for i, f := range b.Errors {
		one := &problem.Error{Kind: p.Kind, Field: f.Field, Message: f.Message, Remedy: f.Remedy}
		if i == 0 {
			p.Field, p.Message, p.Remedy = one.Field, one.Message, one.Remedy
			continue
		}
		p.More = append(p.More, one)
	}
	return e
}

func foreignAnswer(resp *http.Response) (message, remedy string) {
	if resp.StatusCode >= 300 && resp.StatusCode < 400 {
		return "the address redirects to " + resp.Header.Get("Location"), "use the URL of the certctl server itself"
	}
	message = fmt.Sprintf("the answer was %q and did not come from certctl's API", resp.Status)
	return message, "check the URL and what stands between here and the server"
}

func kindOfStatus(status int) problem.Kind {
	switch status {
	case http.StatusNotFound, http.StatusGone:
		return problem.KindNotFound
	case http.StatusConflict:
		return problem.KindConflict
	case http.StatusPreconditionFailed, http.StatusPreconditionRequired:
		return problem.KindStale
	case http.StatusForbidden:
		return problem.KindForbidden
	case http.StatusUnauthorized:
		return problem.KindUnauthenticated
	case http.StatusRequestEntityTooLarge:
		return problem.KindTooLarge
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return problem.KindTemporary
	case http.StatusInternalServerError:
		return problem.KindInternal
	default:
		return problem.KindInvalid
	}
}

// retryAfter reads Retry-After (RFC 9110, 10.2.3): seconds or a date.
func retryAfter(h http.Header, now time.Time) time.Duration {
	value := h.Get("Retry-After")
	if seconds, err := strconv.Atoi(value); err == nil && seconds > 0 {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil && at.After(now) {
		return at.Sub(now)
	}
	return 0
}

// transportError says what kept an answer from arriving. Only what another
// attempt may mend is temporary.
func (c *Client) transportError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	p := c.trustProblem(err)
	if p == nil {
		p = c.reachProblem(err)
	}
	p.Cause = err
	return &Error{Problem: p}
}

// trustProblem is set when the server did not prove who it is.
func (c *Client) trustProblem(err error) *problem.Error {
	var (
		pin       *netx.PinError
		unknownCA x509.UnknownAuthorityError
		hostname  x509.HostnameError
		invalid   x509.CertificateInvalidError
	)
	host := c.base.Host
	switch {
	case errors.As(err, &pin):
		return problem.Unauthenticated("the CA of %s has the SHA-256 fingerprint %s, but %s is pinned", host, pin.Got, pin.Want).
			Hint("pin the new one if the server's CA was replaced on purpose; otherwise somebody else is answering")
	case errors.As(err, &unknownCA):
		return problem.Unauthenticated("the certificate of %s comes from a CA that is not trusted here", host).
			Hint("pin the server's CA by its SHA-256 fingerprint, which the server prints when it starts, or give the CA's file")
	case errors.As(err, &hostname):
		return problem.Unauthenticated("the certificate of %s is not for that name: %v", host, hostname).
			Hint("use a name that the server's certificate has, or add this one to the setting tls_hostnames")
	case errors.As(err, &invalid):
		return problem.Unauthenticated("the certificate of %s is not valid: %v", host, invalid)
	default:
		return nil
	}
}

func (c *Client) reachProblem(err error) *problem.Error {
	var (
		record  tls.RecordHeaderError
		dns     *net.DNSError
		op      *net.OpError
		timeout net.Error
	)
	host := c.base.Host
	p := problem.Temporary(err, 0).Hint("check the URL, and that the server runs")
	switch {
	case errors.Is(err, http.ErrSchemeMismatch),
		errors.As(err, &record) && bytes.HasPrefix(record.RecordHeader[:], []byte("HTTP")):
		return problem.Invalid("url", "%s speaks plain HTTP", host).Hint("use the HTTPS address of the server")
	case errors.As(err, &dns) && dns.IsNotFound:
		return problem.Invalid("url", "the host %q does not exist", dns.Name).Hint("check the URL of the server")
	case errors.As(err, &timeout) && timeout.Timeout():
		p.Message = fmt.Sprintf("%s did not answer within %v", host, c.timeout)
	case errors.As(err, &op) && op.Op == "dial":
		p.Message = fmt.Sprintf("%s cannot be reached: %v", host, rootCause(op))
	default:
		p.Message = fmt.Sprintf("the connection to %s broke: %v", host, rootCause(err))
	}
	return p
}

// rootCause is the innermost error: "connection refused" without the layers
// that repeat the address.
func rootCause(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}
