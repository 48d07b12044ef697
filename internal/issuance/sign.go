package issuance

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/riverqueue/river"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/id"
	"github.com/certctl-io/certctl/internal/inventory"
	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/problem"
)

// issueTimeout ends a call of an issuer. It leaves the job, which has a minute,
// time to store what came of it.
const issueTimeout = 45 * time.Second

// sign has the issuer sign an order's certificate request and takes what it
// answers. Each run is an attempt with a number, claimed first: a run that was
// thought dead cannot save progress any more when the next one has begun, and
// so cannot lead to a second certificate.
func (s *Service) sign(ctx context.Context, orderID string) error {
	o, ok, err := s.claim(ctx, orderID)
	if err != nil || !ok {
		return err
	}
	issued, err := s.issue(ctx, o)
	switch {
	case ctx.Err() != nil:
		return ctx.Err() // the attempt is made again
	case err != nil:
		return s.unsigned(ctx, o, err)
	case issued.PendingAfter > 0:
		return s.undecided(ctx, o, issued.PendingAfter)
	default:
		return s.accept(ctx, o, issued)
	}
}

// claim begins an attempt, when the order is to be signed.
func (s *Service) claim(ctx context.Context, orderID string) (claimed Order, ok bool, err error) {
	err = s.db.InTx(ctx, func(tx *db.Tx) error {
		_, o, err := s.locked(ctx, tx, orderID)
		if err != nil {
			return err
		}
		if ok = o.State == Signing; !ok {
			return nil
		}
		o.Attempts++
		o.NextTryAt, o.UpdatedAt = nil, s.now()
		claimed = o
		return s.store.update(ctx, tx, o)
	})
	return claimed, ok, err
}

func (s *Service) issue(ctx context.Context, o Order) (pki.Issued, error) {
	ca, err := s.resolve(ctx, o.Spec.IssuerID)
	if err != nil {
		return pki.Issued{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, issueTimeout)
	defer cancel()
	request := o.request()
	request.Save = func(ctx context.Context, progress json.RawMessage) error {
		return s.db.InTx(ctx, func(tx *db.Tx) error {
			saved, err := s.store.saveProgress(ctx, tx, o.ID, o.Attempts, progress)
			if err == nil && !saved {
				err = problem.Conflict("order %s is not in attempt %d any more", o.ID, o.Attempts)
			}
			return err
		})
	}
	return ca.Issue(ctx, request)
}

// attempt works on what came of an attempt, unless the order has gone on.
func (s *Service) attempt(ctx context.Context, tried Order, work func(tx *db.Tx, c inventory.Certificate, o *Order) error) error {
	return s.db.InTx(ctx, func(tx *db.Tx) error {
		c, o, err := s.locked(ctx, tx, tried.ID)
		if err != nil || o.State != Signing || o.Attempts != tried.Attempts {
			return err
		}
		return work(tx, c, &o)
	})
}

// unsigned deals with an issuer's error: one that may pass is tried again
// later, any other fails the order.
func (s *Service) unsigned(ctx context.Context, tried Order, cause error) error {
	found, known := problem.As(cause)
	passing := !known || found.Kind == problem.KindTemporary || found.Kind == problem.KindInternal
	pause := wait(tried.Attempts, firstSignWait, lastSignWait, s.jitter())
	if known {
		pause = max(pause, found.After)
	}
	reason := "the issuer could not sign: " + told(cause.Error())
	postponed := false
	err := s.attempt(ctx, tried, func(tx *db.Tx, c inventory.Certificate, o *Order) error {
		over, err := s.over(ctx, tx, *o, pause, signFor)
		if err != nil {
			return err
		}
		if postponed = passing && !over; postponed {
			return s.postpone(ctx, tx, o, pause, reason, fmt.Sprintf("The issuer could not sign in attempt %d: %s", o.Attempts, told(cause.Error())))
		}
		return s.fail(ctx, tx, c, o, reason)
	})
	if err != nil || !postponed {
		return err
	}
	return problem.Temporary(cause, pause)
}

// undecided deals with an issuer that wants to be asked again. That was no
// failed attempt, so its number is given back.
func (s *Service) undecided(ctx context.Context, tried Order, after time.Duration) error {
	postponed := false
	err := s.attempt(ctx, tried, func(tx *db.Tx, c inventory.Certificate, o *Order) error {
		over, err := s.over(ctx, tx, *o, after, decideFor)
		if err != nil {
			return err
		}
		if postponed = !over; !postponed {
			return s.fail(ctx, tx, c, o, fmt.Sprintf("the issuer has not decided for %s", readable(decideFor)))
		}
		o.Attempts--
		next := s.now().Add(after)
		first := o.StateReason != waiting
		o.StateReason, o.UpdatedAt, o.NextTryAt = waiting, s.now(), &next
		if err := s.store.update(ctx, tx, *o); err != nil || !first {
			return err
		}
		return s.tell(ctx, tx, *o, "order.waiting", "The issuer takes time to decide; it is asked again from time to time")
	})
	if err != nil || !postponed {
		return err
	}
	return river.JobSnooze(after)
}

const waiting = "the issuer has not decided yet"

// over reports whether the next attempt would be later than an issuer is asked.
func (s *Service) over(ctx context.Context, tx *db.Tx, o Order, pause, limit time.Duration) (bool, error) {
	_, began, err := s.store.happened(ctx, tx, o.ID, "order."+string(Signing))
	return s.now().Add(pause).After(began.Add(limit)), err
}

// accept stores what the issuer signed and has it deployed.
func (s *Service) accept(ctx context.Context, tried Order, issued pki.Issued) error {
	csr, err := pki.ParseCSR(tried.CSR)
	if err != nil {
		return fmt.Errorf("read certificate request of order %s: %w", tried.ID, err)
	}
	leaf, err := checkLeaf(issued.Chain, tried.Spec, csr.PublicKey, s.now())
	if err != nil {
		return s.unusable(ctx, tried, err)
	}
	err = s.db.InTx(ctx, func(tx *db.Tx) error {
		c, o, err := s.locked(ctx, tx, tried.ID)
		if err != nil || o.State != Signing {
			return err // another run was faster, or the order was ended
		}
		if err := s.checkKeyIsNew(ctx, tx, o, csr); problem.KindOf(err) == problem.KindInvalid {
			return s.fail(ctx, tx, c, &o, told(err.Error()))
		} else if err != nil {
			return err
		}
		return s.deliver(ctx, tx, c, &o, issued, leaf)
	})
	if db.IsUnique(err, "version", "fingerprint") || db.IsUnique(err, "version", "issuer_id", "serial") {
		return s.unusable(ctx, tried, errors.New("the issuer answered with a certificate of another order"))
	}
	return err
}

// unusable fails an order whose issuer answered with something that cannot be
// used. A retry asks for a new certificate, as the issuer's driver would go on
// to that same answer.
func (s *Service) unusable(ctx context.Context, tried Order, cause error) error {
	return s.attempt(ctx, tried, func(tx *db.Tx, c inventory.Certificate, o *Order) error {
		o.Progress = nil
		return s.fail(ctx, tx, c, o, told(cause.Error()))
	})
}

// deliver stores the version of an order and starts its deployments. With no
// targets left there is nothing to prove.
func (s *Service) deliver(ctx context.Context, tx *db.Tx, c inventory.Certificate, o *Order, issued pki.Issued, leaf *x509.Certificate) error {
	hash, err := inventory.KeyHash(leaf.PublicKey)
	if err != nil {
		return err
	}
	renewAt := c.Renewal.At(leaf.NotBefore, leaf.NotAfter, s.jitter())
	v := inventory.Version{
		ID: id.New("ver"), CertificateID: c.ID, OrderID: o.ID, AgentID: o.AgentID, IssuerID: o.Spec.IssuerID,
		Serial: pki.SerialHex(leaf.SerialNumber), Fingerprint: pki.Fingerprint(leaf.Raw), Subject: leaf.Subject.String(),
		KeyType: o.Spec.KeyType, KeyHash: hash, Chain: issued.Chain, Shard: issued.Shard,
		NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter,
		RenewAt: renewAt, ExpiringAt: inventory.ExpiringAt(leaf.NotBefore, renewAt, leaf.NotAfter),
		CreatedAt: s.now(),
	}
	if err := s.certificates.InsertVersion(ctx, tx, v); err != nil {
		return err
	}
	o.VersionID = v.ID
	message := fmt.Sprintf("Issued with serial %s, valid until %s; it is deployed", v.Serial, v.NotAfter.UTC().Format(time.RFC3339))
	if err := s.move(ctx, tx, o, Issued, "", message); err != nil {
		return err
	}
	started, err := s.deployments.Start(ctx, tx, v)
	if err != nil || started > 0 {
		return err
	}
	return s.settle(ctx, tx, c, o)
}
