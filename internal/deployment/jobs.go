package deployment

import (
	"github.com/riverqueue/river"

	"github.com/certctl-io/certctl/internal/queue"
)

// Settled is the job that tells issuance that no deployment of an order is open
// any more. It says so again when a deployment that failed was retried.
type Settled struct {
	OrderID string `json:"order_id"`
}

// Kind implements river.JobArgs.
func (Settled) Kind() string { return "deployment_settled" }

// InsertOpts implements river.JobArgsWithInsertOpts.
func (Settled) InsertOpts() river.InsertOpts { return river.InsertOpts{Queue: queue.Issuance} }

// Assigned is the job that tells issuance that a certificate gained or lost a
// target, and with it perhaps a key holder.
type Assigned struct {
	CertificateID string `json:"certificate_id"`
}

// Kind implements river.JobArgs.
func (Assigned) Kind() string { return "deployment_assigned" }

// InsertOpts implements river.JobArgsWithInsertOpts.
func (Assigned) InsertOpts() river.InsertOpts { return river.InsertOpts{Queue: queue.Issuance} }
