package access_test

import (
	"strings"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/access"
	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/rest"
	"github.com/certctl-io/certctl/internal/secret"
	"github.com/certctl-io/certctl/internal/testkit"
)

func TestRolesHoldWhatTheyShould(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		role       access.Role
		permission rest.Permission
		want       bool
	}{
		{access.Admin, rest.APIKeysWrite, true},
		{access.Admin, rest.MetricsRead, true},
		{access.Operator, rest.CertificatesWrite, true},
		{access.Operator, rest.IssuersWrite, false},
		{access.Operator, rest.APIKeysRead, false},
		{access.Viewer, rest.CertificatesRead, true},
		{access.Viewer, rest.CertificatesWrite, false},
		{access.Viewer, rest.AuditRead, false},
		{access.Metrics, rest.MetricsRead, true},
		{access.Metrics, rest.CertificatesRead, false},
		{access.Admin, rest.AgentSelf, false},
		{"root", rest.CertificatesRead, false},
		{access.Admin, "no.such", false},
	} {
		principal := access.Principal{Kind: access.KeyPrincipal, Role: test.role}
		if got := principal.Can(test.permission); got != test.want {
			t.Errorf("%s %s: %v", test.role, test.permission, got)
		}
	}
	agent := access.Principal{Kind: access.AgentPrincipal, Role: access.Admin}
	if agent.Can(rest.CertificatesRead) || !agent.Can(rest.AgentSelf) {
		t.Error("an agent has what is its own and nothing else")
	}
	if access.Known("no.such") || !access.Known(rest.Public) || !access.Known(rest.JobsWrite) {
		t.Error("Known is wrong")
	}
}

func TestKeysWorkUntilTheyExpireOrAreRevoked(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		ctx := t.Context()
		clock := testkit.NewClock(time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC))
		keys := access.NewService(d, clock.Now)
		first, made, err := keys.EnsureAdmin(ctx)
		if err != nil || !made {
			t.Fatalf("first key: %v, %v", made, err)
		}
		if _, again, err := keys.EnsureAdmin(ctx); err != nil || again {
			t.Fatalf("a second first key: %v, %v", again, err)
		}
		admin, err := keys.Authenticate(ctx, first.Reveal())
		if err != nil || admin.Role != access.Admin {
			t.Fatalf("first key: %+v, %v", admin, err)
		}
		soon := clock.Now().Add(time.Hour)
		viewer, text, err := keys.Create(ctx, "scripts", access.Viewer, &soon)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(text.Reveal(), access.KeyPrefix) {
			t.Errorf("key %q has no prefix", text.Reveal())
		}
		for _, wrong := range []string{"", access.KeyPrefix, text.Reveal() + "x", text.Reveal()[:30]} {
			if _, err := keys.Authenticate(ctx, wrong); problem.KindOf(err) != problem.KindUnauthenticated {
				t.Errorf("%q: %v", wrong, err)
			}
		}
		clock.Advance(2 * time.Hour)
		if _, err := keys.Authenticate(ctx, text.Reveal()); err == nil || !strings.Contains(err.Error(), "expired") {
			t.Errorf("expired key: %v", err)
		}
		if _, err := keys.Revoke(ctx, viewer.ID); err != nil {
			t.Fatal(err)
		}
		if _, err := keys.Authenticate(ctx, text.Reveal()); err == nil || !strings.Contains(err.Error(), "revoked") {
			t.Errorf("revoked key: %v", err)
		}
		if _, err := keys.Revoke(ctx, admin.ID); problem.KindOf(err) != problem.KindConflict {
			t.Errorf("last admin key revoked: %v", err)
		}
	})
}

func TestGivenKeyIsStoredOnceAndStaysRevoked(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		ctx := t.Context()
		keys := access.NewService(d, time.Now)
		given := secret.New("a-key-that-an-operator-made-up")
		for range 2 {
			if err := keys.EnsureGiven(ctx, given); err != nil {
				t.Fatal(err)
			}
		}
		principal, err := keys.Authenticate(ctx, given.Reveal())
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := keys.Create(ctx, "other", access.Admin, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := keys.Revoke(ctx, principal.ID); err != nil {
			t.Fatal(err)
		}
		if err := keys.EnsureGiven(ctx, given); err != nil {
			t.Fatal(err)
		}
		if _, err := keys.Authenticate(ctx, given.Reveal()); err == nil {
			t.Error("a revoked key works again after a restart")
		}
	})
}

func TestWrongKeysAreRefusedByField(t *testing.T) {
	t.Parallel()
	keys := access.NewService(testkit.NewDB(t, db.SQLite), time.Now)
	past := time.Now().Add(-time.Hour)
	_, _, err := keys.Create(t.Context(), "", "boss", &past)
	for _, field := range []string{"name", "role", "expires_at"} {
		if err == nil || !strings.Contains(err.Error(), field+":") {
			t.Errorf("%s is not named in: %v", field, err)
		}
	}
}
