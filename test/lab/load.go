package lab

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// Load asks an nginx for its page without a pause, with new and with kept
// connections, and counts what happens.
type Load struct {
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu       sync.Mutex
	requests int
	failures []error
	leaves   map[string]int // answers by serial of the leaf they came under
}

const (
	loadClients = 4 // half of them keep their connection
	loadPause   = time.Millisecond
)

// StartLoad begins the load. Every answer must come over a connection that the
// roots verify.
func StartLoad(ctx context.Context, n *Nginx, roots *x509.CertPool) *Load {
	ctx, cancel := context.WithCancel(ctx)
	l := &Load{cancel: cancel, leaves: map[string]int{}}
	for i := range loadClients {
		transport := &http.Transport{
			TLSClientConfig:   &tls.Config{RootCAs: roots, ServerName: n.Site, MinVersion: tls.VersionTLS12},
			DisableKeepAlives: i%2 == 0,
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, network, n.Address)
			},
		}
		browser := &http.Client{Transport: transport, Timeout: 5 * time.Second}
		l.done.Go(func() {
			defer transport.CloseIdleConnections()
			for ctx.Err() == nil {
				l.ask(ctx, browser, "https://"+n.Site+"/")
			}
		})
	}
	return l
}

func (l *Load) ask(ctx context.Context, browser *http.Client, url string) {
	serial, err := get(ctx, browser, url)
	if ctx.Err() != nil {
		return // the load was stopped in the middle of this one
	}
	l.mu.Lock()
	l.requests++
	if err != nil {
		l.failures = append(l.failures, err)
	} else {
		l.leaves[serial]++
	}
	l.mu.Unlock()
	select {
	case <-ctx.Done():
	case <-time.After(loadPause):
	}
}

func get(ctx context.Context, browser *http.Client, url string) (serial string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	response, err := browser.Do(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return "", err
	}
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("status %s", response.Status)
	}
	return response.TLS.PeerCertificates[0].SerialNumber.Text(16), nil
}

// Count tells how many requests were answered so far, and under how many
// different certificates.
func (l *Load) Count() (requests, certificates int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.requests, len(l.leaves)
}

// Stop ends the load and gives the number of requests, and the errors of those
// that failed.
func (l *Load) Stop() (requests int, failures []error) {
	l.cancel()
	l.done.Wait()
	return l.requests, l.failures
}
