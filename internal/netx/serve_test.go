package netx

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/problem"
)

// started is a running server.
type started struct {
	url  string
	stop context.CancelFunc
	done chan error
}

func start(t *testing.T, timeout time.Duration, config *tls.Config, handler http.HandlerFunc) started {
	t.Helper()
	listener, err := Listen(t.Context(), "listen", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	s := started{url: "http://" + listener.Addr().String(), stop: stop, done: make(chan error, 1)}
	if config != nil {
		s.url = "https://" + listener.Addr().String()
	}
	go func() {
		s.done <- Serve(ctx, listener, handler, ServeOptions{Name: "test", TLS: config, ShutdownTimeout: timeout, Log: discard})
	}()
	return s
}

// get makes a request and gives its answer, or the error, as text.
func get(client *http.Client, url string) <-chan string {
	answer := make(chan string, 1)
	go func() {
		response, err := client.Get(url)
		if err != nil {
			answer <- "error: " + err.Error()
			return
		}
		body, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil {
			answer <- "error: " + err.Error()
			return
		}
		answer <- response.Proto + " " + string(body)
	}()
	return answer
}

// within fails the test when nothing comes in good time.
func within[T any](t *testing.T, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(10 * time.Second):
		t.Fatalf("timed out: %s", what)
		panic("unreachable")
	}
}

func newClient(t *testing.T, config *tls.Config) *http.Client {
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func TestServeSpeaksHTTP2OverPinnedTLS(t *testing.T) {
	t.Parallel()
	certificate := newSelfMade(t, time.Now)
	s := start(t, time.Minute, ServerTLS(certificate, tls.VersionTLS13), func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "hello")
	})
	client := newClient(t, PinnedTLSConfig(certificate.Fingerprint(), "127.0.0.1"))
	if got := within(t, "answer", get(client, s.url)); got != "HTTP/2.0 hello" {
		t.Errorf("got %q", got)
	}
	s.stop()
	if err := within(t, "stop", s.done); err != nil {
		t.Error(err)
	}
}

func TestStopLetsRunningRequestsFinishAndEndsPolls(t *testing.T) {
	t.Parallel()
	entered, finish := make(chan string, 2), make(chan struct{})
	s := start(t, time.Minute, nil, func(w http.ResponseWriter, r *http.Request) {
		entered <- r.URL.Path
		if r.URL.Path == "/poll" {
			<-Draining(r.Context())
		} else {
			<-finish
		}
		if err := r.Context().Err(); err != nil {
			t.Errorf("%s was cancelled: %v", r.URL.Path, err)
		}
		_, _ = io.WriteString(w, r.URL.Path)
	})
	client := newClient(t, nil)
	poll, work := get(client, s.url+"/poll"), get(client, s.url+"/work")
	within(t, "first request", entered)
	within(t, "second request", entered)
	s.stop()
	if got := within(t, "end of the poll", poll); got != "HTTP/1.1 /poll" {
		t.Errorf("poll: %q", got)
	}
	close(finish)
	if got := within(t, "end of the work", work); got != "HTTP/1.1 /work" {
		t.Errorf("work: %q", got)
	}
	if err := within(t, "stop", s.done); err != nil {
		t.Error(err)
	}
}

func TestStopCutsRequestsAfterTheTimeout(t *testing.T) {
	t.Parallel()
	entered := make(chan struct{})
	s := start(t, time.Millisecond, nil, func(_ http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
	})
	answer := get(newClient(t, nil), s.url)
	within(t, "request", entered)
	s.stop()
	if err := within(t, "stop", s.done); err != nil {
		t.Error(err)
	}
	if got := within(t, "answer", answer); !strings.HasPrefix(got, "error: ") {
		t.Errorf("got the answer %q", got)
	}
}

func TestFailedListenerIsReported(t *testing.T) {
	t.Parallel()
	listener, err := Listen(t.Context(), "listen", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	err = Serve(t.Context(), listener, http.NotFoundHandler(), ServeOptions{Name: "test", Log: discard})
	if !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

func TestListenNamesTheSettingOfATakenAddress(t *testing.T) {
	t.Parallel()
	listener, err := Listen(t.Context(), "listen", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	_, err = Listen(t.Context(), "status_listen", listener.Addr().String())
	p, ok := problem.As(err)
	if !ok || p.Field != "status_listen" || !strings.HasSuffix(p.Message, "address already in use") {
		t.Errorf("got %v", err)
	}
}

func TestDrainingIsNeverReadyElsewhere(t *testing.T) {
	t.Parallel()
	if Draining(t.Context()) != nil {
		t.Error("there is a channel outside of Serve")
	}
}

func TestSlowBodyIsGivenUp(t *testing.T) {
	t.Parallel()
	result := make(chan error, 1)
	server := httptest.NewServer(limitBodyTime(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.ReadAll(r.Body)
		result <- err
	}), 20*time.Millisecond))
	defer server.Close()
	conn := dial(t, server)
	if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc"); err != nil {
		t.Fatal(err)
	}
	if err := within(t, "end of the body", result); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v, want a passed deadline", err)
	}
}

func TestBodyDeadlineDoesNotEndALongPoll(t *testing.T) {
	t.Parallel()
	const limit = 20 * time.Millisecond
	server := httptest.NewServer(limitBodyTime(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err != nil {
			t.Error(err)
		}
		select {
		case <-r.Context().Done():
			t.Error("the request was cancelled when its body's deadline passed")
		case <-time.After(5 * limit):
		}
		_, _ = io.WriteString(w, "still here")
	}), limit))
	defer server.Close()
	conn := dial(t, server)
	if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if body, err := io.ReadAll(response.Body); string(body) != "still here" {
		t.Errorf("got %q, %v", body, err)
	}
}

func dial(t *testing.T, server *httptest.Server) net.Conn {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func TestClientThatDoesNotReadIsGivenUp(t *testing.T) {
	t.Parallel()
	result := make(chan error, 1)
	server := httptest.NewServer(limitAnswerTime(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, err := w.Write(make([]byte, 64<<20)) // more than any buffer in between takes
		result <- err
	}), 50*time.Millisecond))
	defer server.Close()
	conn := dial(t, server)
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if err := within(t, "end of the answer", result); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v, want a passed deadline", err)
	}
}

func TestAnswerDeadlineEndsNoAnswerThatTakesItsTime(t *testing.T) {
	t.Parallel()
	const limit = 20 * time.Millisecond
	for _, http2 := range []bool{false, true} {
		server := httptest.NewUnstartedServer(limitAnswerTime(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(5 * limit) // after the request before on this connection
			_, _ = io.WriteString(w, "piece")
			_ = http.NewResponseController(w).Flush()
			time.Sleep(5 * limit) // after a piece
			_, _ = io.WriteString(w, " after piece")
		}), limit))
		server.EnableHTTP2 = http2
		server.StartTLS()
		defer server.Close()
		for range 2 {
			got := within(t, "answer", get(server.Client(), server.URL))
			if proto, body, _ := strings.Cut(got, " "); body != "piece after piece" || (proto == "HTTP/2.0") != http2 {
				t.Errorf("got %q", got)
			}
		}
	}
}
