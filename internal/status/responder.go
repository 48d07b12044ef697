package status

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/pki"
)

// signer gives what answers for an issuer. All replicas use one responder,
// which the first to need it makes.
func (s *Service) signer(ctx context.Context, issuerID string) (*signer, error) {
	s.mu.Lock()
	known := s.signers[issuerID]
	s.mu.Unlock()
	if known != nil && s.now().Before(known.renewAt) {
		return known, nil
	}
	authority, err := s.authorities.Authority(ctx, issuerID)
	if err != nil {
		return nil, err
	}
	issuer, err := authority.Chain().Leaf()
	if err != nil {
		return nil, fmt.Errorf("certificate of issuer %s: %w", issuerID, err)
	}
	var current *signer
	err = s.db.InTx(ctx, func(tx *db.Tx) error {
		if err := tx.Lock(ctx, "ocsp-responder/"+issuerID); err != nil {
			return err
		}
		current, err = s.openResponder(ctx, tx, issuerID, issuer)
		if db.IsNoRows(err) || err == nil && !s.now().Before(current.renewAt) {
			current, err = s.makeResponder(ctx, tx, issuerID, issuer, authority)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.signers[issuerID] = current
	return current, nil
}

func responderKeyPurpose(issuerID string) string { return "ocsp_responder/" + issuerID }

func (s *Service) openResponder(ctx context.Context, tx *db.Tx, issuerID string, issuer *x509.Certificate) (*signer, error) {
	stored, err := readResponder(ctx, tx, issuerID)
	if err != nil {
		return nil, err
	}
	encoded, err := s.box.Open(responderKeyPurpose(issuerID), stored.SealedKey)
	if err != nil {
		return nil, fmt.Errorf("key of the OCSP responder of issuer %s: %w", issuerID, err)
	}
	key, err := pki.DecodeKey(encoded)
	if err != nil {
		return nil, err
	}
	responder, err := x509.ParseCertificate(stored.Certificate)
	if err != nil {
		return nil, fmt.Errorf("certificate of the OCSP responder of issuer %s: %w", issuerID, err)
	}
	return &signer{issuer: issuer, responder: responder, key: key, renewAt: responderRenewAt(responder)}, nil
}

func (s *Service) makeResponder(ctx context.Context, tx *db.Tx, issuerID string, issuer *x509.Certificate, authority Authority) (*signer, error) {
	der, key, err := authority.NewOCSPResponder()
	if err != nil {
		return nil, fmt.Errorf("make OCSP responder of issuer %s: %w", issuerID, err)
	}
	responder, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("certificate of the new OCSP responder of issuer %s: %w", issuerID, err)
	}
	made := &signer{issuer: issuer, responder: responder, key: key, renewAt: responderRenewAt(responder)}
	if !s.now().Before(made.renewAt) {
		return nil, errors.New("a new OCSP responder lives too short to sign an answer")
	}
	encoded, err := pki.EncodeKey(key)
	if err != nil {
		return nil, err
	}
	sealed, err := s.box.Seal(responderKeyPurpose(issuerID), encoded)
	if err != nil {
		return nil, err
	}
	return made, storeResponder(ctx, tx, issuerID, storedResponder{Certificate: der, SealedKey: sealed}, responder.NotAfter)
}

// responderRenewAt gives the time after which a responder signs nothing more:
// half of its life, and in any case so early that its certificate outlives
// what it signed.
func responderRenewAt(responder *x509.Certificate) time.Time {
	life := responder.NotAfter.Sub(responder.NotBefore)
	return responder.NotAfter.Add(-max(life/2, documentLife))
}
