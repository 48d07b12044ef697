//go:build kube

package kube_test

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/client"
)

const node = "node0" // a DaemonSet's agent has the name of its node

// TestTheDefaultInstallation tells the life of a release with the values that
// are required, and no others.
func TestTheDefaultInstallation(t *testing.T) {
	newNamespace(t, "certctl")
	r := install(t, "certctl", "certctl", nil)
	api := r.api(t)
	t.Run("EveryPodIsReadyWithoutARestart", func(t *testing.T) { everyPodIsReady(t, r) })
	t.Run("PodsAreConfined", func(t *testing.T) { podsAreConfined(t, r) })
	t.Run("HelmTestPasses", func(t *testing.T) { helmTestPasses(t, r) })
	t.Run("TheAgentDeploysACertificate", func(t *testing.T) { theAgentDeploys(t, r, api, "site") })
	t.Run("TheAgentComesBackAsTheSame", func(t *testing.T) { agentComesBack(t, r, api) })
	t.Run("PostgreSQLComesBackWithItsData", func(t *testing.T) { postgresComesBack(t, r, api) })
	t.Run("ARotatedCertificateIsServedWithoutARestart", func(t *testing.T) { rotatedIsServed(t, r) })
	t.Run("AnUpgradeAndARollbackLoseNoRequest", func(t *testing.T) { upgradeLosesNothing(t, r) })
	t.Run("UninstallLeavesOnlyTheVolume", func(t *testing.T) { uninstallLeavesTheVolume(t, r) })
}

func everyPodIsReady(t *testing.T, r *release) {
	for _, component := range []string{"server", "postgres", "agent"} {
		if p := running(t, r.namespace, component); p.restarts() > 0 {
			t.Errorf("pod %s was restarted %d times", p.Metadata.Name, p.restarts())
		}
	}
}

func podsAreConfined(t *testing.T, r *release) {
	for component, uid := range map[string]int{"server": 1000, "agent": 1000, "postgres": 999} {
		process := enter(t, running(t, r.namespace, component))
		if err := process.confined(t, uid); err != nil {
			t.Errorf("%s: %v", component, err)
		}
		for name := range process.environ(t) {
			if strings.HasPrefix(name, "CERTCTL_SERVER_") || strings.HasPrefix(name, "CERTCTL_POSTGRES_") {
				t.Errorf("%s: %s is the variable of a Service", component, name)
			}
		}
		_, err := os.Stat(process.path("/var/run/secrets/kubernetes.io/serviceaccount/token"))
		if mounted := err == nil; mounted != (component == "server") {
			t.Errorf("%s: token for the Kubernetes API mounted: %t", component, mounted)
		}
	}
	for name, value := range enter(t, running(t, r.namespace, "agent")).environ(t) {
		if strings.Contains(value, adminKey) {
			t.Errorf("the agent has the admin key in %s", name)
		}
	}
}

func helmTestPasses(t *testing.T, r *release) {
	if out, err := try(t.Context(), "", "helm", "test", r.name, "-n", r.namespace, "--timeout", "90s"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// theAgentDeploys orders a certificate and finds it in the agent's container.
func theAgentDeploys(t *testing.T, r *release, api *client.Client, name string) {
	t.Helper()
	r.online(t, api, node)
	_, err := api.CreateTarget(t.Context(), fileTarget(name, ""))
	if err != nil {
		t.Fatal(err)
	}
	host := name + ".example.com"
	if _, err := api.CreateCertificate(t.Context(), client.CertificateSpec{Name: name, Names: []string{host}, Targets: []string{name}}); err != nil {
		t.Fatal(err)
	}
	active(t, api, name)
	text, err := os.ReadFile(enter(t, running(t, r.namespace, "agent")).path("/tmp/" + name + ".pem"))
	if err != nil {
		t.Fatal(err)
	}
	verify(t, api, text, host)
}

func fileTarget(name, certificate string) client.TargetSpec {
	return client.TargetSpec{Name: name, Agent: node, Kind: "file", Certificate: certificate, Settings: map[string]any{
		"fullchain": "/tmp/" + name + ".pem", "key": "/tmp/" + name + ".key",
	}}
}

// active waits until a certificate is issued and on its targets.
func active(t testing.TB, api *client.Client, name string) {
	t.Helper()
	eventually(t, time.Minute, func(ctx context.Context) error {
		certificate, err := api.Certificate(ctx, name)
		if err == nil && certificate.Status != "active" {
			err = fmt.Errorf("certificate %s is %s: %s", name, certificate.Status, certificate.StatusReason)
		}
		return err
	})
}

// verify builds the chain from a file to the server's own CA.
func verify(t testing.TB, api *client.Client, text []byte, host string) {
	t.Helper()
	root, err := api.IssuerChain(t.Context(), "local")
	if err != nil {
		t.Fatal(err)
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(root))
	block, rest := pem.Decode(text)
	if block == nil {
		t.Fatalf("no certificate in %q", text)
	}
	between.AppendCertsFromPEM(rest)
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{DNSName: host, Roots: roots, Intermediates: between}); err != nil {
		t.Fatal(err)
	}
}

// agentComesBack takes the agent's pod away, and with it its identity and keys.
func agentComesBack(t *testing.T, r *release, api *client.Client) {
	before := r.online(t, api, node)
	old := running(t, r.namespace, "agent")
	kubectl(t, "delete", "pod", "-n", r.namespace, old.Metadata.Name)
	if p := running(t, r.namespace, "agent"); p.Metadata.UID == old.Metadata.UID {
		t.Fatalf("pod %s is still there", p.Metadata.Name)
	}
	if after := r.online(t, api, node); after.ID != before.ID {
		t.Errorf("the agent is %s now, was %s", after.ID, before.ID)
	}
	theAgentDeploys(t, r, api, "after-agent")
}

func postgresComesBack(t *testing.T, r *release, api *client.Client) {
	kubectl(t, "delete", "pod", "-n", r.namespace, r.full()+"-postgres-0")
	kubectl(t, "rollout", "status", "-n", r.namespace, "statefulset/"+r.full()+"-postgres", "--timeout=120s")
	eventually(t, time.Minute, api.Ready)
	active(t, api, "site")
	theAgentDeploys(t, r, api, "after-postgres")
	if server := running(t, r.namespace, "server"); server.restarts() > 0 {
		t.Errorf("the server was restarted %d times", server.restarts())
	}
}

func uninstallLeavesTheVolume(t *testing.T, r *release) {
	if _, err := try(t.Context(), "", "helm", "uninstall", r.name, "-n", r.namespace, "--wait", "--timeout", "120s"); err != nil {
		t.Fatal(err)
	}
	const kinds = "all,secrets,configmaps,serviceaccounts,roles,rolebindings,networkpolicies,poddisruptionbudgets,ingresses,persistentvolumeclaims,clusterroles,clusterrolebindings"
	want := "persistentvolumeclaim/data-" + r.full() + "-postgres-0"
	eventually(t, 90*time.Second, func(ctx context.Context) error {
		left, err := try(ctx, "", "kubectl", "get", kinds, "-n", r.namespace, "-l", "app.kubernetes.io/instance="+r.name, "-o", "name")
		if left = strings.TrimSpace(left); err == nil && left != want {
			err = fmt.Errorf("left behind:\n%s\nwant only %s", left, want)
		}
		return err
	})
}
