package e2e

import (
	"context"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl-io/certctl/internal/client"
	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/testkit"
	"github.com/certctl-io/certctl/test/lab"
)

// gate stands in front of nginx: it says when it is called to check or to
// reload, and waits there while it is shut.
const gate = `#!/bin/sh
case "$*" in
*-t*) at=validate ;;
*reload*) at=reload ;;
esac
: > "$GATE/at-$at"
while [ -e "$GATE/shut-$at" ]; do sleep 0.01; done
exec nginx "$@"
`

// site is one certificate on its way through one server, agent and nginx.
type site struct {
	t      *testing.T
	server *lab.Server
	agent  *lab.Agent
	nginx  *lab.Nginx
	api    *client.Client
	gates  string
	roots  *x509.CertPool
	orders int // how many were started
}

func newSite(t *testing.T, engine db.Engine, env ...string) *site {
	t.Helper()
	s := &site{t: t, gates: t.TempDir()}
	s.server, s.api = startServer(t, engine, env...)
	s.agent = startAgent(t, s.server, "web-1")
	s.nginx = startNginx(t, "www.example.test")
	script := filepath.Join(s.gates, "nginx")
	if err := os.WriteFile(script, fmt.Appendf(nil, "#!/bin/sh\nGATE=%s\n%s", s.gates, gate), 0o700); err != nil {
		t.Fatal(err)
	}
	settings := s.nginx.Settings()
	settings["binary"] = script
	_, err := s.api.CreateTarget(t.Context(), client.TargetSpec{Name: "site", Agent: "web-1", Kind: "nginx", Settings: settings})
	if err != nil {
		t.Fatal(err)
	}
	s.roots = roots(t, s.api)
	_, err = s.api.CreateCertificate(t.Context(), client.CertificateSpec{Name: "www", Names: []string{"www.example.test"}, Targets: []string{"site"}})
	if err != nil {
		t.Fatal(err)
	}
	s.orders = 1
	s.settle("the first order")
	return s
}

func (s *site) shut(step string) {
	s.t.Helper()
	_ = os.Remove(filepath.Join(s.gates, "at-"+step)) // from the deployment before
	if err := os.WriteFile(filepath.Join(s.gates, "shut-"+step), nil, 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) awaitGate(step string) {
	s.t.Helper()
	await(s.t, "the deployment to reach "+step, func(context.Context) error {
		_, err := os.Stat(filepath.Join(s.gates, "at-"+step))
		return err
	})
}

func (s *site) open(step string) {
	s.t.Helper()
	if err := os.Remove(filepath.Join(s.gates, "shut-"+step)); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) renew() {
	s.t.Helper()
	if _, err := s.api.Renew(s.t.Context(), "www"); err != nil {
		s.t.Fatal(err)
	}
	s.orders++
}

// state is that of the newest order.
func (s *site) state(ctx context.Context) (string, error) {
	for order, err := range s.api.Orders(ctx, client.OrderFilter{Certificate: "www"}) {
		return order.State, err
	}
	return "", nil
}

func (s *site) awaitState(want string) {
	s.t.Helper()
	await(s.t, "the order to be "+want, func(ctx context.Context) error {
		state, err := s.state(ctx)
		if err == nil && state != want {
			return fmt.Errorf("it is %s", state)
		}
		return err
	})
}

func (s *site) killServer() {
	s.t.Helper()
	s.server.Kill()
	if err := s.server.Restart(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) killAgent() {
	s.t.Helper()
	s.agent.Kill()
	if err := s.agent.Restart(); err != nil {
		s.t.Fatal(err)
	}
}

// settle waits for the end of the newest order and checks what must hold then,
// whatever was killed on the way.
func (s *site) settle(what string) {
	s.t.Helper()
	err := lab.Await(s.t.Context(), 90*time.Second, "everything to settle", func(ctx context.Context) error {
		state, err := s.state(ctx)
		if err == nil && state != "done" {
			return fmt.Errorf("the order is %s", state)
		}
		return err
	})
	if err != nil {
		story, _ := s.server.CLI(s.t.Context(), "describe", "certificate", "www")
		s.t.Fatalf("%s: %v\n%s", what, err, story)
	}
	ctx := s.t.Context()
	orders, versions, active := map[string]bool{}, 0, []client.Version{}
	for v, err := range s.api.Versions(ctx, "www") {
		if err != nil {
			s.t.Fatal(err)
		}
		versions++
		orders[v.OrderID] = true
		if v.State == "active" {
			active = append(active, v)
		}
	}
	if versions != s.orders || len(orders) != s.orders {
		s.t.Fatalf("%s: %d orders led to %d versions of %d orders", what, s.orders, versions, len(orders))
	}
	if len(active) != 1 {
		s.t.Fatalf("%s: %d active versions", what, len(active))
	}
	served, err := s.nginx.Verified(ctx, s.roots)
	if err != nil || served != active[0].Fingerprint {
		s.t.Fatalf("%s: nginx serves %s (%v), active is %s", what, served, err, active[0].Fingerprint)
	}
	for _, state := range []string{"pending", "running", "failed"} {
		for d, err := range s.api.Deployments(ctx, client.DeploymentFilter{Certificate: "www", State: state}) {
			s.t.Fatalf("%s: deployment %s is left %s (%v)", what, d.ID, state, err)
		}
	}
	c, err := s.api.Certificate(ctx, "www")
	if err != nil || c.Status != "active" {
		s.t.Fatalf("%s: the certificate is %s: %s (%v)", what, c.Status, c.StatusReason, err)
	}
}

// TestKillAtEachStep ends server or agent with SIGKILL in every state of an
// order and at every step of a deployment that can be held, and then at points
// of time all along its way.
func TestKillAtEachStep(t *testing.T) {
	t.Parallel()
	victims := map[string]func(*site){"server": (*site).killServer, "agent": (*site).killAgent}
	eachEngine(t, func(t *testing.T, engine db.Engine) {
		for victim, kill := range victims {
			t.Run(victim, func(t *testing.T) {
				t.Parallel()
				s := newSite(t, engine)

				s.pause()
				s.renew()
				s.awaitState("pending")
				kill(s)
				s.resume()
				s.settle("killed while the order was pending")

				for _, step := range []string{"validate", "reload"} {
					s.shut(step)
					s.renew()
					s.awaitGate(step)
					s.awaitState("issued")
					kill(s)
					s.open(step)
					s.settle("killed in " + step)
				}

				for delay := time.Duration(0); delay <= 240*time.Millisecond; delay += 20 * time.Millisecond {
					s.renew()
					time.Sleep(delay) // the point of time is what this test is about
					kill(s)
					s.settle(fmt.Sprintf("killed %s after the request", delay))
				}
			})
		}
	})
}

// TestKillWhileTheIssuerSigns holds the CA's row, without which nothing can be
// signed, so that the order stays in that state. SQLite has no such lock: there
// the points of time of TestKillAtEachStep have to meet it.
func TestKillWhileTheIssuerSigns(t *testing.T) {
	t.Parallel()
	url := testkit.PostgresURL(t)
	s := newSite(t, "", "CERTCTL_DATABASE_URL="+url)
	for victim, kill := range map[string]func(*site){"server": (*site).killServer, "agent": (*site).killAgent} {
		conn, err := pgx.Connect(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Exec(t.Context(), "BEGIN; SELECT id FROM local_ca FOR UPDATE"); err != nil {
			t.Fatal(err)
		}
		s.renew()
		s.awaitState("signing")
		kill(s)
		if err := conn.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.settle(victim + " killed while the issuer signs")
	}
}

// pause holds the agent where it is, as a host does that is out of memory.
func (s *site) pause() {
	s.t.Helper()
	if err := s.agent.Signal(syscall.SIGSTOP); err != nil {
		s.t.Fatal(err)
	}
}

// resume lets the agent go on; one that was killed meanwhile is another one.
func (s *site) resume() { _ = s.agent.Signal(syscall.SIGCONT) }
