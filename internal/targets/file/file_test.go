package file_test

import (
	"bytes"
	"crypto"
	"encoding/pem"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/targets"
	"github.com/certctl-io/certctl/internal/targets/file"
	"github.com/certctl-io/certctl/internal/targets/targetstest"
)

func TestKind(t *testing.T) {
	t.Parallel()
	targetstest.TestKind(t, file.Kind{},
		`{"fullchain": "/f.pem", "key": "/k.pem"}`,
		`{"pkcs12": {"path": "/a.p12", "password": "very-secret"}}`,
		`{"certificate": "/c.pem", "key": "/k.pem", "chain": "/ch.pem", "fullchain": "/f.pem", "combined": "/a.pem",
		  "pkcs12": {"path": "/a.p12", "password": "very-secret"}, "owner": "app", "group": "app", "mode": "0400",
		  "validate": ["postfix", "check"], "reload": ["systemctl", "reload", "postfix"],
		  "probe": {"address": "localhost:465", "server_name": "mail.example.com", "timeout": "1s"}}`,
	)
}

func TestMistakesAreNamed(t *testing.T) {
	t.Parallel()
	for settings, field := range map[string]string{
		`{}`:                    "settings.key",
		`{"certificate": "/a"}`: "settings.key",
		`{"key": "/a", "pkcs12": {"path": "/a", "password": "x"}}`:                   "settings.pkcs12.path",
		`{"key": "/a", "mode": "0644"}`:                                              "settings.mode",
		`{"key": "/a", "mode": "0040"}`:                                              "settings.mode",
		`{"key": "/a", "mode": "rw"}`:                                                "settings.mode",
		`{"key": "/a/"}`:                                                             "settings.key",
		`{"key": "/a", "owner": "a b"}`:                                              "settings.owner",
		`{"key": "/a", "probe": {"address": "localhost"}}`:                           "settings.probe.address",
		`{"key": "/a", "probe": {"address": ":443"}}`:                                "settings.probe.address",
		`{"key": "/a", "probe": {"address": "a:70000"}}`:                             "settings.probe.address",
		`{"key": "/a", "probe": {"address": "a:1", "server_name": "*.example.com"}}`: "settings.probe.server_name",
		`{"key": "/a", "probe": {"address": "a:1", "timeout": "1h"}}`:                "settings.probe.timeout",
		`{"key": "/a", "probe": {"address": "a:1", "timeout": "-1s"}}`:               "settings.probe.timeout",
	} {
		targetstest.WantInvalid(t, file.Kind{}.Check([]byte(settings)), field)
	}
}

func TestSeparateAndCombinedFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := targetstest.NewCA(t).Issue(t, pki.ECDSAP256, "example.com")
	key, err := b.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	var settings []string
	for _, name := range []string{"certificate", "key", "chain", "fullchain", "combined"} {
		settings = append(settings, fmt.Sprintf("%q: %q", name, filepath.Join(dir, name)))
	}
	report := targetstest.NewHost(t).Deploy(t, file.Kind{}, "{"+strings.Join(settings, ",")+"}", b)
	targetstest.WantOutcome(t, report, targets.OutcomeDeployed)
	for name, want := range map[string]string{
		"certificate": string(b.CertPEM()), "chain": string(b.ChainPEM()), "fullchain": string(b.CertPEM()) + string(b.ChainPEM()),
		"key": string(key), "combined": string(key) + string(b.FullChainPEM()),
	} {
		if got := targetstest.ReadFile(t, filepath.Join(dir, name)); got != want {
			t.Errorf("%s holds\n%s", name, got)
		}
	}
}

func TestPKCS12IsReadByOthers(t *testing.T) {
	t.Parallel()
	const password = "pass wörd"
	ca := targetstest.NewCA(t)
	for _, kt := range pki.KeyTypes {
		t.Run(string(kt), func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "store.p12")
			b := ca.Issue(t, kt, "example.com")
			settings := fmt.Sprintf(`{"pkcs12": {"path": %q, "password": %q}}`, path, password)
			host := targetstest.NewHost(t)
			targetstest.WantOutcome(t, host.Deploy(t, file.Kind{}, settings, b), targets.OutcomeDeployed)
			targetstest.WantOutcome(t, host.Deploy(t, file.Kind{}, settings, b), targets.OutcomeUnchanged)

			key, leaf, chain, err := pkcs12.DecodeChain([]byte(targetstest.ReadFile(t, path)), password)
			if err != nil {
				t.Fatal(err)
			}
			if mine, ok := b.Key.(interface{ Equal(crypto.PrivateKey) bool }); !ok || !mine.Equal(key) {
				t.Error("the key is another one")
			}
			if !bytes.Equal(leaf.Raw, b.Chain[0]) || len(chain) != 1 || !bytes.Equal(chain[0].Raw, b.Chain[1]) {
				t.Error("the chain is another one")
			}
			wantOpenSSLReads(t, path, password, b)
		})
	}
}

func wantOpenSSLReads(t *testing.T, path, password string, b pki.Bundle) {
	t.Helper()
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Fatalf("openssl is missing, run scripts/setup.sh: %v", err)
	}
	cmd := exec.CommandContext(t.Context(), openssl, "pkcs12", "-in", path, "-passin", "pass:"+password, "-noenc")
	output, err := cmd.Output()
	if err != nil {
		t.Fatalf("openssl pkcs12: %v", err)
	}
	want := map[string]bool{string(b.Chain[0]): true, string(b.Chain[1]): true}
	key, err := b.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	keyBlock, _ := pem.Decode(key)
	want[string(keyBlock.Bytes)] = true
	for block, rest := pem.Decode(output); block != nil; block, rest = pem.Decode(rest) {
		delete(want, string(block.Bytes))
	}
	if len(want) != 0 {
		t.Errorf("openssl does not find %d of key, leaf and intermediate in\n%s", len(want), output)
	}
}

func TestPKCS12OfAnotherKeyOrPasswordHasOtherSalts(t *testing.T) {
	t.Parallel()
	ca := targetstest.NewCA(t)
	plan := func(b pki.Bundle, password string) []byte {
		p, err := file.Kind{}.Plan(fmt.Appendf(nil, `{"pkcs12": {"path": "/a", "password": %q}}`, password), b)
		if err != nil {
			t.Fatal(err)
		}
		return p.Files[0].Data
	}
	a, b := ca.Issue(t, pki.ECDSAP256, "example.com"), ca.Issue(t, pki.ECDSAP256, "example.com")
	for name, other := range map[string][]byte{"password": plan(a, "two"), "key": plan(b, "one")} {
		if bytes.Equal(plan(a, "one"), other) {
			t.Errorf("another %s gives the same file", name)
		}
	}
}
