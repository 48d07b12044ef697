package e2e

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/client"
	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/pki"
)

// chainOf reads the CA certificates of the built-in issuer.
func chainOf(t *testing.T, api *client.Client) pki.Chain {
	t.Helper()
	text, err := api.IssuerChain(t.Context(), "local")
	if err != nil {
		t.Fatal(err)
	}
	chain, err := pki.ParseChain([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return chain
}

func roots(t *testing.T, api *client.Client) *x509.CertPool {
	t.Helper()
	chain := chainOf(t, api)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pki.Chain{chain[len(chain)-1]}.PEM())
	return pool
}

// tool runs a program and gives what it printed, in both cases.
func tool(t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	return string(out), err
}

func must(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := tool(t, name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

func TestOpensslAndCurlAcceptWhatTheCAProduces(t *testing.T) {
	t.Parallel()
	s, api := startServer(t, db.SQLite)
	startAgent(t, s, "web-1")
	nginx := startNginx(t, "www.example.test")
	if _, err := api.CreateTarget(t.Context(), client.TargetSpec{Name: "site", Agent: "web-1", Kind: "nginx", Settings: nginx.Settings()}); err != nil {
		t.Fatal(err)
	}
	if _, err := api.CreateCertificate(t.Context(), client.CertificateSpec{Name: "www", Names: []string{"www.example.test"}, Targets: []string{"site"}}); err != nil {
		t.Fatal(err)
	}
	await(t, "the certificate to be active", func(ctx context.Context) error {
		c, err := api.Certificate(ctx, "www")
		if err == nil && c.Status != "active" {
			return errNotYet
		}
		return err
	})

	dir := t.TempDir()
	file := func(name string, text []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	chain := chainOf(t, api)
	root := file("root.pem", pki.Chain{chain[len(chain)-1]}.PEM())
	intermediate := file("intermediate.pem", pki.Chain{chain[0]}.PEM())
	served, err := nginx.Served(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	leaf := file("leaf.pem", pki.Chain{served.Raw}.PEM())

	if out := must(t, "curl", "--silent", "--show-error", "--cacert", root, "--connect-to", "www.example.test:443:"+nginx.Address, "https://www.example.test/"); out != "hello\n" {
		t.Errorf("curl got %q", out)
	}
	must(t, "openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", "www.example.test", "-CAfile", root, "-untrusted", intermediate, leaf)
	ocsp := []string{"ocsp", "-issuer", intermediate, "-cert", leaf, "-CAfile", root, "-verify_other", intermediate, "-url", served.OCSPServer[0], "-no_nonce"}
	if out := must(t, "openssl", ocsp...); !strings.Contains(out, leaf+": good") || !strings.Contains(out, "Response verify OK") {
		t.Errorf("OCSP before: %s", out)
	}

	crl := func() string {
		path := filepath.Join(dir, "crl.der")
		must(t, "curl", "--silent", "--show-error", "--fail", "--output", path, served.CRLDistributionPoints[0])
		out := must(t, "openssl", "crl", "-inform", "DER", "-in", path, "-CAfile", intermediate, "-noout", "-text")
		if !strings.Contains(out, "verify OK") {
			t.Errorf("CRL: %s", out)
		}
		der, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return file("crl.pem", pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}))
	}
	must(t, "openssl", "verify", "-crl_check", "-CRLfile", crl(), "-CAfile", root, "-untrusted", intermediate, leaf)

	if _, err := api.Revoke(t.Context(), "www", "keyCompromise", false); err != nil {
		t.Fatal(err)
	}
	if out := must(t, "openssl", ocsp...); !strings.Contains(out, leaf+": revoked") || !strings.Contains(out, "keyCompromise") {
		t.Errorf("OCSP after the revocation: %s", out)
	}
	out, err := tool(t, "openssl", "verify", "-crl_check", "-CRLfile", crl(), "-CAfile", root, "-untrusted", intermediate, leaf)
	if err == nil || !strings.Contains(out, "certificate revoked") {
		t.Errorf("verify with the CRL after the revocation: %v %s", err, out)
	}
}

func TestPingWaitsForTheServerAndItsAgents(t *testing.T) {
	t.Parallel()
	s, _ := startServer(t, db.SQLite)
	startAgent(t, s, "web-1")
	if out, err := s.CLI(t.Context(), "ping", "--agents", "1"); err != nil || !strings.Contains(out, "1 agents online") {
		t.Errorf("%v %s", err, out)
	}
	_, err := s.CLI(t.Context(), "ping", "--agents", "2", "--timeout", "2s")
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 6 || !strings.Contains(err.Error(), "1 of 2 agents are online") {
		t.Errorf("an agent that is missing: %v", err)
	}
}

func TestAHundredOrdersAtOnceAllFinish(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine db.Engine) {
		const count = 100
		s, api := startServer(t, engine, "CERTCTL_RATE_LIMIT_RPS=0")
		startAgent(t, s, "web-1")
		dir := t.TempDir()
		for i := range count {
			name := "site-" + strconv.Itoa(i)
			_, err := api.CreateTarget(t.Context(), client.TargetSpec{Name: name, Agent: "web-1", Kind: "file", Settings: map[string]any{
				"fullchain": filepath.Join(dir, name+".pem"), "key": filepath.Join(dir, name+".key"),
			}})
			if err != nil {
				t.Fatal(err)
			}
		}
		failures := make(chan error, count)
		for i := range count {
			go func() {
				name := "site-" + strconv.Itoa(i)
				_, err := api.CreateCertificate(t.Context(), client.CertificateSpec{Name: name, Names: []string{name + ".example"}, Targets: []string{name}})
				failures <- err
			}()
		}
		for range count {
			if err := <-failures; err != nil {
				t.Fatal(err)
			}
		}
		await(t, "all certificates to be active", func(ctx context.Context) error {
			active := 0
			for _, err := range api.Certificates(ctx, client.CertificateFilter{Status: "active"}) {
				if err != nil {
					return err
				}
				active++
			}
			if active != count {
				return errNotYet
			}
			return nil
		})
		files, err := filepath.Glob(filepath.Join(dir, "*.pem"))
		if err != nil || len(files) != count {
			t.Errorf("%d files, %v", len(files), err)
		}
	})
}
