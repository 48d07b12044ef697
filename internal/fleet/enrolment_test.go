package fleet

import (
	"errors"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/agentapi"
	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/testkit"
)

func TestATokenLetsInAsManyAgentsAsItSays(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		_, single := w.token(NewEnrolmentToken{MaxUses: 1})
		_, three := w.token(NewEnrolmentToken{MaxUses: 3})
		_, unbounded := w.token(NewEnrolmentToken{})
		for _, test := range []struct {
			token, name string
			refused     problem.Kind
		}{
			{single, "one", ""},
			{single, "two", problem.KindUnauthenticated},
			{three, "a", ""},
			{three, "b", ""},
			{three, "c", ""},
			{three, "d", problem.KindUnauthenticated},
			{unbounded, "e", ""},
			{unbounded, "f", ""},
			{unbounded + "0", "g", problem.KindUnauthenticated},
			{"", "h", problem.KindUnauthenticated},
		} {
			wantKind(t, test.name, w.enrol(test.token, test.name), test.refused)
		}
	})
}

func TestManyAgentsAtOnceDoNotOverdrawAToken(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		const agents, uses = 12, 4
		tokenID, token := w.token(NewEnrolmentToken{MaxUses: uses})
		requests, results := make([]agentapi.EnrollRequest, agents), make([]error, agents)
		for i := range requests {
			requests[i] = agentapi.MakeEnrollRequest(newKey(t), token, string(rune('a'+i)), w.clock.Now())
		}
		var all sync.WaitGroup
		for i, request := range requests {
			all.Go(func() { _, results[i] = w.Enrol(t.Context(), request) })
		}
		all.Wait()
		in := 0
		for _, err := range results {
			if err == nil {
				in++
			} else {
				wantKind(t, "one too many", err, problem.KindUnauthenticated)
			}
		}
		kept, err := tokenByID(t.Context(), d.Read(), tokenID, "")
		if err != nil || in != uses || kept.Uses != uses {
			t.Errorf("%d agents joined, the token counts %d (%v); want %d", in, kept.Uses, err, uses)
		}
	})
}

func TestATokenEnds(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		_, hourly := w.token(NewEnrolmentToken{Lifetime: time.Hour})
		revokedID, revoked := w.token(NewEnrolmentToken{})
		if err := w.enrol(revoked, "early"); err != nil {
			t.Fatal(err)
		}
		for range 2 { // twice is as good as once
			if err := w.RevokeToken(t.Context(), revokedID); err != nil {
				t.Fatal(err)
			}
		}
		err := w.enrol(revoked, "late")
		wantKind(t, "revoked", err, problem.KindUnauthenticated)
		if err == nil || !strings.Contains(err.Error(), "revoked") {
			t.Errorf("the refusal does not say why: %v", err)
		}
		w.clock.Advance(time.Hour - time.Second)
		wantKind(t, "in the last second", w.enrol(hourly, "in-time"), "")
		w.clock.Advance(time.Second)
		err = w.enrol(hourly, "too-late")
		wantKind(t, "expired", err, problem.KindUnauthenticated)
		if err == nil || !strings.Contains(err.Error(), "expired") {
			t.Errorf("the refusal does not say why: %v", err)
		}
		wantKind(t, "unknown token", w.RevokeToken(t.Context(), "tok_none"), problem.KindNotFound)
	})
}

func TestEnrollingAgainWithTheSameKeyChangesNothing(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		tokenID, token := w.token(NewEnrolmentToken{MaxUses: 1, Labels: map[string]string{"env": "prod"}})
		key := newKey(t)
		request := agentapi.MakeEnrollRequest(key, token, "web-1", w.clock.Now())
		request.Labels = map[string]string{"env": "claimed", "zone": "a"}
		first, err := w.Enrol(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}
		again, err := w.Enrol(t.Context(), agentapi.MakeEnrollRequest(key, token, "web-1", w.clock.Now()))
		if err != nil || again != first {
			t.Errorf("the second answer is %+v, %v; want %+v", again, err, first)
		}
		if kept, err := tokenByID(t.Context(), d.Read(), tokenID, ""); err != nil || kept.Uses != 1 {
			t.Errorf("the token counts %d uses (%v)", kept.Uses, err)
		}
		agent, err := w.Agent(t.Context(), "web-1")
		if err != nil || agent.ID != first.AgentID || !maps.Equal(agent.Labels.V, map[string]string{"env": "prod", "zone": "a"}) {
			t.Errorf("the agent is %+v (%v); the labels of the token win", agent, err)
		}

		_, other := w.token(NewEnrolmentToken{})
		_, err = w.Enrol(t.Context(), agentapi.MakeEnrollRequest(key, other, "web-2", w.clock.Now()))
		wantKind(t, "a known key with another token", err, problem.KindConflict)
		if _, err := w.Revoke(t.Context(), "web-1"); err != nil {
			t.Fatal(err)
		}
		_, err = w.Enrol(t.Context(), agentapi.MakeEnrollRequest(key, token, "web-1", w.clock.Now()))
		wantKind(t, "the key of a revoked agent", err, problem.KindForbidden)
	})
}

func TestEnrolRefusesWhatDoesNotFit(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		tokenID, token := w.token(NewEnrolmentToken{})
		w.join("web-1")
		stolen := agentapi.MakeEnrollRequest(newKey(t), token, "web-2", w.clock.Now())
		stolen.PublicKey = newKey(t)[32:] // the public half
		for _, test := range []struct {
			name    string
			request agentapi.EnrollRequest
			want    problem.Kind
			field   string
		}{
			{"a name that is taken", agentapi.MakeEnrollRequest(newKey(t), token, "web-1", w.clock.Now()), problem.KindConflict, ""},
			{"no name", agentapi.MakeEnrollRequest(newKey(t), token, "", w.clock.Now()), problem.KindInvalid, "name"},
			{"another's key", stolen, problem.KindInvalid, "proof"},
			{"an old proof", agentapi.MakeEnrollRequest(newKey(t), token, "web-3", w.clock.Now().Add(-time.Hour)), problem.KindUnauthenticated, ""},
		} {
			_, err := w.Enrol(t.Context(), test.request)
			var p *problem.Error
			if !errors.As(err, &p) || p.Kind != test.want || p.Field != test.field {
				t.Errorf("%s: %v; want %s of %q", test.name, err, test.want, test.field)
			}
		}
		if kept, err := tokenByID(t.Context(), d.Read(), tokenID, ""); err != nil || kept.Uses != 0 {
			t.Errorf("refused agents used the token %d times (%v)", kept.Uses, err)
		}
	})
}

func TestCreateTokenNamesTheFieldThatIsWrong(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testkit.NewDB(t, db.SQLite))
	for _, test := range []struct {
		n     NewEnrolmentToken
		field string
	}{
		{NewEnrolmentToken{Description: strings.Repeat("x", maxDescription+1)}, "description"},
		{NewEnrolmentToken{Description: "two\nlines"}, "description"},
		{NewEnrolmentToken{MaxUses: -1}, "max_uses"},
		{NewEnrolmentToken{Lifetime: maxTokenLifetime + 1}, "lifetime"},
		{NewEnrolmentToken{Labels: map[string]string{"a b": "c"}}, "labels"},
	} {
		_, _, err := w.CreateToken(t.Context(), test.n)
		if p, ok := problem.As(err); !ok || p.Field != test.field {
			t.Errorf("%+v: %v, want a problem of %s", test.n, err, test.field)
		}
	}
}

func TestWhoHasNoTokenDoesNotWaitForThoseWhoWrite(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		w := newWorld(t, d)
		w.inTx(func(*db.Tx) error { // SQLite has one writer, which is this
			wantKind(t, "a made up token", w.enrol("cet_guess", "web-1"), problem.KindUnauthenticated)
			return nil
		})
	})
}
