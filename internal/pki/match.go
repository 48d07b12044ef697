package pki

import (
	"net/netip"
	"net/url"
	"strings"

	"github.com/certctl-io/certctl/internal/problem"
)

// MatchAll is the pattern of any type that allows every name of that type, but
// no DNS wildcards. Patterns say which names a profile allows.
//
// DNS patterns are host names whose left-most label may be a star:
//
//	example.com              that name
//	*.example.com            one label below: www.example.com
//	**.example.com           the domain and every name below it
//	wildcard:*.example.com   the wildcard name *.example.com itself
//	wildcard:**.example.com  every wildcard below: *.example.com, *.a.example.com
//	wildcard:**              every wildcard
//
// A wildcard name is only ever allowed by a pattern that starts with
// "wildcard:", and such a pattern allows nothing else.
//
// IP patterns are an address or a prefix: 10.0.0.7, 10.0.0.0/8, 2001:db8::/32.
//
// URI patterns are the beginning of a URI up to the end of a path segment:
// spiffe://example.org/ns/prod allows .../ns/prod and .../ns/prod/api, but not
// .../ns/production. Scheme, host and port are always compared whole. For URNs
// a segment ends at a colon.
//
// E-mail patterns are an address, or a DNS pattern for its domain:
// ops@example.com, example.com, **.example.com.
const MatchAll = "**"

const wildcardPrefix = "wildcard:"

// ParseDNSPattern checks a DNS pattern and gives its canonical form.
func ParseDNSPattern(pattern string) (string, error) {
	rest, wildcard := strings.CutPrefix(pattern, wildcardPrefix)
	stars, host := cutStars(rest)
	switch {
	case stars == MatchAll && host == "":
		return pattern, nil
	case wildcard && stars == "":
		return "", problem.Invalid("", "%q is a pattern for wildcards without a star", pattern).
			Hint("write it as wildcard:*.example.com")
	}
	host, err := parseHost(host)
	if err != nil {
		return "", err
	}
	if stars != "" {
		host = stars + "." + host
	}
	if wildcard {
		host = wildcardPrefix + host
	}
	return host, nil
}

// cutStars splits "*.example.com", "**.example.com" and "**".
func cutStars(pattern string) (stars, host string) {
	for _, stars := range []string{"**", "*"} {
		if host, ok := strings.CutPrefix(pattern, stars+"."); ok {
			return stars, host
		}
	}
	if pattern == MatchAll {
		return MatchAll, ""
	}
	return "", pattern
}

// MatchDNS reports whether the pattern allows the DNS name. Both are in their
// canonical form; a pattern that is not valid allows nothing.
func MatchDNS(pattern, name string) bool {
	pattern, forWildcards := strings.CutPrefix(pattern, wildcardPrefix)
	stars, host := cutStars(pattern)
	parent, isWildcard := strings.CutPrefix(name, "*.")
	if forWildcards != isWildcard {
		return false
	}
	switch {
	case stars == MatchAll && host == "":
		return true
	case stars == MatchAll:
		return name == host || strings.HasSuffix(name, "."+host)
	case stars == "*" && isWildcard:
		return parent == host
	case stars == "*":
		label, above, found := strings.Cut(name, ".")
		return found && label != "" && above == host
	default:
		return !isWildcard && name == host
	}
}

// ParseIPPattern checks an IP pattern and gives its canonical form.
func ParseIPPattern(pattern string) (string, error) {
	if pattern == MatchAll {
		return pattern, nil
	}
	if prefix, err := netip.ParsePrefix(pattern); err == nil {
		if prefix.Masked() != prefix {
			return "", problem.Invalid("", "%q has bits beyond its length", pattern).
				Hint("write %s", prefix.Masked())
		}
		return prefix.String(), nil
	}
	if address, err := netip.ParseAddr(pattern); err == nil && address.Zone() == "" {
		return address.Unmap().String(), nil
	}
	return "", problem.Invalid("", "%q is not an IP pattern", pattern).
		Hint("write an address or a prefix, as in 10.0.0.0/8")
}

// MatchIP reports whether the pattern allows the IP address.
func MatchIP(pattern, address string) bool {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return false
	}
	if prefix, err := netip.ParsePrefix(pattern); err == nil {
		return prefix.Contains(ip)
	}
	exact, err := netip.ParseAddr(pattern)
	return pattern == MatchAll || err == nil && exact == ip
}

// ParseURIPattern checks a URI pattern and gives its canonical form.
func ParseURIPattern(pattern string) (string, error) {
	if pattern == MatchAll {
		return pattern, nil
	}
	if !isURI(pattern) {
		return "", problem.Invalid("", "%q is not a URI pattern", pattern).
			Hint("write the beginning of a URI, as in spiffe://example.org/ns/prod")
	}
	canonical, err := parseURI(pattern)
	if err != nil {
		return "", err
	}
	if strings.Contains(canonical, "?") {
		return "", problem.Invalid("", "the URI pattern %q has a query", pattern).Hint("leave it out")
	}
	return canonical, nil
}

// MatchURI reports whether the pattern allows the URI. A query of the URI is
// not looked at.
func MatchURI(pattern, uri string) bool {
	if pattern == MatchAll {
		return true
	}
	want, err := url.Parse(pattern)
	if err != nil {
		return false
	}
	got, err := url.Parse(uri)
	if err != nil || want.Scheme != got.Scheme || want.Host != got.Host {
		return false
	}
	return startsWith(got.EscapedPath(), want.EscapedPath(), "/") && startsWith(got.Opaque, want.Opaque, ":")
}

// startsWith reports whether s begins with prefix and the prefix ends where a
// segment of s ends.
func startsWith(s, prefix, separator string) bool {
	rest, found := strings.CutPrefix(s, prefix)
	return found && (rest == "" || prefix == "" || strings.HasSuffix(prefix, separator) || strings.HasPrefix(rest, separator))
}

// ParseEmailPattern checks an e-mail pattern and gives its canonical form.
func ParseEmailPattern(pattern string) (string, error) {
	if strings.Contains(pattern, "@") {
		address, err := parseEmail(pattern)
		if err != nil {
			return "", err
		}
		return address, nil
	}
	if strings.HasPrefix(pattern, wildcardPrefix) {
		return "", problem.Invalid("", "%q is not an e-mail pattern", pattern).
			Hint("write an address or a domain, as in **.example.com")
	}
	return ParseDNSPattern(pattern)
}

// MatchEmail reports whether the pattern allows the e-mail address.
func MatchEmail(pattern, address string) bool {
	if strings.Contains(pattern, "@") {
		return pattern == address
	}
	return MatchDNS(pattern, address[strings.LastIndexByte(address, '@')+1:])
}
