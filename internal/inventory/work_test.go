package inventory

import (
	"slices"
	"testing"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/problem"
)

func TestRenewStartsOrdersForTheNamedHolders(t *testing.T) {
	eachEngine(t, func(f *fixture) {
		ctx := f.t.Context()
		c := f.create("www.example.com", "web-1", "web-2", "api-1")
		f.asked.calls = nil
		orders, err := f.Renew(ctx, c.Name, nil)
		f.must(err)
		if want := []string{"ord_of_" + f.api, "ord_of_" + f.web}; !slices.Equal(orders, want) {
			f.t.Errorf("all: %v, want %v", orders, want)
		}
		f.expect("start forced", "start forced")
		orders, err = f.Renew(ctx, c.ID, []string{"web", f.web})
		f.must(err)
		if !slices.Equal(orders, []string{"ord_of_" + f.web}) {
			f.t.Errorf("one: %v", orders)
		}
		_, err = f.Renew(ctx, c.ID, []string{"web", "nobody"})
		if found, _ := problem.As(err); found == nil || found.Field != "agents[1]" || found.Kind != problem.KindInvalid {
			f.t.Errorf("unknown agent: %v", err)
		}
		f.exec("UPDATE agent SET revoked_at = $1 WHERE id = $2", f.clock.Now(), f.web)
		orders, err = f.Renew(ctx, c.ID, nil)
		f.must(err)
		if !slices.Equal(orders, []string{"ord_of_" + f.api}) {
			f.t.Errorf("without the revoked agent: %v", orders)
		}
		f.exec("UPDATE agent SET revoked_at = $1", f.clock.Now())
		if _, err := f.Renew(ctx, c.ID, nil); problem.KindOf(err) != problem.KindConflict {
			f.t.Errorf("all agents revoked: %v", err)
		}
		alone := f.create("alone.example.com")
		if _, err := f.Renew(ctx, alone.ID, nil); problem.KindOf(err) != problem.KindConflict {
			f.t.Errorf("without targets: %v", err)
		}
	})
}

func TestRevokingACertificateRevokesAllThatIsValid(t *testing.T) {
	eachEngine(t, func(f *fixture) {
		ctx := f.t.Context()
		c := f.create("www.example.com", "web-1", "api-1")
		expired := f.version(c.ID, f.web, true)
		f.clock.Advance(expired.NotAfter.Sub(f.clock.Now()))
		if _, err := f.Revoke(ctx, c.ID, Unspecified, false); problem.KindOf(err) != problem.KindConflict {
			f.t.Errorf("nothing is valid: %v", err)
		}
		replaced := f.version(c.ID, f.web, true)
		served := f.version(c.ID, f.web, true)
		other := f.version(c.ID, f.api, true)
		f.asked.calls = nil

		got, err := f.Revoke(ctx, c.ID, KeyCompromise, true)
		f.must(err)
		if got.Status != StatusRevoked {
			f.t.Errorf("status %s: %s", got.Status, got.Reason)
		}
		local := issuerID("local")
		f.expect("revoked "+local+" "+replaced.Serial+" 3", "revoked "+local+" "+served.Serial+" 3", "revoked "+local+" "+other.Serial+" 3",
			"start rekey", "start rekey")
		for _, v := range []Version{replaced, served, other} {
			now := f.read(v.ID)
			if now.RevokedAt == nil || now.RevocationReason == nil || *now.RevocationReason != KeyCompromise || now.DueAt != nil {
				f.t.Errorf("version %s: %+v", v.ID, now)
			}
		}
		if f.read(expired.ID).RevokedAt != nil {
			f.t.Error("an expired version was revoked")
		}
		_, err = f.Revoke(ctx, c.ID, KeyCompromise, false) // again: nothing happens
		f.must(err)
		f.expect()
		if got := f.actions(c.ID); !slices.Equal(got, []string{"certificate.create", "certificate.revoke"}) {
			f.t.Errorf("audit: %v", got)
		}
		want := []string{"certificate.created", "version.revoked", "version.revoked", "version.revoked"}
		if got := f.kinds(c.ID); !slices.Equal(got, want) {
			f.t.Errorf("timeline: %v", got)
		}
	})
}

func TestRevokingOneVersionLeavesTheOthers(t *testing.T) {
	eachEngine(t, func(f *fixture) {
		ctx := f.t.Context()
		c := f.create("www.example.com", "web-1", "api-1")
		one, other := f.version(c.ID, f.web, true), f.version(c.ID, f.api, true)
		for range 2 { // the second time changes nothing
			got, err := f.RevokeVersion(ctx, one.ID, Superseded)
			f.must(err)
			if got.State(f.clock.Now()) != VersionRevoked || got.Certificate != c.Name || got.Agent != "web" || got.Issuer != "local" {
				f.t.Errorf("revoked %+v", got)
			}
		}
		if got := f.actions(one.ID); !slices.Equal(got, []string{"version.revoke"}) {
			f.t.Errorf("audit: %v", got)
		}
		if f.read(other.ID).RevokedAt != nil {
			f.t.Error("the other version was revoked, too")
		}
		if _, err := f.RevokeVersion(ctx, one.ID, KeyCompromise); problem.KindOf(err) != problem.KindConflict {
			f.t.Errorf("another reason: %v", err)
		}
		f.clock.Advance(other.NotAfter.Sub(f.clock.Now()))
		if _, err := f.RevokeVersion(ctx, other.ID, Superseded); problem.KindOf(err) != problem.KindConflict {
			f.t.Errorf("expired: %v", err)
		}
		if _, err := f.RevokeVersion(ctx, "ver_none", Superseded); problem.KindOf(err) != problem.KindNotFound {
			f.t.Errorf("unknown: %v", err)
		}
	})
}

func TestDeployPutsActiveVersionsOnTheirTargetsAgain(t *testing.T) {
	eachEngine(t, func(f *fixture) {
		ctx := f.t.Context()
		c := f.create("www.example.com", "web-1", "web-2", "api-1")
		if _, err := f.Deploy(ctx, c.ID); problem.KindOf(err) != problem.KindConflict {
			f.t.Errorf("nothing to deploy: %v", err)
		}
		f.version(c.ID, f.web, true)
		got, err := f.Deploy(ctx, c.Name)
		f.must(err)
		if !slices.Equal(got, []string{"dep_of_web-1", "dep_of_web-2"}) {
			f.t.Errorf("deployments: %v", got)
		}
		if got := f.actions(c.ID); !slices.Equal(got, []string{"certificate.create", "certificate.deploy"}) {
			f.t.Errorf("audit: %v", got)
		}
	})
}

func TestVersionsAreListedWithoutAndReadWithTheirChain(t *testing.T) {
	eachEngine(t, func(f *fixture) {
		ctx := f.t.Context()
		c := f.create("www.example.com", "web-1")
		first, last := f.version(c.ID, f.web, true), f.version(c.ID, f.web, true)
		listed, next, err := f.Versions(ctx, c.Name, db.Page{Limit: 1})
		f.must(err)
		if len(listed) != 1 || listed[0].ID != last.ID || len(listed[0].Chain) != 0 || next == "" {
			f.t.Fatalf("listed %+v", listed)
		}
		listed, next, err = f.Versions(ctx, c.Name, db.Page{Limit: 1, Cursor: next})
		f.must(err)
		if len(listed) != 1 || listed[0].ID != first.ID || listed[0].State(f.clock.Now()) != VersionSuperseded || next != "" {
			f.t.Fatalf("next %+v", listed)
		}
		got, err := f.Version(ctx, last.ID)
		f.must(err)
		if len(got.Chain) != 1 || got.Certificate != c.Name || got.Agent != "web" || got.Serial != last.Serial {
			f.t.Errorf("read %+v", got)
		}
	})
}
