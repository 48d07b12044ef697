package status

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/riverqueue/river"
	"golang.org/x/sync/singleflight"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/secret"
)

// enqueuer is what this package needs of the queue.
type enqueuer interface {
	Enqueue(ctx context.Context, tx *db.Tx, args river.JobArgs) error
}

// Config is what a Service is made of; every field is needed.
type Config struct {
	DB          *db.DB
	Box         *secret.Box
	Queue       enqueuer
	Authorities Authorities
	Now         func() time.Time
	Logger      *slog.Logger
}

// Service makes and gives out CRLs and OCSP responses. It is the http.Handler
// of the status listener.
type Service struct {
	db          *db.DB
	box         *secret.Box
	queue       enqueuer
	authorities Authorities
	now         func() time.Time
	log         *slog.Logger

	cache  *cache
	close  func()
	flight singleflight.Group

	mu      sync.Mutex
	signers map[string]*signer // by issuer
}

// wakeTopic wakes replicas whose memory may be out of date.
const wakeTopic = "status"

// New makes a Service. Close ends it.
func New(c Config) *Service {
	wakes, cancel := c.DB.Subscribe(wakeTopic)
	return &Service{
		db: c.DB, box: c.Box, queue: c.Queue, authorities: c.Authorities, now: c.Now, log: c.Logger,
		cache: newCache(wakes), close: cancel, signers: map[string]*signer{},
	}
}

// Close stops listening for wake-ups.
func (s *Service) Close() { s.close() }

// Revoked makes a revocation known: the inventory calls it in the transaction
// that marks the version as revoked.
func (s *Service) Revoked(ctx context.Context, tx *db.Tx, issuerID, serial string, shard int) error {
	if err := deleteResponses(ctx, tx, issuerID, serial); err != nil {
		return err
	}
	if err := lockCRL(ctx, tx, issuerID, shard); err != nil {
		return err
	}
	if err := makeCRLDue(ctx, tx, issuerID, shard, s.now()); err != nil {
		return err
	}
	if err := s.queue.Enqueue(ctx, tx, publishArgs{IssuerID: issuerID, Shard: shard}); err != nil {
		return err
	}
	return s.wake(ctx, tx)
}

// wake empties the memory of all replicas when the transaction commits, that
// of this one before the commit is reported.
func (s *Service) wake(ctx context.Context, tx *db.Tx) error {
	tx.AfterCommit(s.cache.empty)
	return tx.Notify(ctx, wakeTopic, "")
}

// lookUp gives a document from memory, or makes it once for all who ask at the
// same time. Those who ask after a revocation never share in what was begun
// before it, as the epoch is part of the key.
func (s *Service) lookUp(ctx context.Context, key string, make func(context.Context) (document, error)) (document, error) {
	d, epoch, found := s.cache.get(key, s.now())
	if found {
		return d, nil
	}
	made, err, _ := s.flight.Do(fmt.Sprintf("%d/%s", epoch, key), func() (any, error) {
		// The one who asked first may hang up; the others still want it.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), handlerTimeout)
		defer cancel()
		d, err := make(ctx)
		if err == nil && d.stored {
			s.cache.put(key, d, epoch)
		}
		return d, err
	})
	if err != nil {
		return document{}, err
	}
	return made.(document), nil
}

// response answers an OCSP request in DER.
func (s *Service) response(ctx context.Context, issuerID string, der []byte) (document, error) {
	q, err := parseQuery(der)
	if err != nil {
		return document{}, err
	}
	signer, err := s.signer(ctx, issuerID)
	if err != nil {
		return document{}, err
	}
	if err := signer.answersFor(q); err != nil {
		return document{}, err
	}
	serial, possible := q.storedSerial()
	if !possible {
		return signer.signUnknown(q, s.now())
	}
	key := "ocsp/" + issuerID + "/" + q.hashSymbol + "/" + serial
	return s.lookUp(ctx, key, func(ctx context.Context) (document, error) {
		d, err := storedResponse(ctx, s.db.Read(), issuerID, serial, q.hashSymbol)
		if err == nil && d.servable(s.now()) || err != nil && !db.IsNoRows(err) {
			return d, err
		}
		return s.signResponse(ctx, signer, issuerID, serial, q)
	})
}

// signResponse signs and stores an answer. It holds the version's row
// meanwhile, so that a revocation comes either before the look at it, or after
// the answer is stored and then throws it away. A serial that is not known is
// found out before, without a transaction: anybody may ask for any number of
// them, and must not hold up those who write.
func (s *Service) signResponse(ctx context.Context, signer *signer, issuerID, serial string, q query) (document, error) {
	var d document
	if _, err := readFact(ctx, s.db.Read(), issuerID, serial, ""); db.IsNoRows(err) {
		return signer.signUnknown(q, s.now())
	} else if err != nil {
		return document{}, err
	}
	err := s.db.InTx(ctx, func(tx *db.Tx) error {
		found, err := readFact(ctx, tx, issuerID, serial, tx.ForUpdate())
		if db.IsNoRows(err) {
			d, err = signer.signUnknown(q, s.now())
			return err
		}
		if err != nil {
			return err
		}
		if d, err = signer.sign(q.hash, q.serial, found, s.now()); err != nil {
			return err
		}
		return storeResponse(ctx, tx, issuerID, serial, q.hashSymbol, d)
	})
	return d, err
}

// crl gives the CRL of a shard. One that is due is replaced first; when that
// fails, the one at hand is served as long as clients accept it.
func (s *Service) crl(ctx context.Context, issuerID string, shard int) (document, error) {
	return s.lookUp(ctx, fmt.Sprintf("crl/%s/%d", issuerID, shard), func(ctx context.Context) (document, error) {
		at, err := storedCRL(ctx, s.db.Read(), issuerID, shard)
		if err != nil {
			return document{}, err
		}
		if at.due(s.now()) {
			published, err := s.publish(ctx, issuerID, shard)
			if err == nil {
				return published, nil
			}
			if !at.servable(s.now()) {
				return document{}, err
			}
			s.log.ErrorContext(ctx, "the CRL is due and could not be replaced; the one before is served",
				"issuer", issuerID, "shard", shard, "error", err)
		}
		return at.document, nil
	})
}

// publish replaces the CRL of a shard when it is due, and gives the current
// one. The lock orders it with revocations and with other replicas: what is
// revoked when it is taken is on the list, and numbers only go up.
func (s *Service) publish(ctx context.Context, issuerID string, shard int) (document, error) {
	authority, err := s.authorities.Authority(ctx, issuerID)
	if err != nil {
		return document{}, err
	}
	shards, err := authority.Shards(ctx)
	if err != nil {
		return document{}, err
	}
	if shard < 0 || shard >= shards {
		return document{}, problem.NotFound("CRL", fmt.Sprintf("%s/%d", issuerID, shard))
	}
	var current document
	err = s.db.InTx(ctx, func(tx *db.Tx) error {
		if err := lockCRL(ctx, tx, issuerID, shard); err != nil {
			return err
		}
		now := s.now().UTC().Truncate(time.Second)
		previous, err := storedCRL(ctx, tx, issuerID, shard)
		if err != nil {
			return err
		}
		if current = previous.document; !previous.due(s.now()) {
			return nil
		}
		revoked, err := revokedIn(ctx, tx, issuerID, shard, keptOnCRL(previous.thisUpdate, now))
		if err != nil {
			return err
		}
		current = newDocument(nil, now)
		number := previous.number + 1
		current.body, err = authority.SignCRL(shard, number, revoked, current.thisUpdate, current.nextUpdate)
		if err != nil {
			return fmt.Errorf("sign CRL %d of issuer %s: %w", shard, issuerID, err)
		}
		if err := storeCRL(ctx, tx, issuerID, shard, number, current); err != nil {
			return err
		}
		return s.wake(ctx, tx)
	})
	return current, err
}
