package issuance

import (
	"context"
	"crypto/x509"
	"fmt"

	"github.com/certctl-io/certctl/internal/agentapi"
	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/inventory"
	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/problem"
)

// BuildCSR gives the task of an order that waits for its agent's certificate
// request; it is out of date when the order does not.
func (s *Service) BuildCSR(ctx context.Context, agentID, orderID string) (any, bool, error) {
	o, err := s.store.order(ctx, s.db.Read(), orderID, "")
	switch {
	case problem.KindOf(err) == problem.KindNotFound:
		return nil, false, nil
	case err != nil:
		return nil, false, err
	case o.AgentID != agentID || o.State != Pending:
		return nil, false, nil
	}
	return &agentapi.CSRTask{
		OrderID: o.ID, CertificateID: o.CertificateID,
		CommonName: o.Spec.CommonName, Names: o.Spec.Names, KeyType: o.Spec.KeyType,
	}, true, nil
}

// SubmitCSR takes an agent's certificate request for one of its orders. A
// request for an order that does not wait for one changes nothing. One that is
// not exactly what the order asks for fails the order: the agent would only
// send it again.
func (s *Service) SubmitCSR(ctx context.Context, agentID, orderID string, text []byte) error {
	var refused error
	err := s.answered(ctx, agentID, orderID, func(tx *db.Tx, c inventory.Certificate, o *Order) error {
		csr, err := s.admit(ctx, tx, *o, text)
		if found, ok := problem.As(err); ok && found.Kind == problem.KindInvalid {
			refused = err
			return s.fail(ctx, tx, c, o, "the agent's certificate request was refused: "+told(found.Error()))
		}
		if err != nil {
			return err
		}
		if err := s.tasks.FinishCSR(ctx, tx, o.ID); err != nil {
			return err
		}
		o.CSR = pki.EncodeCSR(csr.Raw)
		if err := s.move(ctx, tx, o, Signing, "", "The agent sent its certificate request; the issuer is asked"); err != nil {
			return err
		}
		return s.queue.Enqueue(ctx, tx, signArgs{OrderID: o.ID})
	})
	if err != nil {
		return err
	}
	return refused
}

// admit checks a certificate request for an order.
func (s *Service) admit(ctx context.Context, tx *db.Tx, o Order, text []byte) (*x509.CertificateRequest, error) {
	csr, err := pki.ParseCSR(text)
	if err != nil {
		return nil, err
	}
	if err := pki.CheckCSR(csr, o.Spec.CommonName, o.Spec.Names, o.Spec.KeyType); err != nil {
		return nil, err
	}
	return csr, s.checkKeyIsNew(ctx, tx, o, csr)
}

// checkKeyIsNew refuses the key of another version, of whatever certificate:
// each version has a key of its own, which only its holder has. The lock keeps
// two orders with the same key from overlooking each other.
func (s *Service) checkKeyIsNew(ctx context.Context, tx *db.Tx, o Order, csr *x509.CertificateRequest) error {
	hash, err := inventory.KeyHash(csr.PublicKey)
	if err != nil {
		return err
	}
	if err := tx.Lock(ctx, "key:"+hash); err != nil {
		return err
	}
	used, err := s.store.keyUsed(ctx, tx, hash, o.ID)
	if err != nil {
		return err
	}
	if used {
		return problem.Invalid("csr", "its key belongs to another version already").Hint("make a new key for each order")
	}
	return nil
}

// CSRFailed takes an agent's word that it could not make a certificate request.
func (s *Service) CSRFailed(ctx context.Context, agentID, orderID string, failure agentapi.TaskFailure) error {
	return s.answered(ctx, agentID, orderID, func(tx *db.Tx, c inventory.Certificate, o *Order) error {
		reason := "the agent could not make a certificate request: " + told(failure.Reason)
		o.Attempts++
		if !failure.Retryable || o.Attempts >= csrAttempts {
			return s.fail(ctx, tx, c, o, reason)
		}
		pause := wait(o.Attempts, firstCSRWait, lastCSRWait, s.jitter())
		if err := s.postpone(ctx, tx, o, pause, reason, "The agent could not make a certificate request: "+told(failure.Reason)); err != nil {
			return err
		}
		if err := s.tasks.FinishCSR(ctx, tx, o.ID); err != nil {
			return err
		}
		return s.tasks.RequestCSR(ctx, tx, agentID, o.ID, *o.NextTryAt)
	})
}

// answered has an agent's answer worked on when its order waits for one. An
// order of another agent does not exist for the agent.
func (s *Service) answered(ctx context.Context, agentID, orderID string, work func(tx *db.Tx, c inventory.Certificate, o *Order) error) error {
	o, err := s.store.order(ctx, s.db.Read(), orderID, "")
	if err != nil {
		return err
	}
	if o.AgentID != agentID {
		return problem.NotFound("order", orderID)
	}
	return s.db.InTx(ctx, func(tx *db.Tx) error {
		c, o, err := s.locked(ctx, tx, orderID)
		if err != nil || o.State != Pending {
			return err
		}
		return work(tx, c, &o)
	})
}

// LeaveAgent ends the open orders of an agent that is revoked.
func (s *Service) LeaveAgent(ctx context.Context, tx *db.Tx, agentID string) error {
	ids, err := s.store.openOf(ctx, tx, agentID)
	if err != nil {
		return err
	}
	for _, orderID := range ids {
		c, o, err := s.locked(ctx, tx, orderID)
		if err != nil {
			return fmt.Errorf("end order %s: %w", orderID, err)
		}
		if !o.State.Open() {
			continue
		}
		if err := s.cancel(ctx, tx, c, &o, "the agent was revoked"); err != nil {
			return err
		}
	}
	return nil
}
