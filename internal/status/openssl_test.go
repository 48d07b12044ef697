package status

import (
	"strings"
	"testing"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/testkit"
)

func TestOpenSSLAsksOCSP(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, w *world) {
		v := w.issue()
		ask := func(hash string) string {
			return openssl(t, "ocsp", "-issuer", w.issuerFile(), hash, "-cert", w.leafFile(v), "-url", v.OCSPServer[0],
				"-CAfile", w.rootFile(), "-verify_other", w.issuerFile(), "-no_nonce")
		}
		for _, hash := range []string{"-sha1", "-sha256"} {
			if out := ask(hash); !strings.Contains(out, "Response verify OK") || !strings.Contains(out, ": good") {
				t.Fatalf("%s before the revocation:\n%s", hash, out)
			}
		}
		w.revoke(v, 1)
		for _, hash := range []string{"-sha1", "-sha256"} {
			out := ask(hash)
			if !strings.Contains(out, "Response verify OK") || !strings.Contains(out, ": revoked") || !strings.Contains(out, "keyCompromise") {
				t.Errorf("%s right after the revocation:\n%s", hash, out)
			}
		}
	})
}

func TestOpenSSLChecksCRLs(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, w *world) {
		v, other := w.issue(), w.issue()
		verify := func(v version) string {
			return openssl(t, "verify", "-crl_check", "-x509_strict", "-CAfile", w.rootFile(), "-untrusted", w.issuerFile(),
				"-CRLfile", write(t, "list.pem", crlPEM(w.crlOf(v))), w.leafFile(v))
		}
		if out := verify(v); !strings.Contains(out, ": OK") {
			t.Fatalf("before the revocation:\n%s", out)
		}
		w.revoke(v, 4)
		if out := verify(v); !strings.Contains(out, "certificate revoked") {
			t.Errorf("right after the revocation:\n%s", out)
		}
		if out := verify(other); !strings.Contains(out, ": OK") {
			t.Errorf("another certificate of the same shard:\n%s", out)
		}
		text := openssl(t, "crl", "-in", write(t, "list.pem", crlPEM(w.crlOf(v))), "-CAfile", w.issuerFile(), "-noout", "-text")
		for _, want := range []string{"verify OK", "Issuing Distribution Point: critical", "Only User Certificates", v.CRLDistributionPoints[0], "Superseded"} {
			if !strings.Contains(text, want) {
				t.Errorf("the CRL does not say %q:\n%s", want, text)
			}
		}
	})
}

// TestCRLOfAnotherShardDoesNotPass shows that the scope of a CRL counts: one
// that says nothing about a certificate cannot clear it.
func TestCRLOfAnotherShardDoesNotPass(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testkit.NewDB(t, db.SQLite))
	first, _, third := w.issue(), w.issue(), w.issue() // two certificates make a shard
	if first.shard == third.shard {
		t.Fatal("all certificates are in one shard")
	}
	out := openssl(t, "verify", "-crl_check", "-CAfile", w.rootFile(), "-untrusted", w.issuerFile(),
		"-CRLfile", write(t, "list.pem", crlPEM(w.crlOf(third))), w.leafFile(first))
	if !strings.Contains(out, "unable to get certificate CRL") && !strings.Contains(out, "different CRL scope") {
		t.Errorf("the CRL of another shard was accepted:\n%s", out)
	}
}
