package fleet

import (
	"slices"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/agentapi"
	"github.com/certctl-io/certctl/internal/audit"
	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/testkit"
)

func TestARequestTokenIsGoodOnceAndForAMinute(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		agent := w.join("web-1")
		token := agent.bearer(serverID)
		agentID, name, err := w.Authenticate(t.Context(), token, anyNumber)
		if err != nil || agentID != agent.id || name != "web-1" {
			t.Fatalf("authenticated as %s %s: %v", agentID, name, err)
		}
		refused := func(what, token string) {
			t.Helper()
			_, _, err := w.Authenticate(t.Context(), token, anyNumber)
			wantKind(t, what, err, problem.KindUnauthenticated)
		}
		refused("a replay", token)
		refused("a foreign audience", agent.bearer("srv_2"))
		refused("another's key", joined{w: w, id: agent.id, key: newKey(t)}.bearer(serverID))
		refused("an unknown agent", joined{w: w, id: "agt_none", key: agent.key}.bearer(serverID))
		refused("no token", "eyJ.eyJ.x")

		old := agent.bearer(serverID)
		w.clock.Advance(agentapi.TokenLifetime + agentapi.ClockSkew - time.Second)
		late := agent.bearer(serverID)
		if _, _, err := w.Authenticate(t.Context(), old, anyNumber); err != nil {
			t.Errorf("within its lifetime and the skew: %v", err)
		}
		w.clock.Advance(agentapi.TokenLifetime + agentapi.ClockSkew)
		refused("an expired token", late)
	})
}

// A token id is forgotten no sooner than a copy of the token is too old.
func TestPurgeForgetsOnlyTokensThatAreOutOfDate(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		agent := w.join("web-1")
		token := agent.bearer(serverID)
		if _, _, err := w.Authenticate(t.Context(), token, anyNumber); err != nil {
			t.Fatal(err)
		}
		purge := func() (left int) {
			t.Helper()
			if err := (&purgeWorker{service: w.Service}).Work(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			left, err := db.One[int](t.Context(), d.Read(), "SELECT COUNT(*) FROM agent_token_seen")
			if err != nil {
				t.Fatal(err)
			}
			return left
		}
		w.clock.Advance(agentapi.TokenLifetime + agentapi.ClockSkew - time.Second)
		if left := purge(); left != 1 {
			t.Errorf("%d tokens are remembered while one is in date", left)
		}
		_, _, err := w.Authenticate(t.Context(), token, anyNumber)
		wantKind(t, "a replay at the last moment", err, problem.KindUnauthenticated)
		w.clock.Advance(2 * time.Second)
		if left := purge(); left != 0 {
			t.Errorf("%d tokens are remembered that are out of date", left)
		}
		_, _, err = w.Authenticate(t.Context(), token, anyNumber)
		wantKind(t, "a replay after that", err, problem.KindUnauthenticated)
	})
}

func TestARevokedAgentIsOutAtOnce(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		agent, other := w.join("web-1"), w.join("web-2")
		waiting, othersPoll := w.waits(w.replica, agent.id), w.waits(w.replica, other.id)
		w.add(agent.id, agentapi.TaskCSR, newOrder(), "later", w.clock.Now().Add(time.Hour))
		w.add(other.id, agentapi.TaskCSR, newOrder(), "later", w.clock.Now().Add(time.Hour))

		for range 2 { // twice is as good as once
			revoked, err := w.Revoke(t.Context(), "web-1")
			if err != nil || revoked.Status(w.clock.Now()) != Revoked {
				t.Fatalf("revoke: %+v, %v", revoked, err)
			}
		}
		wantKind(t, "its waiting poll", w.promptly(waiting).err, problem.KindForbidden)
		_, _, err := w.Authenticate(t.Context(), agent.bearer(serverID), anyNumber)
		wantKind(t, "its next request", err, problem.KindForbidden)
		_, err = w.Poll(t.Context(), agent.id, agentapi.PollRequest{})
		wantKind(t, "its next poll", err, problem.KindForbidden)

		if !slices.Equal(w.left, []string{agent.id}) {
			t.Errorf("other features were told of %v", w.left)
		}
		if left := w.heldTasks(agent.id); len(left) != 0 {
			t.Errorf("tasks are left: %v", left)
		}
		if left := w.heldTasks(other.id); len(left) != 1 {
			t.Errorf("the other agent has the tasks %v", left)
		}
		select {
		case p := <-othersPoll:
			t.Errorf("the other agent's poll ended: %+v", p)
		default:
		}
		w.Close()
		w.promptly(othersPoll)
	})
}

func TestAgentsAreFoundFilteredAndChanged(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		w.join("web-1")
		web2, mail := w.join("web_2"), w.join("mail")
		mail.poll(agentapi.PollRequest{Version: "1.2.3", OS: "linux/amd64"})
		labels := map[string]string{"env": "prod"}
		changed, err := w.Update(t.Context(), web2.id, AgentChange{Labels: &labels}, func(Agent) error { return nil })
		if err != nil || changed.Revision != 2 {
			t.Fatalf("update: %+v, %v", changed, err)
		}
		for _, test := range []struct {
			filter AgentFilter
			want   []string
		}{
			{AgentFilter{}, []string{"mail", "web-1", "web_2"}},
			{AgentFilter{Status: Online}, []string{"mail"}},
			{AgentFilter{Status: NeverSeen, Name: "WEB"}, []string{"web-1", "web_2"}},
			{AgentFilter{Name: "b_"}, []string{"web_2"}},
			{AgentFilter{Labels: []Label{{"env", "prod"}}}, []string{"web_2"}},
			{AgentFilter{Labels: []Label{{"env", "test"}}}, nil},
		} {
			agents, _, err := w.Agents(t.Context(), test.filter, db.Page{Sort: "name"})
			var names []string
			for _, agent := range agents {
				names = append(names, agent.Name)
			}
			if err != nil || !slices.Equal(names, test.want) {
				t.Errorf("%+v: %v (%v), want %v", test.filter, names, err, test.want)
			}
		}
		counts, err := w.Counts(t.Context())
		if err != nil || counts[Online] != 1 || counts[NeverSeen] != 2 || len(counts) != 2 {
			t.Errorf("counts: %v, %v", counts, err)
		}
		taken := "mail"
		_, err = w.Update(t.Context(), "web-1", AgentChange{Name: &taken}, func(Agent) error { return nil })
		wantKind(t, "a name that is taken", err, problem.KindConflict)
		_, err = w.Update(t.Context(), "nobody", AgentChange{}, func(Agent) error { return nil })
		wantKind(t, "no such agent", err, problem.KindNotFound)
	})
}

func TestWhatPeopleDoToAgentsIsAudited(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		agent := w.join("web-1")
		if _, err := w.Revoke(audit.WithActor(t.Context(), audit.Actor{Kind: "user", ID: "key_1"}), "web-1"); err != nil {
			t.Fatal(err)
		}
		got, err := db.All[struct {
			Action   string `db:"action"`
			ActorID  string `db:"actor_id"`
			ObjectID string `db:"object_id"`
		}](t.Context(), d.Read(), "SELECT action, actor_id, object_id FROM audit_event WHERE object_kind = 'agent' ORDER BY id")
		if err != nil || len(got) != 2 {
			t.Fatalf("events: %+v, %v", got, err)
		}
		if got[0].Action != "agent.enrol" || got[0].ActorID != agent.id || got[1].Action != "agent.revoke" || got[1].ActorID != "key_1" {
			t.Errorf("events: %+v", got)
		}
	})
}

func TestARequestThatIsNotAdmittedIsNotWrittenDown(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		agent := w.join("web-1")
		asked := ""
		_, _, err := w.Authenticate(t.Context(), agent.bearer(serverID), func(agentID string) error {
			asked = agentID
			return problem.Conflict("too often")
		})
		wantKind(t, "a request too many", err, problem.KindConflict)
		seen, err := db.One[int](t.Context(), d.Read(), "SELECT COUNT(*) FROM agent_token_seen")
		if err != nil || seen != 0 || asked != agent.id {
			t.Errorf("%d tokens are remembered, asked about %q, %v", seen, asked, err)
		}
		// Nobody uses up what another agent may ask.
		forged := joined{w: w, id: agent.id, key: newKey(t)}
		_, _, err = w.Authenticate(t.Context(), forged.bearer(serverID), func(string) error {
			t.Error("a forged token counts for the agent that it names")
			return nil
		})
		wantKind(t, "a forged token", err, problem.KindUnauthenticated)
		_, _, err = w.Authenticate(t.Context(), joined{w: w, id: "agt_\x00", key: agent.key}.bearer(serverID), anyNumber)
		wantKind(t, "an id that no database takes", err, problem.KindUnauthenticated)
	})
}
