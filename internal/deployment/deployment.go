// Package deployment owns targets, the places where certificates go, and
// deployments, each of which puts one version on one target.
//
//	              ┌──── tried again by itself ────┐
//	              ▼                               │
//	start ──► pending ─────── delivered ──────► running ──► done
//	            ▲ │                               │ │
//	  retried   │ ├───────► cancelled ◄───────────┘ │
//	by a person │ ▼                                 │
//	          failed ◄──────────────────────────────┘
//
// A target belongs to one agent and to at most one certificate. At most one of
// its deployments is open, pending or running: a newer one takes the place of
// an older, which is cancelled. The agent carries deployments of one target out
// one after the other, also one that was cancelled when it was under way.
//
// The deployments that an order starts prove its version: when none of them is
// open any more, the job Settled has issuance finish the order. Others (the
// settings changed, a person asked, a target was added later) belong to no
// order.
//
// Every transaction here that changes a deployment, or which certificate a
// target has, locks the certificate first, as all that changes something of a
// certificate does; then the target. That lock is what makes it safe to read a
// deployment and to write it back.
package deployment

import (
	"fmt"
	"slices"
	"time"

	"github.com/certctl-io/certctl/internal/targets"
)

// State is where a deployment stands.
type State string

// The states.
const (
	Pending   State = "pending" // waits for its agent, or for its next try
	Running   State = "running" // delivered to the agent
	Done      State = "done"    // in place, and served as far as the target can prove it
	Failed    State = "failed"
	Cancelled State = "cancelled"
)

// States are all states.
var States = []State{Pending, Running, Done, Failed, Cancelled}

// moves says which state may follow which.
var moves = map[State][]State{
	Pending: {Running, Failed, Cancelled},
	Running: {Pending, Done, Failed, Cancelled},
	Failed:  {Pending},
}

// Reason is why a deployment was started.
type Reason string

// The reasons.
const (
	Issued        Reason = "issued"         // its order issued the version
	TargetAdded   Reason = "target_added"   // the target had another version, or none
	TargetChanged Reason = "target_changed" // the settings of the target changed
	Requested     Reason = "requested"      // a person asked for it
)

// Deployment is putting one version on one target.
type Deployment struct {
	ID            string          `db:"id"`
	TargetID      string          `db:"target_id"`
	Target        string          `db:"target"` // the target's name
	AgentID       string          `db:"agent_id"`
	Agent         string          `db:"agent"` // the agent's name
	CertificateID string          `db:"certificate_id"`
	Certificate   string          `db:"certificate"` // the certificate's name
	VersionID     string          `db:"version_id"`
	OrderID       string          `db:"order_id"` // the order that it proves the version for; empty when there is none
	Reason        Reason          `db:"reason"`
	State         State           `db:"state"`
	StateReason   string          `db:"state_reason"`
	Attempts      int             `db:"attempts"` // since it was started, or retried by a person
	Report        *targets.Report `db:"-"`        // the last one that came
	NextTryAt     *time.Time      `db:"next_try_at"`
	CreatedAt     time.Time       `db:"created_at"`
	UpdatedAt     time.Time       `db:"updated_at"`
	FinishedAt    *time.Time      `db:"finished_at"`
}

// Open reports whether the deployment is still to be done.
func (d Deployment) Open() bool { return d.State == Pending || d.State == Running }

// move changes the state.
func (d *Deployment) move(to State, reason string, now time.Time) error {
	if !slices.Contains(moves[d.State], to) {
		return fmt.Errorf("deployment %s cannot go from %s to %s", d.ID, d.State, to)
	}
	d.State, d.StateReason, d.UpdatedAt = to, reason, now
	d.NextTryAt, d.FinishedAt = nil, nil
	if !d.Open() {
		d.FinishedAt = &now
	}
	return nil
}

// heard reports whether the report is the one that came last: an agent sends
// it again when it has not seen the answer.
func (d Deployment) heard(r targets.Report) bool {
	return d.Report != nil && d.Report.Started.Equal(r.Started) && d.Report.Finished.Equal(r.Finished) && d.Report.Outcome == r.Outcome
}

// pauses are how long it takes until a deployment is tried again by itself,
// after the first failure that can pass, the second, and so on.
var pauses = []time.Duration{30 * time.Second, 2 * time.Minute, 8 * time.Minute}

// pauseAfter gives the pause after a failed attempt, counted from one; none
// when the last attempt has been made. The jitter, from 0 to 1, keeps targets
// that failed together apart.
func pauseAfter(attempt int, jitter float64) (pause time.Duration, again bool) {
	if attempt < 1 || attempt > len(pauses) {
		return 0, false
	}
	pause = pauses[attempt-1]
	return pause + time.Duration(jitter*float64(pause)/5), true
}

// result is how one target of an order stands.
type result struct {
	TargetID    string `db:"target_id"`
	Target      string `db:"target"`
	State       State  `db:"state"`
	StateReason string `db:"state_reason"`
}

// outcome sums up the deployments of an order, given oldest first. The last one
// of each target counts; the reason is that of the first target that failed.
func outcome(results []result) (open, failed int, reason string) {
	last := map[string]result{}
	var order []string
	for _, r := range results {
		if _, known := last[r.TargetID]; !known {
			order = append(order, r.TargetID)
		}
		last[r.TargetID] = r
	}
	for _, targetID := range order {
		switch r := last[targetID]; r.State {
		case Pending, Running:
			open++
		case Failed, Cancelled:
			failed++
			if reason == "" {
				reason = fmt.Sprintf("target %s: %s", r.Target, r.StateReason)
			}
		}
	}
	return open, failed, reason
}
