package netx

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Limits of a connection. There is none on the time until an answer, because
// an agent's poll is open for minutes; there is one on the time in which a
// client takes a piece of it.
const (
	readHeaderTimeout = 10 * time.Second
	readBodyTimeout   = 30 * time.Second
	writeTimeout      = time.Minute
	writePiece        = 64 << 10
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 64 << 10

	// pingAfter and pingTimeout find HTTP/2 clients that went away without a
	// word, whose polls would stay open otherwise.
	pingAfter   = 30 * time.Second
	pingTimeout = 15 * time.Second
)

// ServeOptions say how a listener is served.
type ServeOptions struct {
	Name            string        // of the listener in the log, such as "api"
	TLS             *tls.Config   // nil for plain HTTP
	ShutdownTimeout time.Duration // how long running requests may take after a stop
	Log             *slog.Logger
}

// Serve answers requests on listener until ctx ends. Then no request is
// accepted any more, Draining tells those that wait for something, and the
// rest may run on for the shutdown timeout before its connections are cut. It
// closes the listener and returns an error only when the listener fails.
func Serve(ctx context.Context, listener net.Listener, handler http.Handler, o ServeOptions) error {
	draining := make(chan struct{})
	server := &http.Server{
		Handler:           limitAnswerTime(limitBodyTime(handler, readBodyTimeout), writeTimeout),
		TLSConfig:         o.TLS,
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		HTTP2:             &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
		ErrorLog:          slog.NewLogLogger(o.Log.With("listener", o.Name).Handler(), slog.LevelDebug), // mostly clients that hang up
		BaseContext: func(net.Listener) context.Context {
			return context.WithValue(context.WithoutCancel(ctx), drainingKey{}, (<-chan struct{})(draining))
		},
	}
	failed := make(chan error, 1)
	go func() {
		if o.TLS != nil {
			failed <- server.ServeTLS(listener, "", "")
		} else {
			failed <- server.Serve(listener)
		}
	}()
	select {
	case err := <-failed:
		close(draining)
		return errors.Join(err, server.Close())
	case <-ctx.Done():
	}
	close(draining)
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.ShutdownTimeout)
	defer cancel()
	if err := server.Shutdown(stopping); err != nil {
		o.Log.Warn("requests were still running at the end of the shutdown timeout and are cut off", "listener", o.Name)
		_ = server.Close() // the listener is closed already, the connections have no one to tell
	}
	return nil
}

type drainingKey struct{}

// Draining gives a channel that is closed when the server of this request
// begins to stop: whoever holds a request open until something happens should
// answer then. It is nil, and so never ready, outside of Serve.
func Draining(ctx context.Context) <-chan struct{} {
	draining, _ := ctx.Value(drainingKey{}).(<-chan struct{})
	return draining
}

// limitBodyTime gives a client a limited time to send its body. A timeout of
// the whole request would end polls, whose body has long been read.
func limitBodyTime(next http.Handler, limit time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			control := http.NewResponseController(w)
			if err := control.SetReadDeadline(time.Now().Add(limit)); err == nil {
				r.Body = &timedBody{r.Body, control}
			}
		}
		next.ServeHTTP(w, r)
	})
}

// timedBody lifts the deadline when the body was read to its end. After any
// other error it stays: the server reads on to find the next request, and
// would wait for a client that sends nothing.
type timedBody struct {
	io.ReadCloser
	control *http.ResponseController
}

// Read implements io.Reader.
func (b *timedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		_ = b.control.SetReadDeadline(time.Time{}) // it was possible before
	}
	return n, err
}

// limitAnswerTime gives a client a limited time to take each piece of an
// answer: one that asks and does not read would hold its connection for ever.
func limitAnswerTime(next http.Handler, limit time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		timed := &timedAnswer{ResponseWriter: w, control: http.NewResponseController(w), limit: limit}
		next.ServeHTTP(timed, r)
		// What is buffered leaves when the handler has returned. The server lifts
		// this deadline before the next request.
		timed.begin()
	})
}

// timedAnswer sets a deadline for each piece that is written.
type timedAnswer struct {
	http.ResponseWriter
	control *http.ResponseController
	limit   time.Duration
}

// Unwrap lets http.ResponseController reach the connection.
func (a *timedAnswer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// Write implements io.Writer.
func (a *timedAnswer) Write(p []byte) (written int, err error) {
	for first := true; first || len(p) > 0; first = false {
		piece := p[:min(len(p), writePiece)]
		a.begin()
		n, err := a.ResponseWriter.Write(piece)
		written += n
		if err != nil {
			return written, err
		}
		p = p[n:]
	}
	a.lift()
	return written, nil
}

// A writer without a connection, as in tests, takes no deadline and needs none.
func (a *timedAnswer) begin() { _ = a.control.SetWriteDeadline(time.Now().Add(a.limit)) }
func (a *timedAnswer) lift()  { _ = a.control.SetWriteDeadline(time.Time{}) }
