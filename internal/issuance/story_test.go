package issuance

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/agentapi"
	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/inventory"
	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/testkit"
)

// Whatever people, agents, issuers and time do, and in whatever order, what is
// stored makes sense after each step.
func TestAnyStoryLeavesTheWorldInOrder(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		seed := rand.Uint64()
		t.Logf("the seed is %d", seed)
		w := newWorld(t, d)
		w.target("mx", w.mail, w.cert)
		s := &story{world: w, dice: rand.New(rand.NewPCG(seed, 0))}
		var told []string
		for range 400 {
			name, err := s.step()
			told = append(told, name)
			if kind := problem.KindOf(err); kind == problem.KindInternal {
				t.Fatalf("%s: %v\nafter %q", name, err, told)
			}
			if wrong := s.disorder(); wrong != "" {
				t.Fatalf("%s\nafter %q", wrong, told)
			}
		}
	})
}

type story struct {
	*world
	dice *rand.Rand
}

// step does one thing at random, mostly to the last order of one of the agents.
func (s *story) step() (name string, err error) {
	ctx := s.t.Context()
	agentID := []string{s.web, s.mail}[s.dice.IntN(2)]
	o, _, err := s.store.latest(ctx, s.db.Read(), s.cert, agentID)
	if err != nil {
		return "read", err
	}
	tx := func(work func(tx *db.Tx) error) error { return s.db.InTx(ctx, work) }
	next, forward := map[State]int{Pending: 1, Signing: 4, Issued: 6}[o.State]
	if !forward || s.dice.IntN(2) == 0 {
		next = s.dice.IntN(12)
	}
	switch next {
	case 0:
		return "force", tx(func(tx *db.Tx) error {
			_, err := s.Start(ctx, tx, s.cert, agentID, inventory.Forced)
			return err
		})
	case 1, 2:
		return "submit", s.SubmitCSR(ctx, agentID, o.ID, s.csrOr(o))
	case 3:
		return "csr failed", s.CSRFailed(ctx, agentID, o.ID, agentapi.TaskFailure{Reason: "busy", Retryable: s.dice.IntN(2) == 0})
	case 4, 5:
		return "sign", notTemporary(s.signsSomehow(ctx, o.ID))
	case 6, 7:
		state := []string{"done", "done", "failed"}[s.dice.IntN(3)]
		s.exec("UPDATE deployment SET state = $1, state_reason = $1 WHERE order_id = $2 AND state = 'pending'", state, o.ID)
		return "deployments " + state, s.settled(ctx, o.ID)
	case 8:
		_, err := s.Retry(ctx, o.ID)
		return "retry", err
	case 9:
		_, err := s.Cancel(ctx, o.ID)
		return "cancel", err
	case 10:
		s.clock.Advance(time.Duration(s.dice.IntN(40*24)) * time.Hour)
		return "plan", s.plan(ctx)
	default:
		return s.change(), s.assigned(ctx, s.cert)
	}
}

func (s *story) csrOr(o Order) []byte {
	if o.ID == "" || s.dice.IntN(10) == 0 {
		return []byte("nonsense")
	}
	return s.csr(o.ID)
}

func (s *story) signsSomehow(ctx context.Context, orderID string) error {
	answers := []error{nil, nil, nil, errors.New("busy"), problem.Forbidden("no")}
	if err := answers[s.dice.IntN(len(answers))]; err != nil {
		s.ca.answers(func(context.Context, pki.Request) (*pki.Issued, error) { return nil, err })
		defer s.ca.answers(nil)
	}
	return s.sign(ctx, orderID)
}

func notTemporary(err error) error {
	if problem.KindOf(err) == problem.KindTemporary {
		return nil
	}
	return err
}

// change edits the certificate or its targets.
func (s *story) change() string {
	changes := []struct{ name, query string }{
		{"other names", fmt.Sprintf(`UPDATE certificate SET names = '{"dns":["n%d.example.com"]}' WHERE id = $1`, s.dice.IntN(3))},
		{"archive", "UPDATE certificate SET archived_at = updated_at WHERE id = $1"},
		{"restore", "UPDATE certificate SET archived_at = NULL WHERE id = $1"},
		{"auto", `UPDATE certificate SET renewal = '{"auto":true}' WHERE id = $1`},
		{"not auto", `UPDATE certificate SET renewal = '{"auto":false}' WHERE id = $1`},
		{"mx leaves", "UPDATE target SET certificate_id = NULL WHERE name = 'mx' AND certificate_id = $1"},
		{"mx comes", "UPDATE target SET certificate_id = $1 WHERE name = 'mx'"},
	}
	c := changes[s.dice.IntN(len(changes))]
	s.exec(c.query, s.cert)
	return c.name
}

// disorder finds what must never be.
func (s *story) disorder() string {
	for what, query := range map[string]string{
		"two versions of one order": `SELECT COUNT(*) FROM (SELECT order_id FROM version GROUP BY order_id HAVING COUNT(*) > 1) AS twice`,
		"an active version of an order that is not done": `SELECT COUNT(*) FROM version v JOIN cert_order o ON o.id = v.order_id
			WHERE v.activated_at IS NOT NULL AND o.state <> 'done'`,
		"an order that is done without a version": `SELECT COUNT(*) FROM cert_order o WHERE o.state = 'done'
			AND NOT EXISTS (SELECT 1 FROM version v WHERE v.id = o.version_id AND v.activated_at IS NOT NULL)`,
		"a version that is due while an order is open": `SELECT COUNT(*) FROM version v JOIN cert_order o ON o.certificate_id = v.certificate_id AND o.agent_id = v.agent_id
			WHERE v.due_at IS NOT NULL AND o.state IN ('pending', 'signing', 'issued')`,
		"a version that is due and not active":       `SELECT COUNT(*) FROM version WHERE due_at IS NOT NULL AND (activated_at IS NULL OR superseded_at IS NOT NULL)`,
		"a pending order without a task":             `SELECT COUNT(*) FROM cert_order o WHERE o.state = 'pending' AND NOT EXISTS (SELECT 1 FROM task t WHERE t.subject_id = o.id)`,
		"a task of an order that waits for none":     `SELECT COUNT(*) FROM task t JOIN cert_order o ON o.id = t.subject_id WHERE o.state <> 'pending'`,
		"an order that is signed without a job":      `SELECT COUNT(*) FROM cert_order o WHERE o.state = 'signing' AND NOT EXISTS (SELECT 1 FROM river_job j WHERE j.args ->> 'order_id' = o.id)`,
		"a deployment of an order that is given up":  `SELECT COUNT(*) FROM deployment d JOIN cert_order o ON o.id = d.order_id WHERE d.state = 'pending' AND o.state <> 'issued'`,
		"an order that ended without its time":       `SELECT COUNT(*) FROM cert_order WHERE (state IN ('done', 'failed', 'cancelled')) <> (finished_at IS NOT NULL)`,
		"an order that failed without a reason":      `SELECT COUNT(*) FROM cert_order WHERE state IN ('failed', 'cancelled') AND state_reason = ''`,
		"an active version of who is no holder":      `SELECT COUNT(*) FROM version v WHERE v.activated_at IS NOT NULL AND v.superseded_at IS NULL AND NOT EXISTS (SELECT 1 FROM target t WHERE t.certificate_id = v.certificate_id AND t.agent_id = v.agent_id)`,
		"a state that its timeline does not tell of": `SELECT COUNT(*) FROM cert_order o WHERE NOT EXISTS (SELECT 1 FROM event e WHERE e.order_id = o.id AND e.kind = 'order.' || o.state)`,
	} {
		if n := count(s.world, query); n > 0 {
			return fmt.Sprintf("there is %s: %d", what, n)
		}
	}
	return ""
}
