package pki

import "time"

const (
	shortLifetime = 10 * 24 * time.Hour
	// renewSpread is the part of the lifetime over which certificates that
	// were issued together spread their renewals.
	renewSpread = 0.05
)

// RenewAt gives the time at which a version should be replaced: two thirds
// into its lifetime, half for lifetimes under ten days. A jitter from 0 to 1
// moves that earlier by up to a twentieth of the lifetime.
func RenewAt(notBefore, notAfter time.Time, jitter float64) time.Time {
	lifetime := notAfter.Sub(notBefore)
	if lifetime <= 0 {
		return notBefore
	}
	at := lifetime / 3 * 2
	if lifetime < shortLifetime {
		at = lifetime / 2
	}
	jitter = min(max(jitter, 0), 1)
	return notBefore.Add(at - time.Duration(jitter*renewSpread*float64(lifetime)))
}
