package profile

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/duration"
	"github.com/certctl-io/certctl/internal/id"
	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/rest"
	"github.com/certctl-io/certctl/internal/testkit"
)

// fields gives where the problems of an error are, sorted.
func fields(err error) []string {
	found, ok := problem.As(err)
	if !ok {
		return nil
	}
	var all []string
	for _, e := range append([]*problem.Error{found}, found.More...) {
		all = append(all, e.Field)
	}
	slices.Sort(all)
	return all
}

func parse(t *testing.T, names ...string) pki.Names {
	t.Helper()
	parsed, err := pki.ParseNames(names)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func days(n int) duration.Duration { return duration.Duration(n) * duration.Duration(duration.Day) }

func TestCheckReportsAllThatIsNotAllowed(t *testing.T) {
	t.Parallel()
	strict := Profile{Name: "strict", Spec: Spec{
		KeyTypes: []pki.KeyType{pki.ECDSAP256, pki.RSA3072}, MaxLifetime: days(90),
		Names: Patterns{
			DNS: []string{"example.com", "*.example.com", "**.apps.example.com", "wildcard:*.apps.example.com"},
			IP:  []string{"10.0.0.0/8"}, URI: []string{"spiffe://example.org/ns/prod"},
		},
	}}
	withCN := strict
	withCN.Spec.AllowCommonName = true
	long := strings.Repeat("a", 60) + ".example.com"
	for _, test := range []struct {
		name   string
		rules  Profile
		wish   Wish
		fields []string
	}{
		{"all is well", strict, Wish{Names: parse(t, "example.com", "www.example.com", "a.b.apps.example.com", "*.apps.example.com", "10.1.2.3", "spiffe://example.org/ns/prod/api")}, nil},
		{"no names", strict, Wish{}, []string{"names"}},
		{"two labels where one is allowed", strict, Wish{Names: parse(t, "a.b.example.com")}, []string{"names"}},
		{"a wildcard where none is allowed", strict, Wish{Names: parse(t, "*.example.com")}, []string{"names"}},
		{"a neighbour", strict, Wish{Names: parse(t, "badexample.com", "www.example.com.evil.org")}, []string{"names", "names"}},
		{"an address outside", strict, Wish{Names: parse(t, "11.0.0.1")}, []string{"names"}},
		{"a sibling path", strict, Wish{Names: parse(t, "spiffe://example.org/ns/production")}, []string{"names"}},
		{"a type without patterns", strict, Wish{Names: parse(t, "ops@example.com")}, []string{"names"}},
		{"a common name", strict, Wish{Names: parse(t, "example.com"), CommonName: "example.com"}, []string{"common_name"}},
		{"a common name that is allowed", withCN, Wish{Names: parse(t, "example.com"), CommonName: "example.com"}, nil},
		{"a foreign common name", withCN, Wish{Names: parse(t, "example.com"), CommonName: "www.example.com"}, []string{"common_name"}},
		{"a long common name", withCN, Wish{Names: parse(t, long), CommonName: long}, []string{"common_name"}},
		{"a key type", strict, Wish{Names: parse(t, "example.com"), KeyType: pki.RSA2048}, []string{"key_type"}},
		{"a long lifetime", strict, Wish{Names: parse(t, "example.com"), Lifetime: days(90).Std() + time.Second}, []string{"lifetime"}},
		{"a short lifetime", strict, Wish{Names: parse(t, "example.com"), Lifetime: minLifetime - time.Second}, []string{"lifetime"}},
		{"everything", strict, Wish{Names: parse(t, "example.org"), CommonName: "x", KeyType: pki.Ed25519, Lifetime: days(91).Std()}, []string{"common_name", "key_type", "lifetime", "names"}},
	} {
		if test.wish.KeyType == "" {
			test.wish.KeyType = pki.ECDSAP256
		}
		if test.wish.Lifetime == 0 {
			test.wish.Lifetime = days(90).Std()
		}
		err := test.rules.Check(test.wish)
		if got := fields(err); !slices.Equal(got, test.fields) || (err == nil) != (test.fields == nil) {
			t.Errorf("%s: %v in %v, want %v", test.name, err, got, test.fields)
		}
	}
}

func TestTheDefaultProfileAllowsWhatInternalServersNeed(t *testing.T) {
	t.Parallel()
	spec, err := defaultSpec().canonical()
	if err != nil {
		t.Fatal(err)
	}
	p := Profile{Name: Default, Spec: spec}
	names := parse(t, "localhost", "*.bücher.example", "2001:db8::1", "spiffe://example.org/a", "ops@example.com")
	for _, kt := range pki.KeyTypes {
		wish := Wish{CommonName: "localhost", Names: names, KeyType: kt, Lifetime: spec.MaxLifetime.Std()}
		if err := p.Check(wish); err != nil {
			t.Errorf("%s: %v", kt, err)
		}
	}
}

func TestBadSpecsAreRefusedByField(t *testing.T) {
	t.Parallel()
	good := Spec{KeyTypes: []pki.KeyType{pki.ECDSAP256}, MaxLifetime: days(30), Names: Patterns{DNS: []string{"**"}}}
	for name, test := range map[string]struct {
		change func(*Spec)
		fields []string
	}{
		"good":                         {func(*Spec) {}, nil},
		"no key type":                  {func(s *Spec) { s.KeyTypes = nil }, []string{"key_types"}},
		"unknown key type":             {func(s *Spec) { s.KeyTypes = []pki.KeyType{pki.ECDSAP256, "dsa"} }, []string{"key_types[1]"}},
		"default key type outside":     {func(s *Spec) { s.DefaultKeyType = pki.RSA2048 }, []string{"default_key_type"}},
		"max lifetime of eleven years": {func(s *Spec) { s.MaxLifetime = days(4015) }, []string{"max_lifetime"}},
		"max lifetime of nothing":      {func(s *Spec) { s.MaxLifetime = 0 }, []string{"default_lifetime", "max_lifetime"}},
		"default lifetime beyond max":  {func(s *Spec) { s.DefaultLifetime = days(31) }, []string{"default_lifetime"}},
		"unknown lint level":           {func(s *Spec) { s.Lint = "warn" }, []string{"lint"}},
		"unknown usage":                {func(s *Spec) { s.Usages = []string{"any"} }, []string{"usages[0]"}},
		"bad patterns": {func(s *Spec) {
			s.Names = Patterns{DNS: []string{"**", "a.*.b"}, IP: []string{"10.0.0.0/40"}, URI: []string{"no scheme"}, Email: []string{"@"}}
		}, []string{"names.dns[1]", "names.email[0]", "names.ip[0]", "names.uri[0]"}},
	} {
		spec := good
		test.change(&spec)
		_, err := spec.withDefaults().canonical()
		got := fields(err)
		if !slices.Equal(got, test.fields) || (err == nil) != (test.fields == nil) {
			t.Errorf("%s: %v in %v, want %v", name, err, got, test.fields)
		}
	}
}

func TestPatternsAreKeptInTheirCanonicalForm(t *testing.T) {
	t.Parallel()
	spec := Spec{
		KeyTypes: []pki.KeyType{pki.ECDSAP256, pki.ECDSAP256}, MaxLifetime: days(30), Usages: []string{pki.ServerAuth, pki.ServerAuth},
		Names: Patterns{DNS: []string{"*.BÜCHER.example", "*.bücher.example", "wildcard:*.Example.com"}, IP: []string{"2001:DB8::/32"}},
	}
	got, err := spec.withDefaults().canonical()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got.Names.DNS, []string{"*.xn--bcher-kva.example", "wildcard:*.example.com"}) || len(got.KeyTypes) != 1 || len(got.Usages) != 1 {
		t.Errorf("canonical %+v", got)
	}
	again, err := got.canonical()
	if err != nil || !slices.Equal(again.Names.IP, []string{"2001:db8::/32"}) {
		t.Errorf("twice %+v, %v", again.Names, err)
	}
}

func TestProfilesFromCreationToDeletion(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		ctx := t.Context()
		clock := testkit.NewClock(time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC))
		profiles := New(d, clock.Now)
		made, err := profiles.Create(ctx, "web", Spec{KeyTypes: []pki.KeyType{pki.RSA2048, pki.ECDSAP256}, MaxLifetime: days(60), Names: Patterns{DNS: []string{"**"}}})
		if err != nil {
			t.Fatal(err)
		}
		if made.Spec.DefaultKeyType != pki.RSA2048 || made.Spec.DefaultLifetime != days(60) || made.Spec.Lint != pki.LintError || !slices.Equal(made.Spec.Usages, []string{pki.ServerAuth}) {
			t.Errorf("defaults: %+v", made.Spec)
		}
		if _, err := profiles.Create(ctx, "web", made.Spec); problem.KindOf(err) != problem.KindConflict {
			t.Errorf("the same name again: %v", err)
		}
		first := rest.IfMatch{IfMatch: `"1"`}
		updated, err := profiles.Update(ctx, "web", first.Check, Change{MaxLifetime: new(days(90)), Name: new("www")})
		if err != nil || updated.Revision != 2 || updated.Spec.MaxLifetime != days(90) || updated.Spec.DefaultLifetime != days(60) {
			t.Errorf("update: %+v, %v", updated, err)
		}
		if _, err := profiles.Update(ctx, made.ID, first.Check, Change{}); problem.KindOf(err) != problem.KindStale {
			t.Errorf("stale update: %v", err)
		}
		if _, err := profiles.Update(ctx, made.ID, anyRevision, Change{MaxLifetime: new(days(30))}); !slices.Equal(fields(err), []string{"default_lifetime"}) {
			t.Errorf("a maximum below the default: %v", err)
		}
		if got, err := profiles.Get(ctx, "www"); err != nil || got.ID != made.ID || got.Revision != 2 {
			t.Errorf("get: %+v, %v", got, err)
		}
		for _, ref := range []string{"web", "a\x00", "", id.New("prf")} {
			if _, err := profiles.Get(ctx, ref); problem.KindOf(err) != problem.KindNotFound {
				t.Errorf("get %q: %v", ref, err)
			}
		}
		if err := profiles.Delete(ctx, "www", first.Check); problem.KindOf(err) != problem.KindStale {
			t.Errorf("stale delete: %v", err)
		}
		if err := profiles.Delete(ctx, "www", anyRevision); err != nil {
			t.Error(err)
		}
		actions, err := db.All[string](ctx, d.Read(), "SELECT action FROM audit_event ORDER BY id")
		if want := []string{"profile.create", "profile.update", "profile.delete"}; err != nil || !slices.Equal(actions, want) {
			t.Errorf("audit: %v, %v", actions, err)
		}
	})
}

func anyRevision(int) error { return nil }

func TestTheDefaultProfileStays(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		ctx := t.Context()
		profiles := New(d, time.Now)
		for range 2 { // the second time changes nothing
			if err := d.InTx(ctx, func(tx *db.Tx) error { return profiles.EnsureDefaults(ctx, tx) }); err != nil {
				t.Fatal(err)
			}
		}
		all, next, err := profiles.List(ctx, db.Page{})
		if err != nil || len(all) != 1 || next != "" || all[0].Name != Default {
			t.Fatalf("list: %+v, %v", all, err)
		}
		if err := profiles.Delete(ctx, Default, anyRevision); problem.KindOf(err) != problem.KindConflict {
			t.Errorf("delete: %v", err)
		}
		if _, err := profiles.Update(ctx, Default, anyRevision, Change{Name: new("other")}); problem.KindOf(err) != problem.KindConflict {
			t.Errorf("rename: %v", err)
		}
	})
}

func TestAProfileThatIsUsedStays(t *testing.T) {
	t.Parallel()
	testkit.EachEngine(t, func(t *testing.T, d *db.DB) {
		ctx, now := t.Context(), time.Now()
		profiles := New(d, time.Now)
		p, err := profiles.Create(ctx, "web", Spec{KeyTypes: pki.KeyTypes, MaxLifetime: days(60)})
		if err != nil {
			t.Fatal(err)
		}
		err = d.InTx(ctx, func(tx *db.Tx) error {
			_, err := db.Exec(ctx, tx, `INSERT INTO issuer (id, name, type, revision, settings, enabled, created_at, updated_at)
				VALUES ('iss_1', 'local', 'local', 1, '{}', TRUE, $1, $2)`, now, now)
			if err != nil {
				return err
			}
			_, err = db.Exec(ctx, tx, `INSERT INTO certificate (id, name, revision, common_name, names, key_type, lifetime_seconds,
					profile_id, issuer_id, owner, tags, renewal, created_at, updated_at)
				VALUES ('crt_1', 'www', 1, '', '{}', 'ecdsa-p256', 1, $1, 'iss_1', '', '{}', '{}', $2, $3)`, p.ID, now, now)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		err = profiles.Delete(ctx, "web", anyRevision)
		if found, _ := problem.As(err); found == nil || found.Kind != problem.KindConflict || found.Remedy == "" {
			t.Errorf("delete: %v", err)
		}
	})
}
