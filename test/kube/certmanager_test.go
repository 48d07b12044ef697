//go:build kube

package kube_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// TestCertManagerIssuesTheServersCertificate installs the chart with the
// certificate of an issuer of cert-manager.
func TestCertManagerIssuesTheServersCertificate(t *testing.T) {
	startCertManager(t)
	newNamespace(t, "managed")
	r := prepare(t, "managed", "certctl", values{
		"server.tls.existingSecret":             "",
		"server.tls.certManager.enabled":        true,
		"server.tls.certManager.issuerRef.name": "operator",
	})
	apply(t, r.namespace, r.authority.own(t, "operator-ca"))
	apply(t, r.namespace, map[string]any{
		"apiVersion": "cert-manager.io/v1", "kind": "Issuer",
		"metadata": map[string]any{"name": "operator"},
		"spec":     map[string]any{"ca": map[string]any{"secretName": "operator-ca"}},
	})
	r.helm(t, "install", "--wait", "--timeout", waitTimeout)
	r.online(t, r.api(t), node)
}

// startCertManager runs the controllers of cert-manager beside the node.
func startCertManager(t *testing.T) {
	t.Helper()
	cache := os.Getenv("KUBE_CACHE")
	kubectl(t, "apply", "--server-side", "-f", filepath.Join(cache, "cert-manager-crds"))
	kubectl(t, "wait", "--for=condition=Established", "crd/certificates.cert-manager.io", "crd/issuers.cert-manager.io", "--timeout=30s")
	log, err := os.Create(filepath.Join(os.Getenv("KUBE_STATE"), "log", "cert-manager.log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(cache, "bin", "cert-manager"))
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed above
		_ = log.Close()
	})
}
