package targets_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/targets"
	"github.com/certctl-io/certctl/internal/targets/targetstest"
)

// obstruct puts a directory that cannot be removed by a plain remove where the
// engine wants to write a file, and gives the way to take it away.
func obstruct(t testing.TB, path string) (clear func()) {
	t.Helper()
	if err := os.MkdirAll(path+"/full", 0o755); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.RemoveAll(path); err != nil {
			t.Error(err)
		}
	}
}

func TestFailureAtEachStepPutsTheOldSetBack(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		spoil     func(t *testing.T, h *host, job *targets.Job, engine *targets.Engine)
		steps     string
		reason    string
		retryable bool
		reloads   int
	}{
		"write": {
			spoil: func(t *testing.T, h *host, _ *targets.Job, engine *targets.Engine) {
				engine.OnReached(func(point string) {
					if point == "write" {
						obstruct(t, targets.TempPath("tgt_1", h.path("tls/key.pem")))
					}
					if point == "rollback.restore" {
						_ = os.RemoveAll(targets.TempPath("tgt_1", h.path("tls/key.pem")))
					}
				})
			},
			steps:  "prepare observe backup write! rollback.restore rollback.verify rollback.finish",
			reason: "key.pem",
		},
		"validate": {
			spoil:  func(t *testing.T, h *host, _ *targets.Job, _ *targets.Engine) { h.spoil(t, "no-check") },
			steps:  "prepare observe backup write validate! rollback.restore rollback.verify rollback.finish",
			reason: "the configuration is broken",
		},
		"reload, once": {
			spoil: func(t *testing.T, h *host, _ *targets.Job, engine *targets.Engine) {
				h.spoil(t, "no-reload")
				engine.OnReached(func(point string) {
					if point == "rollback.reload" {
						h.repair(t, "no-reload")
					}
				})
			},
			steps:     "prepare observe backup write validate reload! rollback.restore rollback.validate rollback.reload rollback.verify rollback.finish",
			reason:    "in no mood",
			retryable: true,
			reloads:   2,
		},
		"reload, always": {
			spoil:     func(t *testing.T, h *host, _ *targets.Job, _ *targets.Engine) { h.spoil(t, "no-reload") },
			steps:     "prepare observe backup write validate reload! rollback.restore rollback.validate rollback.reload! rollback.verify rollback.finish",
			reason:    "in no mood",
			retryable: true,
			reloads:   2,
		},
		"verify": {
			spoil: func(t *testing.T, h *host, job *targets.Job, _ *targets.Engine) {
				h.spoil(t, "deaf")
				job.Plan.Probe.Timeout = 800 * time.Millisecond
			},
			steps:     "prepare observe backup write validate reload verify! rollback.restore rollback.validate rollback.reload rollback.verify rollback.finish",
			reason:    "still serves certificate",
			retryable: true,
			reloads:   2,
		},
		"finish": {
			spoil: func(t *testing.T, h *host, _ *targets.Job, engine *targets.Engine) {
				var clear func()
				engine.OnReached(func(point string) {
					switch point {
					case "finish":
						clear = obstruct(t, h.path("state/targets/tgt_1/journal.json.tmp"))
					case "rollback.validate":
						clear()
					}
				})
			},
			steps:   "prepare observe backup write validate reload verify finish! rollback.restore rollback.validate rollback.reload rollback.verify rollback.finish",
			reason:  "journal",
			reloads: 2,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			first, next := h.issue(t), h.issue(t)
			h.place(t, first)
			engine, job := h.engine(t), h.job(t, "dep_1", next)
			test.spoil(t, h, &job, engine)
			report := engine.Deploy(t.Context(), job)
			targetstest.WantOutcome(t, report, targets.OutcomeRolledBack)
			h.wantServed(t, first)
			wantNoSecret(t, report, next)
			wantNoSecret(t, report, first)
			if got := stepNames(report); got != test.steps {
				t.Errorf("steps\n%s, want\n%s", got, test.steps)
			}
			if !strings.Contains(report.Reason, test.reason) || report.Retryable != test.retryable || h.times("reloads") != test.reloads {
				t.Errorf("retryable %v, %d reloads, reason %s", report.Retryable, h.times("reloads"), report.Reason)
			}
			if report.Served != targetstest.Fingerprint(first) {
				t.Errorf("the report says that %s is served", report.Served)
			}
		})
	}
}

func TestFailureBeforeAnythingIsWrittenChangesNothing(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	first := h.issue(t)
	h.place(t, first)
	engine := h.engine(t)
	engine.OnReached(func(point string) {
		if point == "backup" {
			obstruct(t, h.path("state/targets/tgt_1/journal.json.tmp"))
		}
	})
	report := engine.Deploy(t.Context(), h.job(t, "dep_1", h.issue(t)))
	targetstest.WantOutcome(t, report, targets.OutcomeFailed)
	if !strings.Contains(report.Reason, "nothing was changed") {
		t.Errorf("reason %s", report.Reason)
	}
	if got := targetstest.Served(h.address, serverName); got != targetstest.Fingerprint(first) || h.times("checks") != 0 {
		t.Errorf("%s is served after %d checks", got, h.times("checks"))
	}
}

func TestFailedFirstDeploymentRemovesItsFiles(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.spoil(t, "no-check")
	report := h.deploy(t, "dep_1", h.issue(t))
	targetstest.WantOutcome(t, report, targets.OutcomeRolledBack)
	h.wantNothingLeft(t)
	if !strings.Contains(report.Reason, "served no certificate before either") || report.Served != "" {
		t.Errorf("%+v", report)
	}
}

func TestServerThatKeepsTheNewCertificateIsNoRollback(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	first, next := h.issue(t), h.issue(t)
	h.place(t, first)
	engine, job := h.engine(t), h.job(t, "dep_1", next)
	job.Plan.Probe.Timeout = 800 * time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	engine.OnReached(func(point string) {
		if point == "finish" {
			h.spoil(t, "deaf")
			cancel()
		}
	})
	report := engine.Deploy(ctx, job)
	targetstest.WantOutcome(t, report, targets.OutcomeFailed)
	if report.Served != targetstest.Fingerprint(next) || !strings.Contains(report.Reason, "the previous files are back, but") {
		t.Errorf("%+v", report)
	}
	h.wantFiles(t, first)
}

func TestOldSetThatCannotBePutBackIsKeptForTheNextDeployment(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	first := h.issue(t)
	h.place(t, first)
	h.spoil(t, "no-check")
	engine, temp := h.engine(t), targets.TempPath("tgt_1", h.path("tls/cert.pem"))
	clear := func() {}
	engine.OnReached(func(point string) {
		if point == "validate" {
			clear = obstruct(t, temp)
		}
	})
	report := engine.Deploy(t.Context(), h.job(t, "dep_1", h.issue(t)))
	targetstest.WantOutcome(t, report, targets.OutcomeFailed)
	if !strings.Contains(report.Reason, "could not be put back") {
		t.Errorf("reason %s", report.Reason)
	}
	clear()
	targetstest.WantOutcome(t, h.deploy(t, "dep_2", h.issue(t)), targets.OutcomeRolledBack)
	h.wantServed(t, first)
}

func TestWithoutProbeARollbackTrustsTheReload(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	first := h.issue(t)
	h.place(t, first)
	h.spoil(t, "no-reload")
	job := h.job(t, "dep_1", h.issue(t))
	job.Plan.Probe = nil
	report := h.engine(t).Deploy(t.Context(), job)
	targetstest.WantOutcome(t, report, targets.OutcomeFailed)
	if !strings.Contains(report.Reason, "did not load them") {
		t.Errorf("reason %s", report.Reason)
	}
	h.wantServed(t, first)
}

func TestEndOfTheContextPutsTheOldSetBack(t *testing.T) {
	t.Parallel()
	cause := errors.New("the agent is stopping")
	for _, point := range []string{"observe", "copied", "journal open", "write", "staged", "renamed", "validate", "reload", "reload noted", "verify", "finish"} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			first := h.issue(t)
			h.place(t, first)
			ctx, cancel := context.WithCancelCause(t.Context())
			engine := h.engine(t)
			engine.OnReached(func(reached string) {
				if reached == point {
					cancel(cause)
				}
			})
			report := engine.Deploy(ctx, h.job(t, "dep_1", h.issue(t)))
			if report.Outcome == targets.OutcomeDeployed || !report.Retryable || !strings.Contains(report.Reason, cause.Error()) {
				t.Errorf("%s, retryable %v: %s", report.Outcome, report.Retryable, report.Reason)
			}
			h.wantServed(t, first)
		})
	}
}

func TestCommandInProgressEndsWithTheContext(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	first := h.issue(t)
	h.place(t, first)
	targetstest.WriteFile(t, h.path("run/validate"), ": > \"$(dirname \"$0\")/started\"\nexec sleep 60\n", 0o644)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer cancel()
		for ctx.Err() == nil {
			if _, err := os.Stat(h.path("run/started")); err == nil {
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	started := time.Now()
	report := h.engine(t).Deploy(ctx, h.job(t, "dep_1", h.issue(t)))
	targetstest.WantOutcome(t, report, targets.OutcomeRolledBack)
	if took := time.Since(started); took > 20*time.Second || !strings.Contains(report.Reason, "was stopped") {
		t.Errorf("after %v: %s", took, report.Reason)
	}
	h.wantServed(t, first)
}

func TestFilesThatTheNextDeploymentDoesNotWriteArePutBackToo(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.place(t, h.issue(t))
	extra := targetstest.WriteFile(t, h.path("extra.pem"), "old", 0o644)
	job := h.job(t, "dep_1", h.issue(t))
	job.Plan.Files = append(job.Plan.Files, targets.File{Path: extra, Data: []byte("new")})
	h.spoil(t, "no-check")
	engine, clear := h.engine(t), func() {}
	engine.OnReached(func(point string) {
		if point == "validate" {
			clear = obstruct(t, targets.TempPath("tgt_1", extra))
		}
	})
	targetstest.WantOutcome(t, engine.Deploy(t.Context(), job), targets.OutcomeFailed)
	if got := targetstest.ReadFile(t, extra); got != "new" {
		t.Fatalf("the file holds %q already", got)
	}
	clear()
	h.repair(t, "no-check")
	next := h.issue(t)
	targetstest.WantOutcome(t, h.deploy(t, "dep_2", next), targets.OutcomeDeployed)
	h.wantServed(t, next)
	if got := targetstest.ReadFile(t, extra); got != "old" {
		t.Errorf("the file holds %q", got)
	}
}
