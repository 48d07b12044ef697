// Package issuance owns orders: how a version of a certificate comes to be for
// one key holder, and when it is renewed.
//
//	         CSR              leaf              proof
//	pending ─────► signing ─────────► issued ─────────► done
//	   ▲ │            ▲ │               ▲ │
//	   │ └────────────┼─┴──────┬────────┼─┴──────────► cancelled
//	   │              │        ▼        │
//	   └──── retry ───┴───── failed ────┘
//
// An order is one attempt to get a version for one agent. It starts from a
// snapshot of what the certificate asks for. The agent makes a key and sends a
// certificate request for exactly that; a job has the issuer sign it; the
// version is stored and deployed to the agent's targets; when they all serve
// it, the version becomes the active one of its holder. An order that failed
// goes on from where it failed when it is retried. There is at most one open
// order for a certificate and agent, and at most one version for an order.
//
// Each step is one transaction that also asks for the next one, and each can be
// repeated, so a crash anywhere costs nothing but the time to come back.
//
// Versions fall due by themselves (version.due_at). The planner picks those and
// starts an order, or retries the one that failed; while an order is open for a
// holder, nothing of it is due.
package issuance

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/certctl-io/certctl/internal/inventory"
	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/profile"
)

// State is where an order stands.
type State string

// The states.
const (
	Pending   State = "pending" // waits for the agent's certificate request
	Signing   State = "signing" // the issuer is asked
	Issued    State = "issued"  // the version is stored and being deployed
	Done      State = "done"    // all targets of the holder serve it
	Failed    State = "failed"  // can be retried
	Cancelled State = "cancelled"
)

// unborn is the state of an order before it is stored.
const unborn State = ""

// States are all states.
var States = []State{Pending, Signing, Issued, Done, Failed, Cancelled}

// openStates are those in which there is at most one order for a holder.
var openStates = []State{Pending, Signing, Issued}

var moves = map[State][]State{
	unborn:  {Pending},
	Pending: {Signing, Failed, Cancelled},
	Signing: {Issued, Failed, Cancelled},
	Issued:  {Done, Failed, Cancelled},
	Failed:  {Pending, Signing, Issued},
}

// Can reports whether an order may move from this state to the other.
func (s State) Can(to State) bool { return slices.Contains(moves[s], to) }

// Open reports whether something is still to be done for the order.
func (s State) Open() bool { return slices.Contains(openStates, s) }

// Order is one attempt to get a version of a certificate for one agent.
type Order struct {
	ID            string                `db:"id"`
	CertificateID string                `db:"certificate_id"`
	AgentID       string                `db:"agent_id"`
	Reason        inventory.OrderReason `db:"reason"`
	State         State                 `db:"state"`
	StateReason   string                `db:"state_reason"` // why it failed or was cancelled, or is tried again later
	Attempts      int                   `db:"attempts"`     // tries of the current step
	Spec          Spec                  `db:"-"`
	CSR           []byte                `db:"csr"` // PEM
	Progress      json.RawMessage       `db:"-"`   // of the issuer's driver, see pki.Request
	VersionID     string                `db:"version_id"`
	NextTryAt     *time.Time            `db:"next_try_at"`
	CreatedAt     time.Time             `db:"created_at"`
	UpdatedAt     time.Time             `db:"updated_at"`
	FinishedAt    *time.Time            `db:"finished_at"`
}

// Spec is what an order asks for: the certificate and its profile as they were
// when the order started or was last retried.
type Spec struct {
	CommonName      string      `json:"common_name,omitempty"`
	Names           pki.Names   `json:"names"`
	KeyType         pki.KeyType `json:"key_type"`
	LifetimeSeconds int64       `json:"lifetime_seconds"`
	ProfileID       string      `json:"profile_id"`
	IssuerID        string      `json:"issuer_id"`
	Usages          []string    `json:"usages"`
	PublicTrust     bool        `json:"public_trust,omitempty"`
	Lint            string      `json:"lint"`
}

func specOf(c inventory.Certificate, p profile.Profile) Spec {
	return Spec{
		CommonName:      c.CommonName,
		Names:           c.Names,
		KeyType:         c.KeyType,
		LifetimeSeconds: int64(c.Lifetime / time.Second),
		ProfileID:       c.ProfileID,
		IssuerID:        c.IssuerID,
		Usages:          p.Spec.Usages,
		PublicTrust:     p.Spec.PublicTrust,
		Lint:            p.Spec.Lint,
	}
}

// sameRequest reports whether one certificate request is good for both.
func (s Spec) sameRequest(o Spec) bool {
	return s.CommonName == o.CommonName && s.Names.Equal(o.Names) && s.KeyType == o.KeyType
}

// serves reports whether a version of s is what o asks for. A change of the
// lifetime or of a profile's rules holds from the next order on.
func (s Spec) serves(o Spec) bool {
	return s.sameRequest(o) && s.IssuerID == o.IssuerID && s.ProfileID == o.ProfileID
}

func (s Spec) equal(o Spec) bool {
	return s.serves(o) && s.LifetimeSeconds == o.LifetimeSeconds && slices.Equal(s.Usages, o.Usages) &&
		s.PublicTrust == o.PublicTrust && s.Lint == o.Lint
}

// fits reports whether the order leads to what is wished for now.
func (o Order) fits(wish Spec) bool {
	if o.VersionID != "" {
		return o.Spec.serves(wish)
	}
	return o.Spec.equal(wish)
}

// request is what the issuer is asked, in the first attempt or a later one.
func (o Order) request() pki.Request {
	return pki.Request{
		OrderID:     o.ID,
		CSR:         o.CSR,
		CommonName:  o.Spec.CommonName,
		Names:       o.Spec.Names,
		KeyType:     o.Spec.KeyType,
		Lifetime:    time.Duration(o.Spec.LifetimeSeconds) * time.Second,
		Usages:      o.Spec.Usages,
		PublicTrust: o.Spec.PublicTrust,
		LintLevel:   o.Spec.Lint,
		Progress:    o.Progress,
	}
}
