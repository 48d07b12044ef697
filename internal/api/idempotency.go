package api

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"net/http"
	"unicode/utf8"

	"github.com/certctl-io/certctl/internal/access"
	"github.com/certctl-io/certctl/internal/audit"
	"github.com/certctl-io/certctl/internal/problem"
)

const (
	keyHeader    = "Idempotency-Key"
	replayHeader = "Idempotency-Replayed"
	maxKey       = 255
)

// replay answers a call with an Idempotency-Key that was carried out before
// what it was answered then.
func (a *API) replay(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		value := r.Header.Get(keyHeader)
		principal, known := access.PrincipalFrom(r.Context())
		if value == "" || !known || r.Method != http.MethodPost {
			next.ServeHTTP(w, r)
			return
		}
		if len(value) > maxKey {
			a.fail(w, r, problem.Invalid(keyHeader, "it has %d characters, at most %d are allowed", len(value), maxKey))
			return
		}
		if !utf8.ValidString(value) {
			a.fail(w, r, problem.Invalid(keyHeader, "it is not text in UTF-8"))
			return
		}
		key, err := newKey(principal.ID, value, r)
		if err != nil {
			a.fail(w, r, err)
			return
		}
		earlier, err := audit.Replay(r.Context(), a.config.DB.Read(), a.config.Box, key)
		if err != nil {
			a.fail(w, r, err)
			return
		}
		if earlier != nil {
			w.Header().Set(replayHeader, "true")
			write(w, *earlier)
			return
		}
		a.remember(next, w, r, key)
	})
}

// newKey describes the call. What it asks for is hashed, so that the same key
// for something else is noticed.
func newKey(actor, value string, r *http.Request) (audit.Key, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return audit.Key{}, problem.Invalid("body", "it did not arrive whole").Hint("send the request again")
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	operation := r.Method + " " + r.URL.Path
	hash := sha256.New()
	for _, part := range [][]byte{[]byte(operation), []byte(r.URL.RawQuery), body} {
		hash.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part))))
		hash.Write(part)
	}
	return audit.Key{Actor: actor, Value: value, Operation: operation, Request: hash.Sum(nil)}, nil
}

// remember carries a call out and keeps its answer when it succeeded.
func (a *API) remember(next http.Handler, w http.ResponseWriter, r *http.Request, key audit.Key) {
	buffer := &buffered{header: w.Header(), status: http.StatusOK}
	inner := http.ResponseWriter(buffer)
	if e, ok := w.(*exchange); ok {
		inner = &exchange{ResponseWriter: buffer, caller: e.caller}
		defer func() { e.route = inner.(*exchange).route }()
	}
	next.ServeHTTP(inner, r.WithContext(audit.WithKey(r.Context(), key)))
	response := audit.Response{Status: buffer.status, Header: map[string]string{}, Body: buffer.body.Bytes()}
	for _, name := range []string{"Content-Type", "ETag", "Location"} {
		if v := buffer.header.Get(name); v != "" {
			response.Header[name] = v
		}
	}
	if response.Status < http.StatusMultipleChoices {
		if err := audit.Remember(r.Context(), a.config.DB, a.config.Box, key, response); err != nil {
			// The change is made and must be answered; a repeated call is told
			// what became of it.
			a.log.ErrorContext(r.Context(), "the answer of a call with an idempotency key is not kept", "error", err)
		}
	}
	write(w, response)
}

func write(w http.ResponseWriter, response audit.Response) {
	for name, value := range response.Header {
		w.Header().Set(name, value)
	}
	w.WriteHeader(response.Status)
	_, _ = w.Write(response.Body) // the client may be gone
}

// buffered is a http.ResponseWriter that keeps the answer.
type buffered struct {
	header http.Header
	status int
	body   bytes.Buffer
}

// Header implements http.ResponseWriter.
func (b *buffered) Header() http.Header { return b.header }

// WriteHeader implements http.ResponseWriter.
func (b *buffered) WriteHeader(status int) { b.status = status }

// Write implements http.ResponseWriter.
func (b *buffered) Write(p []byte) (int, error) { return b.body.Write(p) }
