package pki

import (
	"crypto/x509"
	"fmt"

	"github.com/certctl-io/certctl/internal/problem"
)

// The extended key usages (RFC 5280, 4.2.1.12) that a leaf may have.
const (
	ServerAuth      = "server_auth"
	ClientAuth      = "client_auth"
	CodeSigning     = "code_signing"
	EmailProtection = "email_protection"
)

// LeafUsages are all usages that a leaf may have.
var LeafUsages = []string{ServerAuth, ClientAuth, CodeSigning, EmailProtection}

// ExtKeyUsages reads the names of usages. A certificate has at least one, as
// none would mean all of them.
func ExtKeyUsages(names []string) ([]x509.ExtKeyUsage, error) {
	if len(names) == 0 {
		return nil, problem.Invalid("usages", "there is no usage").Hint("name one or more of %s", list(LeafUsages))
	}
	usages := make([]x509.ExtKeyUsage, 0, len(names))
	for i, name := range names {
		usage, ok := extKeyUsage(name)
		if !ok {
			return nil, problem.Invalid(fmt.Sprintf("usages[%d]", i), "%q is not a usage", name).
				Hint("use one or more of %s", list(LeafUsages))
		}
		usages = append(usages, usage)
	}
	return usages, nil
}

func extKeyUsage(name string) (x509.ExtKeyUsage, bool) {
	switch name {
	case ServerAuth:
		return x509.ExtKeyUsageServerAuth, true
	case ClientAuth:
		return x509.ExtKeyUsageClientAuth, true
	case CodeSigning:
		return x509.ExtKeyUsageCodeSigning, true
	case EmailProtection:
		return x509.ExtKeyUsageEmailProtection, true
	default:
		return 0, false
	}
}
