package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	mathrand "math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/certctl-io/certctl/internal/problem"
)

const (
	apiPath = "/api/v1"

	attempts     = 4
	firstBackOff = 200 * time.Millisecond
	// A server that asks for a longer pause than this is answered to the
	// caller, who knows better whether it is worth the wait.
	maxPause = 30 * time.Second

	maxBody     = 64 << 20
	maxPageSize = 500
)

// Patch holds the fields to change, by their JSON names. A field that is left
// out keeps its value.
type Patch map[string]any

// Get reads one object. With json.RawMessage for T it comes as the server
// wrote it. The path is relative to the API, its parts escaped by Path.
func Get[T any](ctx context.Context, c *Client, path string, query url.Values) (T, error) {
	var out T
	err := c.do(ctx, request{method: http.MethodGet, path: path, query: query}, &out)
	return out, err
}

// List reads the objects of a list, page by page as they are consumed. It ends
// after the first error. A "limit" in the query is the size of a page.
func List[T any](ctx context.Context, c *Client, path string, query url.Values) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		query := cloneQuery(query)
		if !query.Has("limit") {
			query.Set("limit", strconv.Itoa(maxPageSize))
		}
		for {
			page, err := Get[struct {
				Items      []T    `json:"items"`
				NextCursor string `json:"next_cursor"`
			}](ctx, c, path, query)
			if err != nil {
				var zero T
				yield(zero, err)
				return
			}
			for _, item := range page.Items {
				if !yield(item, nil) {
					return
				}
			}
			if page.NextCursor == "" {
				return
			}
			query.Set("cursor", page.NextCursor)
		}
	}
}

// Path joins the parts of a path and escapes each, so that a name with a slash
// or a question mark stays one part.
func Path(parts ...string) string {
	var b bytes.Buffer
	for _, part := range parts {
		b.WriteString("/" + url.PathEscape(part))
	}
	return b.String()
}

// Create posts a body and reads the answer. The server does the work once,
// however often the call had to be tried.
func Create[T any](ctx context.Context, c *Client, path string, body any) (T, error) {
	var out T
	err := c.do(ctx, request{method: http.MethodPost, path: path, body: body}, &out)
	return out, err
}

// Update changes an object that must still have the revision; 0 changes it
// whatever its revision is.
func Update[T any](ctx context.Context, c *Client, path string, revision int, patch Patch) (T, error) {
	var out T
	r := request{method: http.MethodPatch, path: path, body: patch, header: http.Header{}}
	if revision > 0 {
		r.header.Set("If-Match", strconv.Quote(strconv.Itoa(revision)))
	}
	err := c.do(ctx, r, &out)
	return out, err
}

func remove(ctx context.Context, c *Client, path string) error {
	return c.do(ctx, request{method: http.MethodDelete, path: path}, nil)
}

type request struct {
	method, path string
	root         bool // the path is not one of the API
	query        url.Values
	header       http.Header
	body         any
}

// do sends a request until it is answered for good, at most a few times.
func (c *Client) do(ctx context.Context, r request, out any) error {
	var body []byte
	if r.body != nil {
		var err error
		if body, err = json.Marshal(r.body); err != nil {
			return fmt.Errorf("encode the request: %w", err)
		}
	}
	if r.header == nil {
		r.header = http.Header{}
	}
	if r.method == http.MethodPost {
		// The same key on each attempt: the server does the work once.
		r.header.Set("Idempotency-Key", rand.Text())
	}
	for attempt := 1; ; attempt++ {
		err := c.attempt(ctx, r, body, out)
		pause, again := pauseAfter(err, attempt)
		if !again {
			return err
		}
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < pause {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// pauseAfter says whether another attempt makes sense and when: as the server
// asks, else after a back-off with jitter.
func pauseAfter(err error, attempt int) (pause time.Duration, again bool) {
	if problem.KindOf(err) != problem.KindTemporary || attempt == attempts {
		return 0, false
	}
	p, _ := problem.As(err)
	if p.After > 0 {
		return p.After, p.After <= maxPause
	}
	backOff := firstBackOff << (attempt - 1)
	return backOff/2 + mathrand.N(backOff/2), true
}

func (c *Client) attempt(ctx context.Context, r request, body []byte, out any) error {
	within, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	req, err := c.newRequest(within, r, body)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return c.transportError(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return c.transportError(ctx, err)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return responseError(resp, answer)
	}
	if out == nil || resp.StatusCode == http.StatusNoContent {
		return nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		p := problem.Internal(err)
		p.Message, p.Remedy = foreignAnswer(resp)
		return &Error{Problem: p, Status: resp.StatusCode, RequestID: resp.Header.Get("X-Request-Id")}
	}
	return nil
}

func (c *Client) newRequest(ctx context.Context, r request, body []byte) (*http.Request, error) {
	target := c.base.String() + apiPath + r.path
	if r.root {
		target = c.base.String() + r.path
	}
	if len(r.query) > 0 {
		target += "?" + r.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	for name, values := range r.header {
		req.Header[name] = values
	}
	req.Header.Set("Accept", "application/json, application/problem+json")
	req.Header.Set("User-Agent", c.userAgent)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if !c.key.Empty() {
		req.Header.Set("Authorization", "Bearer "+c.key.Reveal())
	}
	return req, nil
}

func cloneQuery(q url.Values) url.Values {
	clone := url.Values{}
	for name, values := range q {
		clone[name] = values
	}
	return clone
}
