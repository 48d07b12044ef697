package inventory

import (
	"fmt"
	"strings"
	"time"

	"github.com/certctl-io/certctl/internal/duration"
	"github.com/certctl-io/certctl/internal/problem"
)

// Status is how a certificate stands. It follows from facts, see Facts.Status.
type Status string

// The statuses.
const (
	StatusUnassigned Status = "unassigned" // it has no targets, so nobody holds a key
	StatusPending    Status = "pending"    // a key holder has no active version yet
	StatusActive     Status = "active"
	StatusExpiring   Status = "expiring" // its renewal is late, or its end is near
	StatusExpired    Status = "expired"
	StatusRevoked    Status = "revoked"
	StatusFailing    Status = "failing" // the last order or deployment failed
	StatusArchived   Status = "archived"
)

// Statuses are all statuses.
var Statuses = []Status{
	StatusUnassigned, StatusPending, StatusActive, StatusExpiring, StatusExpired, StatusRevoked, StatusFailing, StatusArchived,
}

// ParseStatus reads the name of a status.
func ParseStatus(name string) (Status, error) {
	for _, s := range Statuses {
		if string(s) == name {
			return s, nil
		}
	}
	return "", problem.Invalid("status", "%q is not a status", name).Hint("use one of %s", joined(Statuses))
}

// Facts are what the status of a certificate follows from.
type Facts struct {
	Archived bool
	Holders  []HolderFacts
	Failed   []Failure // targets whose last deployment failed
}

// HolderFacts are the facts about one key holder.
type HolderFacts struct {
	Agent   string   // its name
	Gone    bool     // the agent was revoked
	Version *Version // the active version, nil when there is none
	Failure string   // why the last order failed; empty when it did not
}

// Failure is a target that does not serve what it should.
type Failure struct {
	Target string `db:"target"`
	Reason string `db:"reason"`
}

// Status derives the status of a certificate and says why. The worst fact of
// any key holder counts; the order of the cases is that of how bad they are.
// statusConditions says the same in SQL.
func (f Facts) Status(now time.Time) (Status, string) {
	switch {
	case f.Archived:
		return StatusArchived, "It was archived and is not renewed any more."
	case len(f.Holders) == 0:
		return StatusUnassigned, "It has no targets; assign one to have it issued and deployed."
	}
	for _, rule := range []func(HolderFacts, time.Time) (Status, string){revoked, expired, failing} {
		for _, h := range f.Holders {
			if status, reason := rule(h, now); status != "" {
				return status, reason
			}
		}
	}
	if len(f.Failed) > 0 {
		return StatusFailing, fmt.Sprintf("The last deployment to target %s failed: %s", f.Failed[0].Target, f.Failed[0].Reason)
	}
	for _, rule := range []func(HolderFacts, time.Time) (Status, string){pending, expiring} {
		for _, h := range f.Holders {
			if status, reason := rule(h, now); status != "" {
				return status, reason
			}
		}
	}
	return StatusActive, ""
}

func revoked(h HolderFacts, _ time.Time) (Status, string) {
	if h.Version == nil || h.Version.RevokedAt == nil {
		return "", ""
	}
	reason := Unspecified
	if h.Version.RevocationReason != nil {
		reason = *h.Version.RevocationReason
	}
	return StatusRevoked, fmt.Sprintf("The version of agent %s was revoked at %s: %s.", h.Agent, when(*h.Version.RevokedAt), reason)
}

func expired(h HolderFacts, now time.Time) (Status, string) {
	if h.Version == nil || now.Before(h.Version.NotAfter) {
		return "", ""
	}
	return StatusExpired, fmt.Sprintf("The version of agent %s expired at %s.", h.Agent, when(h.Version.NotAfter))
}

func failing(h HolderFacts, _ time.Time) (Status, string) {
	switch {
	case h.Gone:
		return StatusFailing, fmt.Sprintf("Agent %s was revoked; make its targets anew on another agent.", h.Agent)
	case h.Failure != "":
		return StatusFailing, fmt.Sprintf("The last order of agent %s failed: %s", h.Agent, h.Failure)
	}
	return "", ""
}

func pending(h HolderFacts, _ time.Time) (Status, string) {
	if h.Version != nil {
		return "", ""
	}
	return StatusPending, fmt.Sprintf("Agent %s does not serve a version yet.", h.Agent)
}

func expiring(h HolderFacts, now time.Time) (Status, string) {
	if now.Before(h.Version.ExpiringAt) {
		return "", ""
	}
	left := duration.Duration(h.Version.NotAfter.Sub(now).Truncate(time.Minute))
	return StatusExpiring, fmt.Sprintf("The version of agent %s expires in %s and should have been replaced from %s on.", h.Agent, left, when(h.Version.RenewAt))
}

func when(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func joined[T ~string](values []T) string {
	words := make([]string, len(values))
	for i, v := range values {
		words[i] = string(v)
	}
	return strings.Join(words, ", ")
}
