//go:build kube

package kube_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"
)

// upgradeLosesNothing changes a value while clients call, and goes back.
func upgradeLosesNothing(t *testing.T, r *release) {
	load := startLoad(t, r)
	r.upgrade(t, values{"server.logging.level": "debug"})
	if got := enter(t, running(t, r.namespace, "server")).environ(t)["CERTCTL_LOG_LEVEL"]; got != "debug" {
		t.Errorf("the server runs with log level %q after the upgrade", got)
	}
	if out, err := try(t.Context(), "", "helm", "rollback", r.name, "-n", r.namespace, "--wait", "--timeout", waitTimeout); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	requests, failures := load.stop()
	if len(failures) > 0 {
		t.Errorf("%d of %d requests failed, the first with: %v", len(failures), requests, failures[0])
	}
	t.Logf("%d requests over an upgrade and a rollback", requests)
	if requests < 100 {
		t.Errorf("only %d requests were made", requests)
	}
}

// load calls the server without a pause to speak of, over new connections and
// over kept ones.
type load struct {
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu       sync.Mutex
	requests int
	failures []error
}

const (
	loadClients = 4
	loadPause   = 60 * time.Millisecond // together below what one client may ask for
)

func startLoad(t testing.TB, r *release) *load {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	l := &load{cancel: cancel}
	t.Cleanup(func() { l.stop() })
	for i := range loadClients {
		transport := r.transport(t)
		transport.DisableKeepAlives = i%2 == 0
		browser := &http.Client{Transport: transport, Timeout: 10 * time.Second}
		l.done.Go(func() {
			defer transport.CloseIdleConnections()
			for ctx.Err() == nil {
				l.count(ctx, call(ctx, browser, r.url()+"/api/v1/info"))
			}
		})
	}
	return l
}

func (l *load) count(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return // stopped in the middle of this one
	}
	l.mu.Lock()
	l.requests++
	if err != nil {
		l.failures = append(l.failures, fmt.Errorf("%s: %w", time.Now().Format(time.TimeOnly), err))
	}
	l.mu.Unlock()
	select {
	case <-ctx.Done():
	case <-time.After(loadPause):
	}
}

// stop ends the load and gives what it saw.
func (l *load) stop() (requests int, failures []error) {
	l.cancel()
	l.done.Wait()
	return l.requests, l.failures
}

func call(ctx context.Context, browser *http.Client, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+adminKey)
	response, err := browser.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("status %s: %s", response.Status, body)
	}
	return nil
}
