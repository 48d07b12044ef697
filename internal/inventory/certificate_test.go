package inventory

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/duration"
	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/profile"
	"github.com/certctl-io/certctl/internal/rest"
)

func TestCreateTakesDefaultsAndAsksForOrders(t *testing.T) {
	eachEngine(t, func(f *fixture) {
		made := f.create("Bücher.example", "web-1", "api-1")
		want := Certificate{
			Name: "xn--bcher-kva.example", KeyType: pki.ECDSAP256, Lifetime: 90 * duration.Day, Profile: "default", Issuer: "local",
			Renewal: Renewal{Auto: true},
		}
		if made.Name != want.Name || made.KeyType != want.KeyType || made.Lifetime != want.Lifetime || made.Profile != want.Profile ||
			made.Issuer != want.Issuer || made.Renewal != want.Renewal || made.Revision != 1 || made.CommonName != "" {
			f.t.Errorf("made %+v", made)
		}
		if !slices.Equal(made.Names.List(), []string{"xn--bcher-kva.example"}) || !slices.Equal(made.Targets, []string{"api-1", "web-1"}) {
			f.t.Errorf("names %v, targets %v", made.Names, made.Targets)
		}
		if made.Status != StatusPending || made.Reason == "" || made.Soonest != nil {
			f.t.Errorf("status %s: %s", made.Status, made.Reason)
		}
		f.expect("reconcile requested")
		if got := f.actions(made.ID); !slices.Equal(got, []string{"certificate.create"}) {
			f.t.Errorf("audit: %v", got)
		}
		if got := f.kinds(made.Name); !slices.Equal(got, []string{"certificate.created"}) {
			f.t.Errorf("timeline: %v", got)
		}
		if got := f.get(made.ID); got.Name != made.Name || got.Names.List()[0] != made.Name || got.CreatedAt != f.clock.Now() {
			f.t.Errorf("read %+v", got)
		}
		holders, err := f.store.Holders(f.t.Context(), f.db.Read(), made.ID)
		f.must(err)
		slices.Sort(holders)
		if want := []string{f.web, f.api}; !slices.Equal(holders, slices.Sorted(slices.Values(want))) {
			f.t.Errorf("holders %v, want %v", holders, want)
		}
	})
}

func TestCertificatesAreCalledAfterTheirFirstName(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"www.example.com":              "www.example.com",
		"*.example.com":                "wildcard.example.com",
		"2001:db8::1":                  "2001-db8--1",
		"10.0.0.7":                     "10.0.0.7",
		"spiffe://example.org/ns/prod": "spiffe---example.org-ns-prod",
		"ops@example.com":              "ops-example.com",
	} {
		if got := called(name); got != want {
			t.Errorf("%s: called %s, want %s", name, got, want)
		}
	}
}

func TestANameIsTakenOnce(t *testing.T) {
	eachEngine(t, func(f *fixture) {
		ctx := f.t.Context()
		first := f.create("a.example.com", "web-1")
		second := f.create("b.example.com")
		_, err := f.Create(ctx, Change{Names: &[]string{"A.example.com"}})
		if found, _ := problem.As(err); found == nil || found.Kind != problem.KindConflict || found.Field != "name" || found.Remedy == "" {
			f.t.Errorf("create: %v", err)
		}
		_, err = f.Update(ctx, second.ID, anyRevision, Change{Name: new("a.example.com")})
		if problem.KindOf(err) != problem.KindConflict {
			f.t.Errorf("rename: %v", err)
		}
		_, err = f.Create(ctx, Change{Names: &[]string{"c.example.com"}, Targets: &[]string{"web-1"}})
		if found, _ := problem.As(err); found == nil || found.Field != "targets[0]" {
			f.t.Errorf("a target of another certificate: %v", err)
		}
		if got := f.get(first.ID); got.Revision != 1 || !slices.Equal(got.Targets, []string{"web-1"}) {
			f.t.Errorf("the first is %+v", got)
		}
		if _, err := f.Get(ctx, "c.example.com"); problem.KindOf(err) != problem.KindNotFound {
			f.t.Errorf("what failed was kept: %v", err)
		}
	})
}

func TestUpdateReconcilesOnlyWhatOrdersDependOn(t *testing.T) {
	eachEngine(t, func(f *fixture) {
		ctx := f.t.Context()
		strict, err := f.profiles.Create(ctx, "strict", profile.Spec{
			KeyTypes: []pki.KeyType{pki.ECDSAP256, pki.RSA2048}, MaxLifetime: duration.Duration(200 * duration.Day),
			Names: profile.Patterns{DNS: []string{"**.example.com"}}, AllowCommonName: true,
		})
		f.must(err)
		c := f.create("www.example.com", "web-1")
		f.asked.calls = nil
		revision := 1
		for _, test := range []struct {
			name   string
			change Change
			calls  []string
		}{
			{"nothing", Change{}, nil},
			{"the same", Change{Names: &[]string{"WWW.example.com"}, Targets: &[]string{"web-1"}, Profile: new("default"), Issuer: new("local"), KeyType: new(pki.ECDSAP256)}, nil},
			{"owner", Change{Owner: new("team web")}, []string{}},
			{"tags", Change{Tags: &map[string]string{"env": "prod"}}, []string{}},
			{"name", Change{Name: new("www")}, []string{}},
			{"names", Change{Names: &[]string{"www.example.com", "example.com"}}, []string{"reconcile requested"}},
			{"common name", Change{CommonName: new("Example.com")}, []string{"reconcile requested"}},
			{"key type", Change{KeyType: new(pki.RSA2048)}, []string{"reconcile requested"}},
			{"lifetime", Change{Lifetime: new(duration.Duration(60 * duration.Day))}, []string{"reconcile requested"}},
			{"profile", Change{Profile: new(strict.ID)}, []string{"reconcile requested"}},
			{"issuer", Change{Issuer: new("other")}, []string{"reconcile requested"}},
			{"renewal", Change{Renewal: &RenewalSpec{Before: duration.Duration(10 * duration.Day)}}, []string{"reconcile requested"}},
			{"targets", Change{Targets: &[]string{"api-2", "web-1"}}, []string{"reconcile target_added"}},
		} {
			got, err := f.Update(ctx, c.ID, anyRevision, test.change)
			if err != nil {
				f.t.Fatalf("%s: %v", test.name, err)
			}
			if test.calls != nil {
				revision++
			}
			if got.Revision != revision || f.get(c.ID).Revision != revision {
				f.t.Errorf("%s: revision %d, want %d", test.name, got.Revision, revision)
			}
			f.expect(test.calls...)
		}
		got := f.get("www")
		if got.CommonName != "example.com" || got.KeyType != pki.RSA2048 || got.Lifetime != 60*duration.Day || got.Profile != "strict" ||
			got.Issuer != "other" || got.Owner != "team web" || got.Tags["env"] != "prod" || !slices.Equal(got.Targets, []string{"api-2", "web-1"}) {
			f.t.Errorf("after all changes: %+v", got)
		}
		if events := f.actions(c.ID); len(events) != revision {
			f.t.Errorf("%d changes left the audit events %v", revision, events)
		}
		// Empty values go back to the defaults of the profile.
		got, err = f.Update(ctx, c.ID, anyRevision, Change{KeyType: new(pki.KeyType("")), CommonName: new(""), Lifetime: new(duration.Duration(0))})
		f.must(err)
		if got.KeyType != pki.ECDSAP256 || got.CommonName != "" || got.Lifetime != 90*duration.Day {
			f.t.Errorf("after emptying: %+v", got.Certificate)
		}
	})
}

func TestAStaleChangeIsRefused(t *testing.T) {
	eachEngine(t, func(f *fixture) {
		ctx := f.t.Context()
		c := f.create("www.example.com", "web-1")
		read := rest.IfMatch{IfMatch: `"1"`}
		_, err := f.Update(ctx, c.ID, read.Check, Change{Owner: new("a")})
		f.must(err)
		if _, err := f.Update(ctx, c.ID, read.Check, Change{Owner: new("b")}); problem.KindOf(err) != problem.KindStale {
			f.t.Errorf("update: %v", err)
		}
		if err := f.Archive(ctx, c.ID, read.Check); problem.KindOf(err) != problem.KindStale {
			f.t.Errorf("archive: %v", err)
		}
		if got := f.get(c.ID); got.Owner != "a" || got.Status == StatusArchived {
			f.t.Errorf("it is %+v", got)
		}
	})
}

func TestAStricterProfileDoesNotKeepTheOwnerFromChanging(t *testing.T) {
	eachEngine(t, func(f *fixture) {
		ctx := f.t.Context()
		c := f.create("www.example.com")
		_, err := f.profiles.Update(ctx, "default", anyRevision, profile.Change{Names: &profile.Patterns{DNS: []string{"**.example.org"}}})
		f.must(err)
		_, err = f.Update(ctx, c.ID, anyRevision, Change{Owner: new("somebody")})
		f.must(err)
		if _, err := f.Update(ctx, c.ID, anyRevision, Change{KeyType: new(pki.RSA2048)}); problem.KindOf(err) != problem.KindInvalid {
			f.t.Errorf("a change of what is asked for: %v", err)
		}
	})
}

func TestArchivingReleasesTargetsAndCanBeUndone(t *testing.T) {
	eachEngine(t, func(f *fixture) {
		ctx := f.t.Context()
		c := f.create("www.example.com", "web-1")
		f.asked.calls = nil
		f.must(f.Archive(ctx, c.Name, anyRevision))
		f.expect("reconcile requested")
		f.must(f.Archive(ctx, c.Name, anyRevision)) // again: nothing happens
		f.expect()
		got := f.get(c.ID)
		if got.Status != StatusArchived || len(got.Targets) != 0 || got.Revision != 2 {
			f.t.Errorf("archived: %+v", got)
		}
		listed, _, err := f.List(ctx, Filter{}, db.Page{})
		f.must(err)
		if len(listed) != 0 {
			f.t.Errorf("an archived certificate is listed: %+v", listed)
		}
		for what, err := range map[string]error{
			"update": second(f.Update(ctx, c.ID, anyRevision, Change{Owner: new("a")})),
			"renew":  second(f.Renew(ctx, c.ID, nil)),
			"deploy": second(f.Deploy(ctx, c.ID)),
			"revoke": second(f.Revoke(ctx, c.ID, Unspecified, true)),
		} {
			if problem.KindOf(err) != problem.KindConflict {
				f.t.Errorf("%s: %v", what, err)
			}
		}
		got, err = f.Update(ctx, c.ID, anyRevision, Change{Archived: new(false), Targets: &[]string{"web-2"}})
		f.must(err)
		if got.Status != StatusPending || !slices.Equal(got.Targets, []string{"web-2"}) {
			f.t.Errorf("restored: %+v", got)
		}
		f.expect("reconcile requested")
		if _, err := f.Update(ctx, c.ID, anyRevision, Change{Archived: new(true)}); problem.KindOf(err) != problem.KindInvalid {
			f.t.Errorf("archived by a change: %v", err)
		}
		want := []string{"certificate.create", "certificate.delete", "certificate.update"}
		if got := f.actions(c.ID); !slices.Equal(got, want) {
			f.t.Errorf("audit: %v, want %v", got, want)
		}
	})
}

func second[T any](_ T, err error) error { return err }

func TestAChangedPolicyMovesTheRenewalOfWhatIsInUse(t *testing.T) {
	eachEngine(t, func(f *fixture) {
		c := f.create("www.example.com", "web-1")
		v := f.version(c.ID, f.web, true)
		_, err := f.Update(f.t.Context(), c.ID, anyRevision, Change{Renewal: &RenewalSpec{Before: duration.Duration(25 * duration.Day)}})
		f.must(err)
		got := f.read(v.ID)
		latest := v.NotAfter.AddDate(0, 0, -25)
		if got.RenewAt.After(latest) || got.RenewAt.Before(latest.Add(-6*time.Hour)) || !got.ExpiringAt.After(got.RenewAt) {
			f.t.Errorf("renew at %s, expiring at %s; the policy says %s", got.RenewAt, got.ExpiringAt, latest)
		}
	})
}

func TestConcurrentChangesAreAllKept(t *testing.T) {
	eachEngine(t, func(f *fixture) {
		c := f.create("www.example.com")
		errs := make(chan error)
		const writers = 8
		for i := range writers {
			go func() {
				_, err := f.Update(f.t.Context(), c.ID, anyRevision, Change{Owner: new(fmt.Sprintf("owner %d", i))})
				errs <- err
			}()
		}
		for range writers {
			if err := <-errs; err != nil {
				f.t.Error(err)
			}
		}
		if got := f.get(c.ID); got.Revision != 1+writers {
			f.t.Errorf("revision %d after %d changes", got.Revision, writers)
		}
	})
}
