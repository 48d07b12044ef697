package issuance

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/certctl-io/certctl/internal/pki"
)

const (
	// An issuer that cannot answer now is asked again after these waits.
	firstSignWait, lastSignWait = 5 * time.Second, time.Hour

	// signFor is how long an issuer is asked that has not answered, and
	// decideFor how long one may take to decide, which people may do.
	signFor, decideFor = 24 * time.Hour, 7 * 24 * time.Hour

	// An agent that could not make a certificate request is asked again.
	csrAttempts               = 5
	firstCSRWait, lastCSRWait = 30 * time.Second, 15 * time.Minute

	// A renewal that failed is retried after these waits.
	firstRenewalWait, lastRenewalWait = 15 * time.Minute, 12 * time.Hour

	// leastRenewalWait bounds the renewals of very short certificates.
	leastRenewalWait = 5 * time.Second
)

// wait gives the time before the next try: twice as long with each failure,
// and a jitter from 0 to 1 makes it up to half shorter, which spreads what
// failed together.
func wait(failures int, first, most time.Duration, jitter float64) time.Duration {
	const doublings = 16 // enough for any most, and no overflow
	full := min(first<<min(max(failures-1, 0), doublings), most)
	return full - time.Duration(jitter*float64(full)/2)
}

// renewalWait gives the time before a renewal that failed is tried again. What
// is left of the version in use leaves room for several more tries; when
// nothing is left, nothing is gained by hurry.
func renewalWait(failures int, left time.Duration, jitter float64) time.Duration {
	most := lastRenewalWait
	if left > 0 {
		most = min(most, max(left/8, leastRenewalWait))
	}
	return wait(failures, firstRenewalWait, most, jitter)
}

const (
	// clockSkew is how far an issuer's clock may be ahead of ours.
	clockSkew = 5 * time.Minute

	// leastLeft is what a new leaf must have left to be deployed at all.
	leastLeft = 30 * time.Second
)

// checkLeaf refuses a chain that is not what was asked for. Issuers differ in
// whether they repeat the common name and how exactly they keep to a lifetime;
// who may use the certificate and for what is never theirs to change.
func checkLeaf(chain pki.Chain, spec Spec, public crypto.PublicKey, now time.Time) (*x509.Certificate, error) {
	certificates, err := chain.Certificates()
	if err != nil {
		return nil, fmt.Errorf("the issuer's answer cannot be read: %w", err)
	}
	if len(certificates) == 0 {
		return nil, errors.New("the issuer's answer holds no certificate")
	}
	leaf := certificates[0]
	key, canCompare := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	switch {
	case !canCompare || !key.Equal(public):
		return nil, errors.New("the issuer signed another key than the agent's")
	case !pki.NamesOf(leaf).Equal(spec.Names):
		return nil, fmt.Errorf("the issuer signed other names: %s", strings.Join(pki.NamesOf(leaf).List(), ", "))
	case leaf.Subject.CommonName != "" && leaf.Subject.CommonName != spec.CommonName && !spec.Names.Has(leaf.Subject.CommonName):
		return nil, fmt.Errorf("the issuer signed another common name: %q", leaf.Subject.CommonName)
	case leaf.IsCA:
		return nil, errors.New("the issuer made a CA certificate")
	case leaf.NotBefore.After(now.Add(clockSkew)):
		return nil, fmt.Errorf("the certificate is not valid before %s; the clocks differ", leaf.NotBefore.UTC().Format(time.RFC3339))
	case leaf.NotAfter.Before(now.Add(leastLeft)):
		return nil, fmt.Errorf("the certificate ends at %s already", leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	for i, certificate := range certificates[:len(certificates)-1] {
		if err := certificate.CheckSignatureFrom(certificates[i+1]); err != nil {
			return nil, fmt.Errorf("certificate %d of the issuer's chain is not signed by the next one: %w", i+1, err)
		}
	}
	return leaf, nil
}

// maxReason bounds what an agent or an issuer says in a timeline.
const maxReason = 1000

// told makes what an agent or an issuer says fit for a timeline.
func told(reason string) string {
	reason = strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return ' '
		}
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(reason, ""))
	if short := []rune(strings.TrimSpace(reason)); len(short) > maxReason {
		return string(short[:maxReason]) + " ..."
	}
	return strings.TrimSpace(reason)
}
