package app_test

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/agent"
	"github.com/certctl-io/certctl/internal/app"
	"github.com/certctl-io/certctl/internal/client"
	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/targets/kinds"
	"github.com/certctl-io/certctl/internal/testkit"
)

// world is a server and an agent in this process, on one clock that the test
// moves. Jobs and polls wait in real time.
type world struct {
	t     *testing.T
	clock *testkit.Clock
	api   *client.Client
	state string // directory of the agent
	dir   string // of the files it deploys
	leave func() // ends the agent that runs
}

func newRenewalWorld(t *testing.T, engine db.Engine) *world {
	t.Helper()
	w := &world{t: t, clock: testkit.NewClock(time.Now()), state: t.TempDir(), dir: t.TempDir()}
	more := []string{}
	if engine == db.Postgres {
		more = append(more, "CERTCTL_DATABASE_URL="+testkit.PostgresURL(t))
	}
	ctx, cancel := context.WithCancel(context.Background())
	o := options(settings(t, t.TempDir(), more...))
	o.Now = w.clock.Now
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
	w.api = caller(t, a, a.FirstKey())
	token, err := w.api.CreateEnrolmentToken(t.Context(), client.EnrolmentTokenSpec{MaxUses: 1})
	if err != nil {
		t.Fatal(err)
	}
	_, err = agent.Enroll(t.Context(), agent.Enrolment{
		StateDir: w.state, Server: "https://" + a.Address(), Token: token.Token, CASHA256: a.CASHA256(), Name: "web-1", Now: w.clock.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	w.come()
	t.Cleanup(func() { w.leave() })
	return w
}

// come runs the agent until it is told to leave.
func (w *world) come() {
	w.t.Helper()
	a, err := agent.New(agent.Config{
		StateDir: w.state, Kinds: kinds.All(), Now: w.clock.Now, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	w.leave = func() {
		w.leave = func() {}
		cancel()
		if err := <-ended; err != nil {
			w.t.Errorf("the agent ended with %v", err)
		}
	}
}

func (w *world) issue() client.Certificate {
	w.t.Helper()
	_, err := w.api.CreateTarget(w.t.Context(), client.TargetSpec{Name: "www", Agent: "web-1", Kind: "file", Settings: map[string]any{
		"fullchain": filepath.Join(w.dir, "www.pem"), "key": filepath.Join(w.dir, "www.key"),
	}})
	if err != nil {
		w.t.Fatal(err)
	}
	_, err = w.api.CreateCertificate(w.t.Context(), client.CertificateSpec{Name: "www", Names: []string{"www.example.test"}, Lifetime: "1h", Targets: []string{"www"}})
	if err != nil {
		w.t.Fatal(err)
	}
	w.await("active")
	return w.certificate()
}

func (w *world) certificate() client.Certificate {
	w.t.Helper()
	c, err := w.api.Certificate(w.t.Context(), "www")
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

func (w *world) await(status string) {
	w.t.Helper()
	testkit.Eventually(w.t, "the certificate is "+status, func() bool { return w.certificate().Status == status })
}

// awaitAnother waits until a version is active that is not this one.
func (w *world) awaitAnother(serial string) client.Certificate {
	w.t.Helper()
	testkit.Eventually(w.t, "another version is active", func() bool {
		c := w.certificate()
		return c.Serial != serial && c.Status == "active"
	})
	return w.certificate()
}

func (w *world) versions() []client.Version {
	w.t.Helper()
	var all []client.Version
	for v, err := range w.api.Versions(w.t.Context(), "www") {
		if err != nil {
			w.t.Fatal(err)
		}
		all = append(all, v)
	}
	return all
}

func eachEngine(t *testing.T, test func(t *testing.T, engine db.Engine)) {
	t.Helper()
	for _, engine := range []db.Engine{db.SQLite, db.Postgres} {
		t.Run(string(engine), func(t *testing.T) {
			t.Parallel()
			test(t, engine)
		})
	}
}

func TestACertificateIsRenewedByTheClock(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine db.Engine) {
		w := newRenewalWorld(t, engine)
		c := w.issue()
		for round := 2; round <= 3; round++ {
			w.clock.Advance(c.RenewAt.Sub(w.clock.Now()) + time.Second)
			began := time.Now()
			next := w.awaitAnother(c.Serial)
			t.Logf("renewed within %s of its time", time.Since(began).Round(time.Millisecond))
			all := w.versions()
			if len(all) != round || all[0].State != "active" || all[0].Serial != next.Serial {
				t.Fatalf("in round %d the versions are %+v", round, all)
			}
			for _, v := range all[1:] {
				if v.State != "superseded" || v.SupersededAt == nil {
					t.Errorf("the version before is %s", v.State)
				}
			}
			if !next.NotAfter.After(*c.NotAfter) || !next.RenewAt.After(w.clock.Now()) {
				t.Errorf("the new version ends at %s and is renewed at %s", next.NotAfter, next.RenewAt)
			}
			written, err := os.ReadFile(filepath.Join(w.dir, "www.pem"))
			if active, readErr := w.api.Version(t.Context(), all[0].ID); err != nil || readErr != nil || string(written) != active.PEM {
				t.Errorf("the file holds another version (%v, %v)", err, readErr)
			}
			c = next
		}
	})
}

func TestARenewalWaitsForAnAgentThatIsAwayAndSaysSo(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine db.Engine) {
		w := newRenewalWorld(t, engine)
		c := w.issue()
		w.leave()
		w.clock.Advance(c.RenewAt.Sub(w.clock.Now()) + c.NotAfter.Sub(*c.RenewAt)/2)
		w.await("expiring")
		if reason := w.certificate().StatusReason; !strings.Contains(reason, "web-1") || !strings.Contains(reason, "should have been replaced") {
			t.Errorf("it is expiring because: %s", reason)
		}
		w.clock.Advance(c.NotAfter.Sub(w.clock.Now()) + time.Second)
		w.await("expired")
		if reason := w.certificate().StatusReason; !strings.Contains(reason, "web-1") || !strings.Contains(reason, "expired at") {
			t.Errorf("it is expired because: %s", reason)
		}
		w.come()
		w.awaitAnother(c.Serial)
		orders := 0
		for o, err := range w.api.Orders(t.Context(), client.OrderFilter{Certificate: "www"}) {
			if err != nil || o.State != "done" {
				t.Errorf("order %s is %s: %v", o.ID, o.State, err)
			}
			orders++
		}
		if orders != 2 || len(w.versions()) != 2 {
			t.Errorf("%d orders and %d versions for one renewal", orders, len(w.versions()))
		}
	})
}
