package deployment

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/inventory"
	"github.com/certctl-io/certctl/internal/targets"
)

func TestStatesMoveOnlyAsTheTableSays(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	for _, from := range States {
		for _, to := range States {
			next := now.Add(time.Minute)
			d := Deployment{ID: "dep_1", State: from, NextTryAt: &next}
			err := d.move(to, "because", now)
			if allowed := slices.Contains(moves[from], to); allowed != (err == nil) {
				t.Errorf("%s to %s: %v", from, to, err)
				continue
			}
			if err != nil {
				if d.State != from {
					t.Errorf("%s to %s: a refused move changed the state to %s", from, to, d.State)
				}
				continue
			}
			if d.State != to || d.StateReason != "because" || d.NextTryAt != nil || (d.FinishedAt == nil) != d.Open() {
				t.Errorf("%s to %s: %+v", from, to, d)
			}
		}
	}
	for _, final := range []State{Done, Cancelled} {
		if len(moves[final]) > 0 {
			t.Errorf("%s is not final", final)
		}
	}
}

func TestPausesGrowAndEnd(t *testing.T) {
	t.Parallel()
	for attempt, want := range map[int]time.Duration{1: 30 * time.Second, 2: 2 * time.Minute, 3: 8 * time.Minute} {
		shortest, again := pauseAfter(attempt, 0)
		longest, _ := pauseAfter(attempt, 1)
		if !again || shortest != want || longest != want+want/5 {
			t.Errorf("attempt %d: %s to %s, %v", attempt, shortest, longest, again)
		}
	}
	for _, attempt := range []int{0, 4, 100} {
		if pause, again := pauseAfter(attempt, 1); again || pause != 0 {
			t.Errorf("attempt %d is followed by another after %s", attempt, pause)
		}
	}
}

func TestTheLastDeploymentOfEachTargetCountsForItsOrder(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		results      []result
		open, failed int
		reason       string
	}{
		"none":              {},
		"all done":          {results: []result{{"t1", "a", Done, ""}, {"t2", "b", Done, ""}}},
		"open":              {results: []result{{"t1", "a", Done, ""}, {"t2", "b", Running, ""}, {"t3", "c", Pending, ""}}, open: 2},
		"failed":            {results: []result{{"t1", "a", Done, ""}, {"t2", "b", Failed, "no"}, {"t3", "c", Failed, "never"}}, failed: 2, reason: "target b: no"},
		"cancelled":         {results: []result{{"t1", "a", Cancelled, "not wanted"}}, failed: 1, reason: "target a: not wanted"},
		"superseded, done":  {results: []result{{"t1", "a", Cancelled, "superseded"}, {"t1", "a", Done, ""}}},
		"failed, then open": {results: []result{{"t1", "a", Failed, "no"}, {"t1", "a", Running, ""}}, open: 1},
	} {
		open, failed, reason := outcome(test.results)
		if open != test.open || failed != test.failed || reason != test.reason {
			t.Errorf("%s: %d open, %d failed, %q", name, open, failed, reason)
		}
	}
}

func TestOnlyAnOlderDeploymentGivesWay(t *testing.T) {
	t.Parallel()
	v := inventory.Version{ID: "ver_5", CertificateID: "crt_1"}
	for name, test := range map[string]struct {
		open    Deployment
		restart bool
		stays   bool
	}{
		"older version":                     {open: Deployment{CertificateID: "crt_1", VersionID: "ver_4", State: Pending}},
		"newer version":                     {open: Deployment{CertificateID: "crt_1", VersionID: "ver_6", State: Running}, stays: true},
		"newer version of another":          {open: Deployment{CertificateID: "crt_2", VersionID: "ver_6", State: Running}},
		"same version":                      {open: Deployment{CertificateID: "crt_1", VersionID: "ver_5", State: Running}, stays: true},
		"same version, settings changed":    {open: Deployment{CertificateID: "crt_1", VersionID: "ver_5", State: Running}, restart: true},
		"not delivered yet, but changed":    {open: Deployment{CertificateID: "crt_1", VersionID: "ver_5", State: Pending}, restart: true, stays: true},
		"newer version, settings no matter": {open: Deployment{CertificateID: "crt_1", VersionID: "ver_6", State: Running}, restart: true, stays: true},
	} {
		if got := test.open.stays(v, wish{restart: test.restart}); got != test.stays {
			t.Errorf("%s: stays %v", name, got)
		}
	}
}

func TestReportsAreBounded(t *testing.T) {
	t.Parallel()
	r := targets.Report{Reason: "a\x00b\x1b[31m" + strings.Repeat("x", 1<<20), Served: strings.Repeat("f", 1000)}
	for range 1000 {
		r.Steps = append(r.Steps, targets.Step{Name: strings.Repeat("n", 1000), Output: "ok\n\tfine\x00" + strings.Repeat("é", 1<<16)})
	}
	got := bounded(r)
	if len(got.Reason) > maxReason+3 || strings.ContainsAny(got.Reason, "\x00\x1b") || len(got.Served) > maxFingerprint+3 {
		t.Errorf("reason of %d bytes, %d of served", len(got.Reason), len(got.Served))
	}
	if len(got.Steps) != maxSteps {
		t.Fatalf("%d steps", len(got.Steps))
	}
	step := got.Steps[0]
	if len(step.Output) > maxStepOutput+3 || !strings.HasPrefix(step.Output, "ok\n\tfine") || strings.Contains(step.Output, "\x00") || len(step.Name) > maxStepName+3 {
		t.Errorf("step %.20q with %d bytes of output %.20q", step.Name, len(step.Output), step.Output)
	}
	if !strings.Contains(r.Steps[0].Output, "\x00") {
		t.Error("the caller's report was changed")
	}
}
