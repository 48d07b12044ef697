package targets_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/targets"
	"github.com/certctl-io/certctl/internal/targets/targetstest"
)

// The process that deploys and ends at a point is this test binary, started
// with a crash in its environment.
const crashVariable = "CERTCTL_TEST_CRASH"

type crash struct {
	Dir, Address, Deployment, Fingerprint, Cert, Key string
	At                                               int // the how manyeth point, from 1
}

const (
	exitCrashed = 42
	exitEnded   = 43 // the deployment came to its end before the point
)

func TestMain(m *testing.M) {
	if text, ok := os.LookupEnv(crashVariable); ok {
		os.Exit(crashingDeployment(text))
	}
	// The tests wait for servers most of the time, not for a processor.
	flag.Parse()
	if err := flag.Set("test.parallel", "12"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

func crashingDeployment(text string) int {
	var c crash
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return 1
	}
	h := &host{dir: c.Dir, address: c.Address}
	engine, err := targets.NewEngine(h.path("state"), time.Now)
	if err != nil {
		return 1
	}
	points := 0
	engine.OnReached(func(point string) {
		if points++; points == c.At {
			fmt.Print(point)
			os.Exit(exitCrashed)
		}
	})
	engine.Deploy(context.Background(), targets.Job{
		DeploymentID: c.Deployment, TargetID: "tgt_1", Fingerprint: c.Fingerprint, Plan: h.plan(c.Cert, c.Key),
	})
	return exitEnded
}

// crashAt deploys in another process that ends at a point. It gives the name of
// the point, or "" when there are not so many.
func (h *host) crashAt(t testing.TB, at int, id string, b pki.Bundle) (point string) {
	t.Helper()
	cert, key := contents(t, b)
	text, err := json.Marshal(crash{
		Dir: h.dir, Address: h.address, Deployment: id, Fingerprint: targetstest.Fingerprint(b), Cert: cert, Key: key, At: at,
	})
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), crashVariable+"="+string(text))
	output, err := cmd.Output()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.ExitCode() == exitCrashed:
		return string(output)
	case errors.As(err, &exit) && exit.ExitCode() == exitEnded:
		return ""
	}
	t.Fatalf("the process that was to crash ended with %v", err)
	return ""
}

// atEachPoint runs a story for every point of a deployment at which the process
// can end, each on a host of its own that serves first.
func atEachPoint(t *testing.T, atLeast int, prepare func(t *testing.T, h *host), story func(t *testing.T, h *host, first, next pki.Bundle)) {
	t.Parallel()
	points := 0
	for at := 1; at < 100; at++ {
		h := newHost(t)
		first, next := h.issue(t), h.issue(t)
		h.place(t, first)
		prepare(t, h)
		point := h.crashAt(t, at, "dep_1", next)
		if point == "" {
			break
		}
		points++
		t.Run(fmt.Sprintf("%d %s", at, point), func(t *testing.T) {
			t.Parallel()
			story(t, h, first, next)
		})
	}
	if points < atLeast {
		t.Errorf("the process could end at %d points only", points)
	}
}

func nothing(*testing.T, *host) {}

func breakConfiguration(t *testing.T, h *host) { h.spoil(t, "no-check") }

func failAfterTheReload(t *testing.T, h *host) {
	// The first reload serves the new certificate and says that it failed.
	targetstest.WriteFile(t, h.path("run/reload"), reloadScript+"[ $(wc -l < reloads) -gt 1 ] || exit 5\n", 0o644)
}

func TestKilledDeploymentIsCarriedOnWith(t *testing.T) {
	atEachPoint(t, 16, nothing, func(t *testing.T, h *host, _, next pki.Bundle) {
		targetstest.WantOutcome(t, h.deploy(t, "dep_1", next), targets.OutcomeDeployed)
		h.wantServed(t, next)
	})
}

func TestAfterAKilledDeploymentTheNextOneStillKnowsTheOldSet(t *testing.T) {
	atEachPoint(t, 16, nothing, func(t *testing.T, h *host, first, next pki.Bundle) {
		proven := h.phase(t) == "closed"
		h.spoil(t, "no-check")
		engine := h.engine(t)
		engine.OnReached(func(point string) {
			if point == "rollback.restore" {
				h.repair(t, "no-check")
			}
		})
		targetstest.WantOutcome(t, engine.Deploy(t.Context(), h.job(t, "dep_2", h.issue(t))), targets.OutcomeRolledBack)
		if proven {
			first = next
		}
		h.wantServed(t, first)
	})
}

func TestAfterAKilledDeploymentAnotherCanSucceed(t *testing.T) {
	atEachPoint(t, 16, nothing, func(t *testing.T, h *host, _, _ pki.Bundle) {
		another := h.issue(t)
		targetstest.WantOutcome(t, h.deploy(t, "dep_2", another), targets.OutcomeDeployed)
		h.wantServed(t, another)
	})
}

func TestKilledRollbackIsCarriedOnWith(t *testing.T) {
	t.Run("before a reload", func(t *testing.T) {
		atEachPoint(t, 14, breakConfiguration, func(t *testing.T, h *host, first, next pki.Bundle) {
			if h.phase(t) == "restoring" {
				h.repair(t, "no-check") // too late for this deployment
			}
			report := h.deploy(t, "dep_1", next)
			targetstest.WantOutcome(t, report, targets.OutcomeRolledBack)
			h.wantServed(t, first)
			if !strings.Contains(report.Reason, "the configuration is broken") {
				t.Errorf("the reason of the process that was killed is lost: %s", report.Reason)
			}
		})
	})
	t.Run("after a reload", func(t *testing.T) {
		atEachPoint(t, 18, failAfterTheReload, func(t *testing.T, h *host, first, next pki.Bundle) {
			report := h.deploy(t, "dep_1", next)
			switch report.Outcome {
			case targets.OutcomeRolledBack:
				h.wantServed(t, first)
			case targets.OutcomeDeployed: // the reload had failed before the end, and does so once
				h.wantServed(t, next)
			default:
				t.Errorf("%s: %s", report.Outcome, report.Reason)
			}
		})
	})
}

// phase gives how far the last deployment is by the journal, "" without one.
func (h *host) phase(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile(h.path("state/targets/tgt_1/journal.json"))
	if errors.Is(err, os.ErrNotExist) {
		return ""
	}
	var journal struct{ Phase string }
	if err != nil || json.Unmarshal(text, &journal) != nil {
		t.Fatalf("the journal cannot be read: %v", err)
	}
	return journal.Phase
}
