// Package fleet owns the agents: how one joins, how it proves on each request
// who it is, what work waits for it, and whether it is there.
//
// An agent joins with an enrolment token, which an operator makes and which is
// good for a number of agents and a time. It brings the public half of an
// Ed25519 key of its own; the key is its identity from then on, and nobody can
// take over its name or its id with another key. The one exception is an agent
// that joined from a pod and lost its key with it: Kubernetes says that whoever
// asks runs as the same ServiceAccount, and the agent gets another key. Leaving
// is final: a revoked agent stays in the list for its history, and neither its
// key nor its pod comes in again.
//
//	enrolment token ──► never_seen ──first poll──► online ◄──► offline (silent for two minutes)
//	                         └──────────────┬─────────┴───────────┘
//	                                     revoked
//
// Work for an agent is a row of the task table, added in the transaction that
// makes it necessary. Agents fetch it by a long poll that waits on the
// database's wake-ups and not on the database. A delivered task is leased: it
// is delivered again when the agent stops naming it in its polls. Finishing a
// task removes it, and finishing it twice is harmless.
package fleet

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/id"
	"github.com/certctl-io/certctl/internal/problem"
)

// Agent is the process on a host that holds the private keys of its
// certificates and puts them on their targets.
type Agent struct {
	ID         string                     `db:"id"`
	Name       string                     `db:"name"`
	Revision   int                        `db:"revision"`
	PublicKey  []byte                     `db:"public_key"` // Ed25519
	Labels     db.JSON[map[string]string] `db:"labels"`
	Version    string                     `db:"version"`  // of its program, as of its last poll
	OS         string                     `db:"os"`       // operating system and architecture
	TokenID    string                     `db:"token_id"` // enrolment token it joined with
	CreatedAt  time.Time                  `db:"created_at"`
	UpdatedAt  time.Time                  `db:"updated_at"`
	LastSeenAt *time.Time                 `db:"last_seen_at"` // to about half a minute
	RevokedAt  *time.Time                 `db:"revoked_at"`

	KubernetesIdentity *string `db:"kubernetes_identity"` // see identity; nil when it did not join from a pod
}

// Status is what can be said about an agent's presence.
type Status string

// The statuses.
const (
	NeverSeen Status = "never_seen" // joined and not heard of since
	Online    Status = "online"
	Offline   Status = "offline" // silent for longer than OfflineAfter
	Revoked   Status = "revoked"
)

// Statuses lists all statuses.
func Statuses() []Status { return []Status{NeverSeen, Online, Offline, Revoked} }

const (
	// OfflineAfter is how long an agent may be silent: two polls that wait in
	// full, and a little.
	OfflineAfter = 2 * time.Minute

	// seenEvery bounds how often the moment an agent was last seen is written.
	seenEvery = 30 * time.Second
)

// Status derives the status of the agent.
func (a Agent) Status(now time.Time) Status {
	switch {
	case a.RevokedAt != nil:
		return Revoked
	case a.LastSeenAt == nil:
		return NeverSeen
	case a.LastSeenAt.After(now.Add(-OfflineAfter)):
		return Online
	default:
		return Offline
	}
}

// unseen reports whether what a poll told is worth a write: the agent was last
// seen a while ago, or runs something else now.
func (a Agent) unseen(version, os string, now time.Time) bool {
	return a.LastSeenAt == nil || !a.LastSeenAt.After(now.Add(-seenEvery)) || a.Version != version || a.OS != os
}

// admit refuses an agent that was revoked.
func (a Agent) admit() error {
	if a.RevokedAt == nil {
		return nil
	}
	return problem.Forbidden("the agent %s (%s) was revoked at %s", a.Name, a.ID, a.RevokedAt.Format(time.RFC3339)).
		Hint("enrol the host anew, with a new enrolment token")
}

// Bounds of what an agent says about itself.
const (
	maxName        = 253 // a host name's
	maxLabels      = 64
	maxLabelValue  = 253
	maxDescription = 200
	maxWords       = 100 // version, os
)

var (
	namePattern  = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$`)
	labelPattern = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?$`)
)

// checkName wants what a host could be called, and nothing that reads as an id.
func checkName(name string) *problem.Error {
	switch {
	case name == "":
		return problem.Invalid("name", "an agent needs a name").Hint("the host's name is a good one")
	case len(name) > maxName:
		return problem.Invalid("name", "it has %d characters, at most %d are allowed", len(name), maxName)
	case !namePattern.MatchString(name):
		return problem.Invalid("name", "%q is not a name for an agent", name).
			Hint("use letters, digits, dots, hyphens and underscores, with a letter or digit at both ends")
	case id.Is("agt", name):
		return problem.Invalid("name", "%q has the form of an agent's id", name).Hint("choose a name that says which host it is")
	}
	return nil
}

func checkLabels(labels map[string]string) *problem.Error {
	if len(labels) > maxLabels {
		return problem.Invalid("labels", "there are %d labels, at most %d are allowed", len(labels), maxLabels)
	}
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		value := labels[key]
		switch {
		case !labelPattern.MatchString(key):
			return problem.Invalid("labels", "%q is not a label", key).
				Hint("use up to 63 letters, digits, dots, slashes, hyphens and underscores, with a letter or digit at both ends")
		case len(value) > maxLabelValue:
			return problem.Invalid("labels."+key, "its value has %d bytes, at most %d are allowed", len(value), maxLabelValue)
		case hasControl(value):
			return problem.Invalid("labels."+key, "its value holds a control character")
		}
	}
	return nil
}

// clip shortens what an agent says about itself to what is worth keeping.
func clip(words string) string {
	printable := make([]rune, 0, maxWords)
	for _, r := range words {
		if len(printable) == maxWords {
			break
		}
		if unicode.IsPrint(r) {
			printable = append(printable, r)
		}
	}
	return string(printable)
}

// hasControl reports whether a text holds what is not seen, or makes other text
// be seen in another order.
func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsGraphic(r) })
}
