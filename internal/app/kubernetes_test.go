package app_test

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/agent"
	"github.com/certctl-io/certctl/internal/app"
	"github.com/certctl-io/certctl/internal/client"
	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/kube"
	"github.com/certctl-io/certctl/internal/kube/kubetest"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/secret"
	"github.com/certctl-io/certctl/internal/targets/kinds"
	"github.com/certctl-io/certctl/internal/testkit"
)

const givenToken = "an-enrolment-token-of-the-operator"

// inCluster starts a server that has a cluster's tokens reviewed.
func inCluster(t *testing.T, cluster *kubetest.Server, more ...string) (*app.App, *client.Client) {
	t.Helper()
	o := options(settings(t, t.TempDir(), append(more, "CERTCTL_BOOTSTRAP_ENROLMENT_TOKEN="+givenToken, "CERTCTL_KUBERNETES_AUDIENCE=tests")...))
	to := cluster.Config()
	o.Cluster = &to
	ctx, cancel := context.WithCancel(context.Background())
	a, err := app.Start(ctx, o)
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		if err := a.Wait(); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	return a, caller(t, a, a.FirstKey())
}

// runPod runs an agent with a state directory of its own, until it is ended.
func runPod(t *testing.T, a *app.App, token string) (end func()) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	state := t.TempDir()
	_, err := agent.Enroll(t.Context(), agent.Enrolment{
		StateDir: state, Server: "https://" + a.Address(), CASHA256: a.CASHA256(), Name: "worker-1",
		Token: secret.New(givenToken), KubernetesTokenFile: file, Now: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	running, err := agent.New(agent.Config{StateDir: state, Kinds: kinds.All(), Now: time.Now, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- running.Run(ctx) }()
	end = func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the agent ended with %v", err)
		}
		ended <- nil
	}
	t.Cleanup(end)
	return end
}

func TestAPodThatIsReplacedServesItsCertificatesWithNewKeys(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine db.Engine) {
		more := []string{}
		if engine == db.Postgres {
			more = append(more, "CERTCTL_DATABASE_URL="+testkit.PostgresURL(t))
		}
		cluster := kubetest.New(t, "tests")
		a, api := inCluster(t, cluster, more...)
		pod := kube.Pod{Namespace: "certctl", ServiceAccount: "certctl", Name: "agent-1", Node: "worker-1"}
		end := runPod(t, a, cluster.Token(pod))
		dir := t.TempDir()
		_, err := api.CreateTarget(t.Context(), client.TargetSpec{Name: "www", Agent: "worker-1", Kind: "file", Settings: map[string]any{
			"fullchain": filepath.Join(dir, "www.pem"), "key": filepath.Join(dir, "www.key"),
		}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = api.CreateCertificate(t.Context(), client.CertificateSpec{Name: "www", Names: []string{"www.example.test"}, Targets: []string{"www"}})
		if err != nil {
			t.Fatal(err)
		}
		serial := func(other string) (serial string) {
			testkit.Eventually(t, "a certificate is in use", func() bool {
				c, err := api.Certificate(t.Context(), "www")
				serial = c.Serial
				return err == nil && c.Status == "active" && c.Serial != other
			})
			return serial
		}
		first := serial("")
		before, err := api.Agent(t.Context(), "worker-1")
		if err != nil || before.KubernetesIdentity != "certctl/certctl/node/worker-1" {
			t.Fatalf("the agent is %+v, %v", before, err)
		}

		end()
		cluster.Ended(pod)
		pod.Name = "agent-2"
		runPod(t, a, cluster.Token(pod))
		serial(first)
		after, err := api.Agent(t.Context(), "worker-1")
		if err != nil || after.ID != before.ID {
			t.Errorf("the agent is %s and was %s (%v)", after.ID, before.ID, err)
		}
		for o, err := range api.Orders(t.Context(), client.OrderFilter{Certificate: "www"}) {
			if err != nil || o.State != "done" {
				t.Errorf("order %s (%s) is %s: %v", o.ID, o.Reason, o.State, err)
			}
		}
	})
}

func TestAServerThatIsToAskKubernetesNeedsACluster(t *testing.T) {
	t.Parallel()
	if _, found := kube.InCluster(os.Getenv, kube.CredentialsDir); found {
		t.Skip("this is a pod")
	}
	_, err := app.Start(t.Context(), options(settings(t, t.TempDir(), "CERTCTL_KUBERNETES_TOKEN_REVIEW=on")))
	if found, ok := problem.As(err); !ok || found.Field != "kubernetes_token_review" {
		t.Errorf("on without a cluster: %v", err)
	}
}
