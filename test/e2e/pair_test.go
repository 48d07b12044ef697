package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/client"
	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/secret"
	"github.com/certctl-io/certctl/internal/testkit"
	"github.com/certctl-io/certctl/test/lab"
)

// pair is two replicas on one database behind a load balancer.
type pair struct {
	t        *testing.T
	servers  [2]*lab.Server
	apis     [2]*client.Client
	status   [2]string // URLs of CRL and OCSP
	database string    // its URL
	front    *balancer
	behind   *lab.Server // the replicas as the balancer shows them
}

func startPair(t *testing.T, env ...string) *pair {
	t.Helper()
	const key = "the-admin-key-of-both-replicas"
	made := makeServerCertificate(t, t.TempDir())
	p := &pair{t: t, database: testkit.PostgresURL(t)}
	shared := append([]string{
		"CERTCTL_DATABASE_URL=" + p.database, "CERTCTL_ENCRYPTION_KEY=" + strings.Repeat("A", 43) + "=",
		"CERTCTL_BOOTSTRAP_API_KEY=" + key, "CERTCTL_TLS_CERTIFICATE=" + made.certificate, "CERTCTL_TLS_KEY=" + made.key,
		"CERTCTL_RATE_LIMIT_RPS=0",
	}, env...)
	for i := range p.servers {
		port, err := lab.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		p.status[i] = fmt.Sprintf("http://127.0.0.1:%d", port)
		own := append([]string{fmt.Sprintf("CERTCTL_STATUS_LISTEN=127.0.0.1:%d", port), "CERTCTL_STATUS_URL=" + p.status[i]}, shared...)
		s, err := lab.StartServer(t.Context(), filepath.Join(bin, "certctl"), t.TempDir(), own...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			s.Kill()
			if t.Failed() {
				t.Logf("log of replica %d:\n%s", i, tail(s.Log))
			}
		})
		s.APIKey, s.CASHA256 = secret.New(key), made.fingerprint
		p.servers[i] = s
		if p.apis[i], err = s.Client(); err != nil {
			t.Fatal(err)
		}
	}
	p.front = newBalancer(t, p.servers[0].URL)
	p.behind = &lab.Server{URL: "https://" + p.front.listener.Addr().String(), APIKey: secret.New(key), CASHA256: made.fingerprint}
	return p
}

// balancer passes connections on to one of the replicas, as a load balancer
// does that looks after their health.
type balancer struct {
	listener net.Listener
	to       atomic.Pointer[string]
}

func newBalancer(t *testing.T, to string) *balancer {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &balancer{listener: listener}
	b.turn(to)
	var open sync.WaitGroup
	open.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // the test is over
			}
			open.Go(func() { b.pass(conn) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		open.Wait()
	})
	return b
}

// turn sends new connections to the server at a URL.
func (b *balancer) turn(to string) {
	address := strings.TrimPrefix(to, "https://")
	b.to.Store(&address)
}

func (b *balancer) pass(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	server, err := (&net.Dialer{Timeout: time.Second}).Dial("tcp", *b.to.Load())
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	ended := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{conn, server}, {server, conn}} {
		go func() {
			_, _ = io.Copy(way[0], way[1]) // either end may hang up
			ended <- struct{}{}
		}()
	}
	<-ended
}

// files makes targets of an agent that write files, one for each name.
func files(t *testing.T, api *client.Client, agent, dir string, names ...string) {
	t.Helper()
	for _, name := range names {
		_, err := api.CreateTarget(t.Context(), client.TargetSpec{Name: name, Agent: agent, Kind: "file", Settings: map[string]any{
			"fullchain": filepath.Join(dir, name+".pem"), "key": filepath.Join(dir, name+".key"),
		}})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func numbered(prefix string, count int) []string {
	names := make([]string, count)
	for i := range names {
		names[i] = prefix + "-" + strconv.Itoa(i)
	}
	return names
}

// createAll makes one certificate for each target, all at once, in turn through
// the clients.
func createAll(t *testing.T, names []string, apis ...*client.Client) {
	t.Helper()
	failures := make(chan error, len(names))
	for i, name := range names {
		go func() {
			_, err := apis[i%len(apis)].CreateCertificate(t.Context(), client.CertificateSpec{Name: name, Names: []string{name + ".example"}, Targets: []string{name}})
			failures <- err
		}()
	}
	for range names {
		if err := <-failures; err != nil {
			t.Fatal(err)
		}
	}
}

// awaitActive waits until that many certificates are active.
func awaitActive(t *testing.T, api *client.Client, count int) {
	t.Helper()
	await(t, fmt.Sprintf("%d certificates to be active", count), func(ctx context.Context) error {
		states := map[string]int{}
		for c, err := range api.Certificates(ctx, client.CertificateFilter{}) {
			if err != nil {
				return err
			}
			states[c.Status]++
		}
		if states["active"] != count {
			return fmt.Errorf("they are %v", states)
		}
		return nil
	})
}

// wantOneVersion checks that each certificate was issued once, and that the
// file of its target holds what was issued.
func wantOneVersion(t *testing.T, api *client.Client, dir string, names []string) {
	t.Helper()
	for _, name := range names {
		var versions []client.Version
		for v, err := range api.Versions(t.Context(), name) {
			if err != nil {
				t.Fatal(err)
			}
			versions = append(versions, v)
		}
		if len(versions) != 1 || versions[0].State != "active" {
			t.Fatalf("%s has the versions %+v", name, versions)
		}
		if got := leafIn(t, filepath.Join(dir, name+".pem")); pki.Fingerprint(got.Raw) != versions[0].Fingerprint {
			t.Errorf("%s: the file holds another certificate than version %s", name, versions[0].ID)
		}
	}
}

// leafIn reads the first certificate of a PEM file.
func leafIn(t *testing.T, path string) *x509.Certificate {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatalf("%s holds no PEM", path)
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}

func writeFile(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// serverCertificate is what an operator gives a server to show: its own
// certificate, which is also what clients pin.
type serverCertificate struct {
	certificate, key string // paths
	fingerprint      string
}

// makeServerCertificate writes a new one into a directory, over one that is
// there: the key first, as a careless script would.
func makeServerCertificate(t *testing.T, dir string) serverCertificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "certctl"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := pki.EncodeKey(key)
	if err != nil {
		t.Fatal(err)
	}
	made := serverCertificate{filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key"), pki.Fingerprint(der)}
	writeFile(t, made.key, private)
	writeFile(t, made.certificate, pki.Chain{der}.PEM())
	return made
}
