package deployment

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/riverqueue/river"

	"github.com/certctl-io/certctl/internal/audit"
	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/inventory"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/secret"
	"github.com/certctl-io/certctl/internal/targets"
)

// Tasks is what deployments need of agents. Tasks of one target are delivered
// one at a time.
type Tasks interface {
	// Deploy adds the task for a deployment, delivered not before a time; the
	// zero time is at once.
	Deploy(ctx context.Context, tx *db.Tx, agentID, deploymentID, targetID string, notBefore time.Time) error
	// FinishDeploy removes it; one that is not there is finished already.
	FinishDeploy(ctx context.Context, tx *db.Tx, deploymentID string) error
}

// Queue takes the jobs that follow.
type Queue interface {
	Enqueue(ctx context.Context, tx *db.Tx, args river.JobArgs) error
}

// Config is what a Service is made of.
type Config struct {
	DB     *db.DB
	Box    *secret.Box
	Kinds  map[string]targets.Kind // by name
	Tasks  Tasks
	Queue  Queue
	Now    func() time.Time
	Jitter func() float64 // from 0 to 1
	Logger *slog.Logger
}

// Service is what can be done with targets and deployments.
type Service struct {
	db           *db.DB
	box          *secret.Box
	kinds        map[string]targets.Kind
	tasks        Tasks
	queue        Queue
	now          func() time.Time
	jitter       func() float64
	log          *slog.Logger
	store        store
	targets      targetStore
	certificates inventory.Store
}

// New makes a Service.
func New(c Config) (*Service, error) {
	if c.DB == nil || c.Box == nil || len(c.Kinds) == 0 || c.Tasks == nil || c.Queue == nil || c.Now == nil || c.Jitter == nil || c.Logger == nil {
		return nil, errors.New("deployment: a part of its configuration is missing")
	}
	return &Service{
		db: c.DB, box: c.Box, kinds: maps.Clone(c.Kinds), tasks: c.Tasks, queue: c.Queue, now: c.Now, jitter: c.Jitter, log: c.Logger,
	}, nil
}

// Deployment reads one deployment.
func (s *Service) Deployment(ctx context.Context, deploymentID string) (Deployment, error) {
	return s.store.byID(ctx, s.db.Read(), deploymentID)
}

// Deployments gives a page of deployments.
func (s *Service) Deployments(ctx context.Context, f Filter, page db.Page) ([]Deployment, string, error) {
	if f.State != "" && !slices.Contains(States, f.State) {
		return nil, "", problem.Invalid("state", "%q is not a state of a deployment", f.State).
			Hint("use pending, running, done, failed or cancelled")
	}
	return s.store.list(ctx, s.db.Read(), f, page)
}

// Counts says how many deployments are open, by state, and how many targets
// have one as their last that failed.
func (s *Service) Counts(ctx context.Context) (map[State]int, error) {
	counted, err := s.store.counts(ctx, s.db.Read())
	if err != nil {
		return nil, err
	}
	counts := map[State]int{}
	for _, state := range []State{Pending, Running, Failed} {
		counts[state] = 0
	}
	for _, c := range counted {
		counts[c.State] = c.Count
	}
	return counts, nil
}

// Start deploys the version of an order to all targets of its holder and says
// how many those are. The caller has locked the certificate, as for all methods
// here that take a transaction.
func (s *Service) Start(ctx context.Context, tx *db.Tx, v inventory.Version) (started int, err error) {
	places, err := s.places(ctx, tx, v)
	if err != nil {
		return 0, err
	}
	for _, t := range places {
		_, fresh, err := s.put(ctx, tx, t, v, wish{orderID: v.OrderID, reason: Issued})
		if err != nil {
			return 0, err
		}
		if fresh {
			started++
		}
	}
	return started, s.failIfRevoked(ctx, tx, v.AgentID)
}

// StartMissing deploys a version to those targets of its holder that do not
// have it and says how many those are. While the order of the version is open,
// the new deployments count for it.
func (s *Service) StartMissing(ctx context.Context, tx *db.Tx, v inventory.Version) (started int, err error) {
	w := wish{reason: TargetAdded}
	if !v.Active() {
		w.orderID = v.OrderID
	}
	return s.complete(ctx, tx, v, w)
}

// RetryOrder deploys the version of an order again to those targets that do
// not have it, and says how many those are.
func (s *Service) RetryOrder(ctx context.Context, tx *db.Tx, orderID string) (started int, err error) {
	versionID, err := s.store.versionOfOrder(ctx, tx, orderID)
	if err != nil || versionID == "" {
		return 0, err
	}
	v, err := s.certificates.Version(ctx, tx, versionID)
	if err != nil {
		return 0, err
	}
	return s.complete(ctx, tx, v, wish{orderID: orderID, reason: Issued})
}

// Redeploy deploys to all targets of a certificate again what they should serve
// and gives the deployments that are open now, those that were already
// included. A holder without an active version has nothing to deploy yet.
func (s *Service) Redeploy(ctx context.Context, tx *db.Tx, certificateID string) (deploymentIDs []string, err error) {
	places, err := s.targets.ofCertificate(ctx, tx, certificateID)
	if err != nil {
		return nil, err
	}
	for _, t := range places {
		v, orderID, found, err := s.due(ctx, tx, t)
		if err != nil {
			return nil, err
		}
		if !found {
			continue
		}
		d, _, err := s.put(ctx, tx, t, v, wish{orderID: orderID, reason: Requested})
		if err != nil {
			return nil, err
		}
		deploymentIDs = append(deploymentIDs, d.ID)
		if err := s.failIfRevoked(ctx, tx, t.AgentID); err != nil {
			return nil, err
		}
	}
	return deploymentIDs, nil
}

// Outcome tells how many targets of an order are still open and how many
// failed, and why the first of those did. Targets that left the certificate
// meanwhile do not count.
func (s *Service) Outcome(ctx context.Context, tx *db.Tx, orderID string) (open, failed int, reason string, err error) {
	results, err := s.store.results(ctx, tx, orderID)
	if err != nil {
		return 0, 0, "", err
	}
	open, failed, reason = outcome(results)
	return open, failed, reason, nil
}

// CancelOrder cancels the open deployments of an order that is given up.
// Issuance knows of that, so no Settled follows.
func (s *Service) CancelOrder(ctx context.Context, tx *db.Tx, orderID, reason string) error {
	open, err := s.store.openOfOrder(ctx, tx, orderID)
	if err != nil {
		return err
	}
	for _, d := range open {
		if err := s.cancel(ctx, tx, &d, reason); err != nil {
			return err
		}
	}
	return nil
}

// LeaveAgent fails what is open of an agent that is shut out. It locks the
// certificates itself.
func (s *Service) LeaveAgent(ctx context.Context, tx *db.Tx, agentID string) error {
	open, err := s.store.openOfAgent(ctx, tx, agentID)
	if err != nil {
		return err
	}
	for _, seen := range open {
		d, err := s.lock(ctx, tx, seen.ID)
		if err != nil {
			return err
		}
		if !d.Open() {
			continue
		}
		if err := s.fail(ctx, tx, &d, revokedReason(d)); err != nil {
			return err
		}
	}
	return nil
}

// Retry tries a deployment that failed again. When it fails an order, the order
// is looked at again once this is over.
func (s *Service) Retry(ctx context.Context, deploymentID string) (Deployment, error) {
	var retried Deployment
	err := s.db.InTx(ctx, func(tx *db.Tx) error {
		before, err := s.lock(ctx, tx, deploymentID)
		if err != nil {
			return err
		}
		if err := s.mayRetry(ctx, tx, before); err != nil {
			return err
		}
		retried = before
		if err := s.again(ctx, tx, &retried); err != nil {
			return err
		}
		if err := s.failIfRevoked(ctx, tx, retried.AgentID); err != nil {
			return err
		}
		return audit.Append(ctx, tx, audit.Change{
			Action: "deployment.retry", ObjectKind: "deployment", ObjectID: retried.ID, Before: before.brief(), After: retried.brief(),
		})
	})
	return retried, err
}

// mayRetry refuses to deploy what is out of date by now.
func (s *Service) mayRetry(ctx context.Context, tx *db.Tx, d Deployment) error {
	if d.State != Failed {
		return problem.Conflict("the deployment is %s; only one that failed can be retried", d.State).
			Hint("certctl deploy %s puts the certificate on its targets again", d.Certificate)
	}
	t, err := s.targets.byRef(ctx, tx, d.TargetID)
	if err != nil {
		return err
	}
	if t.CertificateID != d.CertificateID {
		return problem.Conflict("the target %q does not have the certificate %q any more", d.Target, d.Certificate)
	}
	if open, found, err := s.store.openOf(ctx, tx, d.TargetID); err != nil {
		return err
	} else if found {
		return problem.Conflict("the newer deployment %s to the target %q is %s", open.ID, d.Target, open.State).Hint("wait for it")
	}
	if revoked, err := s.store.agentRevoked(ctx, tx, d.AgentID); err != nil {
		return err
	} else if revoked {
		return problem.Conflict("%s", revokedReason(d)).Hint("enrol that host again and make targets for its new agent")
	}
	return s.mayDeploy(ctx, tx, d)
}

// mayDeploy refuses a version that its holder is not to serve: one that was
// superseded, or did not become active before the next was issued or its order
// was given up.
func (s *Service) mayDeploy(ctx context.Context, tx *db.Tx, d Deployment) error {
	v, err := s.certificates.Version(ctx, tx, d.VersionID)
	if err != nil || v.Active() {
		return err
	}
	found, err := s.store.standing(ctx, tx, v.ID)
	if err != nil {
		return err
	}
	if v.SupersededAt == nil && found.Newest && found.OrderState != orderCancelled {
		return nil
	}
	return problem.Conflict("the version of this deployment is out of date").
		Hint("certctl deploy %s puts the active version on its targets", d.Certificate)
}
