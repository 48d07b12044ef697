package inventory

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/duration"
)

func TestStatusIsThatOfTheWorstFact(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	version := func(change func(*Version)) *Version {
		v := &Version{NotAfter: now.Add(duration.Day), RenewAt: now.Add(time.Hour), ExpiringAt: now.Add(2 * time.Hour)}
		if change != nil {
			change(v)
		}
		return v
	}
	good := HolderFacts{Agent: "good", Version: version(nil)}
	late := HolderFacts{Agent: "late", Version: version(func(v *Version) { v.ExpiringAt = now })}
	over := HolderFacts{Agent: "over", Version: version(func(v *Version) { v.NotAfter = now })}
	revoked := HolderFacts{Agent: "revoked", Version: version(func(v *Version) { v.RevokedAt = &now })}
	without := HolderFacts{Agent: "without"}
	failed := HolderFacts{Agent: "failed", Version: version(nil), Failure: "the CA said no"}
	gone := HolderFacts{Agent: "gone", Gone: true, Version: version(nil)}
	undeployed := []Failure{{Target: "web-1", Reason: "nginx -t failed"}}
	for _, test := range []struct {
		facts Facts
		want  Status
	}{
		{Facts{}, StatusUnassigned},
		{Facts{Archived: true, Holders: []HolderFacts{revoked}}, StatusArchived},
		{Facts{Holders: []HolderFacts{good}}, StatusActive},
		{Facts{Holders: []HolderFacts{good, late}}, StatusExpiring},
		{Facts{Holders: []HolderFacts{late, without}}, StatusPending},
		{Facts{Holders: []HolderFacts{without}, Failed: undeployed}, StatusFailing},
		{Facts{Holders: []HolderFacts{without, failed}}, StatusFailing},
		{Facts{Holders: []HolderFacts{good, gone}}, StatusFailing},
		{Facts{Holders: []HolderFacts{failed, over}}, StatusExpired},
		{Facts{Holders: []HolderFacts{over, revoked}}, StatusRevoked},
	} {
		got, reason := test.facts.Status(now)
		if got != test.want || (reason == "") != (got == StatusActive) {
			t.Errorf("%+v: %s (%s), want %s", test.facts, got, reason, test.want)
		}
	}
}

func TestOnlyTheLastOrderAndDeploymentCount(t *testing.T) {
	eachEngine(t, func(f *fixture) {
		c := f.create("www.example.com", "web-1")
		v := f.version(c.ID, f.web, true)
		is := func(want Status) {
			f.t.Helper()
			if got := f.get(c.ID); got.Status != want {
				f.t.Errorf("it is %s, want %s: %s", got.Status, want, got.Reason)
			}
		}
		is(StatusActive)
		failed := f.order(c.ID, f.web, "failed", "the CA said no")
		is(StatusFailing)
		f.order(c.ID, f.web, "pending", "")
		is(StatusActive)
		f.exec("UPDATE cert_order SET state = 'done' WHERE id = $1", failed)

		f.exec("UPDATE target SET certificate_id = NULL WHERE certificate_id = $1", c.ID)
		is(StatusUnassigned)
		f.playTarget(heldScene{DeploymentFailed: true}, "t", c.ID, f.web)
		is(StatusFailing)
		f.exec(`INSERT INTO deployment (id, target_id, agent_id, certificate_id, version_id, order_id, reason, state, state_reason, attempts, created_at, updated_at)
			VALUES ('dep_t-9', 'tgt_t', $1, $2, $3, '', 'requested', 'cancelled', '', 1, $4, $5)`, f.web, c.ID, v.ID, f.clock.Now(), f.clock.Now())
		is(StatusActive)
	})
}

// scene is a certificate of which anything may be true.
type scene struct {
	Archived bool
	Holders  []heldScene
}

// heldScene is what may be true about one agent. Most of it is well, as one bad
// fact hides the others.
type heldScene struct {
	Agent                                int
	NoTarget, OrderFailed, OrderFollowed bool
	DeploymentFailed, DeploymentFollowed bool
	NoVersion, Inactive, Superseded      bool
	Revoked, Expired, Expiring           bool
}

var scenes = rapid.Custom(func(r *rapid.T) scene {
	rarely := func() bool { return rapid.IntRange(0, 5).Draw(r, "luck") == 0 }
	s := scene{Archived: rarely()}
	for agent := range 3 {
		if agent == 2 && !rarely() { // it is revoked
			continue
		}
		s.Holders = append(s.Holders, heldScene{
			Agent: agent, NoTarget: rapid.IntRange(0, 2).Draw(r, "target") == 0, OrderFailed: rarely(), OrderFollowed: rarely(),
			DeploymentFailed: rarely(), DeploymentFollowed: rarely(),
			NoVersion: rarely(), Inactive: rarely(), Superseded: rarely(), Revoked: rarely(), Expired: rarely(), Expiring: rarely(),
		})
	}
	return s
})

// TestStatusInSQLIsThatOfTheFacts makes many certificates of random facts and
// asks for each status: the database must answer what Facts.Status says.
func TestStatusInSQLIsThatOfTheFacts(t *testing.T) {
	eachEngine(t, func(f *fixture) {
		agents := []string{f.web, f.api, f.agent("gone")}
		f.exec("UPDATE agent SET revoked_at = $1 WHERE id = $2", f.clock.Now(), agents[2])
		for number := range 120 {
			f.play(scenes.Example(number), number, agents)
		}
		want := map[Status][]string{}
		for _, c := range append(f.everything(Filter{}), f.everything(Filter{Status: StatusArchived})...) {
			want[c.Status] = append(want[c.Status], c.Name)
		}
		for _, status := range Statuses {
			got := titles(f.everything(Filter{Status: status}))
			slices.Sort(got)
			slices.Sort(want[status])
			if !slices.Equal(got, want[status]) {
				f.t.Errorf("%s: the database says %v, the facts %v", status, got, want[status])
			}
			if len(got) == 0 {
				f.t.Errorf("no certificate is %s, so nothing was compared", status)
			}
		}
	})
}

func (f *fixture) everything(filter Filter) []Standing {
	f.t.Helper()
	found, _, err := f.List(f.t.Context(), filter, db.Page{Limit: db.MaxLimit})
	f.must(err)
	return found
}

// play makes a scene true.
func (f *fixture) play(s scene, number int, agents []string) {
	f.t.Helper()
	c := f.create(fmt.Sprintf("n%d.example.com", number))
	if s.Archived {
		f.exec("UPDATE certificate SET archived_at = $1 WHERE id = $2", f.clock.Now(), c.ID)
	}
	for _, h := range s.Holders {
		agentID := agents[h.Agent]
		if !h.NoTarget {
			f.playTarget(h, fmt.Sprintf("t%d-%d", number, h.Agent), c.ID, agentID)
		}
		if !h.NoVersion {
			f.playVersion(h, f.version(c.ID, agentID, !h.Inactive))
		}
		if h.OrderFailed {
			f.order(c.ID, agentID, "failed", "no")
			if h.OrderFollowed {
				f.order(c.ID, agentID, "pending", "")
			}
		}
	}
}

func (f *fixture) playVersion(h heldScene, v Version) {
	f.t.Helper()
	now := f.clock.Now()
	if h.Revoked {
		v.RevokedAt = &now
	}
	if h.Superseded {
		v.SupersededAt = &now
	}
	if h.Expired {
		v.NotAfter = now
	}
	if h.Expiring {
		v.ExpiringAt = now
	}
	f.exec("UPDATE version SET revoked_at = $1, superseded_at = $2, not_after = $3, expiring_at = $4 WHERE id = $5",
		v.RevokedAt, v.SupersededAt, v.NotAfter, v.ExpiringAt, v.ID)
}

func (f *fixture) playTarget(h heldScene, name, certificateID, agentID string) {
	f.t.Helper()
	now := f.clock.Now()
	f.exec(`INSERT INTO target (id, name, revision, agent_id, kind, settings, certificate_id, created_at, updated_at)
		VALUES ($1, $2, 1, $3, 'file', '{}', $4, $5, $6)`, "tgt_"+name, name, agentID, certificateID, now, now)
	if !h.DeploymentFailed {
		return
	}
	v := f.version(certificateID, agentID, false)
	states := []string{"failed"}
	if h.DeploymentFollowed {
		states = append(states, "done")
	}
	for i, state := range states {
		f.exec(`INSERT INTO deployment (id, target_id, agent_id, certificate_id, version_id, order_id, reason, state, state_reason, attempts, created_at, updated_at)
			VALUES ($1, $2, $3, $4, $5, $6, 'issued', $7, 'no', 1, $8, $9)`,
			fmt.Sprintf("dep_%s-%d", name, i), "tgt_"+name, agentID, certificateID, v.ID, v.OrderID, state, now, now)
	}
}
