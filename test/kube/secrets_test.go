//go:build kube

package kube_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/client"
)

const shop = "shop" // the namespace of somebody who needs a certificate

// TestCertificatesBecomeSecrets lets the agent write kubernetes.io/tls Secrets
// in a namespace that the operator has named.
func TestCertificatesBecomeSecrets(t *testing.T) {
	newNamespace(t, "secrets")
	newNamespace(t, shop)
	r := install(t, "secrets", "certctl", values{"kubernetesSecrets.enabled": true, "kubernetesSecrets.namespaces": []string{shop}})
	api := r.api(t)
	r.online(t, api, node)
	t.Run("OneIsMadeAndKept", func(t *testing.T) { secretIsKept(t, api) })
	t.Run("AForeignOneIsLeftAlone", func(t *testing.T) { foreignIsLeftAlone(t, api) })
	t.Run("OtherNamespacesAreOutOfReach", func(t *testing.T) {
		ask(t, api, "outside", "default")
		refused(t, api, "outside")
	})
}

// ask orders a certificate for a Secret of its name.
func ask(t *testing.T, api *client.Client, name, namespace string) {
	t.Helper()
	_, err := api.CreateTarget(t.Context(), client.TargetSpec{Name: name, Agent: node, Kind: "kubernetes", Settings: map[string]any{
		"namespace": namespace, "name": name, "ca": "chain",
	}})
	if err != nil {
		t.Fatal(err)
	}
	spec := client.CertificateSpec{Name: name, Names: []string{name + ".example.com"}, Targets: []string{name}}
	if _, err := api.CreateCertificate(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
}

// refused waits until the deployment has failed for good.
func refused(t *testing.T, api *client.Client, target string) {
	t.Helper()
	eventually(t, time.Minute, func(ctx context.Context) error {
		for deployment, err := range api.Deployments(ctx, client.DeploymentFilter{Target: target}) {
			if err != nil {
				return err
			}
			if deployment.State == "failed" {
				t.Logf("%s: %s", target, deployment.StateReason)
				return nil
			}
		}
		return fmt.Errorf("no deployment to %s has failed", target)
	})
}

type kubeSecret struct {
	Type     string            `json:"type"`
	Data     map[string]string `json:"data"`
	Metadata struct {
		Labels map[string]string `json:"labels"`
	} `json:"metadata"`
}

func readSecret(ctx context.Context, name string) (kubeSecret, error) {
	var s kubeSecret
	out, err := try(ctx, "", "kubectl", "get", "secret", "-n", shop, name, "-o", "json")
	if err == nil {
		err = json.Unmarshal([]byte(out), &s)
	}
	return s, err
}

func secretIsKept(t *testing.T, api *client.Client) {
	ask(t, api, "web", shop)
	active(t, api, "web")
	made, err := readSecret(t.Context(), "web")
	if err != nil {
		t.Fatal(err)
	}
	if made.Type != "kubernetes.io/tls" || made.Metadata.Labels["app.kubernetes.io/managed-by"] != "certctl" || made.Data["ca.crt"] == "" {
		t.Errorf("the Secret is of type %s with labels %v", made.Type, made.Metadata.Labels)
	}
	chain, err := base64.StdEncoding.DecodeString(made.Data["tls.crt"])
	if err != nil {
		t.Fatal(err)
	}
	verify(t, api, chain, "web.example.com")

	const patch = `{"data":{"tls.crt":"bm90aGluZw=="}}`
	for name, harm := range map[string][]string{
		"deleted": {"delete", "secret", "-n", shop, "web"},
		"changed": {"patch", "secret", "-n", shop, "web", "-p", patch},
	} {
		kubectl(t, harm...)
		eventually(t, 20*time.Second, func(ctx context.Context) error {
			now, err := readSecret(ctx, "web")
			if err == nil && now.Data["tls.crt"] != made.Data["tls.crt"] {
				err = fmt.Errorf("the Secret that was %s holds something else", name)
			}
			return err
		})
	}
}

func foreignIsLeftAlone(t *testing.T, api *client.Client) {
	kubectl(t, "create", "secret", "generic", "-n", shop, "foreign", "--from-literal=of=others")
	ask(t, api, "foreign", shop)
	refused(t, api, "foreign")
	now, err := readSecret(t.Context(), "foreign")
	if err != nil || now.Data["of"] == "" || len(now.Data) != 1 {
		t.Errorf("the Secret of others has changed: %v (%v)", now.Data, err)
	}
}
