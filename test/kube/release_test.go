//go:build kube

package kube_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/client"
	"github.com/certctl-io/certctl/internal/secret"
)

const (
	chart       = "../../deploy/helm/certctl"
	adminKey    = "an-admin-key-of-the-test-cluster"
	waitTimeout = "150s"
	// Characters that a URL, a shell or YAML would take for their own.
	databasePassword = `p@ss/w:rd#1 %'"$(x)`
)

// values are what an operator would write into a values file, dotted:
// "server.replicas".
type values map[string]any

// tree gives them as the chart reads them.
func (v values) tree() map[string]any {
	root := map[string]any{}
	for name, value := range v {
		parts := strings.Split(name, ".")
		at := root
		for _, part := range parts[:len(parts)-1] {
			if _, ok := at[part]; !ok {
				at[part] = map[string]any{}
			}
			at = at[part].(map[string]any)
		}
		at[parts[len(parts)-1]] = value
	}
	return root
}

// release is an installation of the chart.
type release struct {
	name, namespace string
	values          values
	authority       *authority
}

// install installs the chart with what it needs and more values, and waits
// until everything is ready.
func install(t testing.TB, namespace, name string, more values) *release {
	t.Helper()
	r := prepare(t, namespace, name, more)
	r.helm(t, "install", "--wait", "--timeout", waitTimeout)
	return r
}

// prepare makes what has to be there before the chart can be installed.
func prepare(t testing.TB, namespace, name string, more values) *release {
	t.Helper()
	r := &release{name: name, namespace: namespace, authority: newAuthority(t)}
	r.values = values{
		"server.tls.existingSecret": name + "-tls",
		"server.auth.apiKey":        adminKey,
		"postgresql.auth.password":  databasePassword,
		// Debian's PostgreSQL in place of the official image.
		"postgresql.image.repository": "localhost/postgres",
		"postgresql.image.tag":        "test",
	}
	maps.Copy(r.values, more)
	if tls := r.values["server.tls.existingSecret"].(string); tls != "" {
		apply(t, namespace, r.authority.secret(t, tls, r.host()))
	}
	t.Cleanup(func() {
		if _, err := try(context.WithoutCancel(t.Context()), "", "helm", "uninstall", name, "-n", namespace, "--ignore-not-found"); err != nil {
			t.Error(err)
		}
	})
	return r
}

// helm runs a command of helm on the release with its values.
func (r *release) helm(t testing.TB, command string, flags ...string) string {
	t.Helper()
	text, err := json.Marshal(r.values.tree())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "values.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	args := append([]string{command, r.name, chart, "-n", r.namespace, "-f", file}, flags...)
	out, err := try(t.Context(), "", "helm", args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// upgrade changes values of the release and waits until they are what runs.
func (r *release) upgrade(t testing.TB, changed values) {
	t.Helper()
	maps.Copy(r.values, changed)
	r.helm(t, "upgrade", "--wait", "--timeout", waitTimeout)
}

// full is what the names of the objects begin with.
func (r *release) full() string {
	if strings.Contains(r.name, "certctl") {
		return r.name
	}
	return r.name + "-certctl"
}

func (r *release) host() string { return r.full() + "-server." + r.namespace + ".svc" }

// transport reaches the server's Service as a pod would; the node has no DNS of
// the cluster.
func (r *release) transport(t testing.TB) *http.Transport {
	t.Helper()
	address := kubectl(t, "get", "service", "-n", r.namespace, r.full()+"-server", "-o", "jsonpath={.spec.clusterIP}")
	return &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: r.authority.pool(), ServerName: r.host(), MinVersion: tls.VersionTLS12},
		DialContext: func(ctx context.Context, network, to string) (net.Conn, error) {
			_, port, err := net.SplitHostPort(to)
			if err != nil {
				return nil, err
			}
			return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, network, net.JoinHostPort(address, port))
		},
	}
}

// api calls the server with the admin key.
func (r *release) api(t testing.TB) *client.Client {
	t.Helper()
	c, err := client.New(client.Options{URL: r.url(), APIKey: secret.New(adminKey), Transport: r.transport(t)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (r *release) url() string { return "https://" + r.host() + ":8443" }

// online waits until an agent is online and gives it.
func (r *release) online(t testing.TB, api *client.Client, name string) client.Agent {
	t.Helper()
	var agent client.Agent
	eventually(t, time.Minute, func(ctx context.Context) (err error) {
		if agent, err = api.Agent(ctx, name); err != nil {
			return err
		}
		if agent.Status != "online" {
			return fmt.Errorf("agent %s is %s", name, agent.Status)
		}
		return nil
	})
	return agent
}
