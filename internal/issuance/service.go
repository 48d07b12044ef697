package issuance

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/riverqueue/river"

	"github.com/certctl-io/certctl/internal/audit"
	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/inventory"
	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/profile"
)

// CA signs what an order asks for.
type CA interface {
	Issue(ctx context.Context, request pki.Request) (pki.Issued, error)
}

// Tasks asks agents for certificate requests.
type Tasks interface {
	// RequestCSR adds the task of an order, not to be delivered before a time;
	// zero is at once.
	RequestCSR(ctx context.Context, tx *db.Tx, agentID, orderID string, notBefore time.Time) error
	// FinishCSR removes the task of an order, if it is there.
	FinishCSR(ctx context.Context, tx *db.Tx, orderID string) error
}

// Deployments brings versions to the targets of their holder.
type Deployments interface {
	// Start deploys the version of an order to all targets of its holder, and
	// gives their number.
	Start(ctx context.Context, tx *db.Tx, version inventory.Version) (int, error)
	// StartMissing deploys a version to those targets of its holder that do not
	// have it, and gives their number.
	StartMissing(ctx context.Context, tx *db.Tx, version inventory.Version) (int, error)
	// CancelOrder cancels the open deployments of an order.
	CancelOrder(ctx context.Context, tx *db.Tx, orderID, reason string) error
	// RetryOrder starts the deployments of an order again that failed, and
	// gives their number.
	RetryOrder(ctx context.Context, tx *db.Tx, orderID string) (int, error)
	// Outcome tells how the deployments of an order stand: how many are open,
	// how many did not succeed, and why the first of those did not.
	Outcome(ctx context.Context, tx *db.Tx, orderID string) (open, failed int, reason string, err error)
}

// Queue puts jobs into the queue.
type Queue interface {
	Enqueue(ctx context.Context, tx *db.Tx, args river.JobArgs) error
}

// Config are the parts of a Service. All are needed.
type Config struct {
	DB          *db.DB
	Resolve     func(ctx context.Context, issuerID string) (CA, error)
	Tasks       Tasks
	Deployments Deployments
	Queue       Queue
	Now         func() time.Time
	Jitter      func() float64       // from 0 to 1, different each time
	Finished    func(outcome string) // told of each order that is done, failed or cancelled, when that is stored
	Logger      *slog.Logger
}

// Service is what can be done with orders.
type Service struct {
	db          *db.DB
	resolve     func(ctx context.Context, issuerID string) (CA, error)
	tasks       Tasks
	deployments Deployments
	queue       Queue
	now         func() time.Time
	jitter      func() float64
	finished    func(outcome string)
	log         *slog.Logger

	store        store
	certificates inventory.Store
	profiles     profile.Store
}

// New makes a Service.
func New(c Config) (*Service, error) {
	if c.DB == nil || c.Resolve == nil || c.Tasks == nil || c.Deployments == nil || c.Queue == nil ||
		c.Now == nil || c.Jitter == nil || c.Finished == nil || c.Logger == nil {
		return nil, errors.New("issuance: a part of the service is missing")
	}
	return &Service{
		db: c.DB, resolve: c.Resolve, tasks: c.Tasks, deployments: c.Deployments, queue: c.Queue,
		now: c.Now, jitter: c.Jitter, finished: c.Finished, log: c.Logger,
	}, nil
}

// Named is an order with the names of its certificate and agent.
type Named struct {
	Order
	Certificate string
	Agent       string
}

// Filter narrows a list of orders; empty fields do not.
type Filter struct {
	CertificateID string
	AgentID       string
	State         State
}

// List gives a page of orders. Certificate and agent are ids or names.
func (s *Service) List(ctx context.Context, certificate, agent string, state State, page db.Page) ([]Named, string, error) {
	f := Filter{State: state}
	q := s.db.Read()
	if certificate != "" {
		c, err := s.certificates.ByRef(ctx, q, certificate)
		if err != nil {
			return nil, "", err
		}
		f.CertificateID = c.ID
	}
	if agent != "" {
		agentID, err := s.store.agentID(ctx, q, agent)
		if err != nil {
			return nil, "", err
		}
		f.AgentID = agentID
	}
	return s.store.list(ctx, q, f, page)
}

// Get reads an order with its timeline.
func (s *Service) Get(ctx context.Context, orderID string) (Named, []inventory.Line, error) {
	o, err := s.store.named(ctx, s.db.Read(), orderID)
	if err != nil {
		return Named{}, nil, err
	}
	timeline, err := s.certificates.TimelineOf(ctx, s.db.Read(), orderID)
	return o, timeline, err
}

// Counts says how many orders are in each of the open states.
func (s *Service) Counts(ctx context.Context) (map[State]int, error) {
	return s.store.openCounts(ctx, s.db.Read())
}

// Cancel ends an order for a person. Cancelling twice is harmless.
func (s *Service) Cancel(ctx context.Context, orderID string) (Named, error) {
	return s.change(ctx, orderID, "order.cancel", func(tx *db.Tx, c inventory.Certificate, o *Order) (bool, error) {
		switch {
		case o.State == Cancelled:
			return false, nil
		case !o.State.Open():
			return false, problem.Conflict("the order is %s already", o.State).Hint("only an order that is not finished can be cancelled")
		}
		return true, s.cancel(ctx, tx, c, o, "cancelled by "+audit.ActorFrom(ctx).Name)
	})
}

// Retry makes a failed order go on from where it failed, for a person. It asks
// for what the certificate and its profile say now. Retrying an order that is
// under way is harmless.
func (s *Service) Retry(ctx context.Context, orderID string) (Named, error) {
	return s.change(ctx, orderID, "order.retry", func(tx *db.Tx, c inventory.Certificate, o *Order) (bool, error) {
		if o.State.Open() {
			return false, nil
		}
		if err := s.canRetry(ctx, tx, c, *o); err != nil {
			return false, err
		}
		wish, refused, err := s.wish(ctx, tx, c)
		switch {
		case err != nil:
			return false, err
		case refused != nil && o.VersionID == "":
			return false, refused
		case !s.canReopen(*o, wish):
			return false, problem.Conflict("the certificate has changed since the order issued its version").Hint("renew the certificate instead")
		}
		return true, s.reopen(ctx, tx, c, o, wish, "Retried by "+audit.ActorFrom(ctx).Name)
	})
}

// change edits an order for a person, and leaves the audit event.
func (s *Service) change(ctx context.Context, orderID, action string,
	edit func(tx *db.Tx, c inventory.Certificate, o *Order) (changed bool, err error),
) (Named, error) {
	err := s.db.InTx(ctx, func(tx *db.Tx) error {
		c, o, err := s.locked(ctx, tx, orderID)
		if err != nil {
			return err
		}
		before := summary(o)
		changed, err := edit(tx, c, &o)
		if err != nil || !changed {
			return err
		}
		return audit.Append(ctx, tx, audit.Change{Action: action, ObjectKind: "order", ObjectID: o.ID, Before: before, After: summary(o)})
	})
	if err != nil {
		return Named{}, err
	}
	return s.store.named(ctx, s.db.Read(), orderID)
}

// summary is what an audit event shows of an order.
func summary(o Order) any {
	return map[string]any{"certificate_id": o.CertificateID, "agent_id": o.AgentID, "state": o.State, "state_reason": o.StateReason}
}
