package pki

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/zmap/zcrypto/x509"
	"github.com/zmap/zlint/v3"
	"github.com/zmap/zlint/v3/lint"
)

// The levels of a finding, from the least to the most severe.
const (
	LevelNotice = "notice"
	LevelWarn   = "warn"
	LevelError  = "error"
	LevelFatal  = "fatal"
)

// Finding is one lint that a certificate does not pass.
type Finding struct {
	Lint   string `json:"lint"`             // zlint's name of it, such as e_sub_cert_aia_missing
	Level  string `json:"level"`            // one of the levels
	Rule   string `json:"rule"`             // what the certificate must be, and the section that says so
	Detail string `json:"detail,omitempty"` // what was found, where the lint says it
}

// Refuses reports whether a certificate with this finding must not be issued.
func (f Finding) Refuses() bool { return f.Level == LevelError || f.Level == LevelFatal }

// String gives the finding in one line.
func (f Finding) String() string {
	return fmt.Sprintf("%s (%s)", f.Lint, cmp.Or(f.Detail, f.Rule))
}

// Linter checks certificates against published rules with zlint.
type Linter struct {
	rfc lint.Registry
	all lint.Registry
}

// NewLinter makes a linter. Choosing the lints takes a moment, so a program
// makes one and keeps it; it is safe for concurrent use.
func NewLinter() *Linter {
	all := lint.GlobalRegistry()
	var rfcs lint.SourceList
	for _, source := range all.Sources() {
		if strings.HasPrefix(string(source), "RFC") {
			rfcs = append(rfcs, source)
		}
	}
	rfc, err := all.Filter(lint.FilterOptions{IncludeSources: rfcs})
	if err != nil {
		panic(err) // only an unknown lint name or a wrong pattern is an error, and there is neither
	}
	return &Linter{rfc: rfc, all: all}
}

// Lint gives the findings about a certificate in DER, sorted by name: those of
// the RFCs, and with publicTrust those of every source that zlint knows, which
// are the CA/Browser Forum, the root programs, ETSI and the community.
func (l *Linter) Lint(der []byte, publicTrust bool) ([]Finding, error) {
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("parse certificate for lint: %w", err)
	}
	registry := l.rfc
	if publicTrust {
		registry = l.all
	}
	var findings []Finding
	for name, result := range zlint.LintCertificateEx(certificate, registry).Results {
		level := levelOf(result.Status)
		if level == "" {
			continue
		}
		rule := fmt.Sprintf("%s; %s", strings.TrimSuffix(result.LintMetadata.Description, "."), result.LintMetadata.Citation)
		findings = append(findings, Finding{Lint: name, Level: level, Rule: rule, Detail: result.Details})
	}
	slices.SortFunc(findings, func(a, b Finding) int { return cmp.Compare(a.Lint, b.Lint) })
	return findings, nil
}

func levelOf(status lint.LintStatus) string {
	switch status {
	case lint.Notice:
		return LevelNotice
	case lint.Warn:
		return LevelWarn
	case lint.Error:
		return LevelError
	case lint.Fatal:
		return LevelFatal
	default:
		return ""
	}
}
