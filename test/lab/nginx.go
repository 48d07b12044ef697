package lab

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/certctl-io/certctl/internal/pki"
)

// Nginx is a real nginx with one HTTPS site, as an operator would have set it
// up by hand: with a self-signed certificate that is to be replaced.
type Nginx struct {
	*Process
	Address string // of the HTTPS listener
	Site    string // the name it serves

	dir string
}

// nginxConfig is a configuration that needs no root and touches nothing
// outside of its prefix. Its placeholders are user line, port, site.
const nginxConfig = `%sworker_processes 2;
pid nginx.pid;
error_log error.log warn;
events { worker_connections 512; }
http {
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    server {
        listen 127.0.0.1:%d ssl;
        server_name %s;
        ssl_certificate     site.pem;
        ssl_certificate_key site.key;
        location / { return 200 "hello\n"; }
    }
}
`

// StartNginx sets up and runs an nginx below dir.
func StartNginx(ctx context.Context, dir, site string) (*Nginx, error) {
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	n := &Nginx{Address: fmt.Sprintf("127.0.0.1:%d", port), Site: site, dir: filepath.Join(dir, "nginx")}
	if err := os.MkdirAll(n.dir, 0o755); err != nil { //nolint:gosec // workers of another user read it
		return nil, err
	}
	user := ""
	if os.Geteuid() == 0 {
		user = "user root;\n" // the workers must reach a temporary directory of root
	}
	if err := os.WriteFile(n.Config(), fmt.Appendf(nil, nginxConfig, user, port, site), 0o600); err != nil {
		return nil, err
	}
	if err := n.selfSign(); err != nil {
		return nil, err
	}
	cmd := exec.Command("nginx", "-c", n.Config(), "-p", n.dir, "-g", "daemon off;") //nolint:gosec // the lab's own configuration
	if n.Process, err = start(cmd, filepath.Join(dir, "nginx.log")); err != nil {
		return nil, err
	}
	err = Await(ctx, startTimeout, "nginx to serve", func(ctx context.Context) error {
		_, err := n.Served(ctx)
		return err
	})
	if err != nil {
		n.Kill()
		return nil, fmt.Errorf("%w\n%s", err, n.tail())
	}
	return n, nil
}

// Config is the path of its configuration file.
func (n *Nginx) Config() string { return filepath.Join(n.dir, "nginx.conf") }

// Settings are those of a certctl target for it.
func (n *Nginx) Settings() map[string]any {
	return map[string]any{
		"certificate": filepath.Join(n.dir, "site.pem"), "key": filepath.Join(n.dir, "site.key"),
		"config": n.Config(), "prefix": n.dir,
		"probe": map[string]any{"address": n.Address, "server_name": n.Site},
	}
}

// Break puts a directive into the configuration that nginx does not know;
// the answer mends it.
func (n *Nginx) Break() (mend func() error, err error) {
	whole, err := os.ReadFile(n.Config())
	if err != nil {
		return nil, err
	}
	broken := append([]byte("oops_not_a_directive on;\n"), whole...)
	return func() error { return os.WriteFile(n.Config(), whole, 0o600) }, os.WriteFile(n.Config(), broken, 0o600) //nolint:gosec // the lab's own file
}

// Served makes a new TLS connection and gives the leaf that nginx shows.
func (n *Nginx) Served(ctx context.Context) (*x509.Certificate, error) {
	chain, err := handshake(ctx, n.Address, &tls.Config{ServerName: n.Site, InsecureSkipVerify: true}) //nolint:gosec // whatever it shows is the answer
	if err != nil {
		return nil, err
	}
	return chain[0], nil
}

// Verified makes a new TLS connection as a client would that trusts the roots,
// and gives the fingerprint of the leaf.
func (n *Nginx) Verified(ctx context.Context, roots *x509.CertPool) (string, error) {
	chain, err := handshake(ctx, n.Address, &tls.Config{ServerName: n.Site, RootCAs: roots, MinVersion: tls.VersionTLS12})
	if err != nil {
		return "", err
	}
	return pki.Fingerprint(chain[0].Raw), nil
}

func handshake(ctx context.Context, address string, config *tls.Config) ([]*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	conn, err := (&tls.Dialer{NetDialer: &net.Dialer{}, Config: config}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	return conn.(*tls.Conn).ConnectionState().PeerCertificates, nil
}

func (n *Nginx) selfSign() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "set up by hand"}, DNSNames: []string{n.Site},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	private, err := pki.EncodeKey(key)
	if err != nil {
		return err
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := os.WriteFile(filepath.Join(n.dir, "site.pem"), public, 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(n.dir, "site.key"), private, 0o600)
}
