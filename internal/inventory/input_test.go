package inventory

import (
	"slices"
	"strings"
	"testing"

	"github.com/certctl-io/certctl/internal/db"
	"github.com/certctl-io/certctl/internal/duration"
	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/profile"
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

func TestBadInputIsRefusedByField(t *testing.T) {
	eachEngine(t, func(f *fixture) {
		ctx := f.t.Context()
		_, err := f.profiles.Create(ctx, "strict", profile.Spec{
			KeyTypes: []pki.KeyType{pki.ECDSAP256}, MaxLifetime: duration.Duration(30 * duration.Day),
			Names: profile.Patterns{DNS: []string{"**.example.com"}},
		})
		f.must(err)
		f.create("taken.example.com")
		many := make([]string, pki.MaxNames+1)
		tags := map[string]string{}
		for i := range many {
			many[i] = strings.Repeat("a", i%60+1) + ".example.com"
			tags[many[i]] = "x"
		}
		days := func(n int) *duration.Duration { return new(duration.Duration(n) * duration.Duration(duration.Day)) }
		for _, test := range []struct {
			name   string
			change Change
			fields []string
		}{
			{"no names", Change{Names: &[]string{}}, []string{"names"}},
			{"names left out", Change{Names: nil, Name: new("www")}, []string{"names"}},
			{"two wrong names", Change{Names: &[]string{"a b", "www.example.com", "10.0.0.256"}}, []string{"names[0]", "names[2]"}},
			{"an empty name", Change{Names: &[]string{""}}, []string{"names[0]"}},
			{"too many names", Change{Names: &many}, []string{"names"}},
			{"not usable name", Change{Name: new("Up Case")}, []string{"name"}},
			{"a name like an id", Change{Name: new("crt_" + strings.Repeat("0", 32))}, []string{"name"}},
			{"a long name", Change{Name: new(strings.Repeat("a", 101))}, []string{"name"}},
			{"a name that is taken", Change{Name: new("taken.example.com")}, []string{"name"}},
			{"a foreign common name", Change{CommonName: new("other.example.com")}, []string{"common_name"}},
			{"unknown key type", Change{KeyType: new(pki.KeyType("dsa-1024"))}, []string{"key_type"}},
			{"too long", Change{Lifetime: days(4000)}, []string{"lifetime"}},
			{"too short", Change{Lifetime: new(duration.Duration(1e9))}, []string{"lifetime"}},
			{"unknown profile", Change{Profile: new("none")}, []string{"profile"}},
			{"unreadable profile", Change{Profile: new("a\x00b")}, []string{"profile"}},
			{"unknown issuer", Change{Issuer: new("none")}, []string{"issuer"}},
			{"unknown target", Change{Targets: &[]string{"web-1", "none"}}, []string{"targets[1]"}},
			{"owner on two lines", Change{Owner: new("a\nb")}, []string{"owner"}},
			{"long owner", Change{Owner: new(strings.Repeat("ü", 201))}, []string{"owner"}},
			{"owner that is not text", Change{Owner: new("\xff")}, []string{"owner"}},
			{"tag without a key", Change{Tags: &map[string]string{"": "x"}}, []string{"tags"}},
			{"tag with a colon", Change{Tags: &map[string]string{"a:b": "x"}}, []string{"tags"}},
			{"tag with a null", Change{Tags: &map[string]string{"a": "\x00"}}, []string{"tags.a"}},
			{"too many tags", Change{Tags: &tags}, []string{"tags"}},
			{"renewed too early", Change{Renewal: &RenewalSpec{Before: *days(89)}}, []string{"renewal.before"}},
			{"renewed too late", Change{Renewal: &RenewalSpec{Before: 1}}, []string{"renewal.before"}},
			{"several", Change{
				Name: new("-"), Names: &[]string{"a b"}, CommonName: new("x"), Owner: new("\t"), Issuer: new("none"), Lifetime: days(4000),
				KeyType: new(pki.KeyType("dsa")),
			}, []string{"issuer", "key_type", "lifetime", "name", "names[0]", "owner"}},
			{"against the profile", Change{
				Profile: new("strict"), Names: &[]string{"www.example.org", "*.example.com"}, CommonName: new("www.example.org"),
				KeyType: new(pki.RSA2048), Lifetime: days(31),
			}, []string{"common_name", "key_type", "lifetime", "names", "names"}},
		} {
			if test.change.Names == nil && test.name != "names left out" {
				test.change.Names = &[]string{"www.example.com"}
			}
			_, err := f.Create(ctx, test.change)
			if got := fields(err); !slices.Equal(got, test.fields) {
				f.t.Errorf("%s: %v in %v, want %v", test.name, err, got, test.fields)
			}
		}
		if left := titles(f.everything(Filter{})); !slices.Equal(left, []string{"taken.example.com"}) {
			f.t.Errorf("refused input left %v", left)
		}
	})
}

func TestReferencesThatCannotBeAreNotFound(t *testing.T) {
	eachEngine(t, func(f *fixture) {
		ctx := f.t.Context()
		for _, ref := range []string{"", "none", "a\x00", "\xff", "crt_1", "crt_" + strings.Repeat("0", 32), "'; DROP TABLE certificate; --"} {
			for what, err := range map[string]error{
				"get":      second(f.Get(ctx, ref)),
				"update":   second(f.Update(ctx, ref, anyRevision, Change{})),
				"archive":  f.Archive(ctx, ref, anyRevision),
				"renew":    second(f.Renew(ctx, ref, nil)),
				"revoke":   second(f.Revoke(ctx, ref, Unspecified, false)),
				"timeline": secondOf(f.Timeline(ctx, ref, db.Page{})),
				"versions": secondOf(f.Versions(ctx, ref, db.Page{})),
				"version":  second(f.Version(ctx, ref)),
			} {
				if problem.KindOf(err) != problem.KindNotFound {
					f.t.Errorf("%s %q: %v", what, ref, err)
				}
			}
		}
	})
}

func TestReasonsForRevocationReadAndWriteThemselves(t *testing.T) {
	t.Parallel()
	for name, code := range map[string]RevocationReason{"": 0, "unspecified": 0, "keyCompromise": 1, "superseded": 4, "privilegeWithdrawn": 9} {
		reason, err := ParseRevocationReason(name)
		if err != nil || reason != code || (name != "" && reason.String() != name) {
			t.Errorf("%q: %d %s, %v", name, reason, reason, err)
		}
	}
	for _, name := range []string{"KeyCompromise", "certificateHold", "1"} {
		if _, err := ParseRevocationReason(name); problem.KindOf(err) != problem.KindInvalid {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestAMissingPartEndsTheProgramAtStart(t *testing.T) {
	t.Parallel()
	defer func() {
		if recover() == nil {
			t.Error("a service without parts was made")
		}
	}()
	New(Config{DB: testkit.NewDB(t, db.SQLite)})
}
