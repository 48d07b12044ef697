package inventory

import (
	"time"

	"github.com/certctl-io/certctl/internal/duration"
	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/problem"
)

// At gives the moment to replace a version: the policy's own time before its
// end, else the one of pki.RenewAt. A jitter from 0 to 1 moves it earlier by a
// small part, which spreads certificates that were issued together. A CA that
// issued for less than the policy's time gets the default, as the version
// would be due at once and for ever.
func (r Renewal) At(notBefore, notAfter time.Time, jitter float64) time.Time {
	before := r.Before.Std()
	if before <= 0 || before >= notAfter.Sub(notBefore) {
		return pki.RenewAt(notBefore, notAfter, jitter)
	}
	spread := min(before, notAfter.Sub(notBefore)-before) / 20
	return notAfter.Add(-before - time.Duration(jitter*float64(spread)))
}

// ExpiringAt gives the moment from which it is a worry that a version was not
// replaced: when its renewal is late by a tenth of its lifetime or, when that
// is sooner, by half of what was left of it.
func ExpiringAt(notBefore, renewAt, notAfter time.Time) time.Time {
	return renewAt.Add(min(notAfter.Sub(notBefore)/10, notAfter.Sub(renewAt)/2))
}

func (r Renewal) check(lifetime time.Duration) *problem.Error {
	switch {
	case r.Before == 0:
		return nil
	case r.Before < 0 || r.Before.Std() > lifetime*9/10:
		return problem.Invalid("renewal.before", "%s leaves too little of the lifetime, which is %s", r.Before, duration.Duration(lifetime)).
			Hint("use at most %s, or leave it out to renew at two thirds of the lifetime", duration.Duration(lifetime*9/10))
	case r.Before.Std() < time.Minute:
		return problem.Invalid("renewal.before", "%s is too short to renew in time", r.Before).Hint("use at least 1m")
	}
	return nil
}
