package agent

import (
	"net/http"
	"sync"

	"github.com/certctl-io/certctl/internal/netx"
)

// following is a transport that trusts the CAs in a file as it is now: they are
// read before each request, so that a CA that was replaced needs no restart,
// and one that was taken out is not trusted any longer. While the file cannot
// be used, what it said before holds.
type following struct {
	file     string
	identity Identity
	host     string

	mu      sync.Mutex
	current *http.Transport
}

// follow begins with the CAs of the identity.
func follow(file string, i Identity) (*following, error) {
	server, err := parseServer(i.Server)
	if err != nil {
		return nil, err
	}
	first, err := newTransport(i, server.Hostname())
	if err != nil {
		return nil, err
	}
	return &following{file: file, identity: i, host: server.Hostname(), current: first}, nil
}

// RoundTrip implements http.RoundTripper.
func (f *following) RoundTrip(r *http.Request) (*http.Response, error) { return f.now().RoundTrip(r) }

// CloseIdleConnections closes what is open for later requests.
func (f *following) CloseIdleConnections() { f.now().CloseIdleConnections() }

// now gives the transport for the file's present content.
func (f *following) now() *http.Transport {
	f.mu.Lock()
	defer f.mu.Unlock()
	text, err := netx.ReadCAFile(f.file)
	if err != nil || string(text) == f.identity.CAs {
		return f.current
	}
	changed := f.identity
	changed.CAs = string(text)
	next, err := newTransport(changed, f.host)
	if err != nil {
		return f.current
	}
	// Requests under way end on their connections; no new one begins there.
	defer f.current.CloseIdleConnections()
	f.identity, f.current = changed, next
	return next
}
