package profile

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/certctl-io/certctl/internal/duration"
	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/problem"
)

// minLifetime leaves an agent time to fetch, deploy and renew.
const minLifetime = 5 * time.Minute

// Check reports everything that the profile does not allow in what a
// certificate asks for, under the fields of a certificate.
func (p Profile) Check(w Wish) error {
	return problem.Join(slices.Concat(
		p.checkNames(w.Names),
		[]*problem.Error{p.checkCommonName(w), p.checkKeyType(w.KeyType), p.checkLifetime(w.Lifetime)},
	)...)
}

func (p Profile) checkNames(names pki.Names) []*problem.Error {
	if names.Empty() {
		return []*problem.Error{problem.Invalid("names", "there are none").Hint("name at least one host, address or URI")}
	}
	var wrong []*problem.Error
	for _, kind := range nameKinds {
		patterns := *kind.patterns(&p.Spec.Names)
		for _, name := range kind.names(names) {
			if !slices.ContainsFunc(patterns, func(pattern string) bool { return kind.match(pattern, name) }) {
				wrong = append(wrong, p.refuseName(kind, name, patterns))
			}
		}
	}
	return wrong
}

func (p Profile) refuseName(kind nameKind, name string, patterns []string) *problem.Error {
	if len(patterns) == 0 {
		return problem.Invalid("names", "%q is not allowed by profile %q: it allows no %s", name, p.Name, kind.plural).
			Hint("add a pattern to names.%s of the profile", kind.field)
	}
	return problem.Invalid("names", "%q is not allowed by profile %q", name, p.Name).
		Hint("names.%s of the profile allows %s", kind.field, summary(patterns))
}

func (p Profile) checkCommonName(w Wish) *problem.Error {
	switch {
	case w.CommonName == "":
		return nil
	case !p.Spec.AllowCommonName:
		return problem.Invalid("common_name", "profile %q does not allow one", p.Name).
			Hint("leave it out, clients look at the names only; or set allow_common_name on the profile")
	case !w.Names.Has(w.CommonName):
		return problem.Invalid("common_name", "%q is not one of the names", w.CommonName).Hint("add it to names, or leave it out")
	case len(w.CommonName) > maxCommonName:
		return problem.Invalid("common_name", "it has %d characters, X.509 allows %d", len(w.CommonName), maxCommonName).
			Hint("leave it out, clients look at the names only")
	}
	return nil
}

// maxCommonName is ub-common-name of RFC 5280, appendix A.1.
const maxCommonName = 64

func (p Profile) checkKeyType(kt pki.KeyType) *problem.Error {
	if slices.Contains(p.Spec.KeyTypes, kt) {
		return nil
	}
	return problem.Invalid("key_type", "%q is not allowed by profile %q", kt, p.Name).Hint("it allows %s", join(p.Spec.KeyTypes))
}

func (p Profile) checkLifetime(lifetime time.Duration) *problem.Error {
	switch {
	case lifetime < minLifetime:
		return problem.Invalid("lifetime", "%s is too short", duration.Duration(lifetime)).Hint("the shortest is %s", duration.Duration(minLifetime))
	case lifetime > p.Spec.MaxLifetime.Std():
		return problem.Invalid("lifetime", "%s is longer than profile %q allows", duration.Duration(lifetime), p.Name).
			Hint("the longest is %s", p.Spec.MaxLifetime)
	}
	return nil
}

// canonical checks what a profile says and gives it in its canonical form.
func (s Spec) canonical() (Spec, error) {
	wrong := []*problem.Error{checkMaxLifetime(s.MaxLifetime.Std())}
	wrong = append(wrong, s.checkKeyTypes()...)
	if s.DefaultLifetime.Std() < minLifetime || s.DefaultLifetime > s.MaxLifetime {
		wrong = append(wrong, problem.Invalid("default_lifetime", "%s is out of range", s.DefaultLifetime).
			Hint("use %s to max_lifetime, which is %s", duration.Duration(minLifetime), s.MaxLifetime))
	}
	if s.Lint != pki.LintError && s.Lint != pki.LintOff {
		wrong = append(wrong, problem.Invalid("lint", "%q is not a lint level", s.Lint).Hint("use %s or %s", pki.LintError, pki.LintOff))
	}
	if _, err := pki.ExtKeyUsages(s.Usages); err != nil {
		found, _ := problem.As(err)
		wrong = append(wrong, found)
	}
	patterns, badPatterns := s.Names.canonical()
	if err := problem.Join(append(wrong, badPatterns...)...); err != nil {
		return Spec{}, err
	}
	s.Names = patterns
	s.Usages = unique(s.Usages)
	s.KeyTypes = unique(s.KeyTypes)
	return s, nil
}

// maxMaxLifetime bounds what a profile may allow. Leaves that outlive the
// people who made them are a mistake in writing.
const maxMaxLifetime = 3650 * duration.Day

func checkMaxLifetime(lifetime time.Duration) *problem.Error {
	if lifetime >= minLifetime && lifetime <= maxMaxLifetime {
		return nil
	}
	return problem.Invalid("max_lifetime", "%s is out of range", duration.Duration(lifetime)).
		Hint("use %s to %s", duration.Duration(minLifetime), duration.Duration(maxMaxLifetime))
}

func (s Spec) checkKeyTypes() []*problem.Error {
	var wrong []*problem.Error
	if len(s.KeyTypes) == 0 {
		return append(wrong, problem.Invalid("key_types", "there is none").Hint("allow one or more of %s", join(pki.KeyTypes)))
	}
	for i, kt := range s.KeyTypes {
		if _, err := pki.ParseKeyType(string(kt)); err != nil {
			found, _ := problem.As(err)
			found.Field = fmt.Sprintf("key_types[%d]", i)
			wrong = append(wrong, found)
		}
	}
	if !slices.Contains(s.KeyTypes, s.DefaultKeyType) {
		wrong = append(wrong, problem.Invalid("default_key_type", "%q is not one of key_types", s.DefaultKeyType))
	}
	return wrong
}

// nameKind is what differs between the types of names.
type nameKind struct {
	field, plural string
	names         func(pki.Names) []string
	patterns      func(*Patterns) *[]string
	parse         func(pattern string) (string, error)
	match         func(pattern, name string) bool
}

var nameKinds = []nameKind{
	{"dns", "DNS names", func(n pki.Names) []string { return n.DNS }, func(p *Patterns) *[]string { return &p.DNS }, pki.ParseDNSPattern, pki.MatchDNS},
	{"ip", "IP addresses", func(n pki.Names) []string { return n.IP }, func(p *Patterns) *[]string { return &p.IP }, pki.ParseIPPattern, pki.MatchIP},
	{"uri", "URIs", func(n pki.Names) []string { return n.URI }, func(p *Patterns) *[]string { return &p.URI }, pki.ParseURIPattern, pki.MatchURI},
	{"email", "e-mail addresses", func(n pki.Names) []string { return n.Email }, func(p *Patterns) *[]string { return &p.Email }, pki.ParseEmailPattern, pki.MatchEmail},
}

func (p Patterns) canonical() (Patterns, []*problem.Error) {
	var canonical Patterns
	var wrong []*problem.Error
	for _, kind := range nameKinds {
		list := kind.patterns(&canonical)
		for i, pattern := range *kind.patterns(&p) {
			parsed, err := kind.parse(pattern)
			if found, ok := problem.As(err); ok {
				found.Field = fmt.Sprintf("names.%s[%d]", kind.field, i)
				wrong = append(wrong, found)
			}
			*list = append(*list, parsed)
		}
		*list = unique(*list)
	}
	return canonical, wrong
}

// unique leaves out repetitions and keeps the order.
func unique[T comparable](values []T) []T {
	var kept []T
	for _, v := range values {
		if !slices.Contains(kept, v) {
			kept = append(kept, v)
		}
	}
	return kept
}

func join[T ~string](values []T) string {
	words := make([]string, len(values))
	for i, v := range values {
		words[i] = string(v)
	}
	return strings.Join(words, ", ")
}

// summary lists patterns for a message, the first few of many.
func summary(patterns []string) string {
	const shown = 5
	if len(patterns) <= shown {
		return strings.Join(patterns, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(patterns[:shown], ", "), len(patterns)-shown)
}
