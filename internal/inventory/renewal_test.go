package inventory

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/certctl-io/certctl/internal/duration"
	"github.com/certctl-io/certctl/internal/pki"
)

func TestRenewalFollowsThePolicyOrTheLifetime(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	end := start.Add(90 * duration.Day)
	for _, test := range []struct {
		name   string
		before time.Duration
		jitter float64
		want   time.Time
	}{
		{"the default", 0, 0, pki.RenewAt(start, end, 0)},
		{"a policy", 30 * duration.Day, 0, end.Add(-30 * duration.Day)},
		{"a policy with jitter", 20 * duration.Day, 1, end.Add(-21 * duration.Day)},
		{"a policy longer than the lifetime", 90 * duration.Day, 0.5, pki.RenewAt(start, end, 0.5)},
	} {
		if got := (Renewal{Before: duration.Duration(test.before)}).At(start, end, test.jitter); !got.Equal(test.want) {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
}

func TestRenewalIsWithinTheLifetimeAndBeforeTheWorry(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	rapid.Check(t, func(r *rapid.T) {
		lifetime := time.Duration(rapid.Int64Range(int64(5*time.Minute), int64(3650*duration.Day)).Draw(r, "lifetime"))
		policy := Renewal{Before: duration.Duration(rapid.Int64Range(0, int64(lifetime)*2).Draw(r, "before"))}
		end := start.Add(lifetime)
		at := policy.At(start, end, rapid.Float64Range(0, 1).Draw(r, "jitter"))
		if !at.After(start) || !at.Before(end) {
			r.Fatalf("renewed at %s, valid from %s to %s", at, start, end)
		}
		if worry := ExpiringAt(start, at, end); worry.Before(at) || worry.After(end) {
			r.Fatalf("a worry at %s, renewed at %s, ends at %s", worry, at, end)
		}
	})
}

func TestStatesOfAVersion(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	later := now.Add(time.Hour)
	for want, v := range map[VersionState]Version{
		VersionIssued:     {NotAfter: later},
		VersionActive:     {NotAfter: later, ActivatedAt: &now},
		VersionSuperseded: {NotAfter: later, ActivatedAt: &now, SupersededAt: &now},
		VersionExpired:    {NotAfter: now, ActivatedAt: &now},
		VersionRevoked:    {NotAfter: now, ActivatedAt: &now, SupersededAt: &now, RevokedAt: &now},
	} {
		if got := v.State(now); got != want {
			t.Errorf("%+v: %s, want %s", v, got, want)
		}
	}
}
