package inventory

import (
	"github.com/certctl-io/certctl/internal/problem"
)

// RevocationReason is why a version was revoked, as the CRLReason code of
// RFC 5280, 5.3.1.
type RevocationReason int

// The reasons that make sense for a leaf. A hold could be taken back, which
// relying parties do not expect; the others are about CAs and attributes.
const (
	Unspecified          RevocationReason = 0
	KeyCompromise        RevocationReason = 1
	AffiliationChanged   RevocationReason = 3
	Superseded           RevocationReason = 4
	CessationOfOperation RevocationReason = 5
	PrivilegeWithdrawn   RevocationReason = 9
)

var revocationReasons = map[string]RevocationReason{
	"unspecified":          Unspecified,
	"keyCompromise":        KeyCompromise,
	"affiliationChanged":   AffiliationChanged,
	"superseded":           Superseded,
	"cessationOfOperation": CessationOfOperation,
	"privilegeWithdrawn":   PrivilegeWithdrawn,
}

// ParseRevocationReason reads a reason by its name in RFC 5280; empty is
// unspecified.
func ParseRevocationReason(name string) (RevocationReason, error) {
	if name == "" {
		return Unspecified, nil
	}
	reason, ok := revocationReasons[name]
	if !ok {
		return 0, problem.Invalid("reason", "%q is not a reason for a revocation", name).
			Hint("use one of unspecified, keyCompromise, affiliationChanged, superseded, cessationOfOperation, privilegeWithdrawn")
	}
	return reason, nil
}

// String gives the name in RFC 5280.
func (r RevocationReason) String() string {
	for name, reason := range revocationReasons {
		if reason == r {
			return name
		}
	}
	return "unspecified"
}
