package issuance

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/riverqueue/river"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/inventory"
	"github.com/certctl-io/certctl/internal/queue"
)

// rejoinedArgs is the job that has all certificates of an agent issued anew,
// because the agent came in again without the private keys it had.
type rejoinedArgs struct {
	AgentID string    `json:"agent_id"`
	At      time.Time `json:"at"` // when it came: an order from before that counts on keys that are lost
}

// Kind implements river.JobArgs.
func (rejoinedArgs) Kind() string { return "issuance_rejoined" }

// InsertOpts implements river.JobArgsWithInsertOpts.
func (rejoinedArgs) InsertOpts() river.InsertOpts { return river.InsertOpts{Queue: queue.Issuance} }

// ReturnAgent sees to it that an agent that came in again without the private
// keys it had gets new versions of the certificates it holds.
func (s *Service) ReturnAgent(ctx context.Context, tx *db.Tx, agentID string) error {
	return s.queue.Enqueue(ctx, tx, rejoinedArgs{AgentID: agentID, At: s.now()})
}

// rejoined starts the orders, each in a transaction of its own. A certificate
// that something is wrong with does not keep the others waiting.
func (s *Service) rejoined(ctx context.Context, agentID string, at time.Time) error {
	held, err := s.store.heldBy(ctx, s.db.Read(), agentID)
	if err != nil {
		return err
	}
	var failures []error
	for _, certificateID := range held {
		err := s.db.InTx(ctx, func(tx *db.Tx) error { return s.replaceLost(ctx, tx, certificateID, agentID, at) })
		if err != nil {
			failures = append(failures, fmt.Errorf("replace the key of certificate %s: %w", certificateID, err))
		}
	}
	return errors.Join(failures...)
}

// replaceLost starts the order of one certificate. An order that still waits
// for the agent's request goes on, as its key is not made yet; any other from
// before the agent came cannot end well. One from after that has the right key
// already, which is how a repeated job finds nothing to do.
func (s *Service) replaceLost(ctx context.Context, tx *db.Tx, certificateID, agentID string, at time.Time) error {
	c, err := s.certificates.Lock(ctx, tx, certificateID)
	if err != nil || c.ArchivedAt != nil {
		return err
	}
	last, found, err := s.store.latest(ctx, tx, c.ID, agentID)
	if err != nil {
		return err
	}
	if found && (last.State == Pending || !last.CreatedAt.Before(at)) {
		return nil
	}
	if found && last.State.Open() {
		if err := s.cancel(ctx, tx, c, &last, "the agent has joined again without the key that it made for the order"); err != nil {
			return err
		}
	}
	_, err = s.Start(ctx, tx, c.ID, agentID, inventory.KeyLost)
	return ignoreConflict(err) // it was revoked, or lost its targets, meanwhile
}
