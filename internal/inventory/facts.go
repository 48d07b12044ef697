package inventory

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/certctl-io/certctl/internal/db"
)

// Standing is a certificate with how it stands.
type Standing struct {
	Certificate
	Targets []string // their names, sorted
	Status  Status
	Reason  string   // why it has this status; empty when it is active
	Soonest *Version // the active version that ends first, without its chain; nil when there is none
}

// Holders gives the ids of a certificate's key holders: the agents of its
// targets, those that were revoked included.
func (Store) Holders(ctx context.Context, q db.Querier, certificateID string) ([]string, error) {
	agents, err := db.All[string](ctx, q, "SELECT DISTINCT agent_id FROM target WHERE certificate_id = $1 ORDER BY agent_id", certificateID)
	if err != nil {
		return nil, fmt.Errorf("read key holders of %s: %w", certificateID, err)
	}
	return agents, nil
}

// holder is a key holder of a certificate by name.
type holder struct {
	AgentID   string     `db:"agent_id"`
	Agent     string     `db:"agent"`
	RevokedAt *time.Time `db:"revoked_at"` // when the agent was revoked
}

func (Store) holders(ctx context.Context, q db.Querier, certificateID string) ([]holder, error) {
	holders, err := db.All[holder](ctx, q, `SELECT a.id AS agent_id, a.name AS agent, a.revoked_at FROM agent a
		WHERE a.id IN (SELECT agent_id FROM target WHERE certificate_id = $1) ORDER BY a.name`, certificateID)
	if err != nil {
		return nil, fmt.Errorf("read key holders of %s: %w", certificateID, err)
	}
	return holders, nil
}

// standings reads what the status of certificates follows from, in a number of
// queries that does not depend on how many they are.
func (s Store) standings(ctx context.Context, q db.Querier, certificates []Certificate, now time.Time) ([]Standing, error) {
	if len(certificates) == 0 {
		return nil, nil
	}
	facts, err := s.facts(ctx, q, certificates)
	if err != nil {
		return nil, fmt.Errorf("read status of certificates: %w", err)
	}
	all := make([]Standing, len(certificates))
	for i, c := range certificates {
		all[i] = facts.standing(c, now)
	}
	return all, nil
}

// pair is a key holder of a certificate.
type pair struct {
	CertificateID string `db:"certificate_id"`
	AgentID       string `db:"agent_id"`
}

// place is a target of a certificate.
type place struct {
	pair
	Agent     string     `db:"agent"`
	RevokedAt *time.Time `db:"revoked_at"` // when the agent was revoked
	Target    string     `db:"target"`
}

type failedOrder struct {
	pair
	Reason string `db:"state_reason"`
}

type failedDeployment struct {
	CertificateID string `db:"certificate_id"`
	Failure
}

// factTable holds the facts about several certificates, by their ids.
type factTable struct {
	places   map[string][]place
	versions map[string][]Version
	orders   map[pair]string
	failed   map[string][]Failure
}

const (
	selectPlaces = `SELECT t.certificate_id, t.agent_id, a.name AS agent, a.revoked_at, t.name AS target
		FROM target t JOIN agent a ON a.id = t.agent_id`

	selectActive = `SELECT v.id, v.certificate_id, v.order_id, v.agent_id, v.issuer_id, v.serial, v.fingerprint, v.not_before, v.not_after,
			v.renew_at, v.expiring_at, v.activated_at, v.revoked_at, v.revocation_reason
		FROM version v`

	selectFailedOrders      = "SELECT o.certificate_id, o.agent_id, o.state_reason FROM cert_order o"
	selectFailedDeployments = `SELECT t.certificate_id, t.name AS target, d.state_reason AS reason
		FROM target t JOIN deployment d ON d.target_id = t.id AND d.certificate_id = t.certificate_id`

	lastOrderFailed = `o.state = 'failed' AND NOT EXISTS (SELECT 1 FROM cert_order n
		WHERE n.certificate_id = o.certificate_id AND n.agent_id = o.agent_id AND n.id > o.id)`

	lastDeploymentFailed = `d.state = 'failed' AND NOT EXISTS (SELECT 1 FROM deployment n
		WHERE n.target_id = d.target_id AND n.certificate_id = d.certificate_id AND n.id > d.id)`
)

func (Store) facts(ctx context.Context, q db.Querier, certificates []Certificate) (factTable, error) {
	ids := make([]string, len(certificates))
	for i, c := range certificates {
		ids[i] = c.ID
	}
	places, err := db.Find[place](ctx, q, db.Select(selectPlaces).In("t.certificate_id", ids))
	if err != nil {
		return factTable{}, err
	}
	versions, err := db.Find[Version](ctx, q, db.Select(selectActive).In("v.certificate_id", ids).Where(isActive))
	if err != nil {
		return factTable{}, err
	}
	orders, err := db.Find[failedOrder](ctx, q, db.Select(selectFailedOrders).In("o.certificate_id", ids).Where(lastOrderFailed))
	if err != nil {
		return factTable{}, err
	}
	failed, err := db.Find[failedDeployment](ctx, q, db.Select(selectFailedDeployments).In("t.certificate_id", ids).Where(lastDeploymentFailed))
	if err != nil {
		return factTable{}, err
	}
	return tabulate(places, versions, orders, failed), nil
}

// tabulate sorts the rows, so that the same facts give the same reason.
func tabulate(places []place, versions []Version, orders []failedOrder, failed []failedDeployment) factTable {
	slices.SortFunc(places, func(a, b place) int { return cmp.Or(cmp.Compare(a.Agent, b.Agent), cmp.Compare(a.Target, b.Target)) })
	slices.SortFunc(versions, func(a, b Version) int { return cmp.Or(a.NotAfter.Compare(b.NotAfter), cmp.Compare(a.ID, b.ID)) })
	slices.SortFunc(failed, func(a, b failedDeployment) int { return cmp.Compare(a.Target, b.Target) })
	t := factTable{places: map[string][]place{}, versions: map[string][]Version{}, orders: map[pair]string{}, failed: map[string][]Failure{}}
	for _, p := range places {
		t.places[p.CertificateID] = append(t.places[p.CertificateID], p)
	}
	for _, v := range versions {
		t.versions[v.CertificateID] = append(t.versions[v.CertificateID], v)
	}
	for _, o := range orders {
		t.orders[o.pair] = cmp.Or(o.Reason, "no reason was given")
	}
	for _, f := range failed {
		t.failed[f.CertificateID] = append(t.failed[f.CertificateID], f.Failure)
	}
	return t
}

func (t factTable) standing(c Certificate, now time.Time) Standing {
	facts := Facts{Archived: c.ArchivedAt != nil, Failed: t.failed[c.ID]}
	standing := Standing{Certificate: c, Targets: []string{}}
	versions := t.versions[c.ID]
	last := ""
	for _, p := range t.places[c.ID] {
		standing.Targets = append(standing.Targets, p.Target)
		if p.AgentID == last {
			continue
		}
		last = p.AgentID
		h := HolderFacts{Agent: p.Agent, Gone: p.RevokedAt != nil, Failure: t.orders[p.pair]}
		if i := slices.IndexFunc(versions, func(v Version) bool { return v.AgentID == p.AgentID }); i >= 0 {
			h.Version = &versions[i]
		}
		facts.Holders = append(facts.Holders, h)
	}
	slices.Sort(standing.Targets)
	standing.Status, standing.Reason = facts.Status(now)
	if len(versions) > 0 {
		standing.Soonest = &versions[0]
	}
	return standing
}
